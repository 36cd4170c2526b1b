#!/usr/bin/env python3
"""Draws the glyphs data set: 62 characters (0-9, A-Z, a-z) in 32x32 RGB tiles.

    make.py             writes test.png, calib.png and classes.txt beside this file

A tile is a character of a random font on ruled lines (baseline and capital height, so that "c" and "C" differ),
bent by a small affine map, in two random colours of random contrast over a shaded background, blurred and noisy, with
16 levels a channel to keep the sheets small. A sheet has one column a class and one sample a row: the label of a tile
is its column. Every tile has its own seed (split, sample, class), so the splits share no tile and any subset can be
drawn alone.
"""

import math
import pathlib
import string

import numpy
from PIL import Image, ImageDraw, ImageFilter, ImageFont

CLASSES = string.digits + string.ascii_uppercase + string.ascii_lowercase
SIDE = 32
FINE = 4  # drawn this many times larger, then averaged down
SPLITS = {"train": 1, "calib": 2, "test": 3}
TEST_ROWS = 48
CALIB_ROWS = 12

# Debian packages: fonts-cabin fonts-cantarell fonts-comic-neue fonts-courier-prime fonts-crosextra-caladea
# fonts-crosextra-carlito fonts-dejavu-core fonts-firacode fonts-freefont-ttf fonts-go fonts-hack fonts-inconsolata
# fonts-lato fonts-liberation fonts-linuxlibertine fonts-open-sans fonts-play fonts-quicksand fonts-roboto-unhinted
FONTS = """
fonts-go/Go-Bold.ttf
fonts-go/Go-Italic.ttf
fonts-go/Go-Mono.ttf
fonts-go/Go-Regular.ttf
opentype/cabin/Cabin-Bold.otf
opentype/cabin/Cabin-Italic.otf
opentype/cabin/Cabin-Regular.otf
opentype/cantarell/Cantarell-Bold.otf
opentype/cantarell/Cantarell-Regular.otf
opentype/comic-neue/ComicNeue-Bold.otf
opentype/comic-neue/ComicNeue-Regular.otf
opentype/courier-prime/Courier Prime Bold.otf
opentype/courier-prime/Courier Prime Code.otf
opentype/courier-prime/Courier Prime.otf
opentype/linux-libertine/LinBiolinum_R.otf
opentype/linux-libertine/LinLibertine_R.otf
opentype/linux-libertine/LinLibertine_RB.otf
opentype/linux-libertine/LinLibertine_RI.otf
opentype/play/Play-Regular.otf
truetype/crosextra/Caladea-Bold.ttf
truetype/crosextra/Caladea-Regular.ttf
truetype/crosextra/Carlito-Regular.ttf
truetype/dejavu/DejaVuSans-Bold.ttf
truetype/dejavu/DejaVuSans.ttf
truetype/dejavu/DejaVuSansMono.ttf
truetype/dejavu/DejaVuSerif-Bold.ttf
truetype/dejavu/DejaVuSerif.ttf
truetype/firacode/FiraCode-Regular.ttf
truetype/freefont/FreeMonoBold.ttf
truetype/freefont/FreeSans.ttf
truetype/freefont/FreeSerif.ttf
truetype/freefont/FreeSerifBold.ttf
truetype/freefont/FreeSerifItalic.ttf
truetype/hack/Hack-Bold.ttf
truetype/hack/Hack-Regular.ttf
truetype/inconsolata/Inconsolata.otf
truetype/lato/Lato-Bold.ttf
truetype/lato/Lato-Regular.ttf
truetype/liberation/LiberationMono-Regular.ttf
truetype/liberation/LiberationSans-Bold.ttf
truetype/liberation/LiberationSans-Regular.ttf
truetype/liberation/LiberationSerif-Italic.ttf
truetype/liberation/LiberationSerif-Regular.ttf
truetype/open-sans/OpenSans-Bold.ttf
truetype/open-sans/OpenSans-Regular.ttf
truetype/quicksand/Quicksand-Medium.ttf
truetype/roboto/unhinted/RobotoTTF/Roboto-Bold.ttf
truetype/roboto/unhinted/RobotoTTF/Roboto-Regular.ttf
""".strip().splitlines()


