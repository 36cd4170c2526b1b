#include "decouple/calib/gradient_ops.h"

#include "model/infer/infer.h"
#include "run/captures.h"

#include <math.h>
#include <string.h>

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

static bool keeps_size(const nd_backward_site *at) {
    return nd_value_size(at->graph, at->node->in[0]) == nd_value_size(at->graph, at->node->out[0]);
}

static void run_elementwise(const nd_backward *b) {
    int64_t size = nd_value_size(b->graph, b->node->out[0]);
    for (int64_t e = 0; e < size; e++) b->dx[0][e] += (float)slope_at(b->node, b->x[0][e]) * b->dy[0][e];
}

static void run_relu(const nd_backward *b) {
    int64_t size = nd_value_size(b->graph, b->node->out[0]);
    for (int64_t e = 0; e < size; e++) b->dx[0][e] += b->x[0][e] > 0 ? b->dy[0][e] : 0;
}

static void run_copy(const nd_backward *b) {
    int64_t size = nd_value_size(b->graph, b->node->out[0]);
    for (int64_t e = 0; e < size; e++) b->dx[0][e] += b->dy[0][e];
}

static bool batchnorm_fits(const nd_backward_site *at) {
    return nd_graph_constant(at->graph, at->node, 1) && nd_graph_constant(at->graph, at->node, 4) &&
           keeps_size(at);
}

static void run_batchnorm(const nd_backward *b) {
    const float *gamma = nd_graph_constant(b->graph, b->node, 1)->data;
    const float *variance = nd_graph_constant(b->graph, b->node, 4)->data;
    const nd_value *y = output_of(b->graph, b->node);
    int64_t channels = y->dims[1], area = nd_value_size(b->graph, b->node->out[0]) / channels;
    for (int64_t c = 0; c < channels; c++) {
        float factor = (float)(gamma[c] / sqrt((double)variance[c] + b->node->attr.epsilon));
        for (int64_t p = c * area; p < (c + 1) * area; p++) b->dx[0][p] += factor * b->dy[0][p];
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

/* Images lie along axis 0 of what depends on them; what does not is broadcast from any rank. */
static bool operands_fit(const nd_backward_site *at) {
    const nd_value *y = output_of(at->graph, at->node);
    for (int i = 0; i < at->node->n_in; i++) {
        const nd_value *x = input_of(at->graph, at->node, i);
        const bool varies = at->images[at->node->in[i]];
        if (varies ? x->rank != y->rank : x->rank < 0 || x->rank > y->rank) return false;
        if (x->rank == y->rank && x->dims[0] != (varies ? y->dims[0] : 1)) return false;
        if (x->init && x->init->dtype != nd_dtype_f32) return false;
    }
    return y->rank > 0;
}

static void run_add(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node);
    for (int i = 0; i < b->node->n_in; i++) {
        if (!b->dx[i]) continue;
        const nd_value *x = input_of(b->graph, b->node, i);
        box m = box_of(y, x, y);
        for (int d = 0; d < m.rank; d++)
            if (x->dims[d + 1] == 1) m.to[d] = 0;
        box_add(&m, 0, b->dx[i], b->dy[0]);
    }
}

/* --- two operands, numbers of one image against another or against constants --- */

typedef struct pair {
    int rank; /* without the batch */
    int64_t dims[nd_rank_max], a[nd_rank_max], b[nd_rank_max];
    nd_op op;
} pair;

/* Strides along the axes of one image of y of an operand that is broadcast to it. */
static void broadcast_strides(const nd_value *x, const nd_value *y, int64_t *strides) {
    const int missing = y->rank - x->rank;
    int64_t step = 1;
    for (int d = y->rank - 1; d > 0; d--) {
        const int64_t size = d >= missing ? x->dims[d - missing] : 1;
        strides[d - 1] = size == 1 ? 0 : step;
        step *= size;
    }
}

static bool pair_fits(const nd_backward_site *at) {
    return at->node->n_in == 2 && operands_fit(at);
}

static void pair_add(nd_op op, const float *a, const float *b, float dy, float *da, float *db) {
    if (op == nd_op_mul) {
        if (da) *da += dy * *b;
        if (db) *db += dy * *a;
    } else if (op == nd_op_div) {
        if (da) *da += dy / *b;
        if (db) *db -= dy * *a / (*b * *b);
    } else {
        if (da) *da += dy;
        if (db) *db -= dy;
    }
}

static const float *pair_walk(const pair *p, int axis, const float *const x[2], const float *dy,
                              float *const dx[2]) {
    if (axis == p->rank) {
        pair_add(p->op, x[0], x[1], *dy, dx[0], dx[1]);
        return dy + 1;
    }
    for (int64_t i = 0; i < p->dims[axis]; i++) {
        const int64_t a = i * p->a[axis], b = i * p->b[axis];
        const float *at[2] = {x[0] ? x[0] + a : NULL, x[1] ? x[1] + b : NULL};
        float *to[2] = {dx[0] ? dx[0] + a : NULL, dx[1] ? dx[1] + b : NULL};
        dy = pair_walk(p, axis + 1, at, dy, to);
    }
    return dy;
}

static void run_pair(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node);
    pair p = {.rank = y->rank - 1, .op = b->node->op};
    for (int d = 0; d < p.rank; d++) p.dims[d] = y->dims[d + 1];
    broadcast_strides(input_of(b->graph, b->node, 0), y, p.a);
    broadcast_strides(input_of(b->graph, b->node, 1), y, p.b);
    (void)pair_walk(&p, 0, b->x, b->dy[0], b->dx);
}

