/* The open backend and what its parts share. Host code only; the libraries are opaque handles here, each
 * in the one file that includes its header (blas.c, solver.c, dnn.c). */
#ifndef ND_CUDA_DEVICE_H
#define ND_CUDA_DEVICE_H

#include "base/hash.h"
#include "cuda/check.h"
#include "cuda/kernels/kernels.h"

typedef struct nd_blas nd_blas;
typedef struct nd_solver nd_solver;
typedef struct nd_dnn nd_dnn;
typedef struct nd_nvml nd_nvml;

enum { nd_cuda_events = 4096, nd_cuda_blocks_max = 8 };

/* Elements of the staging block, 4 MiB: made when the backend opens, so that no transfer can run out of
 * memory. */
enum { nd_cuda_staged = 1 << 20 };

/* How separable layers may run: ND_CUDA_SEPARABLE=auto, which is all of them, or some with commas
 * between. */
typedef enum nd_cuda_algorithm {
    nd_cuda_algorithm_dense,   /* recomposed to one convolution, on the library */
    nd_cuda_algorithm_chunked, /* depthwise and GEMM, slice by slice through L2; int8: in one slice */
    nd_cuda_algorithm_fused,   /* our fused kernel */
    nd_cuda_algorithm_wgmma,   /* the same for sm_90a; among others chosen only where it was measured and
                                  checked */
    nd_cuda_algorithm_count,
} nd_cuda_algorithm;

/* A measured choice: what it was made for (a hash), and the number of the candidate that won. */
typedef struct nd_cuda_choice {
    char key[nd_sha256_hex_size];
    int candidate;
} nd_cuda_choice;

typedef struct nd_cuda {
    nd_backend base;                         /* first */
    int device, multiprocessors, capability; /* capability: 90 for 9.0 */
    size_t shared_limit;                     /* bytes of shared memory a block may ask for */
    size_t workspace_limit;
    bool tune;
    double tune_seconds;       /* of wall-clock time that one choice among engines of a library may take */
    unsigned algorithms;       /* 1 << nd_cuda_algorithm, of those that may be taken */
    cudaStream_t stream, side; /* side: the other half of what overlaps */
    cudaEvent_t fork, ready[2], done[2]; /* order between the two: see separable_chunked.c */
    cudaEvent_t events[nd_cuda_events];  /* made when first used */
    float *staging;                      /* nd_cuda_staged elements on their way in or out, by pieces */
    void *flush; /* twice the last-level cache, overwritten before what is timed cold (autotune.c) */
    nd_cuda_choice *choices; /* see autotune.h; grown */
    size_t n_choices, choices_capacity;
    nd_blas *blas;
    nd_solver *solver;
    nd_dnn *dnn;
    nd_nvml *nvml;
} nd_cuda;

struct nd_memory {
    void *data;
    size_t bytes;
    nd_cuda *cuda;
};

/* Starts of the operands of one run. x2 and workspace may be NULL. */
typedef struct nd_cuda_operands {
    const void *x, *x2;
    void *y, *workspace;
} nd_cuda_operands;

typedef struct nd_cuda_functions {
    nd_status (*run)(nd_kernel *kernel, const nd_cuda_operands *operands);
    void (*release)(nd_kernel *kernel); /* frees `state`; NULL where there is none */
} nd_cuda_functions;

struct nd_kernel {
    nd_cuda *cuda;
    nd_work work; /* its host pointers are NULL */
    nd_precision precision;
    const nd_cuda_functions *functions;
    char engine[192];
    size_t workspace;
    nd_cuda_launch *launch;           /* of nd_cuda_simple_functions */
    bool transformed;                 /* see bound.h */
    void *blocks[nd_cuda_blocks_max]; /* device memory that the kernel owns */
    int n_blocks;
    const float *weights, *bias;
    const int32_t *channel;
    void *state;
};

/* One call of kernel->launch, with the kernel's weights, bias and channel. */
extern const nd_cuda_functions nd_cuda_simple_functions;

