"""Small graphs of single operators, run by nd and by onnxruntime at two batches.

usage: operations.py BUILD [name part]
"""
import pathlib
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import peer
import written

TOLERANCE = 1e-5  # of the largest output

RNG = np.random.default_rng(3)


def floats(*dims):
    return RNG.standard_normal(dims).astype(np.float32)


def model(nodes, dims, constants=None, opset=17):
    """A graph from input x[N, *dims] to the output of the last node; `constants` by name."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *dims])
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    inits = [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", [x], [y], inits)
    proto = helper.make_model(graph, ir_version=8,
                              opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)])
    proto = onnx.shape_inference.infer_shapes(proto)  # the output's shape; without one it is the input's
    if not proto.graph.output[0].type.tensor_type.HasField("shape"):
        proto.graph.output[0].type.CopyFrom(proto.graph.input[0].type)
    return proto


def node(op, inputs, output="y", **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


def unary():
    for op in ("Abs Ceil Cos Elu Erf Exp Floor Neg Round Selu Sign Sin Softplus Softsign Tanh Celu "
               "ThresholdedRelu").split():
        yield op, model([node(op, ["x"])], [5, 4, 3])
    for op in ("Sqrt", "Log", "Reciprocal"):
        yield op, model([node("Abs", ["x"], "a"), node("Add", ["a", "c"], "b"), node(op, ["b"])], [5, 4, 3],
                        {"c": np.float32(0.25)})
    yield "Mish", model([node("Mish", ["x"])], [5, 4, 3], opset=18)
    for approximate in ("none", "tanh"):
        yield f"Gelu {approximate}", model([node("Gelu", ["x"], approximate=approximate)], [7, 3], opset=20)
    # What exporters write for GELU, and a convolution with a function after it.
    yield "Gelu by Erf", model([node("Div", ["x", "r"], "a"), node("Erf", ["a"], "b"), node("Add", ["b", "one"], "c"),
                                node("Mul", ["x", "c"], "d"), node("Mul", ["d", "h"])], [4, 6],
                               {"r": np.float32(2 ** .5), "one": np.float32(1), "h": np.float32(.5)})
    yield "Conv Tanh", model([node("Conv", ["x", "w"], "a", pads=[1, 1, 1, 1]), node("Tanh", ["a"])], [3, 6, 5],
                             {"w": floats(4, 3, 3, 3)})


def binary():
    for op in ("Add", "Sub", "Mul", "Div", "Min", "Max"):
        for name, constant in (("scalar", np.float32(1.5)), ("channel", 2 + np.abs(floats(1, 5, 1, 1))),
                               ("row", 2 + np.abs(floats(3))), ("whole", 2 + np.abs(floats(1, 5, 4, 3)))):
            yield f"{op} {name}", model([node(op, ["x", "c"])], [5, 4, 3], {"c": constant})
        yield f"{op} reversed", model([node("Abs", ["x"], "a"), node("Add", ["a", "one"], "b"), node(op, ["c", "b"])],
                                      [5, 4, 3], {"c": floats(5, 1, 1), "one": np.float32(1)})
        yield f"{op} computed", model([node("Sigmoid", ["x"], "a"), node(op, ["x", "a"], "b"), node("Relu", ["b"])],
                                      [5, 4, 3])
    for exponent in (2, 0.5, 3, -1):
        yield f"Pow {exponent}", model([node("Abs", ["x"], "a"), node("Add", ["a", "one"], "b"), node("Pow", ["b", "e"])],
                                       [4, 3], {"e": np.float32(exponent), "one": np.float32(1)})
    yield "Max of three", model([node("Max", ["x", "a", "b"])], [4, 3], {"a": floats(3), "b": floats(4, 1)})
    yield "Sum of three", model([node("Tanh", ["x"], "t"), node("Sum", ["x", "a", "t"])], [4, 3], {"a": floats(3)})
    yield "PRelu", model([node("PRelu", ["x", "s"])], [5, 4, 3], {"s": floats(5, 1, 1)})
    mask = RNG.random((1, 4, 3)) < 0.5
    yield "Where", model([node("Where", ["m", "x", "a"])], [5, 4, 3], {"m": mask, "a": np.float32(-np.inf)})
    yield "Where reversed", model([node("Where", ["m", "a", "x"])], [5, 4, 3], {"m": mask, "a": floats(5, 1, 1)})


def conditions():
    for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"):
        yield f"Where {op}", model([node("Round", ["x"], "a"), node(op, ["a", "c"], "m"), node("Where", ["m", "x", "d"])], [5, 4, 3],
                                   {"c": np.float32(1), "d": floats(4, 1)})
        yield f"{op} reversed", model([node("Round", ["x"], "a"), node(op, ["c", "a"], "m"), node("Cast", ["m"], to=1)], [5, 4, 3],
                                      {"c": np.round(floats(5, 1, 1))})
    for op in ("And", "Or"):
        yield op, model([node("Greater", ["x", "c"], "a"), node("Less", ["x", "d"], "b"), node("Not", ["b"], "n"), node(op, ["a", "n"], "m"),
                         node("Cast", ["m"], to=1)], [5, 4, 3], {"c": np.float32(0), "d": floats(3)})
    yield "Where of infinities", model([node("Greater", ["x", "c"], "m"), node("Where", ["m", "x", "d"], "a"), node("Softmax", ["a"], axis=-1)],
                                       [4, 9], {"c": np.float32(-1), "d": np.float32(-np.inf)})


def reductions():
    for op in ("Mean Sum Max Min Prod L1 L2 SumSquare LogSumExp").split():
        for axes in ([2, 3], [1], [-1], [1, 2, 3]):
            for keep in (0, 1):
                own = "Reduce" + op
                if own == "ReduceSum":
                    yield f"{own} {axes} {keep}", model([node(own, ["x", "axes"], keepdims=keep)], [5, 4, 3],
                                                        {"axes": np.array(axes)})
                    continue
                yield f"{own} {axes} {keep}", model([node(own, ["x"], axes=axes, keepdims=keep)], [5, 4, 3])
                if op in ("Mean", "Max"):
                    yield f"{own} {axes} {keep} opset 18", model([node(own, ["x", "axes"], keepdims=keep)], [5, 4, 3],
                                                                 {"axes": np.array(axes)}, opset=18)
    yield "ReduceSum of all", model([node("ReduceSum", ["x"], keepdims=0)], [4, 3])
    for axis in (1, 2, 3, -1, -2):
        yield f"Softmax {axis}", model([node("Softmax", ["x"], axis=axis)], [5, 4, 3])
        yield f"Softmax {axis} opset 11", model([node("Softmax", ["x"], axis=axis)], [5, 4, 3], opset=11)


def products():
    q, k = node("MatMul", ["x", "wq"], "q"), node("MatMul", ["x", "wk"], "k")
    weights = {"wq": floats(6, 6), "wk": floats(6, 6)}
    yield "MatMul of two", model([q, k, node("Transpose", ["k"], "t", perm=[0, 2, 1]), node("MatMul", ["q", "t"])], [7, 6],
                                 weights)
    heads = [node("Reshape", ["q", "shape"], "qs"), node("Transpose", ["qs"], "qh", perm=[0, 2, 1, 3]),
             node("Reshape", ["k", "shape"], "ks"), node("Transpose", ["ks"], "kh", perm=[0, 2, 3, 1]),
             node("MatMul", ["qh", "kh"], "s"), node("Mul", ["s", "scale"], "a"), node("Softmax", ["a"], "p", axis=-1),
             node("MatMul", ["p", "qh"], "o"), node("Transpose", ["o"], "ot", perm=[0, 2, 1, 3]),
             node("Reshape", ["ot", "back"])]
    yield "attention", model([q, k, *heads], [7, 6], {**weights, "shape": np.array([0, 7, 2, 3]), "scale": np.float32(.577),
                                                      "back": np.array([0, 7, 6])})
    for equation, dims, other in (("bij,jk->bik", [7, 6], (6, 5)), ("bij,kj->bik", [7, 6], (5, 6)), ("bihd,hde->bie", [7, 2, 3], (2, 3, 5)),
                                  ("bchw,cd->bdhw", [6, 4, 3], (6, 5)), ("nij,jk", [7, 6], (6, 5)), ("b i j, j -> b i", [7, 6], (6,)),
                                  ("bhwc,hkc->bhwk", [4, 3, 6], (4, 5, 6)), ("bi,j->bij", [6], (5,))):
        yield f"Einsum {equation}", model([node("Einsum", ["x", "w"], equation=equation)], dims, {"w": floats(*other)})
    for equation in ("bihd,bjhd->bhij", "bihd,bjhd->bijh", "bihd,bjhd->bjhi", "bihd,bihd->bih"):
        yield f"Einsum of two {equation}", model([node("Tanh", ["x"], "t"), node("Einsum", ["x", "t"], equation=equation)], [7, 2, 3])
    yield "Einsum attention", model(
        [node("Tanh", ["x"], "k"), node("Einsum", ["x", "k"], "s", equation="bihd,bjhd->bhij"), node("Softmax", ["s"], "p", axis=-1),
         node("Einsum", ["p", "x"], equation="bhij,bjhd->bihd")], [7, 2, 3])
    yield "MatMul from the left", model([node("MatMul", ["w", "x"])], [3, 7, 6], {"w": floats(4, 7)})
    yield "MatMul by a vector", model([node("MatMul", ["x", "w"])], [7, 6], {"w": floats(6)})
    yield "MatMul by a batch", model([node("MatMul", ["x", "w"])], [3, 7, 6], {"w": floats(3, 6, 5)})
    yield "Gemm of two", model([node("Tanh", ["x"], "t"), node("Gemm", ["x", "w", "c"], alpha=0.5, beta=2.0)], [6],
                               {"w": floats(6, 5), "c": floats(1, 5)})


def normalizations():
    for axis in (-1, 1, 2):
        dims = {-1: (3,), 1: (5, 4, 3), 2: (4, 3)}[axis]
        yield f"LayerNormalization {axis}", model([node("LayerNormalization", ["x", "s", "b"], axis=axis)], [5, 4, 3],
                                                  {"s": floats(*dims), "b": floats(*dims)})
    yield "LayerNormalization without bias", model([node("LayerNormalization", ["x", "s"], epsilon=0.01)], [5, 8],
                                                   {"s": floats(8)})
    yield "InstanceNormalization", model([node("InstanceNormalization", ["x", "s", "b"])], [5, 4, 3],
                                         {"s": floats(5), "b": floats(5)})
    yield "GroupNormalization", model([node("GroupNormalization", ["x", "s", "b"], num_groups=3)], [6, 4, 3],
                                      {"s": floats(6), "b": floats(6)}, opset=21)


def layouts():
    def split(inputs, opset=17, constants=None, outputs=2, **attributes):
        parts = [f"p{i}" for i in range(outputs)]
        return model([helper.make_node("Split", inputs, parts, **attributes), node("Relu", [parts[-1]], "r"),
                      node("Concat", [*parts[:-1], "r"], axis=attributes["axis"])], [6, 5, 4], constants, opset)
    yield "Split of sizes", split(["x", "n"], axis=1, constants={"n": np.array([2, 4])})
    yield "Split of sizes opset 11", split(["x"], 11, axis=1, split=[1, 5])
    yield "Split of equals", split(["x"], axis=1, outputs=3)
    yield "Split of num_outputs", split(["x"], 18, axis=2, num_outputs=2)
    yield "Split last axis", split(["x"], axis=-1, outputs=4)
    # The anchors of detectors: a row of numbers as long as the map is wide, and a plane of one number.
    yield "Range", model([node("Shape", ["x"], "s"), node("Gather", ["s", "three"], "w", axis=0),
                          node("Cast", ["w"], "f", to=1), node("Range", ["zero", "f", "step"], "r"), node("Add", ["r", "step"], "a"),
                          node("Unsqueeze", ["a", "axis"], "b"), node("MatMul", ["x", "b"])], [2, 3, 320],
                         {"three": np.array(3), "zero": np.float32(0), "step": np.float32(1), "axis": np.array([1])})
    yield "ConstantOfShape", model([node("Shape", ["x"], "s"), node("ConstantOfShape", ["s"], "c",
                                                                  value=helper.make_tensor("v", 1, [1], [0.25])),
                                    node("Add", ["x", "c"])], [3, 20, 20])
    yield "Expand", model([node("Expand", ["x", "n"])], [5, 1, 3], {"n": np.array([1, 1, 4, 1])})
    yield "Expand more axes", model([node("Flatten", ["x"], "f"), node("Expand", ["f", "n"])], [4], {"n": np.array([2, 1, 4])})
    for mode in ("reflect", "edge", "wrap"):
        for opset, pads in ((19, [0, 0, 1, 2, 0, 0, 3, 0]), (19, [0, 0, 2, 2, 0, 0, 2, 2]), (19, [0, 1, 3, 2, 0, 2, 0, 3]), (11, [0, 0, 1, 1, 0, 0, 1, 1])):
            if (mode, opset) == ("wrap", 11):
                continue
            constants = {"p": np.array(pads)} | {"w": floats(5, 6 + pads[1] + pads[5], 3, 3)}
            yield f"Pad {mode} {opset} {pads}", model([node("Pad", ["x", "p"], mode=mode)], [6, 5, 4], {"p": constants["p"]}, opset)
            yield f"Pad {mode} {opset} {pads}, then Conv", model(
                [node("Relu", ["x"], "r"), node("Pad", ["r", "p"], "q", mode=mode), node("Conv", ["q", "w"], "c"), node("Relu", ["c"])],
                [6, 5, 4], constants, opset)
    yield "Pad reflect of axes", model([node("Pad", ["x", "p", "", "a"], mode="reflect")], [6, 5, 4],
                                       {"p": np.array([1, 2, 2, 0]), "a": np.array([-1, -2])}, 18)
    for mode in ("DCR", "CRD"):
        yield f"DepthToSpace {mode}", model([node("DepthToSpace", ["x"], blocksize=2, mode=mode)], [12, 4, 3], opset=13)
    yield "DepthToSpace of a convolution", model(
        [node("Conv", ["x", "w"], "c"), node("DepthToSpace", ["c"], "d", blocksize=3), node("Relu", ["d"])], [5, 4, 3],
        {"w": floats(18, 5, 1, 1)})
    yield "SpaceToDepth", model([node("SpaceToDepth", ["x"], blocksize=3)], [5, 6, 9])
    yield "SpaceToDepth before a convolution", model(
        [node("SpaceToDepth", ["x"], "s", blocksize=2), node("Conv", ["s", "w"])], [3, 6, 8], {"w": floats(4, 12, 3, 3)})
    yield "Tile", model([node("Tile", ["x", "n"])], [5, 4, 3], {"n": np.array([1, 2, 1, 3])})


def resizes():
    for mode in ("nearest", "linear", "cubic"):
        for where in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"):
            for scale in ((2, 2), (1.5, 0.6)):
                # Of a size that is no whole number onnxruntime rounds before it aligns corners, ONNX does not.
                if where == "align_corners" and scale != (2, 2):
                    continue
                yield f"Resize {mode} {where} {scale}", model(
                    [node("Resize", ["x", "", "s"], mode=mode, coordinate_transformation_mode=where)], [5, 7, 6],
                    {"s": np.array([1, 1, *scale], np.float32)}, opset=19)
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        yield f"Resize nearest {rounding}", model(
            [node("Resize", ["x", "", "s"], mode="nearest", nearest_mode=rounding)], [5, 7, 6],
            {"s": np.array([1, 1, 1.5, 2], np.float32)}, opset=13)
    yield "Resize to sizes by axes", model([node("Resize", ["x", "", "", "n"], mode="linear", axes=[2, 3])], [5, 7, 6],
                                           {"n": np.array([9, 3])}, opset=18)
    yield "Resize cubic without outside", model(
        [node("Resize", ["x", "", "s"], mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)], [5, 7, 6],
        {"s": np.array([1, 1, 2, 2], np.float32)}, opset=13)
    yield "Resize opset 10", model([node("Resize", ["x", "s"], mode="nearest")], [5, 7, 6],
                                   {"s": np.array([1, 1, 2, 2], np.float32)}, opset=10)
    yield "Upsample", model([node("Upsample", ["x", "s"], mode="linear")], [5, 7, 6],
                            {"s": np.array([1, 1, 2, 2], np.float32)}, opset=9)


def convolutions():
    """Over one axis, and transposed: every remainder of size, stride, dilation and padding."""
    for kernel, more in ((3, {}), (3, {"pads": [1, 1]}), (3, {"strides": [2], "pads": [2, 0]}), (1, {}),
                         (2, {"auto_pad": "SAME_UPPER"}), (2, {"dilations": [2]}), (3, {"group": 3})):
        yield f"Conv over one axis {kernel} {more}", model(
            [node("Conv", ["x", "w", "b"], **more)], [6, 11], {"w": floats(9, 6 // more.get("group", 1), kernel), "b": floats(9)})
        if "auto_pad" in more:
            continue
        yield f"ConvTranspose over one axis {kernel} {more}", model(
            [node("ConvTranspose", ["x", "w", "b"], **more)], [6, 11],
            {"w": floats(6, 9 // more.get("group", 1), kernel), "b": floats(9)})
    yield "Conv over one axis, then more", model(
        [node("Conv", ["x", "w"], "a", pads=[1, 1]), node("BatchNormalization", ["a", "s", "b", "m", "v"], "c"),
         node("Relu", ["c"], "d"), node("Add", ["d", "x"])], [6, 11],
        {"w": floats(6, 6, 3), "s": floats(6), "b": floats(6), "m": floats(6), "v": np.abs(floats(6))})
    for kernel, strides, dilations, pads in (
            ([2, 2], [2, 2], [1, 1], [0, 0, 0, 0]), ([3, 3], [2, 2], [1, 1], [1, 1, 1, 1]), ([4, 4], [2, 2], [1, 1], [1, 1, 1, 1]),
            ([3, 3], [1, 1], [1, 1], [0, 0, 0, 0]), ([3, 2], [3, 1], [1, 1], [2, 0, 0, 1]), ([3, 3], [2, 3], [2, 2], [1, 2, 3, 0]),
            ([2, 3], [4, 5], [1, 1], [0, 0, 0, 0]), ([3, 3], [6, 4], [4, 6], [0, 5, 7, 1]), ([5, 1], [1, 2], [3, 1], [6, 0, 6, 0]),
            ([1, 1], [2, 2], [1, 1], [0, 0, 0, 0]), ([7, 7], [2, 2], [1, 1], [6, 6, 6, 6])):
        for group, size in ((1, [7, 6]), (2, [3, 2]), (4, [9, 12])):
            more = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
            if min(s * (n - 1) + d * (k - 1) + 1 - a - b for s, n, d, k, a, b in
                   zip(strides, size, dilations, kernel, pads[:2], pads[2:])) < 1:
                continue
            yield f"ConvTranspose {kernel} {more} {size}", model(
                [node("ConvTranspose", ["x", "w", "b"], "a", **more), node("Relu", ["a"])], [4, *size],
                {"w": floats(4, 8 // group, *kernel), "b": floats(8)})
    for name, more in (("output padding", {"output_padding": [1, 2], "strides": [2, 3]}),
                       ("output shape", {"output_shape": [12, 11], "strides": [2, 2]}),
                       ("same upper", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
                       ("same lower", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
                       ("valid", {"auto_pad": "VALID", "strides": [2, 2]})):
        yield f"ConvTranspose {name}", model([node("ConvTranspose", ["x", "w"], **more)], [4, 6, 5], {"w": floats(4, 3, 3, 3)})


def sized(nodes, dims, outputs, constants=None):
    """The same with outputs of a name, a type and a rank each, whose sizes only the run knows."""
    proto = model(nodes, dims, constants)
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_tensor_value_info(name, kind, [None] * rank) for name, kind, rank in outputs)
    return proto


FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def branch(name, nodes, output, kind, rank):
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, kind, [None] * rank)])


def dynamic():
    """Indices, counts and boxes that follow from the data."""
    integers = {f"i{k}": np.array([k], np.int64) for k in range(-1, 8)}
    top = helper.make_node("TopK", ["x", "i3"], ["v", "k"], axis=-1)
    yield "TopK", sized([top], [4, 9], [("v", FLOAT, 3), ("k", INT, 3)], integers)
    yield "TopK GatherElements", sized(
        [top, node("GatherElements", ["x", "k"], "g", axis=2), node("Sub", ["g", "v"], "d"), node("Add", ["d", "g"])],
        [4, 9], [("y", FLOAT, 3)], integers)
    for op in ("ArgMax", "ArgMin"):
        yield op, sized([node(op, ["x"], axis=1, keepdims=0)], [7, 3, 2], [("y", INT, 3)])
    # What is above a threshold, as torch.where and boolean masks are written.
    mask = [node("Greater", ["x", "z"], "m"), node("NonZero", ["m"], "n"), node("Transpose", ["n"], "t")]
    yield "NonZero GatherND", sized([*mask, node("GatherND", ["x", "t"])], [5, 6], [("y", FLOAT, 1)], {"z": np.float32(.3)})
    yield "NonZero of nothing", sized([*mask, node("GatherND", ["x", "t"], "g"), node("Exp", ["g"])], [5, 6],
                                      [("y", FLOAT, 1), ("t", INT, 2)], {"z": np.float32(30)})
    yield "ScatterND", sized([*mask, node("GatherND", ["x", "t"], "g"), node("Neg", ["g"], "u"),
                              node("ScatterND", ["x", "t", "u"])], [5, 6], [("y", FLOAT, 3)], {"z": np.float32(.3)})
    # A count into the shapes of what follows.
    yield "Range of a count", sized(
        [*mask, node("Shape", ["t"], "s"), node("Gather", ["s", "zero"], "c", axis=0),
         node("Range", ["zero", "c", "one"], "r"), node("Cast", ["r"], "f", to=FLOAT), node("Unsqueeze", ["f", "i1"], "u"),
         node("Tile", ["u", "reps"], "p"), node("MatMul", ["p", "w"])], [5, 6], [("y", FLOAT, 2)],
        integers | {"z": np.float32(.3), "zero": np.int64(0), "one": np.int64(1), "reps": np.array([1, 4], np.int64),
                    "w": floats(4, 3)})
    # Boxes from a convolution: scores over a threshold, suppression, what is left in the order of its scores.
    head = [node("Conv", ["x", "w"], "a"), node("Transpose", ["a"], "b", perm=[0, 2, 3, 1]),
            node("Reshape", ["b", "flat"], "c"),
            helper.make_node("Split", ["c", "sizes"], ["raw", "logit"], axis=2), node("Sigmoid", ["logit"], "score"),
            helper.make_node("Split", ["raw", "halves"], ["centre", "log"], axis=2), node("Exp", ["log"], "size"),
            node("Mul", ["size", "half"], "reach"), node("Sub", ["centre", "reach"], "low"),
            node("Add", ["centre", "reach"], "high"), node("Concat", ["low", "high"], "boxes", axis=2),
            node("Transpose", ["score"], "scores", perm=[0, 2, 1])]
    kept = [*head, node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], "kept"),
            node("Slice", ["kept", "i2", "i3", "i1"], "box"), node("Slice", ["kept", "i0", "i1", "i1"], "image"),
            node("Concat", ["image", "box"], "place", axis=1), node("GatherND", ["boxes", "place"], "found")]
    constants = integers | {
        "w": floats(7, 3, 1, 1), "flat": np.array([0, -1, 7], np.int64), "sizes": np.array([4, 3], np.int64),
        "halves": np.array([2, 2], np.int64), "half": np.float32(.5), "most": np.array([20], np.int64),
        "overlap": np.array([.45], np.float32)}
    for name, least in (("some", .6), ("none", .999999)):
        more = constants | {"least": np.array([least], np.float32)}
        yield f"boxes, {name}", sized(kept, [3, 5, 6], [("found", FLOAT, 2), ("kept", INT, 2)], more)
        # As torchvision has it: no suppression of nothing.
        counted = [*kept, node("Size", ["kept"], "count"), node("Equal", ["count", "zero"], "empty"),
                   node("If", ["empty"], "y",
                        then_branch=branch("then", [node("Constant", [], "none", value=numpy_helper.from_array(
                            np.zeros((1, 4), np.float32)))], "none", FLOAT, 2),
                        else_branch=branch("else", [node("ReduceMax", ["found"], "most_of", axes=[0], keepdims=1),
                                                    node("Relu", ["most_of"], "positive")], "positive", FLOAT, 2))]
        yield f"If there are boxes, {name}", sized(counted, [3, 5, 6], [("y", FLOAT, 2)], more | {"zero": np.int64(0)})


def recurrent():
    """Layers that walk along a sequence: x[N, features, steps] becomes [steps, N, features] as in readers of text."""
    steps, width, hidden = 7, 6, 5
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction in ("forward", "reverse", "bidirectional"):
            d = 2 if direction == "bidirectional" else 1
            weights = {"w": floats(d, gates * hidden, width), "r": floats(d, gates * hidden, hidden),
                       "b": floats(d, 2 * gates * hidden), "p": floats(d, 3 * hidden), "state": floats(d, 1, hidden),
                       "copies": np.array([1, -1, 1]), "one": np.array([1]), "zero": np.array([0]),
                       "ds": np.array([d]), "hs": np.array([hidden]), "lengths": np.array([3], np.int32)}
            start = [node("Transpose", ["x"], "t", perm=[2, 0, 1]), node("Shape", ["x"], "s"),
                     node("Slice", ["s", "zero", "one"], "n"), node("Concat", ["ds", "n", "hs"], "to", axis=0),
                     node("Expand", ["state", "to"], "h"), node("Neg", ["h"], "c"), node("Expand", ["lengths", "n"], "l")]
            own = {"direction": direction, "hidden_size": hidden}
            cases = [("", ["t", "w", "r"], {}), ("bias", ["t", "w", "r", "b"], {}),
                     ("lengths", ["t", "w", "r", "b", "l"], {}), ("state", ["t", "w", "r", "b", "", "h"], {}),
                     ("lengths and state", ["t", "w", "r", "", "l", "h"], {}),
                     ("clip", ["t", "w", "r", "b"], {"clip": 0.3})]
            if op == "LSTM":
                cases += [("cells", ["t", "w", "r", "b", "l", "h", "c"], {}),
                          ("peepholes", ["t", "w", "r", "b", "", "h", "c", "p"], {}),
                          ("coupled", ["t", "w", "r", "b"], {"input_forget": 1})]
            if op == "GRU":
                cases += [("reset after", ["t", "w", "r", "b", "l", "h"], {"linear_before_reset": 1})]
            functions = {"LSTM": ["Sigmoid", "Tanh", "Relu"], "GRU": ["Sigmoid", "Relu"], "RNN": ["Relu"]}[op]
            cases += [("functions", ["t", "w", "r", "b"], {"activations": functions * d})]
            names = ["y", "y_h", "y_c"][:3 if op == "LSTM" else 2]
            for case, inputs, more in cases:
                used = [n for n in start if n.output[0] in inputs or n.op_type in ("Shape", "Slice", "Concat")]
                yield f"{op} {direction} {case}", sized(
                    [*used, helper.make_node(op, inputs, names, **own, **more)], [width, steps],
                    [(name, FLOAT, 3 if k else 4) for k, name in enumerate(names)],
                    {k: v for k, v in weights.items() if k not in ("b", "p") or k in inputs})
            yield f"{op} {direction}, its last state alone", sized(
                [start[0], helper.make_node(op, ["t", "w", "r"], ["", "y_h"], **own), node("Relu", ["y_h"])],
                [width, steps], [("y", FLOAT, 3)], {k: weights[k] for k in ("w", "r")})


def quantised_lstm():
    """onnxruntime's own operator, which quantize_dynamic writes. Of one image: with more the range of the state is in
    onnxruntime that of as many sequences as a thread has, here that of each."""
    steps, width, hidden = 5, 6, 8
    for direction, each in (("forward", False), ("reverse", True), ("bidirectional", False)):
        d = 2 if direction == "bidirectional" else 1
        scale = (d, 4 * hidden) if each else (d,)
        constants = {"b": floats(d, 8 * hidden)}
        for letter, rows in (("w", width), ("r", hidden)):
            constants |= {letter: RNG.integers(-128, 128, (d, rows, 4 * hidden)).astype(np.int8),
                          f"{letter}s": (0.01 + RNG.random(scale) / 100).astype(np.float32), f"{letter}z": np.zeros(scale, np.int8)}
        proto = sized(
            [node("Transpose", ["x"], "t", perm=[2, 0, 1]),
             helper.make_node("DynamicQuantizeLSTM", ["t", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"],
                              ["y", "y_h", "y_c"], domain="com.microsoft", direction=direction, hidden_size=hidden)],
            [width, steps], [("y", FLOAT, 4), ("y_h", FLOAT, 3), ("y_c", FLOAT, 3)], constants)
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        yield f"DynamicQuantizeLSTM {direction}", proto


def integers():
    """Weights in 8 bits, activations quantised by the run: as onnxruntime's quantize_dynamic writes them."""
    quantize = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"])

    def eight(*dims, dtype=np.int8):
        return RNG.integers(0 if dtype == np.uint8 else -128, 256 if dtype == np.uint8 else 128, dims).astype(dtype)

    def finished(op, inputs, name, dims, rank, constants, **attributes):
        return name, sized([quantize, node(op, inputs, "i", **attributes), node("Cast", ["i"], "f", to=FLOAT),
                            node("Mul", ["f", "scale"])], dims, [("y", FLOAT, rank)], constants)
    yield "DynamicQuantizeLinear", sized([quantize, node("Cast", ["q"], "a", to=FLOAT), node("Cast", ["zero"], "b", to=FLOAT)],
                                         [5, 4], [("a", FLOAT, 3), ("scale", FLOAT, 0), ("b", FLOAT, 0)])
    for name, more, w in (
            ("plain", {}, eight(5, 6, 3, 3)), ("strides", {"strides": [2, 3], "pads": [1, 0, 2, 1]}, eight(4, 6, 3, 2)),
            ("groups", {"group": 3, "pads": [1] * 4}, eight(6, 2, 3, 3)), ("depthwise", {"group": 6, "pads": [2] * 4}, eight(6, 1, 5, 5)),
            ("dilations", {"dilations": [2, 1], "pads": [3, 1, 2, 1]}, eight(2, 6, 3, 3)),
            ("same", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, eight(3, 6, 4, 4)), ("point", {}, eight(7, 6, 1, 1)),
            ("unsigned", {"pads": [1] * 4}, eight(5, 6, 3, 3, dtype=np.uint8))):
        for zeros in (["zero"], ["zero", "wz"], []):
            yield finished("ConvInteger", ["q", "w", *zeros], f"ConvInteger {name} {len(zeros)}", [6, 9, 8], 4,
                           {"w": w, "wz": np.array(3, w.dtype)}, **more)
    for name, dims, w in (("matrix", [5, 12], eight(12, 7)), ("stack", [3, 5, 12], eight(3, 12, 4)),
                          ("unsigned", [600], eight(600, 7, dtype=np.uint8)), ("vector", [5, 12], eight(12))):
        zeros = np.array(5, w.dtype) if w.ndim != 2 else np.arange(w.shape[1]).astype(w.dtype)
        for given in (["zero"], ["zero", "wz"], []):
            yield finished("MatMulInteger", ["q", "w", *given], f"MatMulInteger {name} {len(given)}", dims,
                           len(dims) + (w.ndim > 1), {"w": w, "wz": zeros})


