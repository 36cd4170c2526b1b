#!/usr/bin/env bash
# Options that would be ignored are refused with what they need, and what is wrong on the command line is told before
# anything is measured.
#   tests/hostile/options.sh BUILD
. "$(dirname "$0")/lib.sh"

out=(-o x.onnx)
for option in --light --quick --output-metric --relu-aware --match-scores '--ridge 1' '--calib-images 4' '--calib-preprocess glyphs'; do
    # shellcheck disable=SC2206 # words
    words=($option)
    ends 2 "${words[0]} does nothing without --calib DATASET" nd decouple glyphs --macs-ratio 2 "${words[@]}" "${out[@]}"
    ends 2 "${words[0]} does nothing without --calib DATASET" nd bench glyphs --no-layers --rank 2 "${words[@]}"
    ends 2 "${words[0]} does nothing without --calib DATASET" nd sweep glyphs --rank 2 "${words[@]}"
done
ends 2 '--ridge 0: must be from 1e-09 to' nd decouple glyphs --rank 2 --calib glyphs --ridge 0 "${out[@]}"
ends 2 '--calib-images does nothing without --calib DATASET' nd reproduce paper-table1 --calib-images 4
ends 2 '--quick does nothing without --macs-ratio R or --latency-ratio R or --max-drop POINTS' \
    nd decouple glyphs --rank 2 --calib glyphs --quick "${out[@]}"
ends 2 '--quick does nothing without --macs-ratio R$' nd bench glyphs --rank 2 --calib glyphs --quick
ends 2 '--conv-only does nothing without --macs-ratio R or --max-drop POINTS' nd decouple glyphs --rank 2 --conv-only "${out[@]}"
ends 2 '--conv-only does nothing without --macs-ratio R$' nd sweep glyphs --rank 2 --conv-only
for option in --confident '--top 5' '--data glyphs' '--limit 4' '--first 4'; do
    # shellcheck disable=SC2206
    words=($option)
    ends 2 "${words[0]} does nothing without --max-drop POINTS" nd decouple glyphs --rank 2 "${words[@]}" "${out[@]}"
done
for option in '--batch 4' '--time-limit 1' '--dtype bf16'; do
    # shellcheck disable=SC2206
    words=($option)
    ends 2 "${words[0]} does nothing without --latency-ratio R" nd decouple glyphs --rank 2 "${words[@]}" "${out[@]}"
done
ends 2 '--preprocess does nothing without --data DATASET or --calib DATASET' \
    nd decouple glyphs --rank 2 --preprocess glyphs "${out[@]}"
ends 2 '--preprocess does nothing without --calib DATASET' nd bench glyphs --preprocess glyphs
ends 2 '--label-offset does nothing without --data DATASET' nd decouple glyphs --rank 2 --label-offset 1 "${out[@]}"
ends 2 '--limit does nothing without --data DATASET' nd sweep resnet20 --rank 2 --limit 4
ends 2 '--workers does nothing without --data DATASET or --calib DATASET' nd sweep resnet20 --rank 2 --workers 1
ends 2 '--time-limit does nothing without --latency-ratio R or --bench|--time-limit does nothing without --bench or' \
    nd sweep glyphs --rank 2 --time-limit 1
ends 2 '--skip does nothing without --rank T' nd inspect glyphs --skip 'features.0'
ends 2 '--ranks does nothing without --rank T' nd inspect glyphs --ranks adaptive
ends 2 '--whole needs a suite' nd bench glyphs --whole
ends 2 '--whole needs a suite' nd bench small.onnx --whole
ends 2 '--rank does nothing beside --original' nd bench glyphs --original glyphs --rank 2
ends 2 '--method does nothing beside --original' nd bench glyphs --original glyphs --method pwdw
ends 2 '--calib does nothing beside --original but for the ranges of --dtype int8' nd bench glyphs --original glyphs --calib glyphs
ends 2 '--light does nothing beside --original' nd bench glyphs --original glyphs --calib glyphs --light --dtype int8
ends 2 '--cache does nothing beside --svd' nd bench glyphs --svd --cache hot
ends 2 '--cache does nothing beside --no-layers' nd bench glyphs --no-layers --cache hot
ends 2 '--cache does nothing beside --original' nd bench glyphs --original glyphs --cache hot
for option in '--backend ref' '--threads 1' '--input 64x64'; do
    # shellcheck disable=SC2086
    ends 2 "${option%% *} does nothing without weights: resnet20 is an architecture" nd inspect resnet20 --rank 2 $option
