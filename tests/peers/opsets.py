#!/usr/bin/env python3
"""One small network in the form every opset wants it (attributes that became inputs, defaults that changed), by nd and
by onnxruntime.

usage: opsets.py BUILD
"""
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import peer

OPSETS = range(7, 22)
TOLERANCE = 1e-5


class Network:
    """Nodes in a row, from x to y."""

    def __init__(self, opset):
        self.opset = opset
        self.nodes, self.initializers, self.value = [], [], "x"

    def constant(self, array):
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op, *operands, since=None, **attributes):
        """`since` maps attributes to the opset that made them inputs, in the order of the inputs."""
        inputs = [self.value, *(self.constant(o) if isinstance(o, np.ndarray) else o for o in operands)]
        for name, opset in (since or {}).items():
            if self.opset >= opset:
                value = attributes.pop(name)
                integer = isinstance(value, list)
                inputs.append(self.constant(np.array(value, np.int64 if integer else np.float32)))
        self.value = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [self.value], **attributes))

    def model(self, shape):
        self.nodes[-1].output[0] = "y"
        graph = helper.make_graph(self.nodes, "opset", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def build_network(opset):
    rng = np.random.default_rng(opset)

    def floats(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    net = Network(opset)
    net.add("Conv", floats(8, 3, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2])
    net.add("BatchNormalization", floats(8), floats(8), floats(8), np.abs(floats(8)) + 1)
    net.add("Clip", since={"min": 11, "max": 11}, min=-0.5, max=1.5)
    net.add("Pad", since={"pads": 11, "value": 11}, mode="constant", pads=[0, 0, 1, 2, 0, 0, 2, 1], value=0.25)
    net.add("Slice", since={"starts": 10, "ends": 10, "axes": 10}, starts=[1, -6], ends=[9999, 9999], axes=[1, 3])
    net.add("MaxPool", kernel_shape=[2, 2], **({"ceil_mode": 1, "strides": [2, 2]} if opset >= 10 else {}))
    net.add("Unsqueeze", since={"axes": 13}, axes=[2])
    net.add("Squeeze", since={"axes": 13}, axes=[2])
    net.add("Softmax", axis=1)  # flattened to two dimensions before 13
    net.add("Dropout", since={"ratio": 12}, ratio=0.5)
    net.add("LRN", size=3)
    net.add("HardSigmoid", alpha=0.3)
    if opset >= 14:
        net.add("HardSwish")
    net.add("ReduceMean", since={"axes": 18}, axes=[-1 if opset >= 11 else 3], keepdims=0)
    flat = net.value
    net.add("Shape")
    net.add("Gather", np.array(0, np.int64), axis=0)
    net.add("Unsqueeze", since={"axes": 13}, axes=[0])
    rows = net.value
    net.value = flat
    target = "target"
    net.nodes.append(helper.make_node("Concat", [rows, net.constant(np.array([-1], np.int64))], [target], axis=0))
    net.add("Reshape", target)
    half = net.constant(floats(28 if opset >= 10 else 49, 5).astype(np.float16))
    net.nodes.append(helper.make_node("Cast", [half], ["weights"], to=TensorProto.FLOAT))
    net.add("Gemm", "weights", floats(5), alpha=0.5, beta=2.0)
    return net.model(["N", 3, 9, 11])


def main():
    build = sys.argv[1]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    good = 0
    with tempfile.TemporaryDirectory() as folder:
        for opset in OPSETS:
            path = pathlib.Path(folder) / f"opset{opset}.onnx"
            model = build_network(opset)
            onnx.checker.check_model(model)
            path.write_bytes(model.SerializeToString())
            images = np.random.default_rng(0).standard_normal((2, 3, 9, 11)).astype(np.float32)
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            want = session.run(None, {"x": images})[0]
            got = peer.run(build, "ref", path, [images], fold=True)[0]
            error = np.abs(got - want).max() / np.abs(want).max() if got.shape == want.shape else np.inf
            print(f"{'ok' if error <= TOLERANCE else 'FAILED':6} opset {opset:2}  {error:.1e}")
            good += error <= TOLERANCE
    sys.exit(0 if good == len(OPSETS) else 1)


if __name__ == "__main__":
    main()
