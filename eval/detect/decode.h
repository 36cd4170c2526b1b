/* From what a detector's heads say to boxes: named decoders for networks whose post-processing is not in
 * the graph, and what that leaves where it is. */
#ifndef ND_EVAL_DETECT_DECODE_H
#define ND_EVAL_DETECT_DECODE_H

#include "eval/detect/detections.h"
#include "model/graph.h"
#include "run/heads.h"

enum { nd_decode_outputs_max = nd_heads_max, nd_decode_groups_max = nd_heads_max };

typedef struct nd_decoder nd_decoder;

/* Numbers that belong together in the raw heads, "boxes" or "scores", or a whole output by its name: count
 * of them at base + i * step + k for i below `rows` and k below `row`. Errors of raw heads are relative to
 * the variance of their group. */
typedef struct nd_decode_group {
    const char *name;
    int output; /* place in `outputs` */
    int64_t base, rows, step, row;
} nd_decode_group;

/* How the outputs of one network are read. */
typedef struct nd_decode {
    const nd_decoder *decoder;
    int outputs[nd_decode_outputs_max];   /* values, as nd_exec_settings.outputs */
    int64_t sizes[nd_decode_outputs_max]; /* numbers of an image in each */
    int n_outputs;
    int64_t boxes;        /* that the heads propose */
    int32_t classes;      /* background not counted; none: 0, or more than there are where `ready` */
    int64_t columns;      /* numbers of a box in a yolo or yolox head, or in the scores of the others */
    bool turned;          /* yolo: [columns][boxes], without an objectness, as from YOLOv8 on */
    bool ready;           /* none: `outputs` are boxes, scores and labels of one image, of any number */
    double height, width; /* of the image */
    /* ssd, retinanet: [boxes][4], centre and size; yolox: [boxes][3], place and stride; in pixels. */
    double *anchors;
    nd_decode_group groups[nd_decode_groups_max];
    int n_groups;
} nd_decode;

/* By the name of a decoder:
 *
 *   ssd    scores [n][boxes][classes + 1] before softmax, background first, and offsets [n][boxes][4] from
 *          default boxes that the model's metadata describes ("nd.anchors", written for networks of the zoo)
 *   retinanet  scores [n][boxes][classes] before the sigmoid and offsets [n][boxes][4], as the heads of
 *          torchvision's are, from boxes described likewise, else from its own: 3 sizes by 3 aspect ratios on
 *          maps of steps 8 to 128. Its post-processing looks at the 1,000 best boxes of each map alone
 *   yolo   [n][4 + classes][boxes] (YOLOv8 and later) or [n][boxes][5 + classes] (to v7): centres and sizes
 *          in pixels, scores after the sigmoid
 *   yolox  [n][boxes][5 + classes]: centres and sizes in steps of grids of 8, 16 and 32 pixels
 *   none   what post-processing in the graph leaves: boxes [any][4] as left, top, right and bottom in pixels
 *          of the image, scores [any] and labels [any]; of any other outputs the raw numbers alone are
 *          compared, and no boxes are found
 *
 * `graph` is inferred. nd_status_usage where the outputs are not what the decoder reads, or there is none
 * of that name. */
nd_status nd_decode_open(const nd_graph *graph, const char *name, nd_decode *out);
void nd_decode_close(nd_decode *decode); /* leaves it empty */

bool nd_decode_finds(const nd_decode *decode); /* boxes, and not raw numbers alone */

/* Adds what was found in one image, best first: scores from the decoder's threshold on, of boxes of a
 * class that overlap too much the best one (non-maximum suppression), at most so many. outputs[i] is of
 * this image; boxes come out in the pixels of the picture. */
nd_status nd_decode_image(const nd_decode *decode, const float *const *outputs, const nd_frame *frame,
                          nd_detections *out);

/* The same where `ready`: outputs[i] as nd_exec_output gives them. nd_status_format
 * where they are no boxes, scores and labels. */
nd_status nd_decode_ready(const nd_decode *decode, const nd_tensor *const *outputs, const nd_frame *frame,
                          nd_detections *out);

#endif