def quantised():
    """Concats of which parts are integers: by themselves, in another range, in a Concat of others."""
    def both(x, name, zero="z"):
        return [node("QuantizeLinear", [x, "s", zero], name + "q"), node("DequantizeLinear", [name + "q", "s", zero], name)]
    first, rest = both("x", "a"), [node("Relu", ["x"], "r"), *both("r", "b"), node("Sigmoid", ["x"], "f")]
    constants = {"s": np.float32(.03), "z": np.uint8(100), "o": np.uint8(90)}
    yield "Concat in a Concat of numbers", model(
        [*first, *rest, node("Concat", ["a", "b"], "c", axis=1), node("Concat", ["c", "f"], axis=1)], [4, 5, 5], constants)
    yield "Concat with a MaxPool of integers", model(
        [*first, *rest, node("MaxPool", ["a"], "m", kernel_shape=[3, 3], pads=[1] * 4), node("Concat", ["m", "f", "b"], axis=1)],
        [4, 5, 5], constants)
    yield "Concat of two ranges", model(
        [*first, node("Relu", ["x"], "r"), *both("r", "b", "o"), node("MaxPool", ["a"], "m", kernel_shape=[1, 1]),
         node("MaxPool", ["b"], "n", kernel_shape=[1, 1]), node("Concat", ["m", "n"], axis=1)], [4, 5, 5], constants)


