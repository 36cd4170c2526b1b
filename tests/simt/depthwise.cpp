/* Both depthwise kernels: the sliding one for every window, stride and count of filters it has, and the
 * general one. */
#include "tests/simt/compare.h"

#include <string.h>

struct nd_test_depthwise_layer {
    const char *name, *engine;
    int64_t n, c, h, w, uniform;
    nd_window window;
    int64_t spread;
    bool bias;
};

#define ND_WINDOW(k, stride, pad)                                                                            \
    {                                                                                                        \
        {k, k}, {stride, stride}, {1, 1}, {                                                                  \
            pad, pad, pad, pad                                                                               \
        }                                                                                                    \
    }
#define ND_3X3 ND_WINDOW(3, 1, 1)

static const nd_test_depthwise_layer nd_test_depthwise_layers[] = {
    {"T=1", "nd:depthwise:3x3_t1", 2, 70, 5, 9, 1, ND_3X3, 0, true},
    {"T=2", "nd:depthwise:3x3_t2", 1, 66, 7, 7, 2, ND_3X3, 0, false},
    {"T=3", "nd:depthwise:3x3_t3", 1, 8, 4, 33, 3, ND_3X3, 0, true},
    {"T=4", "nd:depthwise:3x3_t4", 3, 6, 3, 5, 4, ND_3X3, 0, false},
    {"T=3, 1x1 plane", "nd:depthwise:3x3_t3", 4, 64, 1, 1, 3, ND_3X3, 0, false},
    {"T=2, pixels apart", "nd:depthwise:3x3_t2", 1, 8, 4, 4, 2, ND_3X3, 8, false},
    {"T=2, no padding",
     "nd:depthwise:3x3_t2",
     1,
     8,
     6,
     5,
     2,
     {{3, 3}, {1, 1}, {1, 1}, {0, 0, 0, 0}},
     0,
     false},
    {"T=1, asymmetric",
     "nd:depthwise:3x3_t1",
     1,
     8,
     4,
     6,
     1,
     {{3, 3}, {1, 1}, {1, 1}, {2, 0, 0, 1}},
     0,
     true},
    {"odd channels", "nd:depthwise:any", 1, 7, 5, 5, 2, ND_3X3, 0, true},
    {"T=9", "nd:depthwise:any", 1, 6, 4, 6, 9, ND_3X3, 0, false},
    {"5x5, T=5", "nd:depthwise:any", 1, 6, 4, 6, 5, ND_WINDOW(5, 1, 2), 0, false},
    {"stride 3", "nd:depthwise:any", 2, 34, 7, 8, 2, ND_WINDOW(3, 3, 1), 0, false},
    {"T=5, odd channels", "nd:depthwise:3x3_t5", 1, 7, 5, 6, 5, ND_3X3, 0, true},
    {"T=6", "nd:depthwise:3x3_t6", 1, 34, 4, 9, 6, ND_3X3, 0, false},
    {"T=7", "nd:depthwise:3x3_t7", 2, 6, 3, 3, 7, ND_3X3, 0, true},
    {"T=8", "nd:depthwise:3x3_t8", 1, 5, 6, 13, 8, ND_3X3, 0, false},
    {"T=8, pixels apart", "nd:depthwise:3x3_t8", 1, 8, 4, 4, 8, ND_3X3, 8, false},
    {"stride 2, T=1", "nd:depthwise:3x3/2_t1", 2, 34, 7, 8, 1, ND_WINDOW(3, 2, 1), 0, true},
    {"stride 2, T=2", "nd:depthwise:3x3/2_t2", 1, 66, 9, 33, 2, ND_WINDOW(3, 2, 1), 0, false},
    {"stride 2, T=3, no padding", "nd:depthwise:3x3/2_t3", 1, 8, 8, 10, 3, ND_WINDOW(3, 2, 0), 0, false},
    {"stride 2, T=4, asymmetric",
     "nd:depthwise:3x3/2_t4",
     1,
     8,
     6,
     9,
     4,
     {{3, 3}, {2, 2}, {1, 1}, {0, 0, 1, 1}},
     0,
     true},
    {"stride 2, T=6", "nd:depthwise:3x3/2_t6", 1, 9, 5, 5, 6, ND_WINDOW(3, 2, 1), 0, false},
    {"stride 2, T=8", "nd:depthwise:3x3/2_t8", 1, 3, 7, 7, 8, ND_WINDOW(3, 2, 1), 0, true},
    {"stride 2, 1x1 plane", "nd:depthwise:3x3/2_t2", 3, 6, 1, 1, 2, ND_WINDOW(3, 2, 1), 0, false},
    {"5x5, T=1", "nd:depthwise:5x5_t1", 2, 66, 9, 11, 1, ND_WINDOW(5, 1, 2), 0, true},
    {"5x5, T=2", "nd:depthwise:5x5_t2", 1, 7, 6, 30, 2, ND_WINDOW(5, 1, 2), 0, false},
    {"5x5, T=3, no padding", "nd:depthwise:5x5_t3", 1, 6, 8, 9, 3, ND_WINDOW(5, 1, 0), 0, true},
    {"5x5, T=4", "nd:depthwise:5x5_t4", 1, 33, 5, 5, 4, ND_WINDOW(5, 1, 2), 0, false},
    {"5x5 over a 2x2 plane", "nd:depthwise:5x5_t4", 2, 4, 2, 2, 4, ND_WINDOW(5, 1, 2), 0, false},
    {"5x5, stride 2, T=1", "nd:depthwise:5x5/2_t1", 1, 8, 9, 12, 1, ND_WINDOW(5, 2, 2), 0, false},
    {"5x5, stride 2, T=2", "nd:depthwise:5x5/2_t2", 2, 5, 7, 7, 2, ND_WINDOW(5, 2, 2), 0, true},
    {"5x5, stride 2, T=3", "nd:depthwise:5x5/2_t3", 1, 5, 11, 9, 3, ND_WINDOW(5, 2, 1), 0, false},
    {"5x5, stride 2, T=4", "nd:depthwise:5x5/2_t4", 1, 6, 8, 17, 4, ND_WINDOW(5, 2, 2), 0, true},
    {"5x5, stride 1x2", "nd:depthwise:any", 1, 6, 7, 9, 3, {{5, 5}, {1, 2}, {1, 1}, {2, 2, 2, 2}}, 0, false},
    {"dilation 2x3", "nd:depthwise:any", 1, 4, 9, 9, 2, {{3, 3}, {1, 1}, {2, 3}, {2, 3, 2, 3}}, 0, false},
    {"7x1", "nd:depthwise:any", 1, 4, 9, 3, 2, {{7, 1}, {1, 1}, {1, 1}, {3, 0, 3, 0}}, 0, false},
};

