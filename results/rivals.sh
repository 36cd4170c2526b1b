#!/usr/bin/env bash
# Every method at the same budgets, on the same images, with the same refit: one CSV row each.
#   results/rivals.sh BUILD > results/golden/rivals_resnet20.csv
# NET (resnet20), METHODS, RATIOS of total MACs and EXTRA options may be set. Needs ND_DATA.
# agreement and logit_rel_mse are on training images that were not calibrated on; top1 is on the 1000 test images.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
build=$(realpath "${1:?build folder}")
data=${ND_DATA:-$here/../../shared/data}
net=${NET:-resnet20}
model=$net:$data/models/$net-cifar10.safetensors
train=cifar10:$data/cifar10-bin/data_batch_1.bin test=cifar10:$data/cifar10-bin/test_batch.bin
[ -e "$data/models/$net-cifar10.safetensors" ] || { echo "no $net under ND_DATA" >&2; exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

field() { sed -n "\$s/.*\"$1\":\([-0-9.e]*\).*/\1/p" "$2"; }

echo "model,method,settings,total_macs_ratio,n,top1_correct,drop_top1,drop_top1_lo,drop_top1_hi,n_train,agreement,logit_rel_mse"
for ratio in ${RATIOS:-2 2.5 3 4}; do
    for method in ${METHODS:-dwpw pwdw spatial channel spatial+dwpw channel+dwpw channel+pwdw dwpw,pwdw,spatial,channel}; do
        # shellcheck disable=SC2086
        "$build/nd" decouple "$model" --method "$method" --macs-ratio "$ratio" --calib "$train" --calib-images 256 \
            ${EXTRA:-} -o "$scratch/m.onnx" --json - -q >"$scratch/rows"
        "$build/nd" eval "$scratch/m.onnx" --original "$model" --data "$test" --json "$scratch/test" -q >/dev/null
        "$build/nd" eval "$scratch/m.onnx" --original "$model" --data "$train" --first 256 --limit 1744 \
            --json "$scratch/train" -q >/dev/null
        echo "$net,$(tr , ' ' <<<"$method"),${EXTRA:-curves},$(field total_macs_ratio "$scratch/rows"),$(field n "$scratch/test"),$(field top1_correct "$scratch/test"),$(field drop_top1 "$scratch/test"),$(field drop_top1_lo "$scratch/test"),$(field drop_top1_hi "$scratch/test"),$(field n "$scratch/train"),$(field agreement "$scratch/train"),$(field logit_rel_mse "$scratch/train")"
    done
done
