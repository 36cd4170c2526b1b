#include "base/tensor.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} nd_dtype_table[nd_dtype_count] = {
    [nd_dtype_f32] = {"f32", 4},   [nd_dtype_f64] = {"f64", 8},      [nd_dtype_f16] = {"f16", 2},
    [nd_dtype_bf16] = {"bf16", 2}, [nd_dtype_i8] = {"i8", 1},        [nd_dtype_u8] = {"u8", 1},
    [nd_dtype_i16] = {"i16", 2},   [nd_dtype_u16] = {"u16", 2},      [nd_dtype_i32] = {"i32", 4},
    [nd_dtype_u32] = {"u32", 4},   [nd_dtype_i64] = {"i64", 8},      [nd_dtype_u64] = {"u64", 8},
    [nd_dtype_bool] = {"bool", 1}, [nd_dtype_e4m3] = {"f8_e4m3", 1},
};

size_t nd_dtype_bytes(nd_dtype dtype) {
    return nd_dtype_table[dtype].bytes;
}

const char *nd_dtype_name(nd_dtype dtype) {
    return nd_dtype_table[dtype].name;
}

int64_t nd_dims_count(int rank, const int64_t *dims) {
    const int64_t limit = INT64_MAX / 16; /* leaves room for the widest dtype */
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0) return -1;
        empty |= dims[i] == 0;
    }
    if (empty) return 0;
    int64_t count = 1;
    for (int i = 0; i < rank; i++) {
        if (count > limit / dims[i]) return -1;
        count *= dims[i];
    }
    return count;
}

int64_t nd_tensor_count(const nd_tensor *tensor) {
    return nd_dims_count(tensor->rank, tensor->dims);
}

size_t nd_tensor_bytes(const nd_tensor *tensor) {
    return (size_t)nd_tensor_count(tensor) * nd_dtype_bytes(tensor->dtype);
}

nd_status nd_tensor_new(nd_dtype dtype, int rank, const int64_t *dims, nd_tensor *out) {
    *out = (nd_tensor){.dtype = dtype, .rank = rank};
    ND_REQUIRE(rank >= 0 && rank <= nd_rank_max, nd_status_unsupported,
               "a tensor of %d dimensions, at most %d", rank, nd_rank_max);
    int64_t count = nd_dims_count(rank, dims);
    ND_REQUIRE(count >= 0, nd_status_format, "a tensor with impossible dimensions");
    if (rank) memcpy(out->dims, dims, (size_t)rank * sizeof *dims);
    nd_status status = nd_buffer_new((size_t)count * nd_dtype_bytes(dtype), &out->buffer);
    if (status) return status;
    out->data = out->buffer->data;
    return nd_status_ok;
}

nd_tensor nd_tensor_share(const nd_tensor *tensor) {
    nd_tensor shared = *tensor;
    nd_buffer_ref(shared.buffer);
    return shared;
}

void nd_tensor_free(nd_tensor *tensor) {
    nd_buffer_unref(tensor->buffer);
    *tensor = (nd_tensor){0};
}

static uint32_t f32_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float f32_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float nd_f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 31, fraction = half & 1023;
    if (exponent == 31) return f32_from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent) return f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f; /* zero and subnormals */
    return sign ? -magnitude : magnitude;
}

uint16_t nd_f32_to_f16(float value) {
    uint32_t bits = f32_bits(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00;
    if (magnitude >= 0x477ff000) return sign | 0x7c00; /* 65520 and above round to infinity */
    if (magnitude < 0x38800000) {
        /* Below 2^-14 the result is subnormal: adding 1/2 aligns its last bit with that of fp32, rounding to
         * even. */
        float aligned = f32_from_bits(magnitude) + 0.5f;
        return sign | (uint16_t)(f32_bits(aligned) - 0x3f000000);
    }
    uint32_t odd = magnitude >> 13 & 1;
    return sign | (uint16_t)((magnitude - 0x38000000 + 0xfff + odd) >> 13);
}

float nd_bf16_to_f32(uint16_t bits) {
    return f32_from_bits((uint32_t)bits << 16);
}

uint16_t nd_f32_to_bf16(float value) {
    uint32_t bits = f32_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float nd_e4m3_to_f32(uint8_t code) {
    const uint32_t sign = (uint32_t)(code & 0x80) << 24, exponent = code >> 3 & 15, fraction = code & 7;
    if ((code & 0x7f) == 0x7f) return f32_from_bits(sign | 0x7fc00000);
    if (exponent) return f32_from_bits(sign | (exponent + 120) << 23 | fraction << 20);
    const float magnitude = (float)fraction * 0x1p-9f; /* zero and subnormals */
    return sign ? -magnitude : magnitude;
}

uint8_t nd_f32_to_e4m3(float value) {
    const uint32_t bits = f32_bits(value), magnitude = bits & 0x7fffffff;
    const uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
    if (magnitude > 0x7f800000) return sign | 0x7f;
    if (magnitude >= 0x43e00000) return sign | 0x7e; /* 448 */
    if (magnitude < 0x3c800000) {
        /* Below 2^-6: the last bit of fp32 at 2^14 is that of a subnormal. */
        const float aligned = f32_from_bits(magnitude) + 0x1p14f;
        return sign | (uint8_t)(f32_bits(aligned) - 0x46800000);
    }
    const uint32_t odd = magnitude >> 20 & 1;
    return sign | (uint8_t)((magnitude - 0x3c000000 + 0x7ffff + odd) >> 20);
}

void nd_tensor_to_f32(const nd_tensor *tensor, float *dst) {
    const size_t count = (size_t)nd_tensor_count(tensor);
    const void *data = tensor->data;
#define CONVERT(type, expression)                                                                            \
    for (size_t i = 0; i < count; i++) {                                                                     \
        const type x = ((const type *)data)[i];                                                              \
        dst[i] = expression;                                                                                 \
    }                                                                                                        \
    break
    switch (tensor->dtype) {
    case nd_dtype_f32:
        memcpy(dst, data, count * sizeof *dst);
        break;
    case nd_dtype_f64:
        CONVERT(double, (float)x);
    case nd_dtype_f16:
        CONVERT(uint16_t, nd_f16_to_f32(x));
    case nd_dtype_bf16:
        CONVERT(uint16_t, nd_bf16_to_f32(x));
    case nd_dtype_i8:
        CONVERT(int8_t, (float)x);
    case nd_dtype_u8:
        CONVERT(uint8_t, (float)x);
    case nd_dtype_i16:
        CONVERT(int16_t, (float)x);
    case nd_dtype_u16:
        CONVERT(uint16_t, (float)x);
    case nd_dtype_i32:
        CONVERT(int32_t, (float)x);
    case nd_dtype_u32:
        CONVERT(uint32_t, (float)x);
    case nd_dtype_i64:
        CONVERT(int64_t, (float)x);
    case nd_dtype_u64:
        CONVERT(uint64_t, (float)x);
    case nd_dtype_bool:
        CONVERT(uint8_t, x ? 1.0f : 0.0f);
    case nd_dtype_e4m3:
        CONVERT(uint8_t, nd_e4m3_to_f32(x));
    case nd_dtype_count:
        break;
    }
#undef CONVERT
}

const char *nd_dims_format(int rank, const int64_t *dims, char *text, size_t size) {
    if (size) text[0] = '\0';
    for (int i = 0, used = 0; i < rank && (size_t)used < size; i++)
        used += snprintf(text + used, size - (size_t)used, i ? "x%lld" : "%lld", (long long)dims[i]);
    return text;
}
