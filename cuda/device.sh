#!/bin/sh
# Everything that needs a GPU, in one go, on a machine that has little more than a driver:
#   device.sh BUNDLE.tar.gz OUT     unpacks and runs; or, from the unpacked folder: ./device.sh . OUT
#
# 1. finds cuDNN, cuBLAS and cuSOLVER: beside a CUDA toolkit, or in the nvidia folders of a Python installation;
# 2. nd devices; nd check --backend cuda for every precision and every way a separable layer can run;
# 3. compute-sanitizer (memcheck, racecheck, initcheck) over the check, where it is installed;
# 4. nd bench: layer suites, cold; every route of the SVD over VGG16; whole networks. Rows to OUT/*.jsonl.
# Each step writes OUT/<step>.log; a failed step is named at the end and makes the exit code 1. Exits 77 without a device
# (1 with ND_REQUIRE_GPU=1). ND_STEPS chooses among "check sanitize layers svd networks"; ND_STEP_SECONDS bounds each,
# ND_SECONDS all of them: what no time is left for is named and counts as failed.
set -u
[ $# -eq 2 ] || { echo "usage: device.sh BUNDLE.tar.gz|FOLDER OUT" >&2; exit 2; }
bundle=$1 out=$2
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
if [ -d "$bundle" ]; then
    home=$(cd "$bundle" && pwd)
else
    home=${TMPDIR:-/tmp}/nd-bundle.$$
    mkdir -p "$home" && tar -xzf "$bundle" -C "$home" --strip-components=1 || exit 2
fi
seconds=${ND_STEP_SECONDS:-240}
end=$(($(date +%s) + ${ND_SECONDS:-1650}))

# Folders with a library of that name, the toolkit's first.
folders_of() {
    for folder in "${CUDA_HOME:-/usr/local/cuda}"/lib64 /usr/lib/x86_64-linux-gnu; do
        ls "$folder/$1" >/dev/null 2>&1 && echo "$folder" && return 0
    done
    for python in python3 python; do
        command -v "$python" >/dev/null 2>&1 || continue
        "$python" - "$1" <<'PY' 2>/dev/null && return 0
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

path=$home/lib
for library in libcudnn.so.9 libcublas.so.13 libcublasLt.so.13 libcusolver.so.12 libcusparse.so.12 libnvJitLink.so.13 libnvrtc.so.13; do
    if folder=$(folders_of "$library"); then
        case ":$path:" in *":$folder:"*) ;; *) path=$path:$folder ;; esac
    else
        echo "device: $library was not found in a toolkit or a Python installation" | tee -a "$out/missing.log"
    fi
done
LD_LIBRARY_PATH=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
ND_PLUGINS=$home/lib
ND_SHARE=$home/share/nd
export LD_LIBRARY_PATH ND_PLUGINS ND_SHARE
nd=$home/bin/nd

"$nd" devices > "$out/devices.log" 2>&1
cat "$out/devices.log"
if ! grep -q 'sm_[0-9]' "$out/devices.log"; then
    echo "skipped: no GPU that the cuda backend can use"
    [ "${ND_REQUIRE_GPU:-0}" = 1 ] && exit 1
    exit 77
fi
nvidia-smi -q > "$out/nvidia-smi.log" 2>&1

failed=
step() { # step NAME COMMAND...
    name=$1
    shift
    left=$((end - $(date +%s)))
    [ $left -gt 0 ] || { failed="$failed $name(no time)"; return; }
    [ $left -lt "$seconds" ] || left=$seconds
    echo "== $name: $*"
    timeout "$left" "$@" > "$out/$name.log" 2>&1
    code=$?
    tail -n 3 "$out/$name.log"
    [ $code -eq 0 ] || { failed="$failed $name($code)"; echo "   exit $code"; }
}
wanted() {
    case " ${ND_STEPS:-check sanitize layers svd networks} " in *" $1 "*) return 0 ;; esac
    return 1
}

if wanted check; then
    for dtype in fp32 tf32 fp16 bf16; do
        for route in fused chunked dense; do
            step "check_${dtype}_$route" env ND_CUDA_SEPARABLE=$route "$nd" check --backend cuda --dtype $dtype
        done
    done
    # The sm_90a kernel, which nothing chooses by itself: layers it does not take are reported as unsupported.
    for dtype in fp16 bf16; do
        step "check_${dtype}_wgmma" env ND_CUDA_SEPARABLE=wgmma "$nd" check --backend cuda --dtype $dtype
    done
fi
if wanted sanitize; then
    if command -v compute-sanitizer >/dev/null 2>&1; then
        for tool in memcheck racecheck initcheck; do
            for route in fused chunked; do
                step "sanitize_${tool}_$route" env ND_CUDA_SEPARABLE=$route compute-sanitizer --tool $tool \
                    --error-exitcode 9 "$nd" check --backend cuda --dtype fp16 --op 'separable/*'
            done
        done
    else
        echo "compute-sanitizer is not installed here: not run" | tee "$out/sanitize.log"
    fi
fi
quick="--backend cuda --tune --time-limit 5 --cache cold"
if wanted layers; then
    for dtype in fp16 tf32 fp32 bf16; do
        step "layers_vgg16_$dtype" "$nd" bench vgg16 $quick --dtype $dtype --batch 32 --rank 2,3,4 \
            --json "$out/layers_vgg16_$dtype.jsonl"
    done
    step layers_resnet18_fp16 "$nd" bench resnet18 $quick --dtype fp16 --batch 32 --rank 2,3 \
        --json "$out/layers_resnet18_fp16.jsonl"
fi
if wanted svd; then
    for route in jacobi gram gesvda; do
        step "svd_$route" env ND_CUDA_SVD=$route "$nd" decouple vgg16 --rank 3 --backend cuda -o "$home/svd.onnx" \
            --json "$out/svd_$route.jsonl"
        rm -f "$home/svd.onnx"
    done
fi
if wanted networks; then
    for dtype in fp16 tf32 fp32 bf16; do
        step "networks_vgg16_$dtype" "$nd" bench vgg16 --whole --no-layers $quick --dtype $dtype --batch 1,32 --rank 3 --nodes \
            --json "$out/networks_vgg16_$dtype.jsonl"
    done
fi

if [ -n "$failed" ]; then
    echo "failed:$failed"
    exit 1
fi
echo "all steps done; rows and logs in $out"
