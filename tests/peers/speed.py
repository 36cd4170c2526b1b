"""Whole networks in nd, onnxruntime and OpenVINO in turns on one core, in fp32, bf16 and int8.

usage: speed.py BUILD ROWS [NETWORK...]   default: resnet18 vgg16

Writes JSON lines for `nd report` into ROWS, and the table of results/cpu_peers.md to stdout. Networks have random
weights. The decoupled files (dwpw, uniform T) and those in int8 (nd quantize, on synthetic images) are the same for all
three. A block is one program running a network for SECONDS (0.5), as often as it can; blocks of all programs and networks take
turns, ROUNDS (5) times or as often as MINUTES (12) in all allow, and a time is the median of the medians of its blocks. A ratio is
the median of those within each round, with the least and the largest: the clock and the neighbours of a virtual machine change from
one round to the next. What takes ten times as long as the fastest has one block. CLOCK=cpu counts the processor's time, for a machine with other work to do.
BATCHES (1,8). ISA=avx512_vnni (or another of nd's) keeps nd and OpenVINO from newer instructions, as on a processor that has none;
onnxruntime cannot be kept from any. What a runtime has no kernels for is left out: onnxruntime has no bf16 on these processors.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime

ISA = os.environ.get("ISA", "")
if ISA:
    core = ISA if ISA.startswith("avx2") else ISA.replace("avx512", "avx512_core")
    os.environ["ONEDNN_MAX_CPU_ISA"] = core.upper()  # read when the library is loaded

import openvino

CLOCK = os.environ.get("CLOCK", "wall")
SECONDS = float(os.environ.get("SECONDS", "0.5"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
MINUTES = float(os.environ.get("MINUTES", "12"))
SLOW = 10
BATCHES = [int(b) for b in os.environ.get("BATCHES", "1,8").split(",")]
KNOWN_DTYPES = "fp32", "bf16", "int8"
DTYPES = os.environ.get("DTYPES", ",".join(KNOWN_DTYPES)).split(",")
RANKS = (None, 3, 2)
BUILD = sys.argv[1]

if not set(DTYPES) <= set(KNOWN_DTYPES):
    raise SystemExit(f"DTYPES={','.join(DTYPES)}: there are {', '.join(KNOWN_DTYPES)}, with commas between them")


def nd(*arguments):
    done = subprocess.run([f"{BUILD}/nd", *arguments, "--threads", "1", "-q"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"nd {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def name_of(rank):
    return f"T={rank}" if rank else "dense"


def write_models(network, folder):
    """{(rank, int8): path}"""
    models = {}
    for rank in RANKS:
        real, quantised = folder / f"{network}-{name_of(rank)}.onnx", folder / f"{network}-{name_of(rank)}-int8.onnx"
        settings = ["--rank", str(rank), "--method", "dwpw"] if rank else ["--rank", "1", "--layer", "*=dense"]
        nd("decouple", network, *settings, "-o", str(real))
        models[rank, False] = real
        if "int8" in DTYPES:
            nd("quantize", str(real), "-o", str(quantised), "--calib", "synthetic", "--calib-images", "4")
            models[rank, True] = quantised
    return models


def block(run):
    """Median of the runs within SECONDS, in ns; the first only counts if it takes as long."""
    clock = time.process_time_ns if CLOCK == "cpu" else time.perf_counter_ns
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < 2 or time.perf_counter() < end:
        start = clock()
        run()
        times.append(clock() - start)
        if len(times) == 1 and time.perf_counter() >= end:
            return times[0]
    return statistics.median(times[1:])


def onnxruntime_subject(path, dtype, shape):
    if dtype == "bf16":
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    images = {session.get_inputs()[0].name: np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    return lambda: block(lambda: session.run(None, images))


def openvino_subject(path, dtype, shape):
    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape(list(shape))
    if dtype == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    compiled = core.compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bf16" else "f32", "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return lambda: block(lambda: request.infer([images]))


class NdTimer:
    """tests/peers/nd_timer.c, which waits between its blocks."""

    def __init__(self, path, dtype, shape):
        self.process = subprocess.Popen([f"{BUILD}/nd_timer", str(path), dtype, str(shape[0]), CLOCK, *([ISA] if ISA else [])],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = json.loads(self.process.stdout.readline())

    def __call__(self):
        self.process.stdin.write(f"{SECONDS}\n")
        self.process.stdin.flush()
        return statistics.median(int(ns) for ns in self.process.stdout.readline().split())

    def __del__(self):
        self.process.stdin.close()
        self.process.wait()


LIBRARIES = {"onnxruntime": f"onnxruntime {onnxruntime.__version__}",
             "openvino": f"OpenVINO {openvino.__version__.split('-')[0]}"}
MAKERS = {"nd": NdTimer, "onnxruntime": onnxruntime_subject, "openvino": openvino_subject}


def measure(models, dtype, batch, end):
    """{(program, rank): times of its blocks}, and {rank: what nd says of it}; no round begins after `end`"""
    subjects = {(program, rank): maker(models[rank, dtype == "int8"], dtype, (batch, 3, 224, 224))
                for program, maker in MAKERS.items() for rank in RANKS}
    subjects = {key: subject for key, subject in subjects.items() if subject}
    about = {rank: subjects["nd", rank].about for rank in RANKS}
    times = {key: [] for key in subjects}
    for done in range(ROUNDS):
        if done and time.perf_counter() > end:
            break
        fastest = min(samples[0] for samples in times.values()) if done else 0
        for key, subject in subjects.items():
            if not done or times[key][0] < SLOW * fastest:
                times[key].append(subject())
    return times, about


def write_row(file, network, key, dtype, batch, samples, about, version):
    """A row as nd bench writes it, with the program in the place of the backend."""
    program, rank = key
    quartiles = statistics.quantiles(samples, n=4) if len(samples) > 1 else samples * 3
    row = {"schema": 1, "verb": "bench", "model": network, "method": "dwpw" if rank else "none",
           "form": "dwpw" if rank else "none", "ranks": "uniform" if rank else "dense",
           "backend": "cpu" if program == "nd" else program, "device": about["device"], "dtype": dtype, "batch": batch,
           "threads": 1, "conv_macs": about["conv_macs"], "total_macs": about["total_macs"], "params": about["params"],
           "implementation": "best" if rank else "dense", "cold": False, "ns_median": statistics.median(samples),
           "ns_q1": quartiles[0], "ns_q3": quartiles[2], "ns_min": min(samples), "samples_ns": samples,
           "libraries": f"{version}, {about['libraries']}" if program == "nd" else LIBRARIES[program]}
    if rank:
        row["rank"] = rank
    file.write(json.dumps(row) + "\n")


def ratios(times, samples):
    """Of each round: how often faster than the dense network that was the best of that round."""
    dense = [blocks for (_, rank), blocks in times.items() if not rank]
    return [min(blocks[i] for blocks in dense if i < len(blocks)) / ns for i, ns in enumerate(samples)]


def cell(times, key):
    samples = times.get(key)
    if samples is None:
        return ""
    text = f"{statistics.median(samples) / 1e6:.2f}"
    if key[1] is None:
        return text
    faster = ratios(times, samples)
    spread = f" {min(faster):.2f} to {max(faster):.2f}" if len(faster) > 1 else ""
    return f"{text} (**{statistics.median(faster):.2f}x**{spread})"


def print_table(batch, measured):
    """measured: {(network, dtype): {(program, rank): times of its blocks}}"""
    columns = [("onnxruntime", None), ("openvino", None), ("nd", None), ("nd", 3), ("nd", 2), ("onnxruntime", 3),
               ("onnxruntime", 2), ("openvino", 3), ("openvino", 2)]
    print(f"\n## Batch {batch}\n\nms of a batch; in brackets, how often faster than the best dense network of the three, in the "
          "median of the rounds, at least and at most.\n")
    print("| | " + " | ".join(f"{program} {name_of(rank)}" for program, rank in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for (network, dtype), times in measured.items():
        print(f"| {network} {dtype} | " + " | ".join(cell(times, key) for key in columns) + " |")


def main():
    rows, *networks = sys.argv[2:]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    version = subprocess.run([f"{BUILD}/nd", "--version"], capture_output=True, text=True).stdout.split(",")
    version = ",".join(version[:2]).strip() if version[0].count("(") > version[0].count(")") else version[0].strip()
    tables, device = {batch: {} for batch in BATCHES}, ""
    networks = networks or ["resnet18", "vgg16"]
    start, done, parts = time.perf_counter(), 0, len(networks) * len(BATCHES) * len(DTYPES)
    with tempfile.TemporaryDirectory() as folder, open(rows, "w") as file:
        for network in networks:
            models = write_models(network, pathlib.Path(folder))
            for batch in BATCHES:
                for dtype in DTYPES:
                    done += 1
                    times, about = measure(models, dtype, batch, start + MINUTES * 60 * done / parts)
                    tables[batch][network, dtype] = times
                    for key, samples in times.items():
                        write_row(file, network, key, dtype, batch, samples, about[key[1]], version)
                    device = about[None]["device"]
                    file.flush()
            for path in models.values():
                path.unlink()
    print("# Beside other runtimes, on a CPU\n")
    print("Written by `tests/peers/speed.sh BUILD ROWS > results/cpu_peers.md`: whole networks, one thread, in turns on one "
          "core, medians of\nblocks. The files are the same for all: decoupled by nd (dwpw, T terms a channel, random "
          "weights), in int8 by `nd quantize`.\n")
    print(f"{device}; {version}, {LIBRARIES['onnxruntime']}, {LIBRARIES['openvino']}; at most {ROUNDS} blocks of {SECONDS:g} s"
          + (", of the processor's time" if CLOCK == "cpu" else "")
          + (f"; nd and OpenVINO up to {ISA} alone, as on a processor without more." if ISA else "."))
    for batch, measured in tables.items():
        print_table(batch, measured)


main()
