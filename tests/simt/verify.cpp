/* What candidates of a layer are timed on and verified by: the numbers, the comparison and its bounds. */
#include "cuda/tune/verify.h"
#include "cuda/tune/noise.h"
#include "tests/simt/compare.h"

#include <math.h>
#include <string.h>

extern "C" {
#include "cuda/tune/bound.h"
}

static const nd_dtype nd_test_types[] = {nd_dtype_f32, nd_dtype_f16, nd_dtype_bf16};

static float nd_test_read(const std::vector<unsigned char> &stored, nd_dtype storage, size_t i) {
    float value;
    uint16_t half;
    if (storage == nd_dtype_f32) {
        memcpy(&value, &stored[4 * i], sizeof value);
        return value;
    }
    memcpy(&half, &stored[2 * i], sizeof half);
    return storage == nd_dtype_f16 ? nd_f16_to_f32(half) : nd_bf16_to_f32(half);
}

static void nd_test_write(std::vector<unsigned char> &stored, nd_dtype storage, size_t i, float value) {
    const uint16_t half = storage == nd_dtype_f16 ? nd_f32_to_f16(value) : nd_f32_to_bf16(value);
    if (storage == nd_dtype_f32)
        memcpy(&stored[4 * i], &value, sizeof value);
    else
        memcpy(&stored[2 * i], &half, sizeof half);
}

static std::vector<unsigned char> nd_test_numbers(nd_dtype storage, size_t count, float scale) {
    std::vector<unsigned char> out(count * nd_dtype_bytes(storage));
    nd_test_expect(!nd_cuda_noise_launch(5, scale, storage, (int64_t)count, out.data(), nullptr),
                   "noise is launched");
    return out;
}

static void nd_test_noise() {
    const size_t count = 3 * 256 + 7;
    for (nd_dtype storage : nd_test_types)
        for (int order = 0; order < nd_simt_order_count; order++) {
            nd_simt_set_order((nd_simt_order)order, 3);
            const std::vector<unsigned char> out = nd_test_numbers(storage, count, 0.25f);
            std::vector<unsigned char> expected(out.size());
            for (size_t i = 0; i < count; i++) nd_test_write(expected, storage, i, 0.25f * nd_noise(5, i));
            nd_test_expect(out == expected, "noise on the device is the host's");
        }
    double sum = 0, square = 0, product = 0, largest = 0;
    const int many = 1 << 20;
    for (int i = 0; i < many; i++) {
        const double value = nd_noise(1, (uint64_t)i);
        sum += value;
        square += value * value;
        product += value * nd_noise(2, (uint64_t)i);
        largest = fmax(largest, fabs(value));
    }
    nd_test_expect(fabs(sum / many) < 5e-3 && fabs(square / many - 1) < 5e-3 && fabs(product / many) < 5e-3 &&
                       largest < 3.47,
                   "noise has mean 0 and variance 1, and its sequences are independent");
}

/* The largest error as the device counts it. */
static double nd_test_times(nd_dtype storage, const std::vector<unsigned char> &got,
                            const std::vector<unsigned char> &expected, nd_bound bound) {
    std::vector<float> worst(nd_verify_blocks, NAN);
    const nd_cuda_verify call = {storage,        (int64_t)(got.size() / nd_dtype_bytes(storage)),
                                 got.data(),     expected.data(),
                                 bound.absolute, bound.relative,
                                 worst.data(),   nullptr};
    if (nd_cuda_verify_launch(&call)) return NAN;
    double times = 0;
    for (float one : worst)
        if (!(one <= times)) times = one;
    return times;
}

