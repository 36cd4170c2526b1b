#!/usr/bin/env python3
"""The zoo beside torchvision: the same random checkpoint gives the same logits. Exit code 77 where there is no torchvision.

usage: torchvision_zoo.py BUILD [NAME...]      (default: a network of every kind)
"""
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings

try:
    import numpy
    import torch
    import torchvision
    from torchvision.models.detection.image_list import ImageList
except ImportError as error:
    print(f"skipped: {error} (Debian's python3-torchvision has it)")
    sys.exit(77)

NAMES = ("alexnet", "vgg11_bn", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "googlenet", "mobilenet_v2")
BOUND = 1e-5


def network(name):
    """Random weights, BatchNorm with statistics that matter and scales that keep deep networks in range."""
    torch.manual_seed(0)
    arguments = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(**arguments).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            module.weight.data.uniform_(0.6, 0.9)
            module.bias.data.normal_(0, 0.1)
    return model


def relative_difference(build, name, folder):
    model = network(name)
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        wanted = model(image).numpy().ravel()
    checkpoint = os.path.join(folder, name + ".pth")
    prefix = os.path.join(folder, name)
    image.numpy().tofile(prefix + ".in0")
    worst = 0
    for zipped in (True, False):
        # As data-parallel training saves it, with tensors in the order of channels-last ones.
        state = {"module." + key: tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
                 for key, tensor in model.state_dict().items()}
        torch.save({"epoch": 1, "state_dict": state}, checkpoint, _use_new_zipfile_serialization=zipped)
        subprocess.run([os.path.join(build, "nd_peer"), "auto", "1", f"{name}:{checkpoint}", prefix], check=True,
                       stdout=subprocess.DEVNULL)
        got = numpy.fromfile(prefix + ".out0", dtype=numpy.float32)
        worst = max(worst, numpy.linalg.norm(got - wanted) / numpy.linalg.norm(wanted))
    return worst


class Heads(torch.nn.Module):
    """What the heads of a detector of torchvision say, undecoded."""

    def __init__(self, model):
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, images):
        said = self.head(list(self.backbone(images).values()))
        return said["cls_logits"], said["bbox_regression"]


def multiply_adds(model, image):
    """Of all convolutions, counted as they run."""
    count = []

    def add(module, _, output):
        kernel = module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
        count.append(kernel * output[0].numel())

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return sum(count)


def ssd(build, folder):
    """Relative difference of both heads, and multiply-adds by torch and by nd."""
    torch.manual_seed(0)
    whole = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None).eval()
    with torch.no_grad():
        for key, value in whole.named_parameters():
            if value.dim() == 4:
                torch.nn.init.kaiming_normal_(value)
            elif "bias" in key:
                value.normal_(0, 0.1)
    model, image = Heads(whole).eval(), torch.randn(1, 3, 300, 300)
    with torch.no_grad():
        wanted = [x.numpy().ravel() for x in model(image)]
    checkpoint, prefix = os.path.join(folder, "ssd.pth"), os.path.join(folder, "ssd")
    torch.save(whole.state_dict(), checkpoint)
    image.numpy().tofile(prefix + ".in0")
    subprocess.run([os.path.join(build, "nd_peer"), "auto", "1", f"ssd300_vgg16:{checkpoint}", prefix], check=True,
                   stdout=subprocess.DEVNULL)
    rows = os.path.join(folder, "rows.jsonl")
    subprocess.run([os.path.join(build, "nd"), "inspect", f"ssd300_vgg16:{checkpoint}", "--json", rows], check=True,
                   stdout=subprocess.DEVNULL)
    with open(rows, encoding="utf-8") as file:
        macs = sum(row["conv_macs"] for row in map(json.loads, file)
                   if "layer" in row and row["method"] == "none")
    worst = 0
    for i, want in enumerate(wanted):
        got = numpy.fromfile(f"{prefix}.out{i}", dtype=numpy.float32)
        worst = max(worst, numpy.linalg.norm(got - want) / numpy.linalg.norm(want))
    return worst, multiply_adds(model, image), macs


