/* Quantised operations by the definition in run/quantized.h. */
#include "run/quantized.h"

#include "base/parallel.h"
#include "run/plugins.h"
#include "run/ref/ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct quantized_call {
    const nd_work *work;
    const uint8_t *x, *x2;
    void *y;
    nd_requant requant;
    float *factor, *shift, *middle_factor;
    float x_value[256], middle_value[256]; /* what a byte stands for, without its scale */
    double *middle;                        /* separable: [threads][terms] */
} quantized_call;

static void quantized_values(nd_quant quant, float *value) {
    for (int q = 0; q < 256; q++)
        value[q] = quant.e4m3 ? nd_e4m3_to_f32((uint8_t)q) : (float)(q - quant.zero);
}

/* Of a residual, with its zero. */
static float quantized_residual(const quantized_call *call, int64_t at) {
    return call->work->x2_quant.e4m3 ? nd_e4m3_to_f32(call->x2[at]) : (float)call->x2[at];
}

/* The activation, and into the range of y. */
static float quantized_bounded(const nd_requant *r, float t) {
    if (r->leaky && t < 0) t *= r->slope;
    return fminf(fmaxf(t + r->zero, r->low), r->high);
}

/* One element of y from its sum: of integers less than 2^31, as exact in fp64. */
static void quantized_store(const quantized_call *call, int64_t o, double sum, int64_t x2_at, int64_t y_at) {
    const nd_requant *r = &call->requant;
    float t = fmaf((float)sum, call->factor[o], call->shift[o]);
    if (call->work->residual) t = fmaf(quantized_residual(call, x2_at), r->x2_factor, t);
    t = quantized_bounded(r, t);
    if (call->work->y_quant.scale > 0) {
        ((uint8_t *)call->y)[y_at] = nd_quantized_store(call->work->y_quant.e4m3, t);
    } else {
        ((float *)call->y)[y_at] = t;
    }
}

static double quantized_window(const quantized_call *call, const float *filter, int64_t n, int64_t first,
                               int64_t channels, int64_t oh, int64_t ow) {
    const nd_work *work = call->work;
    const nd_window *g = &work->window;
    const nd_view *in = &work->x;
    double sum = 0;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < g->kernel[0]; i++)
            for (int64_t j = 0; j < g->kernel[1]; j++) {
                const int64_t h = oh * g->stride[0] - g->pad[0] + i * g->dilation[0];
                const int64_t w = ow * g->stride[1] - g->pad[1] + j * g->dilation[1];
                if (h < 0 || h >= in->dims[2] || w < 0 || w >= in->dims[3]) continue;
                const double weight = filter[(c * g->kernel[0] + i) * g->kernel[1] + j];
                sum += weight * (double)call->x_value[call->x[nd_ref_at4(in, n, first + c, h, w)]];
            }
    return sum;
}

static void quantized_conv(void *context, int64_t begin, int64_t end, int worker) {
    const quantized_call *call = context;
    const nd_work *work = call->work;
    const nd_view *out = &work->y;
    const int64_t channels = work->x.dims[1] / work->groups, outputs = out->dims[1];
    const int64_t window = work->window.kernel[0] * work->window.kernel[1];
    (void)worker;
    for (int64_t plane = begin; plane < end; plane++) {
        const int64_t n = plane / outputs, o = plane % outputs;
        const int64_t first = o / (outputs / work->groups) * channels;
        for (int64_t h = 0; h < out->dims[2]; h++)
            for (int64_t w = 0; w < out->dims[3]; w++)
                quantized_store(
                    call, o,
                    quantized_window(call, work->weights + o * channels * window, n, first, channels, h, w),
                    work->residual ? nd_ref_at4(&work->x2, n, o, h, w) : 0, nd_ref_at4(out, n, o, h, w));
    }
}

