/* Quantised kernels at every level, and networks of QuantizeLinear and DequantizeLinear. */
#include "check/check.h"
#include "run/executor.h"
#include "run/plugins.h"
#include "run/quantized.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>

Test(quantized, kernels_are_exact_at_every_level) {
    static const char *const levels[] = {"scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "amx"};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        nd_backend *backend = NULL;
        const nd_backend_settings settings = {.isa = levels[i], .threads = 2};
        if (nd_backend_open("cpu", &settings, &backend)) continue;
        static const char *const operations[] = {"separable", "conv", "quantize"};
        for (size_t k = 0; k < sizeof operations / sizeof *operations; k++) {
            const nd_check_settings check = {
                .operation = operations[k], .precision = nd_precision_int8, .seed = 3};
            nd_check_result result;
            cr_expect_eq(nd_check_run(backend, &check, &result), nd_status_ok, "%s: %s", levels[i],
                         nd_error());
            cr_expect_gt(result.compared, 10);
        }
        nd_backend_close(backend);
    }
}

/* Ties, what saturates and what is no number, at scales from the smallest on. */
Test(quantized, quantize_is_division) {
    enum { count = 5000 };
    static const float scales[] = {0x1p-140f, 0x1.8p-70f, 0.0173f, 0x1.fffffep-5f, 1, 3.7f, 0x1p90f};
    static float x[count];
    const int64_t dims[] = {count};
    const nd_view view = nd_view_row_major(1, dims);
    nd_backend *backend;
    nd_kernel *kernel;
    nd_memory *in, *out;
    cr_assert_eq(nd_backend_open("cpu", NULL, &backend), nd_status_ok);
    cr_assert_eq(backend->table->allocate(backend, sizeof x, &in), nd_status_ok);
    cr_assert_eq(backend->table->allocate(backend, count, &out), nd_status_ok);
    const size_t n_scales = sizeof scales / sizeof *scales;
    for (size_t s = 0; s < 2 * n_scales; s++) {
        const bool e4m3 = s >= n_scales;
        const float scale = scales[s % n_scales];
        const nd_precision precision = e4m3 ? nd_precision_e4m3 : nd_precision_int8;
        const nd_work work = {.operation = nd_operation_quantize,
                              .x = view,
                              .y = view,
                              .y_quant = {scale, e4m3 ? 0 : 117, e4m3}};
        float results[count];
        for (int i = 0; i < count; i++) x[i] = (float)(i - count / 2) * 0.25f * scale;
        x[0] = INFINITY, x[1] = -INFINITY, x[2] = NAN, x[3] = 0x1.fffffep127f;
        cr_assert_eq(backend->table->upload(backend, in, &view, nd_precision_fp32, x), nd_status_ok);
        cr_assert_eq(backend->table->prepare(backend, &work, precision, &kernel), nd_status_ok);
        cr_assert_eq(backend->table->run(backend, kernel, in, NULL, out, NULL), nd_status_ok);
        cr_assert_eq(backend->table->download(backend, out, &view, precision, results), nd_status_ok);
        for (int i = 0; i < count; i++) {
            const uint8_t q = nd_quantize(work.y_quant, x[i]);
            const float expected = e4m3 ? nd_e4m3_to_f32(q) : (float)q;
            cr_expect(results[i] == expected || (isnan(expected) && isnan(results[i])), "%a / %a gave %g",
                      (double)x[i], (double)scale, (double)results[i]);
        }
        backend->table->release(kernel);
    }
    backend->table->free(in);
    backend->table->free(out);
    nd_backend_close(backend);
}

/* An upload into integers is a quantisation of each value: of pictures, of other channels, of planes. */
Test(quantized, upload_rounds_as_quantize) {
    enum { most = 2 * 5 * 19 * 31 };
    static const int64_t channels_of[] = {3, 5, 3};
    static float x[most], results[most];
    const nd_quant quant = {0.0173f, 117, false};
    nd_backend *backend;
    nd_memory *memory;
    cr_assert_eq(nd_backend_open("cpu", NULL, &backend), nd_status_ok);
    cr_assert_eq(backend->table->allocate(backend, most, &memory), nd_status_ok);
    for (int i = 0; i < most; i++) x[i] = (float)(i % 601 - 300) * 0.25f * quant.scale;
    x[0] = INFINITY, x[1] = -INFINITY, x[2] = NAN;
    for (int c = 0; c < 3; c++) {
        const int64_t dims[] = {2, channels_of[c], 19, 31};
        const nd_view view = c == 2 ? nd_view_row_major(4, dims) : nd_view_channels_last(4, dims);
        cr_assert_eq(backend->table->upload_quantized(backend, memory, &view, quant, x), nd_status_ok);
        cr_assert_eq(backend->table->download(backend, memory, &view, nd_precision_int8, results),
                     nd_status_ok);
        for (int64_t i = 0; i < nd_view_count(&view); i++)
            cr_expect_eq((int)results[i], (int)nd_quantize(quant, x[i]), "%g gave %g", (double)x[i],
                         (double)results[i]);
    }
    backend->table->free(memory);
    nd_backend_close(backend);
}