/* How an operation is prepared. `prepare` fills a zeroed kernel whose cuda, work, precision are set; on
 * failure the caller releases what is there. */
typedef struct nd_cuda_implementation {
    bool (*supports)(const nd_cuda *cuda, const nd_work *work, nd_precision precision);
    nd_status (*prepare)(nd_kernel *kernel, const nd_work *work);
} nd_cuda_implementation;

extern const nd_cuda_implementation nd_cuda_simple_implementation; /* one launch, of nd_cuda_launches */

/* Whether the plugin has the function that a work ends with: all of them on their own, as an epilogue those
 * of cuda/kernels/number.cuh. */
bool nd_cuda_has_function(const nd_work *work);
extern const nd_cuda_implementation nd_cuda_conv_implementation, nd_cuda_separable_implementation,
    nd_cuda_gemm_implementation;
extern const nd_cuda_implementation
    nd_cuda_direct_implementation; /* convolution by our direct kernel, whatever else there is */
extern const nd_cuda_implementation
    nd_cuda_quantized_implementation; /* nd_precision_int8, by plain kernels; of separable
                                         layers one of several */
extern const nd_cuda_implementation
    nd_cuda_quantized_conv_implementation; /* convolutions and products: of int8 by cuDNN, or the plain
                                              kernel; of e4m3 by cuDNN alone */
extern const nd_cuda_implementation nd_cuda_depthwise_implementation; /* of the convolutions that are one */

nd_status nd_cuda_allocate(size_t bytes, void **out); /* nd_status_memory when the device is full */

/* Host memory to the device, in the order of the backend's stream, done on return. A plain cudaMemcpy would
 * go through the default stream and may return before pageable memory has arrived, and our streams do not
 * wait for that one. */
nd_status nd_cuda_send(nd_cuda *cuda, const void *host, size_t bytes, void *device);

/* A copy of host data on the device, owned by the kernel. */
nd_status nd_cuda_constant(nd_kernel *kernel, const void *data, size_t bytes, const void **out);
/* fp32 weights in the storage type of the kernel's precision, integers signed; tf32 is rounded to it. */
nd_status nd_cuda_constant_stored(nd_kernel *kernel, const float *data, size_t count, const void **out);
nd_status nd_cuda_constant_bias(nd_kernel *kernel, const nd_work *work); /* fp32, where there is one */
/* The bias as libraries take it, in the storage type. It is added, not multiplied: tf32 leaves it whole. */
nd_status nd_cuda_constant_bias_stored(nd_kernel *kernel, const nd_work *work, const void **out);

/* NHWC with channels next to each other and pixels at one distance: x and y of our kernels and slices of
 * channels. */
bool nd_cuda_view_is_pixels(const nd_view *view, int64_t *distance);
void *nd_cuda_at(const void *start, const nd_view *view, nd_precision precision); /* its first element */

/* The direct convolution, for what no library takes. `work` may be of another operation than the kernel was
 * made for. */
nd_status nd_conv_direct_prepare(nd_kernel *kernel, const nd_work *work);

/* A product as the 1x1 convolution that it is, of rows as images of one pixel; other works as they are. */
nd_work nd_cuda_as_conv(const nd_work *work);

/* The depthwise kernel's call for the window and the x of a work: `terms` filters [terms][kh*kw], each with
 * the channel that it reads. Pixels of y lie as in the work; no bias, no activation, addresses to be set. */
nd_status nd_cuda_depthwise_make(nd_kernel *kernel, const nd_work *work, const float *filters,
                                 const int32_t *channel, int64_t terms, nd_cuda_depthwise *call);

nd_status nd_cuda_kernel_run(nd_kernel *kernel, const nd_cuda_operands *operands);
void nd_cuda_kernel_release(nd_kernel *kernel);
nd_status nd_cuda_kernel_make(nd_cuda *cuda, const nd_cuda_implementation *implementation,
                              const nd_work *work, nd_precision precision, nd_kernel **out);

#endif
