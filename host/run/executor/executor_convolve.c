/* Convolutions that nd runs and does not decouple: over one axis, and transposed ones. Both become works of
 * ordinary convolutions, for which every backend has its best kernels. */
#include "base/gcd.h"
#include "run/executor/executor_parts.h"

#include <string.h>

/* A row of pixels as an image of height 1. */
static void view_image(nd_view *view) {
    if (view->rank != 3) return;
    view->rank = 4;
    view->dims[3] = view->dims[2];
    view->strides[3] = view->strides[2];
    view->dims[2] = 1;
    view->strides[2] = 0;
}

static nd_status convolve_operands(nd_exec *exec, const nd_node *node, nd_operands *operands,
                                   const nd_tensor **weights, const float **values) {
    *weights = nd_exec_constant(exec, node, 1);
    ND_REQUIRE(*weights, nd_status_unsupported, "%s: computed weights", nd_exec_label(exec, node));
    *values = nd_exec_floats(exec, *weights);
    ND_REQUIRE(*values, nd_status_memory, "no memory for weights");
    ND_TRY(nd_exec_source(exec, node->in[0], &operands->x));
    ND_TRY(nd_exec_target(exec, node->out[0], &operands->y));
    view_image(&operands->x.view);
    view_image(&operands->y.view);
    return nd_status_ok;
}

nd_status nd_lower_conv_1d(nd_exec *exec, const nd_node *node) {
    nd_work work = {.operation = nd_operation_conv, .groups = node->attr.groups, .window = node->attr.window};
    nd_operands operands = {0};
    const nd_tensor *weights;
    ND_TRY(convolve_operands(exec, node, &operands, &weights, &work.weights));
    ND_TRY(nd_exec_bias(exec, node, 2, weights->dims[0], &work.bias));
    return nd_exec_emit(exec, node, work, &operands);
}

/* --- transposed
 *
 * y[o] = sum over k of x[(o + pad - k * dilation) / stride] * w[k], as far as that division has no remainder.
 * The outputs o = stride * q + phase have the same k in common, in steps of stride / gcd(stride, dilation),
 * and read x at q plus a constant: they are an ordinary convolution of stride 1, with the filter turned
 * round. So a transposed convolution is as many of those as its strides have phases, each into its own pixels
 * of y, and nothing is multiplied by a zero that was put in between. */

typedef struct phase {
    int64_t first, step, taps; /* of the filter */
    int64_t dilation, pad;     /* pad: before x; negative cuts */
    int64_t count;             /* of outputs */
} phase;

static phase phase_of(const nd_window *window, int axis, int64_t index, int64_t out) {
    const int64_t stride = window->stride[axis], dilation = window->dilation[axis],
                  kernel = window->kernel[axis], at = index + window->pad[axis];
    const int64_t divisor = nd_gcd(stride, dilation);
    phase p = {.step = stride / divisor,
               .dilation = dilation / divisor,
               .count = (out - index + stride - 1) / stride};
    while (p.first < kernel && (at - p.first * dilation) % stride) p.first++;
    if (p.first == kernel) return p;
    p.taps = (kernel - 1 - p.first) / p.step + 1;
    p.pad = (p.taps - 1) * p.dilation - (at - p.first * dilation) / stride;
    return p;
}

/* Cuts from x what the phase does not reach. False where that leaves nothing, so that y is the bias alone. */
static bool phase_crop(const phase *p, int axis, nd_view *x, nd_window *window) {
    const int64_t span = (p->taps - 1) * p->dilation + 1;
    window->kernel[axis] = p->taps;
    window->stride[axis] = 1;
    window->dilation[axis] = p->dilation;
    const int64_t cut = p->pad < 0 ? -p->pad : 0;
    x->dims[2 + axis] -= cut;
    x->offset += cut * x->strides[2 + axis];
    window->pad[axis] = p->pad + cut;
    const int64_t reach = p->count - 1 + span - window->pad[axis]; /* pixels of x */
    if (x->dims[2 + axis] > reach) x->dims[2 + axis] = reach;
    window->pad[axis + 2] = reach - x->dims[2 + axis];
    return p->taps > 0 && x->dims[2 + axis] > 0;
}

