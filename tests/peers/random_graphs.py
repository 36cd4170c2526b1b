#!/usr/bin/env python3
"""Random graphs through nd decouple, each written file held against its original by written.check, and nd's own runs
of both, on every backend, against onnxruntime.

A graph is a row of blocks, drawn by its seed: convolutions (groups, strides, dilations, automatic padding, shared and
computed weights, BatchNormalization behind them or elsewhere), branches, pads, subgraphs, dead nodes, Reshapes by 0 and
-1, kernels wider than their maps, numbers chosen by the run, shapes that are computed, stale-able value_info, sizes that are open. A failure prints its seed and keeps the file.

usage: random_graphs.py BUILD [COUNT [FIRST_SEED]]
"""
import collections
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import peer
import written

# method, rank, whether that is all of it
SETTINGS = [("dwpw", "25", True), ("pwdw", "25", True), ("dwpw", "2", False), ("pwdw", "1", False),
            ("prune", "3", False), ("spatial", "2", False)]
ACTIVATIONS = ("Relu", "LeakyRelu", "Sigmoid", "HardSigmoid")
RARE = (*ACTIVATIONS, "Tanh")
BACKENDS = ("ref", "cpu")
LEAST_RUN = 0.5  # of the graphs have to run on nd's own backends: what does not proves nothing


