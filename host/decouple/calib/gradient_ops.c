#include "decouple/calib/gradient_ops.h"

#include "model/infer/infer.h"
#include "run/captures.h"

#include <math.h>

static const nd_value *input_of(const nd_graph *graph, const nd_node *node, int i) {
    return &graph->values[node->in[i]];
}

static const nd_value *output_of(const nd_graph *graph, const nd_node *node) {
    return &graph->values[node->out[0]];
}

/* --- elementwise --- */

static double slope_at(const nd_node *node, double x) {
    const nd_attr *a = &node->attr;
    switch (node->op) {
    case nd_op_leaky_relu:
        return x < 0 ? a->alpha : 1;
    case nd_op_clip:
        return x > a->lo && x < a->hi;
    case nd_op_sigmoid:
        return 1 / (2 + exp(x) + exp(-x));
    case nd_op_hard_sigmoid: {
        double y = a->alpha * x + a->beta;
        return y > 0 && y < 1 ? a->alpha : 0;
    }
    case nd_op_hard_swish:
        return x <= -3 ? 0 : x >= 3 ? 1 : (2 * x + 3) / 6;
    default:
        return 1;
    }
}

static bool keeps_size(const nd_graph *graph, const nd_node *node) {
    return nd_value_size(graph, node->in[0]) == nd_value_size(graph, node->out[0]);
}

static void run_elementwise(const nd_backward *b) {
    int64_t size = nd_value_size(b->graph, b->node->out[0]);
    for (int64_t e = 0; e < size; e++) b->dx[0][e] += (float)slope_at(b->node, b->x[e]) * b->dy[e];
}

static void run_relu(const nd_backward *b) {
    int64_t size = nd_value_size(b->graph, b->node->out[0]);
    for (int64_t e = 0; e < size; e++) b->dx[0][e] += b->x[e] > 0 ? b->dy[e] : 0;
}

static void run_copy(const nd_backward *b) {
    int64_t size = nd_value_size(b->graph, b->node->out[0]);
    for (int64_t e = 0; e < size; e++) b->dx[0][e] += b->dy[e];
}

static bool batchnorm_fits(const nd_graph *graph, const nd_node *node) {
    return nd_graph_constant(graph, node, 1) && nd_graph_constant(graph, node, 4) && keeps_size(graph, node);
}

static void run_batchnorm(const nd_backward *b) {
    const float *gamma = nd_graph_constant(b->graph, b->node, 1)->data;
    const float *variance = nd_graph_constant(b->graph, b->node, 4)->data;
    const nd_value *y = output_of(b->graph, b->node);
    int64_t channels = y->dims[1], area = nd_value_size(b->graph, b->node->out[0]) / channels;
    for (int64_t c = 0; c < channels; c++) {
        float factor = (float)(gamma[c] / sqrt((double)variance[c] + b->node->attr.epsilon));
        for (int64_t p = c * area; p < (c + 1) * area; p++) b->dx[0][p] += factor * b->dy[p];
    }
}

/* --- ops that move, repeat or average elements: to[a . i] += scale * from[b . i] over a box of i --- */

typedef struct box {
    int rank; /* without the batch */
    int64_t dims[nd_rank_max], to[nd_rank_max], from[nd_rank_max];
    float scale;
} box;

static void box_add(const box *m, int axis, float *to, const float *from) {
    int64_t n = axis < m->rank ? m->dims[axis] : 1;
    if (axis + 1 >= m->rank) {
        int64_t a = axis < m->rank ? m->to[axis] : 0, b = axis < m->rank ? m->from[axis] : 0;
        for (int64_t i = 0; i < n; i++) to[i * a] += m->scale * from[i * b];
        return;
    }
    for (int64_t i = 0; i < n; i++) box_add(m, axis + 1, to + i * m->to[axis], from + i * m->from[axis]);
}

/* Row-major strides of one image of a value. */
static void strides_of(const nd_value *value, int64_t *strides) {
    int64_t step = 1;
    for (int d = value->rank - 2; d >= 0; d--) {
        strides[d] = step;
        step *= value->dims[d + 1];
    }
}

static box box_of(const nd_value *shape, const nd_value *to, const nd_value *from) {
    box m = {.rank = shape->rank - 1, .scale = 1};
    for (int d = 0; d < m.rank; d++) m.dims[d] = shape->dims[d + 1];
    strides_of(to, m.to);
    strides_of(from, m.from);
    return m;
}

static bool add_fits(const nd_graph *graph, const nd_node *node) {
    for (int i = 0; i < node->n_in; i++) {
        const nd_value *x = input_of(graph, node, i);
        if (!x->init && x->rank != output_of(graph, node)->rank) return false;
    }
    return true;
}

