/* Products of 8-bit integers with zero points, summed in 32 bits, and the quantisation that makes them while
 * running: networks whose weights alone were quantised beforehand. */
#include "run/dynamic/dynamic_parts.h"

#include "base/parallel.h"
#include "model/dims.h"
#include "model/infer/infer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_call_range_of(const float *x, int64_t count, float *scale, float *zero) {
    float low = 0, high = 0;
    for (int64_t i = 0; i < count; i++) {
        ND_REQUIRE(isfinite(x[i]), nd_status_format, "a number that is not finite has no range");
        if (x[i] < low) low = x[i];
        if (x[i] > high) high = x[i];
    }
    *scale = high > low ? (high - low) / 255 : 1;
    *zero = nearbyintf(fminf(255, fmaxf(0, -low / *scale)));
    return nd_status_ok;
}

float nd_call_rounded(float x, float scale, float zero) {
    return fminf(255, fmaxf(0, nearbyintf(x / scale) + zero));
}

nd_status nd_call_quantize_dynamic(nd_call *call) {
    const nd_tensor *x;
    float scale = 1, zero = 0;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_REQUIRE(x->dtype == nd_dtype_f32, nd_status_format, "an operand in %s", nd_dtype_name(x->dtype));
    for (int k = 0; k < call->node->n_out && k < 3; k++)
        ND_TRY(nd_call_new(k == 1 ? nd_dtype_f32 : nd_dtype_i64, k ? 0 : x->rank, x->dims, &call->out[k]));
    const float *from = x->data;
    const int64_t count = nd_tensor_count(x);
    int64_t *to = call->out[0].data;
    ND_TRY(nd_call_range_of(from, count, &scale, &zero));
    for (int64_t i = 0; i < count; i++) to[i] = (int64_t)nd_call_rounded(from[i], scale, zero);
    if (call->node->n_out > 1) *(float *)call->out[1].data = scale;
    if (call->node->n_out > 2) *(int64_t *)call->out[2].data = (int64_t)zero;
    return nd_status_ok;
}

/* What is left of integers when their zero point is taken away, to be freed: that of all, or one for each
 * index of `axis` and of the axes before it, where there are more. */
static nd_status without_zero(const nd_tensor *x, const nd_tensor *zero, int axis, int32_t **out) {
    const int64_t count = nd_tensor_count(x);
    int64_t strides[nd_rank_max] = {0}, index[nd_rank_max] = {0};
    ND_REQUIRE(x->dtype == nd_dtype_i64 && (!zero || zero->dtype == nd_dtype_i64), nd_status_format,
               "operands that are no integers");
    if (zero && nd_tensor_count(zero) > 1) {
        nd_tensor along = *zero;
        if (zero->rank == 1) { /* as a row of axis `axis` */
            along.rank = x->rank - axis;
            for (int i = 1; i < along.rank; i++) along.dims[i] = 1;
        }
        bool fits = along.rank <= x->rank;
        for (int i = 0; fits && i < along.rank; i++)
            fits = along.dims[i] == 1 || along.dims[i] == x->dims[x->rank - along.rank + i];
        ND_REQUIRE(fits, nd_status_format, "zero points that do not fit their operand");
        nd_call_strides(&along, x, strides);
    }
    int32_t *left = nd_alloc_array((size_t)count + 1, sizeof *left);
    ND_REQUIRE(left, nd_status_memory, "no memory");
    const int64_t *from = x->data, *zeros = zero && nd_tensor_count(zero) ? zero->data : NULL;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = 0;
        for (int k = 0; zeros && k < x->rank; k++) at += index[k] * strides[k];
        left[i] = (int32_t)(from[i] - (zeros ? zeros[at] : 0));
        nd_call_next(x->rank, x->dims, index);
    }
    *out = left;
    return nd_status_ok;
}

/* y[i] += w x[i step]: sums wrap around, as those of processors do. */
static void add_row(int32_t *y, const int32_t *x, int32_t w, int64_t n, int64_t step) {
    if (step == 1)
        for (int64_t i = 0; i < n; i++) y[i] = (int32_t)((uint32_t)y[i] + (uint32_t)w * (uint32_t)x[i]);
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = (int32_t)((uint32_t)y[i] + (uint32_t)w * (uint32_t)x[i * step]);
}

/* --- convolution; a row of pixels is an image of height 1 */

typedef struct nd_integer_conv {
    nd_window window;
    int64_t channels, outputs, groups; /* channels: of x */
    int64_t in[2], out[2];
    int32_t *x, *w, *sums; /* [n][channels][h][w], [outputs][channels / groups][kh][kw], [n][outputs][h][w] */
} nd_integer_conv;

