#include "bench/bench.h"

#include "base/rng.h"
#include "bench/subjects/expected.h"
#include "bench/subjects/outputs.h"
#include "bench/timing/displace.h"
#include "bench/timing/graph_clock.h"
#include "bench/timing/nodes.h"
#include "bench/timing/slowdown.h"
#include "run/captures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double reference_macs = 2e9; /* of convolutions: some seconds of the reference backend */

/* One compiled implementation of a network, ready to run on images that were uploaded once. */
typedef struct plan {
    nd_bench_network *network;
    const nd_timing_settings *timing; /* whose clock times it */
    nd_implementation implementation;
    bool turned; /* in the other of NHWC and NCHW than the backend's own: dense alone, where it is faster */
    nd_exec *exec;
    char engine[192];
    size_t workspace;
} plan;

typedef struct bench {
    nd_bench_network *networks;
    size_t n;
    const nd_bench_settings *settings;
    float *images; /* [batch][...], the same for all networks */
    plan plans[nd_subjects_max];
    int n_plans;
    nd_displacer displacer;
    nd_timing timing;
} bench;

static nd_status sample_plan(void *context, int64_t repeats, double *ns) {
    plan *p = context;
    double planted = p->implementation == nd_implementation_dense ? 0 : nd_slowdown_planted();
    double start = nd_timing_now(p->timing);
    ND_TRY(nd_clock_repeat(p->exec, repeats));
    if (planted > 0) nd_slowdown_spin(planted * (nd_timing_now(p->timing) - start));
    *ns = 1e9 * (nd_timing_now(p->timing) - start);
    return nd_status_ok;
}

static nd_exec_settings plan_settings(const plan *p, const nd_bench_settings *settings) {
    static const nd_fuse fuse[nd_implementation_count] = {
        [nd_implementation_unfused] = nd_fuse_off, [nd_implementation_fused] = nd_fuse_forced};
    return (nd_exec_settings){.batch = settings->batch,
                              .precision = settings->precision,
                              .separable = fuse[p->implementation],
                              .turned = p->turned};
}

/* Two implementations of one network differ by roundings alone: |a - b| against the largest number of an
 * output. The bound allows a rounding of each operand to grow through some tens of layers. A quantised
 * network rounds to 8 bits whatever precision its other layers are in: what falls between two numbers goes
 * either way there. */
static double rounding_bound(const nd_graph *graph, nd_precision precision) {
    static const double bounds[nd_precision_count] = {[nd_precision_fp32] = 1e-3,
                                                      [nd_precision_tf32] = 5e-2,
                                                      [nd_precision_fp16] = 5e-2,
                                                      [nd_precision_bf16] = 0.2,
                                                      [nd_precision_int8] = 0.2};
    return bounds[nd_graph_is_quantised(graph) ? nd_precision_int8 : precision];
}

/* What the first image gives by definition, once for all plans of a network. */
static nd_status expect(nd_bench_network *network, nd_backend *backend, const nd_outputs *outputs,
                        const float *images) {
    if (network->expected) return nd_status_ok;
    float *made = nd_alloc_array((size_t)nd_outputs_size(outputs), sizeof *made);
    ND_REQUIRE(made, nd_status_memory, "bench: out of memory");
    const nd_status status = nd_expect(outputs, backend, reference_macs,
                                       rounding_bound(network->graph, nd_precision_fp32), images, made);
    if (status)
        free(made);
    else
        network->expected = made;
    return status;
}

/* Checks the plan on the images it will be timed with: the first against the reference, all images of a batch
 * against the plan without any fusion, on the same backend and in its own layout. */
static nd_status check_plan(plan *p, const bench *b) {
    const nd_bench_settings *settings = b->settings;
    const nd_exec_settings own = plan_settings(p, settings), plain = {.batch = settings->batch,
                                                                      .precision = settings->precision,
                                                                      .separable = nd_fuse_off,
                                                                      .plain = true};
    const nd_graph *graph = p->network->graph;
    const double bound = rounding_bound(graph, settings->precision);
    const int64_t batch = settings->batch;
    nd_outputs outputs;
    float *got = NULL, *expected = NULL;
    char subject[160];
    nd_status status = nd_status_ok;
    ND_TRY(nd_outputs_open(graph, &outputs));
    const size_t count = (size_t)nd_outputs_size(&outputs);
    snprintf(subject, sizeof subject, "%.100s, %s", graph->name, nd_implementation_name(p->implementation));
    got = nd_alloc_array((size_t)batch, count * sizeof *got);
    ND_REQUIRE_DONE(got, nd_status_memory, "bench: out of memory");
    ND_TRY_DONE(expect(p->network, settings->backend, &outputs, b->images));
    ND_TRY_DONE(nd_outputs_run(&outputs, settings->backend, &own, p->exec, batch, b->images, got));
    ND_TRY_DONE(
        nd_outputs_compare(&outputs, got, batch, p->network->expected, 1, bound, subject, "the reference's"));
    if (batch == 1) goto done;
    expected = nd_alloc_array((size_t)batch, count * sizeof *expected);
    ND_REQUIRE_DONE(expected, nd_status_memory, "bench: out of memory");
    ND_TRY_DONE(nd_outputs_run(&outputs, settings->backend, &plain, NULL, batch, b->images, expected));
    ND_TRY_DONE(
        nd_outputs_compare(&outputs, got, batch, expected, batch, bound, subject, "the plan without fusion"));
done:
    nd_outputs_close(&outputs);
    free(got);
    free(expected);
    return status;
}

