#include "decouple/calib/layer_data.h"

#include <math.h>
#include <stdlib.h>

/* Largest number of a convolution or product that `value` depends on, -1 for none. */
static int last_layer_before(const nd_graph *graph, int value, bool *seen) {
    int producer = graph->values[value].producer, last = -1;
    if (producer < 0 || seen[producer]) return -1;
    seen[producer] = true;
    const nd_node *node = &graph->nodes[producer];
    if (node->op == nd_op_conv || node->op == nd_op_gemm || node->op == nd_op_matmul) last = producer;
    for (int i = 0; i < node->n_in; i++) {
        if (node->in[i] < 0) continue;
        int before = last_layer_before(graph, node->in[i], seen);
        if (before > last) last = before;
    }
    return last;
}

/* The other operand where the conv's output goes straight into a residual sum and everything after that
 * operand is already final: the conv then also makes up for the shortcut's error. -1 otherwise. */
static nd_status shortcut_of(const nd_graph *graph, int node, int *shortcut) {
    int user = -1, y = graph->nodes[node].out[0];
    *shortcut = -1;
    if (nd_graph_uses(graph, y, &user) != 1 || user < 0 || graph->nodes[user].op != nd_op_add)
        return nd_status_ok;
    const nd_node *sum = &graph->nodes[user];
    int other = sum->in[0] == y ? sum->in[1] : sum->in[0];
    if (graph->values[other].init || nd_value_size(graph, other) != nd_value_size(graph, y))
        return nd_status_ok;
    bool *seen = nd_alloc_array((size_t)graph->n_nodes, sizeof *seen);
    ND_REQUIRE(seen, nd_status_memory, "no memory for a calibration pass");
    if (last_layer_before(graph, other, seen) < node) *shortcut = other;
    free(seen);
    return nd_status_ok;
}

typedef struct layer_job {
    nd_backend *backend;
    const nd_conv *conv;
    nd_split split;                               /* what is fitted */
    nd_moments *targets;                          /* or new targets for it */
    int64_t images;                               /* before this block */
    nd_captures original, current;                /* y and shortcut; x, shortcut, and for retargeting y */
    const float *y, *y_shortcut, *u, *u_shortcut; /* of original and current; shortcuts may be NULL */
    int64_t size;                                 /* of y, one image */
    double proximal, slope;
    float *target; /* one block, where targets are not the original's outputs */
    double
        *sums; /* [no][5] for gains: y, u, yy, uu, yu; [no][3] after the activation: z, zz, squared error */
    double pixels;
} layer_job;

static nd_status plain_block(void *context, int64_t n) {
    layer_job *job = context;
    const float *target = job->y_shortcut ? job->target : job->y;
    for (int64_t e = 0; job->y_shortcut && e < n * job->size; e++)
        job->target[e] = job->y[e] + job->y_shortcut[e] - job->u_shortcut[e];
    return nd_split_add(&job->split, job->backend, job->conv, n, job->current.data[0], target);
}

/* argmin over r of (act(s) - act(r))^2 + proximal (r - u)^2, the better of the two sides of zero. */
static double through_activation(double s, double u, double proximal, double slope) {
    double z = s < 0 ? slope * s : s;
    double left = fmin((slope * z + proximal * u) / (slope * slope + proximal), 0);
    double right = fmax((z + proximal * u) / (1 + proximal), 0);
    double left_cost = pow(z - slope * left, 2) + proximal * pow(left - u, 2);
    double right_cost = pow(z - right, 2) + proximal * pow(right - u, 2);
    return left_cost < right_cost ? left : right;
}

/* Original and current input of the activation; the current shortcut is what a target is less of. */
static double sums_at(const layer_job *job, int64_t e, double *s, double *u) {
    double operand = job->y_shortcut ? job->u_shortcut[e] : 0;
    *s = job->y[e] + (job->y_shortcut ? (double)job->y_shortcut[e] : 0);
    *u = job->u[e] + operand;
    return operand;
}

static nd_status aware_block(void *context, int64_t n) {
    layer_job *job = context;
    for (int64_t e = 0; e < n * job->size; e++) {
        double s, u, operand = sums_at(job, e, &s, &u);
        job->target[e] = (float)(through_activation(s, u, job->proximal, job->slope) - operand);
    }
    const int64_t first = job->images;
    job->images += n;
    return nd_moments_add(job->targets, job->backend, job->conv, first, n, job->current.data[0], job->target);
}

/* Which of the `no` outputs element e of a block is of. */
static int64_t output_of(const nd_conv *conv, int64_t area, int64_t e) {
    return conv->product ? e % conv->no : e / area % conv->no;
}

static nd_status activation_block(void *context, int64_t n) {
    layer_job *job = context;
    int64_t no = job->conv->no, area = job->size / no;
    for (int64_t e = 0; e < n * job->size; e++) {
        double s, u, *sum = job->sums + output_of(job->conv, area, e) * 3;
        sums_at(job, e, &s, &u);
        double z = s < 0 ? job->slope * s : s, rest = z - (u < 0 ? job->slope * u : u);
        sum[0] += z;
        sum[1] += z * z;
        sum[2] += rest * rest;
    }
    job->pixels += (double)(n * area);
    return nd_status_ok;
}

static nd_status gains_block(void *context, int64_t n) {
    layer_job *job = context;
    int64_t no = job->conv->no, area = job->size / no;
    for (int64_t e = 0; e < n * job->size; e++) {
        double *sum = job->sums + output_of(job->conv, area, e) * 5, u = job->u[e], y = job->y[e];
        if (job->y_shortcut) y += job->y_shortcut[e] - job->u_shortcut[e];
        sum[0] += y;
        sum[1] += u;
        sum[2] += y * y;
        sum[3] += u * u;
        sum[4] += y * u;
    }
    job->pixels += (double)(n * area);
    return nd_status_ok;
}

