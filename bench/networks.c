#include "bench/bench.h"

#include "base/rng.h"
#include "bench/slowdown.h"
#include "run/executor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A network ready to run on images that were uploaded once. */
typedef struct plan {
    const nd_bench_network *network;
    nd_exec *exec;
    char engine[192];
} plan;

static nd_fuse fuse_of(nd_impl impl) {
    return impl == nd_impl_unfused ? nd_fuse_off : impl == nd_impl_fused ? nd_fuse_forced : nd_fuse_auto;
}

static nd_status sample_plan(void *context, int64_t repeats, double *ns) {
    plan *p = context;
    double planted = p->network->impl == nd_impl_dense ? 0 : nd_slowdown_planted();
    double start = nd_slowdown_now();
    for (int64_t i = 0; i < repeats; ++i) ND_TRY(nd_exec_start(p->exec));
    ND_TRY(nd_exec_wait(p->exec));
    if (planted > 0) nd_slowdown_spin(planted * (nd_slowdown_now() - start));
    *ns = 1e9 * (nd_slowdown_now() - start);
    return nd_status_ok;
}

static int64_t value_count(const nd_graph *graph, int value, int64_t batch) {
    const nd_value *v = &graph->values[value];
    int64_t count = nd_dims_count(v->rank, v->dims);
    return v->rank > 0 && v->dims[0] > 0 ? count / v->dims[0] * batch : count;
}

static nd_status open_exec(const nd_bench_settings *settings, const nd_graph *graph, nd_fuse fuse, bool plain,
                           nd_exec **out) {
    nd_exec_settings exec = {
        .batch = settings->batch, .precision = settings->precision, .separable = fuse, .plain = plain};
    return nd_exec_open(settings->backend, graph, &exec, out);
}

/* Two plans of one network differ by roundings alone: |a - b| against the largest output. The bound allows a rounding of
 * each operand to grow through some tens of layers. */
static nd_status compare_outputs(const nd_bench_settings *settings, const char *name, const float *a,
                                 const float *b, int64_t count) {
    static const double bounds[nd_precision_count] = {[nd_precision_fp32] = 1e-3,
                                                      [nd_precision_tf32] = 5e-2,
                                                      [nd_precision_fp16] = 5e-2,
                                                      [nd_precision_bf16] = 0.2};
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < count; ++i) {
        ND_REQUIRE(isfinite(a[i]) && isfinite(b[i]), nd_status_failed, "%s: an output is not finite", name);
        largest = fmax(largest, fabs(b[i]));
        worst = fmax(worst, fabs((double)a[i] - b[i]));
    }
    double bound = bounds[settings->precision];
    ND_REQUIRE(worst <= bound * largest, nd_status_failed,
               "%s: outputs of two plans differ by %g where the largest is %g (bound %g)", name, worst,
               largest, bound);
    return nd_status_ok;
}

static void name_engine(plan *p) {
    size_t fused = 0, count = nd_exec_node_count(p->exec);
    for (size_t i = 0; i < count; ++i) fused += nd_exec_node_at(p->exec, i).kind == nd_kind_separable;
    snprintf(p->engine, sizeof p->engine, "%zu kernels, %zu of them separable%s", count, fused,
             nd_exec_recorded(p->exec) ? ", one recording" : "");
}

/* Checks the plan on the images it will be timed with, and leaves them uploaded. */
static nd_status check_plan(plan *p, const nd_bench_settings *settings, const float *images) {
    const nd_graph *graph = p->network->graph;
    nd_status status = nd_status_ok;
    nd_exec *plain = NULL;
    int64_t count = value_count(graph, graph->outputs[0], settings->batch);
    float *outputs = nd_alloc_array((size_t)count, 2 * sizeof *outputs);
    const char *name = nd_impl_name(p->network->impl);
    ND_REQUIRE(outputs, nd_status_memory, "bench: out of memory");
    float *got = outputs, *expected = outputs + count;
    ND_TRY_DONE(open_exec(settings, graph, nd_fuse_off, true, &plain));
    ND_TRY_DONE(nd_exec_run(plain, settings->batch, &images, &expected));
    ND_TRY_DONE(nd_exec_run(p->exec, settings->batch, &images, &got));
    ND_TRY_DONE(compare_outputs(settings, name, got, expected, count));
    ND_TRY_DONE(nd_exec_upload(p->exec, settings->batch, &images));
done:
    nd_exec_close(plain);
    free(outputs);
    return status;
}

