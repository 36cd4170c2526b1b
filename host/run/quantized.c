#include "run/quantized.h"

#include <math.h>

static bool quantized_activation(nd_activation activation) {
    return activation.act == nd_act_none || activation.act == nd_act_relu || activation.act == nd_act_clip ||
           activation.act == nd_act_leaky_relu;
}

/* Terms of one sum: 255 * 128 of each must fit into 31 bits together. */
static bool quantized_sum_fits(const nd_work *work) {
    const int64_t window = work->window.kernel[0] * work->window.kernel[1];
    int64_t length = work->x.dims[1];
    if (work->operation == nd_operation_conv) length = work->x.dims[1] / work->groups * window;
    if (work->operation == nd_operation_separable) length = work->terms;
    return length <= INT32_MAX / (255 * 128);
}

/* Whether all that is quantised is so in this precision. */
static bool quantized_alike(const nd_work *work, nd_precision precision) {
    const nd_quant *quants[] = {&work->x_quant, &work->x2_quant, &work->y_quant, &work->middle_quant};
    const bool e4m3 = precision == nd_precision_e4m3;
    for (size_t i = 0; i < sizeof quants / sizeof *quants; i++)
        if (quants[i]->scale > 0 && (quants[i]->e4m3 != e4m3 || (e4m3 && quants[i]->zero))) return false;
    return e4m3 || precision == nd_precision_int8;
}

bool nd_quantized_agrees(const nd_work *work, nd_precision precision) {
    if (!nd_work_agrees(work) || !quantized_alike(work, precision)) return false;
    const bool x = work->x_quant.scale > 0, y = work->y_quant.scale > 0,
               integers = precision == nd_precision_int8;
    switch (work->operation) {
    case nd_operation_conv:
    case nd_operation_gemm:
    case nd_operation_separable:
        if (work->operation == nd_operation_separable && !(work->middle_quant.scale > 0)) return false;
        return x && work->weights_scale && quantized_activation(work->activation) &&
               (!work->residual || work->x2_quant.scale > 0) && (!integers || quantized_sum_fits(work));
    case nd_operation_binary:
        return integers && work->pairing == nd_pairing_add && x && y && work->x2_quant.scale > 0 &&
               quantized_activation(work->activation);
    case nd_operation_pool:
        return integers && work->maximum && x;
    case nd_operation_gather:
    case nd_operation_copy:
    case nd_operation_dequantize:
        return x;
    case nd_operation_quantize:
        return y;
    default:
        return false;
    }
}

nd_requant nd_requant_of(const nd_work *work, float *factor, float *shift, float *middle_factor) {
    const bool quantised = work->y_quant.scale > 0, separable = work->operation == nd_operation_separable;
    const double unit = quantised ? work->y_quant.scale : 1;
    const double x_scale = separable ? work->middle_quant.scale : work->x_quant.scale;
    const nd_activation act = work->activation;
    nd_requant r = {.slope = act.a, .leaky = act.act == nd_act_leaky_relu};
    double residual = 0;
    if (work->residual) {
        r.x2_factor = (float)(work->x2_quant.scale / unit);
        residual = (double)r.x2_factor * work->x2_quant.zero;
    }
    if (work->operation == nd_operation_binary) {
        r.x_factor = (float)(work->x_quant.scale / unit);
        r.x2_factor = (float)(work->x2_quant.scale / unit);
        r.shift =
            (float)(-(double)r.x_factor * work->x_quant.zero - (double)r.x2_factor * work->x2_quant.zero);
    }
    for (int64_t o = 0; factor && o < work->y.dims[1]; o++) {
        factor[o] = (float)(x_scale * work->weights_scale[o] / unit);
        shift[o] = (float)((work->bias ? work->bias[o] / unit : 0) - residual);
    }
    for (int64_t t = 0; separable && t < work->terms; t++) {
        const double scale = work->depthwise_scale ? work->depthwise_scale[t] : 1;
        middle_factor[t] = (float)(work->x_quant.scale * scale / work->middle_quant.scale);
    }
    r.zero = quantised ? (float)work->y_quant.zero : 0;
    r.low = !quantised ? -INFINITY : work->y_quant.e4m3 ? -448 : 0;
    r.high = !quantised ? INFINITY : work->y_quant.e4m3 ? 448 : 255;
    if (act.act == nd_act_relu && r.low < r.zero) r.low = r.zero;
    if (act.act == nd_act_clip) {
        r.low = fmaxf(r.low, (float)(act.a / unit + r.zero));
        r.high = fminf(r.high, (float)(act.b / unit + r.zero));
    }
    if (r.low > r.high) r.low = r.high;
    return r;
}

uint8_t nd_quantized_store(bool e4m3, float t) {
    return e4m3 ? nd_f32_to_e4m3(t) : (uint8_t)nearbyintf(t);
}

uint8_t nd_quantize(nd_quant quant, float real) {
    const float t = real / quant.scale + (float)quant.zero;
    if (quant.e4m3) return nd_f32_to_e4m3(t);
    if (!(t > 0)) return 0;
    return t >= 255 ? 255 : (uint8_t)nearbyintf(t);
}

float nd_dequantize(nd_quant quant, uint8_t q) {
    if (quant.e4m3) return quant.scale * nd_e4m3_to_f32(q);
    return quant.scale * (float)((int32_t)q - quant.zero);
}
