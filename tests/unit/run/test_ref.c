#include "run/plugins.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* Results worked out by hand. Everything else about ref is checked against a second formulation by
 * test_check.c. */

static nd_view image(int64_t c, int64_t h, int64_t w) {
    return nd_view_row_major(4, (int64_t[]){1, c, h, w});
}

static void expect(const float *y, const float *expected, int count) {
    for (int i = 0; i < count; i++)
        cr_assert_float_eq(y[i], expected[i], 1e-6, "[%d] %g, not %g", i, (double)y[i], (double)expected[i]);
}

Test(ref, conv_is_a_cross_correlation_with_zeros_around) {
    const float x[] = {1, 2, 3, 4}, weights[] = {1, 10, 100}, bias[] = {0.5f};
    float y[4];
    nd_work work = {.operation = nd_operation_conv,
                    .x = image(1, 1, 4),
                    .y = image(1, 1, 4),
                    .window = {{1, 3}, {1, 1}, {1, 1}, {0, 1, 0, 1}},
                    .groups = 1,
                    .weights = weights,
                    .bias = bias};
    cr_assert_eq(nd_ref_run(&work, x, NULL, y), nd_status_ok);
    expect(y, (float[]){210.5f, 321.5f, 432.5f, 43.5f}, 4);
    work.y = image(1, 1, 2); /* stride 2, dilation 2: taps at -1, 1, 3 and 1, 3, 5 */
    work.window = (nd_window){{1, 3}, {1, 2}, {1, 2}, {0, 1, 0, 2}};
    cr_assert_eq(nd_ref_run(&work, x, NULL, y), nd_status_ok);
    expect(y, (float[]){420.5f, 42.5f}, 2);
}

/* Outputs of a row are made some hundreds at a time. */
Test(ref, conv_of_long_rows_is_the_sum_over_each_window) {
    enum { channels = 2, taps = 3, width = 700 };
    static const nd_window windows[] = {
        {{1, taps}, {1, 1}, {1, 1}, {0, 1, 0, 1}},
        {{1, taps}, {1, 1}, {1, 300}, {0, 299, 0, 300}},
        {{1, taps}, {1, 2}, {1, 1}, {0, 2, 0, 0}},
    };
    static const int64_t outputs[] = {width, 699, 350};
    float x[channels * width], weights[channels * taps], y[width];
    for (int e = 0; e < channels * width; e++) x[e] = (float)(e * e % 101 - 50);
    for (int e = 0; e < channels * taps; e++) weights[e] = (float)(e + 1);
    for (int i = 0; i < 6; i++) {
        const nd_window *window = &windows[i / 2];
        const nd_view in = image(channels, 1, width);
        const nd_work work = {.operation = nd_operation_conv,
                              .x = i % 2 ? nd_view_channels_last(4, in.dims) : in,
                              .y = image(1, 1, outputs[i / 2]),
                              .window = *window,
                              .groups = 1,
                              .weights = weights};
        cr_assert_eq(nd_ref_run(&work, x, NULL, y), nd_status_ok);
        for (int64_t o = 0; o < outputs[i / 2]; o++) {
            double sum = 0;
            for (int64_t e = 0; e < channels * taps; e++) {
                const int64_t at = o * window->stride[1] - window->pad[1] + e % taps * window->dilation[1];
                if (at < 0 || at >= width) continue;
                sum += weights[e] * x[i % 2 ? at * channels + e / taps : e / taps * width + at];
            }
            cr_assert_eq(y[o], sum, "case %d, output %lld: %g, not %g", i, (long long)o, (double)y[o], sum);
        }
    }
}

Test(ref, groups_and_multipliers_read_their_own_channels) {
    const float x[] = {1, 2, 3, 4}, weights[] = {1, 10, 100, 1000};
    float y[4];
    nd_work work = {.operation = nd_operation_conv,
                    .x = image(2, 1, 2),
                    .y = image(4, 1, 2),
                    .window = {{1, 1}, {1, 1}, {1, 1}, {0}},
                    .groups = 2,
                    .weights = weights};
    float all[8];
    cr_assert_eq(nd_ref_run(&work, x, NULL, all), nd_status_ok);
    expect(all, (float[]){1, 2, 10, 20, 300, 400, 3000, 4000}, 8);
    work.groups = 1;
    work.y = image(2, 1, 2);
    cr_assert_eq(nd_ref_run(&work, x, NULL, y), nd_status_ok);
    expect(y, (float[]){31, 42, 3100, 4200}, 4);
}

