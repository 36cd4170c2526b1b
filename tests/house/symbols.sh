#!/usr/bin/env bash
# libnd.so exports nothing without the nd_ prefix, a plugin nothing but its entry, and no library exits, aborts or prints.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build}
failed=0
exported() { nm -D --defined-only "$1" | awk '{print $3}' | grep -vE '^(_init|_fini|_edata|_end|__bss_start)$'; }

if exported "$build/libnd.so" | grep -v '^nd_'; then
    echo "libnd.so exports the symbols above without the prefix nd_"
    failed=1
fi
for plugin in "$build"/libnd_*.so; do
    [ -e "$plugin" ] || continue
    if exported "$plugin" | grep -vx nd_plugin_entry; then
        echo "$plugin exports more than nd_plugin_entry"
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
echo "symbols: $(exported "$build/libnd.so" | wc -l) exported by libnd.so"
exit $failed
