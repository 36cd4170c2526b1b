#!/bin/sh
# The step `layers` of device.sh within its 110 s, by the mock's clock: layers_time.sh BUILD
# With 40 engines a problem that are there ready-made, and none or 8 that cuDNN compiles for 1.4 s each; then once more
# from the winners that the run has left.
set -eu
build=$1 limit=110
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME="$work/cache" ND_PLUGINS="$build/mock"
failed=0
for compiled in 0 8 again; do
    [ $compiled = again ] || rm -rf "$work/cache"
    engines=8
    [ $compiled = again ] || engines=$compiled
    ND_MOCK_GPU=dry=1,mib=81920,l2kib=51200,multiprocessors=132,latency=1,time=1,ready=40,compiled=$engines \
        "$build/nd_layers_time" > "$work/out" 2>&1 || { echo "FAIL: $(tail -n 3 "$work/out")"; failed=1; }
    seconds=$(sed -n 's/^mock gpu: \([0-9]*\)\.[0-9]* s passed$/\1/p' "$work/out")
    echo "compiled=$compiled: ${seconds:-no} s, $(grep rows "$work/out"), $(wc -l < "$work/cache/nd/autotuned.txt") winners kept"
    [ -n "$seconds" ] && [ "$seconds" -le $limit ] || { echo "FAIL: more than $limit s"; failed=1; }
done
exit $failed
