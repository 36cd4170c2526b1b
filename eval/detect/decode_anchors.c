/* Detectors whose boxes are offsets from boxes that the model's metadata describes: SSD (Liu et al., ECCV
 * 2016, section 2.2) and RetinaNet (Lin et al., ICCV 2017, section 4), as torchvision has it. */
#include "eval/detect/decoder.h"

#include "base/text/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { anchor_lists_max = 17, anchor_numbers_max = 8 };

/* "8,16:32": a list of numbers of every map of places, or one of several that a decoder asks for. */
typedef struct nd_anchor_lists {
    double of[anchor_lists_max][anchor_numbers_max];
    int n[anchor_lists_max];
    size_t count;
} nd_anchor_lists;

enum { anchor_steps, anchor_sizes, anchor_ratios, anchor_fields };

static bool anchors_list(nd_arena *arena, const char *text, double *out, int *n) {
    char **parts;
    size_t count;
    if (nd_text_split(arena, text, ',', &parts, &count) || count > anchor_numbers_max) return false;
    for (size_t i = 0; i < count; i++)
        if (!nd_text_real(parts[i], &out[i]) || !(out[i] > 0) || !isfinite(out[i])) return false;
    *n = (int)count;
    return true;
}

static bool anchors_lists(nd_arena *arena, const char *text, nd_anchor_lists *out) {
    char **lists;
    if (nd_text_split(arena, text, ':', &lists, &out->count) || out->count > anchor_lists_max) return false;
    for (size_t i = 0; i < out->count; i++)
        if (!anchors_list(arena, lists[i], out->of[i], &out->n[i])) return false;
    return true;
}

/* Fields in any order, "steps=8:16;scales=0.1:0.2". */
static bool anchors_parse(nd_arena *arena, const char *text, const char *const keys[anchor_fields],
                          nd_anchor_lists out[anchor_fields]) {
    char **fields;
    size_t count;
    if (nd_text_split(arena, text, ';', &fields, &count)) return false;
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(fields[i], '=');
        bool good = false;
        for (int f = 0; equals && f < anchor_fields; f++)
            if (strlen(keys[f]) == (size_t)(equals - fields[i]) &&
                !strncmp(fields[i], keys[f], strlen(keys[f])))
                good = anchors_lists(arena, equals + 1, &out[f]);
        if (!good) return false;
    }
    return out[anchor_steps].count && out[anchor_sizes].count && out[anchor_ratios].count;
}

/* One number of each map. */
static bool anchors_single(const nd_anchor_lists *lists) {
    for (size_t i = 0; i < lists->count; i++)
        if (lists->n[i] != 1) return false;
    return true;
}

static nd_status anchors_read(const nd_graph *graph, const char *text, const char *const keys[anchor_fields],
                              nd_anchor_lists out[anchor_fields]) {
    nd_arena arena = {0};
    memset(out, 0, anchor_fields * sizeof *out);
    const bool good = anchors_parse(&arena, text, keys, out) && anchors_single(&out[anchor_steps]);
    nd_arena_free(&arena);
    ND_REQUIRE(good, nd_status_format, "%s: metadata nd.anchors: \"%.200s\"", graph->name, text);
    return nd_status_ok;
}

static int64_t anchors_side(double image, double step) {
    return (int64_t)ceil(image / step);
}

/* Room for those of all maps, of which map m has each[m] a place. */
static nd_status anchors_allocate(const nd_graph *graph, const nd_anchor_lists *steps, const int64_t *each,
                                  nd_decode *out) {
    int64_t count = 0;
    for (size_t m = 0; m < steps->count; m++) {
        const double step = steps->of[m][0], places = ceil(out->height / step) * ceil(out->width / step);
        ND_REQUIRE(places < 1e7, nd_status_format, "%s: metadata nd.anchors: a step of %g", graph->name,
                   step);
        count += (int64_t)places * each[m];
    }
    ND_REQUIRE(count == out->boxes, nd_status_format,
               "%s: metadata nd.anchors describes %lld boxes, the heads have %lld", graph->name,
               (long long)count, (long long)out->boxes);
    out->anchors = nd_alloc_array((size_t)count, 4 * sizeof *out->anchors);
    ND_REQUIRE(out->anchors, nd_status_memory, "%s: no memory for %lld boxes", graph->name, (long long)count);
    return nd_status_ok;
}

/* The outputs: offsets are the one with four numbers a box, scores the other one of as many boxes, whose
 * first is that of the background where there is one. */