/* What every plan is timed on; NULL when memory is out. */
static float *random_images(const nd_graph *graph, int64_t batch) {
    int64_t count = value_count(graph, graph->inputs[0], batch);
    float *images = nd_alloc_array((size_t)count, sizeof *images);
    nd_rng rng = nd_rng_seed(1);
    for (int64_t i = 0; images && i < count; ++i) images[i] = (float)nd_rng_normal(&rng);
    return images;
}

static nd_status open_plans(const nd_bench_network *networks, plan *plans, size_t n,
                            const nd_bench_settings *settings) {
    float *images = random_images(networks[0].graph, settings->batch);
    ND_REQUIRE(images, nd_status_memory, "bench: out of memory");
    nd_status status = nd_status_ok;
    for (size_t i = 0; i < n && !status; ++i) {
        plans[i].network = &networks[i];
        status = open_exec(settings, networks[i].graph, fuse_of(networks[i].impl), false, &plans[i].exec);
        if (status == nd_status_unsupported && networks[i].impl == nd_impl_fused) {
            status = nd_status_ok; /* no fused kernel for some layer here: the row is left out */
            continue;
        }
        if (!status) status = check_plan(&plans[i], settings, images);
        if (!status) name_engine(&plans[i]);
    }
    free(images);
    return status;
}

static void set_plan(nd_row *row, const plan *p, const nd_bench_settings *settings) {
    nd_row_copy(row, settings->common);
    nd_row_copy(row, &p->network->row);
    nd_row_set_int(row, nd_field_batch, settings->batch);
    nd_row_set_text(row, nd_field_dtype, nd_precision_name(settings->precision));
    nd_row_set_text(row, nd_field_impl, nd_impl_name(p->network->impl));
    nd_row_set_flag(row, nd_field_cold, false);
    nd_row_set_real(row, nd_field_peak_gflops, settings->peaks.gflops);
    nd_row_set_real(row, nd_field_peak_gbps, settings->peaks.gbps);
}

/* The costs in the network's row are not the node's. No samples: runs that no other subject was measured beside are for
 * looking at, not for comparing. */
static nd_status emit_node(const plan *p, const nd_bench_settings *settings, nd_exec_node node,
                           const double *samples, size_t runs) {
    static const nd_field whole[] = {nd_field_conv_macs,        nd_field_total_macs,
                                     nd_field_params,           nd_field_conv_macs_ratio,
                                     nd_field_total_macs_ratio, nd_field_params_ratio};
    nd_summary summary;
    ND_TRY(nd_stats_summary(samples, runs, &summary));
    nd_row row = {0};
    set_plan(&row, p, settings);
    for (size_t i = 0; i < sizeof whole / sizeof *whole; ++i) row.values[whole[i]].set = false;
    nd_row_set_text(&row, nd_field_layer, node.name);
    nd_row_set_text(&row, nd_field_operation, nd_kind_name(node.kind));
    nd_row_set_text(&row, nd_field_engine, node.engine);
    nd_row_set_real(&row, nd_field_ns_median, summary.median);
    nd_row_set_real(&row, nd_field_ns_q1, summary.q1);
    nd_row_set_real(&row, nd_field_ns_q3, summary.q3);
    nd_row_set_real(&row, nd_field_ns_min, summary.min);
    if (node.macs)
        nd_row_set_real(&row, nd_field_gflops, 2 * (double)(node.macs * settings->batch) / summary.median);
    const nd_status status = settings->row(settings->user, &row);
    nd_row_free(&row);
    return status;
}

