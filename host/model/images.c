#include "model/images.h"

#include <string.h>

static bool are_channels(int64_t length) {
    return length == 1 || length == 3 || length == 4;
}

nd_image_input nd_image_input_of(const nd_value *value) {
    if (value->rank != 4) return (nd_image_input){.channels = -1};
    const int64_t *d = value->dims;
    const bool last = are_channels(d[3]) && !are_channels(d[1]);
    return last ? (nd_image_input){d[3], d[1], d[2], true} : (nd_image_input){d[1], d[2], d[3], false};
}

int64_t *nd_image_size(nd_value *value) {
    if (value->rank != 4) return NULL;
    return value->dims + (nd_image_input_of(value).channels_last ? 1 : 2);
}

nd_status nd_images_fit(const nd_graph *graph, const nd_batches *batches) {
    const nd_value *image = &graph->values[graph->inputs[0]];
    const int64_t planes[] = {batches->channels, batches->height, batches->width},
                  pixels[] = {batches->height, batches->width, batches->channels},
                  *stream = batches->channels_last ? pixels : planes;
    char wanted[64], given[64];
    ND_REQUIRE(image->rank == 4 && !memcmp(image->dims + 1, stream, sizeof planes), nd_status_usage,
               "%s takes images of %s, but %s with %s gives %s", graph->name,
               nd_dims_format(image->rank - 1, image->dims + 1, wanted, sizeof wanted), batches->name,
               batches->preprocess, nd_dims_format(3, stream, given, sizeof given));
    return nd_status_ok;
}
