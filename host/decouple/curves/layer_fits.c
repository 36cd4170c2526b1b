#include "decouple/curves/layer_fits.h"

#include "base/parallel.h"
#include "decouple/fit/refit.h"

#include <stdlib.h>

void nd_layer_fits_add(nd_layer_fits *to, nd_layer_fit fit) {
    fit.cost = nd_method_macs(fit.method, &to->layer->conv, to->ranks, fit.rank);
    to->list[to->n++] = fit;
}

static int costlier_first(const void *a, const void *b) {
    const nd_layer_fit *p = a, *q = b;
    return (p->cost < q->cost) - (p->cost > q->cost);
}

static nd_status fit_one(void *context, int64_t i) {
    const nd_layer_fits *in = context;
    const nd_layer_fit *fit = &in->list[i];
    nd_backend *backend = in->backend;
    const nd_conv *conv = &in->layer->conv;
    nd_chain chain = {0};
    nd_status status = fit->method->decompose(backend, conv, in->ranks, fit->rank, in->split->fit, &chain);
    if (!status && fit->judge) status = fit->judge(in->split, backend, conv, &chain, fit->result);
    if (fit->kept)
        *fit->kept = chain;
    else
        nd_chain_free(&chain);
    return status;
}

/* Threads within a fit gain less than fits at once: its channels come one after the other. Each allocates
 * three matrices of its features, which are at most as many as its patch has numbers, and some kernels. */
nd_status nd_layer_fits_run(nd_layer_fits *list) {
    if (!list->n) return nd_status_ok;
    const nd_moments *m = list->split->fit;
    nd_backend *backend = list->backend;
    const double each = 8 * (3 * (double)m->k * (double)m->k + 6 * (double)m->no * (double)m->k);
    const double room = (double)nd_memory_find().left / 4 / each;
    const int64_t most = !backend->table->linalg.concurrent ? 1 : room < list->n ? (int64_t)room : list->n;
    const double *w = NULL; /* the least-squares kernel that all begin with stays with the moments */
    ND_TRY(nd_refit_kernel(backend, &list->layer->conv, m, &w));
    qsort(list->list, (size_t)list->n, sizeof *list->list, costlier_first);
    return nd_parallel_tasks(list->n, most, fit_one, list);
}
