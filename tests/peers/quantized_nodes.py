#!/usr/bin/env python3
"""Quantised networks are written anew, in opset 17: nodes of other opsets, with attributes or operands, say the same there.

quantized_nodes.py BUILD: small networks with one such node each through `nd quantize`; the file passes the checker, and onnxruntime
makes nearly the same of it as of the original, 8 bits apart."""
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

APART = 0.08  # relative; a lost mode, axis or size is at 0.2 and above
rng = np.random.default_rng(0)


def reals(values, name):
    return numpy_helper.from_array(np.array(values, np.float32), name)


def whole(values, name):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), output.split(), **attributes)


def split(*inputs, **attributes):
    outputs = "b c d" if "num_outputs" in attributes else "b c"
    return [helper.make_node("Split", ["a", *inputs], outputs.split(), **attributes),
            node("Concat", outputs[::-1], "m", axis=1)]


def resize(*inputs, op="Resize", **attributes):
    return [helper.make_node(op, ["a", *inputs], ["m"], **attributes)]


TWICE = reals([1, 1, 2, 2], "s")
# name, opset, nodes from a to m, initializers
CASES = [
    ("Pad reflect", 13, [node("Pad", "a p", "m", mode="reflect")], [whole([0, 0, 1, 1, 0, 0, 1, 1], "p")]),
    ("Pad edge", 11, [node("Pad", "a p", "m", mode="edge")], [whole([0, 0, 2, 1, 0, 0, 1, 1], "p")]),
    ("Pad attributes", 10, [node("Pad", "a", "m", mode="reflect", pads=[0, 0, 1, 1, 0, 0, 1, 1])], []),
    ("Pad axes", 18, [helper.make_node("Pad", ["a", "p", "", "k"], ["m"], mode="reflect")],
     [whole([1, 2, 2, 1], "p"), whole([2, 3], "k")]),
    ("Split attribute", 11, split(axis=1, split=[3, 5]), []),
    ("Split operand", 13, split("p", axis=1), [whole([3, 5], "p")]),
    ("Split number", 18, split(axis=1, num_outputs=3), []),
    ("Upsample", 9, resize("s", op="Upsample", mode="nearest"), [TWICE]),
    ("Resize scales", 10, resize("s", mode="nearest"), [TWICE]),
    ("Resize nearest", 13, resize("", "s", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"), [TWICE]),
    ("Resize linear", 13, resize("", "s", mode="linear"), [reals([1, 1, 1.5, 1.5], "s")]),
    ("Slice", 13, [node("Slice", "a s e k t", "m")],
     [whole([1, 2], "s"), whole([15, 16], "e"), whole([2, 3], "k"), whole([1, 2], "t")]),
    ("Clip", 13, [node("Clip", "a l h", "m")], [reals(0, "l"), reals(1, "h")]),
    ("ReduceMean operand", 18, [node("ReduceMean", "a k", "m")], [whole([2, 3], "k")]),
    ("ReduceSum operand", 13, [node("ReduceSum", "a k", "m")], [whole([2, 3], "k")]),
    ("ReduceSum attribute", 11, [node("ReduceSum", "a", "m", axes=[2, 3])], []),
    ("Expand", 13, [node("ReduceMean", "a", "r", axes=[2, 3]), node("Expand", "r s", "m")], [whole([1, 1, 4, 4], "s")]),
    ("Tile", 13, [node("Tile", "a s", "m")], [whole([1, 1, 2, 1], "s")]),
    ("Tanh", 13, [node("Tanh", "a", "m")], []),
    ("Where", 13, [node("Abs", "a", "r"), node("Where", "c r a", "m")], [numpy_helper.from_array(np.array([True] * 8 + [False] * 8), "c")]),
    ("Unsqueeze", 13, [node("ReduceMean", "a", "r", axes=[2, 3], keepdims=0), node("Unsqueeze", "r k", "m")], [whole([2, 3], "k")]),
]


def network(opset, nodes, initializers):
    nodes = [node("Conv", "x w", "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), *nodes, node("Conv", "m v", "y", kernel_shape=[1, 1])]
    weights = [reals(rng.normal(size=(8, 3, 3, 3)) / 5, "w"), reals(rng.normal(size=(4, 8, 1, 1)) / 3, "v")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, None, None])], weights + initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def run(path, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def judge(build, folder, name, opset, nodes, initializers):
    """What is wrong with it, or None."""
    before, after = f"{folder}/before.onnx", f"{folder}/after.onnx"
    onnx.save(network(opset, nodes, initializers), before)
    done = subprocess.run([f"{build}/nd", "quantize", before, "-o", after, "--calib", "synthetic", "--calib-images", "8",
                           "--calib-preprocess", "crop=16,scale=1/255", "-q"], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()
    try:
        onnx.checker.check_model(onnx.load(after), full_check=True)
        x = rng.random((2, 3, 16, 16), np.float32)
        wanted, got = run(before, x), run(after, x)
    except Exception as error:  # whatever the checker or the runtime says of the file
        return str(error).strip()
    if wanted.shape != got.shape:
        return f"{got.shape}, not {wanted.shape}"
    apart = np.linalg.norm(wanted - got) / np.linalg.norm(wanted)
    return None if apart < APART else f"{apart:.3f} apart"


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, opset, *rest in CASES:
            wrong = judge(sys.argv[1], folder, name, opset, *rest)
            failed += wrong is not None
            if wrong:
                print(f"{name} of opset {opset}: {wrong}")
    print(f"quantised nodes: {len(CASES)} networks, {failed} failed")
    sys.exit(failed > 0)


main()
