#!/usr/bin/env bash
# What is shown: no control character of a name reaches a terminal, a message or a log; no cell of a CSV is a formula;
# every message names its file, and every exit code is the one of the manual.
#   tests/hostile/shown.sh BUILD
. "$(dirname "$0")/lib.sh"

# Everything but letters, marks and the characters in $1 (for tr), as one line; nothing where there is none.
raw() { LC_ALL=C tr -d "$1"'\40-\176\200-\377' | od -An -c | head -1; }
shown() { # 'what' COMMAND...: neither stdout nor stderr has a control character but newlines
    local what=$1
    shift
    "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    that "$what: stdout" test -z "$(raw '\n' <"$scratch/out")"
    that "$what: stderr" test -z "$(raw '\n' <"$scratch/err")"
    that "$what: C1 controls" bash -c "! cat '$scratch/out' '$scratch/err' | grep -q \$'\xc2[\x80-\x9f]'"
}
on_terminal() { # 'what' COMMAND: the same through a pseudo-terminal, which adds carriage returns
    script -qec "$2 2>/dev/null" /dev/null </dev/null >"$scratch/out"
    that "$1: something is shown" test -s "$scratch/out"
    that "$1 on a terminal" test -z "$(raw '\n\r' <"$scratch/out")"
    that "$1 on a terminal: C1 controls" bash -c "! grep -q \$'\xc2[\x80-\x9f]' '$scratch/out'"
}

# --- names of files
bad=$'a\e[2J\nb\xc2\x9b31m\x9b.onnx'
cp "$glyphs" "$bad"
shown "inspect" nd inspect "$bad"
that "the escaped name is there" grep -qF 'a\x1b[2J' "$scratch/out"
shown "inspect, absent" nd inspect "no$bad"
that "and in messages" grep -qF 'noa\x1b[2J\x0ab\u009b31m\x9b.onnx' "$scratch/err"
shown "a verb" nd "$bad"
shown "an option" nd inspect glyphs "--$bad"
shown "a value" nd decouple glyphs --rank "$bad" -o x.onnx
shown "decouple" nd decouple "$bad" --rank 1 -o "$bad.out.onnx"
shown "eval" nd eval "$bad" --original "$bad.out.onnx" --data glyphs --limit 4
shown "sweep" nd sweep "$bad" --rank 1 --data glyphs --limit 4 --json rows.jsonl
shown "sweep again, --verbose" nd sweep "$bad" --rank 1 --data glyphs --limit 4 --json rows.jsonl -v
shown "report" nd report rows.jsonl
shown "report to rows" nd report rows.jsonl --md -
shown "bench" nd bench "$bad" --original glyphs --time-limit 0.01 --sessions 1 --impl best --backend ref
ends 0 '' nd inspect "$bad" --json name.jsonl --csv name.csv
that "rows of JSON have the name" grep -qF '\\x9b.onnx"' name.jsonl
that "and those of CSV the same" grep -qF '\x9b.onnx' name.csv
mkdir "$bad.d"
shown "an empty data set" nd eval glyphs --data "imagefolder:$bad.d"
shown "a cache" env ND_CACHE="/dev/null/$bad" nd decouple glyphs --rank 1 -o x.onnx -v

# --- names in rows, as a table, as a report and as every format on a terminal
for ratio in 1 2 3; do
    printf '{"schema":1,"verb":"sweep","model":"m\\u001b[2J\\u009bx\\nz","method":"d\\u001b[1m","dataset":"d\\u0007","n":10,"top1":50,'
    printf '"top5":90,"conv_macs_ratio":%s,"total_macs_ratio":%s,"params_ratio":2,"command":"nd \\u001b]0;owned\\u0007"}\n' $ratio $ratio
