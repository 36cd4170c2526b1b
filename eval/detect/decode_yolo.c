/* YOLO's heads as they are exported: Ultralytics' v5 and v8 (boxes in pixels), and YOLOX (Ge et al.,
 * arXiv 2107.08430), whose boxes are relative to grids. */
#include "eval/detect/decoder.h"

#include <math.h>

/* The one output of three dimensions. */
static nd_status yolo_output(const nd_graph *graph, nd_decode *out, int64_t dims[2]) {
    for (int i = 0; i < graph->n_outputs && !out->n_outputs; i++) {
        const nd_value *value = &graph->values[graph->outputs[i]];
        if (value->rank != 3 || value->dims[1] < 5 || value->dims[2] < 5) continue;
        out->outputs[out->n_outputs++] = graph->outputs[i];
        dims[0] = value->dims[1];
        dims[1] = value->dims[2];
        out->sizes[0] = dims[0] * dims[1];
    }
    ND_REQUIRE(out->n_outputs, nd_status_usage, "%s: no output of boxes by numbers, as the heads of YOLO are",
               graph->name);
    return nd_status_ok;
}

/* Objectness is in the group of the scores. */
static void yolo_groups(nd_decode *out) {
    const int64_t boxes = out->boxes, columns = out->columns;
    out->n_groups = 2;
    out->groups[0] = out->turned ? (nd_decode_group){"boxes", 0, 0, 1, 0, 4 * boxes}
                                 : (nd_decode_group){"boxes", 0, 0, boxes, columns, 4};
    out->groups[1] = out->turned ? (nd_decode_group){"scores", 0, 4 * boxes, 1, 0, (columns - 4) * boxes}
                                 : (nd_decode_group){"scores", 0, 4, boxes, columns, columns - 4};
}

static nd_status yolo_open(const nd_graph *graph, nd_decode *out) {
    int64_t dims[2];
    ND_TRY(yolo_output(graph, out, dims));
    out->turned = dims[0] < dims[1];
    out->columns = out->turned ? dims[0] : dims[1];
    out->boxes = out->turned ? dims[1] : dims[0];
    out->classes = (int32_t)(out->columns - (out->turned ? 4 : 5));
    ND_REQUIRE(out->classes > 0, nd_status_usage, "%s: %lld numbers a box leave none for classes",
               graph->name, (long long)out->columns);
    yolo_groups(out);
    return nd_status_ok;
}

static nd_status yolo_candidates(const nd_decode *decode, const float *const *outputs, nd_detections *out) {
    const float *raw = outputs[0];
    const int64_t column = decode->turned ? decode->boxes : 1, box = decode->turned ? 1 : decode->columns;
    const int64_t first = decode->turned ? 4 : 5;
    for (int64_t i = 0; i < decode->boxes; i++) {
        const float *row = raw + i * box;
        const double object = decode->turned ? 1 : row[4 * column];
        for (int32_t c = 0; c < decode->classes; c++) {
            const double score = object * row[(first + c) * column];
            if (!(score >= decode->decoder->score)) continue;
            const nd_detection detection = {
                nd_box_centred(row[0], row[column], row[2 * column], row[3 * column]), score, c};
            ND_TRY(nd_detections_add(out, &detection));
        }
    }
    return nd_status_ok;
}

const nd_decoder nd_decoder_yolo = {
    .name = "yolo",
    .open = yolo_open,
    .candidates = yolo_candidates,
    .score = 0.01,
    .overlap = 0.45,
    .most = 300,
};

/* --- YOLOX */

static nd_status yolox_grids(const nd_graph *graph, nd_decode *out) {
    static const double strides[] = {8, 16, 32};
    int64_t next = 0;
    out->anchors = nd_alloc_array((size_t)out->boxes, 3 * sizeof *out->anchors);
    ND_REQUIRE(out->anchors, nd_status_memory, "%s: no memory for %lld boxes", graph->name,
               (long long)out->boxes);
    for (int s = 0; s < 3; s++) {
        const int64_t height = (int64_t)(out->height / strides[s]),
                      width = (int64_t)(out->width / strides[s]);
        for (int64_t i = 0; i < height * width && next < out->boxes; i++, next++) {
            const int64_t row = i / width;
            out->anchors[3 * next] = (double)(i - row * width);
            out->anchors[3 * next + 1] = (double)row;
            out->anchors[3 * next + 2] = strides[s];
        }
        ND_REQUIRE(s < 2 || next == out->boxes, nd_status_usage,
                   "%s: %lld boxes are not those of grids of 8, 16 and 32", graph->name,
                   (long long)out->boxes);
    }
    return nd_status_ok;
}

static nd_status yolox_open(const nd_graph *graph, nd_decode *out) {
    int64_t dims[2];
    ND_TRY(yolo_output(graph, out, dims));
    out->boxes = dims[0];
    out->columns = dims[1];
    out->classes = (int32_t)(out->columns - 5);
    ND_REQUIRE(out->classes > 0, nd_status_usage, "%s: %lld numbers a box leave none for classes",
               graph->name, (long long)out->columns);
    yolo_groups(out);
    return yolox_grids(graph, out);
}

static nd_status yolox_candidates(const nd_decode *decode, const float *const *outputs, nd_detections *out) {
    for (int64_t i = 0; i < decode->boxes; i++) {
        const float *row = outputs[0] + i * decode->columns;
        const double *grid = decode->anchors + 3 * i, stride = grid[2];
        for (int32_t c = 0; c < decode->classes; c++) {
            const double score = (double)row[4] * row[5 + c];
            if (!(score >= decode->decoder->score)) continue;
            const nd_detection detection = {nd_box_centred((row[0] + grid[0]) * stride,
                                                           (row[1] + grid[1]) * stride, exp(row[2]) * stride,
                                                           exp(row[3]) * stride),
                                            score, c};
            ND_TRY(nd_detections_add(out, &detection));
        }
    }
    return nd_status_ok;
}

const nd_decoder nd_decoder_yolox = {
    .name = "yolox",
    .open = yolox_open,
    .candidates = yolox_candidates,
    .score = 0.01,
    .overlap = 0.45,
    .most = 300,
};