static bool expand_fits(const nd_backward_site *at) {
    return input_of(at->graph, at->node, 0)->rank == output_of(at->graph, at->node)->rank;
}

static void run_expand(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    box m = box_of(y, x, y);
    broadcast_strides(x, y, m.to);
    box_add(&m, 0, b->dx[0], b->dy[0]);
}

static bool split_fits(const nd_backward_site *at) {
    return at->node->attr.axis > 0 && at->node->attr.axis < input_of(at->graph, at->node, 0)->rank;
}

static void run_split(const nd_backward *b) {
    const nd_value *x = input_of(b->graph, b->node, 0);
    float *to = b->dx[0];
    const int axis = (int)b->node->attr.axis;
    for (int o = 0; o < b->node->n_out; o++) {
        if (b->node->out[o] < 0) continue;
        const nd_value *y = &b->graph->values[b->node->out[o]];
        box m = box_of(y, x, y);
        if (b->dy[o]) box_add(&m, 0, to, b->dy[o]);
        to += y->dims[axis] * m.to[axis - 1];
    }
}

static bool concat_fits(const nd_backward_site *at) {
    return at->node->attr.axis > 0 && at->node->attr.axis < output_of(at->graph, at->node)->rank;
}

static void run_concat(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node);
    const float *from = b->dy[0];
    for (int i = 0; i < b->node->n_in; i++) {
        const nd_value *x = input_of(b->graph, b->node, i);
        box m = box_of(x, x, y);
        int axis = (int)b->node->attr.axis;
        if (b->dx[i]) box_add(&m, 0, b->dx[i], from);
        from += x->dims[axis] * m.from[axis - 1];
    }
}

static bool transpose_fits(const nd_backward_site *at) {
    return at->node->attr.n == output_of(at->graph, at->node)->rank && at->node->attr.list[0] == 0;
}

static void run_transpose(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    int64_t strides[nd_rank_max];
    box m = box_of(y, y, y);
    strides_of(x, strides);
    for (int d = 0; d < m.rank; d++) m.to[d] = strides[b->node->attr.list[d + 1] - 1];
    box_add(&m, 0, b->dx[0], b->dy[0]);
}

static bool pad_fits(const nd_backward_site *at) {
    const nd_attr *attr = &at->node->attr;
    int rank = output_of(at->graph, at->node)->rank;
    if (attr->pad_mode || attr->n != 2 * rank || attr->list[0] || attr->list[rank]) return false;
    for (int i = 0; i < attr->n; i++)
        if (attr->list[i] < 0) return false;
    return true;
}

static void run_pad(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    box m = box_of(x, x, y);
    const float *from = b->dy[0];
    for (int d = 0; d < m.rank; d++) from += b->node->attr.list[d + 1] * m.from[d];
    box_add(&m, 0, b->dx[0], from);
}

