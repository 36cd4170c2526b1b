#!/bin/sh
# Packs what a bare GPU machine lacks:
#   bundle.sh BUILD OUT.tar.gz            from a build folder
#   bundle.sh --arch 90a OUT.tar.gz       builds first, for this one architecture and without tests
#
# nd, the plugin, the small libraries nd needs, the bundled model and images, device.sh and the checks it
# runs. NVIDIA's libraries stay out: device.sh finds them there. Under 40 MB or it fails. The C library comes from
# the other machine, which must not be older than this one. ND_BUILD is the folder that --arch builds in (build-ARCH), and
# ND_CMAKE more options for CMake there.
set -eu
usage() { echo "usage: bundle.sh BUILD|--arch ARCH OUT.tar.gz" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
if [ "${1:-}" = --arch ]; then
    [ $# -eq 3 ] || usage
    arch=$2 out=$3
    build=${ND_BUILD:-$root/build-$arch}
    # shellcheck disable=SC2086 # ND_CMAKE holds several words
    cmake -S "$root" -B "$build" -G Ninja -DND_CUDA=ON -DND_CUDA_ARCHITECTURES="$arch-real" -DND_TESTS=OFF ${ND_CMAKE:-} > /dev/null
    cmake --build "$build"
else
    [ $# -eq 2 ] || usage
    build=$1 out=$2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/nd/bin" "$work/nd/lib/nd" "$work/nd/share/nd"

for file in nd libnd_cuda.so; do
    [ -f "$build/$file" ] || { echo "bundle: $build/$file is missing; build with -DND_CUDA=ON" >&2; exit 1; }
done
cp "$build/nd" "$work/nd/bin/"
# Where nd looks for it in its prefix.
cp "$build/libnd_cuda.so" "$work/nd/lib/nd/"
strip --strip-unneeded "$work/nd/bin/nd" "$work/nd/lib/nd/libnd_cuda.so"
[ -d "$root/datasets/glyphs" ] && cp -r "$root/datasets/glyphs" "$work/nd/share/nd/"
cp "$root/cuda/tools/device.sh" "$root/cuda/tools/summary.py" "$root/LICENSE" "$work/nd/"

# What nd links, less what every Linux machine has and what NVIDIA ships.
ldd "$build/nd" | awk '/=> \// { print $3 }' | sort -u |
    grep -v -E '/(libc|libm|libdl|libpthread|librt|libgcc_s|libstdc\+\+|ld-linux[^/]*|libcu[^/]*)\.so' |
    while read -r library; do cp -L "$library" "$work/nd/lib/"; done

commit=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
echo "$commit" > "$work/nd/COMMIT"
tar -C "$work" -czf "$out" nd
bytes=$(wc -c < "$out")
echo "$out: $bytes bytes, $(tar -tzf "$out" | wc -l) files, commit $commit"
[ "$bytes" -le 40000000 ] || { echo "bundle: more than 40 MB" >&2; exit 1; }