/* Through signed integers and back, or through e4m3, whose zero is 0. */
static int through(nd_graph *graph, nd_dtype dtype, int x, float scale, int8_t zero) {
    const int s = add_data(graph, nd_dtype_f32, 0, NULL, &scale);
    if (dtype == nd_dtype_e4m3) zero = 0;
    const int z = add_data(graph, dtype, 0, NULL, &zero);
    const int q = add_node(graph, nd_op_quantize, NULL, (const int[]){x, s, z}, 3, NULL);
    return add_node(graph, nd_op_dequantize, NULL, (const int[]){q, s, z}, 3, NULL);
}

enum { channels = 16, side = 6, weights_count = channels * channels };

/* A quantised separable pair with a residual, pooled. */
static nd_graph *network(nd_op pool, nd_dtype dtype) {
    nd_graph *graph = new_graph("quantised");
    nd_node *made;
    int filters[2];
    int8_t w[weights_count], d[channels * 9];
    float scale[channels], bias[channels];
    const int64_t in[] = {1, channels, side, side}, dw[] = {channels, 1, 3, 3};
    const int64_t pw[] = {channels, channels, 1, 1}, per[] = {channels};
    for (int i = 0; i < weights_count; i++) w[i] = (int8_t)(i * 37 % 255 - 127);
    for (int i = 0; i < channels * 9; i++) d[i] = (int8_t)(i * 53 % 255 - 127);
    for (int i = 0; i < weights_count && dtype == nd_dtype_e4m3; i++)
        w[i] = (int8_t)(w[i] & 0xbf); /* numbers */
    for (int i = 0; i < channels * 9 && dtype == nd_dtype_e4m3; i++) d[i] = (int8_t)(d[i] & 0xbf);
    for (int i = 0; i < channels; i++)
        scale[i] = (dtype == nd_dtype_e4m3 ? 0.2f : 0.001f) * (float)(1 + i % 3);
    for (int i = 0; i < channels; i++) bias[i] = 0.1f * (float)(i - 8);
    const int s = add_floats(graph, NULL, 1, per, scale), b = add_floats(graph, NULL, 1, per, bias);
    const int raw[] = {add_data(graph, dtype, 4, dw, d), add_data(graph, dtype, 4, pw, w)};
    for (int i = 0; i < 2; i++) {
        filters[i] = add_node(graph, nd_op_dequantize, NULL, (const int[]){raw[i], s}, 2, &made);
        made->attr.axis = 0;
    }
    const int x = add_input(graph, "x", 4, in), first = through(graph, dtype, x, 0.03f, -10);
    int y = add_node(graph, nd_op_conv, NULL, (const int[]){first, filters[0]}, 2, &made);
    made->attr.groups = channels;
    made->attr.window = (nd_window){{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    y = through(graph, dtype, y, 0.02f, 0);
    y = add_node(graph, nd_op_conv, NULL, (const int[]){y, filters[1], b}, 3, &made);
    made->attr.groups = 1;
    made->attr.window = (nd_window){{1, 1}, {1, 1}, {1, 1}, {0}};
    y = add_node(graph, nd_op_add, NULL, (const int[]){y, first}, 2, NULL);
    y = add_node(graph, nd_op_relu, NULL, &y, 1, NULL);
    y = through(graph, dtype, y, 0.02f, -128);
    y = add_node(graph, pool, NULL, &y, 1, &made);
    made->attr.window = (nd_window){{2, 2}, {2, 2}, {1, 1}, {0}};
    OK(nd_graph_add_output(graph, y));
    OK(nd_graph_fold(graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    return graph;
}

static bool run(const char *backend_name, const nd_graph *graph, bool plain, const float *x, float *y,
                bool *fused) {
    nd_backend *backend;
    nd_exec *exec;
    const nd_exec_settings settings = {.plain = plain};
    if (nd_backend_open(backend_name, NULL, &backend)) return false;
    cr_assert_eq(nd_exec_open(backend, graph, &settings, &exec), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_exec_run(exec, 1, &x, &y), nd_status_ok, "%s", nd_error());
    *fused = false;
    for (size_t i = 0; i < nd_exec_node_count(exec); i++) {
        *fused |= nd_exec_node_at(exec, i).operation == nd_operation_separable;
    }
    nd_exec_close(exec);
    nd_backend_close(backend);
    return true;
}

/* The fused kernel rounds where node by node does: no more than a quantum apart, and on one backend as on the
 * other. */
Test(quantized, networks_run_in_integers) {
    enum { in = channels * side * side, out = in / 4 };
    float x[in], plain[out], ref[out], cpu[out];
    bool fused;
    nd_graph *graph = network(nd_op_max_pool, nd_dtype_i8);
    for (int i = 0; i < in; i++) x[i] = (float)sin(i * 0.7) * 3;
    cr_assert(run("ref", graph, true, x, plain, &fused));
    cr_expect_not(fused);
    cr_assert(run("ref", graph, false, x, ref, &fused));
    cr_expect(fused, "the pair is one kernel");
    int away = 0;
    for (int i = 0; i < out; i++) {
        cr_expect(fabsf(ref[i] - plain[i]) <= 0.0201f, "%d: %g and %g", i, (double)ref[i], (double)plain[i]);
        away += ref[i] != 0;
    }
    cr_expect_gt(away, out / 4, "the test says nothing when all is zero");
    if (run("cpu", graph, false, x, cpu, &fused)) {
        cr_expect(fused);
        cr_expect_arr_eq(cpu, ref, sizeof ref);
    }
    nd_graph_free(graph);
}

/* The same in e4m3. The cpu computes the layers in fp32, between roundings: as node by node on ref, but for
 * sums that fall between two numbers and what comes of them. */
Test(quantized, networks_run_in_e4m3) {
    enum { in = channels * side * side, out = in / 4 };
    float x[in], plain[out], ref[out], cpu[out];
    bool fused;
    nd_graph *graph = network(nd_op_max_pool, nd_dtype_e4m3);
    for (int i = 0; i < in; i++) x[i] = (float)sin(i * 0.7) * 3;
    cr_assert(run("ref", graph, true, x, plain, &fused));
    cr_expect_not(fused);
    cr_assert(run("ref", graph, false, x, ref, &fused));
    cr_expect(fused, "the pair is one kernel");
    const bool other = run("cpu", graph, false, x, cpu, &fused);
    int same = 0, away = 0;
    for (int i = 0; i < out; i++) {
        const float step = 0.126f * fabsf(plain[i]) + 0.02f * 0x1p-9f;
        cr_expect(fabsf(ref[i] - plain[i]) <= step, "%d: %g and %g", i, (double)ref[i], (double)plain[i]);
        cr_expect(!other || fabsf(cpu[i] - plain[i]) <= step, "%d: %g", i, (double)cpu[i]);
        same += ref[i] == plain[i] && (!other || cpu[i] == plain[i]);
        away += ref[i] != 0;
    }
    cr_expect_gt(away, out / 4, "the test says nothing when all is zero");
    cr_expect_gt(same, out * 9 / 10);
    nd_graph_free(graph);
}

/* The largest of a plane is the largest of what windows over all of it have. */
Test(quantized, global_maxima_stay_integers) {
    enum { in = channels * side * side, out = in / 4 };
    float x[in], windows[out], ref[channels], cpu[channels];
    bool fused;
    nd_graph *parts = network(nd_op_max_pool, nd_dtype_i8),
             *whole = network(nd_op_global_max_pool, nd_dtype_i8);
    for (int i = 0; i < in; i++) x[i] = (float)sin(i * 0.7) * 3;
    cr_assert(run("ref", parts, false, x, windows, &fused));
    cr_assert(run("ref", whole, false, x, ref, &fused));
    for (int c = 0; c < channels; c++) {
        float most = windows[c * out / channels];
        for (int i = 1; i < out / channels; i++) most = fmaxf(most, windows[c * out / channels + i]);
        cr_expect_eq(ref[c], most, "%d", c);
    }
    if (run("cpu", whole, false, x, cpu, &fused)) cr_expect_arr_eq(cpu, ref, sizeof ref);
    nd_graph_free(parts);
    nd_graph_free(whole);
}
