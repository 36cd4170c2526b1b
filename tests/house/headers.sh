#!/usr/bin/env bash
# Every header compiles alone, twice included, without a warning. CUDA's headers need nvcc's include folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build}
count=0
for header in $(git ls-files 'host/**.h' 'host/*.h' 'datasets/*.h' 'eval/*.h' 'bench/*.h'); do
    case "$header" in
    *row_fields.h) continue ;; # a table, made to be included under a macro
    *_template.h) continue ;;  # a body, made to be included once per instruction set
    esac
    # One declaration more: a header of macros alone is no translation unit.
    printf '#include "%s"\n#include "%s"\nextern int declared;\n' "$header" "$header" |
        gcc -std=c11 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -Wall -Wextra -Wpedantic -Werror -Ihost -I. \
            -I"$build/generated" -fsyntax-only -x c -
    count=$((count + 1))
done
[ "$count" -gt 20 ] || { echo "only $count headers found: wrong folder?"; exit 1; }
echo "self-contained: $count headers"
