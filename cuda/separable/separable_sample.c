#include "cuda/separable/separable_sample.h"
#include "cuda/tune/noise.h"

#include <math.h>

/* The deviation of 8-bit integers that are all as frequent. */
static const double nd_sample_spread = 73.9;

static float *sample_normal(nd_arena *memory, int64_t count, double middle, double scale, uint64_t seed) {
    float *values = nd_arena_alloc(memory, (size_t)count * sizeof *values);
    for (int64_t i = 0; values && i < count; i++)
        values[i] = (float)(middle + scale * (double)nd_noise(seed, (uint64_t)i));
    return values;
}

static float *sample_integers(nd_arena *memory, int64_t count, uint64_t seed) {
    float *values = nd_arena_alloc(memory, (size_t)count * sizeof *values);
    for (int64_t i = 0; values && i < count; i++)
        values[i] = (float)(nd_noise_integer(seed, (uint64_t)i) - 128);
    return values;
}

/* `rows` of weights that give sums of `length` of them variance 1; where `scales` is not NULL, integers and
 * their scales, no two alike. False: no memory. */
static bool sample_weights(nd_arena *memory, int64_t rows, int64_t length, uint64_t seed,
                           const float **weights, const float **scales) {
    const double scale = 1 / sqrt((double)length);
    if (!scales) return (*weights = sample_normal(memory, rows * length, 0, scale, seed));
    const double step = scale / nd_sample_spread;
    *weights = sample_integers(memory, rows * length, seed);
    *scales = sample_normal(memory, rows, step, step / 8, seed + 1);
    return *weights && *scales;
}

/* Zeros differ, so that one in the place of another shows. */
static void sample_quantise(nd_work *work) {
    const float operand = (float)(1 / nd_sample_spread), sum = 1 / 32.f;
    work->x_quant = (nd_quant){.scale = operand, .zero = 119};
    work->middle_quant = (nd_quant){.scale = sum, .zero = 131};
    if (work->residual) work->x2_quant = (nd_quant){.scale = operand, .zero = 137};
    if (work->y_quant.scale > 0) work->y_quant = (nd_quant){.scale = sum, .zero = 121};
}

nd_status nd_separable_sample_make(const nd_work *work, nd_precision precision, uint64_t seed,
                                   nd_separable_sample *sample) {
    const int64_t no = work->y.dims[1], taps = work->window.kernel[0] * work->window.kernel[1];
    const bool integers = precision == nd_precision_int8;
    *sample = (nd_separable_sample){.work = *work};
    nd_work *own = &sample->work;
    nd_arena *memory = &sample->memory;
    bool made =
        sample_weights(memory, no, work->terms, seed, &own->weights, integers ? &own->weights_scale : NULL) &&
        sample_weights(memory, work->terms, taps, seed + 2, &own->depthwise,
                       work->depthwise_scale ? &own->depthwise_scale : NULL);
    if (work->bias) made = made && (own->bias = sample_normal(memory, no, 0, 1, seed + 4));
    if (integers) sample_quantise(own);
    if (made) return nd_status_ok;
    nd_separable_sample_free(sample);
    return nd_fail(nd_status_memory, "no memory for the weights of a trial");
}

void nd_separable_sample_free(nd_separable_sample *sample) {
    nd_arena_free(&sample->memory);
}
