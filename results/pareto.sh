#!/usr/bin/env bash
# Accuracy against measured time over fp32, bf16 and int8, dense and decoupled at 2x, 3x and 4x of the MACs, and VGG16 by the
# time of its layers in each precision as well: one sweep, one report.
#   results/pareto.sh BUILD [NET] > results/NET_pareto.svg     NET: resnet20 (default) or vgg16; ND_DATA, THREADS (1), IMAGES (1000)
# Wants a machine with nothing else on it. ROWS: a file that keeps the rows, by which a sweep that was stopped goes on.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
nd=$(realpath "${1:?build folder}")/nd
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
rows=$(realpath "${ROWS:-$scratch/rows.jsonl}")
cd "${ND_DATA:-$here/../../shared/data}"
case ${2:-resnet20} in
resnet20)
    model=models/resnet20-cifar10.onnx
    calib=(--calib cifar10:cifar10-bin/data_batch_1.bin)
    rules=(--macs-ratio 2,3,4)
    data=cifar10:cifar10-bin/test_batch.bin recipe=scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225 ;;
vgg16)
    model=imagenet-vgg16/vgg16-imagenette.onnx
    calib=(--calib list:imagenet-vgg16/calib.txt --calib-images 64)
    rules=(--macs-ratio 2,3,4 --latency-ratio 1.3,1.5,1.75)
    data=list:imagenet-vgg16/list.txt recipe=crop=160,order=bgr,mean=103.939:116.779:123.68 ;;
*) echo "no network $2" >&2; exit 2 ;;
esac
"$nd" sweep "$model" --method dwpw "${rules[@]}" --conv-only --quick --dtype fp32,bf16,int8 "${calib[@]}" \
    --data "$data" --limit "${IMAGES:-1000}" --preprocess "$recipe" --bench --threads "${THREADS:-1}" --backend cpu -q --json "$rows" >&2
"$nd" report "$rows" -o "$scratch/report.html" --plots "$scratch/plots" -q
cat "$scratch"/plots/top1-time-*.svg
