#!/bin/sh
# Everything that needs a GPU, in one slot of ten minutes, on a machine that has little more than a driver:
#   device.sh BUNDLE.tar.gz OUT [CACHE]     unpacks and runs; or, from the unpacked folder: ./device.sh . OUT [CACHE]
#
# CACHE is a folder with the autotuned.txt of an earlier run, such as its OUT: what that run has measured is not measured
# again. cuDNN, cuBLAS and cuSOLVER are found beside a CUDA toolkit or in the nvidia folders of a Python installation. Then,
# in this order, what matters most first (ND_STEPS chooses among and reorders them):
#   check      nd check --backend cuda in every precision, then every algorithm of separable layers
#   smallest   compute-sanitizer (memcheck, racecheck) over one small separable layer, where it is installed
#   layers     VGG16's convolutions, batch 32, T = 2 and 3, cold, tuned: fp16, tf32, fp32
#   int8       every kernel of VGG16 in int8, batch 32, T = 2 and 3; dense by cuDNN's sums of integers
#   svd        the decompositions of VGG16 on the device's own clock
#   decouple   VGG16 as a whole
#   depthwise  our depthwise kernel against the copy bandwidth
#   networks   VGG16 and ResNet-18 end to end with the time of every kernel
#   sanitize   memcheck, racecheck and initcheck over all separable cases
#   more       e4m3; every algorithm of the SVD; bf16; single algorithms of separable layers; ResNet-18's layers
#
# Prints one summary of at most 60 lines when it ends or is told to end. OUT gets summary.txt (the same, brought up to date
# after every step), log.txt (all that was said), rows.jsonl (all rows; a row is there once it is measured), autotuned.txt
# (what the tuner chose), device.txt (nvidia-smi -q) and, while a step runs, step.jsonl (its rows so far).
# Every step has a time limit: it is told to end (nd bench then writes what it has), killed 20 s later, named, and the
# next one runs. ND_SECONDS (default 570) bounds all of them, ND_STEP_SECONDS each in place of its own limit; what no time is left for is named too.
# Exit code: 0 all done, 1 a step failed or was cut, 77 no device (1 with ND_REQUIRE_GPU=1). ND_SUITE, ND_DEPTHWISE,
# ND_NETWORKS, ND_BATCH and ND_SESSIONS replace vgg16, depthwise, "vgg16 resnet18", 32 and 1, ND_BENCH adds options to every nd
# bench: for trying this script on what is no GPU.
set -u
case $# in
2 | 3) ;;
*) echo "usage: device.sh BUNDLE.tar.gz|FOLDER OUT [CACHE]" >&2; exit 2 ;;
esac
bundle=$1 out=$2 cache=${3:-$2}
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
work=$(mktemp -d) || exit 2
if [ -d "$bundle" ]; then
    home=$(cd "$bundle" && pwd)
else
    home=$work/nd
    mkdir -p "$home" && tar -xzf "$bundle" -C "$home" --strip-components=1 || exit 2
fi
end=$(($(date +%s) + ${ND_SECONDS:-570}))
suite=${ND_SUITE:-vgg16} networks=${ND_NETWORKS:-vgg16 resnet18} batch=${ND_BATCH:-32}
sessions=${ND_SESSIONS:-1}
failed=

say() { echo "$*" >> "$out/log.txt"; }

# What is there is kept, whatever happens.
keep() {
    if [ -s "$out/step.jsonl" ]; then grep '^{.*}$' "$out/step.jsonl" >> "$out/rows.jsonl"; fi # whole rows alone
    rm -f "$out/step.jsonl"
    if [ -s "$XDG_CACHE_HOME/nd/autotuned.txt" ]; then cp "$XDG_CACHE_HOME/nd/autotuned.txt" "$out/autotuned.txt"; fi
}

summarise() {
    python3 "$home/summary.py" "$out/rows.jsonl" "$work/steps" "$work/head" > "$out/summary.txt.new" 2>&1
    mv "$out/summary.txt.new" "$out/summary.txt"
}

# The first folder with a library of that name, the toolkit's before Python's.
folder_of() {
    for folder in "${CUDA_HOME:-/usr/local/cuda}"/lib64 /usr/lib/x86_64-linux-gnu; do
        [ -e "$folder/$1" ] && echo "$folder" && return 0
    done
    for python in python3 python; do
        command -v "$python" >/dev/null 2>&1 || continue
        timeout 30 "$python" - "$1" <<'PY' 2>/dev/null && return 0
import glob, os, site, sys
roots = site.getsitepackages() + [site.getusersitepackages()] + sys.path
for root in roots:
    for found in glob.glob(os.path.join(root or ".", "nvidia", "*", "lib*", sys.argv[1])):
        print(os.path.dirname(found))
        sys.exit(0)
sys.exit(1)
PY
    done
    return 1
}

