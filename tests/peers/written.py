"""The one check of a model that nd wrote, for every test that writes one.

check() compares a written file with the file it came from:
  - onnx.checker with full_check, and strict shape inference;
  - every node, initializer and field of the original that was no decoupled convolution is there byte for byte, in its
    order; where nothing was decoupled the whole file is the same;
  - where `tolerance` is given (full rank, or nothing decoupled), onnxruntime computes the same from both, at two batches
    and at two sizes as far as the inputs leave them open.
"""
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

TOLERANCE = 1e-4  # of the largest output, for two fp32 implementations of the same function

BATCHES, SIZES = (1, 3), (64, 96)


class Wrong(Exception):
    pass


def require(good, what):
    if not good:
        raise Wrong(what)


def session(path, optimised=True):
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


NUMPY = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
         "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_}


def feeds(runner, batch, size, seed=1):
    """Inputs for one run: open first dimensions are the batch, any others the size."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for info in runner.get_inputs():
        dims = [d if isinstance(d, int) and d > 0 else batch if i == 0 else size for i, d in enumerate(info.shape)]
        dtype = NUMPY.get(info.type)
        require(dtype is not None, f"input '{info.name}' of type {info.type}")
        if np.issubdtype(dtype, np.floating):
            arrays[info.name] = rng.standard_normal(dims).astype(dtype)
        else:
            arrays[info.name] = rng.integers(0, 2, dims).astype(dtype)
    return arrays


def is_open(runner, axis):
    return any((not isinstance(d, int) or d <= 0) for info in runner.get_inputs()
               for i, d in enumerate(info.shape) if (i == 0) == (axis == "batch"))


def runs(runner, sizes=SIZES, batches=BATCHES):
    """(batch, size) of the runs that the inputs allow."""
    return [(batch, size) for batch in (batches if is_open(runner, "batch") else batches[:1])
            for size in (sizes if is_open(runner, "size") else sizes[:1])]


def difference(got, want):
    """Of the largest output; infinite where shapes or types differ."""
    worst = 0.0
    if len(got) != len(want):
        return np.inf
    for a, b in zip(got, want):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype != b.dtype:
            return np.inf
        if not b.size:
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(b)
        if not np.array_equal(finite, np.isfinite(a)):
            return np.inf
        if finite.any():
            worst = max(worst, float(np.abs(a - b)[finite].max() / max(np.abs(b)[finite].max(), 1e-6)))
    return worst


def check_valid(path):
    """Checker and strict shape inference."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(str(path), load_external_data=False)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:
        raise Wrong(f"onnx refuses it: {str(error)[:300]}") from None


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)


def strip_location(tensor):
    """Where data lie outside of a model is all that may change of such a tensor."""
    copy = TensorProto()
    copy.CopyFrom(tensor)
    del copy.external_data[:]
    return copy.SerializeToString()


def reads(node):
    found = set(node.input)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                found |= reads(inner)
            found |= {o.name for o in graph.output}
    return found


# What may go with a decoupled convolution: its normalisation, and what computes its constants.
CONSTANT_OPERATORS = {"Constant", "Identity", "Cast", "Transpose", "Reshape", "Mul", "Add", "Sub", "Div", "Unsqueeze",
                      "Squeeze", "DequantizeLinear", "Flatten", "ReduceMean", "Concat", "Slice"}


