/* Nodes with weights, and what is fused into them: Conv, Gemm, MatMul, and per-channel Mul, Add and
 * BatchNormalization. */
#include "run/executor/executor_parts.h"

#include <math.h>
#include <string.h>

static float *group_floats(nd_exec *exec, int64_t count) {
    return nd_arena_alloc(&exec->scratch, (size_t)count * sizeof(float));
}

static nd_window group_window(const nd_exec *exec, const nd_node *conv, const nd_tensor *weights, int pad) {
    nd_window g = conv->attr.window;
    for (int i = 0; i < 2; i++) g.kernel[i] = weights->dims[2 + i];
    if (pad < 0) return g;
    const int64_t *added = exec->graph->nodes[pad].attr.list; /* begins, then ends, of N, C, H, W */
    g.pad[0] += added[2];
    g.pad[1] += added[3];
    g.pad[2] += added[6];
    g.pad[3] += added[7];
    return g;
}

nd_status nd_exec_bias(nd_exec *exec, const nd_node *node, int index, int64_t count, const float **out) {
    *out = NULL;
    if (index >= node->n_in || node->in[index] < 0) return nd_status_ok;
    const nd_tensor *bias = nd_exec_constant(exec, node, index);
    ND_REQUIRE(bias, nd_status_unsupported, "%s: a computed bias", nd_exec_label(exec, node));
    ND_REQUIRE(nd_tensor_count(bias) == count, nd_status_format, "%s: %lld biases for %lld channels",
               nd_exec_label(exec, node), (long long)nd_tensor_count(bias), (long long)count);
    *out = nd_exec_floats(exec, bias);
    ND_REQUIRE(*out, nd_status_memory, "no memory for a bias");
    return nd_status_ok;
}

static nd_status group_conv(nd_exec *exec, const nd_node *node, int pad, nd_work *work) {
    const nd_tensor *weights = nd_exec_constant(exec, node, 1);
    ND_REQUIRE(weights, nd_status_unsupported, "%s: computed weights", nd_exec_label(exec, node));
    ND_REQUIRE(weights->rank == 4 && exec->values[node->in[0]].rank == 4, nd_status_unsupported,
               "%s: only two spatial axes are run", nd_exec_label(exec, node));
    *work = (nd_work){.operation = nd_operation_conv, .groups = node->attr.groups};
    work->window = group_window(exec, node, weights, pad);
    work->weights = nd_exec_floats(exec, weights);
    ND_REQUIRE(work->weights, nd_status_memory, "no memory for weights");
    return nd_exec_bias(exec, node, 2, weights->dims[0], &work->bias);
}

/* bias[o] + sum_r P[o][r] * b[r]: a bias between the parts goes through the pointwise one. */
static nd_status group_fold_depthwise_bias(nd_exec *exec, const float *inner, int64_t no, nd_work *work) {
    if (!inner) return nd_status_ok;
    float *bias = group_floats(exec, no);
    ND_REQUIRE(bias, nd_status_memory, "no memory for a bias");
    for (int64_t o = 0; o < no; o++) {
        double sum = work->bias ? work->bias[o] : 0;
        for (int64_t r = 0; r < work->terms; r++)
            sum += (double)work->weights[o * work->terms + r] * inner[r];
        bias[o] = (float)sum;
    }
    work->bias = bias;
    return nd_status_ok;
}

