/* Boxes in images, and annotated objects. */
#ifndef ND_BASE_BOXES_H
#define ND_BASE_BOXES_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(default)

/* In pixels, from the left upper corner of the image: a box of whole pixels i to j is x = i, width = j - i
 * + 1. Doubles, because ties and thresholds are decided by the last bit in what measures are compared
 * with. */
typedef struct nd_box {
    double x, y, width, height;
} nd_box;

typedef struct nd_object {
    nd_box box;
    double area;    /* by which it is small, medium or large: of its outline where there is one */
    int32_t label;  /* class, from 0 */
    bool crowd;     /* a region of many objects (COCO's iscrowd) */
    bool difficult; /* neither found nor missed (VOC) */
} nd_object;

/* Where a picture lies in the image that is made of it: x * scale_x + left is where its x comes to lie. The
 * image may show a part of the picture only, or leave a border around it. */
typedef struct nd_frame {
    double width, height; /* of the picture, pixels */
    double scale_x, scale_y, left, top;
} nd_frame;

/* A box of the picture in the pixels of the image, and back, cut to the picture. */
nd_box nd_box_in(const nd_frame *frame, nd_box box);
nd_box nd_box_out(const nd_frame *frame, nd_box box);

/* Intersection over union; over the area of `found` alone where the other is a crowd. In the order of
 * operations of pycocotools, to the bit. */
double nd_box_overlap(nd_box found, nd_box object, bool crowd);

#pragma GCC visibility pop

#endif
