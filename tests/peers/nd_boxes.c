/* Measures detections that scripts write, so that they can set nd beside other evaluators.
 *
 * usage: nd_boxes < FILE
 * FILE: "IMAGES CLASSES", then lines "o IMAGE CLASS X Y WIDTH HEIGHT AREA CROWD DIFFICULT" and
 * "d IMAGE CLASS X Y WIDTH HEIGHT SCORE", each kind in the order of the images. Prints "NAME VALUE" for every
 * measure, and "CLASS VALUE" for the 11-point precision of every class. */
#include "eval/detect/measures.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct nd_boxes {
    nd_detected *images;
    nd_object *objects;
    nd_detection *detections;
    size_t n_objects, n_detections;
    int64_t n;
    int32_t classes;
} nd_boxes;

enum { nd_boxes_max = 1 << 16 };

static nd_status boxes_open(nd_boxes *self) {
    ND_REQUIRE(scanf("%" SCNd64 " %" SCNd32, &self->n, &self->classes) == 2, nd_status_format, "no header");
    self->images = nd_alloc_array((size_t)self->n, sizeof *self->images);
    self->objects = nd_alloc_array(nd_boxes_max, sizeof *self->objects);
    self->detections = nd_alloc_array(nd_boxes_max, sizeof *self->detections);
    ND_REQUIRE(self->images && self->objects && self->detections, nd_status_memory, "no memory");
    return nd_status_ok;
}

static nd_status boxes_object(nd_boxes *self, int64_t image, nd_object object) {
    int crowd, difficult;
    ND_REQUIRE(scanf("%lf %d %d", &object.area, &crowd, &difficult) == 3 && self->n_objects < nd_boxes_max,
               nd_status_format, "object %zu", self->n_objects);
    object.crowd = crowd;
    object.difficult = difficult;
    nd_detected *of = &self->images[image];
    if (!of->n_objects++) of->objects = self->objects + self->n_objects;
    self->objects[self->n_objects++] = object;
    return nd_status_ok;
}

static nd_status boxes_detection(nd_boxes *self, int64_t image, nd_detection detection) {
    ND_REQUIRE(scanf("%lf", &detection.score) == 1 && self->n_detections < nd_boxes_max, nd_status_format,
               "detection %zu", self->n_detections);
    nd_detected *of = &self->images[image];
    if (!of->n_detections++) of->detections = self->detections + self->n_detections;
    self->detections[self->n_detections++] = detection;
    return nd_status_ok;
}

static nd_status boxes_read(nd_boxes *self) {
    char kind;
    int64_t image;
    int32_t label;
    nd_box box;
    ND_TRY(boxes_open(self));
    while (scanf(" %c %" SCNd64 " %" SCNd32 " %lf %lf %lf %lf", &kind, &image, &label, &box.x, &box.y,
                 &box.width, &box.height) == 7) {
        ND_REQUIRE(image >= 0 && image < self->n, nd_status_format, "image %" PRId64, image);
        if (kind == 'o')
            ND_TRY(boxes_object(self, image, (nd_object){.box = box, .label = label}));
        else
            ND_TRY(boxes_detection(self, image, (nd_detection){.box = box, .label = label}));
    }
    ND_REQUIRE(feof(stdin), nd_status_format, "neither object nor detection");
    return nd_status_ok;
}

static nd_status boxes_print(const nd_boxes *self) {
    nd_status status = nd_status_ok;
    nd_matches matches[2] = {0};
    double *classes = nd_alloc_array((size_t)self->classes, sizeof *classes);
    ND_REQUIRE_DONE(classes, nd_status_memory, "no memory");
    for (int rule = 0; rule < 2; rule++)
        ND_TRY_DONE(
            nd_matches_find((nd_match_rule)rule, self->images, self->n, self->classes, &matches[rule]));
    for (int i = 0; i < nd_measure_count; i++) {
        double value;
        ND_TRY_DONE(nd_measure_all(&matches[nd_measure_rule((nd_measure)i)], (nd_measure)i, &value));
        printf("%s %.17g\n", nd_measure_name((nd_measure)i), value);
    }
    ND_TRY_DONE(nd_measure_classes(&matches[nd_match_voc], nd_measure_voc2007, classes));
    for (int32_t label = 0; label < self->classes; label++) printf("%d %.17g\n", (int)label, classes[label]);
done:
    nd_matches_free(&matches[0]);
    nd_matches_free(&matches[1]);
    free(classes);
    return status;
}

int main(void) {
    nd_boxes self = {0};
    nd_status status = boxes_read(&self);
    if (!status) status = boxes_print(&self);
    if (status) fprintf(stderr, "%s\n", nd_error());
    free(self.images);
    free(self.objects);
    free(self.detections);
    return nd_status_exit_code(status);
}