static nd_status group_separable(nd_exec *exec, const nd_group *group, nd_work *work) {
    const nd_node *nodes = exec->graph->nodes, *depthwise = &nodes[group->depthwise];
    nd_work inner;
    ND_TRY(group_conv(exec, depthwise, group->pad, &inner));
    ND_TRY(group_conv(exec, &nodes[group->main], -1, work));
    const int64_t terms = exec->values[depthwise->out[0]].dims[1];
    const int64_t multiplier = terms / inner.groups;
    int32_t *channel = nd_arena_alloc(&exec->scratch, (size_t)terms * sizeof *channel);
    ND_REQUIRE(channel, nd_status_memory, "no memory for %lld terms", (long long)terms);
    const nd_tensor *list = group->gather >= 0 ? nd_exec_constant(exec, &nodes[group->gather], 1) : NULL;
    for (int64_t r = 0; r < terms; r++) {
        int64_t index = r / multiplier;
        if (list) nd_exec_index(list, r / multiplier, &index);
        channel[r] = (int32_t)index;
    }
    work->operation = nd_operation_separable;
    work->window = inner.window;
    work->depthwise = inner.weights;
    work->channel = channel;
    work->terms = terms;
    return group_fold_depthwise_bias(exec, inner.bias, exec->values[nodes[group->main].out[0]].dims[1], work);
}

/* W[n][k] with alpha, from any of the layouts of Gemm and MatMul. */
static nd_status group_product_weights(nd_exec *exec, const nd_node *node, bool trans_b, float alpha,
                                       int64_t k, int64_t n, const float **out) {
    const nd_tensor *weights = nd_exec_constant(exec, node, 1);
    ND_REQUIRE(weights, nd_status_unsupported, "%s: computed weights", nd_exec_label(exec, node));
    const bool fits =
        weights->rank == 2 && weights->dims[0] == (trans_b ? n : k) && weights->dims[1] == (trans_b ? k : n);
    ND_REQUIRE(fits, nd_status_unsupported, "%s: weights that are no %lldx%lld matrix",
               nd_exec_label(exec, node), (long long)k, (long long)n);
    const float *values = nd_exec_floats(exec, weights);
    *out = values;
    ND_REQUIRE(values, nd_status_memory, "no memory for weights");
    if (trans_b && alpha == 1) return nd_status_ok;
    float *copy = group_floats(exec, n * k);
    *out = copy;
    ND_REQUIRE(copy, nd_status_memory, "no memory for weights");
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < k; j++)
            copy[i * k + j] = alpha * (trans_b ? values[i * k + j] : values[j * n + i]);
    return nd_status_ok;
}

/* Gemm's third input as a bias, if it is constant and does not vary by row; else it is left to an addition.
 */
static nd_status group_gemm_bias(nd_exec *exec, const nd_node *node, int64_t n, const float **out) {
    *out = NULL;
    if (node->n_in < 3 || node->in[2] < 0) return nd_status_ok;
    const nd_tensor *c = nd_exec_constant(exec, node, 2);
    const int64_t last = c && c->rank ? c->dims[c->rank - 1] : 1;
    ND_REQUIRE(c && nd_tensor_count(c) == last && (last == n || last == 1), nd_status_unsupported,
               "%s: C is computed or varies by row", nd_exec_label(exec, node));
    const float *values = nd_exec_floats(exec, c);
    float *bias = group_floats(exec, n);
    ND_REQUIRE(values && bias, nd_status_memory, "no memory for a bias");
    for (int64_t i = 0; i < n; i++) bias[i] = node->attr.beta * values[last == 1 ? 0 : i];
    *out = bias;
    return nd_status_ok;
}

static nd_status group_product(nd_exec *exec, const nd_node *node, nd_work *work) {
    const nd_exec_value *x = &exec->values[node->in[0]], *y = &exec->values[node->out[0]];
    const bool gemm = node->op == nd_op_gemm, trans_a = gemm && node->attr.trans_a;
    ND_REQUIRE(x->rank >= 1 && y->rank >= 1, nd_status_unsupported, "%s: operands without axes",
               nd_exec_label(exec, node));
    const int64_t k = x->dims[trans_a ? 0 : x->rank - 1];
    const nd_tensor *weights = nd_exec_constant(exec, node, 1);
    /* A MatMul by a vector has one column, and no axis for it in y. */
    const bool vector = weights && weights->rank == 1;
    ND_REQUIRE(!vector, nd_status_unsupported, "%s: a product with a vector", nd_exec_label(exec, node));
    const int64_t n = y->dims[y->rank - 1];
    *work = (nd_work){.operation = nd_operation_gemm};
    ND_TRY(group_product_weights(exec, node, gemm && node->attr.trans_b, gemm ? node->attr.alpha : 1, k, n,
                                 &work->weights));
    return gemm ? group_gemm_bias(exec, node, n, &work->bias) : nd_status_ok;
}

