#!/usr/bin/env bash
# clang-tidy 14 with the committed .clang-tidy finds nothing: a minute and a half on two cores. The analyser, which takes
# nearly all of that, looks at the rooms that read what others have written.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build}
tidy=$(command -v clang-tidy-14 || command -v clang-tidy || true)
# Another major version finds other things.
version=$(${tidy:-false} --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p' || true)
[ "$version" = 14 ] || { echo "skipped: clang-tidy 14 is wanted, here is ${version:-none}"; exit 0; }
[ -f "$build/compile_commands.json" ] || { echo "no compile_commands.json in $build"; exit 1; }

# look FILES OPTION...: several files at once; false where any has a finding.
look() {
    local files=$1
    shift
    xargs -P "$(nproc)" -n 4 "$tidy" -p "$build" --quiet "$@" <<<"$files" 2>/dev/null
}

# What is for other processors is compiled with options of theirs, and where they are not, not at all.
all=$(git ls-files 'host/*.c' 'datasets/*.c' 'eval/*.c' 'bench/*.c' | grep -vE '_(avx2|avx512|amx|bf16|vnni)[^/]*\.c$')
deep=$(grep -E '^(host/base|host/model|datasets)/' <<<"$all" | grep -v '^host/base/status.c$')
failed=0
look "$all" --checks='-clang-analyzer-*' || failed=1
look "$deep" --extra-arg=-include --extra-arg="$PWD/tests/house/tidy.h" || failed=1
echo "clang-tidy: $(wc -l <<<"$all") files, $(wc -l <<<"$deep") of them analysed"
exit $failed
