#!/usr/bin/env bash
# The separable kernel on this CPU, layer by layer, beside oneDNN and the roofline measured in the same run:
#   results/cpu_separable.sh BUILD > results/cpu_separable.md
# Wants a machine with nothing else on it for about ten minutes. SECONDS_A_LAYER (4) is the limit for one layer or network.
set -euo pipefail
PATH=$(realpath "${1:?build folder}"):$PATH
seconds=${SECONDS_A_LAYER:-4}
table=$(mktemp)
trap 'rm -f "$table"' EXIT

# The 3x3 layers that are decoupled, summed: ratio of direct to every implementation and T.
sums() {
    awk '$1 ~ /^(features|layer)/ && $1 !~ /^features\.0$|downsample/ { key = sprintf("%-9s T=%s", $5, $4)
             if (!(key in time)) keys[++n] = key
             time[key] += $2 * $10; seen[key] += $2 }
         END { all = seen["dense     T=-"]
               for (i = 1; i <= n; i++) if (seen[keys[i]] == all)
                   printf "%s  %9.1f us  %5.2fx\n", keys[i], time[keys[i]], time["dense     T=-"] / time[keys[i]] }' "$table"
}

# measure TITLE OPTION...: a section with the command and what it printed
measure() {
    local title=$1 command=(nd bench "${@:2}" --backend cpu --time-limit "$seconds")
    printf '\n## %s\n\n    %s\n\n```\n' "$title" "${command[*]}"
    "${command[@]}" --quiet >"$table"
    cat "$table"
    printf '```\n'
}

layers() { # SUITE THREADS DTYPE
    measure "Layers of $1, $3, threads: $2" "$1" --threads "$2" --dtype "$3" --rank 2,3,4 --cache cold
    printf '\nThe 3x3 layers but the first, summed, against dense:\n\n```\n'
    sums
    printf '```\n'
}

cat <<TEXT
# The separable kernel on a CPU

Written by \`results/cpu_separable.sh BUILD\`. Times are medians of interleaved blocks; layers at batch 1 on cold buffers. \`dense\` is oneDNN's
own choice (fp32: its direct convolution), \`winograd\` its Winograd kernel, \`fused\` ours; \`roof %\` is the share of what the measured
peaks of arithmetic and memory allow, so that Winograd may pass 100. \`T\` is terms per channel, \`x\` how often the network has the layer.

$(nd --version), $(nd devices | awk '$1 == "cpu"' | sed 's/  */ /g')
TEXT
for suite in vgg16 resnet18; do
    for threads in 1 2; do layers "$suite" "$threads" fp32; done
    layers "$suite" 1 bf16
done
whole=(--no-layers --method dwpw --threads 1,2 --impl dense,fused,best)
measure "All of vgg16" vgg16 "${whole[@]}" --rank 2,3,4 --batch 1
measure "All of resnet18" resnet18 "${whole[@]}" --rank 2,3,4 --batch 1,8
measure "All of resnet50" resnet50 "${whole[@]}" --rank 2,3 --batch 1,8
