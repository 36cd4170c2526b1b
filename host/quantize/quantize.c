#include "quantize/quantize.h"
#include "base/text/text.h"
#include "model/images.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "quantize/balance.h"
#include "quantize/quantizing.h"
#include "run/captures.h"

#include <stdlib.h>
#include <string.h>

enum { made_opset = 17, made_opset_e4m3 = 19 }; /* have what is put in */

static bool is_product(const nd_graph *graph, const nd_node *node) {
    const nd_tensor *weights = node->n_in > 1 ? nd_graph_constant(graph, node, 1) : NULL;
    if (!weights || weights->dtype != nd_dtype_f32 ||
        (node->n_in > 2 && node->in[2] >= 0 && !nd_graph_constant(graph, node, 2)))
        return false;
    const nd_attr *attr = &node->attr;
    return node->op == nd_op_conv ||
           (node->op == nd_op_gemm && !attr->trans_a && attr->alpha == 1 && attr->beta == 1);
}

static bool is_skipped(const nd_quantize_settings *settings, const nd_node *node) {
    for (size_t i = 0; i < settings->n_skip; i++)
        if (nd_text_match(settings->skip[i], node->name)) return true;
    return false;
}

/* Of a network that is only timed. What a ReLU may have cut off below has a zero of 0, which libraries
 * multiply by in less time; what a layer hands on as it is has both signs. */
static nd_range made_up(const nd_quantizing *q, int value) {
    const int producer = q->graph->values[value].producer;
    const nd_op op = producer >= 0 ? q->graph->nodes[producer].op : nd_op_relu;
    const bool both = op == nd_op_conv || op == nd_op_gemm || op == nd_op_add || op == nd_op_leaky_relu;
    return (nd_range){.lo = both ? -4 : 0, .hi = 4, .e4m3 = q->settings->e4m3};
}

/* The range of a value that is only moved is that of where it comes from, when that has one itself. */
static nd_status measure(nd_quantizing *q, nd_quantize_report *report) {
    nd_status status = nd_status_ok;
    const int count = q->graph->n_values;
    int *values = nd_alloc_array((size_t)count + 1, sizeof *values), n = 0;
    nd_range *ranges = nd_alloc_array((size_t)count + 1, sizeof *ranges);
    ND_REQUIRE_DONE(values && ranges, nd_status_memory, "no memory for ranges");
    for (int v = 0; v < count; v++)
        if (q->marked[v] && q->like[v] < 0) values[n++] = v;
    ND_REQUIRE_DONE(n > 0, nd_status_unsupported, "%s: no Conv or Gemm with constant weights to quantise",
                    q->graph->name);
    ND_TRY_DONE(nd_ranges_find(q->graph, q->backend, q->settings->calib, q->settings->images, values, n,
                               q->settings->e4m3, ranges));
    for (int i = 0; i < n; i++) {
        q->range[values[i]] = ranges[i];
        report->mean_error += ranges[i].error / n;
    }
    for (int v = 0; v < count; v++)
        if (q->marked[v] && q->like[v] >= 0) q->range[v] = q->range[q->like[v]];
done:
    free(values);
    free(ranges);
    return status;
}

/* Of what every product reads. */
static nd_status measure_means(nd_quantizing *q) {
    nd_status status = nd_status_ok;
    const size_t count = (size_t)q->graph->n_values + 1;
    int *values = nd_alloc_array(count, sizeof *values), n = 0;
    nd_range *ranges = nd_alloc_array(count, sizeof *ranges);
    float **real = nd_alloc_array(count, sizeof *real), **stored = nd_alloc_array(count, sizeof *stored);
    ND_REQUIRE_DONE(values && ranges && real && stored, nd_status_memory, "no memory for means");
    for (int i = 0; i < q->graph->n_nodes; i++) {
        const int value = q->chosen[i] ? q->graph->nodes[i].in[0] : -1;
        if (value < 0 || q->means[value].real) continue;
        const size_t size = (size_t)nd_value_size(q->graph, value);
        nd_means *means = &q->means[value];
        means->real = real[n] = nd_alloc_array(size + 1, sizeof(float));
        means->stored = stored[n] = nd_alloc_array(size + 1, sizeof(float));
        ND_REQUIRE_DONE(means->real && means->stored, nd_status_memory, "no memory for means");
        values[n] = value;
        ranges[n++] = q->range[value];
    }
    ND_TRY_DONE(nd_ranges_means(q->graph, q->backend, q->settings->calib, q->settings->images, values, n,
                                ranges, real, stored));
done:
    free(values);
    free(ranges);
    free(real);
    free(stored);
    return status;
}

static nd_status choose(nd_quantizing *q, nd_quantize_report *report) {
    bool *late = nd_alloc_array((size_t)q->graph->n_values, sizeof *late);
    int possible = 0, chosen = 0;
    ND_REQUIRE(late, nd_status_memory, "no memory to quantise");
    nd_mark_late(q->graph, late); /* its ranges are not seen */
    for (int i = 0; i < q->graph->n_nodes; i++) {
        const nd_node *node = &q->graph->nodes[i];
        if (!is_product(q->graph, node)) continue;
        report->layers++;
        if (late[node->in[0]] || !nd_quantizing_computes(q->graph, node->in[0])) continue;
        possible++;
        q->chosen[i] = !is_skipped(q->settings, node);
        chosen += q->chosen[i];
    }
    free(late);
    for (size_t s = 0; s < q->settings->n_skip; s++) {
        bool met = false;
        for (int i = 0; i < q->graph->n_nodes; i++)
            met = met || (is_product(q->graph, &q->graph->nodes[i]) &&
                          nd_text_match(q->settings->skip[s], q->graph->nodes[i].name));
        ND_REQUIRE(met, nd_status_usage, "--skip %s: no Conv or Gemm is called so", q->settings->skip[s]);
    }
    ND_REQUIRE(chosen || !possible, nd_status_usage,
               "--skip '%s'%s leaves no Conv or Gemm to quantise; there are %d", q->settings->skip[0],
               q->settings->n_skip > 1 ? " and the others" : "", possible);
    return nd_status_ok;
}

