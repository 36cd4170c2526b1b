#include "bench/timing/displace.h"

enum { line_bytes = 64, pad_lines = 1024 };

nd_displacer nd_displacer_new(nd_backend *backend, uint64_t seed) {
    return (nd_displacer){.backend = backend, .rng = nd_rng_seed(seed)};
}

nd_status nd_displace(nd_displacer *displacer) {
    nd_backend *backend = displacer->backend;
    if (displacer->n == nd_pads_max) return nd_status_ok;
    size_t bytes = line_bytes * (size_t)(1 + nd_rng_below(&displacer->rng, pad_lines));
    ND_TRY(backend->table->allocate(backend, bytes, &displacer->pads[displacer->n]));
    displacer->n++;
    return nd_status_ok;
}

void nd_displacer_free(nd_displacer *displacer) {
    for (int i = 0; i < displacer->n; i++) displacer->backend->table->free(displacer->pads[i]);
    displacer->n = 0;
}