done
ends 2 '--output does nothing without --aa N' nd compare a.jsonl b.jsonl -o margins.jsonl
ends 2 '--json does nothing beside --aa' nd compare --aa 2 a.jsonl b.jsonl --json x.jsonl
ends 2 '--json does nothing beside --list' nd check --list --json x.jsonl
ends 2 '--isa avx2 does nothing on backend ref' nd check --backend ref --isa avx2 --op 'fill*'
that "nothing was written" test ! -e x.onnx -a ! -e x.jsonl

# What they go with.
ends 0 '' nd decouple glyphs --rank 2 --calib glyphs --calib-images 4 --light --ridge 1 --skip 'features.1*' -o y.onnx
ends 0 '' nd decouple glyphs --macs-ratio 2 --conv-only -o y.onnx
ends 0 '' nd sweep glyphs --rank 2 --limit 4
ends 0 '' nd inspect glyphs --rank 2 --skip features.0

# In int8 the original is quantised too, and the networks keep their accuracy.
int8=(--calib glyphs --calib-images 32 --quick --macs-ratio 2)
ends 0 '' nd sweep glyphs "${int8[@]}" --method dwpw --dtype int8 --limit 200 --json int8.jsonl
that "two rows of int8" test "$(grep -c '"dtype":"int8"' int8.jsonl)" = 2
that "accuracy in int8" awk -F'"top1":' '{ split($2, a, ","); if (a[1] < 90) exit 1 }' int8.jsonl
ends 0 '' nd decouple glyphs "${int8[@]}" --method dwpw --quantize int8 -o int8.onnx
ends 0 '' nd eval int8.onnx --data glyphs --limit 200 --json int8_eval.jsonl
that "accuracy of a decoupled file in int8" awk -F'"top1":' '{ split($2, a, ","); if (a[1] < 90) exit 1 }' int8_eval.jsonl
that "it holds 8-bit values" grep -q QuantizeLinear int8.onnx
ends 2 'int8.onnx is in 8 bits, and what it is decoupled into would run in fp32' nd bench int8.onnx --no-layers --dtype int8 --calib glyphs
ends 0 '' nd bench int8.onnx --original glyphs --dtype int8 --sessions 1 --time-limit 1
ends 0 '' nd bench y.onnx --original glyphs --dtype int8 --calib glyphs --calib-images 16 --preprocess glyphs --sessions 1 --time-limit 1
# A sweep decouples once for all precisions: the seconds it took are the same to the last digit.
ends 0 '' nd sweep glyphs "${int8[@]}" --method dwpw --dtype fp32,int8 --limit 100 --json both.jsonl
that "one decoupling for two precisions" test "$(grep -o '"seconds":[0-9.e-]*' <(grep '"macs-ratio"' both.jsonl) | sort -u | wc -l)/$(grep -c '"macs-ratio"' both.jsonl)" = 1/2

# Times of layers and of the result are those of the precision that is written.
ends 0 '' nd decouple glyphs --latency-ratio 1 --time-limit 0.2 --quantize int8 --method dwpw --quick --calib glyphs --calib-images 32 -o fast.onnx
that "it is timed in int8" grep -q 'a run of 1 in int8 on' "$scratch/out"
that "it holds 8-bit values" grep -q QuantizeLinear fast.onnx
ends 0 '' nd decouple glyphs --latency-ratio 1 --time-limit 0.2 --dtype int8 --method dwpw -o fast.onnx
that "it is timed in int8" grep -q 'a run of 1 in int8 on' "$scratch/out"

# The size of images that the network has says nothing new.
ends 0 '' nd eval glyphs --data glyphs --limit 8 --input 32x32

# A ratio out of reach takes nothing from the other points.
ends 2 '1 of 3 points were left out' nd sweep glyphs --method dwpw --macs-ratio 2,1000,3 --limit 20 --json reach.jsonl
that "which one, and why" grep -q 'left out: point 2 of 3: a ratio of 1000, where at most' "$scratch/err"
that "the other points are there" test "$(grep -c '"rule":"macs-ratio"' reach.jsonl)" = 2
ends 2 'a ratio of 1000, where at most' nd sweep glyphs --method dwpw --macs-ratio 1000 --limit 20 --json none.jsonl
that "no row of nothing" test "$(grep -c '"rule"' none.jsonl)" = 0

