#!/usr/bin/env python3
"""nd's measures of detectors beside pycocotools, and beside a plain evaluation by the rules of PASCAL VOC, on made-up
sets with equal scores, crowds, difficult objects, images without objects and without detections.

usage: tests/peers/detection.py BUILD [SETS]"""
import contextlib
import io
import math
import random
import subprocess
import sys
from fractions import Fraction

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

TOLERANCE = 1e-6
NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def make(seed):
    """(images, classes, objects, detections): dictionaries in the order of their images."""
    rng = random.Random(seed)
    images, classes = rng.randint(1, 12), rng.randint(1, 5)
    objects, detections = [], []
    whole = rng.random() < 0.5  # boxes on a coarse grid have equal overlaps

    def box(side):
        values = [rng.uniform(0, 300), rng.uniform(0, 300), rng.uniform(2, side), rng.uniform(2, side)]
        return [float(8 * round(v / 8) + (8 if i > 1 else 0)) for i, v in enumerate(values)] if whole else values

    def shifted(old):
        amount = rng.choice([0, 2, 8])
        moved = [v + amount * rng.choice([-1, 0, 1]) for v in old]
        return moved[:2] + [max(1.0, v) for v in moved[2:]]

    for image in range(images):
        kind = rng.random()
        if kind > 0.1:
            for _ in range(rng.randint(1, 14)):
                bounds = box(rng.choice([30, 90, 260]))
                crowd = rng.random() < 0.1
                area = bounds[2] * bounds[3] * rng.choice([1, 1, 0.6])
                objects.append(dict(image=image, label=rng.randrange(classes), box=bounds, area=area, crowd=crowd,
                                    difficult=not crowd and rng.random() < 0.15))
        if kind < 0.9:
            mine = [o for o in objects if o["image"] == image]
            many = 130 if rng.random() < 0.05 else 16
            for _ in range(rng.randint(0, many)):
                near = rng.choice(mine) if mine and rng.random() < 0.75 else None
                label = near["label"] if near and rng.random() < 0.9 else rng.randrange(classes)
                score = rng.choice([round(rng.random(), 1), rng.random()])
                detections.append(dict(image=image, label=label, score=score,
                                       box=shifted(near["box"]) if near else box(120)))
    return images, classes, objects, detections


class Judge(COCOeval):
    """Difficult objects are ignored as crowds are, but overlap as objects do."""

    def _prepare(self):
        super()._prepare()
        for objects in self._gts.values():
            for o in objects:
                o["ignore"] = o["ignore"] or o["difficult"]


def by_pycocotools(images, classes, objects, detections):
    truth = COCO()
    truth.dataset = dict(
        info={}, images=[dict(id=i + 1) for i in range(images)],
        categories=[dict(id=c + 1, name=str(c)) for c in range(classes)],
        annotations=[dict(id=i + 1, image_id=o["image"] + 1, category_id=o["label"] + 1, bbox=o["box"], area=o["area"],
                          iscrowd=int(o["crowd"]), difficult=o["difficult"]) for i, o in enumerate(objects)])
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes([dict(image_id=d["image"] + 1, category_id=d["label"] + 1, bbox=d["box"],
                                    score=d["score"]) for d in detections]) if detections else None
        if found is None:  # pycocotools reads no empty list
            found = COCO()
            found.dataset = dict(truth.dataset, annotations=[])
            found.createIndex()
        judge = Judge(truth, found, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: math.nan if value == -1 else value for name, value in zip(NAMES, judge.stats)}


def overlap(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def by_voc(classes, objects, detections):
    """Per class (11 points, all points), in fractions; None where there is nothing to find."""
    out = []
    for label in range(classes):
        mine = [o for o in objects if o["label"] == label]
        hidden = [o["difficult"] or o["crowd"] for o in mine]
        positives = hidden.count(False)
        curve, found, wrong, taken = [], 0, 0, set()
        for d in sorted((d for d in detections if d["label"] == label), key=lambda d: -d["score"]):
            overlaps = [overlap(d["box"], o["box"]) if o["image"] == d["image"] else -1 for o in mine]
            best = max(range(len(mine)), key=lambda i: overlaps[i], default=None)
            if best is not None and overlaps[best] >= 0.5:
                if hidden[best]:
                    continue
                right = best not in taken
                taken.add(best)
            else:
                right = False
            found, wrong = found + right, wrong + (not right)
            curve.append((Fraction(found, positives or 1), Fraction(found, found + wrong)))
        if not positives:
            out.append((None, None))
            continue
        eleven = sum(max((p for r, p in curve if r >= Fraction(i, 10)), default=0) for i in range(11)) / Fraction(11)
        levels = sorted({r for r, _ in curve if r > 0})
        every = sum((r - before) * max(p for s, p in curve if s >= r) for before, r in zip([0] + levels, levels))
        out.append((eleven, every))
    return out


def by_nd(build, images, classes, objects, detections):
    lines = [f"{images} {classes}"]
    for o in objects:
        lines.append("o {} {} {} {} {} {}".format(o["image"], o["label"], " ".join(map(repr, o["box"])), repr(o["area"]),
                                                  int(o["crowd"]), int(o["difficult"])))
    for d in detections:
        lines.append("d {} {} {} {}".format(d["image"], d["label"], " ".join(map(repr, d["box"])), repr(d["score"])))
    run = subprocess.run([f"{build}/nd_boxes"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in run.stdout.splitlines())}


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or abs(a - b) <= TOLERANCE


def mean(values):
    known = [float(v) for v in values if v is not None]
    return sum(known) / len(known) if known else math.nan


def main():
    build, sets = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    worst, failed = 0.0, 0
    for seed in range(sets):
        images, classes, objects, detections = make(seed)
        ours = by_nd(build, images, classes, objects, detections)
        want = by_pycocotools(images, classes, objects, detections)
        voc = by_voc(classes, objects, detections)
        want["mAP (VOC 2007, 11 points)"] = mean(v[0] for v in voc)
        want["mAP (VOC 2010, all points)"] = mean(v[1] for v in voc)
        want.update({str(c): math.nan if v[0] is None else float(v[0]) for c, v in enumerate(voc)})
        for name, value in want.items():
            if same(ours[name], value):
                worst = max(worst, 0.0 if math.isnan(value) else abs(ours[name] - value))
                continue
            failed += 1
            print(f"set {seed}: {name}: nd {ours[name]}, expected {value}")
    print(f"detection: {sets} sets, {failed} values differ, largest difference {worst:.1e}")
    return 1 if failed or not sets else 0


if __name__ == "__main__":
    sys.exit(main())
