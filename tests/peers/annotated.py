#!/usr/bin/env python3
"""nd eval on annotated pictures from beginning to end: made-up PASCAL VOC folders and COCO files, pictures that do not have the
network's size, and a network whose detections follow from the colours of a picture. pycocotools and a plain evaluation by the
rules of PASCAL VOC (detection.py) are told the same detections, worked out here.

usage: tests/peers/annotated.py BUILD [SETS]"""
import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from detection import NAMES, by_pycocotools, by_voc

SIDE, CELL = 64, 8
CLASSES = ["red", "green"]
FIELDS = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"]
# Name, recipe, sizes of pictures (width, height), and the scale and offset by which a picture lies in the image.
FRAMES = [
    ("letterbox", f"fit={SIDE}", [(64, 64), (64, 48), (32, 64), (128, 64), (128, 128)],
     lambda w, h: (SIDE / max(w, h), SIDE / max(w, h), (SIDE - w * SIDE // max(w, h)) // 2, (SIDE - h * SIDE // max(w, h)) // 2)),
    ("warp", f"resize={SIDE}x{SIDE}", [(64, 64), (128, 64), (64, 128), (32, 64)], lambda w, h: (SIDE / w, SIDE / h, 0, 0)),
    ("keep ratio", f"resize={SIDE},crop={SIDE}", [(64, 64), (96, 64), (64, 80), (192, 128)],
     lambda w, h: (SIDE / min(w, h), SIDE / min(w, h), -(w * SIDE // min(w, h) - SIDE) // 2, -(h * SIDE // min(w, h) - SIDE) // 2)),
]


def network(path):
    """[1][3][64][64] to a head of YOLOv8: a box in the middle of each cell, as large as its blue says, whose scores are its red and
    its green. Four pixels in the middle of a cell are read, which no resampling mixes with another cell."""
    cells = SIDE // CELL
    kernel = numpy.zeros((3, 3, CELL, CELL), numpy.float32)
    for c in range(3):
        kernel[c, c, 3:5, 3:5] = 0.25
    ys, xs = numpy.mgrid[0:cells, 0:cells].reshape(2, 1, 1, -1).astype(numpy.float32) * CELL + CELL / 2
    constants = {"kernel": kernel, "x": xs, "y": ys, "six": numpy.float32([6]),
                 "flat": numpy.int64([0, 3, -1]), "parts": numpy.int64([1, 1, 1])}
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["colours"], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["colours", "flat"], ["each"]),
        helper.make_node("Split", ["each", "parts"], ["red", "green", "blue"], axis=1),
        helper.make_node("Mul", ["blue", "six"], ["larger"]),
        helper.make_node("Add", ["larger", "six"], ["size"]),
        helper.make_node("Sub", ["red", "red"], ["nothing"]),
        helper.make_node("Add", ["nothing", "x"], ["left"]),
        helper.make_node("Add", ["nothing", "y"], ["top"]),
        helper.make_node("Concat", ["left", "top", "size", "size", "red", "green"], ["head"], axis=1),
    ]
    graph = helper.make_graph(nodes, "cells", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
                              [helper.make_tensor_value_info("head", TensorProto.FLOAT, [1, 6, cells * cells])],
                              [numpy_helper.from_array(value, name) for name, value in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def png(path, pixels):
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                   chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def found_in(colours, frame, width, height):
    """What the network finds, in the pixels of the picture and cut at its borders, best first. colours[row][column]: of the cells
    of the image."""
    across, down, left, top = frame
    out = []
    for row, column in numpy.ndindex(colours.shape[:2]):
        values = colours[row, column].astype(numpy.float64) / 255
        half = 3 + 3 * values[2]
        x0, x1 = (min(max((column * CELL + 4 + s * half - left) / across, 0), width) for s in (-1, 1))
        y0, y1 = (min(max((row * CELL + 4 + s * half - top) / down, 0), height) for s in (-1, 1))
        box = [x0, y0, x1 - x0, y1 - y0]
        out += [dict(label=c, score=values[c], box=box) for c in range(2) if values[c] >= 0.01]
    return sorted(out, key=lambda d: (-d["score"], d["label"], d["box"][0], d["box"][1]))


def picture(rng, width, height, frame):
    """Pixels, and the colours of the cells of the image that the network sees: black where the picture does not reach."""
    cells = SIDE // CELL
    colours = numpy.zeros((cells, cells, 3), numpy.uint8)
    pixels = numpy.zeros((height, width, 3), numpy.uint8)
    across, down, left, top = frame
    seen = {}
    for y in range(height):
        for x in range(width):
            cell = (math.floor(((y + 0.5) * down + top) / CELL), math.floor(((x + 0.5) * across + left) / CELL))
            if cell not in seen:
                seen[cell] = [rng.choice([0, 1, rng.randrange(256)]) for _ in range(3)]
            pixels[y, x] = seen[cell]
    for (row, column), colour in seen.items():
        if 0 <= row < cells and 0 <= column < cells:
            colours[row, column] = colour
    return pixels, colours


def annotate(rng, found, width, height, image):
    """Objects with whole bounds within the picture: near what is found, elsewhere, or none at all."""
    if rng.random() < 0.15:
        return []
    objects = []
    for d in found:
        if rng.random() < 0.6:
            continue
        x, y, w, h = (v + rng.choice([0, 0, -1, 1]) for v in d["box"])
        box = [max(0, round(x)), max(0, round(y)), max(1, round(w)), max(1, round(h))]
        if box[0] + box[2] <= width and box[1] + box[3] <= height:
            label = d["label"] if rng.random() < 0.9 else 1 - d["label"]
            kind = rng.random()
            objects.append(dict(image=image, label=label, box=[float(v) for v in box], area=float(box[2] * box[3]),
                                crowd=kind < 0.05, difficult=kind > 0.9))
    return objects


def write_voc(folder, pictures, objects, pixels):
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        os.makedirs(os.path.join(folder, part))
    with open(os.path.join(folder, "classes.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(CLASSES) + "\n")
    with open(os.path.join(folder, "ImageSets/Main/val.txt"), "w", encoding="utf-8") as file:
        file.writelines(f"p{i:03}\n" for i in range(len(pictures)))
    for i, (width, height) in enumerate(pictures):
        png(os.path.join(folder, f"JPEGImages/p{i:03}.png"), pixels[i])
        parts = [f"<annotation>\n<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
        for o in (o for o in objects if o["image"] == i):
            x, y, w, h = map(int, o["box"])
            parts.append(f"<object><name>{CLASSES[o['label']]}</name><difficult>{int(o['difficult'])}</difficult><bndbox>"
                         f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>"
                         "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>")
        with open(os.path.join(folder, f"Annotations/p{i:03}.xml"), "w", encoding="utf-8") as file:
            file.write("\n".join(parts + ["</annotation>"]) + "\n")


def write_coco(folder, pictures, objects, pixels, rng):
    """Ids are in no order and start nowhere, and pictures stand in that of their ids."""
    os.makedirs(os.path.join(folder, "pictures"))
    ids = sorted(rng.sample(range(1, 10**12), len(pictures)))
    images = [dict(id=ids[i], file_name=f"p{i}.png", width=w, height=h) for i, (w, h) in enumerate(pictures)]
    for i, values in enumerate(pixels):
        png(os.path.join(folder, f"pictures/p{i}.png"), values)
    annotations = [dict(id=n + 1, image_id=ids[o["image"]], category_id=[7, 90][o["label"]], bbox=o["box"], area=o["area"],
                        iscrowd=int(o["crowd"])) for n, o in enumerate(objects)]
    rng.shuffle(images)
    whole = dict(images=images, annotations=annotations, categories=[dict(id=90, name="green"), dict(id=7, name="red")])
    with open(os.path.join(folder, "instances.json"), "w", encoding="utf-8") as file:
        json.dump(whole, file, indent=1)


def by_nd(build, model, data, recipe, folder):
    rows = os.path.join(folder, "rows.jsonl")
    subprocess.run([f"{build}/nd", "eval", model, "--decode", "yolo", "--data", data, "--preprocess",
                    f"{recipe},scale=1/255,interp=bilinear", "--backend", "ref", "--json", rows, "--quiet"], check=True,
                   stdout=subprocess.DEVNULL)
    with open(rows, encoding="utf-8") as file:
        all_rows = [json.loads(line) for line in file]
    os.remove(rows)
    return all_rows[0]


def compare(name, got, objects, detections, images):
    want = dict(zip(FIELDS, (by_pycocotools(images, 2, objects, detections)[n] for n in NAMES)))
    voc = by_voc(2, objects, detections)
    for i, field in enumerate(("voc2007", "voc2010")):
        known = [float(v[i]) for v in voc if v[i] is not None]
        want[field] = sum(known) / len(known) if known else math.nan
    worst, failed = 0.0, 0
    for field, value in want.items():
        ours = got.get(field)
        ours = math.nan if ours is None else ours / 100
        if math.isnan(ours) and math.isnan(value):
            continue
        worst = max(worst, abs(ours - value)) if not math.isnan(ours - value) else math.inf
        if not abs(ours - value) <= 1e-6:
            failed += 1
            print(f"{name}: {field}: nd {ours}, expected {value}")
    if got["n"] != images:
        failed += 1
        print(f"{name}: {got['n']} images of {images}")
    return worst, failed


def main():
    build, sets = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
    worst, failed, count = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as top:
        model = os.path.join(top, "cells.onnx")
        network(model)
        for seed in range(sets):
            for name, recipe, sizes, place in FRAMES:
                rng = random.Random(f"{name} {seed}")
                pictures = [rng.choice(sizes) for _ in range(rng.randint(3, 12))]
                pixels, objects, detections = [], [], []
                for i, (width, height) in enumerate(pictures):
                    frame = place(width, height)
                    values, colours = picture(rng, width, height, frame)
                    found = found_in(colours, frame, width, height)
                    pixels.append(values)
                    detections += [dict(d, image=i) for d in found]
                    objects += annotate(rng, found, width, height, i)
                for kind in ("voc", "coco"):
                    folder = os.path.join(top, f"{kind} {name} {seed}")
                    told = [dict(o, crowd=o["crowd"] and kind == "coco", difficult=o["difficult"] and kind == "voc") for o in objects]
                    if kind == "voc":
                        write_voc(folder, pictures, told, pixels)
                        data = f"voc:{folder}:val"
                    else:
                        write_coco(folder, pictures, told, pixels, rng)
                        data = f"coco:{folder}/instances.json:{folder}/pictures"
                    off, wrong = compare(f"{kind}, {name}, {seed}", by_nd(build, model, data, recipe, top), told, detections,
                                         len(pictures))
                    worst, failed, count = max(worst, off), failed + wrong, count + 1
    print(f"annotated: {count} sets of pictures, {failed} values differ, largest difference {worst:.1e}")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
