/* Random convolutions of awkward shapes for the tests of decoupling, and the plainest way to run a chain. */
#ifndef ND_TESTS_DECOUPLE_HELP_H
#define ND_TESTS_DECOUPLE_HELP_H

#include "decouple/chain.h"
#include "graph_help.h"
#include "run/plugins.h"

#include <math.h>

/* Strides, dilation, asymmetric padding, oblong kernels, groups, kernels wider than the channels are many. */
static const nd_conv help_shapes[] = {
    {.name = "plain",
     .no = 8,
     .ni = 6,
     .groups = 1,
     .window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}},
     .in_h = 7,
     .in_w = 9},
    {.name = "stride 2",
     .no = 12,
     .ni = 5,
     .groups = 1,
     .window = {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}},
     .in_h = 9,
     .in_w = 8},
    {.name = "valid",
     .no = 4,
     .ni = 7,
     .groups = 1,
     .window = {{3, 3}, {1, 1}, {1, 1}, {0, 0, 0, 0}},
     .in_h = 6,
     .in_w = 6},
    {.name = "dilated",
     .no = 6,
     .ni = 6,
     .groups = 1,
     .window = {{3, 3}, {1, 1}, {2, 2}, {2, 2, 2, 2}},
     .in_h = 8,
     .in_w = 8},
    {.name = "asymmetric pad",
     .no = 6,
     .ni = 4,
     .groups = 1,
     .window = {{3, 3}, {2, 1}, {1, 1}, {0, 2, 1, 0}},
     .in_h = 8,
     .in_w = 7},
    {.name = "oblong",
     .no = 6,
     .ni = 4,
     .groups = 1,
     .window = {{5, 2}, {1, 2}, {1, 3}, {2, 0, 2, 1}},
     .in_h = 9,
     .in_w = 9},
    {.name = "column",
     .no = 9,
     .ni = 5,
     .groups = 1,
     .window = {{3, 1}, {1, 1}, {1, 1}, {1, 0, 1, 0}},
     .in_h = 6,
     .in_w = 5},
    {.name = "groups",
     .no = 12,
     .ni = 8,
     .groups = 2,
     .window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}},
     .in_h = 6,
     .in_w = 6},
    {.name = "many groups",
     .no = 8,
     .ni = 12,
     .groups = 4,
     .window = {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}},
     .in_h = 7,
     .in_w = 7},
    {.name = "few rows",
     .no = 3,
     .ni = 6,
     .groups = 1,
     .window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}},
     .in_h = 5,
     .in_w = 5},
    {.name = "few columns",
     .no = 10,
     .ni = 2,
     .groups = 1,
     .window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}},
     .in_h = 5,
     .in_w = 5},
    {.name = "pointwise",
     .no = 10,
     .ni = 7,
     .groups = 1,
     .window = {{1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}},
     .in_h = 6,
     .in_w = 5},
    {.name = "pointwise groups",
     .no = 12,
     .ni = 8,
     .groups = 2,
     .window = {{1, 1}, {2, 2}, {1, 1}, {0, 0, 0, 0}},
     .in_h = 7,
     .in_w = 8},
};
enum { help_n_shapes = sizeof help_shapes / sizeof *help_shapes };

static inline nd_backend *help_backend(void) {
    nd_backend *backend = NULL;
    OK(nd_backend_open("ref", &(nd_backend_settings){0}, &backend));
    return backend;
}

static inline int64_t help_kernel_size(const nd_conv *conv) {
    return conv->no * (conv->ni / conv->groups) * nd_conv_taps(conv);
}

static inline float *help_normals(int64_t count, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    float *values = nd_alloc_array((size_t)count, sizeof *values);
    cr_assert(values);
    for (int64_t i = 0; i < count; i++) values[i] = (float)nd_rng_normal(&rng);
    return values;
}

static inline nd_conv help_conv(int shape, uint64_t seed) {
    nd_conv conv = help_shapes[shape];
    conv.weights = help_normals(help_kernel_size(&conv), seed);
    conv.bias = help_normals(conv.no, seed + 1);
    return conv;
}

static inline void help_conv_free(nd_conv *conv) {
    free((float *)conv->weights);
    free((float *)conv->bias);
}

/* One image through one convolution in fp64: y[no][out_h][out_w]. */
static inline double *help_run_conv(const nd_conv *conv, const double *weights, const float *bias,
                                    const double *x) {
    int64_t oh = nd_conv_out_h(conv), ow = nd_conv_out_w(conv), cols = conv->ni / conv->groups;
    const nd_window *win = &conv->window;
    double *y = nd_alloc_array((size_t)(conv->no * oh * ow), sizeof *y);
    cr_assert(y);
    for (int64_t o = 0; o < conv->no; o++)
        for (int64_t p = 0; p < oh * ow; p++) {
            double sum = bias ? bias[o] : 0;
            for (int64_t i = 0; i < cols; i++)
                for (int64_t t = 0; t < nd_conv_taps(conv); t++) {
                    int64_t iy =
                        p / ow * win->stride[0] - win->pad[0] + t / win->kernel[1] * win->dilation[0];
                    int64_t ix =
                        p % ow * win->stride[1] - win->pad[1] + t % win->kernel[1] * win->dilation[1];
                    if (iy < 0 || iy >= conv->in_h || ix < 0 || ix >= conv->in_w) continue;
                    int64_t c = o / (conv->no / conv->groups) * cols + i;
                    sum += weights[(o * cols + i) * nd_conv_taps(conv) + t] *
                           x[(c * conv->in_h + iy) * conv->in_w + ix];
                }
            y[o * oh * ow + p] = sum;
        }
    return y;
}

static inline double *help_widen(const float *values, int64_t count) {
    double *wide = nd_alloc_array((size_t)count, sizeof *wide);
    cr_assert(wide);
    for (int64_t i = 0; i < count; i++) wide[i] = values[i];
    return wide;
}

/* One image through the stages one after another, gathers included. */
static inline double *help_run_chain(const nd_chain *chain, const nd_conv *conv, const double *image) {
    double *x = nd_alloc_array((size_t)(conv->ni * conv->in_h * conv->in_w), sizeof *x);
    memcpy(x, image, (size_t)(conv->ni * conv->in_h * conv->in_w) * sizeof *x);
    for (int s = 0; s < chain->n; s++) {
        nd_conv stage = nd_chain_stage_conv(chain, conv, s);
        int64_t area = stage.in_h * stage.in_w;
        const int32_t *channel = chain->stages[s].channel;
        double *gathered = nd_alloc_array((size_t)(stage.ni * area), sizeof *gathered);
        for (int64_t c = 0; c < stage.ni; c++)
            memcpy(gathered + c * area, x + (channel ? channel[c] : c) * area, (size_t)area * sizeof *x);
        double *weights = help_widen(stage.weights, help_kernel_size(&stage));
        free(x);
        x = help_run_conv(&stage, weights, stage.bias, gathered);
        free(gathered);
        free(weights);
    }
    return x;
}

static inline double help_distance(const double *a, const double *b, int64_t count) {
    double change = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        change += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return norm > 0 ? sqrt(change / norm) : sqrt(change);
}

/* The largest difference of two lists, relative to the largest number of the second. */
static inline double help_apart(const double *a, const double *b, int64_t n) {
    double apart = 0, size = 0;
    for (int64_t e = 0; e < n; e++) {
        apart = fmax(apart, fabs(a[e] - b[e]));
        size = fmax(size, fabs(b[e]));
    }
    return size > 0 ? apart / size : apart;
}

#endif
