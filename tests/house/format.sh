#!/usr/bin/env bash
# Every C and CUDA file is as clang-format 14 and the committed .clang-format would write it.
set -euo pipefail
cd "$(dirname "$0")/../.."
formatter=$(command -v clang-format-14 || command -v clang-format || true)
# Another major version lays some lines out otherwise: what it says proves nothing.
version=$(${formatter:-false} --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p' || true)
if [ "$version" = 14 ]; then
    git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' | xargs "$formatter" --dry-run --Werror
else
    echo "skipped: layout: clang-format 14 is wanted, here is ${version:-none}"
fi
if git ls-files -z | xargs -0 grep -nIE '[ 	]+$' -- | grep -vE '\.(csv|md|json|svg)(:|$)' | sed -n 1,5p | grep .; then
    echo "white space at the end of a line"
    exit 1
fi
echo "formatted: $(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' | wc -l) files"
