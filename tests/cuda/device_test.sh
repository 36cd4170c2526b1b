#!/bin/sh
# The cuda backend against ref on whatever device is here: device_test.sh BUILD
# Without a device it exits 77 and says why; ND_REQUIRE_GPU=1 makes that a failure.
set -eu
nd=$1/nd
said=$("$nd" devices 2>&1) || true
if ! echo "$said" | grep -q 'sm_[0-9]'; then
    echo "skipped: no GPU: $(echo "$said" | grep -i cuda | head -n 1)"
    [ "${ND_REQUIRE_GPU:-0}" = 1 ] && exit 1
    exit 77
fi
status=0
for algorithm in dense chunked fused; do
    for dtype in fp32 tf32 fp16 bf16; do
        echo "== $dtype, separable layers $algorithm"
        ND_CUDA_SEPARABLE=$algorithm "$nd" check --backend cuda --dtype $dtype || status=1
    done
done
exit $status
