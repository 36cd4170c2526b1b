#!/usr/bin/env python3
"""The zoo beside torchvision: the same random checkpoint gives the same logits. Exit code 77 where there is no torchvision.

usage: torchvision_zoo.py BUILD [NAME...]      (default: a network of every kind)
"""
import os
import subprocess
import sys
import tempfile

try:
    import numpy
    import torch
    import torchvision
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


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    failed = 0
    for name in sys.argv[2:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            difference = relative_difference(sys.argv[1], name, folder)
        failed += not difference < BOUND
        print(f"{name}: relative difference {difference:.2g}, bound {BOUND:g}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
