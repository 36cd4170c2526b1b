#include "bench/subjects/expected.h"

#include "base/rng.h"
#include "bench/subjects/rig_check.h"
#include "run/captures.h"
#include "run/plugins.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { places_within = 8 };

/* Convolutions that the reference is given the results of. */
typedef struct heavy {
    const nd_graph *graph;
    int n;
    struct given {
        nd_conv conv;
        int x, y;   /* values */
        float *out; /* y of the image */
        float *to;  /* where it is an output, whose place that is */
    } * list;       /* [n] */
    int *wanted;    /* [n_x] their x, where nobody gives it, each once; then the outputs that nobody gives */
    float **made;   /* of `wanted`; those of the outputs are not owned */
    int n_x, n_wanted;
} heavy;

static void heavy_free(heavy *h) {
    for (int i = 0; h->list && i < h->n; i++) free(h->list[i].out);
    for (int i = 0; h->made && i < h->n_x; i++) free(h->made[i]);
    free(h->list);
    free(h->wanted);
    free(h->made);
}

static bool conv_of(const nd_graph *graph, const bool *late, int node, nd_conv *conv) {
    const nd_node *of = &graph->nodes[node];
    return of->op == nd_op_conv && !late[of->in[0]] && !nd_conv_from_node(graph, of, conv);
}

/* The most multiply-accumulates of a convolution with which all up to that are within the budget. */
static double heavy_limit(const nd_graph *graph, const bool *late, double budget) {
    nd_conv conv;
    double limit = 0, sum;
    for (int n = 0; n < graph->n_nodes; n++)
        if (conv_of(graph, late, n, &conv)) limit = fmax(limit, (double)nd_conv_macs(&conv));
    do {
        sum = 0;
        for (int n = 0; n < graph->n_nodes; n++) {
            const double macs = conv_of(graph, late, n, &conv) ? (double)nd_conv_macs(&conv) : 0;
            if (macs <= limit) sum += macs;
        }
        if (sum > budget) limit /= 2;
    } while (sum > budget);
    return limit;
}

static nd_status heavy_find(const nd_graph *graph, double budget, heavy *h) {
    bool *late = nd_alloc_array((size_t)graph->n_values, sizeof *late);
    nd_conv conv;
    *h = (heavy){.graph = graph};
    h->list = nd_alloc_array((size_t)graph->n_nodes + 1, sizeof *h->list);
    ND_REQUIRE(late && h->list, nd_status_memory, "bench: out of memory");
    nd_mark_late(graph, late);
    const double limit = heavy_limit(graph, late, budget);
    for (int n = 0; n < graph->n_nodes; n++)
        if (conv_of(graph, late, n, &conv) && (double)nd_conv_macs(&conv) > limit)
            h->list[h->n++] =
                (struct given){.conv = conv, .x = graph->nodes[n].in[0], .y = graph->nodes[n].out[0]};
    free(late);
    return nd_status_ok;
}

static nd_status heavy_room(const nd_outputs *outputs, float *to, heavy *h) {
    const size_t most = (size_t)h->n + (size_t)outputs->n;
    h->wanted = nd_alloc_array(most, sizeof *h->wanted);
    h->made = nd_alloc_array(most, sizeof *h->made);
    ND_REQUIRE(h->wanted && h->made, nd_status_memory, "bench: out of memory");
    for (int i = 0; i < h->n; i++) {
        bool known = h->list[i].x == h->graph->inputs[0];
        h->list[i].out = nd_alloc_array((size_t)nd_value_size(h->graph, h->list[i].y), sizeof(float));
        ND_REQUIRE(h->list[i].out, nd_status_memory, "bench: out of memory");
        for (int k = 0; k < h->n; k++) known = known || h->list[k].y == h->list[i].x;
        for (int k = 0; k < h->n_x; k++) known = known || h->wanted[k] == h->list[i].x;
        if (known) continue;
        h->made[h->n_x] = nd_alloc_array((size_t)nd_value_size(h->graph, h->list[i].x), sizeof(float));
        ND_REQUIRE(h->made[h->n_x], nd_status_memory, "bench: out of memory");
        h->wanted[h->n_x++] = h->list[i].x;
    }
    h->n_wanted = h->n_x;
    for (int o = 0; o < outputs->n; o++) {
        const int value = outputs->values[o];
        bool given = false;
        for (int k = 0; k < h->n; k++) {
            if (h->list[k].y != value) continue;
            h->list[k].to = to;
            given = true;
        }
        if (!given) {
            h->wanted[h->n_wanted] = value;
            h->made[h->n_wanted++] = to;
        }
        to += nd_value_size(h->graph, value);
    }
    return nd_status_ok;
}

