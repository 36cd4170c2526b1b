#!/usr/bin/env python3
"""Writes the seeds of fuzz_image (pictures of tests/data/images) and fuzz_cifar (tiny batches) to corpus/."""

import pathlib
import pickle
import shutil

HERE = pathlib.Path(__file__).parent
PICTURES = ("rgb8.png", "palette8.png", "grey1.png", "grey16.png", "interlaced.png", "baseline.jpg", "progressive.jpg", "cmyk.jpg")

# How Python 2 pickled the published batches, up to the pixels of one image, and what follows them.
HEAD = (b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x04testq\x03U\x06labelsq\x04]q\x05(K\x03eU\x04dataq\x06"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\0\x85U\x01b\x87Rq\x09(K\x01K\x01M\0\x0c\x86"
        b"cnumpy\ndtype\nq\x0aU\x02u1K\0K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T\0\x0c\0\0")
TAIL = b"tbU\tfilenamesq\x0c]q\x0dU\x05a.pngq\x0eau."


def main():
    images = HERE / "corpus" / "image"
    images.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        shutil.copy(HERE.parent / "data" / "images" / name, images / name)
    cifar = HERE / "corpus" / "cifar"
    cifar.mkdir(parents=True, exist_ok=True)
    pixels = bytes(i % 251 for i in range(3072))
    (cifar / "binary.bin").write_bytes(b"\x03" + pixels + b"\x07" + pixels)
    (cifar / "cut.bin").write_bytes(b"\x03" + pixels + b"\x07" + pixels[:100])
    (cifar / "python2").write_bytes(HEAD + pixels + TAIL)
    (cifar / "python2-cut").write_bytes(HEAD + pixels[:3072])
    (cifar / "python3").write_bytes(pickle.dumps({"labels": [1, 2], "data": (3, None, True, -70000)}, protocol=4))


if __name__ == "__main__":
    main()
