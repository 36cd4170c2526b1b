#include "tests/unit/help/cpu_case.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

/* n ni h w no, kernel h w, stride pad dilation, ranks, activation, bias, residual */
static const cpu_separable shapes[] = {
    {1, 16, 14, 14, 32, 3, 3, 1, 1, 1, {1}, 1, nd_act_none, false, false},
    {1, 32, 14, 14, 64, 3, 3, 1, 1, 1, {2}, 1, nd_act_relu, true, false},
    {2, 64, 7, 7, 48, 3, 3, 1, 1, 1, {3}, 1, nd_act_relu, true, true},
    {1, 64, 9, 31, 33, 3, 3, 1, 1, 1, {4}, 1, nd_act_clip, true, false},
    {3, 16, 5, 5, 10, 3, 3, 2, 1, 1, {5}, 1, nd_act_leaky_relu, true, true},
    {1, 48, 13, 11, 17, 5, 5, 2, 2, 1, {6}, 1, nd_act_sigmoid, false, true},
    {1, 17, 15, 15, 70, 3, 3, 1, 2, 2, {2}, 1, nd_act_hard_swish, true, false},
    {1, 3, 20, 20, 16, 7, 7, 2, 3, 1, {3}, 1, nd_act_hard_sigmoid, true, false},
    {2, 40, 8, 8, 31, 3, 3, 1, 1, 1, {0, 3, 1, 2}, 4, nd_act_relu, true, true},
    {1, 35, 10, 6, 16, 3, 3, 1, 0, 1, {4, 1, 0, 0}, 4, nd_act_none, true, false},
    {1, 100, 6, 6, 20, 3, 3, 1, 1, 1, {0, 0, 0, 1}, 4, nd_act_none, true, false},
    {1, 20, 9, 9, 5, 1, 3, 1, 0, 1, {9}, 1, nd_act_relu, true, false},
    {1, 16, 9, 9, 1, 3, 1, 1, 0, 3, {1}, 1, nd_act_relu, true, false},
    {5, 33, 3, 3, 129, 3, 3, 1, 1, 1, {2, 3}, 2, nd_act_relu, true, true},
    {1, 16, 1, 40, 16, 3, 3, 1, 1, 1, {2}, 1, nd_act_none, true, false},
    {1, 16, 40, 1, 16, 3, 3, 1, 1, 1, {2}, 1, nd_act_none, true, false},
    {1, 18, 2, 2, 8, 3, 3, 1, 1, 1, {1, 2, 3, 4}, 4, nd_act_none, true, false},
    {1, 16, 4, 4, 16, 5, 5, 3, 4, 2, {2}, 1, nd_act_none, true, false},
};

static const char *const isas[] = {"scalar", "avx2", "avx512"};

/* Sums of a few hundred products in fp32, against fp64, over the largest output. */
static const double bound = 2e-6;

static void all_shapes(const char *isa, int threads, const char *prefer, const char *engine_part) {
    nd_backend *backend = cpu_case_open(isa, threads, prefer);
    if (!backend) cr_skip_test("this processor has no %s", isa);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        cpu_case c;
        char engine[64];
        cpu_case_separable(&c, &shapes[i], 100 + i);
        const double error = cpu_case_error(&c, backend, nd_precision_fp32, engine);
        cr_expect(error <= bound, "%s %s, shape %zu: error %g", isa, engine, i, error);
        cr_expect(!engine_part || strstr(engine, engine_part), "shape %zu ran on %s", i, engine);
        cpu_case_free(&c);
    }
    nd_backend_close(backend);
}

Test(cpu_separable, scalar_equals_ref) {
    all_shapes("scalar", 1, "nd", "nd:separable:scalar");
}

Test(cpu_separable, avx2_equals_ref) {
    all_shapes("avx2", 2, "nd", "nd:separable:avx2");
}

Test(cpu_separable, avx512_equals_ref) {
    all_shapes("avx512", 2, "nd", "nd:separable:avx512");
}

/* bf16 operands carry 8 bits; ref works on the unrounded ones. */
static void all_shapes_bf16(const char *isa, const char *wanted) {
    nd_backend *backend = cpu_case_open(isa, 2, "nd");
    if (!backend) cr_skip_test("this processor has no %s", isa);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const nd_act act = shapes[i].act;
        if (act != nd_act_none && act != nd_act_relu && act != nd_act_clip) continue;
        cpu_case c;
        char engine[64];
        cpu_case_separable(&c, &shapes[i], 300 + i);
        const double error = cpu_case_error(&c, backend, nd_precision_bf16, engine);
        cr_expect(error <= 2e-2, "%s, shape %zu: error %g", engine, i, error);
        cr_expect(!strcmp(engine, wanted), "shape %zu ran on %s", i, engine);
        cpu_case_free(&c);
    }
    nd_backend_close(backend);
}

