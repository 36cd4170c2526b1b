#!/usr/bin/env bash
# An nd built with AddressSanitizer and UndefinedBehaviorSanitizer reads every small hostile file by every verb that
# could: the seeds of the fuzz targets, cut and bent, and those of shared/cases where they are. Any exit code of the
# manual will do; a report, a signal or a hang will not.
#   tests/hostile/sanitized.sh BUILD [all]    builds nd in BUILD; without `all` a few verbs on each file, for the suite
mkdir -p "${1:?build folder}"
. "$(dirname "$0")/lib.sh"
extent=${2:-some}
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DND_CUDA=OFF -DND_SANITIZE=address,undefined -DCMAKE_C_FLAGS=-O1 \
    >"$scratch/built" && cmake --build "$build" --target nd >>"$scratch/built" || { tail -20 "$scratch/built"; exit 1; }
export ASAN_OPTIONS="detect_leaks=1:log_path=$scratch/report:strict_string_checks=1:detect_stack_use_after_return=1:allocator_may_return_null=1"
export LSAN_OPTIONS="use_tls=0:suppressions=$root/tests/house/leaks.supp:print_suppressions=0"
export UBSAN_OPTIONS="print_stacktrace=1"
runs=0

# run WORDS...: one command line, its exit code, and what the sanitizers said.
run() {
    timeout 120 nd "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    local code=$?
    runs=$((runs + 1))
    checks=$((checks + 1))
    [ $code -le 6 ] || fail "nd $*: exit $code: $(tail -1 "$scratch/err")"
    # UndefinedBehaviorSanitizer beside the other one writes to stderr alone, and ends with a code that nd has too.
    ! grep -q 'runtime error: ' "$scratch/err" || fail "nd $*: $(grep -m 1 'runtime error: ' "$scratch/err")"
    # A library's worker that ends while LeakSanitizer stops the threads is noted; it holds no leak.
    if cat "$scratch"/report* 2>/dev/null | grep -Ev '^==[0-9]+==Unable to get registers from thread [0-9]+\.$|^$' >"$scratch/said"; then
        fail "nd $*: $(head -40 "$scratch/said")"
    fi
    rm -f "$scratch"/report*
}

model() { # every verb that opens a model
    local backend=(--backend ref)
    run inspect "$1" --rank 1,3 --method dwpw,spatial --skip none "${backend[@]}" --json -
    run eval "$1" --original "$1" --data synthetic --limit 2 --batch 2 "${backend[@]}"
    run decouple "$1" --rank 2 --skip none -o o.onnx "${backend[@]}" --csv -
    [ "$extent" = all ] || return 0
    for method in pwdw dwpw_lowrank channel prune spatial+dwpw; do
        run decouple "$1" --rank 2 --method $method --skip none -o o.onnx "${backend[@]}" -q
    done
    run decouple "$1" --macs-ratio 1.5 --calib synthetic --calib-images 4 --quick -o o.onnx "${backend[@]}"
    run bench "$1" --rank 1 --time-limit 0.01 --sessions 1 --cache hot --impl best --nodes "${backend[@]}" --md -
    run sweep "$1" --rank 1,2 --data synthetic --limit 2 "${backend[@]}" --sql -
    run reproduce paper-table1 "$1" "${backend[@]}"
    run eval glyphs --data "list:$1" "${backend[@]}"
    if [ -e o.onnx ]; then run inspect o.onnx "${backend[@]}"; fi
    rm -f o.onnx
}
weights() {
    for arch in resnet20 vgg16; do run inspect "$arch:$1" --backend ref; done
    run "inspect" "$1"
}
rows() {
    run report "$1" -o r.html --plots plots --csv c.csv
    run report "$1" --md -
    run compare "$1" "$1"
    run compare --aa 2 "$1" "$1" -o margins.jsonl
    run compare "$1" "$1" --margins "$1"
}
images() {
    run eval glyphs --data "list:$1" --backend ref
    run eval glyphs --data "cifar10:$1" --backend ref
    run eval glyphs --data glyphs --limit 1 --classes "$1" --backend ref
}
picture() {
    printf '%s 3\n' "$1" >list.txt
    run eval glyphs --data list:list.txt --preprocess resize=32x32 --backend ref
}

seeds=$root/tests/fuzz/corpus
for file in "$seeds"/onnx/*; do model "$file"; done
for file in "$seeds"/safetensors/*; do weights "$file"; done
for file in "$seeds"/cifar/*; do images "$file"; done
for file in "$seeds"/image/*; do picture "$file"; done
# Bent: cut in half, and a byte changed in the first quarter.
for file in "$seeds"/onnx/* "$seeds"/safetensors/* "$seeds"/image/*; do
    bent="bent.${file##*.}"
    case $file in */safetensors/*) kind=weights bent=bent.safetensors ;; */image/*) kind=picture ;; *) kind=model ;; esac
    size=$(stat -c %s "$file")
    head -c $((size / 2)) "$file" >"$bent"
    $kind "$bent"
    cp "$file" "$bent"
    printf '\377' | dd of="$bent" bs=1 seek=$((size / 4)) conv=notrunc status=none
    $kind "$bent"
done
if [ -d "$cases" ]; then
    for file in "$cases"/*; do
        case $file in
        *.onnx) model "$file" ;;
        *.jsonl) rows "$file" ;;
        *) images "$file" ;;
        esac
    done
    [ "$extent" = all ] && for file in "$cases"/*; do rows "$file" && images "$file" && run eval "$file" --data glyphs; done
else
    skip "shared/cases"
fi
that "verbs ran" test $runs -gt 50
echo "$runs runs of nd"
finish
