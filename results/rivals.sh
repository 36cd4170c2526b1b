#!/usr/bin/env bash
# Every method at the same budgets, on the same images, with the same refit: one CSV row each.
#   results/rivals.sh BUILD NET > results/golden/rivals_NET.csv      NET: resnet20, resnet56, vgg16 (under ND_DATA) or glyphs (bundled)
# top1 and top5 are counts of n test images, drops are in points with a paired 95 % interval; agreement and logit_rel_mse are
# on n_train training images that were not calibrated on. METHODS, RATIOS of MACs and OPTIONS of nd decouple may be set.
# A method that cannot reach a ratio has empty cells; stderr says why. With WORK, a folder, networks and rows stay there, and
# another run goes on from them.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
nd=$(realpath "${1:?build folder}")/nd
net=${2:?resnet20, resnet56, vgg16 or glyphs}
data=$(realpath -m "${ND_DATA:-$here/../../shared/data}")
images=256 recipe=() settings=() ratios="2 2.5 3 4"
if [ "$net" = glyphs ]; then
    model=glyphs train=glyphs:calib test=glyphs:test held=$((744 - images))
elif [ "$net" = vgg16 ]; then
    images=64 held=$((300 - images)) ratios="2 3 4 5"
    model=$data/imagenet-vgg16/vgg16-imagenette.onnx
    train=list:$data/imagenet-vgg16/calib.txt test=list:$data/imagenet-vgg16/list.txt
    recipe=(--preprocess "crop=160,order=bgr,mean=103.939:116.779:123.68")
    settings=(--conv-only --quick)
    [ -e "$model" ] || { echo "no $net under ND_DATA" >&2; exit 77; }
else
    model=$net:$data/models/$net-cifar10.safetensors held=$((2000 - images))
    train=cifar10:$data/cifar10-bin/data_batch_1.bin test=cifar10:$data/cifar10-bin/test_batch.bin
    [ -e "$data/models/$net-cifar10.safetensors" ] || { echo "no $net under ND_DATA" >&2; exit 77; }
fi
read -ra ratios <<<"${RATIOS:-$ratios}"
combined="spatial+dwpw channel+dwpw channel+pwdw prune+dwpw spatial+channel spatial+channel+pwdw prune+spatial+channel+pwdw"
read -ra methods <<<"${METHODS:-dwpw pwdw dwpw_lowrank spatial channel prune $combined dwpw,pwdw dwpw,pwdw,spatial,channel,prune}"
read -ra options <<<"${OPTIONS:-}"
options+=("${settings[@]}")
if [ -n "${WORK:-}" ]; then
    mkdir -p "$WORK"
    work=$(realpath "$WORK")
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi

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

# measure ROWS DATA OPTION...: the rows of all networks of a budget, unless they are there already
measure() {
    local rows=$1 set=$2 file
    shift 2
    for file in "${files[@]}"; do
        [ "$work/$file" -ot "$work/$rows" ] && continue
        rm -f "$work/$rows"
        (cd "$work" && "$nd" eval "${files[@]}" --original "$model" --data "$set" "${recipe[@]}" "$@" --json "$rows" -q >table)
        return
    done
}

echo "model,method,settings,ratio,total_macs_ratio,n,top1_correct,top5_correct,drop_top1,drop_top1_lo,drop_top1_hi,n_train,agreement,logit_rel_mse"
for ratio in "${ratios[@]}"; do
    files=()
    for method in "${methods[@]}"; do
        file=${method//,/-}-$ratio.onnx
        if [ -e "$work/$file" ] || "$nd" decouple "$model" --method "$method" --macs-ratio "$ratio" --calib "$train" \
            --calib-images $images "${recipe[@]}" "${options[@]}" -o "$work/$file" -q >"$work/table" 2>"$work/error"; then
            files+=("$file")
        else
            sed "s/^/$method at $ratio: /" "$work/error" >&2
        fi
    done
    measure "test-$ratio" "$test"
    measure "train-$ratio" "$train" --first $images --limit $held
    for method in "${methods[@]}"; do
        file=${method//,/-}-$ratio.onnx
        printf '%s' "$net,${method//,/ or },${options[*]:-curves},$ratio"
        if [ -e "$work/$file" ]; then
            cells "$work/test-$ratio" "$file" %.4f total_macs_ratio
            cells "$work/test-$ratio" "$file" %d n top1_correct top5_correct
            cells "$work/test-$ratio" "$file" %.2f drop_top1 drop_top1_lo drop_top1_hi
            cells "$work/train-$ratio" "$file" %d n
            cells "$work/train-$ratio" "$file" %.2f agreement
            cells "$work/train-$ratio" "$file" %.4f logit_rel_mse
        else
            printf ',,,,,,,,,,'
        fi
        echo
    done
done