static nd_cuda_depthwise nd_test_depthwise_call(const nd_test_case &test, int64_t uniform,
                                                const std::vector<float> &filters,
                                                const std::vector<int32_t> &channel) {
    const nd_work *work = &test.work;
    nd_cuda_depthwise call = {};
    call.window = work->window;
    call.storage = test.storage;
    call.images = work->x.dims[0];
    call.channels = work->x.dims[1];
    call.height = work->x.dims[2];
    call.width = work->x.dims[3];
    call.out_height = work->y.dims[2];
    call.out_width = work->y.dims[3];
    call.terms = work->y.dims[1];
    call.uniform = uniform;
    call.x_pixel = work->x.strides[3];
    call.y_pixel = work->y.strides[3];
    call.filters = filters.data();
    call.bias = work->bias;
    call.channel = channel.data();
    call.activation = work->activation;
    return call;
}

/* A grouped convolution with one input channel per group is what ref knows this operation as. */
static nd_test_case nd_test_depthwise_of(const nd_test_depthwise_layer &layer, nd_dtype storage,
                                         int64_t threads) {
    const nd_window &g = layer.window;
    const int64_t oh = nd_window_output(&g, 0, layer.h, false), ow = nd_window_output(&g, 1, layer.w, false);
    const int64_t terms = layer.c * layer.uniform, taps = g.kernel[0] * g.kernel[1];
    nd_test_case test;
    test.name = std::string("depthwise ") + layer.name;
    test.storage = storage;
    test.work.operation = nd_operation_conv;
    test.work.groups = layer.c;
    test.work.window = g;
    test.work.x = nd_test_view(layer.n, layer.c, layer.h, layer.w, layer.spread);
    test.work.y = nd_test_view(layer.n, terms, oh, ow, layer.spread);
    test.work.activation = {layer.bias ? nd_act_relu : nd_act_none, 0, 0};
    test.weights = nd_test_integers((size_t)(terms * taps), -1, 1, 3);
    if (layer.bias) test.bias = nd_test_integers((size_t)terms, -4, 4, 4);
    std::vector<float> filters((size_t)(terms * taps));
    std::vector<int32_t> channel((size_t)terms);
    for (int64_t r = 0; r < terms; r++) {
        channel[(size_t)r] = (int32_t)(r / layer.uniform);
        for (int64_t tap = 0; tap < taps; tap++)
            filters[(size_t)(tap * terms + r)] = test.weights[(size_t)(r * taps + tap)];
    }
    test.launch = [=](const nd_test_case &self, const void *x, const void *, void *y) {
        nd_cuda_depthwise call = nd_test_depthwise_call(self, layer.uniform, filters, channel);
        call.threads = threads;
        call.x = x;
        call.y = y;
        nd_test_expect(!strcmp(nd_cuda_depthwise_name(&call), layer.engine), layer.name);
        return nd_cuda_depthwise_launch(&call);
    };
    return test;
}

/* A row of five stages: every wait and every barrier is needed but the first barrier's other half, which
 * frees a stage that nobody has read; and copies of 4 bytes as much as those of 16. */
static void nd_test_depthwise_races(nd_dtype storage, int64_t channels) {
    const nd_test_depthwise_layer layer = {"races", "nd:depthwise:3x3_t1", 1, channels, 6, 33, 1, ND_3X3, 0,
                                           false};
    nd_test_case test = nd_test_depthwise_of(layer, storage, 0);
    nd_test_races(test, nd_simt_sync_block, 0, 5);
    nd_test_races(test, nd_simt_sync_copy, 0, 5);
}

/* Rows in one run, and in as many as they are ever cut into. */
void nd_test_depthwise() {
    for (const nd_test_depthwise_layer &layer : nd_test_depthwise_layers)
        for (nd_dtype storage : {nd_dtype_f32, nd_dtype_f16, nd_dtype_bf16})
            for (int64_t threads : {0, INT32_MAX}) {
                nd_test_case test = nd_test_depthwise_of(layer, storage, threads);
                nd_test_run(test);
            }
    for (nd_dtype storage : {nd_dtype_f32, nd_dtype_f16})
        for (int64_t channels : {72, 70}) nd_test_depthwise_races(storage, channels);
}
