#!/usr/bin/env python3
"""Writes the seeds of fuzz_onnx: small models that between them hold every operator and tensor encoding nd reads.

usage: make_onnx_seeds.py FOLDER        (needs the onnx package)
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper


def tensor(name, array, encoding="raw"):
    """An initializer in one of the encodings of the format."""
    if encoding == "raw":
        return numpy_helper.from_array(array, name)
    if array.dtype == np.float16:
        return h.make_tensor(name, T.FLOAT16, array.shape, array.flatten().tolist())
    return h.make_tensor(name, h.np_dtype_to_tensor_dtype(array.dtype), array.shape, array.flatten().tolist())


def save(folder, name, nodes, inits, shape=("N", 2, 6, 6), opset=13, ir=8, out_rank=4):
    graph = h.make_graph(
        nodes, name, [h.make_tensor_value_info("x", T.FLOAT, shape)],
        [h.make_tensor_value_info("y", T.FLOAT, [None] * out_rank)], inits)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=ir, producer_name="")
    h.set_model_props(model, {"k": "v"})
    (folder / (name + ".onnx")).write_bytes(model.SerializeToString())


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)

    def floats(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    n = h.make_node
    row = [tensor(k, np.abs(floats(3)) + 1, "list") for k in ("g", "b", "m", "v")]
    save(folder, "conv_bn", [
        n("Conv", ["x", "c.weight"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 1]),
        n("BatchNormalization", ["a", "g", "b", "m", "v"], ["n"], epsilon=1e-3),
        n("LeakyRelu", ["n"], ["l"], alpha=0.1),
        n("Conv", ["l", "w2", "b2"], ["y"], auto_pad="SAME_UPPER", group=3, dilations=[2, 2])],
        [tensor("c.weight", floats(3, 2, 3, 3)), tensor("w2", floats(3, 1, 2, 3), "list"),
         tensor("b2", floats(3))] + row)
    save(folder, "shapes", [
        n("Shape", ["x"], ["s"]), n("Gather", ["s", "zero"], ["n0"], axis=0),
        n("Unsqueeze", ["n0", "axes"], ["n1"]), n("Concat", ["n1", "minus"], ["to"], axis=0),
        n("Reshape", ["x", "to"], ["f"]), n("Gemm", ["f", "w", "b"], ["d"], transB=1, alpha=0.5),
        n("Softmax", ["d"], ["y"], axis=1)],
        [tensor("zero", np.array(0, np.int64), "list"), tensor("axes", np.array([0], np.int64)),
         tensor("minus", np.array([-1], np.int64), "list"), tensor("w", floats(4, 72)), tensor("b", floats(4))],
        out_rank=2)
    save(folder, "pads", [
        n("Constant", [], ["p"], value=tensor("", np.array([[0, 0], [1, 1], [0, 1], [0, 1]], np.int64))),
        n("Transpose", ["p"], ["t"], perm=[1, 0]), n("Constant", [], ["m1"], value_ints=[-1]),
        n("Reshape", ["t", "m1"], ["r"]), n("Cast", ["r"], ["i"], to=T.INT64), n("Pad", ["x", "i"], ["q"]),
        n("Slice", ["q", "st", "en", "ax", "sp"], ["z"]), n("ReduceMean", ["z"], ["y"], axes=[2, 3])],
        [tensor("st", np.array([0], np.int32), "list"), tensor("en", np.array([99], np.int32)),
         tensor("ax", np.array([-1], np.int32)), tensor("sp", np.array([2], np.int32))])
    save(folder, "pools", [
        n("MaxPool", ["x"], ["a"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        n("AveragePool", ["x"], ["b"], kernel_shape=[2, 2], strides=[2, 2], count_include_pad=1),
        n("Concat", ["a", "b"], ["c"], axis=1), n("Clip", ["c", "", "hi"], ["d"]), n("LRN", ["d"], ["e"], size=3),
        n("Dropout", ["e"], ["f", "mask"]), n("GlobalAveragePool", ["f"], ["y"])],
        [tensor("hi", np.array(6, np.float32), "list")])
    save(folder, "others", [
        n("HardSwish", ["x"], ["a"]), n("HardSigmoid", ["a"], ["b"]), n("Sigmoid", ["b"], ["c"]),
        n("Mul", ["c", "k"], ["d"]), n("Cast", ["half"], ["hf"], to=T.FLOAT), n("Add", ["d", "hf"], ["e"]),
        n("Gather", ["e", "idx"], ["f"], axis=1), n("Identity", ["f"], ["g"]), n("Relu", ["g"], ["h"]),
        n("Flatten", ["h"], ["i"]), n("MatMul", ["i", "w"], ["j"]), n("Squeeze", ["j"], ["o"]),
        n("Unsqueeze", ["o", "zero"], ["y"])],
        [tensor("k", floats(2, 1, 1), "list"), tensor("half", np.ones((1, 2, 1, 1), np.float16), "list"),
         tensor("idx", np.array([1, 0, 1], np.int64)), tensor("w", floats(108, 2)),
         tensor("zero", np.array([0], np.int64))], opset=17, out_rank=2)
    then = h.make_graph([n("Mul", ["x", "k"], ["t"])], "then",
                        [], [h.make_tensor_value_info("t", T.FLOAT, None)])
    other = h.make_graph([n("Identity", ["x"], ["u"])], "else",
                         [], [h.make_tensor_value_info("u", T.FLOAT, None)])
    save(folder, "branch", [n("If", ["cond"], ["z"], then_branch=then, else_branch=other),
                            n("Mish", ["z"], ["y"])],
         [tensor("cond", np.array(True)), tensor("k", np.array(2, np.float64), "list"),
          h.make_tensor("odd", T.STRING, [1], [b"s"])], opset=18, ir=9)


if __name__ == "__main__":
    main()
