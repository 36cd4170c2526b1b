#include "eval/detect/detections.h"

nd_status nd_detections_add(nd_detections *detections, const nd_detection *detection) {
    if (!(detection->box.width > 0 && detection->box.height > 0)) return nd_status_ok;
    nd_detection *items =
        nd_array_grow(detections->items, detections->count, &detections->capacity, sizeof *items);
    ND_REQUIRE(items, nd_status_memory, "no memory for %zu detections", detections->count);
    detections->items = items;
    items[detections->count++] = *detection;
    return nd_status_ok;
}
