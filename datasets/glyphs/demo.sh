#!/usr/bin/env bash
# The main job on the bundled network: decouple it at several ranks, in both forms with weights alone and then with the
# bundled unlabelled images, and show what each saves and costs on the bundled test images.
#   demo.sh path/to/nd
set -euo pipefail
nd=${1:?usage: demo.sh path/to/nd}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nd=$(realpath "$nd")
cd "$work"
models=()
for method in dwpw pwdw; do
    for rank in 8 6 5 4 3 2; do
        "$nd" decouple glyphs --method "$method" --rank "$rank" -o "glyphs-$method-T$rank.onnx" --quiet >/dev/null
        models+=("glyphs-$method-T$rank.onnx")
    done
done
for rank in 4 3 2; do
    "$nd" decouple glyphs --method dwpw --rank "$rank" --calib glyphs -o "glyphs-calib-T$rank.onnx" --quiet >/dev/null
    models+=("glyphs-calib-T$rank.onnx")
done
echo "glyphs, every 3x3 convolution but the first as a sum of T depthwise separable ones, no training; calib: fitted to 256 images:"
"$nd" eval "${models[@]}" --original glyphs --data glyphs