static void nd_test_agreement() {
    const size_t count = 256 * nd_verify_blocks + 300; /* some threads look at two */
    const nd_bound bound = {0.125f, 0.0625f};
    for (nd_dtype storage : nd_test_types) {
        std::vector<unsigned char> expected = nd_test_numbers(storage, count, 1);
        nd_test_expect(nd_test_times(storage, expected, expected, bound) == 0, "equal results agree");
        for (size_t at : {(size_t)0, (size_t)300, count - 1}) {
            std::vector<unsigned char> got = expected;
            const float right = nd_test_read(expected, storage, at);
            nd_test_write(got, storage, at, right + 1);
            const double times =
                fabs(nd_test_read(got, storage, at) - right) / (0.125 + 0.0625 * fabs(right));
            nd_test_expect(fabs(nd_test_times(storage, got, expected, bound) - times) < 1e-4 * times,
                           "one wrong element is found, and its error");
            nd_test_write(got, storage, at, NAN);
            nd_test_expect(isinf(nd_test_times(storage, got, expected, bound)), "a NaN is found");
            nd_test_write(got, storage, at, INFINITY);
            nd_test_expect(isinf(nd_test_times(storage, got, expected, bound)), "an infinity is found");
        }
        std::vector<unsigned char> gap = expected, filled = expected;
        nd_test_write(gap, storage, 17, NAN);
        nd_test_expect(nd_test_times(storage, gap, gap, bound) == 0, "what nobody writes agrees");
        nd_test_expect(isinf(nd_test_times(storage, filled, gap, bound)), "a write beside the view is found");
    }
    for (int order = 0; order < nd_simt_order_count; order++) {
        nd_simt_set_order((nd_simt_order)order, 3);
        std::vector<unsigned char> expected = nd_test_numbers(nd_dtype_f32, 4096, 1), got = expected;
        nd_test_write(got, nd_dtype_f32, 700, 9);
        nd_test_expect(nd_test_times(nd_dtype_f32, got, expected, bound) > 8, "in every order of threads");
    }
}

static void nd_test_integer_noise() {
    const size_t count = 3 * 256 + 7;
    std::vector<unsigned char> expected(count);
    for (size_t i = 0; i < count; i++) expected[i] = nd_noise_integer(5, i);
    nd_test_expect(nd_test_numbers(nd_dtype_u8, count, 0.25f) == expected,
                   "integers on the device are the host's");
    double sum = 0, square = 0;
    const int many = 1 << 20;
    for (int i = 0; i < many; i++) {
        const double value = nd_noise_integer(1, (uint64_t)i) - 127.5;
        sum += value;
        square += value * value;
    }
    nd_test_expect(fabs(sum / many) < 0.5 && fabs(square / many / (65535 / 12.0) - 1) < 5e-3,
                   "integers are all as frequent");
}

/* Of a layer in int8: what is not equal does not agree, be it by one step or by one bit. */
static void nd_test_integer_agreement() {
    const size_t count = 3 * 256 + 7;
    const std::vector<unsigned char> expected = nd_test_numbers(nd_dtype_u8, count, 1),
                                     numbers = nd_test_numbers(nd_dtype_f32, count, 1);
    nd_work work = {};
    work.operation = nd_operation_separable;
    const nd_bound real = nd_bound_of(&work, nd_precision_int8, false);
    work.y_quant = {0.1f, 7, false};
    const nd_bound step = nd_bound_of(&work, nd_precision_int8, false);
    nd_test_expect(nd_test_times(nd_dtype_u8, expected, expected, step) == 0, "equal integers agree");
    nd_test_expect(nd_test_times(nd_dtype_f32, numbers, numbers, real) == 0, "equal numbers agree");
    for (size_t at : {(size_t)0, (size_t)300, count - 1}) {
        std::vector<unsigned char> got = expected;
        for (int bit = 0; bit < 8; bit++) {
            got[at] = expected[at] ^ (unsigned char)(1 << bit);
            nd_test_expect(nd_test_times(nd_dtype_u8, got, expected, step) > 1, "another integer is found");
        }
        got = numbers;
        nd_test_write(got, nd_dtype_f32, at, nextafterf(nd_test_read(numbers, nd_dtype_f32, at), 9));
        nd_test_expect(nd_test_times(nd_dtype_f32, got, numbers, real) > 1, "the next number is found");
    }
}