def load_fonts(root="/usr/share/fonts"):
    """Every font at the size that makes its capitals equally high."""
    fonts = []
    for name in FONTS:
        path = str(pathlib.Path(root, name))
        top, bottom = ImageFont.truetype(path, 200).getbbox("H", anchor="ls")[1::2]
        fonts.append(ImageFont.truetype(path, round(200 * 0.56 * SIDE * FINE / (bottom - top))))
    return fonts


def inverse_affine(random):
    """Of the map from drawing to tile, about the centre, as Image.transform wants it."""
    angle = math.radians(random.uniform(-6, 6))
    shear = random.uniform(-0.15, 0.15)
    scale = random.uniform(0.82, 1.12, 2)
    shift = random.uniform(-2.5, 2.5, 2) * FINE
    turn = numpy.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    back = numpy.linalg.inv(turn @ numpy.array([[1, shear], [0, 1]]) @ numpy.diag(scale))
    centre = numpy.full(2, SIDE * FINE / 2)
    offset = centre - back @ (centre + shift)
    return (*back[0], offset[0], *back[1], offset[1])


def coverage(random, fonts, character):
    """Two masks in 0..1: the ink of the character and of the ruled lines."""
    size = SIDE * FINE
    baseline, capital = round(0.76 * size), round(0.20 * size)
    affine = inverse_affine(random)
    blur = random.uniform(0, 0.9) * FINE / 2
    font = fonts[random.integers(len(fonts))]
    masks = []
    for layer in ("glyph", "lines"):
        mask = Image.new("L", (size, size))
        draw = ImageDraw.Draw(mask)
        if layer == "glyph":
            draw.text((size / 2, baseline), character, fill=255, font=font, anchor="ms")
        else:
            for y in (baseline, capital):
                draw.line((-size, y, 2 * size, y), fill=255, width=FINE)
        mask = mask.transform(mask.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        mask = mask.filter(ImageFilter.GaussianBlur(blur)).resize((SIDE, SIDE), Image.Resampling.BOX)
        masks.append(numpy.asarray(mask, dtype=numpy.float64) / 255)
    return masks


def colours(random):
    """Ink and paper, far enough apart in brightness to be read."""
    weights = numpy.array([0.299, 0.587, 0.114])
    while True:
        ink, paper = random.uniform(0, 255, (2, 3))
        if abs(weights @ (ink - paper)) > 50:
            return ink, paper


def tile(split, sample, label, fonts):
    """One image, uint8 of SIDE x SIDE x 3."""
    random = numpy.random.default_rng([SPLITS[split], sample, label])
    glyph, lines = coverage(random, fonts, CLASSES[label])
    ink, paper = colours(random)
    y, x = numpy.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    slope = random.uniform(-40, 40, 2)
    shade = (slope[0] * x + slope[1] * y)[..., None]
    alpha = numpy.maximum(glyph, 0.35 * lines)[..., None]
    noise = random.normal(0, random.uniform(0, 14), (SIDE, SIDE, 1))
    picture = paper + shade + alpha * (ink - paper) + noise
    return (numpy.clip(picture / 17, 0, 15).round() * 17).astype(numpy.uint8)


def sheet(split, rows, fonts):
    picture = [numpy.hstack([tile(split, row, label, fonts) for label in range(len(CLASSES))]) for row in range(rows)]
    return Image.fromarray(numpy.vstack(picture))


def main():
    here = pathlib.Path(__file__).parent
    fonts = load_fonts()
    for split, rows in (("test", TEST_ROWS), ("calib", CALIB_ROWS)):
        sheet(split, rows, fonts).save(here / f"{split}.png", optimize=True)
    (here / "classes.txt").write_text("".join(character + "\n" for character in CLASSES))


if __name__ == "__main__":
    main()
