#!/usr/bin/env python3
"""The ONNX project's backend node tests of the operators nd runs, on the ref backend.

Prints every test with its result and compares with results/golden/onnx_node_tests.csv: a test that passed there has to
pass, and one that is not listed or ends otherwise has to be looked at and the list renewed with --update.

A node test feeds everything at run time. nd plans a network with shapes, axes, bounds and weights as constants, which
is how networks have them; a test that it does not run otherwise gets them as initializers ("operands constant" in the
list).

usage: node_tests.py BUILD [--update]
"""
import csv
import pathlib
import re
import sys
import tempfile
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

import peer

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "results/golden/onnx_node_tests.csv"

OPERATORS = set(
    "Conv Gemm MatMul BatchNormalization Relu Clip LeakyRelu Sigmoid HardSigmoid HardSwish Add Sum Mul MaxPool "
    "AveragePool GlobalAveragePool GlobalMaxPool Concat Flatten Reshape Squeeze Unsqueeze Transpose Pad Softmax LRN Dropout Identity "
    "Constant Gather ReduceMean Slice Abs Ceil Celu Cos Elu Erf Exp Floor Gelu Log Mish Neg Reciprocal Round Selu Sign "
    "Sin Softplus Softsign Sqrt Swish Tanh ThresholdedRelu Max Min Pow PRelu Sub Div Where ReduceL1 ReduceL2 "
    "ReduceLogSum ReduceLogSumExp ReduceMax ReduceMin ReduceProd ReduceSum ReduceSumSquare LayerNormalization "
    "InstanceNormalization GroupNormalization Split Expand Tile Resize Upsample ConvTranspose Equal Greater "
    "GreaterOrEqual Less LessOrEqual Einsum TopK ArgMax ArgMin NonMaxSuppression NonZero GatherElements GatherND Scatter "
    "ScatterElements ScatterND CumSum Mod And Or Xor Not IsNaN Size Shape Range ConstantOfShape "
    "RoiAlign DepthToSpace SpaceToDepth LSTM GRU RNN ConvInteger MatMulInteger DynamicQuantizeLinear QLinearConv "
    "QLinearMatMul QuantizeLinear DequantizeLinear Loop If".split())

# Operators whose inputs are all activations; Where's are those after its condition, of any other only the first is.
ALL_ACTIVATIONS = {"Add", "Sum", "Mul", "Concat", "Sub", "Div", "Pow", "PRelu", "Max", "Min", "MatMul",
                   "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Einsum"}


def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reference code of other operators divides by zero on purpose
        from onnx.backend.test.case.node import collect_testcases
        found = collect_testcases(None)
    # The expanded ones write an operator as the function it stands for, in operators of their own.
    return sorted((c for c in found if "_expanded" not in c.name and
                   all(n.op_type in OPERATORS and not n.domain for n in c.model.graph.node)), key=lambda c: c.name)


def fix_operands(model, arrays):
    """Initializers in place of inputs that are no activations. Returns the remaining arrays and whether any went."""
    graph = model.graph
    if graph.node[0].op_type in ALL_ACTIVATIONS:
        return arrays, False
    ends = list(zip(graph.input, arrays))
    where = graph.node[0].op_type == "Where"
    operands = ends[:1] if where else ends[1:]
    for info, array in operands:
        graph.initializer.append(numpy_helper.from_array(array, info.name))
        graph.input.remove(info)
    return arrays[1:] if where else arrays[:1], bool(operands)


def cast_bytes(model):
    """Inputs of 8 bits as numbers with a Cast behind them: a network is given numbers."""
    cast = onnx.ModelProto()
    cast.CopyFrom(model)
    for info in cast.graph.input:
        kind = info.type.tensor_type.elem_type
        if kind in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8):
            cast.graph.node.insert(0, onnx.helper.make_node("Cast", [info.name + " as numbers"], [info.name], to=kind))
            info.name += " as numbers"
            info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return cast


KINDS = {np.dtype(t) for t in (np.float32, np.int64, np.int32, np.int8, np.uint8, np.bool_)}


def attempt(build, model, inputs, folder):
    path = pathlib.Path(folder) / "model.onnx"
    path.write_bytes(cast_bytes(model).SerializeToString())
    try:
        return peer.run(build, "ref", path, inputs)
    except (peer.Unsupported, peer.Failed) as error:
        text = str(error).replace(f"{path}: ", "").replace(str(path), "model.onnx").removeprefix("unsupported: ")
        raise type(error)(re.sub(r"^(node '[^']*' \(\w+\)|\w+ \(\w+\)): ", "", text)) from None


def run(case, build, arrays, folder):
    """The outputs, and whether operands had to be constants."""
    try:
        return attempt(build, case.model, arrays, folder), False
    except (peer.Unsupported, peer.Failed) as error:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        inputs, fixed = fix_operands(model, arrays)
        if not fixed or not inputs:
            raise error
        return attempt(build, model, inputs, folder), True


def check(case, build, folder):
    """("passed" | "skipped" | "failed", note)"""
    arrays, expected = ([np.asarray(a) if isinstance(a, np.generic) else a for a in part] for part in case.data_sets[0])
    if not all(isinstance(a, np.ndarray) for a in list(arrays) + list(expected)):
        return "skipped", "a sequence or an optional, no tensor"
    if not arrays:
        return "skipped", "no input, so nothing to run"
    for array in arrays + expected:
        if array.dtype not in KINDS:
            return "skipped", f"activations of type {array.dtype}"
    if not all(a.size for a in arrays):
        return "skipped", "an empty input"
    expected = [a.astype(np.float32) for a in expected]
    try:
        outputs, fixed = run(case, build, arrays, folder)
    except peer.Unsupported as error:
        return "skipped", str(error)
    except peer.Failed as error:
        return "failed", str(error)
    if len(outputs) != len(expected):
        return "failed", f"{len(outputs)} outputs, not {len(expected)}"
    for got, want in zip(outputs, expected):
        if got.shape != want.shape:
            return "failed", f"shape {got.shape}, not {want.shape}"
        if not np.allclose(got, want, rtol=case.rtol, atol=case.atol, equal_nan=True):
            return "failed", f"off by {np.abs(got - want).max():.3g}"
    return "passed", "operands constant" if fixed else ""


def main():
    build, update = sys.argv[1], "--update" in sys.argv
    with tempfile.TemporaryDirectory() as folder:
        results = [(case.name, *check(case, build, folder)) for case in cases()]
    for name, result, note in results:
        print(f"{result:8} {name}{'  (' + note + ')' if note else ''}")
    counts = {r: sum(result == r for _, result, _ in results) for r in ("passed", "skipped", "failed")}
    print(", ".join(f"{n} {r}" for r, n in counts.items()))
    if not counts["passed"]:
        sys.exit("nothing was compared")
    if update:
        with GOLDEN.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("test", "result", "note"), *results])
        return
    with GOLDEN.open() as file:
        golden = {row["test"]: row["result"] for row in csv.DictReader(file)}
    changed = [f"{name}: {result} ({note}), was {golden.get(name, 'not listed')}" for name, result, note in results
               if golden.get(name) != result]
    changed += [f"{name}: gone" for name in golden.keys() - {name for name, _, _ in results}]
    if changed or counts["failed"]:
        sys.exit("\n".join(["differs from " + str(GOLDEN.name), *changed]))


if __name__ == "__main__":
    main()
