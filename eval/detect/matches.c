#include "eval/detect/matches.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    double least, most; /* square pixels, both included */
} nd_match_ranges[nd_match_areas] = {{0, 1e10}, {0, 1024}, {1024, 9216}, {9216, 1e10}};

/* numpy.linspace(0.5, 0.95, 10), to the bit. */
double nd_match_overlap(int index) {
    const double step = (0.95 - 0.5) / (nd_match_overlaps - 1);
    return index == nd_match_overlaps - 1 ? 0.95 : 0.5 + index * step;
}

/* One image and class under way. */
typedef struct nd_match_image {
    const nd_object **objects; /* [n_objects], in the order of the annotations */
    const nd_detection **detections;
    size_t n_objects, n_detections;
    double *overlaps; /* [n_detections][n_objects] */
    size_t *order;    /* [n_objects]: those that count first */
    bool *ignored;    /* [n_objects], by object */
    bool *taken;      /* [n_objects] */
} nd_match_image;

/* --- one image */

static bool match_is_ignored(const nd_object *object, int area) {
    return object->crowd || object->difficult || object->area < nd_match_ranges[area].least ||
           object->area > nd_match_ranges[area].most;
}

static void match_order(nd_match_image *image, int area) {
    size_t next = 0;
    for (size_t i = 0; i < image->n_objects; i++)
        image->ignored[i] = match_is_ignored(image->objects[i], area);
    for (int ignored = 0; ignored < 2; ignored++)
        for (size_t i = 0; i < image->n_objects; i++)
            if (image->ignored[i] == ignored) image->order[next++] = i;
}

/* The object that a detection takes at this overlap; n_objects for none. Of equal overlaps the last one. */
static size_t match_best(const nd_match_image *image, const double *overlaps, double least) {
    size_t best = image->n_objects;
    for (size_t k = 0; k < image->n_objects; k++) {
        const size_t i = image->order[k];
        if (image->taken[i] && !image->objects[i]->crowd) continue;
        if (best < image->n_objects && !image->ignored[best] && image->ignored[i]) break;
        if (overlaps[i] < least) continue;
        least = overlaps[i];
        best = i;
    }
    return best;
}

static void match_image_coco(nd_match_image *image, nd_match *out) {
    for (int area = 0; area < nd_match_areas; area++) {
        match_order(image, area);
        for (int t = 0; t < nd_match_overlaps; t++) {
            const double least = fmin(nd_match_overlap(t), 1 - 1e-10);
            memset(image->taken, 0, image->n_objects * sizeof *image->taken);
            for (size_t d = 0; d < image->n_detections; d++) {
                const nd_box *box = &image->detections[d]->box;
                const double size = box->width * box->height;
                const size_t best = match_best(image, image->overlaps + d * image->n_objects, least);
                const bool found = best < image->n_objects;
                const bool ignored =
                    found ? image->ignored[best]
                          : size < nd_match_ranges[area].least || size > nd_match_ranges[area].most;
                if (found) image->taken[best] = true;
                if (found && !area && !t) out[d].overlap = image->overlaps[d * image->n_objects + best];
                out[d].matched[area] |= (uint16_t)((unsigned)found << t);
                out[d].ignored[area] |= (uint16_t)((unsigned)ignored << t);
            }
        }
    }
}

static void match_image_voc(nd_match_image *image, nd_match *out) {
    memset(image->taken, 0, image->n_objects * sizeof *image->taken);
    for (size_t d = 0; d < image->n_detections; d++) {
        const double *overlaps = image->overlaps + d * image->n_objects;
        size_t best = 0;
        for (size_t i = 1; i < image->n_objects; i++)
            if (overlaps[i] > overlaps[best]) best = i;
        if (!image->n_objects || overlaps[best] < nd_match_overlap(0)) continue;
        out[d].ignored[0] = image->objects[best]->difficult || image->objects[best]->crowd;
        out[d].matched[0] = out[d].ignored[0] || !image->taken[best];
        image->taken[best] = true;
        out[d].overlap = overlaps[best];
    }
}

