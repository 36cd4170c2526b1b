#!/bin/sh
# nd beside onnxruntime and OpenVINO by time: speed.py, in a virtual environment in BUILD. Wants a machine with nothing else
# on it, for some MINUTES (12).
# usage: tests/peers/speed.sh BUILD ROWS.jsonl [NETWORK...] > results/cpu_peers.md
set -eu
build=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONDONTWRITEBYTECODE=1
python=${ND_PEERS_PYTHON:-$build/peers_speed/bin/python3}
if [ -z "${ND_PEERS_PYTHON:-}" ] && ! cmp -s "$here/requirements_speed.txt" "$build/peers_speed/requirements.txt"; then
    rm -rf "$build/peers_speed"
    python3 -m venv "$build/peers_speed"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements_speed.txt" >&2
    cp "$here/requirements_speed.txt" "$build/peers_speed/requirements.txt"
fi
exec "$python" "$here/speed.py" "$build" "$@"