/* [no][ni/g][taps][taps], from [ni][no/g][kh][kw]. */
static nd_status phase_weights(nd_exec *exec, const nd_work *work, const phase *rows, const phase *columns,
                               const float *values, const int64_t *kernel, const float **out) {
    const int64_t groups = work->groups, ni = work->x.dims[1] / groups, no = work->y.dims[1] / groups;
    const int64_t taps = rows->taps * columns->taps;
    float *turned = nd_arena_alloc(&exec->scratch, (size_t)(groups * no * ni * taps) * sizeof *turned),
          *to = turned;
    ND_REQUIRE(turned, nd_status_memory, "no memory for weights");
    for (int64_t o = 0; o < groups * no; o++)
        for (int64_t i = 0; i < ni; i++) {
            const float *filter = values + ((o / no * ni + i) * no + o % no) * kernel[0] * kernel[1];
            for (int64_t r = rows->taps - 1; r >= 0; r--)
                for (int64_t c = columns->taps - 1; c >= 0; c--)
                    *to++ = filter[(rows->first + r * rows->step) * kernel[1] + columns->first +
                                   c * columns->step];
        }
    *out = turned;
    return nd_status_ok;
}

/* Pixels that no input reaches. */
static nd_status phase_of_bias(nd_exec *exec, const nd_node *node, const float *bias, const nd_place *y) {
    const int64_t channels = y->view.dims[1];
    const nd_view row = nd_view_row_major(1, &channels);
    float *numbers = nd_arena_alloc(&exec->scratch, (size_t)channels * sizeof *numbers);
    nd_place from = {.slot = -1};
    ND_REQUIRE(numbers, nd_status_memory, "no memory for a constant");
    for (int64_t i = 0; i < channels; i++) numbers[i] = bias ? bias[i] : 0;
    ND_TRY(nd_exec_place_new(exec, &row, &from));
    exec->slots[from.slot].source = numbers;
    exec->slots[from.slot].source_view = row;
    from.view = y->view;
    from.view.offset = 0;
    for (int i = 0; i < 4; i++) from.view.strides[i] = i == 1;
    return nd_exec_emit_copy(exec, node, &from, y);
}

nd_status nd_lower_conv_transpose(nd_exec *exec, const nd_node *node) {
    const nd_window *window = &node->attr.window;
    nd_work work = {.operation = nd_operation_conv, .groups = node->attr.groups};
    nd_operands operands = {0};
    const nd_tensor *weights;
    const float *values;
    ND_TRY(convolve_operands(exec, node, &operands, &weights, &values));
    ND_TRY(nd_exec_bias(exec, node, 2, operands.y.view.dims[1], &work.bias));
    const nd_operands whole = operands;
    const nd_view *y = &whole.y.view;
    for (int64_t i = 0; i < window->stride[0] && i < y->dims[2]; i++)
        for (int64_t j = 0; j < window->stride[1] && j < y->dims[3]; j++) {
            const phase rows = phase_of(window, 0, i, y->dims[2]),
                        columns = phase_of(window, 1, j, y->dims[3]);
            operands = whole;
            nd_view *part = &operands.y.view;
            part->offset += i * y->strides[2] + j * y->strides[3];
            for (int axis = 0; axis < 2; axis++) part->strides[2 + axis] *= window->stride[axis];
            part->dims[2] = rows.count;
            part->dims[3] = columns.count;
            const bool high = phase_crop(&rows, 0, &operands.x.view, &work.window),
                       wide = phase_crop(&columns, 1, &operands.x.view, &work.window);
            if (!high || !wide) {
                ND_TRY(phase_of_bias(exec, node, work.bias, &operands.y));
                continue;
            }
            work.x = operands.x.view;
            work.y = operands.y.view;
            ND_TRY(phase_weights(exec, &work, &rows, &columns, values, window->kernel, &work.weights));
            ND_TRY(nd_exec_emit(exec, node, work, &operands));
        }
    return nd_status_ok;
}
