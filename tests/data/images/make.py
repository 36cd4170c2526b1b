#!/usr/bin/env python3
"""Makes the pictures of this folder: one in every pixel format of PNG and JPEG, resized ones, and what Pillow makes of them.

    NAME.png, NAME.jpg        the picture to decode
    NAME.rgb.png              what Pillow's convert("RGB") gives for it; absent where the picture is that already
    FILTER-WxH.png            rgb8.png resized by Pillow

Written with Pillow 9.4. Pillow itself clips 16-bit grey at 255, so the expected picture of grey16 is its upper byte.
"""

import pathlib
import struct
import zlib

import numpy
from PIL import Image

HERE = pathlib.Path(__file__).parent
HEIGHT, WIDTH = 19, 27
SIZES = ((8, 6), (54, 38), (27, 5), (100, 19), (13, 40), (1, 1), (27, 19))


def picture():
    """Smooth colours, a sharp edge and some noise: resizing has to get all three right."""
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    random = numpy.random.default_rng(1)
    rgb = numpy.stack([9 * x, 13 * y, 120 + 100 * numpy.sin((x + y) / 3)], axis=2)
    rgb[5:11, 8:17] = (250, 3, 128)
    rgb += random.normal(0, 12, rgb.shape)
    return numpy.clip(rgb, 0, 255).astype(numpy.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(samples, bits):
    """Rows of samples (height, values) of 1, 2, 4, 8 or 16 bits."""
    rows = []
    for row in samples:
        if bits == 16:
            rows.append(row.astype(">u2").tobytes())
        elif bits == 8:
            rows.append(row.astype(numpy.uint8).tobytes())
        else:
            flags = (row[:, None] >> numpy.arange(bits - 1, -1, -1)) & 1
            rows.append(numpy.packbits(flags.astype(numpy.uint8)).tobytes())
    return b"".join(b"\0" + row for row in rows)


def write_png(name, samples, bits, colour, extra=b"", interlaced=False):
    """Samples are (height, width, channels); every row has filter 0."""
    height, width, channels = samples.shape
    passes = [samples]
    if interlaced:
        starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        passes = [samples[top::down, left::right] for top, left, down, right in starts]
    data = b"".join(packed(part.reshape(part.shape[0], -1), bits) for part in passes if part.size)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    (HERE / name).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b""))


def expect(name, picture=None):
    rgb = picture or Image.open(HERE / name).convert("RGB")
    rgb.save(HERE / (pathlib.Path(name).stem + ".rgb.png"), optimize=True)


def make_pngs(rgb):
    grey = rgb.astype(numpy.int64).sum(axis=2, keepdims=True) // 3
    alpha = (numpy.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) * 5) % 256
    wide = rgb.astype(numpy.int64) * 257 + 90
    palette = (numpy.arange(48).reshape(16, 3) * 37 % 256).astype(numpy.uint8)
    plte = chunk(b"PLTE", palette.tobytes())
    index = grey // 16
    write_png("rgb8.png", rgb, 8, 2)
    write_png("interlaced.png", rgb, 8, 2, interlaced=True)
    write_png("rgb16.png", numpy.minimum(wide, 65535), 16, 2)
    write_png("rgba8.png", numpy.concatenate([rgb, alpha], axis=2), 8, 6)
    write_png("greyalpha8.png", numpy.concatenate([grey, alpha], axis=2), 8, 4)
    for bits in (1, 2, 4, 8):
        write_png(f"grey{bits}.png", grey >> (8 - bits), bits, 0)
    write_png("grey16.png", numpy.minimum(grey * 256 + 77, 65535), 16, 0)
    write_png("palette4.png", index, 4, 3, plte)
    write_png("palette8.png", index, 8, 3, plte + chunk(b"tRNS", bytes(range(0, 160, 10))))
    for name in ("rgb16", "rgba8", "greyalpha8", "grey1", "grey2", "grey4", "grey8", "palette4", "palette8"):
        expect(name + ".png")
    expect("grey16.png", Image.fromarray(grey[..., 0].astype(numpy.uint8)).convert("RGB"))


def make_jpegs(rgb):
    image = Image.fromarray(rgb)
    image.save(HERE / "baseline.jpg", quality=90)
    image.save(HERE / "progressive.jpg", quality=85, progressive=True, subsampling=0)
    image.convert("L").save(HERE / "grey.jpg", quality=90)
    image.convert("CMYK").save(HERE / "cmyk.jpg", quality=95)
    for name in ("baseline", "progressive", "grey", "cmyk"):
        expect(name + ".jpg")


def make_resized(rgb):
    image = Image.fromarray(rgb)
    for name, filter in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        for size in SIZES:
            image.resize(size, filter).save(HERE / f"{name}-{size[0]}x{size[1]}.png", optimize=True)


def main():
    rgb = picture()
    make_pngs(rgb)
    make_jpegs(rgb)
    make_resized(rgb)


if __name__ == "__main__":
    main()