/* The outputs of an axis at which an element of the kernel meets the input: [first, last). */
static void meeting(const nd_integer_conv *conv, int axis, int64_t element, int64_t *first, int64_t *last) {
    const int64_t stride = conv->window.stride[axis];
    const int64_t offset = element * conv->window.dilation[axis] - conv->window.pad[axis];
    *first = offset < 0 ? (-offset + stride - 1) / stride : 0;
    const int64_t end = conv->in[axis] - offset; /* of input pixels beyond the element at output 0 */
    *last = end <= 0 ? 0 : (end - 1) / stride + 1;
    if (*last > conv->out[axis]) *last = conv->out[axis];
}

static void conv_element(const nd_integer_conv *conv, int32_t *plane, const int32_t *x, int32_t w,
                         int64_t down, int64_t across) {
    int64_t rows[2], columns[2];
    meeting(conv, 0, down, &rows[0], &rows[1]);
    meeting(conv, 1, across, &columns[0], &columns[1]);
    const int64_t stride = conv->window.stride[1];
    const int64_t left = columns[0] * stride + across * conv->window.dilation[1] - conv->window.pad[1];
    for (int64_t i = rows[0]; i < rows[1] && columns[0] < columns[1]; i++) {
        const int64_t row =
            i * conv->window.stride[0] + down * conv->window.dilation[0] - conv->window.pad[0];
        add_row(plane + i * conv->out[1] + columns[0], x + row * conv->in[1] + left, w,
                columns[1] - columns[0], stride);
    }
}

static void conv_planes(void *context, int64_t first, int64_t last, int worker) {
    const nd_integer_conv *conv = context;
    const int64_t depth = conv->channels / conv->groups,
                  area = conv->window.kernel[0] * conv->window.kernel[1];
    (void)worker;
    for (int64_t p = first; p < last; p++) {
        const int64_t image = p / conv->outputs, o = p % conv->outputs;
        const int64_t group = o / (conv->outputs / conv->groups);
        int32_t *plane = conv->sums + p * conv->out[0] * conv->out[1];
        for (int64_t k = 0; k < depth * area; k++) {
            const int64_t channel = image * conv->channels + group * depth + k / area;
            conv_element(conv, plane, conv->x + channel * conv->in[0] * conv->in[1],
                         conv->w[o * depth * area + k], k % area / conv->window.kernel[1],
                         k % conv->window.kernel[1]);
        }
    }
}

static nd_status conv_sizes(const nd_call *call, const nd_tensor *x, const nd_tensor *w,
                            nd_integer_conv *conv) {
    nd_attr attr = call->node->attr;
    const int axes = x->rank - 2;
    ND_REQUIRE(w->rank == x->rank && (axes == 1 || axes == 2), nd_status_unsupported,
               "an input of %d axes and weights of %d", x->rank, w->rank);
    for (int axis = 0; axis < 2; axis++) {
        const int from = axis + axes; /* 2 and 3, or none and 2 */
        const int64_t kernel = from < 2 ? 1 : w->dims[from];
        conv->in[axis] = from < 2 ? 1 : x->dims[from];
        ND_REQUIRE(!attr.window.kernel[axis] || attr.window.kernel[axis] == kernel, nd_status_format,
                   "kernel_shape differs from its weights");
        attr.window.kernel[axis] = kernel;
    }
    conv->groups = attr.groups;
    conv->channels = x->dims[1];
    conv->outputs = w->dims[0];
    ND_REQUIRE(conv->outputs > 0 && conv->outputs % conv->groups == 0 &&
                   conv->channels == w->dims[1] * conv->groups && nd_tensor_count(w) > 0,
               nd_status_format, "weights that do not fit their input");
    ND_TRY(nd_infer_window(&attr, conv->in, conv->out));
    conv->window = attr.window;
    return nd_status_ok;
}

nd_status nd_call_conv_integer(nd_call *call) {
    const nd_tensor *x, *w, *const x_zero = call->node->n_in > 2 ? call->in[2] : NULL,
                                   *const w_zero = call->node->n_in > 3 ? call->in[3] : NULL;
    nd_integer_conv conv = {0};
    nd_status status = nd_status_ok;
    ND_TRY(nd_call_input(call, 0, &x));
    ND_TRY(nd_call_input(call, 1, &w));
    ND_TRY(conv_sizes(call, x, w, &conv));
    const bool row = x->rank == 3;
    const int64_t dims[] = {x->dims[0], conv.outputs, conv.out[row], conv.out[1]};
    ND_TRY(nd_call_new(nd_dtype_i64, x->rank, dims, &call->out[0]));
    const int64_t count = nd_tensor_count(&call->out[0]), planes = x->dims[0] * conv.outputs;
    ND_TRY_DONE(without_zero(x, x_zero, 1, &conv.x));
    ND_TRY_DONE(without_zero(w, w_zero, 0, &conv.w));
    conv.sums = nd_alloc_array((size_t)count + 1, sizeof *conv.sums);
    ND_REQUIRE_DONE(conv.sums, nd_status_memory, "no memory");
    if (count)
        nd_parallel_for(planes, count / planes * (nd_tensor_count(w) / conv.outputs), conv_planes, &conv);
    for (int64_t i = 0; i < count; i++) ((int64_t *)call->out[0].data)[i] = conv.sums[i];
done:
    free(conv.x);
    free(conv.w);
    free(conv.sums);
    return status;
}