static bool slice_fits(const nd_backward_site *at) {
    for (int i = 0; i < at->node->attr.n; i++)
        if (at->node->attr.axes[i] <= 0 || at->node->attr.axes[i] >= output_of(at->graph, at->node)->rank)
            return false;
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
    box_add(&m, 0, to, b->dy[0]);
}

static bool mean_fits(const nd_backward_site *at) {
    for (int i = 0; i < at->node->attr.n; i++)
        if (at->node->attr.list[i] <= 0) return false;
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
    box_add(&m, 0, b->dx[0], b->dy[0]);
}

static bool gather_fits(const nd_backward_site *at) {
    const nd_tensor *index = nd_graph_constant(at->graph, at->node, 1);
    return index && index->dtype == nd_dtype_i64 && index->rank == 1 && at->node->attr.axis == 1;
}

static void run_gather(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    const int64_t *index = nd_graph_constant(b->graph, b->node, 1)->data;
    int64_t area = nd_value_size(b->graph, b->node->out[0]) / y->dims[1];
    for (int64_t c = 0; c < y->dims[1]; c++) {
        int64_t from = index[c] < 0 ? index[c] + x->dims[1] : index[c];
        for (int64_t p = 0; p < area; p++) b->dx[0][from * area + p] += b->dy[0][c * area + p];
    }
}

/* --- ops along an axis, or between grids --- */

static bool softmax_fits(const nd_backward_site *at) {
    return at->node->attr.axis > 0 && !at->node->attr.flat_softmax && keeps_size(at);
}

/* dx = y (dy - sum y dy) */
static void run_softmax(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node);
    const int64_t axis = b->node->attr.axis, n = y->dims[axis];
    const int64_t inner = nd_dims_count(y->rank - (int)axis - 1, y->dims + axis + 1);
    const int64_t size = nd_value_size(b->graph, b->node->out[0]);
    for (int64_t outer = 0; outer < size; outer += n * inner)
        for (int64_t first = outer; first < outer + inner; first++) {
            const int64_t last = first + n * inner;
            double mean = 0;
            for (int64_t i = first; i < last; i += inner) mean += (double)b->y[i] * b->dy[0][i];
            for (int64_t i = first; i < last; i += inner)
                b->dx[0][i] += (float)(b->y[i] * (b->dy[0][i] - mean));
        }
}

static bool norm_fits(const nd_backward_site *at) {
    if (strcmp(at->node->op_type, "ReduceL2") && strcmp(at->node->op_type, "ReduceSum")) return false;
    return at->node->attr.n > 0 && mean_fits(at);
}

/* A root of squares that is 0 has no derivative: 0. */
static void norm_walk(const box *m, int axis, bool root, const float *x, const float *y, const float *dy,
                      float *dx) {
    if (axis == m->rank) {
        if (!root) *dx += *dy;
        if (root && *y > 0) *dx += *dy * *x / *y;
        return;
    }
    for (int64_t i = 0; i < m->dims[axis]; i++) {
        const int64_t from = i * m->from[axis], to = i * m->to[axis];
        norm_walk(m, axis + 1, root, x + to, y + from, dy + from, dx + to);
    }
}

/* Strides of the results of a reduction along the axes of what it reads: 0 along those that go. */
static void reduced_strides(const nd_attr *attr, const nd_value *x, int64_t *strides) {
    bool gone[nd_rank_max] = {false};
    int64_t step = 1;
    for (int i = 0; i < attr->n; i++) gone[attr->list[i]] = true;
    for (int d = x->rank - 1; d > 0; d--) {
        strides[d - 1] = gone[d] ? 0 : step;
        if (!gone[d]) step *= x->dims[d];
    }
}

static void run_norm(const nd_backward *b) {
    const nd_value *x = input_of(b->graph, b->node, 0);
    box m = box_of(x, x, x);
    reduced_strides(&b->node->attr, x, m.from);
    norm_walk(&m, 0, !strcmp(b->node->op_type, "ReduceL2"), b->x[0], b->y, b->dy[0], b->dx[0]);
}