static nd_status group_batchnorm(nd_exec *exec, const nd_node *node, nd_work *work) {
    const int64_t channels = exec->values[node->in[0]].rank >= 2 ? exec->values[node->in[0]].dims[1] : 0;
    const float *parts[4]; /* gamma, beta, mean, variance */
    for (int i = 0; i < 4; i++) {
        ND_TRY(nd_exec_bias(exec, node, i + 1, channels, &parts[i]));
        ND_REQUIRE(parts[i], nd_status_format, "%s: an operand is missing", nd_exec_label(exec, node));
    }
    float *scale = group_floats(exec, channels), *shift = group_floats(exec, channels);
    ND_REQUIRE(scale && shift, nd_status_memory, "no memory for a normalisation");
    for (int64_t i = 0; i < channels; i++) {
        const double factor = parts[0][i] / sqrt((double)parts[3][i] + node->attr.epsilon);
        scale[i] = (float)factor;
        shift[i] = (float)(parts[1][i] - factor * parts[2][i]);
    }
    *work = (nd_work){.operation = nd_operation_affine, .weights = scale, .bias = shift};
    return nd_status_ok;
}

/* Add and Mul by a constant per channel. */
static nd_status group_channelwise(nd_exec *exec, const nd_node *node, nd_work *work) {
    int computed;
    const float *constant = nd_exec_channel_constant(exec, node, 1, &computed);
    const int64_t channels = exec->values[node->out[0]].dims[1];
    ND_REQUIRE(constant, nd_status_internal, "%s: no constant per channel", nd_exec_label(exec, node));
    *work = (nd_work){.operation = nd_operation_affine, .weights = constant};
    if (node->op == nd_op_mul) return nd_status_ok;
    float *ones = group_floats(exec, channels);
    ND_REQUIRE(ones, nd_status_memory, "no memory for a normalisation");
    for (int64_t i = 0; i < channels; i++) ones[i] = 1;
    work->weights = ones;
    work->bias = constant;
    return nd_status_ok;
}

static int group_input(nd_exec *exec, const nd_group *group) {
    const nd_node *nodes = exec->graph->nodes, *main = &nodes[group->main];
    if (group->pad >= 0) return nodes[group->pad].in[0];
    if (group->gather >= 0) return nodes[group->gather].in[0];
    if (group->depthwise >= 0) return nodes[group->depthwise].in[0];
    int computed = 0;
    if (main->op == nd_op_add || main->op == nd_op_mul) nd_exec_channel_constant(exec, main, 1, &computed);
    return main->in[computed];
}

static nd_status group_main(nd_exec *exec, const nd_group *group, nd_work *work) {
    const nd_node *main = &exec->graph->nodes[group->main];
    switch (main->op) {
    case nd_op_conv:
        if (group->depthwise >= 0) return group_separable(exec, group, work);
        return group_conv(exec, main, group->pad, work);
    case nd_op_gemm:
    case nd_op_matmul:
        return group_product(exec, main, work);
    case nd_op_batchnorm:
        return group_batchnorm(exec, main, work);
    default:
        return group_channelwise(exec, main, work);
    }
}

static nd_status group_add_bias(nd_exec *exec, const nd_group *group, nd_work *work) {
    if (group->bias < 0) return nd_status_ok;
    const nd_node *node = &exec->graph->nodes[group->bias];
    const nd_exec_value *out = &exec->values[node->out[0]];
    const int axis = work->operation == nd_operation_gemm ? out->rank - 1 : 1;
    int computed;
    const float *added = nd_exec_channel_constant(exec, node, axis, &computed);
    float *bias = group_floats(exec, out->dims[axis]);
    ND_REQUIRE(added && bias, nd_status_memory, "no memory for a bias");
    for (int64_t i = 0; i < out->dims[axis]; i++) bias[i] = (work->bias ? work->bias[i] : 0) + added[i];
    work->bias = bias;
    return nd_status_ok;
}

