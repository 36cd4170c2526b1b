#!/bin/sh
# nd beside other people's runtimes: onnx.checker, onnxruntime, the node tests of the ONNX project, and pycocotools. They are Python
# packages, put into a virtual environment in BUILD; where that cannot be had the test is skipped (exit code 77).
# ND_PEERS_PYTHON names an interpreter that has them already; ND_DATA a folder with real networks.
# usage: tests/peers/run.sh BUILD
set -eu
build=$(cd "$1" && pwd)
cd "$(dirname "$0")"
export PYTHONDONTWRITEBYTECODE=1
python=${ND_PEERS_PYTHON:-$build/peers/bin/python3}

skip() {
    echo "skipped: $*"
    exit 77
}

if [ -z "${ND_PEERS_PYTHON:-}" ] && ! cmp -s requirements.txt "$build/peers/requirements.txt"; then
    rm -rf "$build/peers"
    python3 -m venv "$build/peers" || skip "python3 cannot make a virtual environment"
    "$python" -m pip install --quiet --disable-pip-version-check -r requirements.txt ||
        skip "the packages of tests/peers/requirements.txt cannot be installed"
    cp requirements.txt "$build/peers/"
fi
"$python" -c 'import numpy, onnx, onnxruntime, pycocotools' ||
    skip "$python lacks numpy, onnx, onnxruntime or pycocotools"

data=${ND_DATA:-../../../shared/data}
[ -d "$data/models" ] || data=
[ -n "$data" ] || echo "no ND_DATA: without the real networks"

"$python" node_tests.py "$build"
"$python" operations.py "$build"
"$python" opsets.py "$build"
"$python" kept.py
"$python" quantized_nodes.py "$build"
"$python" random_graphs.py "$build" 200
"$python" detection.py "$build" 200
"$python" annotated.py "$build" 4
"$python" logits.py "$build" ${data:+"$data"}