static void quantized_gemm(void *context, int64_t begin, int64_t end, int worker) {
    const quantized_call *call = context;
    const nd_work *work = call->work;
    const int64_t k = work->x.dims[1];
    (void)worker;
    for (int64_t o = begin; o < end; o++)
        for (int64_t row = 0; row < work->y.dims[0]; row++) {
            const int64_t at[] = {row, o};
            double sum = 0;
            for (int64_t i = 0; i < k; i++) {
                const uint8_t x = call->x[nd_ref_at(&work->x, (int64_t[]){row, i})];
                sum += (double)work->weights[o * k + i] * (double)call->x_value[x];
            }
            quantized_store(call, o, sum, work->residual ? nd_ref_at(&work->x2, at) : 0,
                            nd_ref_at(&work->y, at));
        }
}

/* What is stored of one depthwise result. */
static double quantized_depthwise(const quantized_call *call, int64_t n, int64_t term, int64_t oh,
                                  int64_t ow) {
    const nd_work *work = call->work;
    const nd_window *g = &work->window;
    const nd_view *in = &work->x;
    const float *filter = work->depthwise + term * g->kernel[0] * g->kernel[1];
    const bool e4m3 = work->middle_quant.e4m3;
    const float factor = call->middle_factor[term];
    float chain = 0;
    for (int64_t i = 0; i < g->kernel[0]; i++)
        for (int64_t j = 0; j < g->kernel[1]; j++) {
            const int64_t h = oh * g->stride[0] - g->pad[0] + i * g->dilation[0];
            const int64_t w = ow * g->stride[1] - g->pad[1] + j * g->dilation[1];
            if (h < 0 || h >= in->dims[2] || w < 0 || w >= in->dims[3]) continue;
            const uint8_t x = call->x[nd_ref_at4(in, n, work->channel[term], h, w)];
            const float tap = filter[i * g->kernel[1] + j];
            chain = fmaf(call->x_value[x], e4m3 ? tap * factor : tap, chain);
        }
    const float t = fmaf(chain, factor, (float)work->middle_quant.zero);
    return (double)call->middle_value[nd_quantized_store(e4m3, e4m3 ? chain : fminf(fmaxf(t, 0), 255))];
}

/* Rows of the output. */
static void quantized_separable(void *context, int64_t begin, int64_t end, int worker) {
    const quantized_call *call = context;
    const nd_work *work = call->work;
    const nd_view *out = &work->y;
    const int64_t terms = work->terms;
    double *middle = call->middle + worker * terms;
    for (int64_t row = begin; row < end; row++) {
        const int64_t n = row / out->dims[2], h = row % out->dims[2];
        for (int64_t w = 0; w < out->dims[3]; w++) {
            for (int64_t t = 0; t < terms; t++) middle[t] = quantized_depthwise(call, n, t, h, w);
            for (int64_t o = 0; o < out->dims[1]; o++) {
                double sum = 0;
                for (int64_t t = 0; t < terms; t++) sum += (double)work->weights[o * terms + t] * middle[t];
                quantized_store(call, o, sum, work->residual ? nd_ref_at4(&work->x2, n, o, h, w) : 0,
                                nd_ref_at4(out, n, o, h, w));
            }
        }
    }
}

static nd_status quantized_sums(quantized_call *call) {
    const nd_work *work = call->work;
    const nd_view *y = &work->y;
    const size_t no = (size_t)y->dims[1], terms = (size_t)work->terms;
    const int64_t cost = nd_parallel_worth; /* of whole planes, rows and columns: worth a thread */
    float *constants = nd_alloc_array(2 * no + terms, sizeof *constants);
    ND_REQUIRE(constants, nd_status_memory, "no memory for %zu channels", no);
    call->middle = terms ? nd_alloc_array((size_t)nd_threads() * terms, sizeof *call->middle) : NULL;
    if (terms && !call->middle) {
        free(constants);
        return nd_fail(nd_status_memory, "no memory for %zu terms", terms);
    }
    quantized_values(work->x_quant, call->x_value);
    quantized_values(work->middle_quant, call->middle_value);
    call->factor = constants;
    call->shift = constants + no;
    call->middle_factor = constants + 2 * no;
    call->requant = nd_requant_of(work, call->factor, call->shift, call->middle_factor);
    switch (work->operation) {
    case nd_operation_conv:
        nd_parallel_for(y->dims[0] * y->dims[1], cost, quantized_conv, call);
        break;
    case nd_operation_separable:
        nd_parallel_for(y->dims[0] * y->dims[2], cost, quantized_separable, call);
        break;
    default:
        nd_parallel_for(y->dims[1], cost, quantized_gemm, call);
    }
    free(constants);
    free(call->middle);
    return nd_status_ok;
}