# One line a step for the summary: its name, how it went, and why not.
note() {
    printf '%s\t%s\t%s\n' "$1" "$2" "${3:-}" >> "$work/steps"
    case $2 in done*) ;; *) failed="$failed $1($2)" ;; esac
    say "   $1: $2"
    summarise
}

step() { # step NAME SECONDS COMMAND...
    name=$1 limit=$2
    shift 2
    left=$((end - $(date +%s)))
    limit=${ND_STEP_SECONDS:-$limit}
    if [ "$left" -lt 5 ]; then
        note "$name" "no time"
        return 0
    fi
    [ "$left" -gt "$limit" ] || limit=$left
    say "== $name, at most $limit s: $*"
    began=$(date +%s)
    # In the background, so that a signal to this script is answered at once.
    timeout -k 20 "$limit" "$@" > "$work/said" 2>&1 < /dev/null &
    child=$!
    wait "$child"
    code=$?
    child=
    cat "$work/said" >> "$out/log.txt"
    keep
    took=$(($(date +%s) - began))
    why=$(grep -E '^nd: |is wrong|ERROR|rror:' "$work/said" | head -n 1 | cut -c1-200)
    case $code in
    0) note "$name" "done in $took s" ;;
    124 | 137) note "$name" "cut at $took s" "$why" ;;
    *) note "$name" "exit $code after $took s" "$why" ;;
    esac
}

check() {
    for dtype in fp16 tf32 fp32 bf16; do
        step "check $dtype" 60 "$nd" check --backend cuda --dtype $dtype --json "$out/step.jsonl"
    done
    # Of 8 bits cuDNN compiles an engine for every shape.
    step "check int8" 120 "$nd" check --backend cuda --dtype int8 --json "$out/step.jsonl"
    for each in fused:fp16 fused:tf32 fused:fp32 fused:bf16 fused:int8 chunked:fp16 chunked:fp32 chunked:int8 dense:fp16; do
        step "check $each" 30 env ND_CUDA_SEPARABLE="${each%:*}" "$nd" check --backend cuda --dtype "${each#*:}" \
            --op 'separable/*' --json "$out/step.jsonl"
    done
    # The sm_90a kernel: layers it does not take are reported as unsupported. Tuning notices a wrong result, but not a
    # kernel that hangs: one that did not pass is left out of what follows.
    before=$failed
    for dtype in fp16 tf32 bf16 int8; do
        step "check wgmma:$dtype" 30 env ND_CUDA_SEPARABLE=wgmma "$nd" check --backend cuda --dtype $dtype \
            --op 'separable/*' --json "$out/step.jsonl"
    done
    [ "$failed" = "$before" ] && return 0
    say "the wgmma kernel is left out from here on"
    ND_CUDA_SEPARABLE=dense,chunked,fused
    export ND_CUDA_SEPARABLE
}

svd() {
    # shellcheck disable=SC2086 # ND_BENCH holds several words
    step "svd" 40 "$nd" bench "$suite" --svd --backend cuda --tune --json "$out/step.jsonl" ${ND_BENCH:-}
}

decouple() {
    [ "$suite" = cifar ] || step "decouple $suite" 60 "$nd" decouple "$suite" --rank 3 --backend cuda \
        -o "$work/decoupled.onnx" --json "$out/step.jsonl"
    rm -f "$work/decoupled.onnx"
}

bench() { # bench NAME SECONDS SUBJECT OPTIONS...
    name=$1 limit=$2
    shift 2
    # shellcheck disable=SC2086
    step "$name" "$limit" "$nd" bench "$@" --backend cuda --tune --sessions "$sessions" --json "$out/step.jsonl" ${ND_BENCH:-}
}

# The fused operation has the two-kernel form among its algorithms: `best` goes without timing it as two operations.
layers() {
    for dtype in fp16 tf32 fp32; do
        bench "layers $suite $dtype" 110 "$suite" --cache cold --dtype $dtype --batch "$batch" --rank 2,3 --impl dense,fused,best
    done
}

# In int8 networks are timed as a whole, and their kernels with them: by the fused and by the wgmma kernel, not as tuned.
int8() {
    for algorithm in fused wgmma; do
        [ "$algorithm" = fused ] || [ -z "${ND_CUDA_SEPARABLE:-}" ] || continue # left out
        # shellcheck disable=SC2086
        step "int8 ${networks%% *} $algorithm" 80 env ND_CUDA_SEPARABLE=$algorithm "$nd" bench "${networks%% *}" --no-layers \
            --backend cuda --dtype int8 --batch "$batch" --rank 2,3 --nodes --sessions "$sessions" --json "$out/step.jsonl" ${ND_BENCH:-}
    done
}

