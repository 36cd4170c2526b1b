#!/bin/sh
# The engines that cuDNN proposes for H100, A100 and RTX 4090 against the golden file: engines.sh PROGRAM GOLDEN STUB [--bless]
# STUB is the toolkit's libcuda.so without a driver behind it. Another version of cuDNN has other engines: that is a skip,
# and says so. A query that fails is a failure.
set -eu
program=$1 golden=$2 stub=$3
work=$(mktemp -d)
now=$work/now
trap 'rm -rf "$work"' EXIT
# Engines that cuDNN compiles are proposed where a driver could load them, and loaded when they are built: by one in which
# everything else fails.
nm -D --defined-only "$stub" | awk '
    $2 != "T" { next }
    $3 == "cuLibraryLoadData" || $3 == "cuLibraryGetKernel" { print "int " $3 "(void **out) { *out = out; return 0; }"; next }
    { print "int " $3 "(void) { return 34; }" }' > "$work/driver.c"
cc -w -shared -fPIC -o "$work/libcuda.so.1" "$work/driver.c"
"$program" > "$now"
LD_LIBRARY_PATH="$work${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$program" 8 >> "$now"
if [ "${4:-}" = --bless ]; then
    cp "$now" "$golden"
    echo "blessed $golden"
    exit 0
fi
if [ "$(head -n 1 "$now")" != "$(head -n 1 "$golden")" ]; then
    echo "skipped: golden is for \"$(head -n 1 "$golden")\", this is \"$(head -n 1 "$now")\""
    exit 77
fi
diff -u "$golden" "$now"
echo "$(wc -l < "$now") lines equal"