Test(ref, separable_sums_its_terms) {
    const float x[] = {1, 2, 3, 4}, depthwise[] = {1, 1, 2, 0, 0, 3}, pointwise[] = {1, 10, 100, -1, 0, 0};
    const float x2[] = {0.5f, 0, 0, 0};
    const int32_t channel[] = {0, 0, 1};
    float y[4];
    /* terms, 1x2 with zero to the left: 0: 1 3; 0 with {2, 0}: 0 2; 1 with {0, 3}: 9 12 */
    const nd_work work = {.operation = nd_operation_separable,
                          .x = image(2, 1, 2),
                          .x2 = image(2, 1, 2),
                          .y = image(2, 1, 2),
                          .residual = true,
                          .window = {{1, 2}, {1, 1}, {1, 1}, {0, 1, 0, 0}},
                          .weights = pointwise,
                          .depthwise = depthwise,
                          .channel = channel,
                          .terms = 3,
                          .activation = {.act = nd_act_relu}};
    cr_assert_eq(nd_ref_run(&work, x, x2, y), nd_status_ok);
    expect(y, (float[]){901.5f, 1223, 0, 0}, 4);
}

Test(ref, pools_count_what_they_say) {
    const float x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    float y[4];
    nd_work work = {.operation = nd_operation_pool,
                    .x = image(1, 3, 3),
                    .y = image(1, 2, 2),
                    .window = {{2, 2}, {2, 2}, {1, 1}, {0}},
                    .maximum = true};
    cr_assert_eq(nd_ref_run(&work, x, NULL, y), nd_status_ok); /* ceil mode: windows over the edge */
    expect(y, (float[]){5, 6, 8, 9}, 4);
    work.maximum = false;
    cr_assert_eq(nd_ref_run(&work, x, NULL, y), nd_status_ok);
    expect(y, (float[]){3, 4.5f, 7.5f, 9}, 4);
    work.count_include_pad = true;
    memcpy(work.window.pad, (int64_t[]){0, 0, 0, 1}, sizeof work.window.pad);
    cr_assert_eq(nd_ref_run(&work, x, NULL, y),
                 nd_status_ok); /* right padding counts, what is below does not */
    expect(y, (float[]){3, 2.25f, 7.5f, 4.5f}, 4);
}

Test(ref, views_repeat_turn_and_skip) {
    const float x[] = {1, 2, 3, 4, 5, 6}, x2[] = {10, 20, 30};
    float y[8] = {0};
    /* a 2x3 matrix read transposed, plus a column repeated over rows, into every other element */
    const nd_work work = {.operation = nd_operation_binary,
                          .x = {2, {3, 2}, {1, 3}, 0},
                          .x2 = {2, {3, 2}, {1, 0}, 0},
                          .y = {2, {3, 2}, {2, 1}, 1}};
    cr_assert_eq(nd_ref_run(&work, x, x2, y), nd_status_ok);
    expect(y, (float[]){0, 11, 14, 22, 25, 33, 36, 0}, 8);
}

Test(ref, softmax_takes_axes_together) {
    const float x[] = {0, 0, 0, logf(5)};
    float y[4];
    nd_work work = {
        .operation = nd_operation_softmax, .x = image(2, 2, 1), .y = image(2, 2, 1), .axis = 1, .inner = 4};
    cr_assert_eq(nd_ref_run(&work, x, NULL, y), nd_status_ok);
    expect(y, (float[]){0.125f, 0.125f, 0.125f, 0.625f}, 4);
    work.inner = 0;
    cr_assert_eq(nd_ref_run(&work, x, NULL, y), nd_status_ok);
    expect(y, (float[]){0.5f, 1.0f / 6, 0.5f, 5.0f / 6}, 4);
}

