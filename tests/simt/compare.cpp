#include "tests/simt/compare.h"
#include "tests/simt/simt.h"

#include <stdio.h>
#include <string.h>

extern "C" {
#include "base/rng.h"
#include "run/plugins.h"
}

static int64_t nd_test_compared, nd_test_failed;

nd_view nd_test_view(int64_t n, int64_t c, int64_t h, int64_t w, int64_t spread) {
    const int64_t dims[] = {n, c, h, w};
    const int64_t pixel = c + spread;
    nd_view view = nd_view_channels_last(4, dims);
    view.strides[3] = pixel;
    view.strides[2] = w * pixel;
    view.strides[0] = h * w * pixel;
    return view;
}

std::vector<float> nd_test_integers(size_t count, int low, int high, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    std::vector<float> values(count);
    for (float &value : values) value = (float)(low + (int)nd_rng_below(&rng, high - low + 1));
    return values;
}

std::vector<float> nd_test_reals(size_t count, float low, float high, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    std::vector<float> values(count);
    for (float &value : values) value = low + (high - low) * (float)nd_rng_uniform(&rng);
    return values;
}

static float nd_test_rounded(float value, nd_dtype storage) {
    if (storage == nd_dtype_f16) return nd_f16_to_f32(nd_f32_to_f16(value));
    if (storage == nd_dtype_bf16) return nd_bf16_to_f32(nd_f32_to_bf16(value));
    return value;
}

static void nd_test_store(nd_test_buffer &buffer, nd_dtype storage) {
    const size_t size = nd_dtype_bytes(storage);
    buffer.stored.resize(buffer.values.size() * size);
    for (size_t i = 0; i < buffer.values.size(); i++) {
        const float value = buffer.values[i];
        const uint16_t half = storage == nd_dtype_f16 ? nd_f32_to_f16(value) : nd_f32_to_bf16(value);
        if (size == 4)
            memcpy(&buffer.stored[i * size], &value, size);
        else
            memcpy(&buffer.stored[i * size], &half, size);
    }
}

static float nd_test_load(const std::vector<unsigned char> &stored, size_t i, nd_dtype storage) {
    float value;
    uint16_t half;
    if (storage == nd_dtype_f32) {
        memcpy(&value, &stored[i * sizeof value], sizeof value);
        return value;
    }
    memcpy(&half, &stored[i * sizeof half], sizeof half);
    return storage == nd_dtype_f16 ? nd_f16_to_f32(half) : nd_bf16_to_f32(half);
}

/* Positions of a view's elements in its buffer, row-major over dims. */
static std::vector<int64_t> nd_test_positions(const nd_view &view) {
    std::vector<int64_t> positions;
    const int64_t count = nd_view_count(&view);
    for (int64_t item = 0; item < count; item++) {
        int64_t rest = item, at = view.offset;
        for (int i = view.rank - 1; i >= 0; i--) {
            at += rest % view.dims[i] * view.strides[i];
            rest /= view.dims[i];
        }
        positions.push_back(at);
    }
    return positions;
}

static size_t nd_test_reach(const std::vector<int64_t> &positions) {
    int64_t reach = 0;
    for (int64_t at : positions) reach = at + 1 > reach ? at + 1 : reach;
    return (size_t)reach;
}

static nd_test_buffer nd_test_input(const nd_test_case &test, const nd_view &view, uint64_t seed) {
    const std::vector<int64_t> positions = nd_test_positions(view);
    nd_test_buffer buffer;
    buffer.values.assign(nd_test_reach(positions), NAN);
    const std::vector<float> values =
        test.real ? nd_test_reals(positions.size(), test.low, test.high, seed)
                  : nd_test_integers(positions.size(), (int)test.low, (int)test.high, seed);
    for (size_t i = 0; i < positions.size(); i++)
        buffer.values[(size_t)positions[i]] = nd_test_rounded(values[i], test.storage);
    nd_test_store(buffer, test.storage);
    return buffer;
}

static void nd_test_fail(const nd_test_case &test, const char *order, const char *format, double a, double b,
                         long long where) {
    nd_test_failed++;
    printf("FAIL %s [%s, %s]: ", test.name.c_str(), nd_dtype_name(test.storage), order);
    printf(format, a, b, where);
    printf("\n");
}

