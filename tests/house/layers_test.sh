#!/usr/bin/env bash
# layers.sh finds what it is for: an include upwards, out of a room within a room too, headers and sources in a circle.
set -euo pipefail
cd "$(dirname "$0")/../.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z host cuda eval bench datasets tests/house | xargs -0 cp --parents -t "$copy"
git -C "$copy" init -q
failed=0

# plant WHAT EXPECTED FILE...: text from stdin appended to FILE must make layers.sh fail and say EXPECTED.
plant() {
    local what=$1 expected=$2 file=$3 kept text
    kept=$(mktemp)
    text=$(cat)
    cp "$copy/$file" "$kept"
    printf '%s\n' "$text" >>"$copy/$file"
    git -C "$copy" add -A
    if said=$("$copy/tests/house/layers.sh" 2>&1); then
        echo "not found: $what"
        failed=1
    elif ! grep -qF -- "$expected" <<<"$said"; then
        echo "$what: nothing said of \"$expected\":"
        tail -5 <<<"$said"
        failed=1
    fi
    mv "$kept" "$copy/$file"
}

git -C "$copy" add -A
"$copy/tests/house/layers.sh" >/dev/null || { echo "layers.sh fails before anything is planted"; exit 1; }
plant "an include of a room above" "host/base may not include run/backend.h" host/base/text/text.c <<<'#include "run/backend.h"'
plant "an include of a room above within a room" "host/decouple/fit may not include decouple/calib/calibrate.h" \
    host/decouple/fit/refit.c <<<'#include "decouple/calib/calibrate.h"'
plant "headers in a circle" "headers that include each other: host/base/memory.h, host/base/tensor.h" \
    host/base/memory.h <<<'#include "base/tensor.h"'
plant "sources in a circle" "host/decouple/settle.c uses nd_decouple_prepare of host/decouple/decouple.c" \
    host/decouple/settle.c <<<'int nd_planted(void) { return nd_decouple_prepare(0); }'
plant "a CUDA header outside cuda/" "a CUDA header outside cuda/" host/run/view.c <<<'#include <cuda_runtime.h>'
exit $failed
