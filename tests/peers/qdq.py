"""Networks of QuantizeLinear and DequantizeLinear in nd and in onnxruntime on the same images: by hand, needs
requirements_speed.txt.

usage: qdq.py [--layers] BUILD cifar10:FILE|list:FILE RECIPE COUNT MODEL...

Each passes the ONNX checker. A quantum is 1/255 of the range of the scores over the images, what a scale of 8 bits of the output
would be. Exit code 1 where scores are more than one apart in the mean square, or more than 1 % of the answers differ among
those in which onnxruntime's best class leads by more than a quantum. Single scores are up to three apart, and onnxruntime's own
integers are from the same file as it is written, in fp32 between roundings: sums that fall between two numbers are rounded
either way, and later layers carry that on (--layers: how many of a million numbers differ, tensor by tensor). Networks in
e4m3 are held to onnxruntime without optimisations: with extended ones its version 1.32 gives other answers than with none.
"""
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

import peer
from quantize_static import pictures, prepare

BATCH = 50
LEVELS = onnxruntime.GraphOptimizationLevel


def in_e4m3(model):
    return any(tensor.data_type == onnx.TensorProto.FLOAT8E4M3FN for tensor in onnx.load(model).graph.initializer)


def onnxruntime_outputs(model, images, level, output=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: image[None]})[output] for image in images])


def onnxruntime_scores(model, images, level):
    return onnxruntime_outputs(model, images, level, 0).reshape(len(images), -1)


def nd_scores(build, model, images):
    scores = [peer.run(build, "cpu", model, [images[i:i + BATCH]], fold=True)[0] for i in range(0, len(images), BATCH)]
    return np.concatenate(scores).reshape(len(images), -1)


def exposed(model, names, path):
    """The network with these values as outputs as well."""
    network = onnx.shape_inference.infer_shapes(onnx.load(model))
    known = {value.name: value for value in network.graph.value_info}
    network.graph.output.extend(known[name] for name in names)
    onnx.save(network, path)
    return path


def quantised_tensors(model):
    """Names and scales of what is dequantised and no constant."""
    network = onnx.load(model)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in network.graph.initializer}
    made = {node.output[0] for node in network.graph.node if node.op_type == "QuantizeLinear"}
    return [(node.output[0], float(constants[node.input[1]])) for node in network.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in made]


def print_layers(build, model, images):
    """A fault of one layer is a jump; what starts with sums that round either way grows by about a factor a layer."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "exposed.onnx")
        for name, scale in quantised_tensors(model):
            exposed(model, [name], path)
            ours = np.concatenate([peer.run(build, "cpu", path, [image[None]], fold=True)[1] for image in images])
            theirs, written = (onnxruntime_outputs(path, images, level) for level in (LEVELS.ORT_ENABLE_ALL, LEVELS.ORT_DISABLE_ALL))
            differ = [1e6 * (np.abs(a.reshape(theirs.shape) - b) > scale / 2).mean() for a, b in ((ours, theirs), (written, theirs))]
            print(f"  {name}: {differ[0]:.0f} of a million differ from onnxruntime, {differ[1]:.0f} of its own as written", flush=True)


def main():
    layers = "--layers" in sys.argv
    build, dataset, recipe, count, *models = (argument for argument in sys.argv[1:] if argument != "--layers")
    images = np.concatenate([prepare(picture, recipe) for picture in pictures(dataset, int(count))])
    failed = False
    for model in models:
        onnx.checker.check_model(model, full_check=True)
        ours = nd_scores(build, model, images)
        best = LEVELS.ORT_DISABLE_ALL if in_e4m3(model) else LEVELS.ORT_ENABLE_ALL
        theirs, written = (onnxruntime_scores(model, images, level) for level in (best, LEVELS.ORT_DISABLE_ALL))
        quantum = (theirs.max() - theirs.min()) / 255
        furthest, own = (np.abs(scores - theirs).max() / quantum for scores in (ours, written))
        mean = np.sqrt(((ours - theirs) ** 2).mean()) / quantum
        alike = ours.argmax(1) == theirs.argmax(1)
        best = np.sort(theirs, 1)
        clear = best[:, -1] - best[:, -2] > quantum
        failed = failed or not (mean <= 1 and alike[clear].sum() >= 0.99 * clear.sum())
        print(f"{model}: {len(images)} images, {alike.sum()} answers alike, {alike[clear].sum()} of the {clear.sum()} that lead by a "
              f"quantum, {mean:.2f} quanta apart in the mean square and {furthest:.2f} at most; onnxruntime as written {own:.2f}",
              flush=True)
        if layers:
            print_layers(build, model, images)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