class Detector(torch.nn.Module):
    """torchvision's SSD from a batch of one image to boxes, its post-processing included."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        features = list(self.model.backbone(images - 0.45).values())
        said = self.model.head(features)
        anchors = self.model.anchor_generator(ImageList(images, [(300, 300)]), features)
        found = self.model.postprocess_detections(said, anchors, [(300, 300)])[0]
        return found["boxes"], found["scores"], found["labels"]


def spread_heads(model):
    """Scales random heads so that what they say varies from place to place."""
    features = list(model.backbone(torch.rand(1, 3, 300, 300) - 0.45).values())
    for part, want in ((model.head.classification_head, 0.7), (model.head.regression_head, 0.5)):
        for head, x in zip(part.module_list, features):
            out = head(x)
            scale = want / (out.std(dim=(0, 2, 3), unbiased=False) + 0.02 * out.abs().mean() + 1e-3)
            head.weight.mul_(scale[:, None, None, None])
            head.bias.copy_((head.bias - out.mean(dim=(0, 2, 3))) * scale + 0.5 * want * torch.randn(len(scale)))


def check_exported(build):
    """The exported detector, dense and decoupled at full rank: boxes within 0.1 pixel, scores within 1e-4."""
    torch.manual_seed(0)
    model = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, score_thresh=0.02,
                                                      num_classes=21).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() == 4:
                torch.nn.init.kaiming_normal_(value)
            elif "bias" in key:
                value.normal_(0, 0.1)
        spread_heads(model)
    image, good = torch.rand(1, 3, 300, 300), True
    with torch.no_grad():
        boxes, scores, labels = (x.numpy() for x in Detector(model)(image))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dense, full, prefix = (os.path.join(folder, name) for name in ("dense.onnx", "full.onnx", "x"))
        torch.onnx.export(Detector(model), (image,), dense, opset_version=16, input_names=["image"])
        image.numpy().tofile(prefix + ".in0")
        subprocess.run([os.path.join(build, "nd"), "decouple", dense, "--method", "dwpw", "--rank", "9", "-o", full, "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        for path in (dense, full):
            subprocess.run([os.path.join(build, "nd_peer"), "auto", "1", path, prefix], check=True, stdout=subprocess.DEVNULL)
            got = [numpy.fromfile(f"{prefix}.out{i}", dtype=numpy.float32) for i in range(3)]
            same = got[0].size == boxes.size and (got[2] == labels).all()
            pixels = numpy.abs(got[0] - boxes.ravel()).max() if same else numpy.inf
            score = numpy.abs(got[1] - scores).max() if same else numpy.inf
            good = good and pixels < 0.1 and score < 1e-4 and len(scores) > 20
            print(f"exported ssd300_vgg16, {os.path.basename(path)}: {len(scores)} boxes, largest difference {pixels:.2g} pixels, "
                  f"scores {score:.2g}")
    return good


def retinanet():
    """(model, image, found by its own post-processing). Random, with heads whose numbers vary from place to place, and with all
    boxes of a map looked at, as nd does."""
    torch.manual_seed(2)
    model = torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=5,
                                                                topk_candidates=10**6).eval()
    image = torch.randn(1, 3, 160, 224)
    with torch.no_grad():
        features = list(model.backbone(image).values())
        for head, last, want in ((model.head.classification_head, "cls_logits", 2.0),
                                 (model.head.regression_head, "bbox_reg", 0.3)):
            out = torch.cat([getattr(head, last)(head.conv(x)).flatten() for x in features])
            getattr(head, last).weight.mul_(want / out.std())
            getattr(head, last).bias.zero_()
        logits = model.head(features)["cls_logits"].numpy()  # one in a hundred is to have a score of at least 0.05
        model.head.classification_head.cls_logits.bias.fill_(float(math.log(0.05 / 0.95) - numpy.quantile(logits, 0.99)))
        said = model.head(features)
        anchors = model.anchor_generator(ImageList(image, [(160, 224)]), features)
        counts = [x.size(2) * x.size(3) * model.head.classification_head.num_anchors for x in features]
        found = model.postprocess_detections({name: list(x.split(counts, 1)) for name, x in said.items()},
                                             [list(anchors[0].split(counts))], [(160, 224)])[0]
    return model, image, found


def spread_ssd():
    torch.manual_seed(0)
    model = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, score_thresh=0.01,
                                                      num_classes=21, topk_candidates=10**6).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() == 4:
                torch.nn.init.kaiming_normal_(value)
            elif "bias" in key:
                value.normal_(0, 0.1)
        spread_heads(model)
        image = torch.rand(1, 3, 300, 300) - 0.45
        features = list(model.backbone(image).values())
        anchors = model.anchor_generator(ImageList(image, [(300, 300)]), features)
        found = model.postprocess_detections(model.head(features), anchors, [(300, 300)])[0]
    return model, image, found


def same_found(build, decoder, spec, image, found, background, folder):
    """Whether nd decodes the raw heads into the boxes that torchvision's post-processing finds, without those that have no area
    within the image."""
    prefix = os.path.join(folder, "x")
    image.numpy().tofile(prefix + ".in0")
    run = subprocess.run([os.path.join(build, "nd_found"), spec, decoder, prefix], check=True, capture_output=True, text=True)
    got = numpy.array([line.split() for line in run.stdout.splitlines()], dtype=float).reshape(-1, 6)
    boxes, scores, labels = (found[name].detach().numpy() for name in ("boxes", "scores", "labels"))
    got[:, 4:] += got[:, 2:4]
    area = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    boxes, scores, labels = boxes[area], scores[area], labels[area]
    # Equal scores stand in either order: each of theirs with the nearest of ours of its class.
    apart = numpy.abs(got[None, :, 2:] - boxes[:, None]).max(2)
    apart[got[None, :, 0] != labels[:, None] - background] = numpy.inf
    nearest = apart.argmin(1) if apart.size else numpy.zeros(0, int)
    same = len(set(nearest)) == len(got) == len(scores) > 50
    pixels = apart.min(1).max() if same else numpy.inf
    score = numpy.abs(got[nearest, 1] - scores).max() if same else numpy.inf
    print(f"--decode {decoder}: {len(got)} boxes, {len(scores)} by torchvision, largest difference {pixels:.2g} pixels, "
          f"scores {score:.2g}")
    return pixels < 0.1 and score < 1e-4


def check_decoders(build):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, image, found = spread_ssd()
        checkpoint = os.path.join(folder, "ssd.pth")
        torch.save(model.state_dict(), checkpoint)
        good = same_found(build, "ssd", f"ssd300_vgg16:{checkpoint}", image, found, 1, folder)
        model, image, found = retinanet()
        path = os.path.join(folder, "retinanet.onnx")
        torch.onnx.export(Heads(model).eval(), (image,), path, opset_version=16, input_names=["image"])
        return same_found(build, "retinanet", path, image, found, 0, folder) and good


def check_ssd(build):
    with tempfile.TemporaryDirectory() as folder:
        difference, theirs, ours = ssd(build, folder)
    print(f"ssd300_vgg16: relative difference {difference:.2g}, bound {BOUND:g}; multiply-adds {theirs} by torch, {ours} by nd")
    return difference < BOUND and theirs == ours


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    failed = 0
    for name in sys.argv[2:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            difference = relative_difference(sys.argv[1], name, folder)
        failed += not difference < BOUND
        print(f"{name}: relative difference {difference:.2g}, bound {BOUND:g}")
    failed += len(sys.argv) == 2 and not check_ssd(sys.argv[1])
    failed += len(sys.argv) == 2 and not check_exported(sys.argv[1])
    failed += len(sys.argv) == 2 and not check_decoders(sys.argv[1])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