Test(ref, half_precision_is_what_storage_keeps) {
    nd_backend *backend;
    nd_memory *memory;
    nd_kernel *kernel;
    cr_assert_eq(nd_backend_open("ref", NULL, &backend), nd_status_ok);
    const nd_backend_table *table = backend->table;
    const nd_view x = nd_view_row_major(2, (int64_t[]){1, 2});
    nd_view y = nd_view_row_major(2, (int64_t[]){1, 1});
    y.offset = 2;
    const float weights[] = {1, 1.0f + 0x1p-9f}, input[] = {1, 0x1p-8f};
    float result;
    const nd_work work = {.operation = nd_operation_gemm, .x = x, .y = y, .weights = weights};
    cr_assert_eq(table->allocate(backend, 4 * sizeof(float), &memory), nd_status_ok);
    /* bf16 keeps 8 bits: the weight becomes 1, and 1 + 2^-8 becomes 1; fp16 keeps 11. */
    const float expected[nd_precision_count] = {[nd_precision_fp32] = 1 + 0x1p-8f + 0x1p-17f,
                                                [nd_precision_fp16] = 1 + 0x1p-8f,
                                                [nd_precision_bf16] = 1};
    for (int p = 0; p < nd_precision_count; p++) {
        if (p == nd_precision_tf32 || nd_precision_is_quantised((nd_precision)p)) { /* those need scales */
            cr_assert(!table->supports(backend, &work, (nd_precision)p));
            continue;
        }
        cr_assert_eq(table->prepare(backend, &work, (nd_precision)p, &kernel), nd_status_ok);
        cr_assert_eq(table->upload(backend, memory, &x, (nd_precision)p, input), nd_status_ok);
        cr_assert_eq(table->run(backend, kernel, memory, NULL, memory, NULL), nd_status_ok);
        cr_assert_eq(table->download(backend, memory, &y, (nd_precision)p, &result), nd_status_ok);
        cr_assert_eq(result, expected[p], "%s: %.9g", nd_precision_name((nd_precision)p), (double)result);
        table->release(kernel);
    }
    table->free(memory);
    nd_backend_close(backend);
}

Test(ref, refuses_work_that_does_not_fit) {
    nd_backend *backend;
    nd_kernel *kernel;
    cr_assert_eq(nd_backend_open("ref", NULL, &backend), nd_status_ok);
    const float weights[36] = {0};
    nd_work work = {.operation = nd_operation_conv,
                    .x = image(2, 4, 4),
                    .y = image(2, 4, 4),
                    .window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}},
                    .groups = 1,
                    .weights = weights};
    cr_assert(backend->table->supports(backend, &work, nd_precision_fp32));
    work.groups = 3;
    cr_assert(!backend->table->supports(backend, &work, nd_precision_fp32));
    cr_assert_eq(backend->table->prepare(backend, &work, nd_precision_fp32, &kernel), nd_status_unsupported);
    cr_assert_null(kernel);
    work = (nd_work){.operation = nd_operation_copy, .x = image(2, 4, 4), .y = image(2, 4, 3)};
    cr_assert(!backend->table->supports(backend, &work, nd_precision_fp32));
    nd_backend_close(backend);
}

Test(plugins, say_why_they_cannot) {
    nd_backend *backend;
    cr_assert_eq(nd_backend_open("tpu", NULL, &backend), nd_status_usage);
    cr_assert(strstr(nd_error(), "tpu"));
    cr_assert_eq(nd_backend_open("ref", &(nd_backend_settings){.device = 1}, &backend), nd_status_device);
    cr_assert_null(backend);
    cr_assert_eq(nd_backend_open("auto", NULL, &backend), nd_status_ok, "%s", nd_error());
    nd_backend_close(backend);
    nd_backend_close(NULL);
}

Test(plugins, what_auto_tries_after_a_backend) {
    nd_backend *backend;
    cr_assert_eq(nd_backend_open_after("cpu", NULL, &backend), nd_status_ok, "%s", nd_error());
    cr_expect_str_eq(backend->name, "ref");
    nd_backend_close(backend);
    cr_assert_eq(nd_backend_open_after("cuda", NULL, &backend), nd_status_ok, "%s", nd_error());
    cr_expect_str_neq(backend->name, "cuda");
    nd_backend_close(backend);
    cr_expect_eq(nd_backend_open_after("ref", NULL, &backend), nd_status_backend);
    cr_expect_str_eq(nd_error(), "no backend comes after ref");
    cr_expect_eq(nd_backend_open_after("abacus", NULL, &backend), nd_status_backend);
}