static nd_status open_plan(plan *p, bench *b) {
    const nd_exec_settings settings = plan_settings(p, b->settings);
    const float *images = b->images;
    ND_TRY(nd_displace(&b->displacer));
    ND_TRY(nd_exec_open(b->settings->backend, p->network->graph, &settings, &p->exec));
    return nd_exec_upload(p->exec, b->settings->batch, &images);
}

static void close_plan(plan *p) {
    nd_exec_close(p->exec);
    p->exec = NULL;
}

static void describe_plan(plan *p) {
    size_t fused = 0, count = nd_exec_node_count(p->exec);
    for (size_t i = 0; i < count; i++)
        fused += nd_exec_node_at(p->exec, i).operation == nd_operation_separable;
    int64_t moved;
    const size_t on_host = nd_exec_host_count(p->exec, &moved);
    int used = snprintf(p->engine, sizeof p->engine, "%zu kernels, %zu of them separable%s", count - on_host,
                        fused, nd_exec_captured(p->exec) ? ", one captured graph" : "");
    if (on_host)
        used += snprintf(p->engine + used, sizeof p->engine - (size_t)used,
                         ", %zu on the host with %.3g MB moved there and back", on_host, (double)moved / 1e6);
    if (nd_exec_dynamic_count(p->exec))
        snprintf(p->engine + used, sizeof p->engine - (size_t)used, ", %zu more by the host one by one",
                 nd_exec_dynamic_count(p->exec));
    p->workspace = nd_exec_workspace_bytes(p->exec);
}

/* *added is false where a layer has no fused kernel here: then there is no such plan. */
static nd_status add_plan(bench *b, nd_bench_network *network, nd_implementation implementation,
                          bool *added) {
    *added = false;
    ND_REQUIRE(b->n_plans < nd_subjects_max, nd_status_usage,
               "bench: too many networks at once; %d plans are possible", nd_subjects_max);
    plan *p = &b->plans[b->n_plans];
    *p = (plan){.network = network, .timing = &b->settings->timing, .implementation = implementation};
    nd_status status = open_plan(p, b);
    if (status) close_plan(p);
    if (status == nd_status_unsupported && implementation == nd_implementation_fused) return nd_status_ok;
    ND_TRY(status);
    b->n_plans++;
    *added = true;
    describe_plan(p);
    return check_plan(p, b);
}

/* Leaves the faster of two in *kept, timed in turns for an eighth of the time that all plans have. */
static nd_status keep_faster(plan *kept, plan *other, const nd_bench_settings *settings) {
    nd_subject subjects[] = {{"own", sample_plan, kept}, {"turned", sample_plan, other}};
    nd_timing_settings quick = settings->timing;
    nd_timing timing;
    quick.sessions = 1;
    quick.limit_seconds /= 8;
    ND_TRY(nd_timing_measure(subjects, 2, &quick, &timing));
    if (timing.subjects[1].summary.median < timing.subjects[0].summary.median) {
        const plan slower = *kept;
        *kept = *other;
        *other = slower;
    }
    nd_timing_free(&timing);
    return nd_status_ok;
}

/* The other layout is an alternative: a backend that does not run the network in it, or has no room for both,
 * keeps its own. */
static nd_status try_turned(bench *b, plan *p) {
    plan other = {
        .network = p->network, .timing = p->timing, .implementation = p->implementation, .turned = true};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(open_plan(&other, b));
    describe_plan(&other);
    ND_TRY_DONE(check_plan(&other, b));
    ND_TRY_DONE(keep_faster(p, &other, b->settings));
done:
    close_plan(&other);
    if (status == nd_status_memory)
        nd_log(nd_log_warn, "%s: no memory to try the dense network in %s too: %s", p->network->graph->name,
               b->settings->backend->channels_last ? "NCHW" : "NHWC", nd_error());
    return status == nd_status_memory || status == nd_status_unsupported ? nd_status_ok : status;
}

