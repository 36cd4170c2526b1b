"""Networks of QuantizeLinear and DequantizeLinear in nd and in onnxruntime on the same images: by hand, needs
requirements_speed.txt.

usage: qdq.py BUILD cifar10:FILE|list:FILE RECIPE COUNT MODEL...

Each passes the ONNX checker. A quantum is 1/255 of the range of the scores over the images, what a scale of 8 bits of the output
would be. Exit code 1 where scores are more than one apart in the mean square, or more than 1 % of the answers differ. Single
scores are up to three apart, and onnxruntime's own integers are from the same file as it is written, in fp32 between
roundings: sums that fall between two numbers are rounded either way, and later layers carry that on.
"""
import sys

import numpy as np
import onnx
import onnxruntime

import peer
from quantize_static import pictures, prepare

BATCH = 50
LEVELS = onnxruntime.GraphOptimizationLevel


def onnxruntime_scores(model, images, level):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    scores = [session.run(None, {session.get_inputs()[0].name: image[None]})[0] for image in images]
    return np.concatenate(scores).reshape(len(images), -1)


def nd_scores(build, model, images):
    scores = [peer.run(build, "cpu", model, [images[i:i + BATCH]], fold=True)[0] for i in range(0, len(images), BATCH)]
    return np.concatenate(scores).reshape(len(images), -1)


def main():
    build, dataset, recipe, count, *models = sys.argv[1:]
    images = np.concatenate([prepare(picture, recipe) for picture in pictures(dataset, int(count))])
    failed = False
    for model in models:
        onnx.checker.check_model(model, full_check=True)
        ours = nd_scores(build, model, images)
        theirs, written = (onnxruntime_scores(model, images, level) for level in (LEVELS.ORT_ENABLE_ALL, LEVELS.ORT_DISABLE_ALL))
        quantum = (theirs.max() - theirs.min()) / 255
        furthest, own = (np.abs(scores - theirs).max() / quantum for scores in (ours, written))
        mean = np.sqrt(((ours - theirs) ** 2).mean()) / quantum
        alike = (ours.argmax(1) == theirs.argmax(1)).sum()
        failed = failed or not (mean <= 1 and alike >= 0.99 * len(images))
        print(f"{model}: {len(images)} images, {alike} answers alike, {mean:.2f} quanta apart in the mean square and {furthest:.2f} at "
              f"most; onnxruntime as written {own:.2f}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
