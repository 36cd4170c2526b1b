#!/usr/bin/env bash
# Every method at the same budgets, on the same images, with the same refit: one CSV row each.
#   results/rivals.sh BUILD NET > results/golden/rivals_NET.csv      NET: resnet20, resnet56 (under ND_DATA) or glyphs (bundled)
# top1 and top5 are counts of n test images, drops are in points with a paired 95 % interval; agreement and logit_rel_mse are
# on n_train training images that were not calibrated on. METHODS, RATIOS of total MACs and OPTIONS of nd decouple may be set.
# A method that cannot reach a ratio has empty cells; stderr says why.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
nd=$(realpath "${1:?build folder}")/nd
net=${2:?resnet20, resnet56 or glyphs}
data=${ND_DATA:-$here/../../shared/data}
images=256
if [ "$net" = glyphs ]; then
    model=glyphs train=glyphs:calib test=glyphs:test held=$((744 - images))
else
    model=$net:$data/models/$net-cifar10.safetensors held=$((2000 - images))
    train=cifar10:$data/cifar10-bin/data_batch_1.bin test=cifar10:$data/cifar10-bin/test_batch.bin
    [ -e "$data/models/$net-cifar10.safetensors" ] || { echo "no $net under ND_DATA" >&2; exit 77; }
fi
read -ra ratios <<<"${RATIOS:-2 2.5 3 4}"
combined="spatial+dwpw channel+dwpw channel+pwdw prune+dwpw spatial+channel spatial+channel+pwdw prune+spatial+channel+pwdw"
read -ra methods <<<"${METHODS:-dwpw pwdw dwpw_lowrank spatial channel prune $combined dwpw,pwdw dwpw,pwdw,spatial,channel,prune}"
read -ra options <<<"${OPTIONS:-}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# cells ROWS MODEL FORMAT FIELD...: the fields of a model's row, each after a comma
cells() {
    local row format=$3
    row=$(grep -F "\"model\":\"$2\"" "$1")
    shift 3
    for field; do
        # shellcheck disable=SC2059
        printf ",$format" "$(sed -n "s/.*\"$field\":\([-0-9.e+]*\).*/\1/p" <<<"$row")"
    done
}

echo "model,method,settings,ratio,total_macs_ratio,n,top1_correct,top5_correct,drop_top1,drop_top1_lo,drop_top1_hi,n_train,agreement,logit_rel_mse"
for ratio in "${ratios[@]}"; do
    files=()
    for method in "${methods[@]}"; do
        file=${method//,/-}.onnx
        if "$nd" decouple "$model" --method "$method" --macs-ratio "$ratio" --calib "$train" --calib-images $images \
            "${options[@]}" -o "$scratch/$file" -q >"$scratch/table" 2>"$scratch/error"; then
            files+=("$file")
        else
            sed "s/^/$method at $ratio: /" "$scratch/error" >&2
        fi
    done
    [ ${#files[@]} -eq 0 ] || (
        cd "$scratch"
        "$nd" eval "${files[@]}" --original "$model" --data "$test" --json test -q >table
        "$nd" eval "${files[@]}" --original "$model" --data "$train" --first $images --limit $held --json train -q >table
    )
    for method in "${methods[@]}"; do
        file=${method//,/-}.onnx
        printf '%s' "$net,${method//,/ or },${options[*]:-curves},$ratio"
        if [ -e "$scratch/$file" ]; then
            cells "$scratch/test" "$file" %.4f total_macs_ratio
            cells "$scratch/test" "$file" %d n top1_correct top5_correct
            cells "$scratch/test" "$file" %.2f drop_top1 drop_top1_lo drop_top1_hi
            cells "$scratch/train" "$file" %d n
            cells "$scratch/train" "$file" %.2f agreement
            cells "$scratch/train" "$file" %.4f logit_rel_mse
        else
            printf ',,,,,,,,,,'
        fi
        echo
    done
    rm -f "$scratch"/*.onnx "$scratch/test" "$scratch/train"
done
