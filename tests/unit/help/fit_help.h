/* Data for convolutions that says something, and the moments of it, for the tests of fits. */
#ifndef ND_TESTS_FIT_HELP_H
#define ND_TESTS_FIT_HELP_H

#include "decouple/fit/moments.h"
#include "tests/unit/help/decouple_help.h"

enum { help_images = 24 };

/* Correlated pictures: smooth in space, mixed over channels, so that data has something to tell. */
static inline float *help_pictures(const nd_conv *conv, int64_t n, uint64_t seed) {
    int64_t area = conv->in_h * conv->in_w, size = conv->ni * area;
    float *noise = help_normals(n * size, seed), *x = nd_alloc_array((size_t)(n * size), sizeof *x);
    cr_assert(x);
    for (int64_t e = 0; e < n * size; e++) {
        int64_t c = e / area % conv->ni, p = e % area;
        float left = p % conv->in_w ? x[e - 1] : 0, up = p >= conv->in_w ? x[e - conv->in_w] : 0;
        float below = c ? x[e - area] : 0;
        x[e] = 0.4f * left + 0.3f * up + 0.5f * below + noise[e] / (float)(1 + c);
    }
    free(noise);
    for (int64_t e = 0; e < n * size; e++) x[e] = x[e] > 0 ? x[e] + 0.1f : 0.1f * x[e];
    return x;
}

static inline float *help_responses(const nd_conv *conv, const float *x, int64_t n) {
    int64_t in = conv->ni * conv->in_h * conv->in_w;
    int64_t out = conv->no * nd_conv_out_h(conv) * nd_conv_out_w(conv);
    double *weights = help_widen(conv->weights, help_kernel_size(conv));
    float *y = nd_alloc_array((size_t)(n * out), sizeof *y);
    for (int64_t i = 0; i < n; i++) {
        double *image = help_widen(x + i * in, in), *one = help_run_conv(conv, weights, conv->bias, image);
        for (int64_t e = 0; e < out; e++) y[i * out + e] = (float)one[e];
        free(image);
        free(one);
    }
    free(weights);
    return y;
}

static inline nd_moments *help_moments(nd_backend *backend, const nd_conv *conv, int64_t n, const float *x,
                                       const float *y) {
    nd_moments *m = NULL;
    int64_t in = conv->ni * conv->in_h * conv->in_w;
    int64_t out = conv->no * nd_conv_out_h(conv) * nd_conv_out_w(conv);
    OK(nd_moments_new(conv, &m));
    for (int64_t i = 0; i < n; i += 5) { /* uneven blocks */
        int64_t block = n - i < 5 ? n - i : 5;
        OK(nd_moments_add(m, backend, conv, i, block, x + i * in, y ? y + i * out : NULL));
    }
    OK(nd_moments_finish(m, backend, conv));
    return m;
}

typedef struct help_problem {
    nd_backend *backend;
    nd_conv conv;
    float *x, *y;
    nd_moments *m;
    double *w; /* room for a kernel */
} help_problem;

static inline help_problem help_problem_open(int shape) {
    help_problem p = {.backend = help_backend(), .conv = help_conv(shape, 40 + (uint64_t)shape)};
    p.x = help_pictures(&p.conv, help_images, 7);
    p.y = help_responses(&p.conv, p.x, help_images);
    p.m = help_moments(p.backend, &p.conv, help_images, p.x, p.y);
    p.w = nd_alloc_array((size_t)help_kernel_size(&p.conv), sizeof *p.w);
    return p;
}

static inline void help_problem_close(help_problem *p) {
    nd_moments_free(p->m);
    free(p->x);
    free(p->y);
    free(p->w);
    help_conv_free(&p->conv);
    nd_backend_close(p->backend);
}

#endif
