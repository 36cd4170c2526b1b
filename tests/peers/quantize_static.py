"""A network in 8 bits by onnxruntime's quantize_static (QDQ, u8 activations, i8 weights per channel, min-max), on images as nd
prepares them.

usage: quantize_static.py MODEL OUT cifar10:FILE|list:FILE RECIPE COUNT      needs requirements_speed.txt
"""
import fractions
import os
import pathlib
import sys
import tempfile

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image


def pictures(dataset, count):
    """Pictures of a data set, unprepared."""
    kind, path = dataset.split(":", 1)
    if kind == "cifar10":
        records = np.fromfile(path, np.uint8).reshape(-1, 3073)[:count, 1:]
        yield from (Image.fromarray(record.reshape(3, 32, 32).transpose(1, 2, 0)) for record in records)
    else:
        for line in pathlib.Path(path).read_text().splitlines()[:count]:
            yield Image.open(pathlib.Path(path).parent / line.rsplit(" ", 1)[0]).convert("RGB")


def prepare(picture, recipe):
    """[1][3][height][width] by a recipe of nd."""
    settings = dict(part.split("=") for part in recipe.split(","))
    size = settings.get("resize", "none")
    if size != "none":
        factor = int(size) / min(picture.size)
        picture = picture.resize(tuple(max(int(size), round(side * factor)) for side in picture.size), Image.BILINEAR)
    if "crop" in settings:
        crop = int(settings["crop"])
        left, top = ((side - crop) // 2 for side in picture.size)
        picture = picture.crop((left, top, left + crop, top + crop))
    numbers = np.asarray(picture, np.float32) * np.float32(fractions.Fraction(settings.get("scale", "1")))
    if settings.get("order") == "bgr":
        numbers = numbers[:, :, ::-1]
    mean, deviation = (np.array([float(x) for x in settings.get(key, fallback).split(":")], np.float32)
                       for key, fallback in (("mean", "0:0:0"), ("std", "1:1:1")))
    return np.ascontiguousarray(((numbers - mean) / deviation).transpose(2, 0, 1)[None], np.float32)


class Images(CalibrationDataReader):
    def __init__(self, name, dataset, recipe, count):
        self.images = ({name: prepare(picture, recipe)} for picture in pictures(dataset, count))

    def get_next(self):
        return next(self.images, None)


def main():
    model, out, dataset, recipe, count = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        folded = os.path.join(folder, "folded.onnx")
        quant_pre_process(model, folded, skip_symbolic_shape=True)
        name = onnx.load(folded).graph.input[0].name
        quantize_static(folded, out, Images(name, dataset, recipe, int(count)), quant_format=QuantFormat.QDQ,
                        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


if __name__ == "__main__":
    main()
