/* SSD (Liu et al., ECCV 2016, section 2.2): default boxes, and offsets from them with variances 0.1 and
 * 0.2. */
#include "eval/detect/decoder.h"

#include "base/text/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { nd_ssd_maps_max = 16, nd_ssd_ratios_max = 8 };

/* "nd.anchors": "steps=8:16:32;scales=0.1:0.2:0.37:0.54;ratios=2:2,3:2": of each map the step in pixels,
 * the scale of its boxes in parts of the image (one more for the last map), and the aspect ratios beside
 * 1. */
typedef struct nd_ssd_maps {
    double steps[nd_ssd_maps_max], scales[nd_ssd_maps_max + 1], ratios[nd_ssd_maps_max][nd_ssd_ratios_max];
    int n_ratios[nd_ssd_maps_max];
    size_t count, n_scales, n_lists;
} nd_ssd_maps;

static bool ssd_numbers(nd_arena *arena, const char *text, char separator, double *out, size_t most,
                        size_t *count) {
    char **parts;
    if (nd_text_split(arena, text, separator, &parts, count) || *count > most) return false;
    for (size_t i = 0; i < *count; i++)
        if (!nd_text_real(parts[i], &out[i]) || !(out[i] > 0) || !isfinite(out[i])) return false;
    return true;
}

static bool ssd_ratios(nd_arena *arena, const char *text, nd_ssd_maps *maps) {
    char **lists;
    if (nd_text_split(arena, text, ':', &lists, &maps->n_lists) || maps->n_lists > nd_ssd_maps_max)
        return false;
    for (size_t i = 0; i < maps->n_lists; i++) {
        size_t count;
        if (!ssd_numbers(arena, lists[i], ',', maps->ratios[i], nd_ssd_ratios_max, &count)) return false;
        maps->n_ratios[i] = (int)count;
    }
    return true;
}

static bool ssd_parse(nd_arena *arena, const char *text, nd_ssd_maps *maps) {
    char **fields;
    size_t count;
    if (nd_text_split(arena, text, ';', &fields, &count)) return false;
    for (size_t i = 0; i < count; i++) {
        bool good = false;
        if (!strncmp(fields[i], "steps=", 6))
            good = ssd_numbers(arena, fields[i] + 6, ':', maps->steps, nd_ssd_maps_max, &maps->count);
        else if (!strncmp(fields[i], "scales=", 7))
            good = ssd_numbers(arena, fields[i] + 7, ':', maps->scales, nd_ssd_maps_max + 1, &maps->n_scales);
        else if (!strncmp(fields[i], "ratios=", 7))
            good = ssd_ratios(arena, fields[i] + 7, maps);
        if (!good) return false;
    }
    return maps->count && maps->n_scales == maps->count + 1 && maps->n_lists == maps->count;
}

static void ssd_anchor(double **next, double x, double y, double width, double height) {
    *(*next)++ = x;
    *(*next)++ = y;
    *(*next)++ = fmin(width, 1);
    *(*next)++ = fmin(height, 1);
}

/* The boxes at one place, in parts of the image: the square of the scale, that between it and the next,
 * and two for each aspect ratio. */
static void ssd_place(const nd_ssd_maps *maps, size_t map, double x, double y, double **next) {
    const double scale = maps->scales[map], between = sqrt(scale * maps->scales[map + 1]);
    ssd_anchor(next, x, y, scale, scale);
    ssd_anchor(next, x, y, between, between);
    for (int r = 0; r < maps->n_ratios[map]; r++) {
        const double root = sqrt(maps->ratios[map][r]);
        ssd_anchor(next, x, y, scale * root, scale / root);
        ssd_anchor(next, x, y, scale / root, scale * root);
    }
}

static int64_t ssd_side(double image, double step) {
    return (int64_t)ceil(image / step);
}

