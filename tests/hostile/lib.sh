# What the tests of this folder share; sourced as `. lib.sh BUILD`. Each runs in a scratch folder of its own with `nd`
# on the PATH, and ends by `finish`.
build=$(realpath "${1:?build folder}")
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
export PATH="$build:$PATH" LC_ALL=C OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export ND_DATA=${ND_DATA:-$(realpath -m "$root/../shared/data")}
cases=$(realpath -m "${ND_CASES:-$root/../shared/cases}")
glyphs="$root/datasets/glyphs/glyphs.onnx"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export ND_CACHE="$scratch/cache"
mkdir "$scratch/work"
cd "$scratch/work" || exit 1
checks=0 failures=0 skips=0

fail() {
    echo "FAIL $*"
    failures=$((failures + 1))
}

skip() {
    echo "skip $*"
    skips=$((skips + 1))
}

# that 'what it is' COMMAND...: the command is true.
that() {
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" || fail "$what"
}

# ends CODE PATTERN COMMAND...: exit code and an extended regular expression for its last line on stderr ('' = any).
# stdout is left in `out` and stderr in `err`, beside the work folder.
ends() {
    local code=$1 pattern=$2 got
    shift 2
    checks=$((checks + 1))
    "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    got=$?
    [[ $got = $code ]] || fail "$*: exit $got instead of $code: $(tail -1 "$scratch/err")"
    [ -z "$pattern" ] || tail -1 "$scratch/err" | grep -Eq -- "$pattern" ||
        fail "$*: '$(tail -1 "$scratch/err")' is not /$pattern/"
}

# No draft is left in the work folder.
no_drafts() {
    [ -z "$(find . -name '*.part')" ]
}

finish() {
    echo "$(basename "$0" .sh): $checks checks, $failures failed, $skips skipped"
    [ $failures = 0 ] && [ $checks -gt 0 ]
}