def check_bytes(old_path, new_path, narrowed=False):
    """What was not decoupled is as it was. Returns the number of convolutions that were replaced. `narrowed`: the
    method takes channels out, so constants that meet them may have changed as well."""
    if pathlib.Path(old_path).read_bytes() == pathlib.Path(new_path).read_bytes():
        return 0
    old, new = (onnx.load(str(p), load_external_data=False) for p in (old_path, new_path))
    kept = [n.SerializeToString() for n in new.graph.node]
    present = set(kept)
    gone = [n for n in old.graph.node if n.SerializeToString() not in present]
    require(is_subsequence([n.SerializeToString() for n in old.graph.node if n.SerializeToString() in present], kept),
            "the nodes are in another order")
    convs = [n for n in gone if n.op_type == "Conv"]
    require(convs, "the file has changed and no convolution has")
    outputs = {o for n in gone for o in n.output}
    allowed = {"Conv", "BatchNormalization"} | CONSTANT_OPERATORS | ({"Gather"} if narrowed else set())
    for node in gone:
        require(node.op_type in allowed, f"node '{node.name}' ({node.op_type}) is gone")
    let_go = {name for n in gone for name in reads(n)}
    if narrowed:  # the rows of operands that met the channels which are gone, under their old names
        let_go |= {name for n in old.graph.node if n.op_type in ("BatchNormalization", "Add", "Mul", "Gather")
                   for name in n.input}
    still = {name for n in new.graph.node for name in reads(n)} | {o.name for o in new.graph.output}
    for kind in ("initializer", "sparse_initializer"):
        have = {strip_location(t) if kind == "initializer" else t.SerializeToString()
                for t in getattr(new.graph, kind)}
        for tensor in getattr(old.graph, kind):
            name = tensor.name if kind == "initializer" else tensor.values.name
            raw = strip_location(tensor) if kind == "initializer" else tensor.SerializeToString()
            if raw not in have:
                require(name in let_go, f"initializer '{name}' is gone or changed, and no convolution read it")
    dropped = {i.name for i in old.graph.initializer} - {i.name for i in new.graph.initializer}
    for field in ("input", "output"):
        before = [i.SerializeToString() for i in getattr(old.graph, field) if i.name not in dropped]
        after = [i.SerializeToString() for i in getattr(new.graph, field)]
        require(after[:len(before)] == before or is_subsequence(before, after), f"an {field} has changed")
    before = {i.name: i.SerializeToString() for i in old.graph.value_info}
    after = {i.name: i.SerializeToString() for i in new.graph.value_info}
    for name, raw in before.items():
        if name in after:
            require(after[name] == raw, f"value_info of '{name}' has changed")
        elif not narrowed:
            require(name in outputs and name not in still or name in let_go, f"value_info of '{name}' is gone")
    # All the rest of graph and model, unknown fields included.
    rests = []
    for model in (old, new):
        rest = onnx.ModelProto()
        rest.CopyFrom(model)
        for field in ("node", "initializer", "sparse_initializer", "input", "output", "value_info",
                      "quantization_annotation"):
            rest.graph.ClearField(field)
        entries = [(p.key, p.value) for p in rest.metadata_props if not p.key.startswith("nd.")]
        rest.ClearField("metadata_props")
        rests.append((rest.SerializeToString(), entries))
    require(rests[0] == rests[1], "a field of the model has changed")
    return len(convs)


def agree(old, new):
    """Shapes as the runtime infers them: without a value_info it may know fewer of the same sizes."""
    return len(old) == len(new) and all(a == b or not (isinstance(a, int) and isinstance(b, int))
                                        for a, b in zip(old, new))


def check(old_path, new_path, tolerance=TOLERANCE, narrowed=False, sizes=SIZES, batches=BATCHES):
    """Returns (convolutions replaced, largest relative difference). Raises Wrong. Without `tolerance` the outputs only
    have to have the shapes and types of the original's, and to be finite where those are."""
    try:
        check_valid(old_path)
        valid = True
    except Wrong:
        valid = False  # nothing to be kept
    if valid:
        check_valid(new_path)
    replaced = check_bytes(old_path, new_path, narrowed)
    old, new = session(old_path), session(new_path)
    require([i.name for i in old.get_inputs()] == [i.name for i in new.get_inputs()], "other inputs")
    require([o.name for o in old.get_outputs()] == [o.name for o in new.get_outputs()], "other outputs")
    require(all(agree(o.shape, n.shape) for o, n in zip(old.get_outputs(), new.get_outputs())),
            "outputs of other shapes")
    worst = 0.0
    ran = 0
    for batch, size in runs(old, sizes, batches):
        arrays = feeds(old, batch, size)
        try:
            want = old.run(None, arrays)
        except Exception:  # the original does not run at this batch or size
            continue
        try:
            got = new.run(None, arrays)
        except Exception as error:
            raise Wrong(f"onnxruntime, batch {batch}, size {size}: {str(error)[:200]}") from None
        ran += 1
        error = difference(got, want)
        limit = tolerance if tolerance is not None else np.finfo(np.float64).max
        require(error <= limit, f"off by {error:.2g} at batch {batch}, size {size}")
        worst = max(worst, error)
    require(ran, "the original runs at no batch or size")
    return replaced, worst