done >evil.jsonl
shown "a report of evil rows" nd report evil.jsonl
shown "its Markdown" nd report evil.jsonl --md -
ends 0 '' nd report evil.jsonl -o evil.html --plots evil
that "there are plots" ls evil/*.svg >/dev/null
that "the page has no control characters" test -z "$(raw '\n\t' <evil.html)"
if command -v xmllint >/dev/null; then
    for svg in evil/*.svg; do that "$svg is XML" xmllint --noout "$svg"; done
fi
if command -v script >/dev/null; then
    for format in json csv md sql; do on_terminal "--$format -" "nd report evil.jsonl --$format -"; done
    on_terminal "a report" "nd report evil.jsonl"
    on_terminal "a table" "nd inspect glyphs"
else
    skip "no script: no terminal to write to"
fi
ends 0 '' nd report evil.jsonl --csv evil.csv --json back.jsonl
ends 0 '' nd report evil.csv --json again.jsonl
that "files keep names as they are" cmp -s back.jsonl again.jsonl
if [ -d "$cases" ]; then
    model=$cases/escape_codes_in_names.onnx
    shown "case: inspect" nd inspect "$model"
    shown "case: inspect --rank" nd inspect "$model" --rank 1 --md -
    shown "case: decouple" nd decouple "$model" --rank 1 -o case.onnx -v
    shown "case: a layer that is not there" nd decouple "$model" --rank 1 --layer 'nosuch=2' -o case.onnx
    shown "case: bench" nd bench "$model" --rank 1 --time-limit 0.01 --sessions 1 --backend ref --nodes -v
    command -v script >/dev/null && on_terminal "case: rows" "nd inspect '$model' --csv -"
else
    skip "shared/cases: a model with escape codes in names"
fi

# --- formulas
for name in '=cmd|x' '+cmd|x' '-cmd|x' '@cmd|x' '\tcmd|x' '\rcmd|x' "'cmd|x"; do
    printf '{"schema":1,"verb":"eval","model":"%s","dataset":"%s","n":10,"top1":50,"top5":90,"drop_top1":-1.5}\n' "$name" "$name"
done >formulas.jsonl
[ -d "$cases" ] && cat "$cases/formula_in_names.jsonl" >>formulas.jsonl
ends 0 '' nd report formulas.jsonl --csv formulas.csv --json plain.jsonl
ends 0 '' nd report formulas.csv --json undone.jsonl
that "the reader undoes it" cmp -s plain.jsonl undone.jsonl
cat >cells.py <<'PYTHON'
import csv, re, sys
cells = [cell for row in csv.reader(open("formulas.csv", newline="")) for cell in row]
bad = [c for c in cells if re.match(r"[=+\-@\t\r]", c) and not re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?", c)]
sys.exit(f"formulas: {bad}" if bad or len([c for c in cells if c.startswith("'")]) < 7 else 0)
PYTHON
if command -v python3 >/dev/null; then that "no cell is a formula" python3 cells.py; fi
that "numbers stay numbers" grep -q ',-1.5,' formulas.csv

# --- a full disk
if [ -e /dev/full ]; then
    for words in '--help' '-h' '--version' 'help' 'help eval' 'help --man' 'help --man eval' 'help --completion bash' \
        'eval --help' 'zoo' 'devices' 'inspect glyphs' 'zoo --json -' 'zoo --md -' 'report evil.jsonl'; do
        # shellcheck disable=SC2086 # words
        ends 3 'No space left' bash -c "exec nd $words >/dev/full"
    done
    ends 3 'Bad file descriptor' bash -c 'exec nd --help >&-'
fi

# --- every message names its file
ends 3 '/dev/full: cannot write rows: No space left' nd zoo --json /dev/full
printf 'm.png 0\nm.png 62\n' >list.txt
cp "$root/tests/fuzz/corpus/image/rgb8.png" m.png
ends 3 'list.txt:2: m.png: class 62, but' nd eval glyphs --data list:list.txt --preprocess resize=32x32
ends 3 'list.txt' nd eval glyphs --data list:list.txt --label-offset -1 --preprocess resize=32x32
if command -v python3 >/dev/null; then
    cat >thin.py <<'PYTHON'
import struct, zlib
def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
head = struct.pack(">IIBBBBB", 60000, 1, 8, 2, 0, 0, 0)
open("thin.png", "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(180001))) + chunk(b"IEND", b""))
PYTHON
    python3 thin.py
    printf 'm.png 0\nthin.png 0\n' >thin.txt
    nd eval glyphs --data list:thin.txt --preprocess resize=2000,crop=32 >"$scratch/out" 2>"$scratch/err"
    that "a picture that cannot be resized is named" grep -q 'left out: thin.txt:2: thin.png: ' "$scratch/err"
fi
: >empty.jsonl
ends 2 'empty.jsonl: no rows to report' nd report empty.jsonl
long=$(printf '%05000d' 0)
ends 3 '^nd: 0000.*(too long|File name too long)' nd inspect "$long.onnx"
ends 3 '^nd: 0000.*too long' nd report "$long"
ends 3 '^nd: --json: 0000.*too long' nd zoo --json "$long"
ends '[23]' '0000.*too long' nd eval glyphs --data "imagefolder:$long"
if [ -d "$cases" ]; then
    for method in dwpw pwdw dwpw_lowrank spatial channel prune; do
        ends 3 'weights_nan.onnx: ' nd decouple "$cases/weights_nan.onnx" --skip none --rank 2 --method $method -o nan.onnx
    done
    that "and nothing is written" test ! -e nan.onnx
else
    skip "shared/cases: NaN weights"
fi

# --- exit codes
ends 0 '' nd zoo
printf '%s\n' '{"schema":1,"verb":"eval","model":"m","dataset_sha256":"a","n":1000,"top1":70,"top5":90}' >base.jsonl
sed 's/"top1":70/"top1":60/' base.jsonl >worse.jsonl
ends 1 '' nd compare base.jsonl worse.jsonl
ends 2 'no such option' nd zoo --nosuch
ends 3 'No such file' nd inspect nosuch.onnx
ends 4 'backend ref has no .* in tf32' nd eval glyphs --data glyphs --limit 1 --backend ref --dtype tf32
ends 4 'plugin interface' env ND_PLUGINS="$build/broken/abi" nd eval glyphs --data glyphs --limit 1 --backend cuda
ends 5 'no convolution was decoupled' nd decouple glyphs --skip '*' --rank 1 -o x.onnx --strict
if nd devices --backend cpu >/dev/null 2>&1; then
    ends 4 'fp16' nd eval glyphs --data glyphs --limit 1 --backend cpu --dtype fp16
    ends 6 'address space' bash -c 'ulimit -v 300000; exec nd eval glyphs --data glyphs --limit 1 --backend cpu'
fi
finish