static void run_add(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node);
    for (int i = 0; i < b->node->n_in; i++) {
        if (!b->dx[i]) continue;
        const nd_value *x = input_of(b->graph, b->node, i);
        box m = box_of(y, x, y);
        for (int d = 0; d < m.rank; d++)
            if (x->dims[d + 1] == 1) m.to[d] = 0;
        box_add(&m, 0, b->dx[i], b->dy);
    }
}

static bool concat_fits(const nd_graph *graph, const nd_node *node) {
    return node->attr.axis > 0 && node->attr.axis < output_of(graph, node)->rank;
}

static void run_concat(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node);
    const float *from = b->dy;
    for (int i = 0; i < b->node->n_in; i++) {
        const nd_value *x = input_of(b->graph, b->node, i);
        box m = box_of(x, x, y);
        int axis = (int)b->node->attr.axis;
        if (b->dx[i]) box_add(&m, 0, b->dx[i], from);
        from += x->dims[axis] * m.from[axis - 1];
    }
}

static bool transpose_fits(const nd_graph *graph, const nd_node *node) {
    return node->attr.n == output_of(graph, node)->rank && node->attr.list[0] == 0;
}

static void run_transpose(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    int64_t strides[nd_rank_max];
    box m = box_of(y, y, y);
    strides_of(x, strides);
    for (int d = 0; d < m.rank; d++) m.to[d] = strides[b->node->attr.list[d + 1] - 1];
    box_add(&m, 0, b->dx[0], b->dy);
}

static bool pad_fits(const nd_graph *graph, const nd_node *node) {
    const nd_attr *attr = &node->attr;
    int rank = output_of(graph, node)->rank;
    if (attr->pad_mode || attr->n != 2 * rank || attr->list[0] || attr->list[rank]) return false;
    for (int i = 0; i < attr->n; i++)
        if (attr->list[i] < 0) return false;
    return true;
}

static void run_pad(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    box m = box_of(x, x, y);
    const float *from = b->dy;
    for (int d = 0; d < m.rank; d++) from += b->node->attr.list[d + 1] * m.from[d];
    box_add(&m, 0, b->dx[0], from);
}

static bool slice_fits(const nd_graph *graph, const nd_node *node) {
    for (int i = 0; i < node->attr.n; i++)
        if (node->attr.axes[i] <= 0 || node->attr.axes[i] >= output_of(graph, node)->rank) return false;
    return true;
}

static void run_slice(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    const nd_attr *attr = &b->node->attr;
    box m = box_of(y, x, y);
    float *to = b->dx[0];
    for (int i = 0; i < attr->n; i++) {
        int64_t first = 0, axis = attr->axes[i];
        nd_slice_count(attr, i, x->dims[axis], &first);
        to += first * m.to[axis - 1];
        m.to[axis - 1] *= attr->steps[i];
    }
    box_add(&m, 0, to, b->dy);
}

static bool mean_fits(const nd_graph *graph, const nd_node *node) {
    (void)graph;
    for (int i = 0; i < node->attr.n; i++)
        if (node->attr.list[i] <= 0) return false;
    return true;
}

/* Global pooling is the mean over all axes but the first two. */
static void run_mean(const nd_backward *b) {
    const nd_value *x = input_of(b->graph, b->node, 0);
    bool averaged[nd_rank_max] = {false}, global = b->node->op == nd_op_global_average_pool;
    for (int d = 2; global && d < x->rank; d++) averaged[d] = true;
    for (int i = 0; !global && i < b->node->attr.n; i++) averaged[b->node->attr.list[i]] = true;
    box m = box_of(x, x, x);
    int64_t step = 1, count = 1;
    for (int d = m.rank - 1; d >= 0; d--) {
        m.from[d] = averaged[d + 1] ? 0 : step;
        if (averaged[d + 1])
            count *= m.dims[d];
        else
            step *= m.dims[d];
    }
    m.scale = 1 / (float)count;
    box_add(&m, 0, b->dx[0], b->dy);
}

static bool gather_fits(const nd_graph *graph, const nd_node *node) {
    const nd_tensor *index = nd_graph_constant(graph, node, 1);
    return index && index->dtype == nd_dtype_i64 && index->rank == 1 && node->attr.axis == 1;
}

static void run_gather(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    const int64_t *index = nd_graph_constant(b->graph, b->node, 1)->data;
    int64_t area = nd_value_size(b->graph, b->node->out[0]) / y->dims[1];
    for (int64_t c = 0; c < y->dims[1]; c++) {
        int64_t from = index[c] < 0 ? index[c] + x->dims[1] : index[c];
        for (int64_t p = 0; p < area; p++) b->dx[0][from * area + p] += b->dy[c * area + p];
    }
}

/* --- windows --- */

