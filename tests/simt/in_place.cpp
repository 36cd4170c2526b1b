/* Kernels that add to what is there: the epilogue of engines without one, and the sum of moments. And the
 * splitting of loops too long for one launch, which no test can afford to run. */
#include "cuda/kernels/elementwise.cuh"
#include "tests/simt/compare.h"

#include <string.h>

/* ref knows act(x + b + x2) as a convolution of each channel with 1. x is put where y will be. */
static nd_test_case nd_test_epilogue(const char *name, nd_dtype storage, nd_view y, bool bias,
                                     bool residual) {
    nd_test_case test;
    test.name = std::string("epilogue, ") + name;
    test.storage = storage;
    test.work.operation = nd_operation_conv;
    test.work.groups = y.dims[1];
    test.work.window = {{1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}};
    test.work.x = test.work.y = test.work.x2 = y;
    test.work.residual = residual;
    test.work.activation = {nd_act_relu, 0, 0};
    test.weights.assign((size_t)y.dims[1], 1);
    if (bias) test.bias = nd_test_integers((size_t)y.dims[1], -4, 4, 3);
    test.launch = [](const nd_test_case &self, const void *x, const void *x2, void *to) {
        const size_t size = nd_dtype_bytes(self.storage);
        for (int64_t at : nd_test_positions(self.work.y))
            memcpy(static_cast<char *>(to) + (size_t)at * size,
                   static_cast<const char *>(x) + (size_t)at * size, size);
        nd_cuda_call call = {};
        call.work = &self.work;
        call.storage = self.storage;
        call.x2 = x2;
        call.y = to;
        call.bias = self.work.bias;
        return nd_cuda_epilogue_launch(&call);
    };
    return test;
}

static void nd_test_epilogues(nd_dtype storage) {
    const int64_t dims[] = {2, 7, 3, 5};
    const struct {
        const char *name;
        nd_view y;
    } views[] = {
        {"whole vectors", nd_test_view(2, 24, 5, 3)},     {"odd channels", nd_test_view(3, 7, 2, 3)},
        {"pixels apart", nd_test_view(1, 16, 3, 3, 8)},   {"1x1 plane", nd_test_view(1, 5, 1, 1)},
        {"row-major", nd_view_row_major(4, dims)},        {"one channel", nd_test_view(2, 1, 4, 4)},
        {"more than a block", nd_test_view(1, 40, 9, 9)},
    };
    for (const auto &view : views)
        for (int i = 0; i < 4; i++) {
            nd_test_case test = nd_test_epilogue(view.name, storage, view.y, i & 1, i & 2);
            nd_test_run(test);
        }
    nd_test_case sliced = nd_test_epilogue("channels of a wider image, another residual", storage,
                                           nd_test_view(2, 8, 3, 3, 8), true, true);
    sliced.work.x.offset = sliced.work.y.offset = 3;
    sliced.work.x2 = nd_test_view(2, 8, 3, 3);
    sliced.work.activation = {nd_act_clip, -3, 3};
    nd_test_run(sliced);
}

/* Parts that fp32 holds exactly, onto sums that only fp64 does. */
static void nd_test_moments(size_t count) {
    const std::vector<float> part = nd_test_integers(count, -9, 9, 5);
    for (int order = 0; order < nd_simt_order_count; order++) {
        std::vector<double> sum(count + 1, 1e15 + 0.25);
        nd_simt_set_order((nd_simt_order)order, 3);
        bool equal = !nd_cuda_moments_launch(part.data(), (int64_t)count, sum.data(), nullptr);
        for (size_t i = 0; i < count; i++) equal = equal && sum[i] == 1e15 + 0.25 + (double)part[i];
        nd_test_expect(equal && sum[count] == 1e15 + 0.25, "moments add every part once");
    }
}

/* 2^33 + 2^20 elements: the parts follow each other, none too long, and nothing is left. */
static void nd_test_long_loop() {
    const nd_view y = nd_test_view(8193, 1 << 8, 1 << 6, 1 << 6);
    nd_loop loop, part;
    nd_loop_make(&y, &y, nullptr, 2, &loop);
    int64_t elements = 0, parts = 0;
    bool follow = true;
    for (int64_t first = 0; nd_loop_next(&loop, &first, &part); parts++) {
        follow = follow && part.offset[nd_loop_y] == elements && part.offset[nd_loop_x] == elements;
        follow = follow && (int64_t)part.items * part.vector <= 1 << 30;
        elements += (int64_t)part.items * part.vector;
    }
    nd_test_expect(follow && parts > 8 && elements == nd_view_count(&y), "a long loop falls into parts");
}

void nd_test_in_place() {
    for (nd_dtype storage : {nd_dtype_f32, nd_dtype_f16, nd_dtype_bf16}) nd_test_epilogues(storage);
    for (size_t count : {1, 255, 256, 257, 5000}) nd_test_moments(count);
    nd_test_long_loop();
}
