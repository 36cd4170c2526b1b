#!/usr/bin/env python3
"""What a run of device.sh has shown, in at most 60 lines: summary.py ROWS.jsonl STEPS HEAD

HEAD is text to begin with. STEPS has a line a step: its name, how it went, and why not, with tabs between. Then the
goals on an H100, each from the one row that answers it: met, missed, or no row yet; where several runs left a row for
it, the last one counts. Then how much faster than dense the layers are.
"""
import json
import sys

LINES, WIDTH = 60, 200

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


def read_lines(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []  # nothing has come that far yet


def goals(rows):
    for what, wanted, figure, sign, bound in GOALS:
        found = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
        if not found:
            yield f"no row  {sign} {bound:<5g}          {what}"
            continue
        row, value = found[-1], figure(found[-1])
        met = value >= bound if sign == ">=" else value <= bound
        interval = f" [{row['ratio_lo']:.2f}, {row['ratio_hi']:.2f}]" if "ratio_lo" in row and sign == ">=" else ""
        noisy = ", noisy" if row.get("noisy") else ""
        yield f"{'met' if met else 'MISSED':7} {sign} {bound:<5g} {value:9.3f} {what}{interval}{noisy}, {row.get('device')}"


def agreed(rows):
    """What nd check compared, and of what differs the worst case."""
    checks = [row for row in rows if row.get("verb") == "check"]
    compared, failed = (sum(row.get(key, 0) for row in checks) for key in ("compared", "failed"))
    if checks:
        yield f"checks: {compared} cases compared with ref, {failed} differ"
    for row in checks:
        if row.get("failed"):
            yield (f"  DIFFERS {row['operation']} {row['dtype']}: {row['failed']} of {row['compared']}, "
                   f"worst {row.get('worst_case')} by {row.get('worst', 0):.3g} of its bound")


def layers(rows):
    """One line a dtype and T: the ratio of every layer, the slowest dense one first."""
    best, dense = {}, {}
    for row in rows:
        if row.get("verb") != "bench" or "ratio" not in row or not row.get("cold"):
            continue
        key = row.get("model"), row.get("dtype"), row.get("batch")
        if row.get("implementation") == "dense":
            dense[key, row["layer"]] = row["ns_median"]
        elif row.get("implementation") == "best" and row["layer"] != "conv stack":
            best.setdefault((*key, row.get("rank")), {})[row["layer"]] = row["ratio"]
    for key, ratios in best.items():
        order = sorted(ratios, key=lambda name: -dense.get((key[:3], name), 0))
        text = " ".join(f"{name} {ratios[name]:.2f}" for name in order)
        yield f"{key[0]} {key[1]} batch {key[2]} T={key[3]}: {text}"


def integers(rows):
    """Of quantised networks the time of all separable layers together, by the kernel that ran them."""
    times = {}
    for row in rows:
        if row.get("dtype") == "int8" and row.get("operation") == "separable" and "ns_median" in row:
            kernel = row.get("engine", "").split(":")[-1].split("_")[0]
            key = row.get("model"), row.get("batch"), row.get("rank"), f" by {kernel}" if kernel else ""
            times.setdefault(key, {})[row["layer"]] = row["ns_median"] / 1e3
    for (model, batch, rank, kernel), layer in times.items():
        us = sum(layer.values())
        yield f"{model} int8 batch {batch} T={rank}: {len(layer)} separable layers take {us:.1f} us{kernel}"


def steps(lines):
    parts = [line.split("\t") + [""] for line in lines]
    good = [part for part in parts if part[1].startswith("done")]
    if parts:
        yield f"steps: {len(good)} of {len(parts)} done"
    for name, how, why, *_ in (part for part in parts if not part[1].startswith("done")):
        yield f"  {name}: {how}{': ' if why else ''}{why}"


def main():
    rows = []
    for line in read_lines(sys.argv[1]):
        try:
            rows.append(json.loads(line))
        except ValueError:
            pass  # a run that was killed may leave half a row
    rows = [row for row in rows if row.get("backend") == "cuda"]
    sections = [read_lines(sys.argv[3])[:4], list(goals(rows)), list(steps(read_lines(sys.argv[2]))),
                list(agreed(rows)), list(integers(rows)), list(layers(rows))]
    # What is too long gives way from its end: first the long lists, last the goals.
    for longest in (12, 6, 3):
        if sum(map(len, sections)) <= LINES:
            break
        for section in sections[2:]:
            if len(section) > longest:
                section[longest:] = [f"  and {len(section) - longest} more lines: see log.txt and rows.jsonl"]
    for section in sections:
        for line in section:
            print(line[:WIDTH])


if __name__ == "__main__":
    main()
