/* Sets of pictures with annotated boxes. Private to this folder, and to what fuzzes it. */
#ifndef ND_DATASETS_ANNOTATED_H
#define ND_DATASETS_ANNOTATED_H

#include "datasets/source.h"

/* Where an annotation stands, for messages: "FILE:LINE". */
typedef struct nd_place {
    const char *path;
    int64_t line;
} nd_place;

/* A box may reach this far out of its picture: annotations are rounded, and some count pixels from 0 where
 * they should from 1. */
enum { nd_box_tolerance = 1 };

/* Whether numbers and size make sense, the picture being width x height (0 where that is not known):
 * nd_status_format naming the place. */
nd_status nd_box_check(nd_box box, double width, double height, nd_place place);

/* A growing list, sorted into pictures at the end. A zeroed struct is empty. */
typedef struct nd_annotated_object {
    int64_t picture;
    nd_object object;
} nd_annotated_object;

typedef struct nd_annotated {
    nd_annotated_object *items;
    size_t count, capacity;
} nd_annotated;

nd_status nd_annotated_add(nd_annotated *annotated, int64_t picture, const nd_object *object);

/* Gives each picture of the set its objects, in the order in which they were added, and frees the list. */
nd_status nd_annotated_hand_over(nd_annotated *annotated, nd_files *files);

#endif