Test(cpu_separable, amx_is_near_ref) {
    all_shapes_bf16("amx", "nd:separable:amx");
}

Test(cpu_separable, avx512_bf16_is_near_ref) {
    all_shapes_bf16("avx512_bf16", "nd:separable:avx512_bf16");
}

/* Without instructions for bf16 the kernel runs in fp32 and says so. */
Test(cpu_separable, bf16_is_widened_elsewhere) {
    all_shapes_bf16("avx2", "fp32:nd:separable:avx2");
    all_shapes_bf16("avx512", "fp32:nd:separable:avx512");
}

Test(cpu_separable, bf16_passes_no_buffer) {
    static const char *const guards[] = {"end", "begin"};
    for (int i = 0; i < 2; i++) {
        setenv("ND_CPU_GUARD", guards[i], 1);
        all_shapes_bf16("avx2", "fp32:nd:separable:avx2");
        all_shapes_bf16("avx512_bf16", "nd:separable:avx512_bf16");
        all_shapes_bf16("amx", "nd:separable:amx");
    }
}

Test(cpu_separable, pair_equals_ref) {
    all_shapes(NULL, 2, "pair", NULL);
}

Test(cpu_separable, dense_equals_ref) {
    all_shapes(NULL, 2, "dense-direct", NULL);
}

Test(cpu_separable, buffers_are_not_passed_at_their_end) {
    setenv("ND_CPU_GUARD", "end", 1);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) all_shapes(isas[i], 2, "nd", NULL);
}

Test(cpu_separable, buffers_are_not_passed_at_their_begin) {
    setenv("ND_CPU_GUARD", "begin", 1);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) all_shapes(isas[i], 2, "nd", NULL);
}

/* The same bits for any number of threads, more than there are tiles included. */
Test(cpu_separable, threads_do_not_show_in_the_bits) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        cpu_case c;
        cpu_case_separable(&c, &shapes[i], 200 + i);
        float *first = malloc(c.y_count * sizeof *first);
        cr_assert_not_null(first);
        for (int threads = 1; threads <= 16; threads += 5) {
            nd_backend *backend = cpu_case_open(NULL, threads, "nd");
            cr_assert_not_null(backend);
            cr_expect(cpu_case_error(&c, backend, nd_precision_fp32, NULL) <= bound);
            if (threads == 1) memcpy(first, c.y, c.y_count * sizeof *first);
            cr_expect(!memcmp(first, c.y, c.y_count * sizeof *first), "shape %zu, %d threads", i, threads);
            nd_backend_close(backend);
        }
        free(first);
        cpu_case_free(&c);
    }
}

/* Input, residual and output inside larger buffers, at an offset, with gaps between pixels and rows. */
Test(cpu_separable, strided_views) {
    cpu_separable s = {2, 32, 9, 10, 24, 3, 3, 1, 1, 1, {2, 3}, 2, nd_act_relu, true, true};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        nd_backend *backend = cpu_case_open(isas[i], 2, "nd");
        if (!backend) continue;
        cpu_case c;
        char engine[64];
        cpu_case_separable(&c, &s, 7);
        nd_rng rng = nd_rng_seed(8);
        const int64_t wide_x[] = {2, 40, 11, 13}, wide_y[] = {2, 50, 9, 10};
        nd_view x = nd_view_channels_last(4, wide_x), y = nd_view_channels_last(4, wide_y);
        for (int axis = 0; axis < 4; axis++) {
            c.work.x.strides[axis] = x.strides[axis];
            c.work.y.strides[axis] = c.work.x2.strides[axis] = y.strides[axis];
        }
        c.work.x.offset = x.strides[2] + 2 * x.strides[3] + 3;
        c.work.y.offset = 5;
        c.work.x2.offset = 26;
        cpu_case_fill(&c, &rng);
        const double error = cpu_case_error(&c, backend, nd_precision_fp32, engine);
        cr_expect(error <= bound && strstr(engine, "nd:separable"), "%s: error %g", engine, error);
        cpu_case_free(&c);
        nd_backend_close(backend);
    }
}