static nd_status anchors_outputs(const nd_graph *graph, bool background, nd_decode *out) {
    int scores = -1, offsets = -1;
    for (int i = 0; i < graph->n_outputs; i++) {
        const nd_value *value = &graph->values[graph->outputs[i]];
        if (value->rank != 3 || value->dims[2] < 1 + background) continue;
        if (value->dims[2] == 4 && offsets < 0)
            offsets = graph->outputs[i];
        else if (scores < 0)
            scores = graph->outputs[i];
    }
    ND_REQUIRE(scores >= 0 && offsets >= 0 && graph->values[scores].dims[1] == graph->values[offsets].dims[1],
               nd_status_usage,
               "%s: no outputs of scores and of four offsets for each box, as the heads of %s are",
               graph->name, background ? "SSD" : "RetinaNet");
    out->n_outputs = 2;
    out->outputs[0] = scores;
    out->outputs[1] = offsets;
    out->boxes = graph->values[scores].dims[1];
    out->columns = graph->values[scores].dims[2];
    out->classes = (int32_t)(out->columns - background);
    out->sizes[0] = out->boxes * out->columns;
    out->sizes[1] = out->boxes * 4;
    out->n_groups = 2;
    out->groups[0] = (nd_decode_group){"boxes", 1, 0, 1, 0, out->sizes[1]};
    out->groups[1] = (nd_decode_group){"scores", 0, 0, 1, 0, out->sizes[0]};
    return nd_status_ok;
}

/* Offsets count in `place` and `size` of the anchor's sides and of their logarithms. */
static nd_box anchors_box(const double *anchor, const float *offset, double place, double size) {
    const double most = log(1000.0 / 16); /* as torchvision's: sizes do not overflow */
    return nd_box_centred(
        anchor[0] + offset[0] * place * anchor[2], anchor[1] + offset[1] * place * anchor[3],
        anchor[2] * exp(fmin(offset[2] * size, most)), anchor[3] * exp(fmin(offset[3] * size, most)));
}

/* --- SSD: default boxes at the middle of each place, variances 0.1 and 0.2, scores before softmax */

static void ssd_anchor(double **next, double x, double y, double width, double height) {
    *(*next)++ = x;
    *(*next)++ = y;
    *(*next)++ = fmin(width, 1);
    *(*next)++ = fmin(height, 1);
}

/* The boxes at one place, in parts of the image: the square of the scale, that between it and the next,
 * and two for each aspect ratio. */
static void ssd_place(const nd_anchor_lists maps[anchor_fields], size_t map, double x, double y,
                      double **next) {
    const nd_anchor_lists *scales = &maps[anchor_sizes], *ratios = &maps[anchor_ratios];
    const double scale = scales->of[map][0], between = sqrt(scale * scales->of[map + 1][0]);
    ssd_anchor(next, x, y, scale, scale);
    ssd_anchor(next, x, y, between, between);
    for (int r = 0; r < ratios->n[map]; r++) {
        const double root = sqrt(ratios->of[map][r]);
        ssd_anchor(next, x, y, scale * root, scale / root);
        ssd_anchor(next, x, y, scale / root, scale * root);
    }
}

/* "steps=8:16:32;scales=0.1:0.2:0.37:0.54;ratios=2:2,3:2": of each map the step in pixels, the scale of its
 * boxes in parts of the image (one more for the last map), and the aspect ratios beside 1. */
static nd_status ssd_open(const nd_graph *graph, nd_decode *out) {
    static const char *const keys[] = {"steps", "scales", "ratios"};
    nd_anchor_lists maps[anchor_fields];
    const nd_anchor_lists *steps = &maps[anchor_steps], *scales = &maps[anchor_sizes];
    int64_t each[anchor_lists_max];
    ND_TRY(anchors_outputs(graph, true, out));
    const char *text = nd_graph_meta(graph, "nd.anchors");
    ND_REQUIRE(text, nd_status_usage,
               "%s: its metadata has no nd.anchors, which say what the default boxes of its heads are",
               graph->name);
    ND_TRY(anchors_read(graph, text, keys, maps));
    ND_REQUIRE(scales->count == steps->count + 1 && maps[anchor_ratios].count == steps->count &&
                   anchors_single(scales),
               nd_status_format, "%s: metadata nd.anchors: \"%.200s\"", graph->name, text);
    for (size_t m = 0; m < steps->count; m++) each[m] = 2 + 2 * maps[anchor_ratios].n[m];
    ND_TRY(anchors_allocate(graph, steps, each, out));
    double *next = out->anchors;
    for (size_t m = 0; m < steps->count; m++) {
        const double step = steps->of[m][0];
        for (int64_t y = 0; y < anchors_side(out->height, step); y++)
            for (int64_t x = 0; x < anchors_side(out->width, step); x++)
                ssd_place(maps, m, ((double)x + 0.5) * step / out->width,
                          ((double)y + 0.5) * step / out->height, &next);
    }
    for (int64_t i = 0; i < 4 * out->boxes; i++) out->anchors[i] *= i % 2 ? out->height : out->width;
    return nd_status_ok;
}