class Graph:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.initializers, self.infos, self.names = [], [], [], 0
        self.opset = int(self.rng.choice([13, 17, 18]))
        self.open = bool(self.rng.random() < 0.5)
        self.plain = bool(self.rng.random() < 0.6)  # only what nd runs itself
        self.channels, self.side = 3, 16  # at the smaller of two sizes
        self.value = "x"
        self.shared = {}
        self.functions = []

    def name(self, stem):
        self.names += 1
        return f"{stem}{self.names}"

    def constant(self, array, stem="k"):
        name = self.name(stem)
        if stem == "k" and self.rng.random() < 0.3:
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array))))
        else:
            self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, **attributes):
        out = self.name(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [out], name=self.name("n"), **attributes))
        return out

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def floats(self, *dims):
        return (self.rng.standard_normal(dims) / np.sqrt(np.prod(dims[1:]) or 1)).astype(np.float32)

    def weights(self, no, ni, k):
        """A convolution's weights: plain, shared, or computed from constants."""
        kind = self.rng.integers(0, 12)
        array = self.floats(no, ni, k, k)
        if kind == 0 and array.shape in self.shared:
            return self.shared[array.shape]
        if kind == 1:
            return self.node("Transpose", [self.constant(array.transpose(2, 3, 1, 0), "w")], perm=[3, 2, 0, 1])
        if kind == 2:
            return self.node("Mul", [self.constant(array, "w"), self.constant(np.float32([0.5]))])
        if kind == 3:
            return self.node("Cast", [self.constant(array.astype(np.float16), "w")], to=TensorProto.FLOAT)
        if kind == 4:
            scale = np.abs(array).max() / 127
            quantized = np.clip(np.round(array / scale), -127, 127).astype(np.int8)
            return self.node("DequantizeLinear", [self.constant(quantized, "w"), self.constant(np.float32(scale)),
                                                  self.constant(np.int8(0))])
        if kind == 5:
            return self.node("Reshape", [self.constant(array.reshape(no, -1), "w"), self.ints(no, ni, k, k)])
        if kind == 6 and self.opset > 13:
            return self.standardised(array)
        if kind == 9 and no > 1:
            parts = [self.constant(a, "w") for a in np.split(array, [no // 2])]
            return self.node("Concat", parts, axis=int(self.rng.choice([0, -4])))
        if kind == 10:
            more = np.concatenate([self.floats(2, ni, k, k), array[::-1]])
            return self.node("Slice", [self.constant(more, "w"), self.ints(-1), self.ints(1), self.ints(0), self.ints(-1)])
        if kind == 11:
            return self.node("Squeeze", [self.node("Unsqueeze", [self.constant(array, "w"), self.ints(0)]), self.ints(0)])
        name = self.constant(array, "w")
        self.shared[array.shape] = name
        return name

    def standardised(self, array):
        """By a BatchNormalization in training mode, as exporters write weights that are standardised."""
        no = len(array)
        flat = self.constant(array.reshape(1, no, -1), "w")
        rows = [self.constant(np.abs(self.floats(no)) + 0.1) for _ in range(2)]
        zeros = [self.constant(np.zeros(no, np.float32)) for _ in range(2)]
        out, mean, variance = self.name("standard"), self.name("mean"), self.name("variance")
        self.nodes.append(helper.make_node("BatchNormalization", [flat, *rows, *zeros], [out, mean, variance],
                                           name=self.name("n"), training_mode=1))
        return self.node("Reshape", [out, self.ints(*array.shape)])

    def conv(self, no=None, stride=True, bare=False):
        rng = self.rng
        no = no or int(rng.choice([4, 6, 8]))
        groups = 2 if self.channels % 2 == 0 and no % 2 == 0 and rng.random() < 0.2 else 1
        if no == self.channels and rng.random() < 0.4:
            groups = no
        k = int(rng.choice([1, 3, 3, 3, 5]))
        attributes = {"group": groups}
        if rng.random() < 0.3:
            attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER"]))
        else:
            attributes["pads"] = [k // 2] * 4
        if stride and self.side > 1 and rng.random() < 0.15:
            attributes["strides"] = [2, 2]
            self.side = (self.side + 1) // 2
        inputs = [self.value, self.weights(no, self.channels // groups, k)]
        if rng.random() < 0.5:
            inputs.append(self.constant(self.floats(no), "b"))
        self.value = self.node("Conv", inputs, **attributes)
        self.channels = no
        if bare:
            return
        if rng.random() < 0.3:
            self.infos.append(helper.make_tensor_value_info(self.value, TensorProto.FLOAT, ["N", no, None, None]))
        if rng.random() < 0.15:
            self.value = self.node("Identity", [self.value])
        if rng.random() < 0.4:
            self.norm()
        if rng.random() < 0.6:
            self.value = self.node(str(rng.choice(ACTIVATIONS if self.plain else RARE)), [self.value])

    def norm(self):
        rows = [self.floats(self.channels) + 1, self.floats(self.channels), self.floats(self.channels),
                np.abs(self.floats(self.channels)) + 1]
        self.value = self.node("BatchNormalization", [self.value] + [self.constant(r, "r") for r in rows])

    def branch(self):
        start, channels = self.value, self.channels
        self.conv(channels, stride=False)
        self.value = self.node("Add", [start, self.value])

    def small(self):
        """A residual right behind a kernel that is larger than its map."""
        side = max(self.side // int(self.rng.choice([1, 2])), 1)
        self.side //= side
        self.value = self.node("MaxPool", [self.value], kernel_shape=[side] * 2, strides=[side] * 2)
        start = self.value
        self.conv(self.channels, stride=False, bare=True)
        self.value = self.node("Add", [start, self.value])

    def deep(self):
        """A depthwise kernel whose padding is wider than its map, with a residual, alone or before a pointwise one."""
        side = max(self.side // int(self.rng.choice([1, 2, 2, 3])), 1)
        self.side //= side
        self.value = self.node("AveragePool", [self.value], kernel_shape=[side] * 2, strides=[side] * 2)
        start, c, k = self.value, self.channels, int(self.rng.choice([3, 5, 7, 7]))
        inputs = [start, self.constant(self.floats(c, 1, k, k), "w"), self.constant(self.floats(c), "b")]
        self.value = self.node("Conv", inputs, group=c, pads=[k // 2] * 4)
        if self.rng.random() < 0.3:
            self.value = self.node("Conv", [self.value, self.constant(self.floats(c, c, 1, 1), "w")])
        self.value = self.node("Add", [start, self.value] if self.rng.random() < 0.5 else [self.value, start])
        if self.rng.random() < 0.5:
            self.value = self.node(str(self.rng.choice(ACTIVATIONS)), [self.value])

    def split(self):
        """Halves that change places."""
        if self.channels % 2:
            return
        a, b = self.name("part"), self.name("part")
        self.nodes.append(helper.make_node("Split", [self.value, self.ints(self.channels // 2, self.channels // 2)],
                                           [a, b], name=self.name("n"), axis=1))
        self.value = self.node("Concat", [b, a], axis=1)

    def upsample(self):
        """To twice the size and back."""
        mode = str(self.rng.choice(["nearest", "linear", "cubic"]))
        wide = self.node("Resize", [self.value, "", self.constant(np.float32([1, 1, 2, 2]))], mode=mode)
        self.value = self.node("AveragePool", [wide], kernel_shape=[2, 2], strides=[2, 2])

    def shuffled(self):
        """Blocks of pixels to channels, and back in another order."""
        if self.side % 2 or self.open:
            return
        deep = self.node("SpaceToDepth", [self.value], blocksize=2)
        self.value = self.node("DepthToSpace", [deep], blocksize=2, mode=str(self.rng.choice(["DCR", "CRD"])))

    def transposed(self):
        no = int(self.rng.choice([4, 6]))
        weights = self.constant(self.floats(self.channels, no, 3, 3), "w")
        self.value = self.node("ConvTranspose", [self.value, weights], pads=[1, 1, 1, 1])
        self.channels = no

    def sorted(self):
        """Channels in the order of their numbers, which the run finds."""
        value, index = self.name("top"), self.name("index")
        self.nodes.append(helper.make_node("TopK", [self.value, self.ints(self.channels)], [value, index],
                                           name=self.name("n"), axis=1))
        self.value = value if self.rng.random() < 0.5 else self.node("GatherElements", [self.value, index], axis=1)

    def masked(self):
        """What is above 0, however much that is, taken out, halved and put back."""
        above = self.node("Greater", [self.value, self.constant(np.float32(0))])
        at = self.node("Transpose", [self.node("NonZero", [above])], perm=[1, 0])
        half = self.node("Mul", [self.node("GatherND", [self.value, at]), self.constant(np.float32(0.5))])
        self.value = self.node("ScatterND", [self.value, at, half])

    def chain(self):
        """A convolution read by another alone, so that its channels may be pruned, and declared as it is in the file."""
        self.conv(stride=False, bare=True)
        self.infos.append(helper.make_tensor_value_info(self.value, TensorProto.FLOAT, ["N", self.channels, None, None]))
        self.value = self.node("Relu", [self.value])
        self.conv(stride=False)

    def concat(self):
        start, channels = self.value, self.channels
        self.conv(stride=False)
        self.value = self.node("Concat", [start, self.value], axis=1)
        self.channels += channels

    def pad(self):
        self.side += 1
        self.value = self.node("Pad", [self.value, self.ints(0, 0, 1, 0, 0, 0, 0, 1)])

    def pool(self):
        """Down to maps that are smaller than the kernels behind it."""
        side = int(self.rng.choice([2, 4, 8]))
        if side <= self.side:
            self.side //= side
            self.value = self.node("MaxPool", [self.value], kernel_shape=[side] * 2, strides=[side] * 2)

    def rows(self):
        """A batch written as 0: of a value whose first dimension is another."""
        shape = self.node("Shape", [self.value])
        flat = self.node("Reshape", [self.node("Transpose", [self.value], perm=[0, 2, 3, 1]),
                                     self.ints(-1, self.channels)])
        if self.rng.random() < 0.7:  # its rows as 0, which is no batch
            flat = self.node("Reshape", [flat, self.ints(0, 2 - self.channels % 2, -1)])
            flat = self.node("Reshape", [flat, self.ints(0, -1)])
        flat = self.node("Mul", [flat, self.constant(self.floats(self.channels), "s")])
        part = self.node("Slice", [shape, self.ints(2), self.ints(4), self.ints(0)])
        first = self.node("Gather", [shape, self.constant(np.int64(0))], axis=0)
        to = self.node("Concat", [self.node("Unsqueeze", [first, self.ints(0)]), part, self.ints(self.channels)],
                       axis=0)
        self.value = self.node("Transpose", [self.node("Reshape", [flat, to])], perm=[0, 3, 1, 2])

    def groupnorm(self):
        """As TorchScript writes it."""
        if self.channels % 2:
            return
        shape = self.node("Shape", [self.value])
        flat = self.node("Reshape", [self.value, self.ints(0, 2, -1)])
        flat = self.node("InstanceNormalization", [flat, self.constant(np.ones(2, np.float32)),
                                                   self.constant(np.zeros(2, np.float32))])
        self.value = self.node("Reshape", [flat, shape])

    def fixed(self):
        """Height x width in one dimension and back, by Mul and Div of computed sizes."""
        shape = self.node("Shape", [self.value])
        sizes = [self.node("Gather", [shape, self.ints(i)], axis=0) for i in range(4)]
        area = self.node("Mul", [sizes[2], sizes[3]])
        flat = self.node("Reshape", [self.value, self.node("Concat", [sizes[0], sizes[1], area], axis=0)])
        back = self.node("Concat", [self.ints(0), sizes[1], self.node("Div", [area, sizes[3]]), sizes[3]], axis=0)
        self.value = self.node("Reshape", [self.node("Softmax", [flat], axis=-1), back])

    def tokens(self):
        """Length x batch in one dimension, as attention has it, scaled by channel and put back."""
        shape, c = self.node("Shape", [self.value]), self.channels
        n, h, w = (self.node("Gather", [shape, self.ints(i)], axis=0) for i in (0, 2, 3))
        length = self.node("Mul", [h, w])
        rows = self.node("Concat", [self.node("Mul", [length, n]), self.ints(c)], axis=0)
        flat = self.node("Reshape", [self.node("Transpose", [self.value], perm=[2, 3, 0, 1]), rows])
        flat = self.node("Mul", [flat, self.constant(self.floats(c), "s")])
        if self.rng.random() < 0.5:
            flat = self.node("Reshape", [flat, self.node("Concat", [length, n, self.ints(c)], axis=0)])
            flat = self.node("Softmax", [flat], axis=-1)
        back = self.node("Reshape", [flat, self.node("Concat", [h, w, n, self.ints(c)], axis=0)])
        self.value = self.node("Transpose", [back], perm=[2, 3, 0, 1])

    def subgraph(self):
        """An If whose branches read the graph around them, weights that others may share among it."""
        cond, outer = self.constant(np.array(bool(self.rng.random() < 0.5)), "c"), self.value
        branches = []
        k = int(self.rng.choice([1, 3]))
        weights = self.weights(self.channels, self.channels, k)
        for op, more, attributes in (("Conv", [weights], {"pads": [k // 2] * 4}), ("Neg", [], {})):
            out = self.name("inner")
            node = helper.make_node(op, [outer, *more], [out], name=self.name("n"), **attributes)
            branches.append(helper.make_graph([node], self.name("g"), [],
                                              [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)]))
        self.value = self.node("If", [cond], then_branch=branches[0], else_branch=branches[1])

    def called(self):
        """A function of the file, whose weights are its operands or its own, and whose attributes may be the call's."""
        k, c = int(self.rng.choice([1, 3])), self.channels
        name = self.name("Block")
        pads = helper.make_node("Conv", ["a", "w"], ["b"])
        pads.attribute.append(onnx.AttributeProto(name="pads", ref_attr_name="edge", type=onnx.AttributeProto.INTS))
        own = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(self.floats(c, 1, 1)))
        body = [own, pads, helper.make_node("Mul", ["b", "k"], ["m"]), helper.make_node("Relu", ["m"], ["r"])]
        opsets = [helper.make_opsetid("", self.opset)]
        self.functions.append(helper.make_function("own", name, ["a", "w"], ["r"], body, opsets, attributes=["edge"]))
        self.value = self.node(name, [self.value, self.weights(c, c, k)], domain="own", edge=[k // 2] * 4)

    def dead(self):
        self.node(str(self.rng.choice(["Neg", "Relu", "Shape"])), [self.value])

    def model(self):
        blocks = [self.conv, self.conv, self.chain, self.branch, self.concat, self.pad, self.norm, self.rows, self.fixed,
                  self.tokens, self.dead, self.pool, self.small, self.deep, self.deep, self.split, self.upsample, self.transposed,
                  self.shuffled, self.called]
        if not self.plain:
            blocks += [self.subgraph, self.groupnorm, self.sorted, self.masked]
        self.conv()
        for _ in range(int(self.rng.integers(2, 7))):
            blocks[self.rng.choice(len(blocks))]()
        self.conv()
        if self.rng.random() < 0.5:
            self.value = self.node(["GlobalAveragePool", "GlobalMaxPool"][self.rng.integers(2)], [self.value])
        self.nodes.append(helper.make_node("Identity", [self.value], ["y"]))
        size = ["h", "w"] if self.open else [16, 16]
        graph = helper.make_graph(
            self.nodes, "random", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", self.channels, None, None])],
            self.initializers, value_info=self.infos)
        opsets = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid("own", 1)] * bool(self.functions)
        return helper.make_model(graph, opset_imports=opsets, functions=self.functions, ir_version=8)


def convolutions(graph):
    """Names, those in subgraphs included."""
    for node in graph.node:
        if node.op_type == "Conv":
            yield node.name
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from convolutions(attribute.g)


def check_table(model, output):
    """Every convolution has its line."""
    graph = model.graph
    calls = sum(node.domain == "own" for node in graph.node)
    named = output.count("in the function own.")
    written.require(named == calls, f"{named} convolutions in functions, not {calls}")
    lines = {line.split()[0].split("/")[-1] for line in output.splitlines() if line.strip()}
    missing = [name for name in convolutions(graph) if name not in lines]
    written.require(not missing, f"no word of {missing}")


def check_runs(build, path, counts):
    """nd's own runs of a file against onnxruntime's, at each size that the file takes."""
    runner = written.session(path)
    for _, size in written.runs(runner, (16, 23), (2,)):
        arrays = written.feeds(runner, 2, size, seed=5)
        want = runner.run(None, arrays)
        for backend in BACKENDS:
            try:
                got = peer.run(build, backend, path, list(arrays.values()), fold=True,
                               size=size if written.is_open(runner, "size") else None)
            except peer.Unsupported as reason:
                counts[str(reason).split("'")[-1].strip(" :")[-100:]] += 1
                continue
            except peer.Failed as reason:
                raise written.Wrong(f"nd itself, {backend}, size {size}: {reason}") from None
            counts["ran"] += 1
            error = written.difference(got, want)
            written.require(error <= written.TOLERANCE, f"nd itself, {backend}, size {size}: off by {error:.2g}")


def check_seed(build, seed, folder, counts):
    """None, or what went wrong."""
    old, new = folder / f"seed{seed}.onnx", folder / f"seed{seed}.new.onnx"
    model = Graph(seed).model()
    onnx.save(model, old)
    what = f"seed {seed}"
    try:
        check_runs(build, old, counts)
        for method, rank, full in SETTINGS:
            command = [f"{build}/nd", "decouple", str(old), "-o", str(new), "--method", method, "--rank", rank,
                       "--skip", "none", "--input", "16x16"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            what = f"seed {seed}, {method} --rank {rank}"
            if done.returncode:
                return f"{what}: ended with {done.returncode}: {done.stderr.strip()[-300:]}"
            check_table(model, done.stdout)
            written.check(old, new, written.TOLERANCE if full else None, narrowed=method == "prune", sizes=(16, 23))
            if not full:
                check_runs(build, new, counts)
    except written.Wrong as error:
        return f"{what}: {error}"
    old.unlink()
    new.unlink()
    return None


def main():
    build, count, first = sys.argv[1], int((sys.argv[2:] + ["200"])[0]), int((sys.argv[3:] + ["1"])[0])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nd_random_graphs."))
    print(f"seeds {first} to {first + count - 1}", flush=True)
    counts, wrong = collections.Counter(), []
    for seed in range(first, first + count):
        what = check_seed(build, seed, folder, counts)
        if what:
            wrong.append(what)
            print(f"FAILED {what}", flush=True)
    print(f"{count - len(wrong)} of {count} graphs agree" + (f"; the others are in {folder}" if wrong else ""))
    ran, tried = counts.pop("ran", 0), counts.total()
    print(f"nd ran {ran} of {ran + tried} itself")
    for reason, times in counts.most_common(8):
        print(f"  {times:5} not: {reason}")
    few = ran < LEAST_RUN * (ran + tried)
    if few:
        print(f"FAILED: fewer than {LEAST_RUN:.0%} of them")
    if not wrong:
        folder.rmdir()
    sys.exit(1 if wrong or few else 0)


if __name__ == "__main__":
    main()