depthwise() {
    # shellcheck disable=SC2086
    step "depthwise" 40 "$nd" bench "${ND_DEPTHWISE:-depthwise}" --backend cuda --dtype fp16 --batch "$batch" --cache cold \
        --sessions "$sessions" --json "$out/step.jsonl" ${ND_BENCH:-}
}

networks() {
    for network in $networks; do
        bench "network $network" 90 "$network" --no-layers --dtype fp16,fp32 --batch "$batch,1" --rank 3 --nodes
    done
}

# sanitize_with OPERATIONS TOOL...: every algorithm that has kernels of ours.
sanitize_with() {
    operations=$1
    shift
    if ! command -v compute-sanitizer >/dev/null 2>&1; then
        say "compute-sanitizer is not installed here: not run"
        return 0
    fi
    for tool in "$@"; do
        for algorithm in wgmma fused chunked; do
            step "$tool $algorithm $operations" 60 env ND_CUDA_SEPARABLE=$algorithm compute-sanitizer --tool "$tool" \
                --error-exitcode 9 "$nd" check --backend cuda --dtype fp16 --op "$operations"
        done
    done
}

smallest() { sanitize_with 'separable/t3*' memcheck racecheck; }
sanitize() { sanitize_with 'separable/*' memcheck racecheck initcheck; }

more() {
    step "check e4m3" 180 "$nd" check --backend cuda --dtype e4m3 --json "$out/step.jsonl"
    for algorithm in jacobi gram gesvda; do
        # shellcheck disable=SC2086
        step "svd $algorithm" 40 env ND_CUDA_SVD=$algorithm "$nd" bench "$suite" --svd --backend cuda --json "$out/step.jsonl" ${ND_BENCH:-}
    done
    bench "layers $suite bf16" 110 "$suite" --cache cold --dtype bf16 --batch "$batch" --rank 2,3
    for algorithm in fused chunked wgmma; do
        # shellcheck disable=SC2086
        step "layers $suite fp16 $algorithm" 60 env ND_CUDA_SEPARABLE=$algorithm "$nd" bench "$suite" --backend cuda --dtype fp16 \
            --batch "$batch" --rank 3 --impl fused --cache cold --sessions "$sessions" --json "$out/step.jsonl" ${ND_BENCH:-}
    done
    [ "$suite" = cifar ] || bench "layers resnet18 fp16" 110 resnet18 --cache cold --dtype fp16 --batch "$batch" --rank 2,3
}

path=$home/lib
for library in libcudnn.so.9 libcublas.so.13 libcublasLt.so.13 libcusolver.so.12 libcusparse.so.12 libnvJitLink.so.13 libnvrtc.so.13; do
    if folder=$(folder_of "$library"); then
        case ":$path:" in *":$folder:"*) ;; *) path=$path:$folder ;; esac
    else
        say "device: $library was not found in a toolkit or a Python installation"
    fi
done
nd=$home/bin/nd
LD_LIBRARY_PATH=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
ND_PLUGINS=${ND_PLUGINS:-$home/lib/nd}
ND_SHARE=$home/share/nd
XDG_CACHE_HOME=$work/cache
export LD_LIBRARY_PATH ND_PLUGINS ND_SHARE XDG_CACHE_HOME
mkdir -p "$XDG_CACHE_HOME/nd"
if [ -s "$cache/autotuned.txt" ]; then cp "$cache/autotuned.txt" "$XDG_CACHE_HOME/nd/autotuned.txt"; fi
child=
finish() {
    [ -z "$child" ] || kill "$child" 2>/dev/null
    keep
    summarise
    cat "$out/summary.txt"
    rm -rf "$work"
}
trap finish EXIT
trap 'say "told to end"; exit 1' HUP INT TERM

timeout 60 "$nd" devices > "$work/said" 2>&1 < /dev/null
{
    echo "nd $(cat "$home/COMMIT" 2>/dev/null), $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    grep -E 'cuda' "$work/said" | head -n 2
} > "$work/head"
cat "$work/head" "$work/said" >> "$out/log.txt"
if ! grep -q 'sm_[0-9]' "$work/said"; then
    echo "skipped: no GPU that the cuda backend can use" | tee -a "$out/log.txt" >> "$work/head"
    [ "${ND_REQUIRE_GPU:-0}" = 1 ] && exit 1
    exit 77
fi
timeout 20 nvidia-smi -q > "$out/device.txt" 2>&1

for wanted in ${ND_STEPS:-check smallest layers int8 svd decouple depthwise networks sanitize more}; do
    case $wanted in
    check | smallest | layers | int8 | svd | decouple | depthwise | networks | sanitize | more) $wanted ;;
    *) note "$wanted" "unknown" ;;
    esac
done
[ -z "$failed" ]
