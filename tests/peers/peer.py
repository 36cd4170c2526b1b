"""nd_peer from Python: one model, float32 arrays in and out."""
import pathlib
import subprocess
import tempfile

import numpy as np


class Unsupported(Exception):
    """nd says that it does not do this."""


class Failed(Exception):
    """nd ran into an error."""


def run(build, backend, model, arrays, fold=False, size=None):
    """Outputs of the graph for float32 inputs. `model` is what nd calls a MODEL; the batch is the first dimension.
    `fold` runs it as nd eval would; otherwise every node runs as it stands. `size`: of a model that leaves it open, a side or height and
    width."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = pathlib.Path(folder) / "t"
        for i, array in enumerate(arrays):
            np.ascontiguousarray(array, np.float32).tofile(f"{prefix}.in{i}")
        batch = arrays[0].shape[0] if arrays and arrays[0].ndim else 1
        height, width = size if isinstance(size, tuple) else (size, size)
        shape = str(batch) + (f"x{height}x{width}" if size else "")
        done = subprocess.run([f"{build}/nd_peer", backend, shape, str(model), str(prefix),
                               *(["fold"] if fold else [])],
                              capture_output=True, text=True, timeout=600)
        lines = [line for line in done.stderr.splitlines() if "warning:" not in line]
        if done.returncode:
            message = lines[-1] if lines else f"ended with {done.returncode}"
            raise (Unsupported if message.startswith("unsupported: ") else Failed)(message)
        return [np.fromfile(f"{prefix}.out{i}", np.float32).reshape([int(n) for n in dims.split()])
                for i, dims in enumerate(done.stdout.splitlines())]