typedef struct span {
    int64_t first, last; /* taps whose pixels exist: first <= tap < last */
} span;

static span taps_inside(const nd_window *w, int axis, int64_t position, int64_t size) {
    span s = {w->kernel[axis], 0};
    for (int64_t t = 0; t < w->kernel[axis]; t++) {
        int64_t at = position * w->stride[axis] - w->pad[axis] + t * w->dilation[axis];
        if (at < 0 || at >= size) continue;
        if (t < s.first) s.first = t;
        s.last = t + 1;
    }
    return s;
}

/* Taps that an average divides by: with count_include_pad those on declared padding too. */
static int64_t taps_counted(const nd_node *node, int axis, int64_t position, int64_t size) {
    const nd_window *w = &node->attr.window;
    int64_t low = node->attr.count_include_pad ? -w->pad[axis] : 0, taps = 0;
    int64_t high = size + (node->attr.count_include_pad ? w->pad[axis + 2] : 0);
    for (int64_t t = 0; t < w->kernel[axis]; t++) {
        int64_t at = position * w->stride[axis] - w->pad[axis] + t * w->dilation[axis];
        taps += at >= low && at < high;
    }
    return taps;
}

static bool pool_fits(const nd_graph *graph, const nd_node *node) {
    return input_of(graph, node, 0)->rank == 4;
}

/* One window: the first of the largest takes all, or every tap its share. */
static void run_window(const nd_node *node, const float *x, float *dx, const int64_t *size, int64_t oy,
                       int64_t ox, float dy) {
    const nd_window *w = &node->attr.window;
    span ys = taps_inside(w, 0, oy, size[0]), xs = taps_inside(w, 1, ox, size[1]);
    bool maximum = node->op == nd_op_max_pool;
    int64_t best = -1, y0 = oy * w->stride[0] - w->pad[0], x0 = ox * w->stride[1] - w->pad[1];
    if (!maximum) dy /= (float)(taps_counted(node, 0, oy, size[0]) * taps_counted(node, 1, ox, size[1]));
    for (int64_t i = ys.first; i < ys.last; i++)
        for (int64_t j = xs.first; j < xs.last; j++) {
            int64_t at = (y0 + i * w->dilation[0]) * size[1] + x0 + j * w->dilation[1];
            if (!maximum)
                dx[at] += dy;
            else if (best < 0 || x[at] > x[best])
                best = at;
        }
    if (best >= 0) dx[best] += dy;
}

static void run_pool(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    const int64_t *size = x->dims + 2;
    int64_t area = size[0] * size[1];
    const float *dy = b->dy;
    for (int64_t c = 0; c < y->dims[1]; c++)
        for (int64_t oy = 0; oy < y->dims[2]; oy++)
            for (int64_t ox = 0; ox < y->dims[3]; ox++)
                run_window(b->node, b->x ? b->x + c * area : NULL, b->dx[0] + c * area, size, oy, ox, *dy++);
}

static const nd_backward_rule rules[] = {
    {nd_op_relu, true, keeps_size, run_relu},
    {nd_op_leaky_relu, true, keeps_size, run_elementwise},
    {nd_op_clip, true, keeps_size, run_elementwise},
    {nd_op_sigmoid, true, keeps_size, run_elementwise},
    {nd_op_hard_sigmoid, true, keeps_size, run_elementwise},
    {nd_op_hard_swish, true, keeps_size, run_elementwise},
    {nd_op_identity, false, keeps_size, run_copy},
    {nd_op_dropout, false, keeps_size, run_copy},
    {nd_op_flatten, false, keeps_size, run_copy},
    {nd_op_reshape, false, keeps_size, run_copy},
    {nd_op_squeeze, false, keeps_size, run_copy},
    {nd_op_unsqueeze, false, keeps_size, run_copy},
    {nd_op_batchnorm, false, batchnorm_fits, run_batchnorm},
    {nd_op_add, false, add_fits, run_add},
    {nd_op_concat, false, concat_fits, run_concat},
    {nd_op_transpose, false, transpose_fits, run_transpose},
    {nd_op_pad, false, pad_fits, run_pad},
    {nd_op_slice, false, slice_fits, run_slice},
    {nd_op_global_average_pool, false, NULL, run_mean},
    {nd_op_reduce_mean, false, mean_fits, run_mean},
    {nd_op_gather, false, gather_fits, run_gather},
    {nd_op_max_pool, true, pool_fits, run_pool},
    {nd_op_average_pool, false, pool_fits, run_pool},
};

const nd_backward_rule *nd_backward_rule_of(const nd_graph *graph, const nd_node *node) {
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        if (rules[r].op != node->op) continue;
        return !rules[r].fits || rules[r].fits(graph, node) ? &rules[r] : NULL;
    }
    return NULL;
}