/* `u`: also capture the layer's output in the current network. */
static nd_status run_job(const nd_layer_data *data, bool u, nd_sample_block *block, layer_job *job) {
    nd_status status = nd_status_ok;
    const nd_node *node = &data->original->nodes[data->layer->node];
    int64_t batch = data->settings->calib->batch;
    int shortcut = -1, y = node->out[0];
    ND_TRY(shortcut_of(data->original, data->layer->node, &shortcut));
    int n = shortcut < 0 ? 1 : 2, wanted[2] = {y, shortcut}, given[3] = {node->in[0], shortcut};
    given[n] = y;
    job->backend = data->backend;
    job->conv = &data->layer->conv;
    job->size = nd_value_size(data->original, y);
    const bool own_targets = shortcut >= 0 || job->targets;
    if (own_targets) job->target = nd_alloc_array((size_t)batch, (size_t)job->size * sizeof *job->target);
    ND_REQUIRE_DONE(job->target || !own_targets, nd_status_memory, "conv %s: no memory for its targets",
                    data->layer->name);
    ND_TRY_DONE(nd_activation_cache_captures(data->activations, data->backend, data->original, wanted, n,
                                             &job->original));
    ND_TRY_DONE(nd_activation_cache_captures(data->activations, data->backend, data->current, given,
                                             u ? n + 1 : n, &job->current));
    job->y = job->original.data[0];
    job->u = u ? job->current.data[n] : NULL;
    job->y_shortcut = n > 1 ? job->original.data[1] : NULL;
    job->u_shortcut = n > 1 ? job->current.data[1] : NULL;
    ND_TRY_DONE(nd_activation_cache_sample(data->activations, 0, &job->original, &job->current, block, job));
done:
    nd_captures_close(&job->original);
    nd_captures_close(&job->current);
    free(job->target);
    return status;
}

nd_status nd_layer_moments(const nd_layer_data *data, nd_split *out) {
    layer_job job = {0};
    ND_TRY(nd_split_open(&data->layer->conv,
                         nd_sample_count(data->settings->calib, data->settings->calib_images), &job.split));
    nd_activation_cache_ahead(data->activations, data->next, !data->settings->relu_aware);
    nd_status status = run_job(data, false, plain_block, &job);
    if (status)
        nd_split_close(&job.split);
    else
        *out = job.split;
    return status;
}

bool nd_layer_slope(const nd_graph *graph, int at, double *slope) {
    int user = -1;
    if (nd_graph_uses(graph, graph->nodes[at].out[0], &user) != 1 || user < 0) return false;
    if (graph->nodes[user].op == nd_op_add) {
        if (nd_graph_uses(graph, graph->nodes[user].out[0], &user) != 1 || user < 0) return false;
    }
    const nd_node *node = &graph->nodes[user];
    if (node->op != nd_op_relu && node->op != nd_op_leaky_relu) return false;
    *slope = node->op == nd_op_relu ? 0 : node->attr.alpha;
    return true;
}

nd_status nd_layer_retarget(const nd_layer_data *data, double proximal, double slope, nd_moments *moments) {
    layer_job job = {.proximal = proximal, .slope = slope};
    ND_TRY(nd_moments_new_targets(&data->layer->conv, &job.targets));
    job.targets->limit = moments->limit;
    nd_status status = run_job(data, true, aware_block, &job);
    if (!status) status = nd_moments_retarget(moments, data->backend, &data->layer->conv, job.targets);
    nd_moments_free(job.targets);
    return status;
}

nd_status nd_layer_activation_error(const nd_layer_data *data, double slope, double *error) {
    int64_t no = data->layer->conv.no;
    layer_job job = {.slope = slope};
    job.sums = nd_alloc_array((size_t)no, 3 * sizeof *job.sums);
    ND_REQUIRE(job.sums, nd_status_memory, "conv %s: no memory for its error", data->layer->name);
    nd_status status = run_job(data, true, activation_block, &job);
    double rest = 0, spread = 0;
    for (int64_t o = 0; !status && o < no; o++) {
        const double *sum = job.sums + 3 * o;
        rest += sum[2];
        spread += fmax(sum[1] - sum[0] * sum[0] / job.pixels, 0);
    }
    *error = spread > 0 ? rest / spread : 0;
    free(job.sums);
    return status;
}

nd_status nd_layer_gains(const nd_layer_data *data, double *gain, double *shift, double *error) {
    int64_t no = data->layer->conv.no;
    layer_job job = {0};
    job.sums = nd_alloc_array((size_t)no, 5 * sizeof *job.sums);
    ND_REQUIRE(job.sums, nd_status_memory, "conv %s: no memory for its gains", data->layer->name);
    nd_activation_cache_ahead(data->activations, data->next, true);
    nd_status status = run_job(data, true, gains_block, &job);
    double rest = 0, spread = 0;
    for (int64_t o = 0; !status && o < no; o++) {
        double *sum = job.sums + 5 * o;
        for (int s = 0; s < 5; s++) sum[s] /= job.pixels;
        if (data->layer->conv.product == nd_product_matmul) sum[0] = sum[1] = 0; /* no bias to shift by */
        double yy = sum[2] - sum[0] * sum[0], uu = sum[3] - sum[1] * sum[1], yu = sum[4] - sum[0] * sum[1];
        gain[o] = uu > 1e-12 * sum[3] ? yu / uu : 1;
        shift[o] = sum[0] - gain[o] * sum[1];
        rest += fmax(yy - 2 * gain[o] * yu + gain[o] * gain[o] * uu, 0);
        spread += fmax(yy, 0);
    }
    *error = spread > 0 ? rest / spread : 0;
    free(job.sums);
    return status;
}