void nd_quantizing_close(nd_quantizing *q) {
    for (size_t i = 0; q->rounded && i < q->n_nodes; i++) {
        nd_tensor_free(&q->rounded[i].integers);
        free(q->rounded[i].scales);
    }
    for (size_t v = 0; q->means && v < q->n_values; v++) {
        free(q->means[v].real);
        free(q->means[v].stored);
    }
    free(q->chosen);
    free(q->rounded);
    free(q->marked);
    free(q->like);
    free(q->range);
    free(q->means);
    *q = (nd_quantizing){0};
}

static nd_status allocate_values(nd_quantizing *q) {
    const size_t n = q->n_values = (size_t)q->graph->n_values;
    q->marked = nd_alloc_array(n, sizeof *q->marked);
    q->like = nd_alloc_array(n, sizeof *q->like);
    q->range = nd_alloc_array(n, sizeof *q->range);
    q->means = nd_alloc_array(n, sizeof *q->means);
    ND_REQUIRE(q->marked && q->like && q->range && q->means, nd_status_memory, "no memory to quantise");
    return nd_status_ok;
}

nd_status nd_quantizing_open(nd_graph *graph, nd_backend *backend, const nd_quantize_settings *settings,
                             nd_quantizing *q, nd_quantize_report *report) {
    const bool seen = settings->calib != NULL;
    nd_status status = nd_status_ok;
    *q = (nd_quantizing){.graph = graph, .backend = backend, .settings = settings};
    ND_TRY(nd_graph_fold(graph));
    ND_TRY(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    if (seen) ND_TRY(nd_images_fit(graph, settings->calib));
    /* Before time is spent on what cannot be written. */
    ND_TRY(nd_onnx_anew(graph, settings->e4m3 ? made_opset_e4m3 : made_opset));
    for (int i = 0; i < graph->n_nodes; i++)
        ND_REQUIRE(graph->nodes[i].op != nd_op_quantize, nd_status_unsupported, "is quantised already");
    q->n_nodes = (size_t)graph->n_nodes;
    q->chosen = nd_alloc_array(q->n_nodes + 1, sizeof *q->chosen);
    q->rounded = nd_alloc_array(q->n_nodes + 1, sizeof *q->rounded);
    ND_REQUIRE_DONE(q->chosen && q->rounded, nd_status_memory, "no memory to quantise");
    ND_TRY_DONE(choose(q, report));
    if (seen)
        ND_TRY_DONE(
            nd_balance(graph, backend, settings->calib, settings->images, q->chosen, &report->balanced));
    ND_TRY_DONE(allocate_values(q));
    nd_quantizing_mark(graph, q->chosen, q->marked, q->like);
    for (size_t v = 0; v < q->n_values; v++) q->range[v] = made_up(q, (int)v);
    if (seen) ND_TRY_DONE(measure(q, report));
    ND_TRY_DONE(nd_quantizing_round(q));
    if (seen) ND_TRY_DONE(measure_means(q));
done:
    if (status) nd_quantizing_close(q);
    return status;
}

/* Of the choice that was made. */
static nd_status count_chosen(const nd_quantizing *q, const bool *in_integers, nd_quantize_report *report) {
    bool *marked = nd_alloc_array(q->n_values, sizeof *marked);
    int *like = nd_alloc_array(q->n_values, sizeof *like);
    report->quantised = report->tensors = 0;
    if (marked && like) nd_quantizing_mark(q->graph, in_integers, marked, like);
    for (size_t i = 0; i < q->n_nodes; i++) report->quantised += in_integers[i];
    for (size_t v = 0; marked && v < q->n_values; v++) report->tensors += marked[v];
    const bool enough = marked && like;
    free(marked);
    free(like);
    ND_REQUIRE(enough, nd_status_memory, "no memory to quantise");
    return nd_status_ok;
}

nd_status nd_quantize_graph(nd_graph *graph, nd_backend *backend, const nd_quantize_settings *settings,
                            nd_quantize_report *report) {
    nd_quantizing q = {0};
    bool *in_integers = NULL;
    nd_status status = nd_status_ok;
    *report = (nd_quantize_report){0};
    ND_TRY_DONE(nd_quantizing_open(graph, backend, settings, &q, report));
    in_integers = nd_alloc_array(q.n_nodes + 1, sizeof *in_integers);
    ND_REQUIRE_DONE(in_integers, nd_status_memory, "no memory to quantise");
    memcpy(in_integers, q.chosen, q.n_nodes * sizeof *in_integers);
    if (settings->automatic) ND_TRY_DONE(nd_quantizing_choose(&q, in_integers, report));
    ND_TRY_DONE(count_chosen(&q, in_integers, report));
    status = nd_quantizing_write(&q, in_integers, graph);
done:
    free(in_integers);
    nd_quantizing_close(&q);
    if (status) nd_quantize_report_free(report);
    return status;
}

void nd_quantize_report_free(nd_quantize_report *report) {
    free(report->of);
    *report = (nd_quantize_report){0};
}
