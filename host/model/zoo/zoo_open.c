#include "model/zoo/zoo_layers.h"
#include "model/zoo/zoo_weights.h"

nd_status nd_zoo_open(const char *arch, const char *path, nd_graph **out) {
    *out = NULL;
    const nd_zoo_entry *entry = nd_zoo_find(arch);
    ND_REQUIRE(entry, nd_status_usage, "no architecture '%.100s'; `nd zoo` lists those there are", arch);
    if (!path) {
        uint64_t seed = 1;
        return nd_zoo_build(entry, nd_zoo_random, &seed, out);
    }
    nd_status status;
    nd_graph *graph = NULL;
    nd_zoo_weights *weights;
    nd_zoo_entry sized = *entry;
    ND_TRY(nd_zoo_weights_open(path, entry->plan, &weights));
    const int64_t classes = nd_zoo_weights_classes(weights);
    if (classes > 0) sized.classes = classes;
    ND_TRY_DONE(nd_zoo_build(&sized, nd_zoo_weights_source, weights, &graph));
    ND_TRY_DONE(nd_zoo_weights_judge(weights, arch));
    *out = graph;
    graph = NULL;
done:
    nd_graph_free(graph);
    nd_zoo_weights_close(weights);
    return status;
}
