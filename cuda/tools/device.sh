#!/bin/sh
# Everything that needs a GPU, in one slot of ten minutes, on a machine that has little more than a driver:
#   device.sh BUNDLE.tar.gz OUT     unpacks and runs; or, from the unpacked folder: ./device.sh . OUT
#
# cuDNN, cuBLAS and cuSOLVER are found beside a CUDA toolkit or in the nvidia folders of a Python installation. Then, in
# this order, what matters most first (ND_STEPS chooses among and reorders them):
#   check      nd check --backend cuda in every precision, separable layers by every algorithm
#   svd        the decompositions of VGG16 on the device's own clock; VGG16 decoupled as a whole
#   layers     VGG16's convolutions, batch 32, T = 2 and 3, cold, tuned: fp16, tf32, fp32
#   depthwise  our depthwise kernel against the copy bandwidth
#   networks   VGG16 and ResNet-18 end to end with the time of every kernel
#   sanitize   compute-sanitizer (memcheck, racecheck, initcheck) over the separable kernels, where it is installed
#   more       every algorithm of the SVD; bf16; single algorithms of separable layers; ResNet-18's layers
#
# OUT gets log.txt (all that was said), rows.jsonl (all rows), goals.txt (the goals, each from one row), engines.txt
# (what the tuner chose, taken up again by a later run with the same OUT), device.txt (nvidia-smi -q) and, while a step
# runs, step.jsonl (its rows so far).
# Every step has a time limit: it is told to end (nd bench then writes what it has), killed 20 s later, named, and the
# next one runs. ND_SECONDS (default 570) bounds all of them, ND_STEP_SECONDS each in place of its own limit; what no time is left for is named too.
# Exit code: 0 all done, 1 a step failed or was cut, 77 no device (1 with ND_REQUIRE_GPU=1). ND_SUITE, ND_DEPTHWISE,
# ND_NETWORKS, ND_BATCH and ND_SESSIONS replace vgg16, depthwise, "vgg16 resnet18", 32 and 5, ND_BENCH adds options to every nd
# bench: for trying this script on what is no GPU.
set -u
[ $# -eq 2 ] || { echo "usage: device.sh BUNDLE.tar.gz|FOLDER OUT" >&2; exit 2; }
bundle=$1 out=$2
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
sessions=${ND_SESSIONS:-5}
failed=

say() { echo "$*" | tee -a "$out/log.txt"; }

# What is there is kept, whatever happens.
keep() {
    if [ -s "$out/step.jsonl" ]; then grep '^{.*}$' "$out/step.jsonl" >> "$out/rows.jsonl"; fi # whole rows alone
    rm -f "$out/step.jsonl"
    if [ -s "$XDG_CACHE_HOME/nd/cudnn_engines.txt" ]; then cp "$XDG_CACHE_HOME/nd/cudnn_engines.txt" "$out/engines.txt"; fi
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

step() { # step NAME SECONDS COMMAND...
    name=$1 limit=$2
    shift 2
    left=$((end - $(date +%s)))
    limit=${ND_STEP_SECONDS:-$limit}
    if [ "$left" -lt 5 ]; then
        failed="$failed $name(no time)"
        return 0
    fi
    [ "$left" -gt "$limit" ] || limit=$left
    say "== $name, at most $limit s: $*"
    began=$(date +%s)
    timeout -k 20 "$limit" "$@" > "$work/said" 2>&1 < /dev/null
    code=$?
    cat "$work/said" >> "$out/log.txt"
    tail -n 3 "$work/said" | cut -c1-300
    keep
    took=$(($(date +%s) - began))
    case $code in
    0) say "   done in $took s" ;;
    124 | 137) failed="$failed $name(cut at $took s)" && say "   cut at $took s" ;;
    *) failed="$failed $name($code)" && say "   exit $code after $took s" ;;
    esac
}