static void nd_test_compare(const nd_test_case &test, const char *order, const std::vector<float> &expected,
                            const std::vector<unsigned char> &got) {
    std::vector<bool> addressed(expected.size());
    int64_t differ = 0;
    for (int64_t at : nd_test_positions(test.work.y)) {
        const float want = nd_test_rounded(expected[(size_t)at], test.storage);
        const float have = nd_test_load(got, (size_t)at, test.storage);
        addressed[(size_t)at] = true;
        nd_test_compared++;
        if (fabs(have - want) <= test.absolute + test.relative * fabs(want)) continue;
        if (!differ++) nd_test_fail(test, order, "got %g, expected %g at %lld", have, want, at);
    }
    for (size_t i = 0; i < addressed.size(); i++) {
        uint32_t bits = 0;
        memcpy(&bits, &got[i * nd_dtype_bytes(test.storage)], nd_dtype_bytes(test.storage));
        const uint32_t guard = nd_dtype_bytes(test.storage) == 4 ? 0x5a5a5a5au : 0x5a5au;
        if (!addressed[i] && bits != guard)
            return nd_test_fail(test, order, "wrote %g (guard %g) outside the view at %lld", bits, guard,
                                (long long)i);
    }
}

void nd_test_run(nd_test_case &test) {
    static const char *const orders[nd_simt_order_count] = {"forward", "reverse", "random"};
    nd_work &work = test.work;
    work.weights = test.weights.empty() ? nullptr : test.weights.data();
    work.bias = test.bias.empty() ? nullptr : test.bias.data();
    work.depthwise = test.depthwise.empty() ? nullptr : test.depthwise.data();
    work.channel = test.channel.empty() ? nullptr : test.channel.data();
    const nd_test_buffer x = nd_test_input(test, work.x, 1);
    const nd_test_buffer x2 = nd_test_input(test, work.x2, 2);
    std::vector<float> expected(nd_test_reach(nd_test_positions(work.y)));
    if (!nd_work_agrees(&work) || nd_ref_run(&work, x.values.data(), x2.values.data(), expected.data()))
        return nd_test_fail(test, "ref", "the reference refused the case", 0, 0, 0);
    for (int order = 0; order < nd_simt_order_count; order++) {
        nd_simt_set_order((nd_simt_order)order, 7);
        const uint64_t before = nd_simt_launches();
        std::vector<unsigned char> y(expected.size() * nd_dtype_bytes(test.storage), 0x5a);
        const nd_status status = test.launch(test, x.stored.data(), x2.stored.data(), y.data());
        if (status) {
            nd_test_failed++;
            printf("FAIL %s [%s, %s]: %s\n", test.name.c_str(), nd_dtype_name(test.storage), orders[order],
                   nd_error());
        } else if (nd_simt_launches() == before) {
            nd_test_fail(test, orders[order], "nothing was launched", 0, 0, 0);
        } else {
            nd_test_compare(test, orders[order], expected, y);
        }
    }
}

void nd_test_kind(nd_test_case &test, nd_cuda_launch *launch) {
    test.launch = [launch](const nd_test_case &self, const void *x, const void *x2, void *y) {
        nd_cuda_call call = {};
        call.work = &self.work;
        call.storage = self.storage;
        call.x = x;
        call.x2 = x2;
        call.y = y;
        call.weights = self.work.weights;
        call.bias = self.work.bias;
        call.channel = self.work.channel;
        return launch(&call);
    };
    nd_test_run(test);
}

void nd_test_expect(bool truth, const char *what) {
    nd_test_compared++;
    if (truth) return;
    nd_test_failed++;
    printf("FAIL %s\n", what);
}

int nd_test_result() {
    printf("%lld values compared over %llu emulated launches, %lld failures\n", (long long)nd_test_compared,
           (unsigned long long)nd_simt_launches(), (long long)nd_test_failed);
    return nd_test_failed || !nd_test_compared;
}

int main() {
    nd_test_machine();
    nd_test_svd();
    nd_test_kinds();
    nd_test_depthwise();
    nd_test_separable();
    return nd_test_result();
}