/* The largest of a window; padding never counts. */
static void quantized_pool(const nd_work *work, const uint8_t *x, uint8_t *y) {
    const nd_window *g = &work->window;
    int64_t at[nd_rank_max] = {0};
    if (!nd_view_count(&work->y)) return;
    do {
        uint8_t most = 0;
        for (int64_t i = 0; i < g->kernel[0]; i++)
            for (int64_t j = 0; j < g->kernel[1]; j++) {
                const int64_t h = at[2] * g->stride[0] - g->pad[0] + i * g->dilation[0];
                const int64_t w = at[3] * g->stride[1] - g->pad[1] + j * g->dilation[1];
                if (h < 0 || h >= work->x.dims[2] || w < 0 || w >= work->x.dims[3]) continue;
                const uint8_t q = x[nd_ref_at4(&work->x, at[0], at[1], h, w)];
                if (q > most) most = q;
            }
        y[nd_ref_at(&work->y, at)] = most;
    } while (nd_ref_next(&work->y, 4, at));
}

static void quantized_add(const nd_work *work, const uint8_t *x, const uint8_t *x2, uint8_t *y) {
    const nd_requant r = nd_requant_of(work, NULL, NULL, NULL);
    int64_t at[nd_rank_max] = {0};
    if (!nd_view_count(&work->y)) return;
    do {
        const float first = fmaf(x[nd_ref_at(&work->x, at)], r.x_factor, r.shift);
        const float t = fmaf(x2[nd_ref_at(&work->x2, at)], r.x2_factor, first);
        y[nd_ref_at(&work->y, at)] = (uint8_t)nearbyintf(quantized_bounded(&r, t));
    } while (nd_ref_next(&work->y, work->y.rank, at));
}

static void quantized_move(const nd_work *work, const void *x, void *y) {
    int64_t at[nd_rank_max] = {0};
    if (!nd_view_count(&work->y)) return;
    do {
        int64_t from[nd_rank_max];
        memcpy(from, at, sizeof from);
        if (work->operation == nd_operation_gather) from[1] = work->channel[at[1]];
        const int64_t source = nd_ref_at(&work->x, from), target = nd_ref_at(&work->y, at);
        if (work->operation == nd_operation_quantize) {
            ((uint8_t *)y)[target] = nd_quantize(work->y_quant, ((const float *)x)[source]);
        } else if (work->operation == nd_operation_dequantize) {
            ((float *)y)[target] = nd_dequantize(work->x_quant, ((const uint8_t *)x)[source]);
        } else {
            ((uint8_t *)y)[target] = ((const uint8_t *)x)[source];
        }
    } while (nd_ref_next(&work->y, work->y.rank, at));
}

nd_status nd_ref_run_quantized(const nd_work *work, const void *x, const void *x2, void *y) {
    quantized_call call = {.work = work, .x = x, .x2 = x2, .y = y};
    switch (work->operation) {
    case nd_operation_conv:
    case nd_operation_separable:
    case nd_operation_gemm:
        return quantized_sums(&call);
    case nd_operation_pool:
        quantized_pool(work, x, y);
        return nd_status_ok;
    case nd_operation_binary:
        quantized_add(work, x, x2, y);
        return nd_status_ok;
    default:
        quantized_move(work, x, y);
        return nd_status_ok;
    }
}
