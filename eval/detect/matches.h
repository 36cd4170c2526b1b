/* Which detections found an object: what every measure of detectors is computed from. */
#ifndef ND_EVAL_DETECT_MATCHES_H
#define ND_EVAL_DETECT_MATCHES_H

#include "base/boxes.h"
#include "base/memory.h"

typedef struct nd_detection {
    nd_box box;
    double score; /* a number */
    int32_t label;
} nd_detection;

/* One image: what is in it, and what a network found. */
typedef struct nd_detected {
    const nd_object *objects;
    size_t n_objects;
    const nd_detection *detections; /* in any order; of equal scores the earlier one comes first */
    size_t n_detections;
} nd_detected;

/* Overlaps 0.50, 0.55 ... 0.95, and the ranges of areas, bounds included: all, small (to 32^2), medium, large
 * (from 96^2 pixels). COCO's. */
enum { nd_match_overlaps = 10, nd_match_areas = 4, nd_match_detections_max = 100 };
double nd_match_overlap(int index);

/* A detection; bit t of the masks is overlap t. One that is neither matched nor ignored is wrong. */
typedef struct nd_match {
    double score;
    int64_t image;
    int32_t place; /* by score among those of its class in the image */
    uint16_t matched[nd_match_areas], ignored[nd_match_areas];
    double overlap; /* with the object taken at overlap 0 in area 0; 0 where there is none */
} nd_match;

typedef struct nd_match_object {
    int64_t image;
    bool counts[nd_match_areas]; /* to be found; else nothing is lost by missing it */
} nd_match_object;

typedef struct nd_match_class {
    nd_match *matches; /* by descending score, then image, then place */
    nd_match_object *objects;
    size_t n_matches, n_objects;
} nd_match_class;

/* VOC: area 0 and overlap 0 alone are filled. */
typedef enum nd_match_rule { nd_match_coco, nd_match_voc } nd_match_rule;

typedef struct nd_matches {
    nd_match_rule rule;
    int64_t images;
    int32_t classes;
    nd_match_class *of; /* [classes] */
    nd_arena arena;
} nd_matches;

/* COCO: as pycocotools' COCOeval.evaluateImg: in each image and class the 100 best detections in the order of
 * their scores each take the object not taken yet that overlaps most, ignored ones (crowds, difficult
 * objects, those outside the range of areas) only where no other will do; a crowd may be taken many times.
 * VOC: as VOCdevkit's VOCevaldet.m (2007 to 2012): each takes the object that it overlaps most; if that is
 * difficult nothing happens, if it is taken already the detection is wrong. VOC has no crowds: one is a
 * difficult object.
 * Labels outside [0, classes) and scores that are no numbers are nd_status_usage. */
nd_status nd_matches_find(nd_match_rule rule, const nd_detected *images, int64_t count, int32_t classes,
                          nd_matches *out);
void nd_matches_free(nd_matches *matches); /* leaves it empty */

#endif
