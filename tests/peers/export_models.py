#!/usr/bin/env python3
"""Networks of torchvision and timm with random weights, as their exporters write them. Run by hand, through
real_models.py, in an environment that has torch, torchvision, timm, onnx and onnxscript (6 GB).

usage: export_models.py FOLDER [name part]
What is in the folder already is not written again. Where an exporter fails, NAME.failed says why.
"""
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import warnings

import torch

# Of torchvision one network of every family: the others of a family differ in their numbers. Then detectors.
TORCHVISION = [
    ("alexnet", 224), ("convnext_tiny", 64), ("densenet121", 64), ("efficientnet_b0", 64), ("efficientnet_v2_s", 64),
    ("googlenet", 64), ("inception_v3", 139), ("maxvit_t", 224), ("mnasnet0_5", 64), ("mobilenet_v2", 64),
    ("mobilenet_v3_small", 64), ("regnet_x_400mf", 64), ("regnet_y_400mf", 64), ("resnet18", 64), ("resnet50", 64),
    ("resnext50_32x4d", 64), ("shufflenet_v2_x0_5", 64), ("squeezenet1_0", 64), ("squeezenet1_1", 64), ("swin_t", 64),
    ("swin_v2_t", 64), ("vgg11_bn", 224), ("vit_b_16", 224), ("wide_resnet50_2", 64),
    ("deeplabv3_mobilenet_v3_large", 96), ("fcn_resnet50", 96), ("lraspp_mobilenet_v3_large", 96),
    ("ssd300_vgg16", 300), ("ssdlite320_mobilenet_v3_large", 320), ("retinanet_resnet50_fpn", 128),
    ("fcos_resnet50_fpn", 128), ("fasterrcnn_mobilenet_v3_large_320_fpn", 320),
]
TIMM = [
    ("densenet121", 64), ("cspresnet50", 64), ("res2net50_26w_4s", 64), ("skresnet18", 64), ("nfnet_l0", 64),
    ("vit_tiny_patch16_224", 224), ("poolformer_s12", 64), ("efficientformer_l1", 224), ("starnet_s1", 64),
    ("convnext_atto", 64),
]
DETECTORS = ("ssd", "retinanet", "fcos", "fasterrcnn")


def settle(model, side):
    """Statistics as random pictures have them: with others all places look alike behind so many layers."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    maps = list(model.backbone.train()(torch.randn(8, 3, side, side)).values())
    if hasattr(model, "head"):
        model.head.train()(maps)


def randomised(model, name, side):
    """Statistics and scales that are not those of a network at rest, so that folding has something to fold; heads of
    detectors whose scores are no ties, of which any might be among the best for a rounding."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # of a classifier that knows nothing yet
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
    gain = 2 if name.startswith(("ssdlite", "fasterrcnn")) else 1
    for place, module in model.named_modules():
        layer = isinstance(module, torch.nn.Conv2d) or (isinstance(module, torch.nn.Linear) and gain > 1)
        if layer and place.startswith(("head", "rpn", "roi_heads")):
            spread = gain * module.weight[0].numel() ** -0.5
            module.weight.copy_(spread * torch.randn(module.weight.shape, generator=generator))
    if gain > 1:
        settle(model, side)
    return model.eval()


class First(torch.nn.Module):
    """Of a segmentation network its main result alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)["out"]


def build(package, name, height, width):
    torch.manual_seed(0)
    if package == "timm":
        import timm
        return timm.create_model(name, pretrained=False)
    import torchvision
    options = {"weights": None}
    if name.startswith(DETECTORS) or "mobilenet_v3_large" in name or name.startswith("fcn"):
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "aux_logits": False}
    if name.startswith(("retinanet", "fcos")):
        options |= {"min_size": height, "max_size": width}
    if name.startswith("fcos"):
        options["score_thresh"] = 0.001  # a network at random is sure of nothing
    if name.startswith("fasterrcnn"):
        options["box_score_thresh"] = 0.001
    model = torchvision.models.get_model(name, **options)
    return First(model) if name.startswith(("deeplab", "fcn_", "lraspp")) else model


def export(package, name, exporter, side, path):
    warnings.simplefilter("ignore")
    torch.backends.mha.set_fastpath_enabled(False)  # the fused operator of attention, which no exporter knows
    with torch.no_grad():
        model = randomised(build(package, name, side, side), name, side)
        x = torch.rand(1, 3, side, side)
        if exporter == "dynamo":
            torch.onnx.export(model, (x,), path, dynamo=True, external_data=False, verbose=False)
        else:
            fixed = name.startswith(DETECTORS)
            torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17, input_names=["x"],
                              dynamic_axes=None if fixed else {"x": {0: "n"}})


def reason(text):
    """The line of a traceback that says most."""
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if re.match(r"<class|torch\S*Error: |\w*Error: ", line)]
    return re.sub(r"<class '([^']*)'>|\x1b\[\d*m", r"\1", (told or lines or ["killed"])[-1])[:160]


def main():
    folder, part = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    if len(sys.argv) == 6:  # one of them, in a process of its own
        export(*sys.argv[2:5], int(sys.argv[5]), sys.argv[1])
        return
    folder.mkdir(exist_ok=True)
    for package, models in (("torchvision", TORCHVISION), ("timm", TIMM)):
        version = importlib.metadata.version(package)
        for name, side in models:
            for exporter in ("torchscript", "dynamo"):
                path = folder / f"{package}-{version}.{name}.{exporter}.onnx"
                if part not in path.name or path.exists():
                    continue
                draft = path.with_suffix(".part")
                done = subprocess.run([sys.executable, __file__, draft, package, name, exporter, str(side)],
                                      capture_output=True, text=True)
                if done.returncode:
                    why = reason(done.stderr)
                    print(f"{path.name}: {why}", flush=True)
                    path.with_suffix(".failed").write_text(why)
                    draft.unlink(missing_ok=True)
                else:
                    draft.rename(path)


if __name__ == "__main__":
    main()
