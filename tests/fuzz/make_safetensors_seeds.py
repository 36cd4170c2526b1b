#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/safetensors: small files with every dtype, and with each kind of mistake."""
import json
import os
import struct

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "safetensors")
SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
         "I8": 1, "U8": 1, "BOOL": 1}


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write(name, header, data_bytes, length=None):
    text = header.encode() if isinstance(header, str) else json.dumps(header, separators=(",", ":")).encode()
    with open(os.path.join(FOLDER, name), "wb") as file:
        file.write(struct.pack("<Q", len(text) if length is None else length) + text)
        file.write(bytes(i & 0xFF for i in range(data_bytes)))


def main():
    os.makedirs(FOLDER, exist_ok=True)
    every, at = {"__metadata__": {"format": "pt", "nd.method": "dwpw"}}, 0
    for dtype, size in SIZES.items():
        every[dtype.lower()] = entry(dtype, [2, 1, 3], at, at + 6 * size)
        at += 6 * size
    write("every_dtype", every, at)
    write("scalar_and_empty", {"s": entry("F32", [], 0, 4), "e": entry("I64", [0, 5], 4, 4)}, 4)
    write("unaligned", {"b": entry("U8", [3], 0, 3), "f": entry("F64", [1], 3, 11)}, 11)
    write("empty", "{}", 0)
    write("padded", "{}      ", 0)
    write("overlap", {"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, 6)
    write("hole", {"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, 3)
    write("after", {"a": entry("U8", [1], 0, 1)}, 9)
    write("outside", {"a": entry("U8", [9], 0, 9)}, 4)
    write("wrong_bytes", {"a": entry("F32", [3], 0, 8)}, 8)
    write("huge_shape", {"a": entry("U8", [2**40, 2**40], 0, 1)}, 1)
    write("deep_shape", {"a": entry("U8", [1] * 12, 0, 1)}, 1)
    write("unknown_dtype", {"a": entry("F8_E5M2", [1], 0, 1)}, 1)
    write("twice", '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', 1)
    write("bad_metadata", {"__metadata__": {"a": 1}}, 0)
    write("long_header", "{}", 0, length=2**40)


if __name__ == "__main__":
    main()