static nd_status emit_plan(const plan *p, const nd_bench_settings *settings, const nd_timing *timing,
                           int index, double dense_macs) {
    double batch = (double)settings->batch, ns = timing->subjects[index].summary.median;
    nd_row row = {0};
    set_plan(&row, p, settings);
    nd_row_set_text(&row, nd_field_engine, p->engine);
    nd_bench_row_time(&row, timing, index);
    if (row.values[nd_field_total_macs].set) {
        double macs = (double)row.values[nd_field_total_macs].i;
        nd_row_set_real(&row, nd_field_gflops, 2 * macs * batch / ns);
        nd_row_set_real(&row, nd_field_gflops_effective, 2 * dense_macs * batch / ns);
    }
    nd_status status = settings->row(settings->user, &row);
    nd_row_free(&row);
    return status;
}

/* Kernel by kernel: the same plan with time stamps between the kernels, which no recording has. */
static nd_status emit_nodes(const plan *p, const nd_bench_settings *settings) {
    enum { runs = 9 };
    nd_exec *exec = NULL;
    double *samples = NULL;
    float *images = random_images(p->network->graph, settings->batch);
    nd_status status = nd_status_ok;
    const nd_exec_settings timed = {.batch = settings->batch,
                                    .precision = settings->precision,
                                    .separable = fuse_of(p->network->impl),
                                    .time_nodes = true};
    ND_TRY_DONE(nd_exec_open(settings->backend, p->network->graph, &timed, &exec));
    const size_t count = nd_exec_node_count(exec);
    samples = nd_alloc_array(count * runs, sizeof *samples);
    ND_REQUIRE_DONE(samples && images, nd_status_memory, "bench: out of memory");
    ND_TRY_DONE(nd_exec_upload(exec, settings->batch, (const float *const *)&images));
    for (int run = -1; run < runs; ++run) { /* the first one warms up */
        ND_TRY_DONE(nd_exec_start(exec));
        ND_TRY_DONE(nd_exec_wait(exec));
        for (size_t i = 0; i < count && run >= 0; ++i)
            samples[i * runs + (size_t)run] = nd_exec_node_at(exec, i).ns;
    }
    for (size_t i = 0; i < count; ++i)
        ND_TRY_DONE(emit_node(p, settings, nd_exec_node_at(exec, i), samples + i * runs, runs));
done:
    nd_exec_close(exec);
    free(samples);
    free(images);
    return status;
}

static nd_status measure_networks(const nd_bench_network *networks, size_t n,
                                  const nd_bench_settings *settings) {
    plan plans[nd_subjects_max] = {0};
    nd_subject subjects[nd_subjects_max];
    nd_timing timing = {0};
    nd_status status = nd_status_ok;
    double dense_macs = (double)networks[0].row.values[nd_field_total_macs].i;
    ND_TRY_DONE(open_plans(networks, plans, n, settings));
    int count = 0;
    for (size_t i = 0; i < n; ++i)
        if (plans[i].exec)
            subjects[count++] = (nd_subject){nd_impl_name(networks[i].impl), sample_plan, &plans[i]};
    ND_TRY_DONE(nd_timing_measure(subjects, count, &settings->timing, &timing));
    for (int i = 0; i < count; ++i)
        ND_TRY_DONE(emit_plan(subjects[i].context, settings, &timing, i, dense_macs));
    for (size_t i = 0; i < n && settings->nodes; ++i)
        if (plans[i].exec) ND_TRY_DONE(emit_nodes(&plans[i], settings));
done:
    nd_timing_free(&timing);
    for (size_t i = 0; i < n; ++i) nd_exec_close(plans[i].exec);
    return status;
}

nd_status nd_bench_networks(const nd_bench_network *networks, size_t n, const nd_bench_settings *settings) {
    ND_REQUIRE(n >= 1 && n <= nd_subjects_max, nd_status_usage,
               "bench: %zu networks at once; 1 to %d are possible", n, nd_subjects_max);
    nd_bench_settings now = *settings;
    nd_status status = measure_networks(networks, n, &now);
    while (nd_bench_shrink(status, &now)) status = measure_networks(networks, n, &now);
    return status;
}
