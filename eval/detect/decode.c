#include "eval/detect/decode.h"

#include "eval/detect/decoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const nd_decoder *const nd_decoder_table[] = {&nd_decoder_ssd, &nd_decoder_retinanet, &nd_decoder_yolo,
                                                     &nd_decoder_yolox, &nd_decoder_none};
enum { nd_decoder_count = sizeof nd_decoder_table / sizeof *nd_decoder_table };

static nd_status decode_image_size(const nd_graph *graph, nd_decode *out) {
    const nd_value *image = graph->n_inputs == 1 ? &graph->values[graph->inputs[0]] : NULL;
    ND_REQUIRE(image && image->rank == 4 && image->dims[2] > 0 && image->dims[3] > 0, nd_status_usage,
               "%s: a detector has one input, an image", graph->name);
    out->height = (double)image->dims[2];
    out->width = (double)image->dims[3];
    return nd_status_ok;
}

nd_status nd_decode_open(const nd_graph *graph, const char *name, nd_decode *out) {
    *out = (nd_decode){0};
    for (int i = 0; i < nd_decoder_count; i++)
        if (!strcmp(nd_decoder_table[i]->name, name)) out->decoder = nd_decoder_table[i];
    ND_REQUIRE(out->decoder, nd_status_usage, "--decode %s: expected ssd, retinanet, yolo, yolox or none",
               name);
    ND_TRY(decode_image_size(graph, out));
    const nd_status status = out->decoder->open(graph, out);
    if (status) nd_decode_close(out);
    return status;
}

bool nd_decode_finds(const nd_decode *decode) {
    return decode->ready || decode->decoder->candidates;
}

void nd_decode_close(nd_decode *decode) {
    free(decode->anchors);
    *decode = (nd_decode){0};
}

static int decode_compare(const void *left, const void *right) {
    const nd_detection *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->label != b->label) return a->label < b->label ? -1 : 1;
    return a->box.x != b->box.x ? (a->box.x < b->box.x ? -1 : 1)
                                : (a->box.y > b->box.y) - (a->box.y < b->box.y);
}

/* Greedy, a class at a time: what overlaps a better box too much goes. Sorted, and keeps `out->count` at
 * `first` plus at most the decoder's most. */
static void decode_suppress(const nd_decoder *decoder, size_t first, nd_detections *out) {
    nd_detection *items = out->items + first;
    const size_t count = out->count - first;
    size_t kept = 0;
    if (!count) return;
    qsort(items, count, sizeof *items, decode_compare);
    for (size_t i = 0; i < count && kept < decoder->most; i++) {
        bool stays = true;
        for (size_t k = 0; stays && k < kept; k++)
            stays = items[k].label != items[i].label ||
                    nd_box_overlap(items[i].box, items[k].box, false) <= decoder->overlap;
        if (stays) items[kept++] = items[i];
    }
    out->count = first + kept;
}

/* Boxes where they lie in the picture, without those that do not. */
static void decode_place(const nd_frame *frame, size_t first, nd_detections *out) {
    size_t kept = first;
    for (size_t i = first; i < out->count; i++) {
        nd_detection placed = out->items[i];
        placed.box = nd_box_out(frame, placed.box);
        if (placed.box.width > 0 && placed.box.height > 0) out->items[kept++] = placed;
    }
    out->count = kept;
}

nd_status nd_decode_image(const nd_decode *decode, const float *const *outputs, const nd_frame *frame,
                          nd_detections *out) {
    const size_t first = out->count;
    if (!decode->decoder->candidates) return nd_status_ok;
    ND_TRY(decode->decoder->candidates(decode, outputs, out));
    const nd_frame image = {.width = decode->width, .height = decode->height, .scale_x = 1, .scale_y = 1};
    if (decode->decoder->cut) decode_place(&image, first, out);
    decode_suppress(decode->decoder, first, out);
    decode_place(frame, first, out);
    return nd_status_ok;
}
