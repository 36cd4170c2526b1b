/* What a network finds in one image. */
#ifndef ND_EVAL_DETECT_DETECTIONS_H
#define ND_EVAL_DETECT_DETECTIONS_H

#include "eval/detect/matches.h"

/* A growing list. A zeroed struct is empty. */
typedef struct nd_detections {
    nd_detection *items;
    size_t count, capacity;
} nd_detections;

/* Copies it. A box without area, as networks clip them at borders, finds nothing: it overlaps no box, not
 * even itself, and is left out. */
nd_status nd_detections_add(nd_detections *detections, const nd_detection *detection);

#endif
