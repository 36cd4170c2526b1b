/* NonMaxSuppression: of boxes that overlap, that with the highest score, class by class. */
#include "run/dynamic/dynamic_parts.h"

#include <stdlib.h>
#include <string.h>

typedef struct nd_box {
    float low[2], high[2], area;
} nd_box;

/* Boxes that were chosen, in blocks whose lanes are compared at once; lanes without a box have no area. */
enum { nd_box_lanes = 16 };
typedef struct nd_box_block {
    float low[2][nd_box_lanes], high[2][nd_box_lanes], area[nd_box_lanes];
} nd_box_block;

typedef struct nd_candidate {
    float score;
    int64_t box;
} nd_candidate;

typedef struct nd_suppression {
    const nd_tensor *boxes, *scores; /* [images][n][4], [images][classes][n] */
    int64_t most;                    /* boxes of a class of an image */
    float overlap, least; /* what is above the first is suppressed, what is not above the second left out */
    bool center, has_least;
    nd_box *box;
    nd_candidate *candidates;
    nd_box_block *chosen; /* of one class */
    int64_t *found;       /* [count][3] */
    size_t count, capacity;
} nd_suppression;

/* Corners in any order, or centre, width and height. */
static nd_box box_read(const float *b, bool center) {
    nd_box box;
    for (int i = 0; i < 2; i++) {
        const float half = b[2 + i] / 2, one = center ? b[i] - half : b[i],
                    other = center ? b[i] + half : b[2 + i];
        box.low[i] = one < other ? one : other;
        box.high[i] = one < other ? other : one;
    }
    box.area = (box.high[0] - box.low[0]) * (box.high[1] - box.low[1]);
    return box;
}

static float box_extent(float low_a, float high_a, float low_b, float high_b) {
    const float low = low_a > low_b ? low_a : low_b, high = high_a < high_b ? high_a : high_b;
    const float extent = high - low;
    return extent > 0 ? extent : 0;
}

/* Whether the intersection with one of a block, over the union, is more than `most`, which is no less than 0.
 * Without branches, so that the lanes are vectorised; most blocks meet the box nowhere and need no division.
 * Without any area it is 0 / 0, and no more. */
static bool block_overlaps(const nd_box *a, const nd_box_block *block, float most) {
    float shared[nd_box_lanes];
    int meets = 0, over = 0;
    for (int i = 0; i < nd_box_lanes; i++) {
        const float down = box_extent(a->low[0], a->high[0], block->low[0][i], block->high[0][i]);
        const float across = box_extent(a->low[1], a->high[1], block->low[1][i], block->high[1][i]);
        shared[i] = down * across;
        meets |= shared[i] > 0;
    }
    if (!meets) return false;
    for (int i = 0; i < nd_box_lanes; i++) over |= shared[i] / (a->area + block->area[i] - shared[i]) > most;
    return over;
}

static void block_add(nd_box_block *blocks, int64_t at, const nd_box *box) {
    nd_box_block *block = &blocks[at / nd_box_lanes];
    const int lane = (int)(at % nd_box_lanes);
    if (!lane) memset(block, 0, sizeof *block);
    for (int axis = 0; axis < 2; axis++) {
        block->low[axis][lane] = box->low[axis];
        block->high[axis][lane] = box->high[axis];
    }
    block->area[lane] = box->area;
}

static int candidate_order(const void *left, const void *right) {
    const nd_candidate *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->box < b->box ? -1 : a->box > b->box;
}

static nd_status suppression_keep(nd_suppression *s, int64_t image, int64_t class_of, int64_t box) {
    int64_t *grown = s->found;
    if (s->count == s->capacity) {
        grown = nd_array_grow(s->found, s->count, &s->capacity, 3 * sizeof *s->found);
        ND_REQUIRE(grown, nd_status_memory, "no memory for another box");
        s->found = grown;
    }
    s->found[3 * s->count] = image;
    s->found[3 * s->count + 1] = class_of;
    s->found[3 * s->count + 2] = box;
    s->count++;
    return nd_status_ok;
}

static nd_status suppress_class(nd_suppression *s, int64_t image, int64_t class_of) {
    const int64_t n = s->boxes->dims[1];
    const float *scores = (const float *)s->scores->data + (image * s->scores->dims[1] + class_of) * n;
    int64_t candidates = 0, chosen = 0;
    for (int64_t i = 0; i < n; i++)
        if (s->has_least ? scores[i] > s->least : scores[i] == scores[i])
            s->candidates[candidates++] = (nd_candidate){scores[i], i};
    qsort(s->candidates, (size_t)candidates, sizeof *s->candidates, candidate_order);
    for (int64_t i = 0; i < candidates && chosen < s->most; i++) {
        const int64_t box = s->candidates[i].box;
        bool free_of = true;
        for (int64_t k = 0; k * nd_box_lanes < chosen && free_of; k++)
            free_of = !block_overlaps(&s->box[box], &s->chosen[k], s->overlap);
        if (!free_of) continue;
        block_add(s->chosen, chosen++, &s->box[box]);
        ND_TRY(suppression_keep(s, image, class_of, box));
    }
    return nd_status_ok;
}

static nd_status suppress_all(nd_suppression *s) {
    const int64_t n = s->boxes->dims[1];
    s->box = nd_alloc_array((size_t)n + 1, sizeof *s->box);
    s->candidates = nd_alloc_array((size_t)n + 1, sizeof *s->candidates);
    s->chosen = nd_alloc_array((size_t)n / nd_box_lanes + 1, sizeof *s->chosen);
    ND_REQUIRE(s->box && s->candidates && s->chosen, nd_status_memory, "no memory");
    for (int64_t image = 0; image < s->boxes->dims[0]; image++) {
        for (int64_t i = 0; i < n; i++)
            s->box[i] = box_read((const float *)s->boxes->data + 4 * (image * n + i), s->center);
        for (int64_t c = 0; c < s->scores->dims[1]; c++) ND_TRY(suppress_class(s, image, c));
    }
    return nd_status_ok;
}

nd_status nd_call_suppress(nd_call *call) {
    nd_suppression s = {.center = call->node->attr.center};
    double most, overlap, least;
    ND_TRY(nd_call_input(call, 0, &s.boxes));
    ND_TRY(nd_call_input(call, 1, &s.scores));
    ND_TRY(nd_call_number(call, 2, 0, &most));
    ND_TRY(nd_call_number(call, 3, 0, &overlap));
    ND_TRY(nd_call_number(call, 4, 0, &least));
    const bool fits = s.boxes->rank == 3 && s.scores->rank == 3 && s.boxes->dims[2] == 4 &&
                      s.boxes->dtype == nd_dtype_f32 && s.scores->dtype == nd_dtype_f32 &&
                      s.boxes->dims[0] == s.scores->dims[0] && s.boxes->dims[1] == s.scores->dims[2];
    ND_REQUIRE(fits, nd_status_format, "boxes and scores that do not fit each other");
    s.most = most <= 0 ? 0 : most < 0x1p62 ? (int64_t)most : INT64_MAX;
    s.overlap = overlap > 0 ? (float)overlap : 0;
    s.least = (float)least;
    s.has_least = call->node->n_in > 4 && call->in[4];
    nd_status status = suppress_all(&s);
    if (!status) status = nd_call_new(nd_dtype_i64, 2, (const int64_t[]){(int64_t)s.count, 3}, &call->out[0]);
    if (!status && s.count) memcpy(call->out[0].data, s.found, 3 * s.count * sizeof *s.found);
    free(s.box);
    free(s.candidates);
    free(s.chosen);
    free(s.found);
    return status;
}
