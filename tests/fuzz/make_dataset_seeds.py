#!/usr/bin/env python3
"""Writes the seeds of fuzz_image (pictures of tests/data/images), fuzz_cifar (tiny batches), fuzz_voc and fuzz_coco
(annotations, whole, cut and wrong) to corpus/."""

import pathlib
import pickle
import shutil

HERE = pathlib.Path(__file__).parent
PICTURES = ("rgb8.png", "palette8.png", "grey1.png", "grey16.png", "interlaced.png", "baseline.jpg", "progressive.jpg", "cmyk.jpg")

# How Python 2 pickled the published batches, up to the pixels of one image, and what follows them.
HEAD = (b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x04testq\x03U\x06labelsq\x04]q\x05(K\x03eU\x04dataq\x06"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\0\x85U\x01b\x87Rq\x09(K\x01K\x01M\0\x0c\x86"
        b"cnumpy\ndtype\nq\x0aU\x02u1K\0K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T\0\x0c\0\0")
VOC = b"""<annotation>
  <filename>a.jpg</filename>
  <size><width>500</width><height>375</height><depth>3</depth></size>
  <object>
    <name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>1</difficult>
    <bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>500</xmax><ymax>375</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>
  </object>
</annotation>
"""
BOMB = b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotation><object><name>&b;</name></object></annotation>'
COCO = b"""{"info": {"note": "a \\"quoted\\" brace ] }"},
 "images": [{"id": 7, "file_name": "a.jpg", "width": 50, "height": 40}, {"id": 3, "file_name": "b.jpg"}],
 "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
 "annotations": [
  {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2.5, 10, 20], "area": 90.5, "iscrowd": 0},
  {"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1, "segmentation": {"counts": [1, 2]}}
 ]}
"""
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
    voc = HERE / "corpus" / "voc"
    voc.mkdir(parents=True, exist_ok=True)
    (voc / "whole.xml").write_bytes(VOC)
    (voc / "cut.xml").write_bytes(VOC[:300])
    (voc / "outside.xml").write_bytes(VOC.replace(b"<xmax>500", b"<xmax>900"))
    (voc / "bomb.xml").write_bytes(BOMB)
    (voc / "utf16.xml").write_bytes(VOC.decode().encode("utf-16"))
    coco = HERE / "corpus" / "coco"
    coco.mkdir(parents=True, exist_ok=True)
    (coco / "whole.json").write_bytes(COCO)
    (coco / "cut.json").write_bytes(COCO[:400])
    (coco / "outside.json").write_bytes(COCO.replace(b"[1, 2.5, 10", b"[1, 2.5, 90"))
    (coco / "category.json").write_bytes(COCO.replace(b'"category_id": 1,', b'"category_id": 2,'))


if __name__ == "__main__":
    main()
