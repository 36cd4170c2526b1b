#!/usr/bin/env python3
"""Trains the glyphs network, a small VGG with batch normalization, and writes glyphs.onnx beside this file.

    train.py            about ten minutes on one core; needs torch (python3-torch), numpy and PIL

The training tiles are drawn here (make.py, split "train"); test.png and calib.png are never learned from. The last line
tells the accuracy on test.png, which is looked at once, after training.
"""

import pathlib
import time
from collections import OrderedDict

import numpy
import torch
from PIL import Image
from torch import nn

import make

SEED = 1
ROWS = 640  # tiles a class
EPOCHS = 6
BATCH = 128
PEAK_RATE = 0.08
WIDTHS = (32, 32, "pool", 64, 64, "pool", 128, 128, "pool")


def network():
    layers, channels = [], 3
    for width in WIDTHS:
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    features = nn.Sequential(*layers)
    classifier = nn.Sequential(nn.Linear(channels * 4 * 4, 128), nn.ReLU(), nn.Dropout(0.3),
                               nn.Linear(128, len(make.CLASSES)))
    return nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))


def as_input(tiles):
    """What the recipe `glyphs` of nd does: RGB in 0..1, less 0.5, over 0.25, planes first."""
    return torch.from_numpy(tiles).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25)


def training_set(fonts):
    labels = numpy.arange(ROWS * len(make.CLASSES)) % len(make.CLASSES)
    tiles = [make.tile("train", i // len(make.CLASSES), label, fonts) for i, label in enumerate(labels)]
    return numpy.stack(tiles), torch.from_numpy(labels)


def read_sheet(path):
    sheet = numpy.asarray(Image.open(path).convert("RGB"))
    side, classes = make.SIDE, len(make.CLASSES)
    rows = sheet.shape[0] // side
    tiles = sheet.reshape(rows, side, classes, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    return tiles.copy(), torch.arange(classes).repeat(rows)


def augment(batch):
    """Colours mean nothing: permute the channels, invert at random."""
    batch = batch[:, torch.randperm(3)]
    sign = torch.randint(0, 2, (len(batch), 1, 1, 1)).float() * 2 - 1
    return batch * sign


def train(model, tiles, labels):
    steps = EPOCHS * (len(tiles) // BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.2)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        model.train()
        order, total, start = torch.randperm(len(tiles)), 0.0, time.time()
        for step in range(len(tiles) // BATCH):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            loss = loss_of(model(augment(as_input(tiles[chosen.numpy()]))), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / (step + 1):.3f}, {time.time() - start:.0f} s", flush=True)


def counts(model, tiles, labels):
    model.eval()
    with torch.no_grad():
        scores = torch.cat([model(as_input(tiles[i : i + 256])) for i in range(0, len(tiles), 256)])
    best = scores.topk(5).indices == labels[:, None]
    return best[:, 0].sum().item(), best.any(1).sum().item(), len(tiles)


def add_metadata(path, pairs):
    """Appends entries to ModelProto.metadata_props (field 14): concatenation merges protobuf messages."""

    def field(number, data):
        assert len(data) < 128
        return bytes([number << 3 | 2, len(data)]) + data

    with open(path, "ab") as file:
        for key, value in pairs.items():
            file.write(field(14, field(1, key.encode()) + field(2, value.encode())))


def write(model, path):
    model.eval()
    torch.onnx.export(model, torch.zeros(1, 3, make.SIDE, make.SIDE), path, opset_version=13, input_names=["image"],
                      output_names=["scores"], dynamic_axes={"image": {0: "n"}, "scores": {0: "n"}},
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    add_metadata(path, {"nd.preprocess": "glyphs"})


def main():
    here = pathlib.Path(__file__).parent
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    fonts = make.load_fonts()
    tiles, labels = training_set(fonts)
    model = network()
    train(model, tiles, labels)
    write(model, here / "glyphs.onnx")
    top1, top5, n = counts(model, *read_sheet(here / "test.png"))
    print(f"test: top-1 {top1}, top-5 {top5} of {n}; {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    main()
