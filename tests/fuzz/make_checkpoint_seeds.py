#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/checkpoint: small files as torch.save writes them, and with each kind of mistake."""
import os
import pathlib
import struct
import zipfile
from collections import OrderedDict

import torch_files as t

FOLDER = pathlib.Path(__file__).parent / "corpus" / "checkpoint"


def floats(*values, kind="f"):
    return struct.pack(f"<{len(values)}{kind}", *values)


def counting(count):
    return t.Storage("Float", floats(*range(count)))


def bfloat(value):
    return struct.pack("<f", value)[2:]


def every():
    """One tensor of each type, and a parameter."""
    state = OrderedDict(weight=t.Parameter(t.Tensor(counting(18), (2, 1, 3, 3))))
    state["double"] = t.Tensor(t.Storage("Double", floats(0.5, -2, kind="d")), (2,))
    state["half"] = t.Tensor(t.Storage("Half", floats(0.5, -2, kind="e")), (1, 2))
    state["bfloat16"] = t.Tensor(t.Storage("BFloat16", bfloat(0.5) + bfloat(-2)), (2, 1))
    state["num_batches_tracked"] = t.Tensor(t.Storage("Long", floats(77, kind="q")), ())
    state["byte"] = t.Tensor(t.Storage("Byte", b"\1\2\3"), (3,))
    state["none"] = t.Tensor(t.Storage("Float", b""), (0, 7))
    return state


def views():
    """One storage of 0 to 23 under several tensors: transposed, every second column, shared, and repeated."""
    storage = counting(24)
    return OrderedDict(plain=t.Tensor(storage, (4, 6)), transposed=t.Tensor(storage, (6, 4), (1, 6)),
                       steps=t.Tensor(storage, (2, 3), (6, 2), offset=7), tied=t.Tensor(storage, (4, 6)),
                       channels_last=t.Tensor(storage, (1, 2, 3, 4), (24, 1, 8, 2)),
                       repeated=t.Tensor(storage, (3, 2), (0, 1), offset=4))


def with_global(state, module, name):
    parts = module.split(".")
    for i in range(len(parts)):
        t.sys.modules[".".join(parts[:i + 1])] = t.types.ModuleType(".".join(parts[:i + 1]))
    stand = t.sys.modules[module]
    function = t.stand_in(stand, name, None)

    class Caller:
        def __reduce_ex__(self, protocol):
            return function, ("echo owned",)

    return {**state, "x": Caller()}


def python2(path):
    """collections.OrderedDict with its pairs as an argument, as Python 2 wrote it: by hand, Python 3 cannot."""
    storage = (b"((U\7storageq\5ctorch\nFloatStorage\nq\6U\1kq\7U\3cpuq\x08K\4NtQK\0K\2K\2\x86K\2K\1\x86tR")
    body = (b"\x80\2ccollections\nOrderedDict\nq\1]q\2(]q\3(U\1wq\4ctorch._utils\n_rebuild_tensor\n" + storage + b"ee\x85R.")
    parts = [t.pickle.dumps(p, 2) for p in (t.MAGIC, t.VERSION, t.SYSTEM)] + [body, t.pickle.dumps(["k"], 2)]
    path.write_bytes(b"".join(parts) + struct.pack("<q", 4) + floats(1, 2, 3, 4))