/* What the backend makes of the heavy ones, each layer a kernel of its own. */
static nd_status heavy_run(heavy *h, nd_backend *backend, const float *image) {
    nd_exec *exec = NULL;
    nd_status status = nd_status_ok;
    int *values = nd_alloc_array((size_t)h->n, sizeof *values);
    float **out = nd_alloc_array((size_t)h->n, sizeof *out);
    ND_REQUIRE_DONE(values && out, nd_status_memory, "bench: out of memory");
    for (int i = 0; i < h->n; i++) {
        values[i] = h->list[i].y;
        out[i] = h->list[i].out;
    }
    const nd_exec_settings plain = {
        .batch = 1, .separable = nd_fuse_off, .plain = true, .outputs = values, .n_outputs = h->n};
    ND_TRY_DONE(nd_exec_open(backend, h->graph, &plain, &exec));
    status = nd_exec_run(exec, 1, &image, out);
done:
    nd_exec_close(exec);
    free(values);
    free(out);
    return status;
}

/* The rest of the network by the reference, from the image and the results of the heavy ones. */
static nd_status heavy_rest(heavy *h, nd_backend *ref, const float *image) {
    nd_exec *exec = NULL;
    nd_status status = nd_status_ok;
    int *values = nd_alloc_array((size_t)h->n + 1, sizeof *values);
    const float **in = nd_alloc_array((size_t)h->n + 1, sizeof *in);
    ND_REQUIRE_DONE(values && in, nd_status_memory, "bench: out of memory");
    values[0] = h->graph->inputs[0];
    in[0] = image;
    for (int i = 0; i < h->n; i++) {
        const struct given *of = &h->list[i];
        values[i + 1] = of->y;
        in[i + 1] = of->out;
        if (of->to) memcpy(of->to, of->out, (size_t)nd_value_size(h->graph, of->y) * sizeof *of->out);
    }
    if (!h->n_wanted) goto done;
    const nd_exec_settings rest = {.batch = 1,
                                   .separable = nd_fuse_off,
                                   .plain = true,
                                   .inputs = values,
                                   .n_inputs = h->n + 1,
                                   .outputs = h->wanted,
                                   .n_outputs = h->n_wanted};
    ND_TRY_DONE(nd_exec_open(ref, h->graph, &rest, &exec));
    status = nd_exec_run(exec, 1, in, h->made);
done:
    nd_exec_close(exec);
    free(values);
    free(in);
    return status;
}

static const float *heavy_x(const heavy *h, int index, const float *image) {
    const int x = h->list[index].x;
    for (int k = 0; k < h->n; k++)
        if (h->list[k].y == x) return h->list[k].out;
    for (int k = 0; k < h->n_x; k++)
        if (h->wanted[k] == x) return h->made[k];
    return image;
}

nd_status nd_expect_conv(const nd_conv *conv, const float *x, const float *y, double bound) {
    const int64_t height = nd_conv_out_h(conv), width = nd_conv_out_w(conv), area = height * width;
    const int64_t corners[] = {0, width - 1, area - width, area - 1, width / 2, height / 2 * width};
    enum { n_corners = sizeof corners / sizeof *corners };
    nd_rng rng = nd_rng_seed(1);
    nd_status status = nd_status_ok;
    double *value = nd_alloc_array(2 * (size_t)conv->no, sizeof *value), largest = 0;
    ND_REQUIRE(value, nd_status_memory, "bench: out of memory");
    for (int64_t e = 0; e < conv->no * area; e++) largest = fmax(largest, fabs((double)y[e]));
    for (int p = 0; p < n_corners + places_within; p++) {
        const int64_t at = p < n_corners ? corners[p] : nd_rng_below(&rng, area);
        ND_TRY_DONE(nd_rig_evaluate(conv, 1, x, at / width, at % width, value, value + conv->no));
        for (int64_t o = 0; o < conv->no; o++) {
            const double got = (double)y[o * area + at], apart = fabs(got - value[o]);
            ND_REQUIRE_DONE(apart <= bound * largest, nd_status_failed,
                            "conv %s differs from its definition by %g where the largest is %g (bound %g)",
                            conv->name, apart, largest, bound);
        }
    }
done:
    free(value);
    return status;
}

nd_status nd_expect(const nd_outputs *outputs, nd_backend *backend, double budget, double bound,
                    const float *image, float *to) {
    const nd_graph *graph = outputs->graph;
    const bool quantised = nd_graph_is_quantised(graph);
    const nd_exec_settings all = {
        .batch = 1, .separable = quantised ? nd_fuse_auto : nd_fuse_off, .plain = !quantised};
    nd_backend *ref = NULL;
    heavy h = {0};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_backend_open("ref", NULL, &ref));
    if (!quantised) ND_TRY_DONE(heavy_find(graph, budget, &h));
    if (!h.n) {
        status = nd_outputs_run(outputs, ref, &all, NULL, 1, image, to);
        goto done;
    }
    ND_TRY_DONE(heavy_room(outputs, to, &h));
    ND_TRY_DONE(heavy_run(&h, backend, image));
    ND_TRY_DONE(heavy_rest(&h, ref, image));
    for (int i = 0; i < h.n; i++)
        ND_TRY_DONE(nd_expect_conv(&h.list[i].conv, heavy_x(&h, i, image), h.list[i].out, bound));
done:
    heavy_free(&h);
    nd_backend_close(ref);
    return status ? nd_fail_in(status, "%s", graph->name) : nd_status_ok;
}