/* The executor's own choice is the fused plan wherever that exists: it is timed by itself only without it. */
static nd_status add_plans(bench *b) {
    const bool *implementations = b->settings->implementations;
    bool added;
    ND_TRY(add_plan(b, &b->networks[0], nd_implementation_dense, &added));
    if (b->settings->layouts) ND_TRY(try_turned(b, &b->plans[0]));
    for (size_t i = 1; i < b->n; i++) {
        bool fused = false;
        if (implementations[nd_implementation_unfused])
            ND_TRY(add_plan(b, &b->networks[i], nd_implementation_unfused, &added));
        if (implementations[nd_implementation_fused])
            ND_TRY(add_plan(b, &b->networks[i], nd_implementation_fused, &fused));
        if (implementations[nd_implementation_best] && !fused)
            ND_TRY(add_plan(b, &b->networks[i], nd_implementation_best, &added));
    }
    return nd_status_ok;
}

static void close_plans(bench *b) {
    for (int i = 0; i < b->n_plans; i++) close_plan(&b->plans[i]);
    nd_displacer_free(&b->displacer);
}

/* Every session has memory and packed weights of its own. */
static nd_status measure(bench *b) {
    const nd_timing_settings *timing = &b->settings->timing;
    nd_subject subjects[nd_subjects_max];
    nd_timer *timer;
    bool enough = false;
    nd_status status = nd_status_ok;
    for (int i = 0; i < b->n_plans; i++)
        subjects[i] =
            (nd_subject){nd_implementation_name(b->plans[i].implementation), sample_plan, &b->plans[i]};
    ND_TRY(nd_timer_new(b->n_plans, timing, &timer));
    for (int64_t session = 0; !enough && !(session && nd_bench_stopped(b->settings)); session++) {
        nd_progress_report(b->settings->progress, "networks", session, timing->sessions);
        if (session) close_plans(b);
        for (int i = 0; i < b->n_plans && session; i++) ND_TRY_DONE(open_plan(&b->plans[i], b));
        ND_TRY_DONE(nd_timer_session(timer, subjects, &enough));
    }
    nd_progress_report(b->settings->progress, "networks", timing->sessions, timing->sessions);
    ND_TRY_DONE(nd_timer_result(timer, &b->timing));
    b->timing.noisy = b->timing.noisy || !enough;
done:
    nd_timer_free(timer);
    return status;
}

static nd_status emit_plan(const bench *b, nd_implementation implementation, int index) {
    const nd_bench_settings *settings = b->settings;
    const plan *p = &b->plans[index];
    double batch = (double)settings->batch, ns = b->timing.subjects[index].summary.median;
    double dense_macs = (double)b->networks[0].row.values[nd_field_total_macs].i;
    char engine[256];
    nd_row row = {0};
    nd_row_copy(&row, settings->common);
    nd_bench_row_clocks(&row, settings);
    nd_row_copy(&row, &p->network->row);
    nd_row_set_int(&row, nd_field_batch, settings->batch);
    nd_row_set_text(&row, nd_field_dtype, nd_precision_name(settings->precision));
    nd_row_set_text(&row, nd_field_implementation, nd_implementation_name(implementation));
    bool chosen = implementation == nd_implementation_best && p->implementation != nd_implementation_best;
    snprintf(engine, sizeof engine, "%s%s%s", chosen ? nd_implementation_name(p->implementation) : "",
             chosen ? ": " : "", p->engine);
    nd_row_set_text(&row, nd_field_engine, engine);
    nd_row_set_text(&row, nd_field_layout, settings->backend->channels_last != p->turned ? "NHWC" : "NCHW");
    nd_row_set_int(&row, nd_field_workspace_bytes, (int64_t)p->workspace);
    nd_row_set_flag(&row, nd_field_cold, false);
    nd_row_set_real(&row, nd_field_peak_gflops, settings->peaks.gflops);
    nd_row_set_real(&row, nd_field_peak_gbps, settings->peaks.gbps);
    nd_bench_row_time(&row, &b->timing, index);
    if (row.values[nd_field_total_macs].set) {
        double macs = (double)row.values[nd_field_total_macs].i;
        nd_row_set_real(&row, nd_field_gflops, 2 * macs * batch / ns);
        nd_row_set_real(&row, nd_field_gflops_effective, 2 * dense_macs * batch / ns);
    }
    nd_status status = settings->row(settings->user, &row);
    nd_row_free(&row);
    return status;
}

