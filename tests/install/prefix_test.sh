#!/usr/bin/env bash
# What is installed works from its prefix alone: the example of nd.h compiles with pkg-config and runs, a CMake project finds
# nd::nd, libnd.so opened for one module alone finds its plugin, nd finds its data, its manual and its completions.
#   prefix_test.sh BUILD
set -euo pipefail
build=$(realpath "${1:?build folder}")
root=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
if grep -q '^ND_SANITIZE:STRING=.' "$build/CMakeCache.txt"; then
    echo "skipped: a library with sanitizers links no plain program"
    exit 77
fi
unset ND_SHARE ND_PLUGINS LD_LIBRARY_PATH
export ND_CACHE=$work/cache

cmake --install "$build" --prefix "$work/first" >"$work/log" || { cat "$work/log"; exit 1; }
mv "$work/first" "$work/prefix" # nothing in it may know where it was installed
prefix=$work/prefix
lib=$(dirname "$(find "$prefix" -name 'libnd.so')")
export PKG_CONFIG_PATH=$lib/pkgconfig
cd "$work"

# --- the program
"$prefix/bin/nd" eval glyphs --data glyphs --limit 64 --backend ref --json rows >/dev/null
grep -q '"top1_correct":[1-9]' rows || fail "nd eval glyphs from the prefix"
if [ -e "$lib/nd/libnd_cpu.so" ]; then
    "$prefix/bin/nd" devices --backend cpu >devices 2>&1 || { cat devices; fail "the cpu plugin is not found from the program"; }
fi
(cd / && exec -a nd "$prefix/bin/nd" eval glyphs --data glyphs --limit 1 --backend ref >/dev/null) || fail "nd by a name without a folder"

# --- the library by pkg-config alone: the example of the header, as it stands there
awk '/^ \*     #include <nd\/nd.h>/ {on = 1} /^ \*     cc / {on = 0} on {sub(/^ \* ? ? ? ? ?/, ""); print}' "$prefix/include/nd/nd.h" >halve.c
grep -q 'int main' halve.c || fail "no example in nd.h"
# shellcheck disable=SC2046 # several words
gcc -std=c11 -Wall -Wextra -Werror -o halve halve.c $(pkg-config --cflags --libs nd)
ldd halve >linked
grep -q 'libnd\.so\.0 => not found' linked || fail "libnd.so is found without being told where: another installation is in the way"
LD_LIBRARY_PATH=$lib ./halve >said || fail "the example of nd.h: exit $?"
grep -qE '^(1\.9|2\.)[0-9]* times fewer MACs$' said || fail "the example of nd.h said: $(cat said)"
[ -s decoupled.onnx ] || fail "the example of nd.h wrote no decoupled.onnx"

# --- by find_package
mkdir project
cp halve.c project/
printf '%s\n' 'cmake_minimum_required(VERSION 3.25)' 'project(halve C)' 'find_package(nd 0.1 REQUIRED)' \
    'add_executable(halve halve.c)' 'target_link_libraries(halve PRIVATE nd::nd)' >project/CMakeLists.txt
{ cmake -S project -B project/build -DCMAKE_PREFIX_PATH="$prefix" && cmake --build project/build; } >log 2>&1 || { cat log; fail "find_package(nd)"; }
(cd project && ./build/halve glyphs >said && grep -q 'fewer MACs' said) || fail "the program of the CMake project"

# --- every public header alone, in C and in C++
for header in $(cd "$prefix/include" && find nd -name '*.h' ! -name row_fields.h); do
    for language in c c++; do
        command -v g++ >/dev/null || [ $language = c ] || continue
        echo "#include <$header>" | gcc -x $language -Wall -Wextra -Werror -I"$prefix/include" -fsyntax-only - || fail "$header in $language"
    done
done

# --- a module that keeps libnd.so to itself, as Python does
if [ -e "$lib/nd/libnd_cpu.so" ] && command -v python3 >/dev/null; then
    python3 - "$lib/libnd.so" <<'PY' || fail "libnd.so opened with RTLD_LOCAL does not find its plugin"
import ctypes, sys
nd = ctypes.CDLL(sys.argv[1])
nd.nd_error.restype = ctypes.c_char_p
backend = ctypes.c_void_p()
if nd.nd_backend_open(b"cpu", None, ctypes.byref(backend)):
    sys.exit(nd.nd_error())
nd.nd_backend_close(backend)
PY
fi

# --- manual pages and completions
for page in nd nd-eval nd-decouple; do
    [ -s "$prefix/share/man/man1/$page.1" ] || fail "no manual page $page"
    command -v man >/dev/null && { man --warnings=w -l "$prefix/share/man/man1/$page.1" 2>&1 >/dev/null | grep . && fail "$page.1"; }
done
bash -c "source '$prefix/share/bash-completion/completions/nd'; COMP_WORDS=(nd eval --da); COMP_CWORD=2; _nd; [[ \" \${COMPREPLY[*]} \" == *' --data '* ]]" ||
    fail "bash does not complete nd eval --da"
! command -v zsh >/dev/null || zsh -n "$(find "$prefix" -name _nd)" || fail "zsh does not read _nd"
echo "installed: $(find "$prefix" -type f | wc -l) files, the example of nd.h said: $(cat said)"
