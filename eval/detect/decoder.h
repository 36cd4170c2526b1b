/* One kind of raw heads. Private to decode*.c. */
#ifndef ND_EVAL_DETECT_DECODER_H
#define ND_EVAL_DETECT_DECODER_H

#include "eval/detect/decode.h"

struct nd_decoder {
    const char *name;
    nd_status (*open)(const nd_graph *graph, nd_decode *out);
    /* Adds the boxes in the pixels of the image whose score is at least `score`. NULL: there are none. */
    nd_status (*candidates)(const nd_decode *decode, const float *const *outputs, nd_detections *out);
    double score, overlap;
    size_t most; /* detections of an image */
    bool cut;    /* boxes end at the borders of the image before they suppress each other */
};

extern const nd_decoder nd_decoder_ssd, nd_decoder_retinanet, nd_decoder_yolo, nd_decoder_yolox,
    nd_decoder_none;

/* A box by centre and size. */
static inline nd_box nd_box_centred(double x, double y, double width, double height) {
    return (nd_box){x - width / 2, y - height / 2, width, height};
}

#endif
