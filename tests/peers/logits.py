#!/usr/bin/env python3
"""What nd writes, run by onnxruntime: the decoupled file must be accepted by onnx.checker and give the logits that nd
itself computes; at full rank they must be those of the original.

usage: logits.py BUILD [DATA]        DATA: a folder with models/*.onnx to take as well

ND_PEERS_ALL=1 takes every architecture of the zoo, at full rank; that writes and loads many gigabytes.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import peer
import written

# An architecture stands for random weights, seed 1. The large ones run at full rank alone.
SMALL = ["glyphs", "resnet20"]
LARGE = ["resnet18", "alexnet", "vgg11_bn"]

TOLERANCE = written.TOLERANCE

# Settings of nd decouple. At full rank (5x5 kernels have 25 terms) the logits are those of the original.
FULL_RANK = ("dwpw", "--rank", "25")
SETTINGS = [("dwpw", "--rank", "3"), ("pwdw", "--rank", "3"), ("dwpw", "--rank", "3", "--ranks", "adaptive"),
            ("auto", "--macs-ratio", "1.5"), FULL_RANK]


def run_onnxruntime(path, images):
    session = written.session(path)
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def images_for(path):
    shape = onnx.load(str(path)).graph.input[0].type.tensor_type.shape
    return np.random.default_rng(1).standard_normal([2] + [d.dim_value for d in shape.dim[1:]]).astype(np.float32)


def decouple(build, model, path, *settings):
    done = subprocess.run([f"{build}/nd", "decouple", model, "-o", str(path), *settings], capture_output=True,
                          text=True, timeout=600)
    if done.returncode:
        what = f"nd decouple {model} {' '.join(settings)}"
        raise peer.Failed(f"{what} ended with {done.returncode}: {done.stderr.strip()}")
    if model.endswith(".onnx"):
        full_rank = settings[-2:] == FULL_RANK[-2:] or "*" in settings
        written.check(model, path, TOLERANCE if full_rank else None)
    else:
        written.check_valid(path)


def compare(what, got, want):
    error = np.abs(got - want).max() / np.abs(want).max()
    good = got.shape == want.shape and error <= TOLERANCE
    print(f"{'ok' if good else 'FAILED':6} {what:60} {error:.1e}", flush=True)
    return good


def check_model(build, model, settings, folder):
    path = pathlib.Path(folder) / "decoupled.onnx"
    name = pathlib.Path(model).name
    decouple(build, model, path, "--skip", "*", "--rank", "1")  # nothing decoupled
    images = images_for(path)
    original = run_onnxruntime(path, images)
    good = compare(f"{name}, untouched", peer.run(build, "auto", model, [images])[0], original)
    for setting in settings:
        method, *options = setting
        decouple(build, model, path, "--method", method, *options)
        logits = run_onnxruntime(path, images)
        label = f"{name}, {method} {' '.join(options)}"
        good &= compare(label, peer.run(build, "auto", path, [images])[0], logits)
        if setting == FULL_RANK:
            good &= compare(label + ", against the original", logits, original)
    return good


def write_foreign(path):
    """Convolutions around operators nd cannot run: Mish, and an If whose branches read the graph around them."""
    rng = np.random.default_rng(1)

    def floats(*shape):
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def image(name, channels):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, 12, 12])

    node, padded = helper.make_node, {"pads": [1, 1, 1, 1]}
    twice = helper.make_graph([node("Mul", ["c", "two"], ["t"])], "twice", [], [image("t", 8)])
    once = helper.make_graph([node("Identity", ["c"], ["u"])], "once", [], [image("u", 8)])
    weights = {"w1": floats(8, 3, 3, 3), "w2": floats(8, 8, 3, 3), "w3": floats(4, 8, 3, 3), "gamma": floats(8),
               "beta": floats(8), "mean": floats(8), "var": np.abs(floats(8)) + 1, "two": np.float32(2),
               "cond": np.array(True)}
    graph = helper.make_graph(
        [node("Conv", ["x", "w1"], ["a"], **padded), node("Identity", ["a"], ["i"]), node("Mish", ["i"], ["m"]),
         node("Conv", ["m", "w2"], ["b"], **padded),
         node("BatchNormalization", ["b", "gamma", "beta", "mean", "var"], ["c"]),
         node("If", ["cond"], ["z"], then_branch=twice, else_branch=once), node("Conv", ["z", "w3"], ["y"], **padded)],
        "foreign", [image("x", 3)], [image("y", 4)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
        value_info=[image("z", 8)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


def check_foreign(build, folder):
    """Both convolutions after the first are decoupled; the operators between them stay as they are."""
    path, new = pathlib.Path(folder) / "foreign.onnx", pathlib.Path(folder) / "decoupled.onnx"
    write_foreign(path)
    decouple(build, str(path), new, "--method", "pwdw", "--rank", "25")
    operators = [n.op_type for n in onnx.load(str(new)).graph.node]
    images = images_for(path)
    good = compare("foreign.onnx, pwdw --rank 25, against the original", run_onnxruntime(new, images),
                   run_onnxruntime(path, images))
    return good and operators == ["Conv", "Identity", "Mish", "Conv", "Conv", "If", "Conv", "Conv"]


def main():
    build = sys.argv[1]
    small, large = list(SMALL), list(LARGE)
    if len(sys.argv) > 2:
        small += sorted(str(path) for path in pathlib.Path(sys.argv[2]).glob("models/*.onnx"))
    if os.environ.get("ND_PEERS_ALL"):
        rows = subprocess.run([f"{build}/nd", "zoo", "--json", "-"], capture_output=True, text=True, check=True).stdout
        large = sorted({json.loads(row)["model"] for row in rows.splitlines()} - set(small))
    with tempfile.TemporaryDirectory() as folder:
        good = [check_foreign(build, folder)]
        good += [check_model(build, model, SETTINGS, folder) for model in small]
        good += [check_model(build, model, [FULL_RANK], folder) for model in large]
    print(f"{sum(good)} of {len(good)} models agree")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
