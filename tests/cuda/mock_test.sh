#!/bin/sh
# The CUDA plugin over the mock of tests/cuda/mock: mock_test.sh BUILD
# Every error has its reason and its exit code, everything is given back, streams and captured graphs are in order, and
# whole networks come out as on ref.
set -eu
build=$1
nd=$build/nd
[ -f "$build/mock/libnd_cuda.so" ] || { echo "skipped: the mock was not built"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME="$work/cache" OMP_WAIT_POLICY=passive
unset ND_CUDA_SEPARABLE ND_CUDA_SVD || true
failed=0 done=0

# expect CODE TEXT MOCK COMMAND...: exit code, and words of the output
expect() {
    code=$1 text=$2 mock=$3
    shift 3
    done=$((done + 1))
    got=0
    ND_PLUGINS=$build/mock ND_MOCK_GPU=$mock timeout 300 "$@" > "$work/out" 2>&1 || got=$?
    if [ "$got" -ne "$code" ] || ! grep -q -e "$text" "$work/out"; then
        echo "FAIL [$mock] $*: exit $got, not $code, or no \"$text\" in:"
        tail -n 5 "$work/out"
        failed=1
    fi
}
glyphs="--data glyphs --limit 4 --batch 4"
one="--data glyphs --limit 1 --batch 1"

# --- nd devices on a new machine: setting of the mock, then a line that must be there as a whole
while IFS='|' read -r mock line; do
    expect 0 "^$(echo "$line" | sed 's/  */  */g')\$" "$mock" "$nd" devices --backend cuda
done << 'END'
driver=0|cuda - none - no no NVIDIA driver is loaded
driver=12040|cuda - none - no the NVIDIA driver serves CUDA 12.4, this plugin needs 1[0-9.]*: update the driver
devices=0|cuda - none - no the driver sees no GPU
fail=cudaGetDeviceCount:0|cuda - none - no initialization error (cudaErrorInitializationError)
order=0|cuda 0 Mock GPU, sm_90 1.0 yes CUDA [0-9.]*, cuDNN 9.20.0, cuBLAS [0-9.]*, cuSOLVER [0-9.]*; driver unknown (no NVML), CUDA 13.0
devices=2|cuda 1 Mock GPU, sm_90 1.0 yes CUDA .*
cudnn=90700|cuda 0 Mock GPU, sm_90 1.0 no cuDNN 9.7 is too old: 9.8 or a later 9 is needed
capability=75|cuda 0 Mock GPU, sm_75 1.0 no Mock GPU is sm_75; this plugin has kernels for sm_80 and later
mib=3|cuda 0 Mock GPU, sm_90 0.0 no the device has no room for 4.0 MiB: 3.0 of 3.0 MiB are free
fail=launch:0|cuda 0 Mock GPU, sm_90 1.0 no CUDA: invalid configuration argument .*
lost=1|cuda 0 Mock GPU, sm_90 1.0 no CUDA: unspecified launch failure (cudaErrorLaunchFailure) at .*
END
expect 0 'no  *CUDA_VISIBLE_DEVICES="" leaves no GPU$' devices=0 env CUDA_VISIBLE_DEVICES= "$nd" devices
expect 0 '"why":"cuDNN 9.7 is too old' cudnn=90700 "$nd" devices --json -

# --- what is wrong with the machine, in words; with auto the work is done elsewhere, and said where a device is there
expect 0 'update the driver; running on' driver=12040 "$nd" eval glyphs $glyphs
expect 4 'the NVIDIA driver serves CUDA 12.4' driver=12040 "$nd" eval glyphs $glyphs --backend cuda
expect 4 'no NVIDIA driver is loaded' driver=0 "$nd" check --backend cuda
expect 4 'sees no GPU' devices=0 "$nd" bench glyphs --backend cuda
expect 4 'there is no number 3' devices=2 "$nd" eval glyphs $glyphs --backend cuda --device 3
expect 4 'cuDNN 9.7 is too old' cudnn=90700 "$nd" eval glyphs $glyphs --backend cuda
expect 0 'too old.*running on' cudnn=90700 "$nd" eval glyphs $glyphs
expect 4 'sm_75; this plugin has kernels for sm_80' capability=75 "$nd" decouple glyphs --backend cuda -o "$work/a.onnx"
expect 0 'sm_75.*running on' capability=75 "$nd" eval glyphs $glyphs
expect 0 'top-1' devices=0 "$nd" eval glyphs $glyphs
expect 6 'no room for' mib=0 "$nd" eval glyphs $glyphs --backend cuda
expect 4 'invalid configuration' fail=launch:0 "$nd" eval glyphs $glyphs --backend cuda
expect 0 'invalid configuration.*running on' fail=launch:0 "$nd" eval glyphs $glyphs
expect 0 'no room for.*running on' mib=0 "$nd" eval glyphs $glyphs
expect 0 'cpu\|ref' driver=0 "$nd" eval glyphs $glyphs
expect 4 'cuBLAS' fail=cublasCreate_v2:0 "$nd" eval glyphs $glyphs --backend cuda
expect 0 'running on' fail=cusolverDnCreate:0 "$nd" eval glyphs $glyphs

# --- what goes wrong later: auto goes on elsewhere as long as nothing is finished, and keeps what is
quick="--sessions 1 --time-limit 0.01 --no-layers --rank 2"
for when in lost=2 lost=3 mib=5; do
    code=4
    [ $when = mib=5 ] && code=6
    expect $code 'unspecified launch failure\|no room for' $when "$nd" eval glyphs $glyphs --backend cuda
    expect 0 'going on without cuda' $when "$nd" eval glyphs $glyphs
    expect 0 '"top1_correct":4,.*"backend":"cpu"\|"backend":"cpu".*"top1_correct":4,' $when "$nd" eval glyphs $glyphs --json -
    expect 0 'going on without cuda' $when "$nd" bench glyphs $quick
    expect 0 'going on without cuda' $when "$nd" sweep glyphs --rank 2 $glyphs
done
expect 0 'going on without cuda' lost=9 "$nd" decouple glyphs --rank 2 -o "$work/a.onnx"
expect 4 'unspecified launch failure' lost=9 "$nd" decouple glyphs --rank 2 -o "$work/a.onnx" --backend cuda
expect 0 'going on without cuda' lost=9 "$nd" inspect glyphs
expect 0 'going on without cuda' lost=9 "$nd" inspect glyphs --csv -
[ "$(grep -c '^schema,' "$work/out")" = 1 ] || { echo "FAIL: not one header"; failed=1; }
[ "$(grep -c ',cpu,' "$work/out")" = 12 ] || { echo "FAIL: not one row a layer and form"; failed=1; }
expect 4 'unspecified launch failure' lost=900 "$nd" sweep glyphs --rank 2,3 $glyphs --json "$work/rows.json"
[ "$(grep -c '"backend":"cuda"' "$work/rows.json")" = 2 ] || { echo "FAIL: rows that were finished are lost"; failed=1; }
expect 4 'uniform  rank .* cuda' lost=900 "$nd" sweep glyphs --rank 2,3 $glyphs

# --- what a timing depends on, by NVML; without it that is said
expect 0 '; driver 580.00, CUDA 13.0$' order=0 env LD_LIBRARY_PATH="$build/mock" "$nd" devices

# --- by which algorithms separable layers may run
expect 2 'ND_CUDA_SEPARABLE=fused,fast' order=0 env ND_CUDA_SEPARABLE=fused,fast "$nd" check --backend cuda --op 'separable/t3*'
expect 2 'ND_CUDA_SEPARABLE=fused,' order=0 env ND_CUDA_SEPARABLE=fused, "$nd" check --backend cuda --op 'separable/t3*'
expect 0 'separable' order=0 env ND_CUDA_SEPARABLE=chunked,dense "$nd" check --backend cuda --op 'separable/t3*'

# --- the operations, in every order that the dependencies allow
for order in 0 1 2; do
    expect 0 'separable' order=$order "$nd" check --backend cuda
done
for dtype in tf32 fp16 bf16; do
    for algorithm in dense chunked fused wgmma; do
        expect 0 'separable' order=1 env ND_CUDA_SEPARABLE=$algorithm "$nd" check --backend cuda --dtype $dtype --op 'separable/*'
    done
    expect 0 'conv' order=2 "$nd" check --backend cuda --dtype $dtype
done
expect 0 'separable  *[0-9]*  *0 ' order=2 "$nd" check --backend cuda --dtype int8
# Of convolutions and products in int8 cuDNN sums, or has nothing to offer and a plain kernel does; in e4m3 it sums what is
# left unsupported without it. Where L2 is small, in slices.
for operation in conv gemm; do
    for settings in order=1,engines=7 order=2,engines=0 order=1,l2kib=8; do
        expect 0 "$operation  *[1-9][0-9]*  *0 " $settings "$nd" check --backend cuda --dtype int8 --op "$operation/*"
    done
    for settings in order=1 order=2,l2kib=8; do
        expect 0 "$operation  *[1-9][0-9]*  *0 " $settings "$nd" check --backend cuda --dtype e4m3 --op "$operation/*"
    done
    for settings in engines=3 capability=80; do
        expect 1 "$operation  *0  *0  *[1-9]" $settings "$nd" check --backend cuda --dtype e4m3 --op "$operation/*"
    done
    for dtype in int8 e4m3; do
        expect 1 "$operation  *[1-9][0-9]*  *[1-9]" wrong=eng11:tap "$nd" check --backend cuda --dtype $dtype --op "$operation/*"
    done
done
for algorithm in fused chunked wgmma; do
    expect 0 'separable  *[1-9][0-9]*  *0 ' order=1 env ND_CUDA_SEPARABLE=$algorithm "$nd" check --backend cuda --dtype int8 --op 'separable/*'
done
# Of e4m3 the pairs that the kernel of sm_90a takes, and what moves it.
expect 0 'separable  *[1-9][0-9]*  *0 ' order=1 "$nd" check --backend cuda --dtype e4m3 --op 'separable/*'
expect 0 'quantize  *[1-9][0-9]*  *0 ' order=2 "$nd" check --backend cuda --dtype e4m3 --op quantize
# What is moved goes through a block of 4 MiB, however much it is: these rows are 4 MiB in fp16, and would be 8 in fp32.
expect 0 'transfer .* 1  *0 ' mib=9 "$nd" check --backend cuda --dtype fp16 --op transfer/large_row
# cuDNN offers nothing for fused graphs, or nothing at all
expect 0 'conv' engines=1 "$nd" check --backend cuda --op 'conv/*'
expect 0 'conv' engines=0 "$nd" check --backend cuda --op 'conv/*'
expect 0 'gemm' gemms=0 "$nd" check --backend cuda --op 'gemm/*'
# Pedantic fp32 without epilogues: ordinary fp32 in its place, by an algorithm that says it is strict (the others are wrong).
expect 0 'gemm' pedantic=0 "$nd" check --backend cuda --op 'gemm/*'
expect 0 'gemm' pedantic=0 "$nd" check --backend cuda --op 'gemm/*' --dtype fp16
expect 0 'separable' gemms=0 env ND_CUDA_SEPARABLE=auto "$nd" check --backend cuda --op 'separable/*'
for algorithm in gram gesvda; do
    expect 0 'svd' order=0 env ND_CUDA_SVD=$algorithm "$nd" check --backend cuda --op 'svd/*'
done

# --- whole networks: the same answers as on ref, in one captured graph, in parts where memory is short
reference=$("$nd" eval glyphs --data glyphs --limit 24 --batch 24 --backend ref --json - | sed 's/.*"top1_correct":\([0-9]*\).*/\1/')
for dtype in fp32 tf32 fp16 bf16; do
    expect 0 "\"top1_correct\":$reference" order=1 "$nd" eval glyphs --data glyphs --limit 24 --batch 24 --backend cuda --dtype $dtype --json -
done
expect 0 'running in parts' mib=8 "$nd" eval glyphs --data glyphs --limit 24 --batch 24 --backend cuda
expect 0 "\"top1_correct\":$reference" mib=8 "$nd" eval glyphs --data glyphs --limit 24 --batch 24 --backend cuda --json -
expect 0 'call cudaGraphLaunch 3$' order=2,count=1 "$nd" eval glyphs --data glyphs --limit 12 --batch 4 --backend cuda
expect 0 'kernel by kernel' fail=cudaGraphInstantiate:0 "$nd" eval glyphs $glyphs --backend cuda -v
"$nd" decouple glyphs --rank 2 --backend ref -o "$work/ref.onnx" > /dev/null 2>&1
expect 0 'error is' order=1 "$nd" decouple glyphs --rank 2 --backend cuda -o "$work/cuda.onnx"
expect 0 'drop' order=0 "$nd" eval "$work/cuda.onnx" --original "$work/ref.onnx" $glyphs --backend cuda

# --- networks and their kernels timed: events within the captured graph, or between kernels where there is none
bench="--no-layers --nodes --backend cuda --rank 2 --impl dense --time-limit 0.05 --sessions 1"
expect 0 'call cudaEventRecordWithFlags 13$' order=1,count=1 "$nd" bench glyphs $bench
expect 0 'all kernels  *sum' fail=cudaGraphInstantiate:2 "$nd" bench glyphs $bench
expect 0 'nd:separable:mma_n128' order=1 "$nd" bench glyphs --no-layers --nodes --backend cuda --rank 2 --impl fused --dtype int8 \
    --time-limit 0.05 --sessions 1

# --- 8 bits: cuDNN's engines where it has them, in e4m3 else fp32's between conversions
bench8="--no-layers --nodes --backend cuda --rank 2 --impl dense --time-limit 0.05 --sessions 1"
for type in s8 e4m3; do
    dtype=$(echo $type | sed s/^s/int/)
    expect 0 "gemm .* cudnn:eng11,k2=2, $type, [1-9]" order=1 "$nd" bench glyphs $bench8 --dtype $dtype
    [ "$(grep -c "conv .* cudnn:eng11,k2=2, $type, " "$work/out")" = 6 ] || { echo "FAIL [$dtype]: not six convolutions"; failed=1; }
done
expect 0 'conv .* cudnn:eng12,k2=2$' engines=3 "$nd" bench glyphs $bench8 --dtype e4m3
grep -q 'k2=2, e4m3, ' "$work/out" && { echo "FAIL: an engine that is not offered"; failed=1; }
"$nd" quantize glyphs --quantize e4m3 --calib glyphs:calib --calib-images 16 --backend ref -o "$work/e4m3.onnx" > /dev/null 2>&1
for settings in order=2 order=1,l2kib=8 engines=3 engines=0 capability=80; do
    expect 0 '"top1_correct":24,' $settings "$nd" eval "$work/e4m3.onnx" --data glyphs --limit 24 --batch 24 --backend cuda --json -
done

# --- tuning measures, keeps the winner, names it, and takes it from the cache; nobody is blamed for rounding
blamed() { grep -E 'is wrong|no room' "$work/out" && { echo "FAIL: said of what is right"; failed=1; } || true; }
expect 0 'top-1' order=0 "$nd" eval glyphs $one --backend cuda --tune
blamed
expect 0 'top-1' order=1 "$nd" eval "$work/cuda.onnx" $one --backend cuda --tune --dtype fp16
blamed
# Engine 13 looks best when it is timed alone, and 11 multiplies on tensor cores: the ones to find are 12 in fp32, 11 in fp16.
engines() { cut -d' ' -f2 "$work/cache/nd/autotuned.txt" | grep '^eng' | sort | uniq -c | awk '{ printf "%s*%s ", $1, $2 }'; }
[ "$(engines)" = '6*eng11,k2=2 6*eng12,k2=2 ' ] || { echo "FAIL: cached engines: $(engines)"; failed=1; }
lines=$(wc -l < "$work/cache/nd/autotuned.txt")
expect 0 'top-1' order=0 "$nd" eval glyphs $one --backend cuda --tune
[ "$(wc -l < "$work/cache/nd/autotuned.txt")" = "$lines" ] || { echo "FAIL: a cached engine was measured again"; failed=1; }
expect 0 '"layout":"N[HC]' order=2 "$nd" bench glyphs $bench --tune --json -
for dtype in tf32 bf16; do
    expect 0 'top-1' order=2,capability=80 "$nd" eval "$work/cuda.onnx" $one --backend cuda --tune --dtype $dtype
    blamed
done

# --- what is timed is checked: what is wrong may be the fastest, is named, and is not taken
said() { grep -q "$1 is wrong, ${2:-}" "$work/out" || { echo "FAIL [$dtype]: not said of $1"; failed=1; }; }
for dtype in fp32 tf32 fp16 bf16; do
    rm -rf "$work/cache"
    faults=eng11:nan+eng13:epilogue+eng0:tap+gemm11:bias+fused:bias+wgmma:bias
    [ $dtype != fp32 ] || faults=eng13:tap+eng0:hole+gemm11:bias+fused:bias
    expect 0 'conv 32x16x16 to 64x16x16, 3x3, batch 1, .*eng13,k2=2 is wrong, by [0-9.e+]* times' wrong=$faults \
        "$nd" eval "$work/cuda.onnx" $one --backend cuda --tune --dtype $dtype
    said 'conv 32x16x16 to 64x16x16, 3x3, batch 1, .*cudnn:legacy_winograd_nonfused+epilogue'
    said 'gemm 128x1x1 to 62x1x1, 1x1, batch 1, .*cublasLt:algo11_.*' by
    said 'separable 64x8x8 to 128x8x8, 3x3, batch 1, .*nd:separable:mma_n64,.*' by
    [ $dtype = fp32 ] || said 'eng11,k2=2' 'with elements that are NaN'
    [ $dtype = fp32 ] || said 'nd:separable:wgmma_n128,.*' by
    [ "$(engines)" = '6*eng12,k2=2 ' ] || { echo "FAIL [$dtype]: cached engines: $(engines)"; failed=1; }
done
"$nd" decouple glyphs --rank 4 --backend ref -o "$work/four.onnx" > /dev/null 2>&1
four=$("$nd" eval "$work/four.onnx" $glyphs --backend ref --json - | sed 's/.*"top1_correct":\([0-9]*\).*/\1/')
# What comes out is right: without the fused kernel, and by our direct kernel where all of cuDNN is wrong.
expect 0 "\"top1_correct\":$four" wrong=fused:bias "$nd" eval "$work/four.onnx" $glyphs --backend cuda --tune --json -
expect 0 '"top1_correct":[0-9]*' wrong=fused:bias env ND_CUDA_SEPARABLE=fused "$nd" eval "$work/four.onnx" $glyphs --backend cuda --json -
grep -q "\"top1_correct\":$four," "$work/out" && { echo "FAIL: the fused kernel without bias is not noticed"; failed=1; }
expect 4 'implementations of this separable layer are wrong' wrong=fused:bias env ND_CUDA_SEPARABLE=fused "$nd" eval "$work/four.onnx" $one --backend cuda --tune
rm -rf "$work/cache"
expect 0 '"top1_correct":4,' wrong=cudnn:tap "$nd" eval glyphs $glyphs --backend cuda --tune --json -
grep -q ' eng' "$work/cache/nd/autotuned.txt" 2>/dev/null && { echo "FAIL: a wrong engine was cached"; failed=1; }
# Pairs in int8 must equal the plain kernel, also where what is left out of y is what y was full of.
"$nd" decouple glyphs --rank 4 --quantize int8 --calib glyphs --calib-images 16 --backend ref -o "$work/int8.onnx" > /dev/null 2>&1
pairs() { cut -d' ' -f2 "$work/cache/nd/autotuned.txt" | grep -E '^(fused|wgmma|plain)' | sort | uniq -c | awk '{ printf "%s*%s ", $1, $2 }'; }
# tuned MOCK KEPT [WRONG]: measured anew, what is then kept, and who is said to be wrong
tuned() {
    rm -rf "$work/cache"
    expect 0 '"top1_correct":1,' "order=1,$1" "$nd" eval "$work/int8.onnx" $one --backend cuda --tune --json -
    [ "$(pairs)" = "$2" ] || { echo "FAIL [$1]: kept of int8: $(pairs)"; failed=1; }
    [ $# -lt 3 ] || grep -q "separable 128x8x8 to 128x8x8, 3x3, batch 1, int8: nd:separable:$3,.* is wrong, by" "$work/out" ||
        { echo "FAIL [$1]: not said of $3"; failed=1; }
}
tuned slow=0 '4*fused_128 1*wgmma '
blamed
tuned wrong=fused:bias+wgmma:bias '5*plain ' mma_n128
tuned slow=fused,wrong=wgmma:largest '5*plain ' wgmma_n128
expect 1 'implementations of this separable layer are wrong' wrong=wgmma:bias env ND_CUDA_SEPARABLE=wgmma \
    "$nd" check --backend cuda --dtype int8 --op 'separable/t2/*' --tune
expect 0 'separable  *[1-9][0-9]*  *0 ' order=2 "$nd" check --backend cuda --dtype int8 --op 'separable/t3*' --tune
blamed
tuned slow=fused '2*plain 3*wgmma '
blamed
# The next process takes what was kept, though the fused kernel would be the fastest there.
expect 0 'nd:separable:wgmma_n128' order=1 "$nd" bench "$work/int8.onnx" --original "$work/int8.onnx" --no-layers --nodes \
    --backend cuda --impl fused --tune --time-limit 0.05 --sessions 1
grep -q fused "$work/cache/nd/autotuned.txt" && { echo "FAIL: a choice that was kept was measured again"; failed=1; }
# Without room for the reference they are timed alone, and not kept.
expect 0 'no room to check what is timed' mib=7 "$nd" eval glyphs $one --backend cuda --tune

# --- each function fails in its turn: an error or another implementation, never a crash, a leak (86) or a wrong result
ND_PLUGINS=$build/mock ND_MOCK_GPU=count=1 "$nd" eval glyphs $glyphs --backend cuda 2>&1 |
    awk '/mock gpu: call/ { print $4, $5 }' > "$work/calls"
[ "$(wc -l < "$work/calls")" -ge 25 ] || { echo "FAIL: few calls were counted"; failed=1; }
while read -r function calls; do
    for run in "cuda 1" "auto $(((calls + 1) / 2))" "cuda $calls"; do
        backend=${run% *} at=${run#* }
        done=$((done + 1))
        code=0
        ND_PLUGINS=$build/mock ND_MOCK_GPU=fail=$function:$at timeout 300 "$nd" eval glyphs $glyphs --backend "$backend" \
            --json - > "$work/out" 2> "$work/errors" < /dev/null || code=$?
        # The code follows from the reason that is given: memory that ran out has one of its own.
        reason=4
        grep -q '^nd: .*\(out of memory\|no room for\|allocation failed\)' "$work/errors" && reason=6
        [ $code -eq $reason ] && [ "$backend" = cuda ] && grep -q '^nd: ' "$work/errors" && continue
        [ $code -eq 0 ] && grep -q '"top1_correct":4,' "$work/out" && continue
        echo "FAIL: call $at of $function fails: exit $code"
        tail -n 3 "$work/errors"
        failed=1
    done
done < "$work/calls"

echo "$done runs"
exit $failed