static nd_status ssd_anchors(const nd_graph *graph, const nd_ssd_maps *maps, nd_decode *out) {
    int64_t count = 0;
    for (size_t m = 0; m < maps->count; m++) {
        const double places = ceil(out->height / maps->steps[m]) * ceil(out->width / maps->steps[m]);
        ND_REQUIRE(places < 1e7, nd_status_format, "%s: metadata nd.anchors: a step of %g", graph->name,
                   maps->steps[m]);
        count += (int64_t)places * (2 + 2 * maps->n_ratios[m]);
    }
    ND_REQUIRE(count == out->boxes, nd_status_format,
               "%s: metadata nd.anchors describes %lld boxes, the heads have %lld", graph->name,
               (long long)count, (long long)out->boxes);
    out->anchors = nd_alloc_array((size_t)count, 4 * sizeof *out->anchors);
    ND_REQUIRE(out->anchors, nd_status_memory, "%s: no memory for %lld boxes", graph->name, (long long)count);
    double *next = out->anchors;
    for (size_t m = 0; m < maps->count; m++)
        for (int64_t y = 0; y < ssd_side(out->height, maps->steps[m]); y++)
            for (int64_t x = 0; x < ssd_side(out->width, maps->steps[m]); x++)
                ssd_place(maps, m, ((double)x + 0.5) * maps->steps[m] / out->width,
                          ((double)y + 0.5) * maps->steps[m] / out->height, &next);
    for (int64_t i = 0; i < 4 * count; i++) out->anchors[i] *= i % 2 ? out->height : out->width;
    return nd_status_ok;
}

/* The outputs: offsets are the one with four numbers a box, scores the other one of as many boxes. */
static nd_status ssd_outputs(const nd_graph *graph, nd_decode *out) {
    int scores = -1, offsets = -1;
    for (int i = 0; i < graph->n_outputs; i++) {
        const nd_value *value = &graph->values[graph->outputs[i]];
        if (value->rank != 3 || value->dims[2] < 2) continue;
        if (value->dims[2] == 4 && offsets < 0)
            offsets = graph->outputs[i];
        else if (scores < 0)
            scores = graph->outputs[i];
    }
    ND_REQUIRE(scores >= 0 && offsets >= 0 && graph->values[scores].dims[1] == graph->values[offsets].dims[1],
               nd_status_usage,
               "%s: no outputs of scores and of four offsets for each box, as the heads of SSD are",
               graph->name);
    out->n_outputs = 2;
    out->outputs[0] = scores;
    out->outputs[1] = offsets;
    out->boxes = graph->values[scores].dims[1];
    out->classes = (int32_t)(graph->values[scores].dims[2] - 1);
    out->sizes[0] = out->boxes * (out->classes + 1);
    out->sizes[1] = out->boxes * 4;
    out->n_groups = 2;
    out->groups[0] = (nd_decode_group){"boxes", 1, 0, 1, 0, out->sizes[1]};
    out->groups[1] = (nd_decode_group){"scores", 0, 0, 1, 0, out->sizes[0]};
    return nd_status_ok;
}

static nd_status ssd_open(const nd_graph *graph, nd_decode *out) {
    nd_arena arena = {0};
    nd_ssd_maps maps = {0};
    ND_TRY(ssd_outputs(graph, out));
    const char *text = nd_graph_meta(graph, "nd.anchors");
    ND_REQUIRE(text, nd_status_usage,
               "%s: its metadata has no nd.anchors, which say what the default boxes of its heads are",
               graph->name);
    const bool good = ssd_parse(&arena, text, &maps);
    nd_arena_free(&arena);
    ND_REQUIRE(good, nd_status_format, "%s: metadata nd.anchors: \"%.200s\"", graph->name, text);
    return ssd_anchors(graph, &maps, out);
}

static nd_box ssd_box(const double *anchor, const float *offset) {
    const double most = log(1000.0 / 16); /* as torchvision's: sizes do not overflow */
    return nd_box_centred(anchor[0] + offset[0] * 0.1 * anchor[2], anchor[1] + offset[1] * 0.1 * anchor[3],
                          anchor[2] * exp(fmin(offset[2] * 0.2, most)),
                          anchor[3] * exp(fmin(offset[3] * 0.2, most)));
}

static nd_status ssd_candidates(const nd_decode *decode, const float *const *outputs, nd_detections *out) {
    const int64_t columns = decode->classes + 1;
    for (int64_t i = 0; i < decode->boxes; i++) {
        const float *scores = outputs[0] + i * columns;
        double most = scores[0], sum = 0;
        for (int64_t c = 1; c < columns; c++) most = fmax(most, scores[c]);
        for (int64_t c = 0; c < columns; c++) sum += exp(scores[c] - most);
        for (int32_t c = 0; c < decode->classes; c++) {
            const double score = exp(scores[c + 1] - most) / sum;
            if (!(score >= decode->decoder->score)) continue;
            const nd_detection detection = {ssd_box(decode->anchors + 4 * i, outputs[1] + 4 * i), score, c};
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
};
