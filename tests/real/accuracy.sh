#!/usr/bin/env bash
# The counts that independent implementations get for real trained networks on real images, from ONNX and from
# safetensors: at most one image off where JPEG decoders differ, none on lossless images. The files are no part of the
# project: they are looked for in $ND_DATA, else in ../shared/data.
#   accuracy.sh path/to/nd [options of nd eval, such as --backend ref]
set -euo pipefail
nd=$(realpath "${1:?usage: accuracy.sh path/to/nd [options]}")
shift
cd "$(dirname "$0")/../.."
data=${ND_DATA:-../shared/data}
if [ ! -d "$data/models" ]; then
    echo "skipped: no real networks in $data; set ND_DATA"
    exit 77
fi
failed=0

# expect TOP1 TOP5 TOLERANCE MODEL DATASET PREPROCESS BATCH OPTIONS...
expect() {
    local top1=$1 top5=$2 tolerance=$3 model=$4 dataset=$5 recipe=$6 batch=$7
    shift 7
    local row got1 got5
    row=$("$nd" eval "$model" --data "$dataset" --preprocess "$recipe" --batch "$batch" --json - "$@") || {
        echo "WRONG: ${model##*/}: nd ended with $?"
        failed=1
        return
    }
    got1=$(sed -n 's/.*"top1_correct": *\([0-9]*\).*/\1/p' <<<"$row")
    got5=$(sed -n 's/.*"top5_correct": *\([0-9]*\).*/\1/p' <<<"$row")
    local off1=$((got1 - top1)) off5=$((got5 - top5)) verdict=ok
    if [ "${off1#-}" -gt "$tolerance" ] || [ "${off5#-}" -gt "$tolerance" ]; then
        verdict=WRONG
        failed=1
    fi
    echo "$verdict: ${model##*/}: $got1 / $got5, expected $top1 / $top5"
}

models=$data/models
cifar=cifar10:$data/cifar10-bin
imagenet=list:$data/imagenet-val/list.txt
for net in 20:915:998 56:926:998; do
    IFS=: read -r depth top1 top5 <<<"$net"
    expect "$top1" "$top5" 0 "$models/resnet$depth-cifar10.onnx" "$cifar" cifar10 50 "$@"
    expect "$top1" "$top5" 0 "resnet$depth:$models/resnet$depth-cifar10.safetensors" "$cifar" cifar10 50 "$@"
done
expect 629 809 1 "$models/tiny-darknet-imagenet.onnx" "$imagenet" crop=224,scale=1/255 10 "$@"
expect 647 813 1 "$models/squeezenet11-imagenet.onnx" "$imagenet" crop=227,order=bgr,mean=104:117:123 10 "$@"
exit $failed
