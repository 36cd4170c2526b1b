#!/usr/bin/env bash
# Networks in 8 bits, by nd and by onnxruntime's quantize_static on the same calibration images: a Markdown table of counts.
#   results/int8.sh BUILD [NET...] > results/int8.md       NET: resnet20 resnet56 tiny-darknet squeezenet11 vgg16, under ND_DATA
# RATIOS (1 2 3) of MACs, 1 is the dense network. ND_PEERS_PYTHON: an interpreter with tests/peers/requirements_speed.txt;
# without it onnxruntime's column is empty. THREADS (1).
set -euo pipefail
here=$(realpath "$(dirname "$0")")
nd=$(realpath "${1:?build folder}")/nd
shift
data=${ND_DATA:-$here/../../shared/data}
read -ra ratios <<<"${RATIOS:-1 2 3}"
[ $# -gt 0 ] || set -- resnet20 resnet56 tiny-darknet squeezenet11 vgg16
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# net NAME: model, test and calib images, recipe and calib_prepared (how they are prepared), count (calibration images)
net() {
    count=256
    case $1 in
    resnet20 | resnet56)
        model=$data/models/$1-cifar10.onnx
        test=cifar10:$data/cifar10-bin/test_batch.bin calib=cifar10:$data/cifar10-bin/data_batch_1.bin
        recipe=scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225 calib_prepared=$recipe ;;
    tiny-darknet)
        model=$data/models/tiny-darknet-imagenet.onnx
        test=list:$data/imagenet-val/list.txt calib=list:$data/imagenet-calib/list.txt
        recipe=resize=256,crop=224,scale=1/255 calib_prepared=$recipe ;;
    squeezenet11)
        model=$data/models/squeezenet11-imagenet.onnx
        test=list:$data/imagenet-val/list.txt calib=list:$data/imagenet-calib/list.txt
        recipe=crop=227,order=bgr,mean=104:117:123 calib_prepared=resize=256,crop=227,order=bgr,mean=104:117:123 ;;
    vgg16)
        model=$data/imagenet-vgg16/vgg16-imagenette.onnx
        test=list:$data/imagenet-vgg16/list.txt calib=list:$data/imagenet-vgg16/calib.txt
        recipe=crop=160,order=bgr,mean=103.939:116.779:123.68 calib_prepared=$recipe count=64 ;;
    *) echo "no network $1" >&2; exit 2 ;;
    esac
    calibration=(--calib "$calib" --calib-images "$count" --calib-preprocess "$calib_prepared" --threads "${THREADS:-1}" -q)
}

# field ROWS MODEL NAME: of a model's row
field() {
    grep -F "\"model\":\"$(basename "$2")\"" "$1" | sed -n "s/.*\"$3\":\([-0-9.e+]*\).*/\1/p"
}

# drop ROWS MODEL: in points, with its interval
drop() {
    printf '%.2f [%.2f, %.2f]' "$(field "$1" "$2" drop_top1)" "$(field "$1" "$2" drop_top1_lo)" "$(field "$1" "$2" drop_top1_hi)"
}

echo "| network | MACs | images | fp32 | int8 | drop, 95 % | agreement | onnxruntime int8 | drop, 95 % |"
echo "|---|---|---|---|---|---|---|---|---|"
for name; do
    net "$name"
    for ratio in "${ratios[@]}"; do
        real=$model int8=$scratch/$name-$ratio-int8.onnx peer=$scratch/$name-$ratio-peer.onnx rows=$scratch/$name-$ratio.jsonl
        if [ "$ratio" != 1 ]; then
            real=$scratch/$name-$ratio.onnx
            "$nd" decouple "$model" -o "$real" --method dwpw --quick --macs-ratio "$ratio" --conv-only "${calibration[@]}" >/dev/null
        fi
        "$nd" quantize "$real" -o "$int8" "${calibration[@]}" >/dev/null
        files=("$int8")
        if [ -n "${ND_PEERS_PYTHON:-}" ]; then
            "$ND_PEERS_PYTHON" "$here/../tests/peers/quantize_static.py" "$real" "$peer" "$calib" "$calib_prepared" "$count" >&2
            files+=("$peer")
        fi
        "$nd" eval "${files[@]}" --original "$real" --data "$test" --preprocess "$recipe" --threads "${THREADS:-1}" -q --json "$rows" >/dev/null
        line="| $name | ${ratio}x | $(field "$rows" "$int8" n) | $(field "$rows" "$real" top1_correct)"
        for file in "${files[@]}"; do
            line+=" | $(field "$rows" "$file" top1_correct) | $(drop "$rows" "$file")"
            [ "$file" != "$int8" ] || line+=" | $(printf %.1f "$(field "$rows" "$file" agreement)")"
        done
        [ ${#files[@]} -gt 1 ] || line+=" | | "
        echo "$line |"
    done
done
