"""Writes files as torch.save does, in both of its layouts, without PyTorch: by Python's own pickle and zipfile.

The names that its pickles refer to are stood in for by functions and classes of the same module and name, which nothing
ever calls.
"""
import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}

torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
sys.modules.update({"torch": torch, "torch._utils": utils})


def stand_in(module, name, kind):
    made = type(name, (), {}) if kind is type else types.FunctionType((lambda *a: None).__code__, {}, name)
    made.__module__, made.__qualname__ = module.__name__, name
    setattr(module, name, made)
    return made


STORAGES = {name: (stand_in(torch, f"{name}Storage", type), size)
            for name, size in (("Float", 4), ("Double", 8), ("Half", 2), ("BFloat16", 2), ("Char", 1), ("Byte", 1),
                               ("Short", 2), ("Int", 4), ("Long", 8), ("Bool", 1), ("ComplexFloat", 8))}
rebuild_v2 = stand_in(utils, "_rebuild_tensor_v2", None)
rebuild_v1 = stand_in(utils, "_rebuild_tensor", None)
rebuild_parameter = stand_in(utils, "_rebuild_parameter", None)


class Storage:
    """Numbers as bytes. `view`: (key, first, count) of a part, as files before PyTorch 0.4 have them."""

    def __init__(self, kind, data, key=None, view=None, count=None):
        self.kind, self.data, self.key, self.view = kind, bytes(data), key, view
        self.count = len(self.data) // STORAGES[kind][1] if count is None else count


class Tensor:
    def __init__(self, storage, sizes, strides=None, offset=0, old=False):
        self.storage, self.sizes, self.offset, self.old = storage, tuple(sizes), offset, old
        if strides is None:
            strides, step = [], 1
            for size in reversed(self.sizes):
                strides.insert(0, step)
                step *= size
        self.strides = tuple(strides)

    def __reduce_ex__(self, protocol):
        base = (self.storage, self.offset, self.sizes, self.strides)
        return (rebuild_v1, base) if self.old else (rebuild_v2, (*base, False, OrderedDict()))


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce_ex__(self, protocol):
        return rebuild_parameter, (self.tensor, True, OrderedDict())


def pickled(value, storages, legacy, protocol=2):
    out = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, Storage):
                return None
            if item.key is None:
                item.key = str(len(storages) if not legacy else 94000000 + 64 * len(storages))
            storages.setdefault(item.key, item)
            about = ("storage", STORAGES[item.kind][0], item.key, "cpu", item.count)
            return (*about, item.view) if legacy else about

    Pickler(out, protocol).dump(value)
    return out.getvalue()


def save_zip(path, value, folder="archive", compression=zipfile.ZIP_STORED, order=b"little", records=None, protocol=2):
    """`records`: further records, or others in the place of storages."""
    storages = {}
    files = {"data.pkl": pickled(value, storages, False, protocol), "byteorder": order, "version": b"3\n"}
    files.update({f"data/{key}": storage.data for key, storage in storages.items()})
    files.update(records or {})
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            if data is not None:
                archive.writestr(zipfile.ZipInfo(f"{folder}/{name}" if folder else name, (1980, 1, 1, 0, 0, 0)), data,
                                 compression)


def save_legacy(path, value, protocol=2):
    storages = {}
    body = pickled(value, storages, True, protocol)
    keys = sorted(storages)
    out = b"".join(pickle.dumps(part, protocol) for part in (MAGIC, VERSION, SYSTEM)) + body + pickle.dumps(keys, protocol)
    for key in keys:
        out += struct.pack("<q", storages[key].count) + storages[key].data
    path.write_bytes(out)
