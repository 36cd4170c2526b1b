#include "run/cpu/separable/separable_pointwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool pointwise_clamps(nd_activation activation) {
    return activation.act == nd_act_none || activation.act == nd_act_relu || activation.act == nd_act_clip;
}

bool nd_sep_pointwise_supports(const nd_work *work, nd_precision precision) {
    const bool epilogue = precision == nd_precision_fp32 ||
                          (precision == nd_precision_int8 ? nd_quantized_agrees(work, precision)
                                                          : pointwise_clamps(work->activation));
    return epilogue && work->x.rank == 4 && work->terms > 0 && nd_cpu_view_channels(&work->x) &&
           nd_cpu_view_pixel(&work->y) > 0 && (!work->residual || nd_cpu_view_pixel(&work->x2) > 0);
}

static void pointwise_clamp(nd_activation activation, nd_sep_gemm *gemm) {
    gemm->low = activation.act == nd_act_relu ? 0 : -INFINITY;
    gemm->high = INFINITY;
    if (activation.act != nd_act_clip) return;
    gemm->low = activation.a;
    gemm->high = activation.b;
}

/* The sums of channel o start from what the panel's zero would have taken off: -zero * (sum of the weights).
 */
static void pointwise_start(const nd_work *work, int64_t n, int32_t zero, nd_sep_pointwise *out) {
    for (int64_t o = 0; o < work->y.dims[1]; o++) {
        int32_t sum = 0;
        for (int64_t t = 0; t < n; t++) sum += (int32_t)work->weights[o * n + t];
        out->start[o] = -zero * sum;
    }
}

/* Whether results of `n` products may go without an upper bound and a zero: nd_sep_gemm.saturates. */
static bool pointwise_saturates(const nd_work *work, int64_t n, const nd_requant *requant,
                                const nd_sep_pointwise *out) {
    enum { largest = 1 << 30 };
    if (!(work->y_quant.scale > 0) || requant->leaky || requant->zero != 0 || requant->high != 255)
        return false;
    for (int64_t o = 0; o < work->y.dims[1]; o++) {
        const double most = 255. * 128 * (double)n * out->factor[o] + fabs((double)out->bias[o]);
        if (!(most + 255 * (double)requant->x2_factor < largest)) return false;
    }
    return true;
}

/* `n`: products of a sum. */
static void pointwise_requant(const nd_work *work, int64_t n, float *middle_factor, nd_sep_gemm *gemm,
                              nd_sep_pointwise *out) {
    gemm->requant = nd_requant_of(work, out->factor, out->bias, middle_factor);
    gemm->low = gemm->requant.low;
    gemm->high = gemm->requant.high;
    gemm->real = !(work->y_quant.scale > 0);
    gemm->saturates = pointwise_saturates(work, n, &gemm->requant, out);
}

static nd_status pointwise_quantize(const nd_work *work, nd_sep_terms *terms, nd_sep_gemm *gemm,
                                    nd_sep_pointwise *out) {
    const int64_t n = work->terms;
    float *middle_factor = nd_alloc_array((size_t)n, sizeof *middle_factor);
    ND_REQUIRE(middle_factor, nd_status_memory, "separable: no memory for %lld terms", (long long)n);
    pointwise_requant(work, n, middle_factor, gemm, out);
    const nd_status status = nd_sep_terms_quantize(work, middle_factor, terms);
    free(middle_factor);
    pointwise_start(work, n, work->middle_quant.zero, out);
    return status;
}

static nd_status pointwise_allocate(const nd_work *work, nd_precision precision, int64_t columns,
                                    int64_t depth, nd_sep_pointwise *out) {
    const size_t element = nd_dtype_bytes(nd_precision_storage(precision));
    out->weights = nd_cpu_alloc((size_t)columns, (size_t)depth * element);
    out->bias = nd_alloc_array((size_t)columns, sizeof *out->bias);
    out->factor = nd_alloc_array((size_t)columns, sizeof *out->factor);
    out->start = nd_alloc_array((size_t)columns, sizeof *out->start);
    ND_REQUIRE(out->weights && out->bias && out->factor && out->start, nd_status_memory,
               "%s: no memory for %lldx%lld weights", nd_operation_name(work->operation), (long long)columns,
               (long long)depth);
    if (work->bias) memcpy(out->bias, work->bias, (size_t)work->y.dims[1] * sizeof *out->bias);
    return nd_status_ok;
}

nd_status nd_sep_pointwise_new(const nd_work *work, nd_precision precision, int64_t columns, int64_t depth,
                               nd_sep_terms *terms, nd_sep_gemm *gemm, nd_sep_pointwise *out) {
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    ND_TRY(pointwise_allocate(work, precision, columns, depth, out));
    if (precision == nd_precision_int8) return pointwise_quantize(work, terms, gemm, out);
    pointwise_clamp(work->activation, gemm);
    for (int64_t i = 0; precision == nd_precision_bf16 && i < terms->groups * terms->lanes * taps; i++) {
        terms->weights[i] = nd_bf16_to_f32(nd_f32_to_bf16(terms->weights[i]));
    }
    return nd_status_ok;
}

bool nd_sep_pointwise_takes(nd_activation activation, nd_precision precision) {
    return precision == nd_precision_int8 || pointwise_clamps(activation);
}

nd_status nd_sep_pointwise_of_patches(const nd_work *work, nd_precision precision, int64_t columns,
                                      int64_t depth, nd_sep_gemm *gemm, nd_sep_pointwise *out) {
    const int64_t length = work->x.dims[1] * work->window.kernel[0] * work->window.kernel[1];
    ND_TRY(pointwise_allocate(work, precision, columns, depth, out));
    if (precision != nd_precision_int8) {
        pointwise_clamp(work->activation, gemm);
        return nd_status_ok;
    }
    pointwise_requant(work, length, NULL, gemm, out);
    pointwise_start(work, length, work->x_quant.zero, out);
    return nd_status_ok;
}

void nd_sep_pointwise_free(nd_sep_pointwise *pointwise) {
    free(pointwise->weights);
    free(pointwise->bias);
    free(pointwise->factor);
    free(pointwise->start);
    *pointwise = (nd_sep_pointwise){0};
}

void nd_sep_store_weight(int element, char *place, float weight) {
    const uint16_t half = nd_f32_to_bf16(weight);
    switch (element) {
    case 1:
        *(int8_t *)place = (int8_t)weight;
        break;
    case 2:
        memcpy(place, &half, sizeof half);
        break;
    default:
        memcpy(place, &weight, sizeof weight);
    }
}
