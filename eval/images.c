#include "eval/images.h"

#include <string.h>

nd_status nd_images_fit(const nd_graph *graph, const nd_batches *batches) {
    const nd_value *image = &graph->values[graph->inputs[0]];
    const int64_t stream[] = {batches->channels, batches->height, batches->width};
    char wanted[64], given[64];
    ND_REQUIRE(image->rank == 4 && !memcmp(image->dims + 1, stream, sizeof stream), nd_status_usage,
               "%s takes images of %s, but %s with %s gives %s", graph->name,
               nd_dims_format(image->rank - 1, image->dims + 1, wanted, sizeof wanted), batches->name,
               batches->preprocess, nd_dims_format(3, stream, given, sizeof given));
    return nd_status_ok;
}
