#include "datasets/annotations/annotated.h"

#include <math.h>
#include <stdlib.h>

nd_status nd_box_check(nd_box box, double width, double height, nd_place place) {
    const double right = box.x + box.width, below = box.y + box.height;
    ND_REQUIRE(isfinite(right) && isfinite(below) && isfinite(box.x) && isfinite(box.y), nd_status_format,
               "%s:%lld: a box whose bounds are no numbers", place.path, (long long)place.line);
    ND_REQUIRE(box.width >= 0 && box.height >= 0, nd_status_format, "%s:%lld: a box of %g x %g pixels",
               place.path, (long long)place.line, box.width, box.height);
    const bool inside = box.x >= -nd_box_tolerance && box.y >= -nd_box_tolerance &&
                        (width <= 0 || right <= width + nd_box_tolerance) &&
                        (height <= 0 || below <= height + nd_box_tolerance);
    ND_REQUIRE(inside, nd_status_format,
               "%s:%lld: the box from %g, %g to %g, %g reaches out of its picture of %g x %g pixels",
               place.path, (long long)place.line, box.x, box.y, right, below, width, height);
    return nd_status_ok;
}

nd_status nd_annotated_add(nd_annotated *annotated, int64_t picture, const nd_object *object) {
    nd_annotated_object *items =
        nd_array_grow(annotated->items, annotated->count, &annotated->capacity, sizeof *items);
    ND_REQUIRE(items, nd_status_memory, "no memory for %zu annotations", annotated->count);
    annotated->items = items;
    items[annotated->count++] = (nd_annotated_object){picture, *object};
    return nd_status_ok;
}

nd_status nd_annotated_hand_over(nd_annotated *annotated, nd_files *files) {
    nd_status status = nd_status_ok;
    const size_t pictures = (size_t)nd_files_source(files)->count;
    size_t *first = nd_alloc_array(pictures + 1, sizeof *first);
    nd_object *objects = nd_alloc_array(annotated->count, sizeof *objects);
    ND_REQUIRE_DONE(first && objects, nd_status_memory, "no memory for %zu annotations", annotated->count);
    for (size_t i = 0; i < annotated->count; i++) first[annotated->items[i].picture + 1]++;
    for (size_t i = 0; i < pictures; i++) first[i + 1] += first[i];
    for (size_t i = 0; i < annotated->count; i++)
        objects[first[annotated->items[i].picture]++] = annotated->items[i].object;
    /* first[i] is where the next picture begins now. */
    for (size_t i = 0, from = 0; i < pictures; from = first[i++])
        ND_TRY_DONE(nd_files_set_objects(files, (int64_t)i, objects + from, first[i] - from));
done:
    free(first);
    free(objects);
    free(annotated->items);
    *annotated = (nd_annotated){0};
    return status;
}
