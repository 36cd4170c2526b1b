/* Dense row-major tensors in host memory, and the element types of model files. */
#ifndef ND_BASE_TENSOR_H
#define ND_BASE_TENSOR_H

#include "base/memory.h"

#pragma GCC visibility push(default)

enum { nd_rank_max = 8 };

typedef enum nd_dtype {
    nd_dtype_f32,
    nd_dtype_f64,
    nd_dtype_f16,
    nd_dtype_bf16,
    nd_dtype_i8,
    nd_dtype_u8,
    nd_dtype_i16,
    nd_dtype_u16,
    nd_dtype_i32,
    nd_dtype_u32,
    nd_dtype_i64,
    nd_dtype_u64,
    nd_dtype_bool,
    nd_dtype_e4m3, /* what QuantizeLinear makes: numbers of 8 bits, read through a scale like integers */
    nd_dtype_count,
} nd_dtype;

size_t nd_dtype_bytes(nd_dtype dtype);
const char *nd_dtype_name(nd_dtype dtype); /* "f32", "i64", ... as in safetensors, lower case */

/* `data` points into `buffer`, which the tensor holds one reference to. Rank 0 is a scalar. A zeroed struct
 * is an empty tensor that nd_tensor_free accepts. Tensors of a graph are never written after they
 * are made. */
typedef struct nd_tensor {
    nd_dtype dtype;
    int rank;
    int64_t dims[nd_rank_max];
    void *data;
    nd_buffer *buffer;
} nd_tensor;

/* Product of dims; -1 if a dim is negative or the product passes INT64_MAX / 16. */
int64_t nd_dims_count(int rank, const int64_t *dims);
int64_t nd_tensor_count(const nd_tensor *tensor);
size_t nd_tensor_bytes(const nd_tensor *tensor);

nd_status nd_tensor_new(nd_dtype dtype, int rank, const int64_t *dims, nd_tensor *out); /* zeroed */
nd_tensor nd_tensor_share(const nd_tensor *tensor); /* takes a reference */
void nd_tensor_free(nd_tensor *tensor);             /* leaves it empty */

/* Converts any dtype to f32, elementwise, into dst[nd_tensor_count]. Exact for f16 and bf16. */
void nd_tensor_to_f32(const nd_tensor *tensor, float *dst);

float nd_f16_to_f32(uint16_t bits);
uint16_t nd_f32_to_f16(float value); /* round to nearest even */
float nd_bf16_to_f32(uint16_t bits);
uint16_t nd_f32_to_bf16(float value); /* round to nearest even */

/* OCP 8-bit floating point, E4M3FN: sign, 4 bits of exponent, 3 of fraction; 448 at most, steps of 2^-9 below
 * 2^-6, no infinities. Rounds to nearest even; what is larger, infinity too, becomes 448; NaN stays one. */
float nd_e4m3_to_f32(uint8_t code);
uint8_t nd_f32_to_e4m3(float value);

/* "64x3x7x7"; returns `text`. */
const char *nd_dims_format(int rank, const int64_t *dims, char *text, size_t size);

#pragma GCC visibility pop

#endif