/* --- one class */

typedef struct nd_match_scored {
    const nd_detection *detection;
    size_t index;
} nd_match_scored;

static int match_compare_scored(const void *left, const void *right) {
    const nd_match_scored *a = left, *b = right;
    if (a->detection->score != b->detection->score) return a->detection->score > b->detection->score ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int match_compare(const void *left, const void *right) {
    const nd_match *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->image != b->image) return a->image < b->image ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

/* Memory for the largest image, used for each. */
typedef struct nd_match_scratch {
    nd_match_image image;
    nd_match_scored *scored;
    size_t most_detections; /* of one image and class: COCO's 100 best, VOC all */
} nd_match_scratch;

static void match_collect(nd_match_scratch *scratch, const nd_detected *from, int32_t label) {
    nd_match_image *image = &scratch->image;
    size_t scored = 0;
    image->n_objects = image->n_detections = 0;
    for (size_t i = 0; i < from->n_objects; i++)
        if (from->objects[i].label == label) image->objects[image->n_objects++] = &from->objects[i];
    for (size_t i = 0; i < from->n_detections; i++)
        if (from->detections[i].label == label)
            scratch->scored[scored++] = (nd_match_scored){&from->detections[i], i};
    if (scored) qsort(scratch->scored, scored, sizeof *scratch->scored, match_compare_scored);
    for (size_t i = 0; i < scored && i < scratch->most_detections; i++)
        image->detections[image->n_detections++] = scratch->scored[i].detection;
}

static nd_status match_overlaps(nd_match_image *image, nd_match_rule rule) {
    free(image->overlaps);
    image->overlaps = nd_alloc_array(image->n_detections, image->n_objects * sizeof *image->overlaps);
    ND_REQUIRE(image->overlaps, nd_status_memory, "no memory for the overlaps of %zu detections",
               image->n_detections);
    double *next = image->overlaps;
    for (size_t d = 0; d < image->n_detections; d++)
        for (size_t i = 0; i < image->n_objects; i++) {
            const nd_object *object = image->objects[i];
            *next++ = nd_box_overlap(image->detections[d]->box, object->box,
                                     object->crowd && rule == nd_match_coco);
        }
    return nd_status_ok;
}

static nd_status match_add(nd_matches *matches, nd_match_scratch *scratch, int64_t index,
                           nd_match_class *out) {
    nd_match_image *image = &scratch->image;
    if (!image->n_objects && !image->n_detections) return nd_status_ok;
    ND_TRY(match_overlaps(image, matches->rule));
    nd_match *found = out->matches + out->n_matches;
    for (size_t d = 0; d < image->n_detections; d++)
        found[d] = (nd_match){.score = image->detections[d]->score, .image = index, .place = (int32_t)d};
    out->n_matches += image->n_detections;
    (matches->rule == nd_match_coco ? match_image_coco : match_image_voc)(image, found);
    for (size_t i = 0; i < image->n_objects; i++) {
        nd_match_object *object = &out->objects[out->n_objects++];
        object->image = index;
        for (int area = 0; area < nd_match_areas; area++)
            object->counts[area] = !match_is_ignored(image->objects[i], area);
    }
    return nd_status_ok;
}

/* How many there are of each class, and in the largest image. */
typedef struct nd_match_counts {
    size_t *detections, *objects; /* [classes] */
    size_t most_detections, most_objects;
} nd_match_counts;

static nd_status match_count(const nd_detected *images, int64_t count, int32_t classes,
                             nd_match_counts *counts) {
    for (int64_t i = 0; i < count; i++) {
        const nd_detected *image = &images[i];
        for (size_t k = 0; k < image->n_objects; k++) {
            const int32_t label = image->objects[k].label;
            ND_REQUIRE(label >= 0 && label < classes, nd_status_usage,
                       "object of class %d; classes are 0 to %d", (int)label, (int)classes - 1);
            counts->objects[label]++;
        }
        for (size_t k = 0; k < image->n_detections; k++) {
            const nd_detection *detection = &image->detections[k];
            ND_REQUIRE(detection->label >= 0 && detection->label < classes, nd_status_usage,
                       "detection of class %d; classes are 0 to %d", (int)detection->label, (int)classes - 1);
            ND_REQUIRE(!isnan(detection->score), nd_status_usage, "a detection's score is not a number");
            counts->detections[detection->label]++;
        }
        if (counts->most_objects < image->n_objects) counts->most_objects = image->n_objects;
        if (counts->most_detections < image->n_detections) counts->most_detections = image->n_detections;
    }
    return nd_status_ok;
}

static nd_status match_scratch_open(const nd_match_counts *counts, nd_match_rule rule,
                                    nd_match_scratch *scratch) {
    nd_match_image *image = &scratch->image;
    image->objects = nd_alloc_array(counts->most_objects, sizeof *image->objects);
    image->order = nd_alloc_array(counts->most_objects, sizeof *image->order);
    image->ignored = nd_alloc_array(counts->most_objects, sizeof *image->ignored);
    image->taken = nd_alloc_array(counts->most_objects, sizeof *image->taken);
    image->detections = nd_alloc_array(counts->most_detections, sizeof *image->detections);
    scratch->scored = nd_alloc_array(counts->most_detections, sizeof *scratch->scored);
    scratch->most_detections = rule == nd_match_coco ? nd_match_detections_max : SIZE_MAX;
    ND_REQUIRE(image->objects && image->order && image->ignored && image->taken && image->detections &&
                   scratch->scored,
               nd_status_memory, "no memory for an image of %zu detections", counts->most_detections);
    return nd_status_ok;
}

static void match_scratch_close(nd_match_scratch *scratch) {
    nd_match_image *image = &scratch->image;
    free(image->objects);
    free(image->order);
    free(image->ignored);
    free(image->taken);
    free(image->detections);
    free(image->overlaps);
    free(scratch->scored);
}

nd_status nd_matches_find(nd_match_rule rule, const nd_detected *images, int64_t count, int32_t classes,
                          nd_matches *out) {
    nd_status status;
    nd_match_scratch scratch = {0};
    *out = (nd_matches){.rule = rule, .images = count, .classes = classes};
    nd_match_counts counts = {.detections = nd_alloc_array((size_t)classes, sizeof *counts.detections),
                              .objects = nd_alloc_array((size_t)classes, sizeof *counts.objects)};
    out->of = nd_arena_alloc(&out->arena, (size_t)classes * sizeof *out->of);
    ND_REQUIRE_DONE(counts.detections && counts.objects && out->of, nd_status_memory,
                    "no memory for %d classes", (int)classes);
    ND_TRY_DONE(match_count(images, count, classes, &counts));
    ND_TRY_DONE(match_scratch_open(&counts, rule, &scratch));
    for (int32_t label = 0; label < classes; label++) {
        nd_match_class *of = &out->of[label];
        of->matches = nd_arena_alloc(&out->arena, counts.detections[label] * sizeof *of->matches);
        of->objects = nd_arena_alloc(&out->arena, counts.objects[label] * sizeof *of->objects);
        ND_REQUIRE_DONE(of->matches && of->objects, nd_status_memory, "no memory for %zu detections",
                        counts.detections[label]);
        if (!counts.detections[label] && !counts.objects[label]) continue;
        for (int64_t i = 0; i < count; i++) {
            match_collect(&scratch, &images[i], label);
            ND_TRY_DONE(match_add(out, &scratch, i, of));
        }
        if (of->n_matches) qsort(of->matches, of->n_matches, sizeof *of->matches, match_compare);
    }
done:
    match_scratch_close(&scratch);
    free(counts.detections);
    free(counts.objects);
    if (status) nd_matches_free(out);
    return status;
}

void nd_matches_free(nd_matches *matches) {
    nd_arena_free(&matches->arena);
    *matches = (nd_matches){0};
}