/* MatMul's leading axes are rows. Both views become matrices; y that cannot is made aside and copied. */
static nd_status group_emit(nd_exec *exec, const nd_node *node, const nd_work *work, nd_operands operands) {
    if (work->operation != nd_operation_gemm) return nd_exec_emit(exec, node, *work, &operands);
    const nd_view *x = &operands.x.view;
    const nd_place y = operands.y;
    const int64_t n = y.view.dims[y.view.rank - 1], rows = nd_view_count(&y.view) / n;
    const int64_t x_dims[] = {rows, x->dims[x->rank - 1]}, y_dims[] = {rows, n};
    nd_place flat = operands.x;
    if (!nd_view_reshape(x, 2, x_dims, &flat.view)) {
        const nd_view dense = nd_view_row_major(x->rank, x->dims);
        ND_TRY(nd_exec_place_new(exec, &dense, &flat));
        ND_TRY(nd_exec_emit_copy(exec, node, &operands.x, &flat));
        flat.view = nd_view_row_major(2, x_dims);
    }
    operands.x = flat;
    const bool whole = nd_view_reshape(&y.view, 2, y_dims, &operands.y.view);
    if (!whole) {
        const nd_view dense = nd_view_row_major(2, y_dims);
        ND_TRY(nd_exec_place_new(exec, &dense, &operands.y));
    }
    if (work->residual && !nd_view_reshape(&operands.x2.view, 2, y_dims, &operands.x2.view))
        return nd_fail(nd_status_internal, "%s: a residual that is no matrix", nd_exec_label(exec, node));
    ND_TRY(nd_exec_emit(exec, node, *work, &operands));
    if (whole) return nd_status_ok;
    nd_place dense = {operands.y.slot, nd_view_row_major(y.view.rank, y.view.dims), y.quant};
    return nd_exec_emit_copy(exec, node, &dense, &y);
}

/* How much of the epilogue one kernel takes, from the front. */
typedef struct nd_epilogue {
    bool residual, act, quantize;
} nd_epilogue;

static nd_status group_operands(nd_exec *exec, const nd_group *group, const nd_epilogue *epilogue,
                                nd_work *work, nd_operands *operands, int *last) {
    const nd_node *nodes = exec->graph->nodes;
    *last = group->bias >= 0 ? group->bias : group->main;
    work->residual = false;
    work->activation = (nd_activation){0};
    if (epilogue->residual) {
        const nd_node *add = &nodes[group->residual];
        const int other = add->in[0] == nodes[*last].out[0] ? add->in[1] : add->in[0];
        ND_TRY(work->weights_scale ? nd_exec_source_stored(exec, other, &operands->x2)
                                   : nd_exec_source(exec, other, &operands->x2));
        work->residual = true;
        *last = group->residual;
    }
    if (epilogue->act) {
        work->activation = nd_exec_epilogue(nodes, group->act, group->gate);
        *last = group->act;
    }
    if (epilogue->quantize) {
        *last = group->quantize;
        nd_exec_quant(exec, &nodes[*last], &exec->values[nodes[*last].out[0]].place.quant);
    }
    return nd_exec_target(exec, nodes[*last].out[0], &operands->y);
}

/* What the kernel left of the group. */
static void group_rest(const nd_group *group, const nd_epilogue *done, nd_parts *left) {
    nd_group rest = nd_group_single(-1);
    if (group->residual >= 0 && !done->residual) {
        rest.main = rest.last = group->residual;
        if (group->act >= 0) rest.act = rest.last = group->act;
        rest.gate = group->gate;
        rest.quantize = group->quantize;
        left->part[left->n++] = rest;
        return;
    }
    if (group->act >= 0 && !done->act) {
        rest = nd_group_single(group->act);
        rest.gate = group->gate;
        left->part[left->n++] = rest;
    }
    if (group->quantize >= 0 && !done->quantize) left->part[left->n++] = nd_group_single(group->quantize);
}