/* --- matrices, in stacks that broadcast */

typedef struct nd_integer_product {
    int64_t m, n, k;
    nd_tensor stack;                              /* dims of the stack of results */
    int64_t a_at[nd_rank_max], b_at[nd_rank_max]; /* matrices of an operand along each of its axes */
    int32_t *a, *b, *sums;
} nd_integer_product;

static void product_rows(void *context, int64_t first, int64_t last, int worker) {
    const nd_integer_product *p = context;
    (void)worker;
    for (int64_t r = first; r < last; r++) {
        int64_t a = 0, b = 0, rest = r / p->m;
        for (int axis = p->stack.rank - 1; axis >= 0; rest /= p->stack.dims[axis--]) {
            a += rest % p->stack.dims[axis] * p->a_at[axis];
            b += rest % p->stack.dims[axis] * p->b_at[axis];
        }
        const int32_t *row = p->a + (a * p->m + r % p->m) * p->k;
        for (int64_t k = 0; k < p->k; k++)
            add_row(p->sums + r * p->n, p->b + (b * p->k + k) * p->n, row[k], p->n, 1);
    }
}

/* As in numpy: a vector on the left is a row, on the right a column, and its axis is not in the product. */
static nd_status product_sizes(const nd_tensor *a, const nd_tensor *b, nd_integer_product *p, nd_tensor *y) {
    nd_tensor over_a = *a, over_b = *b;
    ND_REQUIRE(a->rank >= 1 && b->rank >= 1, nd_status_format, "a number is no matrix");
    p->k = a->dims[a->rank - 1];
    p->m = a->rank > 1 ? a->dims[a->rank - 2] : 1;
    p->n = b->rank > 1 ? b->dims[b->rank - 1] : 1;
    over_a.rank = a->rank > 2 ? a->rank - 2 : 0;
    over_b.rank = b->rank > 2 ? b->rank - 2 : 0;
    const bool fits =
        b->dims[b->rank > 1 ? b->rank - 2 : 0] == p->k &&
        nd_dims_broadcast(over_a.rank, over_a.dims, over_b.rank, over_b.dims, &p->stack.rank, p->stack.dims);
    ND_REQUIRE(fits, nd_status_format, "matrices that do not fit each other");
    nd_call_strides(&over_a, &p->stack, p->a_at);
    nd_call_strides(&over_b, &p->stack, p->b_at);
    *y = p->stack;
    if (a->rank > 1) y->dims[y->rank++] = p->m;
    if (b->rank > 1) y->dims[y->rank++] = p->n;
    return nd_status_ok;
}

nd_status nd_call_matmul_integer(nd_call *call) {
    const nd_tensor *a, *b, *const a_zero = call->node->n_in > 2 ? call->in[2] : NULL,
                                   *const b_zero = call->node->n_in > 3 ? call->in[3] : NULL;
    nd_integer_product product = {0};
    nd_tensor y = {0};
    nd_status status = nd_status_ok;
    ND_TRY(nd_call_input(call, 0, &a));
    ND_TRY(nd_call_input(call, 1, &b));
    ND_TRY(product_sizes(a, b, &product, &y));
    ND_TRY(nd_call_new(nd_dtype_i64, y.rank, y.dims, &call->out[0]));
    const int64_t count = nd_tensor_count(&call->out[0]);
    ND_TRY_DONE(without_zero(a, a_zero, a->rank > 1 ? a->rank - 2 : 0, &product.a));
    ND_TRY_DONE(without_zero(b, b_zero, b->rank - 1, &product.b));
    product.sums = nd_alloc_array((size_t)count + 1, sizeof *product.sums);
    ND_REQUIRE_DONE(product.sums, nd_status_memory, "no memory");
    if (count) nd_parallel_for(count / product.n, product.n * product.k, product_rows, &product);
    for (int64_t i = 0; i < count; i++) ((int64_t *)call->out[0].data)[i] = product.sums[i];
done:
    free(product.a);
    free(product.b);
    free(product.sums);
    return status;
}
