# A plugin that is there but cannot be used: nd devices and every verb say which and why, with 4 where it was asked for;
# with auto the work is done elsewhere, and that is said.
exec 2>&1
broken=$(dirname "$(command -v nd)")/broken
mkdir junk
printf '%100s' 'this is no library' > junk/libnd_cuda.so
plain() { sed -e "s,$broken,BROKEN,g" -e "s,$PWD,HERE,g" -e 's/interface [0-9]*, this nd has [0-9]*/interface N, this nd has M/'; }
try() {
    nd "$@" --backend cuda > log 2>&1
    echo "$1: exit $?, said $(grep -c '^nd: .*backend cuda: .*libnd_cuda.so' log)"
}
for folder in junk "$broken/abi" "$broken/entry" "$broken/needs"; do
    export ND_PLUGINS=$(realpath "$folder")
    echo "--- $(basename "$folder")"
    nd devices --backend cuda | sed '/^$/,$d' | plain
    try eval glyphs --data glyphs --limit 1
    try decouple glyphs --rank 2 -o out.onnx
    try bench glyphs
    try sweep glyphs --rank 2 --limit 1
    try inspect glyphs --quiet
    try check
    nd eval glyphs --data glyphs --limit 1 --batch 1 --json rows > log 2>&1
    echo "auto: exit $?, $(grep -o '"top1_correct":[0-9]*' rows)"
    grep '^nd: .*backend cuda' log | plain | sed 's/running on .*/running on .../'
done
