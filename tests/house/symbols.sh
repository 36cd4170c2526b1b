#!/usr/bin/env bash
# libnd.so exports what the public headers declare, no more and no less; a plugin exports nothing but its entry and needs of
# libnd what that exports; and no library exits, aborts or prints.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
exported() { nm -D --defined-only "$1" | awk '{print $3}' | grep -vE '^(_init|_fini|_edata|_end|__bss_start)$' | LC_ALL=C sort; }

# declared INCLUDE: the functions and objects with external linkage that the headers in INCLUDE/nd declare.
declared() {
    (cd "$1" && find nd -name '*.h' ! -name row_fields.h | LC_ALL=C sort | sed 's/.*/#include "&"/') >"$work/all.c"
    gcc -std=c11 -I"$1" -fsyntax-only -aux-info "$work/functions" "$work/all.c"
    gcc -std=c11 -I"$1" -E -P "$work/all.c" | tr '\n' ' ' >"$work/text"
    # gcc lists the types of functions among the functions.
    grep -oE 'typedef [^;{(]*\bnd_[a-z0-9_]+\(' "$work/text" | grep -oE '\bnd_[a-z0-9_]+\($' | tr -d '(' >"$work/types"
    {
        grep -F "$1/nd/" "$work/functions" | grep -E '^/\* [^*]*\*/ extern ' | grep -oE '\bnd_[a-z0-9_]+ \(' | tr -d ' (' |
            grep -vxFf "$work/types"
        grep -oE '\bextern const [^;(]*;' "$work/text" | tr ',' '\n' | sed -E 's/\[[^]]*\]//; s/ *;//' | grep -oE 'nd_[a-z0-9_]+ *$' | tr -d ' '
    } | LC_ALL=C sort -u
}

# compare DECLARED EXPORTED: says what is in one list alone; false where there is any.
compare() {
    local alone=0
    if LC_ALL=C comm -13 "$1" "$2" | grep .; then
        echo "exported by libnd.so, declared by no public header: the symbols above"
        alone=1
    fi
    if LC_ALL=C comm -23 "$1" "$2" | grep .; then
        echo "declared by a public header, not exported by libnd.so: the symbols above"
        alone=1
    fi
    return $alone
}

exported "$build/libnd.so" >"$work/exported"
declared "$(realpath "$build/include")" >"$work/declared"
[ "$(wc -l <"$work/declared")" -gt 50 ] || { echo "only $(wc -l <"$work/declared") declarations found: wrong folder?"; exit 1; }
compare "$work/declared" "$work/exported" || failed=1
# A comparison that cannot fail is no check: one symbol more on either side must be seen.
for side in declared exported; do
    cp "$work/declared" "$work/more" && echo nd_zz_planted >>"$work/more"
    if { [ $side = declared ] && compare "$work/more" "$work/declared" || [ $side = exported ] && compare "$work/declared" "$work/more"; } >/dev/null; then
        echo "a planted symbol was not noticed"
        failed=1
    fi
done

for plugin in "$build"/libnd_*.so; do
    [ -e "$plugin" ] || continue
    if exported "$plugin" | grep -vx nd_plugin_entry; then
        echo "$plugin exports more than nd_plugin_entry"
        failed=1
    fi
    nm -D --undefined-only "$plugin" | awk '$2 ~ /^nd_/ {print $2}' | LC_ALL=C sort >"$work/needed"
    if LC_ALL=C comm -23 "$work/needed" "$work/exported" | grep .; then
        echo "$plugin needs the symbols above, which libnd.so does not export"
        failed=1
    fi
done
for library in "$build"/libnd.so "$build"/libnd_*.so; do
    [ -e "$library" ] || continue
    if nm -D --undefined-only "$library" | awk '{print $2}' | sed 's/@.*//' | grep -xE 'exit|_exit|abort|printf|puts|putchar|vprintf|perror'; then
        case "$library" in *libnd_cuda.so) continue ;; esac # the static CUDA runtime brings its own
        echo "$library calls the functions above, which belong to programs"
        failed=1
    fi
done
echo "symbols: $(wc -l <"$work/declared") declared by $(find "$build/include/nd" -name '*.h' | wc -l) public headers, $(wc -l <"$work/exported") exported by libnd.so"
exit $failed
