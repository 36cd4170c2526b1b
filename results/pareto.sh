#!/usr/bin/env bash
# Accuracy against measured time over fp32, bf16 and int8, dense and decoupled at 2x, 3x and 4x: one sweep, one report.
#   results/pareto.sh BUILD > results/resnet20_pareto.svg      ND_DATA, THREADS (1), IMAGES (1000)
# Wants a machine with nothing else on it.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
nd=$(realpath "${1:?build folder}")/nd
cd "${ND_DATA:-$here/../../shared/data}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$nd" sweep models/resnet20-cifar10.onnx --method dwpw --macs-ratio 2,3,4 --conv-only --quick --dtype fp32,bf16,int8 \
    --calib cifar10:cifar10-bin/data_batch_1.bin --data cifar10:cifar10-bin/test_batch.bin --limit "${IMAGES:-1000}" \
    --preprocess scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225 --bench --threads "${THREADS:-1}" --backend cpu -q \
    --json "$scratch/rows.jsonl" >&2
"$nd" report "$scratch/rows.jsonl" -o "$scratch/report.html" --plots "$scratch/plots" -q
cat "$scratch"/plots/top1-time-*.svg
