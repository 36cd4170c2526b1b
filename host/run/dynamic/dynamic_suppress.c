/* NonMaxSuppression: of boxes that overlap, that with the highest score, class by class. */
#include "run/dynamic/dynamic_parts.h"

#include <stdlib.h>
#include <string.h>

typedef struct nd_box {
    float low[2], high[2], area;
} nd_box;

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
    int64_t *chosen; /* of one class */
    int64_t *found;  /* [count][3] */
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

/* Intersection over union; boxes without an area overlap nothing. */
static bool box_overlaps(const nd_box *a, const nd_box *b, float most) {
    float shared = 1;
    for (int i = 0; i < 2; i++) {
        const float low = a->low[i] > b->low[i] ? a->low[i] : b->low[i];
        const float high = a->high[i] < b->high[i] ? a->high[i] : b->high[i];
        if (!(high > low)) return false;
        shared *= high - low;
    }
    const float together = a->area + b->area - shared;
    return a->area > 0 && b->area > 0 && together > 0 && shared / together > most;
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
        for (int64_t k = 0; k < chosen && free_of; k++)
            free_of = !box_overlaps(&s->box[box], &s->box[s->chosen[k]], s->overlap);
        if (!free_of) continue;
        s->chosen[chosen++] = box;
        ND_TRY(suppression_keep(s, image, class_of, box));
    }
    return nd_status_ok;
}

static nd_status suppress_all(nd_suppression *s) {
    const int64_t n = s->boxes->dims[1];
    s->box = nd_alloc_array((size_t)n + 1, sizeof *s->box);
    s->candidates = nd_alloc_array((size_t)n + 1, sizeof *s->candidates);
    s->chosen = nd_alloc_array((size_t)n + 1, sizeof *s->chosen);
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
    s.overlap = (float)overlap;
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
