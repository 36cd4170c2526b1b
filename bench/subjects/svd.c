#include "bench/bench.h"

#include "base/machine/clock.h"
#include "base/rng.h"
#include "bench/timing/slowdown.h"

#include <stdlib.h>

enum { warm_runs = 3, timed_runs = 15 };

/* One batch of slices, in host memory as the backend takes it. */
typedef struct slices {
    int64_t count, m, n;
    float *a;
    double *sigma, *v;
    const char *engine; /* of the last run */
    double ns[timed_runs];
} slices;

static nd_status slices_make(const nd_bench_layer *layer, nd_form form, slices *s) {
    const bool dwpw = form == nd_form_dwpw;
    const nd_conv *conv = &layer->conv;
    *s = (slices){
        .count = dwpw ? conv->ni : conv->no, .m = dwpw ? conv->no : conv->ni, .n = nd_conv_taps(conv)};
    const size_t count = (size_t)s->count, n = (size_t)s->n, elements = count * (size_t)s->m * n;
    nd_rng rng = nd_rng_seed(1);
    s->a = nd_alloc_array(elements, sizeof *s->a);
    s->sigma = nd_alloc_array(count * n, sizeof *s->sigma);
    s->v = nd_alloc_array(count * n * n, sizeof *s->v);
    ND_REQUIRE(s->a && s->sigma && s->v, nd_status_memory, "bench: %s: out of memory", conv->name);
    for (size_t i = 0; i < elements; i++) s->a[i] = (float)nd_rng_normal(&rng);
    return nd_status_ok;
}

static void slices_free(slices *s) {
    free(s->a);
    free(s->sigma);
    free(s->v);
}

static nd_status decompose(nd_backend *backend, slices *s, double *ns) {
    const nd_linalg *linalg = &backend->table->linalg;
    const double start = nd_seconds();
    ND_TRY(linalg->svd(backend, s->count, s->m, s->n, s->a, s->sigma, s->v));
    *ns = 1e9 * (nd_seconds() - start);
    if (!linalg->svd_info) return nd_status_ok;
    nd_svd_info info;
    ND_TRY(linalg->svd_info(backend, &info));
    s->engine = info.engine;
    *ns = info.device_ns;
    return nd_status_ok;
}

static nd_status time_slices(nd_backend *backend, slices *s) {
    for (int run = -warm_runs; run < timed_runs; run++)
        ND_TRY(decompose(backend, s, &s->ns[run < 0 ? 0 : run]));
    return nd_status_ok;
}

static nd_status emit(const nd_bench_settings *settings, nd_form form, nd_row *row) {
    nd_row_set_text(row, nd_field_method, nd_form_name(form));
    nd_row_set_text(row, nd_field_form, nd_form_name(form));
    nd_row_set_text(row, nd_field_operation, "svd");
    const nd_status status = settings->row(settings->user, row);
    nd_row_free(row);
    return status;
}

static nd_status emit_slices(const nd_bench_settings *settings, const nd_bench_layer *layer, nd_form form,
                             const slices *s, double *median) {
    nd_row row = {0};
    nd_summary summary;
    ND_TRY(nd_stats_summary(s->ns, timed_runs, &summary));
    *median = summary.median;
    nd_row_copy(&row, settings->common);
    nd_bench_row_clocks(&row, settings);
    nd_bench_row_shape(&row, layer);
    if (s->engine) nd_row_set_text(&row, nd_field_engine, s->engine);
    nd_row_set_real(&row, nd_field_ns_median, summary.median);
    nd_row_set_real(&row, nd_field_ns_q1, summary.q1);
    nd_row_set_real(&row, nd_field_ns_q3, summary.q3);
    nd_row_set_real(&row, nd_field_ns_min, summary.min);
    nd_row_set_reals(&row, nd_field_samples_ns, s->ns, timed_runs);
    return emit(settings, form, &row);
}

static nd_status bench_form(const nd_bench_layer *layers, size_t n, const nd_bench_settings *settings,
                            nd_form form) {
    double all = 0;
    int64_t counted = 0;
    for (size_t i = 0; i < n; i++) {
        slices s;
        double median;
        if (layers[i].dense) continue;
        nd_progress_report(settings->progress, "layers", (int64_t)i, (int64_t)n);
        nd_status status = slices_make(&layers[i], form, &s);
        if (!status) status = time_slices(settings->backend, &s);
        if (!status) status = emit_slices(settings, &layers[i], form, &s, &median);
        slices_free(&s);
        ND_TRY(status);
        all += (double)layers[i].layers * median;
        counted += layers[i].layers;
    }
    nd_progress_report(settings->progress, "layers", (int64_t)n, (int64_t)n);
    ND_REQUIRE(counted, nd_status_usage, "bench: no layer is decoupled");
    nd_row row = {0};
    nd_row_copy(&row, settings->common);
    nd_bench_row_clocks(&row, settings);
    nd_row_set_text(&row, nd_field_layer, "all layers");
    nd_row_set_int(&row, nd_field_layers, counted);
    nd_row_set_real(&row, nd_field_ns_median, all);
    return emit(settings, form, &row);
}

nd_status nd_bench_svd(const nd_bench_layer *layers, size_t n, const nd_bench_settings *settings) {
    for (int form = 0; form < nd_form_count; form++)
        if (settings->forms[form]) ND_TRY(bench_form(layers, n, settings, (nd_form)form));
    return nd_status_ok;
}