static nd_status ssd_candidates(const nd_decode *decode, const float *const *outputs, nd_detections *out) {
    const int64_t columns = decode->columns;
    for (int64_t i = 0; i < decode->boxes; i++) {
        const float *scores = outputs[0] + i * columns;
        double most = scores[0], sum = 0;
        for (int64_t c = 1; c < columns; c++) most = fmax(most, scores[c]);
        for (int64_t c = 0; c < columns; c++) sum += exp(scores[c] - most);
        for (int32_t c = 0; c < decode->classes; c++) {
            const double score = exp(scores[c + 1] - most) / sum;
            if (!(score >= decode->decoder->score)) continue;
            const nd_detection detection = {
                anchors_box(decode->anchors + 4 * i, outputs[1] + 4 * i, 0.1, 0.2), score, c};
            ND_TRY(nd_detections_add(out, &detection));
        }
    }
    return nd_status_ok;
}

const nd_decoder nd_decoder_ssd = {
    .name = "ssd",
    .open = ssd_open,
    .candidates = ssd_candidates,
    .score = 0.01,
    .overlap = 0.45,
    .most = 200,
    .cut = true,
};

/* --- RetinaNet: boxes of whole pixels around the corner of each place, scores by the sigmoid */

/* Of one map: for each aspect ratio, height by width, a box of every size, which is the root of its area. */
static void retinanet_map(const nd_anchor_lists maps[anchor_fields], size_t map, const nd_decode *out,
                          double **next) {
    const nd_anchor_lists *sizes = &maps[anchor_sizes], *ratios = &maps[anchor_ratios];
    const double step = maps[anchor_steps].of[map][0];
    const int64_t rows = anchors_side(out->height, step), columns = anchors_side(out->width, step);
    const double down = floor(out->height / (double)rows), across = floor(out->width / (double)columns);
    const size_t list = ratios->count == 1 ? 0 : map;
    for (int64_t place = 0; place < rows * columns; place++) {
        const int64_t row = place / columns, column = place % columns;
        for (int r = 0; r < ratios->n[list]; r++)
            for (int k = 0; k < sizes->n[map]; k++) {
                const double root = sqrt(ratios->of[list][r]), size = sizes->of[map][k];
                *(*next)++ = (double)column * across;
                *(*next)++ = (double)row * down;
                *(*next)++ = 2 * nearbyint(size / root / 2);
                *(*next)++ = 2 * nearbyint(size * root / 2);
            }
    }
}

/* "steps=8:16;sizes=32,40,50:64,80,101;ratios=0.5,1,2": of each map the step and the sizes in pixels; one
 * list of ratios for all maps, or one for each. The pixels from place to place are the image's by the places,
 * rounded down. */
static nd_status retinanet_open(const nd_graph *graph, nd_decode *out) {
    static const char *const keys[] = {"steps", "sizes", "ratios"};
    static const char usual[] = "steps=8:16:32:64:128;"
                                "sizes=32,40,50:64,80,101:128,161,203:256,322,406:512,645,812;ratios=0.5,1,2";
    nd_anchor_lists maps[anchor_fields];
    const nd_anchor_lists *steps = &maps[anchor_steps], *ratios = &maps[anchor_ratios];
    int64_t each[anchor_lists_max];
    ND_TRY(anchors_outputs(graph, false, out));
    const char *meta = nd_graph_meta(graph, "nd.anchors"), *text = meta ? meta : usual;
    ND_TRY(anchors_read(graph, text, keys, maps));
    ND_REQUIRE(maps[anchor_sizes].count == steps->count &&
                   (ratios->count == 1 || ratios->count == steps->count),
               nd_status_format, "%s: metadata nd.anchors: \"%.200s\"", graph->name, text);
    for (size_t m = 0; m < steps->count; m++)
        each[m] = (int64_t)maps[anchor_sizes].n[m] * ratios->n[ratios->count == 1 ? 0 : m];
    nd_status status = anchors_allocate(graph, steps, each, out);
    if (status == nd_status_format && !meta)
        status = nd_fail_in(nd_status_usage,
                            "%s: its metadata has no nd.anchors, and the usual ones do not fit", graph->name);
    ND_TRY(status);
    double *next = out->anchors;
    for (size_t m = 0; m < steps->count; m++) retinanet_map(maps, m, out, &next);
    return nd_status_ok;
}

static nd_status retinanet_candidates(const nd_decode *decode, const float *const *outputs,
                                      nd_detections *out) {
    for (int64_t i = 0; i < decode->boxes; i++)
        for (int32_t c = 0; c < decode->classes; c++) {
            const double score = 1 / (1 + exp(-(double)outputs[0][i * decode->columns + c]));
            if (!(score >= decode->decoder->score)) continue;
            const nd_detection detection = {anchors_box(decode->anchors + 4 * i, outputs[1] + 4 * i, 1, 1),
                                            score, c};
            ND_TRY(nd_detections_add(out, &detection));
        }
    return nd_status_ok;
}

const nd_decoder nd_decoder_retinanet = {
    .name = "retinanet",
    .open = retinanet_open,
    .candidates = retinanet_candidates,
    .score = 0.05,
    .overlap = 0.5,
    .most = 300,
    .cut = true,
};
