/* Resize: one axis after the other, each output pixel a weighted sum of a few input pixels. */
#include "run/executor/executor_parts.h"

#include <math.h>

enum { resize_taps_max = 4 };

/* Where output pixel i lies in the input. Section Resize of the ONNX operators. */
static double resize_position(const nd_resize *r, double scale, int64_t in, int64_t out, int64_t i) {
    const double at = (double)i, exact = (double)in * scale;
    switch (r->coordinates) {
    case nd_resize_align_corners:
        return out == 1 ? 0 : at * (double)(in - 1) / (exact - 1);
    case nd_resize_asymmetric:
        return at / scale;
    case nd_resize_pytorch_half_pixel:
        return out == 1 ? 0 : (at + 0.5) / scale - 0.5;
    case nd_resize_half_pixel_symmetric:
        return (double)in / 2 * (1 - (double)out / exact) + (at + 0.5) / scale - 0.5;
    case nd_resize_half_pixel:
        break;
    }
    return (at + 0.5) / scale - 0.5;
}

static double resize_nearest(nd_resize_rounding rounding, double at) {
    if (rounding == nd_resize_floor) return floor(at);
    if (rounding == nd_resize_ceil) return ceil(at);
    return rounding == nd_resize_round_prefer_floor ? ceil(at - 0.5) : floor(at + 0.5);
}

/* Keys' kernel at a distance below 2. */
static double resize_cubic(double a, double distance) {
    const double d = fabs(distance);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return ((d - 5) * d + 8) * d * a - 4 * a;
}

/* First input pixel of output pixel i, and the weights from there on. */
static int64_t resize_weights(const nd_resize *r, double at, double weights[resize_taps_max]) {
    if (r->mode == nd_resize_nearest) {
        weights[0] = 1;
        return (int64_t)resize_nearest(r->rounding, at);
    }
    const double low = floor(at), part = at - low;
    if (r->mode == nd_resize_linear) {
        weights[0] = 1 - part;
        weights[1] = part;
        return (int64_t)low;
    }
    for (int k = 0; k < 4; k++) weights[k] = resize_cubic((double)r->cubic, part + 1 - k);
    return (int64_t)low - 1;
}

static nd_status resize_tables(nd_exec *exec, const nd_resize *r, int64_t in, int64_t out, nd_work *work) {
    static const int taps[] = {1, 2, 4};
    const int n = taps[r->mode];
    float *weights = nd_arena_alloc(&exec->scratch, (size_t)(out * n) * sizeof *weights);
    int32_t *index = nd_arena_alloc(&exec->scratch, (size_t)(out * n) * sizeof *index);
    ND_REQUIRE(weights && index && in <= INT32_MAX, nd_status_memory,
               "no memory for the weights of a Resize");
    for (int64_t i = 0; i < out; i++) {
        double w[resize_taps_max], sum = 0;
        const double at = resize_position(r, (double)r->scales[work->axis], in, out, i);
        const int64_t first = resize_weights(r, at, w);
        for (int k = 0; k < n; k++) {
            const int64_t from = first + k;
            const bool outside = from < 0 || from >= in;
            if (outside && r->exclude_outside && r->mode == nd_resize_cubic) w[k] = 0;
            index[i * n + k] = (int32_t)(from < 0 ? 0 : from >= in ? in - 1 : from);
            sum += w[k];
        }
        const double whole = r->exclude_outside && r->mode == nd_resize_cubic ? sum : 1;
        for (int k = 0; k < n; k++) weights[i * n + k] = (float)(w[k] / whole);
    }
    work->weights = weights;
    work->channel = index;
    work->terms = n;
    return nd_status_ok;
}

nd_status nd_lower_resize(nd_exec *exec, const nd_node *node) {
    const nd_resize *r = &node->attr.resize;
    nd_operands operands = {0};
    nd_place y;
    int last = -1;
    ND_TRY(nd_exec_source(exec, node->in[0], &operands.x));
    ND_TRY(nd_exec_target(exec, node->out[0], &y));
    for (int i = 0; i < y.view.rank; i++)
        if (operands.x.view.dims[i] != y.view.dims[i] || r->scales[i] != 1) last = i;
    if (last < 0) return nd_exec_emit_copy(exec, node, &operands.x, &y);
    for (int i = 0; i <= last; i++) {
        const int64_t in = operands.x.view.dims[i], out = y.view.dims[i];
        nd_work work = {.operation = nd_operation_resample, .axis = i};
        if (in == out && r->scales[i] == 1) continue;
        ND_TRY(resize_tables(exec, r, in, out, &work));
        operands.y = y;
        if (i < last) {
            nd_view dims = operands.x.view;
            dims.dims[i] = out;
            const nd_view layout = nd_exec_layout(exec, dims.rank, dims.dims);
            ND_TRY(nd_exec_place_new(exec, &layout, &operands.y));
        }
        ND_TRY(nd_exec_emit(exec, node, work, &operands));
        operands.x = operands.y;
    }
    return nd_status_ok;
}
