#!/bin/sh
# Where the CUDA compiler is out of sight or broken: ND_CUDA=AUTO configures, plans no plugin and says why; ON refuses.
#   configure_test.sh CMAKE
set -eu
cmake=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# PATH less the folders that hold nvcc, and the places that cuda.cmake looks in besides.
path= ignored=/usr/local/cuda/bin
IFS=:
for folder in $PATH; do
    [ -x "$folder/nvcc" ] && ignored="$ignored;$folder" && continue
    path=$path${path:+:}$folder
done
unset IFS CUDA_HOME CUDA_PATH CUDACXX
export PATH="$path"

configure() {
    "$cmake" -S "$root" -B "$work/$1" -DND_CUDA="$1" -DCMAKE_IGNORE_PATH="$ignored" > "$work/$1.log" 2>&1
}

configure AUTO || { echo "FAIL: ND_CUDA=AUTO does not configure:"; tail -n 20 "$work/AUTO.log"; exit 1; }
grep -q 'cuda plugin *no: missing nvcc' "$work/AUTO.log" || { echo "FAIL: it does not say so:"; tail "$work/AUTO.log"; exit 1; }
"$cmake" --build "$work/AUTO" --target help > "$work/targets"
grep -q -w nd_core "$work/targets" || { echo "FAIL: no nd_core among the targets"; exit 1; }
! grep -w nd_cuda "$work/targets" || { echo "FAIL: the plugin is still a target"; exit 1; }
! configure ON || { echo "FAIL: ND_CUDA=ON configures"; exit 1; }
grep -q 'ND_CUDA=ON, but missing: nvcc' "$work/ON.log" || { echo "FAIL: ON does not say why:"; tail "$work/ON.log"; exit 1; }

mkdir "$work/bin"
printf '#!/bin/sh\nexit 1\n' > "$work/bin/nvcc"
chmod +x "$work/bin/nvcc"
rm -rf "$work/AUTO"
PATH="$work/bin:$PATH" configure AUTO || { echo "FAIL: a broken nvcc stops AUTO:"; tail -n 20 "$work/AUTO.log"; exit 1; }
grep -q 'cuda plugin *no: missing an nvcc that works' "$work/AUTO.log" || { echo "FAIL: it does not say so"; exit 1; }
echo "AUTO goes on without a working nvcc, ON does not"
