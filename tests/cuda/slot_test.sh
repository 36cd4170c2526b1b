#!/bin/sh
# cuda/tools/device.sh without a GPU: slot_test.sh BUILD
# Over a program that hangs, fails and is cut, what was measured is kept and everything is named; over the mock of
# tests/cuda/mock the real program runs the steps that are not too slow there.
set -eu
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "FAIL: $*"; failed=1; }
has() { grep -q -e "$2" "$1" || fail "no \"$2\" in $1: $(tail -n 5 "$1")"; }

# --- a program that hangs in fp32, fails in fp16, writes a row and is then told to end, and one that does not listen
mkdir -p "$work/fake/bin" "$work/fake/lib"
cp "$root/cuda/tools/device.sh" "$root/cuda/tools/summary.py" "$work/fake/"
cat > "$work/fake/bin/nd" <<'FAKE'
#!/bin/sh
case "$*" in devices) echo "cuda 0: Fake, sm_90"; exit 0 ;; esac
row=
for word in "$@"; do [ "$row" = next ] && row=$word; [ "$word" = --json ] && row=next; done
svd='{"backend":"cuda","model":"vgg16","layer":"features.19","operation":"svd","form":"dwpw","tuned":true,"ns_median":'
stack='{"backend":"cuda","model":"vgg16","layer":"conv stack","implementation":"best","batch":32,"cold":true,"tuned":true,"rank":2,'
quant='{"backend":"cuda","model":"vgg16","dtype":"int8","batch":32,"rank":3,"operation":"separable","layer":'
case "$*" in
*check*fp32*) trap 'exit 0' TERM; sleep 100 & wait ;;
*check*fp16*) echo "it differs"; exit 1 ;;
*--svd*) printf '%s9e5}\n%s2e5}\n' "$svd" "$svd" > "$row" ;;
*vgg16*int8*) printf '%s"a","ns_median":1500}\n%s"b","ns_median":2000}\n' "$quant" "$quant" > "$row" ;;
*vgg16*fp16*) printf '%s"dtype":"fp16","ratio":1.7,"ratio_lo":1.6,"ratio_hi":1.8}\n{"cut' "$stack" > "$row"; exec sleep 100 ;;
esac
FAKE
chmod +x "$work/fake/bin/nd"
code=0
ND_SECONDS=40 ND_STEP_SECONDS=2 ND_STEPS="check svd int8 layers paint depthwise" PATH="$work/fake:$PATH" \
    "$work/fake/device.sh" "$work/fake" "$work/out" > "$work/said" 2>&1 || code=$?
[ $code -eq 1 ] || fail "exit $code where steps failed"
has "$work/said" 'check fp32: cut at [0-9]* s'
has "$work/said" 'check fp16: exit 1'
has "$work/said" 'layers vgg16 fp16: cut at'
has "$work/said" 'paint: unknown'
grep -q 'check tf32:' "$work/said" && fail "a step that passed is named"
has "$work/out/log.txt" 'it differs'
has "$work/out/summary.txt" '^met .*0.200 SVD of 512 slices'
has "$work/out/summary.txt" '^MISSED .*1.700 VGG16 convolutions, fp16, T=2.*\[1.60, 1.80\]'
has "$work/out/summary.txt" '^no row .*SVDs of all'
has "$work/out/summary.txt" '^vgg16 int8 batch 32 T=3: 2 separable layers take 3.5 us'
[ "$(grep -c '"dtype":"fp16"' "$work/out/rows.jsonl")" = 1 ] || fail "the row of a step that was cut is lost"
[ "$(wc -l < "$work/said")" -le 60 ] || fail "a summary of more than 60 lines"
has "$work/said" 'Fake, sm_90'
cmp -s "$work/said" "$work/out/summary.txt" || fail "what was printed is not the summary"
[ ! -e "$work/out/step.jsonl" ] || fail "step.jsonl is left"
[ "$(find "$work/out" -type f | wc -l)" -le 6 ] || fail "more than six files"
code=0
ND_SECONDS=3 ND_STEPS=check "$work/fake/device.sh" "$work/fake" "$work/late" > "$work/said" 2>&1 || code=$?
[ $code -eq 1 ] || fail "exit $code without time"
has "$work/said" ': no time'

# --- the real program over the mock
if [ -f "$build/mock/libnd_cuda.so" ]; then
    "$root/cuda/tools/bundle.sh" "$build" "$work/nd.tar.gz" > "$work/said" || fail "no bundle: $(cat "$work/said")"
    code=0
    ND_PLUGINS=$build/mock LD_LIBRARY_PATH=$build/mock ND_SECONDS=800 ND_STEP_SECONDS=600 ND_SUITE=cifar ND_DEPTHWISE=cifar ND_NETWORKS=glyphs ND_BATCH=1 \
        ND_SESSIONS=1 ND_BENCH="--time-limit 0.05 --impl dense" ND_STEPS="svd depthwise networks" \
        "$root/cuda/tools/device.sh" "$work/nd.tar.gz" "$work/mock" > "$work/said" 2>&1 || code=$?
    [ $code -eq 0 ] || fail "over the mock: exit $code: $(tail -n 30 "$work/said")"
    for field in '"operation":"svd"' '"layer":"conv stack"' '"model":"glyphs"' '"layout":"N' '"tuned":true' \
        '"gpu":"Mock GPU' '"driver":"580' '"workspace_bytes":' '"engine":"cudnn:' '"clocks":"before: SM' '"operation":"conv"'; do
        has "$work/mock/rows.jsonl" "$field"
    done
    [ -s "$work/mock/autotuned.txt" ] || fail "no autotuned.txt"
else
    echo "the mock was not built: the real program was not run"
fi
exit $failed