def patched(path, at, data):
    """`at`: offset behind the last central directory header."""
    whole = bytearray(path.read_bytes())
    start = whole.rindex(b"PK\1\2") + at
    whole[start:start + len(data)] = data
    path.write_bytes(whole)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    out = FOLDER.joinpath
    t.save_zip(out("every.pth"), every())
    t.save_zip(out("deflated.pth"), every(), folder="a folder", compression=zipfile.ZIP_DEFLATED)
    t.save_zip(out("protocol4.pth"), every(), protocol=4)
    # As "h\xfctte.pth" and "\u6a21\u578b.pth" name their folders: bytes, with no word of their encoding.
    for name, folder in (("latin1.pth", b"h\xfctte"), ("utf8.pth", "\u6a21\u578b".encode())):
        t.save_zip(out(name), every(), folder="#" * len(folder))
        out(name).write_bytes(out(name).read_bytes().replace(b"#" * len(folder) + b"/", folder + b"/"))
    t.save_legacy(out("every_legacy.pth"), every())
    t.save_zip(out("views.pt"), views())
    t.save_legacy(out("views_legacy.pt"), views())
    halves = [t.Storage("Float", floats(1, 2, 3, 4), key="whole", view=view)
              for view in (("a", 0, 2), ("b", 2, 2), None)]
    t.save_legacy(out("storage_views.pt"), OrderedDict(a=t.Tensor(halves[0], (2,), old=True),
                                                       b=t.Tensor(halves[1], (2,), old=True),
                                                       c=t.Tensor(halves[2], (2, 2), old=True)))
    python2(out("python2.th"))
    state = OrderedDict((f"module.{k}", v) for k, v in every().items())
    momentum = {"state": {0: {"exp_avg": t.Tensor(counting(18), (2, 1, 3, 3))}}, "param_groups": [{"lr": 0.1}]}
    t.save_zip(out("training.pt"), {"epoch": 3, "state_dict": state, "optimizer": momentum, "best_prec1": 91.25})
    t.save_legacy(out("training_legacy.pt"), {"epoch": 3, "optimizer": momentum, "model": {"state_dict": state}})
    t.save_zip(out("own_name.pt"), {"epoch": 3, "mine": every()})
    tied_state = views()
    tied_state._metadata = OrderedDict(version=1)
    t.save_zip(out("attributes.pt"), tied_state)

    # Mistakes, and worse.
    t.save_zip(out("no_tensors.bad"), {"epoch": 3, "lr": 0.5})
    t.save_zip(out("two_states.bad"), {"first": every(), "second": every()})
    t.save_zip(out("code.bad"), with_global(every(), "posix", "system"))
    t.save_zip(out("network.bad"), with_global(every(), "torchvision.models.resnet", "ResNet"))
    t.save_legacy(out("code_legacy.bad"), with_global(every(), "posix", "system"))
    t.save_zip(out("complex.bad"), {"weight": t.Tensor(t.Storage("ComplexFloat", b"12345678"), (1,))})
    t.save_zip(out("outside.bad"), {"weight": t.Tensor(counting(4), (2, 2), (2, 2))})
    t.save_zip(out("offset.bad"), {"weight": t.Tensor(counting(4), (2,), offset=3)})
    t.save_zip(out("overflow.bad"), {"weight": t.Tensor(counting(4), (2, 2), (2**62, 2**62))})
    t.save_zip(out("negative.bad"), {"weight": t.Tensor(counting(4), (2, 2), (-2, 1))})
    t.save_zip(out("huge.bad"), {"weight": t.Tensor(counting(4), (2**40, 2**40), (0, 0))})
    t.save_zip(out("repeated.bad"), {"weight": t.Tensor(counting(4), (2**15, 2**15), (0, 0))})
    t.save_zip(out("deep.bad"), {"weight": t.Tensor(counting(4), (1,) * 12)})
    t.save_zip(out("missing.bad"), {"weight": t.Tensor(counting(4), (4,))}, records={"data/0": None})
    t.save_zip(out("short.bad"), {"weight": t.Tensor(counting(4), (4,))}, records={"data/0": b"123"})
    t.save_zip(out("script.bad"), every(), records={"constants.pkl": b"\x80\2).", "code/a.py": b""})
    t.save_zip(out("big_endian.bad"), every(), order=b"big")
    t.save_zip(out("no_pickle.bad"), every(), records={"data.pkl": None})
    t.save_zip(out("cut_pickle.bad"), {}, records={"data.pkl": t.pickled(every(), {}, False)[:-9]})
    t.save_zip(out("bomb.bad"), {"weight": t.Tensor(counting(4), (4,))}, compression=zipfile.ZIP_DEFLATED)
    patched(out("bomb.bad"), 24, struct.pack("<I", 2**31 - 1))  # the size of the only storage
    whole = out("every.pth").read_bytes()
    out("cut.bad").write_bytes(whole[:len(whole) // 2])
    spoilt = bytearray(whole)
    spoilt[whole.index(floats(4, 5, 6, 7))] ^= 1
    out("checksum.bad").write_bytes(spoilt)
    whole = out("every_legacy.pth").read_bytes()
    out("cut_legacy.bad").write_bytes(whole[:-5])
    out("cut_legacy_pickle.bad").write_bytes(whole[:300])
    out("pickle.bad").write_bytes(t.pickle.dumps({"a": [1, 2]}, 2))
    print(f"{len(os.listdir(FOLDER))} files in {FOLDER}")


if __name__ == "__main__":
    main()