/* A separable pair the backend has no kernel for: gather, depthwise and pointwise, one after the other. */
static void group_split(const nd_exec *exec, const nd_group *group, nd_parts *left) {
    nd_group depthwise = nd_group_single(group->depthwise), rest = *group;
    depthwise.pad = group->pad;
    depthwise.quantize = group->middle;
    rest.pad = rest.gather = rest.again = rest.depthwise = rest.middle = -1;
    if (group->gather >= 0) left->part[left->n++] = nd_group_single(group->gather);
    if (group->again >= 0) {
        const int quantized = exec->graph->nodes[group->again].in[0];
        left->part[left->n++] = nd_group_single(exec->values[quantized].producer);
        left->part[left->n++] = nd_group_single(group->again);
    }
    left->part[left->n++] = depthwise;
    if (group->middle >= 0) {
        const int between = exec->graph->nodes[group->main].in[0];
        left->part[left->n++] = nd_group_single(exec->values[between].producer);
    }
    left->part[left->n++] = rest;
}

/* Integers, or the bytes of e4m3, as the floats that nd_work wants. */
static nd_status group_integers(nd_exec *exec, const int8_t *q, bool e4m3, int64_t rows, int64_t length,
                                bool turned, const float **weights) {
    float *copy = group_floats(exec, rows * length);
    ND_REQUIRE(copy, nd_status_memory, "no memory for weights");
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < length; i++) {
            const int8_t own = q[turned ? i * rows + r : r * length + i];
            copy[r * length + i] = e4m3 ? nd_e4m3_to_f32((uint8_t)own) : own;
        }
    *weights = copy;
    return nd_status_ok;
}

/* The weights of a group in 8 bits, where the file has them so; *done false leaves the work as it was. */
static nd_status group_quantize(nd_exec *exec, const nd_group *group, bool e4m3, nd_work *work, bool *done) {
    const nd_node *nodes = exec->graph->nodes, *main = &nodes[group->main];
    const nd_exec_value *out = &exec->values[main->out[0]];
    const bool product = main->op == nd_op_gemm || main->op == nd_op_matmul;
    const bool turned = product && !(main->op == nd_op_gemm && main->attr.trans_b);
    const int64_t no = out->dims[product ? out->rank - 1 : 1];
    const int8_t *q, *filters;
    const float *scales;
    *done = false;
    if (main->op != nd_op_conv && !product) return nd_status_ok;
    if (product && main->op == nd_op_gemm && (main->attr.alpha != 1 || main->attr.trans_a))
        return nd_status_ok;
    if (!nd_exec_integers(exec, main, 1, turned ? 1 : 0, no, e4m3, &q, &scales)) return nd_status_ok;
    if (group->depthwise >= 0) {
        const nd_node *depthwise = &nodes[group->depthwise];
        if (group->middle < 0 || (depthwise->n_in > 2 && depthwise->in[2] >= 0)) return nd_status_ok;
        nd_exec_quant(exec, &nodes[group->middle], &work->middle_quant);
        const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
        if (nd_exec_integers(exec, depthwise, 1, 0, work->terms, e4m3, &filters, &work->depthwise_scale))
            ND_TRY(group_integers(exec, filters, e4m3, work->terms, taps, false, &work->depthwise));
    }
    const int64_t length = nd_tensor_count(nd_exec_constant(exec, main, 1)) / no;
    ND_TRY(group_integers(exec, q, e4m3, no, length, turned, &work->weights));
    work->weights_scale = scales;
    *done = true;
    return nd_status_ok;
}

/* How well a backend runs a group, best first. */
typedef enum nd_fit { nd_fit_fast, nd_fit_fast_copied, nd_fit_any, nd_fit_any_copied, nd_fit_count } nd_fit;