/* A row for every plan, and after a network's own the fastest of them as `best`. */
static nd_status emit_all(const bench *b) {
    int best = -1;
    for (int i = 0; i < b->n_plans; i++) {
        const plan *p = &b->plans[i];
        bool last = i + 1 == b->n_plans || b->plans[i + 1].network != p->network;
        double ns = b->timing.subjects[i].summary.median;
        if (p->implementation != nd_implementation_best) ND_TRY(emit_plan(b, p->implementation, i));
        if (best < 0 || ns < b->timing.subjects[best].summary.median) best = i;
        if (!last) continue;
        if (p->implementation != nd_implementation_dense &&
            b->settings->implementations[nd_implementation_best])
            ND_TRY(emit_plan(b, nd_implementation_best, best));
        best = -1;
    }
    return nd_status_ok;
}

static nd_status emit_nodes(bench *b) {
    close_plans(b);
    for (int i = 0; i < b->n_plans; i++) {
        const plan *p = &b->plans[i];
        const nd_exec_settings settings = plan_settings(p, b->settings);
        ND_TRY(nd_bench_nodes(p->network, p->implementation, &settings, b->images, b->settings));
    }
    return nd_status_ok;
}

/* Networks that take the same images and say as much of them. */
static nd_status check_ends(const nd_graph *first, const nd_graph *graph) {
    ND_REQUIRE(graph->n_inputs == 1, nd_status_unsupported,
               "bench: %s: %d inputs; networks with one are timed", graph->name, graph->n_inputs);
    const int64_t size = nd_value_size(graph, graph->inputs[0]);
    ND_REQUIRE(size, nd_status_unsupported, "bench: %s: the size of %s is not known", graph->name,
               graph->values[graph->inputs[0]].name);
    ND_REQUIRE(size == nd_value_size(first, first->inputs[0]), nd_status_usage,
               "bench: %s and %s take images of different sizes", first->name, graph->name);
    bool alike = graph->n_outputs == first->n_outputs;
    for (int i = 0; alike && i < graph->n_outputs; i++)
        alike = nd_value_size(graph, graph->outputs[i]) == nd_value_size(first, first->outputs[i]);
    ND_REQUIRE(alike, nd_status_usage, "bench: %s and %s have outputs of different numbers", first->name,
               graph->name);
    return nd_status_ok;
}

static nd_status make_images(bench *b) {
    const nd_graph *graph = b->networks[0].graph;
    for (size_t i = 0; i < b->n; i++) ND_TRY(check_ends(graph, b->networks[i].graph));
    int64_t count = b->settings->batch * nd_value_size(graph, graph->inputs[0]);
    b->images = nd_alloc_array((size_t)count, sizeof *b->images);
    ND_REQUIRE(b->images, nd_status_memory, "bench: out of memory");
    nd_rng rng = nd_rng_seed(1);
    for (int64_t i = 0; i < count; i++) b->images[i] = (float)nd_rng_normal(&rng);
    return nd_status_ok;
}

static nd_status measure_networks(nd_bench_network *networks, size_t n, const nd_bench_settings *settings) {
    bench *b = calloc(1, sizeof *b);
    ND_REQUIRE(b, nd_status_memory, "bench: out of memory");
    *b = (bench){.networks = networks,
                 .n = n,
                 .settings = settings,
                 .displacer = nd_displacer_new(settings->backend, settings->timing.seed)};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(make_images(b));
    ND_TRY_DONE(add_plans(b));
    ND_TRY_DONE(measure(b));
    ND_TRY_DONE(emit_all(b));
    if (settings->nodes && !nd_bench_stopped(settings)) ND_TRY_DONE(emit_nodes(b));
done:
    nd_timing_free(&b->timing);
    close_plans(b);
    free(b->images);
    free(b);
    return status;
}

nd_status nd_bench_networks(nd_bench_network *networks, size_t n, const nd_bench_settings *settings) {
    ND_REQUIRE(n >= 1, nd_status_usage, "bench: no network");
    if (nd_bench_stopped(settings)) return nd_status_ok;
    nd_bench_settings now = *settings;
    nd_status status = measure_networks(networks, n, &now);
    while (nd_bench_shrink(status, &now)) status = measure_networks(networks, n, &now);
    return status;
}

void nd_bench_network_free(nd_bench_network *network) {
    nd_row_free(&network->row);
    free(network->expected);
    *network = (nd_bench_network){0};
}
