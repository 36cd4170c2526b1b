#!/usr/bin/env bash
# What clang-format cannot ask for: postfix increments as statements, names of static functions, the column limit.
set -euo pipefail
cd "$(dirname "$0")/../.."
failed=0
# forbid WHAT PATTERN FILES...: no line of the files matches.
forbid() {
    local what=$1 pattern=$2
    shift 2
    if git ls-files -- "$@" | xargs grep -nHE -- "$pattern"; then
        echo "$what"
        failed=1
    fi
}
forbid "write i++ where the value is not used" '(;|^) *(\+\+|--)[a-z_.>-]+(\)|;)|, (\+\+|--)[a-z_]+\) ' '*.c' '*.h' '*.cu' '*.cuh' '*.cpp'
forbid "a static function has no prefix: nd_ is for what other files see" '^static [^=;{]*\bnd_[a-z0-9_]+\(' '*.c'
limit=$(sed -n 's/^ColumnLimit: //p' .clang-format)
forbid "longer than $limit columns" "^.{$((limit + 1)),}" '*.c' '*.h' '*.cu' '*.cuh' '*.cpp'
exit $failed
