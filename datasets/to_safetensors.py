#!/usr/bin/env python3
"""Converts PyTorch checkpoints (.pth, .th) to safetensors files that `nd` reads.

usage: to_safetensors.py [--trust] FILE...     each becomes FILE with the ending .safetensors

Needs PyTorch. Only tensors and plain values are unpickled, so that a checkpoint cannot run code; --trust unpickles
everything, for a file whose maker you trust and that PyTorch refuses otherwise. A checkpoint that holds its state dict under "state_dict" or "model" is opened; nd itself drops a leading "module." from the names.
"""
import json
import os
import pickle
import struct
import sys

import torch

DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16",
          torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}


def state_dict(path, trust):
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        sys.exit(f"{path}: {error}\nA newer PyTorch may read it; --trust reads it with this one.")
    for key in ("state_dict", "model"):
        if isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    return {name: tensor.contiguous() for name, tensor in loaded.items() if torch.is_tensor(tensor)}


def write(tensors, path):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in names:
        tensor = tensors[name]
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            if tensors[name].numel():
                file.write(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    os.replace(path + ".part", path)


def main():
    paths = [argument for argument in sys.argv[1:] if argument != "--trust"]
    if not paths:
        sys.exit(__doc__)
    for path in paths:
        out = os.path.splitext(path)[0] + ".safetensors"
        tensors = state_dict(path, trust="--trust" in sys.argv[1:])
        write(tensors, out)
        print(f"{out}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
