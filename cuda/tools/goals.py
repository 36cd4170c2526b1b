#!/usr/bin/env python3
"""The goals on an H100, each from the one row that answers it: goals.py ROWS.jsonl

A goal is met, missed, or has no row yet; where several runs left a row for it, the last one counts.
"""
import json
import sys

STACK = {"model": "vgg16", "layer": "conv stack", "implementation": "best", "batch": 32, "cold": True, "tuned": True}


def stack(dtype, terms, least):
    what = f"VGG16 convolutions, {dtype}, T={terms}, batch 32, cold: ratio to the best cuDNN plan"
    return what, {**STACK, "dtype": dtype, "rank": terms}, lambda row: row["ratio"], ">=", least


GOALS = [
    stack("fp16", 2, 1.8),
    stack("fp16", 3, 1.35),
    stack("tf32", 2, 1.85),
    stack("tf32", 3, 1.5),
    stack("fp32", 2, 3.2),
    stack("fp32", 3, 2.3),
    ("conv4_2 alone, fp16, T=3, batch 32, cold: ratio",
     {**STACK, "layer": "features.19", "dtype": "fp16", "rank": 3}, lambda row: row["ratio"], ">=", 1.9),
    ("depthwise kernel, fp16, batch 32, cold: share of the copy bandwidth",
     {"model": "depthwise", "layer": "conv stack", "implementation": "dense", "dtype": "fp16", "batch": 32, "cold": True},
     lambda row: row["gbps"] / row["peak_gbps"], ">=", 0.85),
    ("SVD of 512 slices of 512x9: ms on the device",
     {"model": "vgg16", "layer": "features.19", "operation": "svd", "form": "dwpw", "tuned": True},
     lambda row: row["ns_median"] / 1e6, "<=", 0.3),
    ("SVDs of all of VGG16: ms on the device",
     {"model": "vgg16", "layer": "all layers", "operation": "svd", "form": "dwpw", "tuned": True},
     lambda row: row["ns_median"] / 1e6, "<=", 20),
]


def read_rows(path):
    rows = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                rows.append(json.loads(line))
    except FileNotFoundError:
        pass  # no step has measured anything yet
    return [row for row in rows if row.get("backend") == "cuda"]


def main():
    rows = read_rows(sys.argv[1])
    for what, wanted, figure, sign, bound in GOALS:
        found = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
        if not found:
            print(f"no row  {sign} {bound:<5g}          {what}")
            continue
        row, value = found[-1], figure(found[-1])
        met = value >= bound if sign == ">=" else value <= bound
        interval = f" [{row['ratio_lo']:.2f}, {row['ratio_hi']:.2f}]" if "ratio_lo" in row and sign == ">=" else ""
        noisy = ", noisy" if row.get("noisy") else ""
        print(f"{'met' if met else 'MISSED':7} {sign} {bound:<5g} {value:9.3f} {what}{interval}{noisy}, {row.get('device')}")


if __name__ == "__main__":
    main()
