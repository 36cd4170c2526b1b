# nd sweep: its points, what a second run does again, shares, and what is refused.
exec 2>&1
fields() {
    while read -r row; do
        grep -oE '"(method|ranks|rank|rule|target|calib|n|conv_macs|top1_correct|pareto)":("[^"]*"|[^,}]*)' <<<"$row" |
            sed 's/"//g' | paste -sd ' '
    done
}
quick=(--limit 8 --batch 8)
nd sweep glyphs "${quick[@]}" --method dwpw,pwdw --rank 8,9 --json rows.jsonl --quiet >/dev/null
fields <rows.jsonl
nd sweep glyphs "${quick[@]}" --method dwpw,pwdw --rank 8,9 --json rows.jsonl | tail -1
for share in 1/2 2/2; do
    nd sweep glyphs "${quick[@]}" --method dwpw,pwdw --rank 8,9 --shard $share --json share.jsonl --quiet >/dev/null
done
echo "two shares have all rows: $(cmp <(fields <rows.jsonl | sed 's/ *pareto.*//' | sort) <(fields <share.jsonl | sed 's/ *pareto.*//' | sort) && echo yes)"
# Every original of a sweep over dtypes and batches has its row in one of the shares, however many these are.
over=(glyphs --limit 8 --method dwpw --rank 8,9 --dtype fp32,bf16 --batch 4,8 --quiet)
which() { while read -r row; do grep -oE '"(rank|dtype|batch)":("[^"]*"|[^,}]*)' <<<"$row" | paste -sd ' '; done | sort; }
nd sweep "${over[@]}" --json - | which >whole
for shares in 2 3 4; do
    for share in $(seq $shares); do nd sweep "${over[@]}" --shard "$share/$shares" --json -; done | which >shared
    echo "$shares shares have all $(wc -l <whole) rows once: $(cmp whole shared && echo yes)"
done
# A time is that of so many threads: with others it is measured again, and what is not timed is not.
timed() { nd sweep glyphs "${quick[@]}" --method dwpw --rank 9 --json "$1" "${@:2}" 2>&1 | grep already || echo "all of it was measured"; }
timed timed.jsonl --threads 1 --bench --time-limit 0.1
timed timed.jsonl --threads 1 --bench --time-limit 0.1
timed timed.jsonl --threads 2 --bench --time-limit 0.1
timed timed.jsonl --threads 2 --bench --time-limit 0.2
timed untimed.jsonl --threads 1
timed untimed.jsonl --threads 2
# The better of two methods in each layer is what `nd decouple` makes of both.
nd sweep glyphs "${quick[@]}" --method dwpw,dwpw/spatial --macs-ratio 3 --quiet --json mixed.jsonl >/dev/null
nd decouple glyphs --method dwpw,spatial --macs-ratio 3 -o mixed.onnx --quiet --json decoupled.jsonl >/dev/null
macs_of() { grep '"method":"dwpw,spatial"' "$1" | grep -oE '"conv_macs":[0-9]*' | tail -1; }
echo "methods: $(fields <mixed.jsonl | grep -oE 'method:[a-z,]*' | paste -sd ' '), as nd decouple: $(cmp <(macs_of mixed.jsonl) <(macs_of decoupled.jsonl) && macs_of mixed.jsonl | grep -c .)"
try() { nd sweep "$@"; echo "exit $?"; }
# What is done to the images calibrated on changes the point and what it scores, never the images evaluated on.
calibrated() { nd sweep glyphs "${quick[@]}" --method dwpw --rank 2 --calib glyphs --calib-images 16 "$@" --quiet --json - ; }
scores() { grep '"rank":2' | grep -oE '"(preprocess|logit_rel_mse)":("[^"]*"|[^,}]*)'; }
calibrated | scores >same
calibrated --calib-preprocess glyphs | scores >named
calibrated --calib-preprocess glyphs,mean=0 | scores >other
echo "named: $(cmp -s same named && echo same || echo other) scores, mean=0: $(cmp -s same other && echo same || echo other) scores"
echo "evaluated on: $(cat same named other | grep preprocess | sort | uniq -c | sed 's/^ *//')"
# What a backend lacks is told before any work; what fails in a later point leaves what was done before.
try glyphs "${quick[@]}" --rank 9 --backend ref --dtype fp32,tf32 --json lacks.jsonl
echo "rows: $(cat lacks.jsonl 2>/dev/null | wc -l)"
try glyphs "${quick[@]}" --method dwpw --rank 2 --calib none,imagefolder:nowhere --json some.jsonl | grep -oE '^exit .*|rank +2'
fields <some.jsonl
try glyphs --shard 3/2
try glyphs --shard two
try glyphs --rank 0 "${quick[@]}"
try glyphs --rank 9..1
try glyphs --energy 1.5 "${quick[@]}"
try glyphs --method paint "${quick[@]}"
try glyphs --data nowhere "${quick[@]}"
try glyphs --data imagefolder:nowhere "${quick[@]}"
try nothing.onnx
try glyphs --backend tpu
printf 'a line\nanother' >notes.txt
try glyphs --json notes.txt "${quick[@]}"
cat notes.txt; echo
echo '{"rank":"three"}' >wrong.jsonl
try glyphs --json wrong.jsonl "${quick[@]}"
