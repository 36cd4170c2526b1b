/* What the host side of the plugin knows of the kernels: one launch function for every operation, all of one
 * shape. The functions are C; the same sources also compile for the host, over the emulator in tests/simt. */
#ifndef ND_CUDA_KERNELS_H
#define ND_CUDA_KERNELS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "run/backend.h"
#include "run/quantized.h"

/* a / b rounded up: parts of at most b that a is cut into. */
static inline int64_t nd_ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* One launch. `work` gives views and settings; its host pointers are never followed. Pointers are the starts
 * of device buffers (views carry the offsets) and of packed constants. */
typedef struct nd_cuda_call {
    const nd_work *work;
    nd_dtype storage; /* of x, x2 and y: f32, f16 or bf16; gather and copy take u8 and e4m3 too, pool u8 */
    const void *x, *x2;
    void *y;
    const float *weights, *bias; /* affine: [c]; conv: see nd_cuda_conv_launch. bias may be NULL */
    const int32_t *channel;      /* gather */
    cudaStream_t stream;
} nd_cuda_call;

typedef nd_status nd_cuda_launch(const nd_cuda_call *call);

/* y = act(a op b), op(x), x * w[c] + b[c], x, value: any strides, 16-byte accesses where the views allow. */
nd_cuda_launch nd_cuda_binary_launch, nd_cuda_activation_launch, nd_cuda_affine_launch, nd_cuda_copy_launch,
    nd_cuda_fill_launch, nd_cuda_gather_launch;
/* Those of number.cuh alone; functions.cu has all functions of one number, and powers. */
nd_cuda_launch nd_cuda_function_launch, nd_cuda_power_launch;
nd_cuda_launch nd_cuda_pool_launch, nd_cuda_softmax_launch, nd_cuda_lrn_launch, nd_cuda_reduce_launch;

/* Direct convolution, any strides and groups: the fallback where cuDNN has no plan. weights are transposed to
 * [ni/groups][kh][kw][no]. */
nd_cuda_launch nd_cuda_conv_launch;

/* y = act(y + bias[c] + x2) in place, for engines without an epilogue; call->x is ignored. */
nd_cuda_launch nd_cuda_epilogue_launch;

/* y[i] = x[i] between element types, views of equal dims: the two ends of a network. */
nd_status nd_cuda_convert_launch(nd_dtype from, const nd_view *x_view, const void *x, nd_dtype to,
                                 const nd_view *y_view, void *y, cudaStream_t stream);

/* sum[i] += part[i]: fp32 products of one block of rows into the fp64 moments. */
nd_status nd_cuda_moments_launch(const float *part, int64_t count, double *sum, cudaStream_t stream);

/* Depthwise, NHWC. Output channel r is the window of input channel[r] under filter r; `terms` of them.
 * filters: fp32 [kh*kw][terms]. Pixels of x and y are `x_pixel` and `y_pixel` elements apart; images follow
 * each other. uniform: channel[r] == r / uniform for every r, or 0 when it is not so. */
typedef struct nd_cuda_depthwise {
    nd_window window;
    nd_dtype storage;
    int64_t images, channels, height, width; /* of x */
    int64_t out_height, out_width;
    int64_t terms, uniform, x_pixel, y_pixel;
    int64_t threads;             /* that the device runs at once: with fewer, rows are cut into short runs */
    const float *filters, *bias; /* bias [terms] or NULL */
    const int32_t *channel;
    nd_activation activation;
    const void *x; /* first element of the first image */
    void *y;
    cudaStream_t stream;
} nd_cuda_depthwise;

nd_status nd_cuda_depthwise_launch(const nd_cuda_depthwise *call);
const char *nd_cuda_depthwise_name(const nd_cuda_depthwise *call); /* which of its kernels would run */
/* Bytes of shared memory of a block; 0 for the kernel that has none. */
size_t nd_cuda_depthwise_shared(const nd_cuda_depthwise *call);

/* What a fused kernel of nd_precision_int8 knows beside the rest. Of channels up to a whole tile: */
typedef struct nd_cuda_integers {
    nd_requant requant;
    int32_t x_zero, middle_zero;
    const int32_t *start; /* what a sum begins with: it runs over depthwise results that hold their zero */
    const float *factor, *shift;
} nd_cuda_integers;

/* The fused separable kernels. Terms are packed into blocks of nd_separable_terms (see separable_pack.h). */
typedef struct nd_cuda_separable {
    nd_window window;
    nd_precision precision;
    int64_t images, channels, height, width; /* of x */
    int64_t out_channels, out_height, out_width;
    int64_t x_pixel, x2_pixel, y_pixel; /* elements between pixels */
    int64_t patch[3];                   /* images, rows, columns of output pixels of one tile; at most 128 */
    int64_t tile;                       /* output channels of one tile: 64, 128 or 256 */
    int64_t blocks;                     /* of terms */
    int64_t chunks;                     /* 16-byte groups of channels that the widest block of terms spans */
    /* Parts of the blocks, summed apart and then joined in order; at most `blocks`, 1: whole. */
    int64_t split;
    float *partial; /* with split > 1: nd_cuda_separable_partial bytes on the device, of no further meaning */
    /* Storage, of int8 signed: [out_channels up to a whole tile][blocks * nd_separable_terms]. */
    const void *weights;
    /* [blocks][kh*kw][nd_separable_terms]; of int8 [blocks][kh*kw + 1][nd_separable_terms], the last row the
     * factors of what the others make. */
    const float *filters;
    const int32_t *base;   /* [blocks][2]: first channel of a block, a multiple of 16 bytes, and its chunks */
    const int32_t *offset; /* [blocks][nd_separable_terms]: channel of a term, less base */
    const float *bias;     /* [out_channels] or NULL; of int8 none, as there is no activation */
    nd_activation activation;
    nd_cuda_integers integers; /* of int8 */
    const void *x, *x2;        /* first elements; x2 NULL without residual */
    void *y;
    cudaStream_t stream;
} nd_cuda_separable;

enum { nd_separable_terms = 32, nd_separable_pixels = 128, nd_separable_threads = 256 };

nd_status nd_cuda_separable_launch(const nd_cuda_separable *call);
size_t nd_cuda_separable_shared(const nd_cuda_separable *call); /* bytes of shared memory of one block */
size_t nd_cuda_separable_partial(const nd_cuda_separable *call);

#ifdef __cplusplus
}
#endif

#endif
