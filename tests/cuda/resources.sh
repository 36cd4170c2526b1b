#!/bin/sh
# Registers, spills and static shared memory of every kernel on every architecture, from ptxas:
#   resources.sh NVCC GOLDEN [--bless]
# Fails when a kernel spills or keeps a stack, when ptxas says that it puts wgmma instructions one after the other or that
# it ignores a request for registers (C75xx), and when a figure differs from the golden file made by the same nvcc (with
# another nvcc the figures are not compared). Runs two compilers at a time.
set -eu
nvcc=$1 golden=$2 bless=${3:-}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"

for file in cuda/*/*.cu; do
    stem=$(basename "$file" .cu)
    case $stem in
    *_sm90a) archs=90a ;;
    *) archs="80 86 89 90a 100" ;;
    esac
    for arch in $archs; do echo "$file $stem $arch"; done
done > "$work/jobs"
export nvcc work
xargs -P 2 -L 1 sh -c '
    "$nvcc" -std=c++17 -Ihost -I. -gencode "arch=compute_$2,code=sm_$2" -Xptxas -v -cubin -o "$work/$1.$2.cubin" "$0" \
        > "$work/$1.$2.log" 2>&1 || { cat "$work/$1.$2.log"; exit 255; }' < "$work/jobs"

now=$work/now
echo "# $("$nvcc" --version | grep -o 'release.*V[0-9.]*')" > "$now"
echo "arch,kernel,registers,stack_bytes,spill_store_bytes,spill_load_bytes" >> "$now"
for log in "$work"/*.log; do
    arch=$(basename "$log" .log)
    awk -v arch="sm_${arch##*.}" '
        /Compiling entry function/ { split($0, part, "\x27"); kernel = part[2] }
        /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
        /Used [0-9]+ registers/ { for (i = 1; i < NF; i++) if ($i == "Used") registers = $(i + 1)
                                  print arch "," kernel "," registers "," stack "," stores "," loads }' "$log"
done | sort >> "$now"

if [ "$bless" = --bless ]; then
    cp "$now" "$golden"
    echo "blessed $golden"
fi
said=$(grep -h '(C75[0-9][0-9])' "$work"/*.log || true)
if [ -n "$said" ]; then
    echo "ptxas could not do as the kernels ask:"
    echo "$said"
    exit 1
fi
spills=$(awk -F, 'NR > 2 && ($4 + $5 + $6 > 0)' "$now")
if [ -n "$spills" ]; then
    echo "kernels that spill or keep a stack:"
    echo "$spills"
    exit 1
fi
kernels=$(($(wc -l < "$now") - 2))
[ "$kernels" -gt 0 ] || { echo "no kernel was found"; exit 1; }
if [ "$(head -n 1 "$now")" = "$(head -n 1 "$golden")" ]; then
    diff -u "$golden" "$now"
    echo "$kernels kernels, no spills, as in the golden file"
else
    echo "$kernels kernels, no spills; the golden file is of another nvcc"
fi
