#!/usr/bin/env bash
# Golden tests of the command line. A test is NAME.sh; beside it stand NAME.out (stdout), NAME.err (stderr, when it
# matters) and NAME.exit (exit code, 0 when absent). Each runs in a scratch folder of its own with `nd` on the PATH.
#   tests/golden/run.sh BUILD [PATTERN]           run; --slow first: those in slow/, which take from half a minute up
#   tests/golden/run.sh --bless BUILD [PATTERN]   rewrite what is expected; review the diff
# A script that exits 77 is skipped; its last line on stderr says why.
set -uo pipefail
bless=0 folder=
for option in "$@"; do
    case "$option" in
    --bless) bless=1 ;;
    --slow) folder=/slow ;;
    *) break ;;
    esac
    shift
done
build=$(realpath "${1:?build folder}")
pattern=${2:-*}
here=$(realpath "$(dirname "$0")")
export PATH="$build:$PATH" ND_ROOT="$here/../.." LC_ALL=C
here=$here$folder
export ND_DATA=${ND_DATA:-$(realpath -m "$ND_ROOT/../shared/data")}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export ND_CACHE="$scratch/cache"

passed=0 failed=0 skipped=0
for script in "$here"/$pattern.sh; do
    name=$(basename "$script" .sh)
    [ "$name" = run ] && continue
    mkdir -p "$scratch/$name"
    (cd "$scratch/$name" && exec bash "$script") >"$scratch/out" 2>"$scratch/err" </dev/null
    code=$?
    if [ $code = 77 ]; then
        echo "skip $name: $(tail -1 "$scratch/err")"
        skipped=$((skipped + 1))
        continue
    fi
    if [ $bless = 1 ]; then
        cp "$scratch/out" "$here/$name.out"
        if [ -e "$here/$name.err" ]; then cp "$scratch/err" "$here/$name.err"; fi
        if [ $code = 0 ]; then rm -f "$here/$name.exit"; else echo $code >"$here/$name.exit"; fi
        continue
    fi
    ok=1
    [ "$code" = "$(cat "$here/$name.exit" 2>/dev/null || echo 0)" ] || { echo "$name: exit code $code"; ok=0; }
    diff -u "$here/$name.out" "$scratch/out" || ok=0
    if [ -e "$here/$name.err" ]; then diff -u "$here/$name.err" "$scratch/err" || ok=0; fi
    if [ $ok = 1 ]; then
        echo "ok   $name"
        passed=$((passed + 1))
    else
        echo "FAIL $name"
        sed -n '1,20s/^/  stderr: /p' "$scratch/err"
        failed=$((failed + 1))
    fi
done
[ $bless = 1 ] && exit 0
echo "golden: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $passed -gt 0 ]
