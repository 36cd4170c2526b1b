#!/bin/sh
# The engines that cuDNN proposes for H100, A100 and RTX 4090 against the golden file: engines.sh PROGRAM GOLDEN [--bless]
# Another version of cuDNN has other engines: that is a skip, and says so. A query that fails is a failure.
set -eu
program=$1 golden=$2
now=$(mktemp)
trap 'rm -f "$now"' EXIT
"$program" > "$now"
if [ "${3:-}" = --bless ]; then
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
