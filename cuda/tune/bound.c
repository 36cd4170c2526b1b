#include "cuda/tune/bound.h"

#include <math.h>

/* Relative errors: of an addition, of a product by what tensor cores cut off its operands, of a
 * stored value. */
typedef struct nd_bound_rounding {
    double sum, product, store;
} nd_bound_rounding;

static const nd_bound_rounding nd_bound_roundings[nd_precision_count] = {
    [nd_precision_fp32] = {.sum = 0x1p-24, .product = 0, .store = 0x1p-24},
    [nd_precision_tf32] = {.sum = 0x1p-23, .product = 0x1p-9, .store = 0x1p-24},
    [nd_precision_fp16] = {.sum = 0x1p-23, .product = 0, .store = 0x1p-11},
    [nd_precision_bf16] = {.sum = 0x1p-23, .product = 0, .store = 0x1p-8},
};

/* Deviations that no sum of billions exceeds. */
static const double nd_bound_reach = 8;

/* Transforms of 6x6 outputs by 3x3 in fp32 come out by up to 1400 roundings of a result of 1, those of 4x4 by
 * 970 (of 690000 and 310000 results, 512 channels): three times that for the 8 deviations. */
static const double nd_bound_transform = 512;

/* An error of half a deviation is no rounding, whatever engine made it. */
static const double nd_bound_most = 0.5;

/* Of a layer of integers: half a step, so that equal integers alone agree, and where it ends in real numbers
 * less than two of that size can differ by. */
static const float nd_bound_step = 0.5f, nd_bound_equal = 0x1p-100f;

int64_t nd_bound_length(const nd_work *work) {
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    return taps * (work->operation == nd_operation_separable ? work->terms : work->x.dims[1] / work->groups);
}

nd_bound nd_bound_of(const nd_work *work, nd_precision precision, bool transformed) {
    const nd_bound_rounding *rounding = &nd_bound_roundings[precision];
    const nd_activation *activation = &work->activation;
    const bool sloped = activation->act == nd_act_leaky_relu || activation->act == nd_act_hard_sigmoid;
    const double slope = fmax(1.5, sloped ? fabs(activation->a) : 0); /* hard swish: 1.5 */
    double product = rounding->product;
    if (precision == nd_precision_int8)
        return (nd_bound){.absolute = work->y_quant.scale > 0 ? nd_bound_step : nd_bound_equal};
    /* The reference keeps the weights, and what lies between depthwise and pointwise, in fp32. */
    if (work->operation == nd_operation_separable) product += 2 * rounding->store;
    if (transformed) product += nd_bound_transform * fmax(rounding->store, rounding->product / 4);
    /* Both results are sums, and either may be stored once more before what follows a convolution. */
    const double roundings =
        2 * rounding->sum * (double)(nd_bound_length(work) + 4) + product + rounding->store;
    return (nd_bound){.absolute = (float)fmin(slope * nd_bound_reach * roundings, nd_bound_most),
                      .relative = (float)(3 * rounding->store)};
}