# A bound on what 8 bits cost.
auto=(--quantize auto --max-drop 0.5)
ends 2 '--max-drop does nothing without --quantize auto' nd quantize glyphs --calib glyphs --max-drop 1 -o auto.onnx
ends 2 '--quantize fp8: there are int8, e4m3 and auto' nd quantize glyphs --calib glyphs --quantize fp8 -o auto.onnx
ends 2 '--max-drop does nothing without --quantize auto' nd bench glyphs --no-layers --max-drop 1
for kind in int8 e4m3; do
    ends 2 '--data does nothing without --quantize auto' \
        nd quantize glyphs --calib glyphs --quantize $kind --data glyphs --limit 10 -o auto.onnx
    ends 2 '--data does nothing without --max-drop POINTS or --quantize auto' \
        nd decouple glyphs --rank 2 --calib glyphs --quantize $kind --data glyphs -o auto.onnx
    for verb in 'bench --no-layers' 'sweep --dtype fp32'; do
        # shellcheck disable=SC2086
        ends 2 '--max-drop does nothing without --quantize auto' \
            nd $verb glyphs --rank 2 --calib glyphs --quantize $kind --max-drop 1
    done
done
ends 2 "--skip '\*' leaves no Conv or Gemm to quantise; there are 8" \
    nd quantize glyphs --calib glyphs --calib-images 16 --skip '*' -o auto.onnx
ends 2 "--skip 'features.\*' and the others leaves" \
    nd quantize glyphs --calib glyphs --calib-images 16 --skip 'features.*' --skip '*' -o auto.onnx
ends 2 'are two rules for the same ranks' nd decouple glyphs --rank 2 --max-drop 1 -o auto.onnx
ends 2 'also in glyphs' nd quantize glyphs --calib glyphs:test --data glyphs "${auto[@]}" -o auto.onnx
that "nothing was written" test ! -e auto.onnx
ends 0 '' nd quantize glyphs --calib glyphs --calib-images 32 --data glyphs --limit 100 "${auto[@]}" -o auto.onnx --json auto.jsonl
that "a row of every layer, and one of all" test "$(grep -c '"layer":' auto.jsonl)/$(wc -l <auto.jsonl)" = 8/9
that "the bound was kept" awk -F'"drop_top1":' '/"rule":"max-drop"/ { split($2, a, ","); if (a[1] > 0.5) exit 1 }' auto.jsonl
ends 0 'no test of it' nd eval auto.onnx --data glyphs --limit 100
ends 0 '' nd decouple glyphs "${int8[@]}" --method dwpw "${auto[@]}" -o auto.onnx
ends 0 '' nd sweep glyphs "${int8[@]}" --method dwpw --dtype int8 --limit 100 "${auto[@]}"
ends 0 '' nd bench glyphs --no-layers --rank 2 --sessions 1 --time-limit 1 --calib glyphs --calib-images 32 "${auto[@]}"

# --- at once: the last value of a list is judged before the first is measured. A minute would be for all the others.
at_once() { ends 2 "$1" timeout 10 "${@:2}" --json rows.jsonl; }
slow=(resnet20 --data glyphs --rank 1..9)
at_once '--method nosuch: no such method' nd sweep "${slow[@]}" --method dwpw,nosuch
at_once '--method nosuch: no such method' nd sweep glyphs --method nosuch
at_once '--dtype int8: ranges on which images' nd sweep "${slow[@]}" --dtype fp32,int8
at_once '--dtype fp8: ' nd sweep "${slow[@]}" --dtype fp32,fp8
at_once 'no backend "tpu"' nd sweep "${slow[@]}" --backend ref,tpu
at_once '--ranks some: ' nd sweep "${slow[@]}" --ranks uniform,some
at_once '--batch 0: ' nd sweep "${slow[@]}" --batch 1,0
at_once '--energy 2: ' nd sweep glyphs --energy 0.5,2
at_once '--macs-ratio 0.5: ' nd sweep glyphs --macs-ratio 2,0.5
at_once '--ridge -1: ' nd sweep "${slow[@]}" --calib glyphs --ridge 1,-1
at_once '--calib-images 0: ' nd sweep "${slow[@]}" --calib glyphs --calib-images 4,0
at_once '--layer x: expected PATTERN=SETTING' nd sweep "${slow[@]}" --layer x
at_once '--method nosuch: no such method' nd bench vgg16 --method dwpw,nosuch
at_once '--method nosuch: no such method' nd bench resnet20 --no-layers --method nosuch
at_once '--dtype fp8: ' nd bench vgg16 --dtype fp32,fp8
at_once 'no backend "tpu"' nd bench vgg16 --backend ref,tpu
at_once '--energy 2: ' nd bench resnet20 --rank 3 --energy 0.5,2
at_once '--method nosuch: no such method' nd decouple resnet20 --method dwpw,nosuch --rank 2 -o x.onnx
at_once '--method nosuch: no such method' nd inspect resnet20 --method dwpw,nosuch --rank 2
at_once 'no backend "tpu"' nd devices --backend tpu
that "no rows were written" test ! -e rows.jsonl
finish
