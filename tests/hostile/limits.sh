#!/usr/bin/env bash
# Time, memory and disk are bounded, whatever the input.
#   tests/hostile/limits.sh BUILD
. "$(dirname "$0")/lib.sh"

# within MIB SECONDS COMMAND...: with so much address space, in so much time.
within() {
    local mib=$1 seconds=$2
    shift 2
    timeout "$seconds" bash -c 'ulimit -v "$0"; exec "$@"' $((mib * 1024)) "$@"
}

# --- a report
row='{"schema":1,"verb":"eval","model":"m","method":"dwpw","dataset":"d","n":10,"top1":50,"top5":90,"total_macs_ratio":%s,"conv_macs_ratio":%s}\n'
for ratio in 1e16 1e17 1e308 -1e308; do
    # shellcheck disable=SC2059 # a format
    { printf "$row" 2 2; printf "$row" $ratio $ratio; } >odd.jsonl
    ends 0 'odd.jsonl: row 2 is left out of the plots' within 600 20 nd report odd.jsonl -o r.html --plots plots
    that "a small report of $ratio" test "$(stat -c %s r.html)" -lt 200000
done
awk 'BEGIN { for (i = 0; i < 20000; i++)
    printf "{\"schema\":1,\"verb\":\"sweep\",\"model\":\"m%d\",\"method\":\"dwpw\",\"ranks\":\"uniform\",\"rank\":%d,\"backend\":\"cpu\",\"dtype\":\"fp32\",\"batch\":1,\"conv_macs_ratio\":%g,\"total_macs_ratio\":%g,\"dataset\":\"d\",\"n\":100,\"top1\":%g,\"top5\":%g,\"drop_top1\":%g,\"rule\":\"rank\",\"target\":%d}\n",
        i % 40, i % 9 + 1, 1 + i % 97 / 10, 1 + i % 89 / 10, i % 101, i % 101, i % 13, i % 9 + 1 }' >many.jsonl
ends 0 '' within 300 30 nd report many.jsonl -o many.html
if [ -d "$cases" ]; then
    ends 0 'macs_ratio_1e308.jsonl: row [0-9]+ is left out' within 300 20 nd report "$cases/macs_ratio_1e308.jsonl" -o r.html
fi

# --- a network
if [ -d "$cases" ]; then
    for words in 'inspect' 'eval --data synthetic --limit 1 --original glyphs' 'decouple --rank 1 -o x.onnx' 'bench --rank 1' \
        'sweep --rank 1'; do
        # shellcheck disable=SC2086 # words
        set -- $words
        verb=$1
        shift
        ends '[236]' 'forty_doubling_concats.onnx: ' within 600 20 nd "$verb" "$cases/forty_doubling_concats.onnx" "$@" --backend ref
    done
    ends 3 'does not hold a known number of values for each image' \
        nd bench "$cases/length_times_batch.onnx" --no-layers --rank 1 --time-limit 0.01 --sessions 1 --backend ref
else
    skip "shared/cases: forty doubling Concats"
fi

# --- a batch is never larger than the set, and memory is planned
ends 0 '' within 700 60 nd eval glyphs --data glyphs --limit 10 --batch 65536 --backend ref --json rows.jsonl
that "the batch is the set" grep -q '"batch":10,' rows.jsonl
ends 0 '' within 700 60 nd sweep glyphs --data glyphs --limit 10 --batch 65536 --rank 1 --backend ref --json sweep.jsonl
ends 6 'smaller --batch' within 2000 60 nd eval vgg16 --original vgg16 --data synthetic --limit 65536 --batch 65536 --backend ref

# --- an OpenMP runtime that would give a loop fewer threads than it asks for: oneDNN's would leave parts undone
if nd devices --backend cpu >/dev/null 2>&1; then
    for setting in OMP_MAX_ACTIVE_LEVELS=0 OMP_DYNAMIC=true OMP_THREAD_LIMIT=1; do
        for dtype in fp32 int8; do
            ends 0 '' env "$setting" OMP_NUM_THREADS=2 nd check --backend cpu --dtype $dtype --op 'conv/*'
        done
    done
fi

# --- address space that a library needs is asked for before it is loaded
if nd devices --backend cpu >/dev/null 2>&1; then
    for mib in 100 200 300 400; do
        ends 6 'MiB of address space' within $mib 20 nd check --backend cpu --op 'fill*'
    done
fi
for mib in 20 40 80; do ends '[06]' '' within $mib 20 nd inspect glyphs --backend ref; done

# --- what is no file does not block
mkfifo fifo.onnx fifo.jsonl
ends 3 'fifo.onnx' timeout 10 nd inspect fifo.onnx
ends 3 'fifo.jsonl' timeout 10 nd report fifo.jsonl
ends 3 'fifo.jsonl' timeout 10 nd compare fifo.jsonl fifo.jsonl
ends 3 'fifo.jsonl' timeout 10 nd sweep glyphs --rank 1 --json fifo.jsonl
ends 3 'fifo.onnx' timeout 10 nd eval glyphs --data list:fifo.onnx
ends 3 'fifo.onnx' timeout 10 nd eval glyphs --data cifar10:fifo.onnx
ends 3 'fifo.onnx' timeout 10 nd eval glyphs --data glyphs --limit 1 --classes fifo.onnx
finish