check() {
    for dtype in fp32 fp16 tf32 bf16; do
        step "check $dtype" 60 "$nd" check --backend cuda --dtype $dtype --json "$out/step.jsonl"
    done
    for algorithm in fused chunked dense; do
        for dtype in fp16 fp32 tf32 bf16; do
            step "check $dtype $algorithm" 30 env ND_CUDA_SEPARABLE=$algorithm "$nd" check --backend cuda --dtype $dtype \
                --op 'separable/*' --json "$out/step.jsonl"
        done
    done
    # The sm_90a kernel: layers it does not take are reported as unsupported. Tuning notices a wrong result, but not a
    # kernel that hangs: one that did not pass is left out of what follows.
    before=$failed
    for dtype in fp16 tf32 bf16; do
        step "check $dtype wgmma" 30 env ND_CUDA_SEPARABLE=wgmma "$nd" check --backend cuda --dtype $dtype \
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
    [ "$suite" = cifar ] || step "decouple $suite" 60 "$nd" decouple "$suite" --rank 3 --backend cuda \
        -o "$work/decoupled.onnx" --json "$out/step.jsonl"
    rm -f "$work/decoupled.onnx"
}

bench() { # bench NAME SECONDS SUBJECT OPTIONS...
    name=$1 limit=$2
    shift 2
    # shellcheck disable=SC2086
    step "$name" "$limit" "$nd" bench "$@" --backend cuda --tune --cache cold --sessions "$sessions" --json "$out/step.jsonl" ${ND_BENCH:-}
}

layers() {
    for dtype in fp16 tf32 fp32; do
        bench "layers $suite $dtype" 110 "$suite" --dtype $dtype --batch "$batch" --rank 2,3
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

sanitize() {
    if ! command -v compute-sanitizer >/dev/null 2>&1; then
        say "compute-sanitizer is not installed here: not run"
        return 0
    fi
    for tool in memcheck racecheck initcheck; do
        for algorithm in fused chunked; do
            step "sanitize $tool $algorithm" 60 env ND_CUDA_SEPARABLE=$algorithm compute-sanitizer --tool $tool \
                --error-exitcode 9 "$nd" check --backend cuda --dtype fp16 --op 'separable/*'
        done
    done
}

more() {
    for algorithm in jacobi gram gesvda; do
        # shellcheck disable=SC2086
        step "svd $algorithm" 40 env ND_CUDA_SVD=$algorithm "$nd" bench "$suite" --svd --backend cuda --json "$out/step.jsonl" ${ND_BENCH:-}
    done
    bench "layers $suite bf16" 110 "$suite" --dtype bf16 --batch "$batch" --rank 2,3
    for algorithm in fused chunked wgmma; do
        # shellcheck disable=SC2086
        step "layers $suite fp16 $algorithm" 60 env ND_CUDA_SEPARABLE=$algorithm "$nd" bench "$suite" --backend cuda --dtype fp16 \
            --batch "$batch" --rank 3 --impl fused --cache cold --sessions "$sessions" --json "$out/step.jsonl" ${ND_BENCH:-}
    done
    [ "$suite" = cifar ] || bench "layers resnet18 fp16" 110 resnet18 --dtype fp16 --batch "$batch" --rank 2,3
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
if [ -s "$out/engines.txt" ]; then cp "$out/engines.txt" "$XDG_CACHE_HOME/nd/cudnn_engines.txt"; fi
trap 'keep; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

say "nd $(cat "$home/COMMIT" 2>/dev/null), $(date -u +%Y-%m-%dT%H:%M:%SZ)"
timeout 60 "$nd" devices > "$work/said" 2>&1 < /dev/null
cat "$work/said" >> "$out/log.txt"
cat "$work/said"
if ! grep -q 'sm_[0-9]' "$work/said"; then
    say "skipped: no GPU that the cuda backend can use"
    [ "${ND_REQUIRE_GPU:-0}" = 1 ] && exit 1
    exit 77
fi
timeout 20 nvidia-smi -q > "$out/device.txt" 2>&1

for wanted in ${ND_STEPS:-check svd layers depthwise networks sanitize more}; do
    case $wanted in
    check | svd | layers | depthwise | networks | sanitize | more) $wanted ;;
    *) say "device: there is no step $wanted" && failed="$failed $wanted(unknown)" ;;
    esac
    # The goals so far: whoever ends this run from outside leaves them.
    python3 "$home/goals.py" "$out/rows.jsonl" > "$out/goals.txt" 2>&1
done
cat "$out/goals.txt"
if [ -n "$failed" ]; then
    say "failed:$failed"
    exit 1
fi
say "all steps done; see goals.txt, rows.jsonl and log.txt in $out"