def qoperators():
    """As onnxruntime's quantiser writes them: integers from QuantizeLinear to DequantizeLinear."""
    def bytes_of(*dims):
        return RNG.integers(-90, 90, dims).astype(np.int8)

    def own(op, inputs, output, **attributes):
        return helper.make_node(op, inputs, [output], domain="com.microsoft", **attributes)

    a, b = ["s", "z"], ["s2", "z2"]
    constants = {"s": np.float32(.0313), "z": np.uint8(120), "s2": np.float32(.0471), "z2": np.uint8(99), "sw": np.float32(.0107),
                 "zw": np.int8(0), "sr": (RNG.random(6) * .01 + .005).astype(np.float32), "zr": np.zeros(6, np.int8),
                 "w": bytes_of(6, 4, 3, 3), "v": bytes_of(6, 3, 1, 1), "m": bytes_of(7, 12), "m2": bytes_of(7, 5),
                 "bias": RNG.integers(-900, 900, 6).astype(np.int32), "bias2": RNG.integers(-900, 900, 7).astype(np.int32)}
    to = node("QuantizeLinear", ["x", *a], "q")

    def back(inputs):
        return node("DequantizeLinear", inputs)

    conv = node("QLinearConv", ["q", *a, "w", "sr", "zr", *b, "bias"], "c", pads=[1] * 4)
    yield "QLinearConv", model([to, conv, back(["c", *b])], [4, 7, 6], constants)
    yield "QLinearConv in groups, pooled", model(
        [to, conv, node("MaxPool", ["c"], "p", kernel_shape=[2, 2]), node("QLinearConv", ["p", *b, "v", "sw", "zw", *a], "d", group=2),
         back(["d", *a])], [4, 7, 6], constants)
    for op in ("QLinearAdd", "QLinearMul"):
        yield op, model([to, conv, node("QLinearConv", ["q", *a, "w", "sw", "zw", *a], "d", pads=[1] * 4),
                         own(op, ["c", *b, "d", *a, *b], "e"), back(["e", *b])], [4, 7, 6], constants)
    for op, attributes in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": .2}),
                           ("QLinearAveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}), ("QLinearGlobalAveragePool", {})):
        yield op, model([to, conv, own(op, ["c", *b, "s", "z"], "e", **attributes), back(["e", *a])], [4, 7, 6], constants)
    yield "QLinearSoftmax", model(
        [to, conv, own("QLinearSoftmax", ["c", *b, "s8", "z8"], "e", axis=1, opset=13), back(["e", "s8", "z8"])], [4, 7, 6],
        constants | {"s8": np.float32(1 / 256), "z8": np.uint8(0)})
    yield "QLinearConcat", model([to, conv, own("QLinearConcat", [*b, "q", *a, "c", *b], "e", axis=1), back(["e", *b])], [4, 7, 6],
                                 constants)
    yield "QGemm and QLinearMatMul", model(
        [to, own("QGemm", ["q", *a, "m", "sw", "zw", "bias2", *b], "g", transB=1),
         node("QLinearMatMul", ["g", *b, "m2", "sw", "zw", *a], "h"), back(["h", *a])], [12], constants)


def loops():
    """A number of rounds that is constant or follows from the data, a condition, slices of every round."""
    def body(op, condition):
        nodes = [node("Add", ["state", "step"], "next"), node(op, ["next"], "slice"), *condition]
        return helper.make_graph(
            nodes, "body", [helper.make_tensor_value_info("round", INT, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                            helper.make_tensor_value_info("state", FLOAT, None)],
            [helper.make_tensor_value_info("still", TensorProto.BOOL, []), helper.make_tensor_value_info("next", FLOAT, None),
             helper.make_tensor_value_info("slice", FLOAT, None)])

    def loop(inputs, op, condition):
        return helper.make_node("Loop", inputs, ["last", "slices"], body=body(op, condition))

    always = [node("Identity", ["go"], "still")]
    small = [node("ReduceMax", ["next"], "most", keepdims=0), node("Less", ["most", "limit"], "still")]
    data = {"step": np.float32(.7), "limit": np.float32(6), "five": np.int64(5), "zero": np.float32(0), "yes": np.array(True)}
    ends = [node("ReduceSum", ["slices"], "sum", keepdims=0), node("Add", ["last", "sum"])]
    yield "Loop of five", model([loop(["five", "yes", "x"], "Tanh", always), *ends], [4, 3], data)
    yield "Loop while", model([loop(["", "yes", "x"], "Exp", small), *ends], [4, 3], data)
    yield "Loop as often as the data say", model(
        [node("ReduceMax", ["x"], "high", keepdims=0), node("Ceil", ["high"], "whole"), node("Cast", ["whole"], "rounds", to=INT),
         loop(["rounds", "", "x"], "Sigmoid", always), *ends], [4, 3], data)


GROUPS = [qoperators, loops, quantised, dynamic, recurrent, quantised_lstm, integers, convolutions, unary, binary, conditions, reductions, products, normalizations, layouts,
          resizes]


def check(build, path, proto):
    """The largest relative difference over backends and batches. Raises."""
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())
    runner = written.session(path)
    worst = 0.0
    for batch in written.BATCHES:
        arrays = written.feeds(runner, batch, 0)
        want = [w.astype(np.float32) for w in runner.run(None, arrays)]
        for backend in ("ref", "cpu"):
            for fold in (False, True):
                got = peer.run(build, backend, path, list(arrays.values()), fold)
                worst = max(worst, written.difference(got, want))
    return worst


def main():
    build, part = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    failed = ran = 0
    with tempfile.TemporaryDirectory() as folder:
        for group in GROUPS:
            for name, proto in group():
                if part not in name:
                    continue
                ran += 1
                try:
                    error = check(build, pathlib.Path(folder) / "model.onnx", proto)
                except Exception as problem:  # of any of the runtimes
                    failed += 1
                    print(f"{name}: {str(problem)[:300]}")
                    continue
                if not error <= TOLERANCE:
                    failed += 1
                    print(f"{name}: off by {error:.3g}")
    print(f"{ran} graphs, {failed} failed")
    sys.exit(1 if failed or not ran else 0)


if __name__ == "__main__":
    main()
