/* VGG16's convolutions as device.sh has them timed: fp16, batch 32, T = 2 and 3, cold, tuned, one session.
 * Over the mock (dry=1: nothing is computed, so nothing can be checked) it is a question of how long choosing
 * takes, and of when rows come: a layer's before the next one is measured. nd_layers_time */
#include "bench/bench.h"
#include "run/plugins.h"

#include <stdio.h>
#include <string.h>

typedef struct nd_layers_seen {
    int64_t rows, stacks, sessions;
    bool behind; /* a layer was begun before the rows of all before it were there */
} nd_layers_seen;

/* dense; fused and best for two T */
enum { nd_layers_rows = 5 };

/* In place of the library's, by the linker: see above. */
nd_status __wrap_nd_rig_check(nd_rig *rig);

nd_status __wrap_nd_rig_check(nd_rig *rig) {
    (void)rig;
    return nd_status_ok;
}

static nd_status layers_row(void *user, const nd_row *row) {
    nd_layers_seen *seen = user;
    if (!strcmp(row->values[nd_field_layer].text, "conv stack"))
        seen->stacks++;
    else
        seen->rows++;
    return nd_status_ok;
}

/* Asked before every session: of layer number `sessions`, the first of which stays dense. */
static bool layers_stop(void *user) {
    nd_layers_seen *seen = user;
    const int64_t least = seen->sessions ? 1 + nd_layers_rows * (seen->sessions - 1) : 0;
    seen->behind = seen->behind || seen->rows < least;
    seen->sessions++;
    return false;
}

static nd_status layers_measure(nd_backend *backend, nd_layers_seen *seen) {
    static const int64_t terms[] = {2, 3};
    const nd_suite *suite = nd_suite_find("vgg16");
    nd_row common = {0};
    nd_bench_settings settings = {.backend = backend,
                                  .precision = nd_precision_fp16,
                                  .batch = 32,
                                  .terms = terms,
                                  .n_terms = 2,
                                  .forms = {[nd_form_dwpw] = true},
                                  .cold = true,
                                  .layouts = true,
                                  .timing = nd_timing_defaults(),
                                  .peaks = {.gflops = 1, .gbps = 1},
                                  .common = &common,
                                  .row = layers_row,
                                  .stop = layers_stop,
                                  .user = seen};
    settings.implementations[nd_implementation_dense] = settings.implementations[nd_implementation_fused] =
        settings.implementations[nd_implementation_best] = true;
    settings.timing.sessions = 1;
    ND_TRY(nd_bench_layers(suite->layers, suite->n_layers, &settings));
    ND_REQUIRE(seen->rows == 1 + (int64_t)(suite->n_layers - 1) * nd_layers_rows, nd_status_failed,
               "%lld rows of %zu layers", (long long)seen->rows, suite->n_layers);
    ND_REQUIRE(seen->stacks == nd_layers_rows && !seen->behind, nd_status_failed, "%lld stacks, rows %s",
               (long long)seen->stacks, seen->behind ? "behind" : "in time");
    return nd_status_ok;
}

int main(void) {
    const nd_backend_settings settings = {.tune = true};
    nd_layers_seen seen = {0};
    nd_backend *backend;
    nd_status status = nd_backend_open("cuda", &settings, &backend);
    if (!status) {
        status = layers_measure(backend, &seen);
        nd_backend_close(backend);
    }
    if (status) fprintf(stderr, "%s\n", nd_error());
    printf("%lld rows of layers, %lld of stacks\n", (long long)seen.rows, (long long)seen.stacks);
    return status != nd_status_ok;
}