static bool group_fits(nd_exec *exec, const nd_work *work, const nd_operands *operands, nd_fit fit) {
    const bool fast = fit < nd_fit_any;
    if (fit == nd_fit_fast || fit == nd_fit_any) return nd_exec_supports(exec, *work, operands, fast);
    /* Operands of other ranks are asked about once they are matrices. */
    if (work->operation == nd_operation_gemm && operands->x.view.rank != 2) return true;
    return nd_exec_can_emit(exec, *work, operands, fast);
}

/* The group on quantised operands, with as much of the epilogue as the backend takes. */
static nd_status group_lower_integers(nd_exec *exec, const nd_group *group, const nd_work *real,
                                      nd_parts *left, bool *done) {
    const nd_node *nodes = exec->graph->nodes;
    const bool residual = group->residual >= 0, act = group->act >= 0, quantize = group->quantize >= 0;
    const nd_epilogue choices[] = {{residual, act, quantize},
                                   {residual, act, false},
                                   {residual, false, false},
                                   {false, act && !residual, false},
                                   {false, false, false}};
    nd_work work = *real;
    nd_operands operands = {0};
    bool integers;
    *done = false;
    ND_TRY(nd_exec_source_stored(exec, group_input(exec, group), &operands.x));
    if (!(operands.x.quant.scale > 0)) return nd_status_ok;
    ND_TRY(group_quantize(exec, group, operands.x.quant.e4m3, &work, &integers));
    for (int copied = 0; integers && copied < 2 && !*done; copied++)
        for (int i = 0; i < 5 && !*done; i++) {
            int last;
            ND_TRY(group_operands(exec, group, &choices[i], &work, &operands, &last));
            if (!group_fits(exec, &work, &operands, copied ? nd_fit_fast_copied : nd_fit_fast)) continue;
            *done = true;
            ND_TRY(group_emit(exec, &nodes[last], &work, operands));
            group_rest(group, &choices[i], left);
        }
    return nd_status_ok;
}

nd_status nd_exec_lower_weights(nd_exec *exec, const nd_group *group, nd_parts *left) {
    const nd_node *nodes = exec->graph->nodes;
    nd_work work;
    nd_operands operands = {0};
    ND_TRY(group_main(exec, group, &work));
    ND_TRY(group_add_bias(exec, group, &work));
    bool integers;
    ND_TRY(group_lower_integers(exec, group, &work, left, &integers));
    if (integers) return nd_status_ok;
    if (group->middle >= 0) { /* what lies between is rounded */
        group_split(exec, group, left);
        return nd_status_ok;
    }
    ND_TRY(nd_exec_source(exec, group_input(exec, group), &operands.x));
    if (nodes[group->main].op == nd_op_gemm && nodes[group->main].attr.trans_a) {
        nd_view *x = &operands.x.view;
        *x = (nd_view){2, {x->dims[1], x->dims[0]}, {x->strides[1], x->strides[0]}, x->offset};
    }
    const bool residual = group->residual >= 0, act = group->act >= 0;
    const nd_epilogue choices[] = {{residual, act, false},
                                   {residual, false, false},
                                   {false, act && !residual, false},
                                   {false, false, false}};
    int last;
    for (int fit = 0; fit < nd_fit_count; fit++) {
        const bool split = group->depthwise >= 0 && exec->settings.separable != nd_fuse_forced;
        if (split && fit == nd_fit_any) {
            group_split(exec, group, left);
            return nd_status_ok;
        }
        for (int i = 0; i < 4; i++) {
            ND_TRY(group_operands(exec, group, &choices[i], &work, &operands, &last));
            if (!group_fits(exec, &work, &operands, (nd_fit)fit)) continue;
            ND_TRY(group_emit(exec, &nodes[last], &work, operands));
            group_rest(group, &choices[i], left);
            return nd_status_ok;
        }
    }
    /* No kernel takes even the plain work, which the last choice left in `work`: the host may. */
    ND_TRY(group_emit(exec, &nodes[last], &work, operands));
    group_rest(group, &choices[3], left);
    return nd_status_ok;
}
