#!/usr/bin/env bash
# Killed (SIGKILL) at any moment, a verb leaves no torn file and loses nothing that was there or that it had measured.
#   tests/hostile/kill.sh BUILD [ROUNDS]      ROUNDS kills of each of decouple, sweep, bench and report with plots
. "$(dirname "$0")/lib.sh"
rounds=${2:-100}
RANDOM=${ND_SEED:-$$}
echo "seed ${ND_SEED:-$$}"
torn=0 lost=0 kills=0

seconds() { date +%s.%N; }
# killed LIMIT COMMAND...: runs it, and kills it after a random part of LIMIT seconds; 0 when it had ended before.
killed() {
    local limit=$1 code
    shift
    { timeout -s KILL "$(awk -v r=$RANDOM -v l="$limit" 'BEGIN { printf "%.4f", 0.002 + l * r / 32768 }')" "$@" >/dev/null; } 2>/dev/null
    code=$?
    [ $code = 137 ] && kills=$((kills + 1))
    return $code
}
# timed COMMAND...: 1.05 times the seconds that it takes, in `limit`.
timed() {
    local start
    start=$(seconds)
    "$@" >/dev/null 2>&1 || fail "$*: exit $?"
    limit=$(awk -v a="$start" -v b="$(seconds)" 'BEGIN { print 1.05 * (b - a) }')
}
# whole FILE CANDIDATE...: the file equals one of them.
whole() {
    local file=$1 candidate
    shift
    for candidate in "$@"; do cmp -s "$file" "$candidate" && return; done
    echo "torn: $file, $(stat -c %s "$file") bytes"
    torn=$((torn + 1))
}
# rows FILE: every line is a whole row.
rows() {
    [ -e "$1" ] || return 0
    if [ -s "$1" ] && { grep -qvE '^\{.*\}$' "$1" || [ -n "$(tail -c 1 "$1")" ]; }; then
        echo "torn: $1: $(tail -c 60 "$1")"
        torn=$((torn + 1))
    fi
}
count() { if [ -e "$1" ]; then wc -l <"$1"; else echo 0; fi; }
points() { grep -o '"point":"[^"]*"' "$1" | sort -u; }
lose() {
    echo "lost: $*"
    lost=$((lost + 1))
}

# --- decouple: the old network or the new one
decouple() { killed "$limit" nd decouple glyphs --rank "$1" -o m.onnx --json m.jsonl; }
nd decouple glyphs --rank 1 -o 1.onnx >/dev/null
timed nd decouple glyphs --rank 2 -o 2.onnx
cp 1.onnx m.onnx
for i in $(seq "$rounds"); do
    decouple $((i % 2 + 1))
    if [ -e m.onnx ]; then whole m.onnx 1.onnx 2.onnx; else lose m.onnx; fi
    rows m.jsonl
    rm -f ./*.part
done

# --- sweep: what is in the file stays in it, and another run does the rest
sweep=(nd sweep glyphs --method dwpw,pwdw --rank 1..4 --limit 20 --json)
timed "${sweep[@]}" all.jsonl
before=0
for _ in $(seq "$rounds"); do
    killed "$limit" "${sweep[@]}" s.jsonl
    code=$?
    rows s.jsonl
    now=$(count s.jsonl)
    [ "$now" -ge $before ] || lose "rows of a sweep, $before became $now"
    before=$now
    if [ $code = 0 ]; then
        [ "$(points s.jsonl)" = "$(points all.jsonl)" ] || lose "points of a sweep"
        rm -f s.jsonl
        before=0
    fi
    rm -f ./*.part
done

# --- bench: beside rows that were there, and where nothing was
bench=(nd bench glyphs --backend ref --rank 1 --cache hot --impl best --time-limit 0.01 --sessions 1 --json)
timed "${bench[@]}" old.jsonl
complete=$(count old.jsonl)
cp old.jsonl b.jsonl
for i in $(seq "$rounds"); do
    rm -f fresh.jsonl
    if [ $((i % 2)) = 0 ]; then
        killed "$limit" "${bench[@]}" fresh.jsonl
        rows fresh.jsonl
    elif killed "$limit" "${bench[@]}" b.jsonl; then
        [ "$(count b.jsonl)" = "$complete" ] || lose "rows of a bench that ended"
        cp b.jsonl old.jsonl
    elif cmp -s b.jsonl old.jsonl; then
        for part in b.jsonl.*.part; do rows "$part"; done
    else
        # Killed between its last row and its end.
        rows b.jsonl
        [ "$(count b.jsonl)" = "$complete" ] || lose "rows that were there before a bench"
        cp b.jsonl old.jsonl
    fi
    rm -f ./*.part
done

# --- report: every page and plot is the whole one, or not there
cat all.jsonl old.jsonl >r.jsonl
report() { "${@:2}" nd report r.jsonl -o "$1/r.html" --plots "$1"; }
mkdir expected
timed report expected
that "there are plots" test "$(find expected -name '*.png' | wc -l)" -gt 0
for _ in $(seq "$rounds"); do
    mkdir -p out
    killed "$limit" nd report r.jsonl -o out/r.html --plots out
    for file in out/*; do
        case $file in *.part | 'out/*') ;; *) whole "$file" "expected/$(basename "$file")" ;; esac
    done
    rm -f out/*.part
    [ $((RANDOM % 3)) != 0 ] || rm -rf out
done

that "nothing is torn" test $torn = 0
that "nothing is lost" test $lost = 0
that "they were killed at work ($kills of $((4 * rounds)))" test $((2 * kills)) -gt "$rounds"
echo "killed $kills times: $torn torn, $lost lost"
finish