static bool resize_fits(const nd_backward_site *at) {
    const nd_value *x = input_of(at->graph, at->node, 0), *y = output_of(at->graph, at->node);
    const nd_resize *r = &at->node->attr.resize;
    if (r->mode != nd_resize_nearest || x->rank != 4 || y->dims[1] != x->dims[1]) return false;
    for (int d = 2; d < 4; d++) {
        const int64_t times = y->dims[d] / x->dims[d];
        if (times * x->dims[d] != y->dims[d] || r->scales[d] != (float)times) return false;
        const bool corner =
            r->coordinates == nd_resize_asymmetric &&
            (r->rounding == nd_resize_floor || (r->rounding == nd_resize_round_prefer_floor && times <= 2));
        const bool centre =
            r->coordinates == nd_resize_half_pixel && r->rounding <= nd_resize_round_prefer_ceil;
        if (!corner && !centre) return false;
    }
    return true;
}

/* By whole factors each pixel is repeated. */
static void run_resize(const nd_backward *b) {
    const nd_value *y = output_of(b->graph, b->node), *x = input_of(b->graph, b->node, 0);
    const int64_t down = y->dims[2] / x->dims[2], across = y->dims[3] / x->dims[3];
    const float *dy = b->dy[0];
    for (int64_t row = 0; row < y->dims[1] * y->dims[2]; row++) {
        float *dx = b->dx[0] + row / down * x->dims[3];
        for (int64_t column = 0; column < y->dims[3]; column++) dx[column / across] += *dy++;
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

static bool pool_fits(const nd_backward_site *at) {
    return input_of(at->graph, at->node, 0)->rank == 4;
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
    const float *dy = b->dy[0];
    for (int64_t c = 0; c < y->dims[1]; c++)
        for (int64_t oy = 0; oy < y->dims[2]; oy++)
            for (int64_t ox = 0; ox < y->dims[3]; ox++)
                run_window(b->node, b->x[0] ? b->x[0] + c * area : NULL, b->dx[0] + c * area, size, oy, ox,
                           *dy++);
}

static const nd_backward_rule rules[] = {
    {nd_op_relu, nd_keep_first, keeps_size, run_relu},
    {nd_op_leaky_relu, nd_keep_first, keeps_size, run_elementwise},
    {nd_op_clip, nd_keep_first, keeps_size, run_elementwise},
    {nd_op_sigmoid, nd_keep_first, keeps_size, run_elementwise},
    {nd_op_hard_sigmoid, nd_keep_first, keeps_size, run_elementwise},
    {nd_op_hard_swish, nd_keep_first, keeps_size, run_elementwise},
    {nd_op_identity, 0, keeps_size, run_copy},
    {nd_op_dropout, 0, keeps_size, run_copy},
    {nd_op_flatten, 0, keeps_size, run_copy},
    {nd_op_reshape, 0, keeps_size, run_copy},
    {nd_op_squeeze, 0, keeps_size, run_copy},
    {nd_op_unsqueeze, 0, keeps_size, run_copy},
    {nd_op_batchnorm, 0, batchnorm_fits, run_batchnorm},
    {nd_op_add, 0, operands_fit, run_add},
    {nd_op_mul, nd_keep_all, pair_fits, run_pair},
    {nd_op_div, nd_keep_all, pair_fits, run_pair},
    {nd_op_sub, 0, pair_fits, run_pair},
    {nd_op_expand, 0, expand_fits, run_expand},
    {nd_op_split, 0, split_fits, run_split},
    {nd_op_concat, 0, concat_fits, run_concat},
    {nd_op_transpose, 0, transpose_fits, run_transpose},
    {nd_op_pad, 0, pad_fits, run_pad},
    {nd_op_slice, 0, slice_fits, run_slice},
    {nd_op_global_average_pool, 0, NULL, run_mean},
    {nd_op_reduce_mean, 0, mean_fits, run_mean},
    {nd_op_gather, 0, gather_fits, run_gather},
    {nd_op_softmax, nd_keep_result, softmax_fits, run_softmax},
    {nd_op_reduce, nd_keep_first | nd_keep_result, norm_fits, run_norm},
    {nd_op_resize, 0, resize_fits, run_resize},
    {nd_op_max_pool, nd_keep_first, pool_fits, run_pool},
    {nd_op_average_pool, 0, pool_fits, run_pool},
};

const nd_backward_rule *nd_backward_rule_of(const nd_backward_site *at) {
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        if (rules[r].op != at->node->op) continue;
        return !rules[r].fits || rules[r].fits(at) ? &rules[r] : NULL;
    }
    return NULL;
}
