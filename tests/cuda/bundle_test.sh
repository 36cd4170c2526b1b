#!/bin/sh
# The bundle for bare GPU machines: packed, within its limit, and what it holds runs from where it was unpacked.
#   bundle_test.sh BUILD
set -eu
build=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/cuda/tools/bundle.sh" "$build" "$work/nd.tar.gz"
tar -C "$work" -xzf "$work/nd.tar.gz"

home=$work/nd
run() {
    env -u ND_PLUGINS -u ND_SHARE LD_LIBRARY_PATH="$home/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
        XDG_CACHE_HOME="$work/cache" "$home/bin/nd" "$@"
}
run --version
run devices > "$work/devices" 2>&1
grep cuda "$work/devices" || { echo "FAIL: nd devices has no line about cuda:"; cat "$work/devices"; exit 1; }
run eval glyphs --data glyphs --limit 8 --backend ref > "$work/eval" 2>&1 || { cat "$work/eval"; exit 1; }
grep top-1 "$work/eval"
