/* The plain kernels of 8-bit integers, by the definition in run/quantized.h and equal to it bit for bit: sums
 * are int32, and the fp32 operations that follow are the same in the same order. Any strides and groups; what
 * is fast is elsewhere (cuda/separable), or cuDNN's between two of them, which know e4m3 too
 * (cuda/quantized_conv.c). */
#ifndef ND_CUDA_QUANTIZED_H
#define ND_CUDA_QUANTIZED_H

#include "cuda/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "run/quantized.h"

/* Convolution, one thread an output. x has `x_zero` where the work has its zero; y holds integers, or fp32
 * where the work's y_quant says so. */
typedef struct nd_cuda_quantized_conv {
    nd_window window;
    int64_t groups;
    nd_view x_view, x2_view, y_view;
    nd_requant requant;
    int32_t x_zero;
    bool real;                   /* y is fp32 */
    const int8_t *weights;       /* [ni/groups][kh][kw][no] */
    const float *factor, *shift; /* [no] */
    const void *x, *x2;          /* starts of buffers; x2 NULL without residual */
    void *y;
    cudaStream_t stream;
} nd_cuda_quantized_conv;

nd_status nd_cuda_quantized_conv_launch(const nd_cuda_quantized_conv *call);

/* x as a library multiplies it, [images][height][width][channels], of which the first pixel is `top` rows and
 * `left` columns before x: integers signed, less 128, e4m3 as it is. Outside of x is its zero; channels that
 * x has not are 0. One thread 16 channels. */
typedef struct nd_cuda_quantized_in {
    nd_view x_view;
    int64_t height, width, channels; /* of y; channels a multiple of 16 */
    int64_t top, left;
    int32_t x_zero;
    bool e4m3;
    const void *x; /* start of the buffer */
    void *y;
    cudaStream_t stream;
} nd_cuda_quantized_in;

nd_status nd_cuda_quantized_in_launch(const nd_cuda_quantized_in *call);

/* What a library summed, [pixels of y][row], becomes y. One thread four channels. */
typedef struct nd_cuda_quantized_end {
    nd_view x2_view, y_view;
    int64_t row; /* sums of a pixel, a multiple of 4: the channels of y, and others that nobody asks for */
    nd_requant requant;
    bool e4m3;                   /* else integers */
    bool real;                   /* y is fp32 */
    const int32_t *start;        /* [no]: to be added to a sum; NULL for nothing */
    const float *factor, *shift; /* [no] */
    const void *sums;            /* int32, of e4m3 fp32 */
    const void *x2;              /* start of the buffer; NULL without residual */
    void *y;
    cudaStream_t stream;
} nd_cuda_quantized_end;

nd_status nd_cuda_quantized_end_launch(const nd_cuda_quantized_end *call);

/* The depthwise half of a separable layer: y[pixel][terms], one thread an integer. */
typedef struct nd_cuda_quantized_depthwise {
    nd_window window;
    nd_view x_view;
    int64_t images, out_height, out_width, terms;
    int32_t x_zero, middle_zero;
    const float *filters;       /* [kh*kw][terms] */
    const float *middle_factor; /* [terms] */
    const int32_t *channel;     /* [terms] */
    const void *x;              /* start of the buffer */
    void *y;
    cudaStream_t stream;
} nd_cuda_quantized_depthwise;

nd_status nd_cuda_quantized_depthwise_launch(const nd_cuda_quantized_depthwise *call);

/* call->storage is not looked at. */
nd_cuda_launch nd_cuda_quantized_add_launch, nd_cuda_quantize_launch, nd_cuda_dequantize_launch;

#ifdef __cplusplus
}
#endif

#endif