/* F(4x4, 3x3): six points 0, 1, -1, 2, -2 and infinity. */
static const float nd_test_input[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                          {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
static const float nd_test_filter[6][3] = {{1 / 4.f, 0, 0},
                                           {-1 / 6.f, -1 / 6.f, -1 / 6.f},
                                           {-1 / 6.f, 1 / 6.f, -1 / 6.f},
                                           {1 / 24.f, 1 / 12.f, 1 / 6.f},
                                           {1 / 24.f, -1 / 12.f, 1 / 6.f},
                                           {0, 0, 1}};
static const float nd_test_output[4][6] = {
    {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};

/* out = m in m^T; what is stored in between is rounded to the storage type. */
template <int rows, int columns>
static void nd_test_sandwich(const float (&m)[rows][columns], const float *in, float *out, nd_dtype storage) {
    float half[rows][columns];
    std::vector<unsigned char> cell(4);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            half[i][j] = 0;
            for (int k = 0; k < columns; k++) half[i][j] += m[i][k] * in[k * columns + j];
        }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < rows; j++) {
            float sum = 0;
            for (int k = 0; k < columns; k++) sum += half[i][k] * m[j][k];
            nd_test_write(cell, storage, 0, sum);
            out[i * rows + j] = nd_test_read(cell, storage, 0);
        }
}

/* The largest error of tiles of 4x4 outputs, by their bound: of Winograd's transforms with fp32 sums, and of
 * the direct sum with one product left out. */
static void nd_test_tile(nd_precision precision, int channels, uint64_t seed, nd_bound bound,
                         double (&worst)[2]) {
    const nd_dtype storage = nd_precision_storage(precision);
    const float scale = 1 / sqrtf(9.0f * (float)channels);
    std::vector<unsigned char> cell(4);
    double exact[16] = {}, missing[16] = {};
    float sums[36] = {}, x[36], w[9], tx[36], tw[36], y[16];
    for (int c = 0; c < channels; c++) {
        for (int i = 0; i < 36; i++) {
            nd_test_write(cell, storage, 0, nd_noise(seed, (uint64_t)(c * 36 + i)));
            x[i] = nd_test_read(cell, storage, 0);
        }
        for (int i = 0; i < 9; i++) {
            nd_test_write(cell, storage, 0, scale * nd_noise(seed + 1000, (uint64_t)(c * 9 + i)));
            w[i] = nd_test_read(cell, storage, 0);
        }
        for (int i = 0; i < 16; i++)
            for (int t = 0; t < 9; t++) {
                const double product = (double)w[t] * x[(i / 4 + t / 3) * 6 + i % 4 + t % 3];
                exact[i] += product;
                if (t != 4) missing[i] += product;
            }
        nd_test_sandwich(nd_test_input, x, tx, storage);
        nd_test_sandwich(nd_test_filter, w, tw, storage);
        for (int i = 0; i < 36; i++) sums[i] += tx[i] * tw[i];
    }
    nd_test_sandwich(nd_test_output, sums, y, storage);
    for (int i = 0; i < 16; i++) {
        const double allowed = bound.absolute + bound.relative * fabs(exact[i]);
        worst[0] = fmax(worst[0], fabs(y[i] - exact[i]) / allowed);
        worst[1] = fmax(worst[1], fabs(missing[i] - exact[i]) / allowed);
    }
}

static void nd_test_bounds() {
    for (nd_precision precision : {nd_precision_fp32, nd_precision_fp16})
        for (int channels : {1, 3, 64, 256}) {
            const int64_t x[] = {1, channels, 6, 6}, y[] = {1, 1, 4, 4};
            nd_work work = {};
            work.operation = nd_operation_conv;
            work.x = nd_view_row_major(4, x);
            work.y = nd_view_row_major(4, y);
            work.window = {{3, 3}, {1, 1}, {1, 1}, {0, 0, 0, 0}};
            work.groups = 1;
            double worst[2] = {};
            for (uint64_t tile = 0; tile < 400; tile++)
                nd_test_tile(precision, channels, 7 + tile, nd_bound_of(&work, precision, true), worst);
            nd_test_expect(worst[0] < 0.5, "Winograd's rounding agrees");
            nd_test_expect(worst[1] > 1.5, "a tap left out does not");
        }
}

void nd_test_verify() {
    nd_test_noise();
    nd_test_agreement();
    nd_test_integer_noise();
    nd_test_integer_agreement();
    nd_test_bounds();
}
