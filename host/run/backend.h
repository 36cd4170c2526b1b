/* The contract between the executor and the devices it runs on.
 *
 * A backend is a plugin: libnd_<name>.so exports one constant nd_plugin called `nd_plugin_entry`. `ref` is
 * built in. Plugins see base/, this header and nothing else of the host; they link libnd for base/ and
 * nd_ref_*.
 *
 * There are two families of work: kernels of networks (prepare once, run often) and linear algebra for the
 * decoupling (host memory in and out). `supports` answers before anything is allocated; the executor asks it
 * for fusions first and falls back to the parts. */
#ifndef ND_RUN_BACKEND_H
#define ND_RUN_BACKEND_H

#include "base/tensor.h"
#include "base/window.h"

#pragma GCC visibility push(default)

enum { nd_plugin_abi = 5 };

/* Arithmetic of a network. Accumulation is fp32, of int8 int32; inputs and outputs of the network are fp32.
 */
typedef enum nd_precision {
    nd_precision_fp32, /* strict */
    nd_precision_tf32, /* fp32 storage, tf32 multiplication */
    nd_precision_fp16,
    nd_precision_bf16,
    nd_precision_int8, /* quantised: works as nd_work says; of networks, all that is not is fp32 */
    nd_precision_e4m3, /* the same in 8-bit floating point (nd_e4m3_to_f32) */
    nd_precision_count,
} nd_precision;

const char *nd_precision_name(nd_precision precision); /* "fp32", "tf32", "bf16", "int8", ... */
bool nd_precision_find(const char *name, nd_precision *out);
bool nd_precision_is_quantised(nd_precision precision); /* int8 and e4m3: values have scales */
nd_dtype nd_precision_storage(nd_precision precision);  /* f32, f32, f16, bf16, u8, e4m3 */

/* A view of activations: logical dims (NCHW for images), element strides in any physical order, and an
 * element offset into its buffer. Stride 0 repeats (broadcast). The batch is dims[0]. */
typedef struct nd_view {
    int rank;
    int64_t dims[nd_rank_max];
    int64_t strides[nd_rank_max];
    int64_t offset;
} nd_view;

/* Row-major, and for rank 4 channels-last (strides of NHWC under logical NCHW dims). */
nd_view nd_view_row_major(int rank, const int64_t *dims);
nd_view nd_view_channels_last(int rank, const int64_t *dims);
bool nd_view_is_row_major(const nd_view *view);
bool nd_view_is_channels_last(
    const nd_view *view); /* rank 4 and dense NHWC; true for both where C == 1 or H*W == 1 */
int64_t nd_view_count(const nd_view *view);
bool nd_view_same_dims(const nd_view *a, const nd_view *b);
/* The same elements in the same (row-major) order under other dims; false where strides cannot say that. */
bool nd_view_reshape(const nd_view *view, int rank, const int64_t *dims, nd_view *out);

typedef enum nd_act {
    nd_act_none,
    nd_act_relu,
    nd_act_clip,       /* min(max(x, a), b) */
    nd_act_leaky_relu, /* x < 0 ? a*x : x */
    nd_act_sigmoid,
    nd_act_hard_sigmoid, /* min(max(a*x + b, 0), 1) */
    nd_act_hard_swish,   /* x * min(max(x/6 + 0.5, 0), 1) */
    nd_act_abs,
    nd_act_neg,
    nd_act_reciprocal,
    nd_act_sqrt,
    nd_act_exp,
    nd_act_log,
    nd_act_sin,
    nd_act_cos,
    nd_act_tanh,
    nd_act_erf,
    nd_act_floor,
    nd_act_ceil,
    nd_act_round, /* halves to the even number */
    nd_act_sign,
    nd_act_softplus,  /* log(1 + exp(x)) */
    nd_act_softsign,  /* x / (1 + |x|) */
    nd_act_elu,       /* x < 0 ? b*a*(exp(x) - 1) : b*x, which is SELU too */
    nd_act_celu,      /* x < 0 ? a*(exp(x/a) - 1) : x */
    nd_act_threshold, /* x > a ? x : 0 */
    nd_act_swish,     /* x / (1 + exp(-a*x)) */
    nd_act_mish,      /* x * tanh(softplus(x)) */
    nd_act_gelu,      /* x/2 * (1 + erf(x/sqrt(2))) */
    nd_act_gelu_tanh, /* x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715*x^3))) */
    nd_act_count,
} nd_act;

typedef struct nd_activation {
    nd_act act;
    float a, b;
} nd_activation;

float nd_activation_apply(nd_activation activation, float x); /* the definition, in fp32 */

/* Functions of two numbers. */
typedef enum nd_pairing {
    nd_pairing_add,
    nd_pairing_mul,
    nd_pairing_sub,
    nd_pairing_div,
    nd_pairing_pow,
    nd_pairing_min,
    nd_pairing_max,
    nd_pairing_prelu, /* a < 0 ? a*b : a */
    nd_pairing_keep,  /* b != 0 ? a : 0; with the next one, what Where chooses */
    nd_pairing_drop,  /* b != 0 ? 0 : a */
    nd_pairing_equal, /* 1 where it is so, else 0, as of the next ones; of a number that is none it never is
                       */
    nd_pairing_less,
    nd_pairing_less_equal,
    nd_pairing_count,
} nd_pairing;

float nd_pairing_apply(nd_pairing pairing, float a, float b); /* the definition, in fp32 */

/* What becomes of the numbers along the axes that a reduction takes away. */
typedef enum nd_reduction {
    nd_reduction_mean,
    nd_reduction_sum,
    nd_reduction_max,
    nd_reduction_min,
    nd_reduction_prod,
    nd_reduction_l1, /* sum of |x| */
    nd_reduction_l2, /* sqrt of the sum of squares */
    nd_reduction_sum_square,
    nd_reduction_log_sum,
    nd_reduction_log_sum_exp,
    nd_reduction_count,
} nd_reduction;

typedef enum nd_operation {
    nd_operation_conv,      /* regular or grouped */
    nd_operation_separable, /* depthwise then pointwise, fused */
    nd_operation_gemm,      /* y[m][n] = x[m][k] W[n][k]^T */
    nd_operation_pool,
    nd_operation_binary, /* a pairing of two views of equal dims (stride 0 broadcasts) */
    nd_operation_activation,
    nd_operation_affine, /* y = x * weights[c] + bias[c], c on axis 1 */
    nd_operation_softmax,
    nd_operation_lrn,
    nd_operation_reduce,    /* over `axes`, kept as dims of 1 in y */
    nd_operation_normalize, /* y = (x - mean) / sqrt(variance + epsilon), both over `axes` */
    nd_operation_resample,  /* along `axis`: y[i] = sum over k < terms of weights[i][k] * x[channel[i][k]] */
    nd_operation_product,   /* y[..][m][n] = alpha * x[..][m][k] x2[..][k][n] of equal leading dims (stride 0
                               repeats) */
    nd_operation_gather,    /* y[:, i] = x[:, channel[i]] on axis 1 */
    nd_operation_copy, /* y = x, same dims, any strides: transposes, slices, concatenation, layout changes */
    nd_operation_fill, /* y = value */
    nd_operation_quantize, /* fp32 to 8-bit integers, and back */
    nd_operation_dequantize,
    nd_operation_count,
} nd_operation;

const char *
nd_operation_name(nd_operation operation); /* "conv", "separable", ...: also the file stem of the operation */

/* Affine quantisation (Jacob et al., CVPR 2018): real = scale * (q - zero), with q in 0..255. Signed integers
 * are stored 128 higher, as is their zero. Of e4m3, real = scale * number. A scale of 0: not quantised, fp32.
 */
typedef struct nd_quant {
    float scale;
    int32_t zero; /* of e4m3: 0 */
    bool e4m3;
} nd_quant;

/* What numbers of an operand are stored in: fp32 where it has no scale, as what a quantised layer gives to
 * the rest of a network may. */
nd_precision nd_precision_stored(nd_precision precision, nd_quant quant);

/* One operation with everything resolved. Weight pointers are host memory, fp32, valid during `prepare` only.
 */
typedef struct nd_work {
    nd_operation operation;
    nd_view x, x2,
        y;         /* x2: second operand of binary and product, or the residual of conv, separable and gemm */
    bool residual; /* y = act(op(x) + bias + x2) */
    nd_window window; /* conv, separable (of the depthwise part), pool */
    int64_t groups;   /* conv */
    const float *
        weights; /* conv [no][ni/groups][kh][kw]; gemm [n][k]; separable: pointwise [no][terms]; affine [c] */
    const float *bias;      /* [no], or NULL */
    const float *depthwise; /* separable: [terms][kh][kw] */
    const int32_t *channel; /* separable: input channel of each term, ascending, length terms; gather,
                               resample: indices */
    int64_t terms;          /* separable: R; gather: number of indices */
    /* Epilogue of conv, separable, gemm, binary, affine; the op itself for activation. */
    nd_activation activation;
    nd_pairing pairing;     /* binary */
    bool maximum;           /* pool: max instead of average */
    bool count_include_pad; /* average pool */
    nd_reduction reduction; /* reduce */
    bool axes[nd_rank_max]; /* reduce, normalize */
    int64_t axis;           /* softmax, resample */
    int64_t inner; /* softmax: product of consecutive dims from `axis` normalised together, 1 dim if 0 */
    int64_t size;  /* lrn */
    float alpha, beta, k; /* lrn: y = x / (k + alpha/size * sum x^2)^beta; product has alpha */
    float value;          /* fill */
    float epsilon;        /* normalize */

    /* nd_precision_int8 and nd_precision_e4m3 (run/quantized.h has the arithmetic). x and x2 are quantised,
     * but for nd_operation_quantize; y may be fp32 in conv and gemm. Binary adds. Pool, gather and copy move
     * integers: x and y are quantised alike. */
    nd_quant x_quant, x2_quant, y_quant;
    const float
        *weights_scale;    /* [no]; weights are integers in -128..127, or e4m3: real ones divided by it */
    nd_quant middle_quant; /* separable: of the depthwise results */
    const float *depthwise_scale; /* [terms], as weights_scale; NULL: depthwise weights are real */
} nd_work;

/* Whether dims, axes, channels and pointers of a work fit each other: what every `supports` may ask first. */
bool nd_work_agrees(const nd_work *work);
int64_t nd_work_macs(
    const nd_work *work); /* multiply-accumulates of conv, separable, gemm and product, whole batch */

typedef struct nd_backend nd_backend;
typedef struct nd_kernel nd_kernel; /* a prepared nd_work: packed weights, chosen algorithm */
typedef struct nd_memory nd_memory; /* device memory */

typedef struct nd_kernel_info {
    /* What will run, as its library names it: "brgconv:avx512_core", "nd:separable:avx512". */
    const char *engine;
    size_t workspace_bytes; /* the executor gives every kernel of a network one shared workspace */
} nd_kernel_info;

/* How a decomposition was done. */
typedef struct nd_svd_info {
    const char *engine; /* "nd:svd:jacobi" */
    double device_ns;   /* on the device alone, without moving the operands there and back */
} nd_svd_info;

/* Linear algebra over host memory, row-major, fp64 results. Slices are contiguous: a[batch][m][n]. */
typedef struct nd_linalg {
    /* Right singular vectors of every slice: sigma[batch][n] descending, v[batch][n][n] with row k = v_k,
     * |v_k| = 1, sign such that the largest |entry| (the first of equals) is positive. For m < n the rows
     * past m complete the basis and have sigma 0. n <= 64. Zero slices give sigma 0 and the identity. */
    nd_status (*svd)(nd_backend *backend, int64_t batch, int64_t m, int64_t n, const float *a, double *sigma,
                     double *v);

    /* Optional: of the last svd. NULL where host and device are one. */
    nd_status (*svd_info)(nd_backend *backend, nd_svd_info *out);

    /* c[k][m] += a[n][k]^T b[n][m]: fp32 products summed within blocks of at most 4096 rows, fp64 across
     * blocks. b == a gives the full symmetric matrix, where c was symmetric. */
    nd_status (*accumulate)(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                            const float *b, double *c);

    /* Cholesky of a[n][n] (lower, in place), then x[n_rhs][n] <- solution of a x = b for every row of b.
     * `factored` skips the first step. nd_status_failed when a is not positive definite. */
    nd_status (*solve)(nd_backend *backend, int64_t n, double *a, bool factored, int64_t n_rhs, double *b);

    /* Symmetric eigenproblems, batched: a[batch][n][n] -> values[batch][n] ascending, vectors in rows of a.
     */
    nd_status (*eigen)(nd_backend *backend, int64_t batch, int64_t n, double *a, double *values);

    /* c[m][n] = alpha * op(a) op(b) + beta * c, leading dimensions as given. */
    nd_status (*gemm)(nd_backend *backend, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                      double alpha, const double *a, int64_t lda, const double *b, int64_t ldb, double beta,
                      double *c, int64_t ldc);

    bool concurrent; /* several threads may call all but svd_info at once */
} nd_linalg;

typedef struct nd_backend_settings {
    int device;      /* index in probe's list */
    int threads;     /* 0 = all cores */
    const char *isa; /* cpu: force "scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16" or
                        "amx" for our kernels; NULL = best */
    size_t workspace_limit; /* bytes; 0 = 1 GiB */
    bool tune;              /* measure alternatives in prepare and cache the winner, instead of a heuristic */
    const char *prefer; /* implementation to force where it exists and supports the work, by its name in the
                           backend ("nd", "pair", "dense-direct", "dense-winograd" on cpu); NULL = planned */
} nd_backend_settings;

/* Functions of an open backend. All are required unless marked. Not thread-safe: one thread drives a backend.
 */
typedef struct nd_backend_table {
    void (*close)(nd_backend *backend);
    bool (*supports)(nd_backend *backend, const nd_work *work, nd_precision precision);
    nd_status (*prepare)(nd_backend *backend, const nd_work *work, nd_precision precision, nd_kernel **out);
    nd_kernel_info (*info)(const nd_kernel *kernel);
    /* Starts the kernel in the backend's stream; x2 is NULL where unused, workspace where its size is 0. */
    nd_status (*run)(nd_backend *backend, nd_kernel *kernel, const nd_memory *x, const nd_memory *x2,
                     nd_memory *y, nd_memory *workspace);
    void (*release)(nd_kernel *kernel); /* NULL is legal */

    nd_status (*allocate)(nd_backend *backend, size_t bytes,
                          nd_memory **out); /* nd_status_memory when full */
    void (*free)(nd_memory *memory);        /* NULL is legal */
    /* fp32 row-major host data to or from a dense view (row-major or channels-last) of the precision's
     * storage type. Synchronous. */
    nd_status (*upload)(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_precision precision,
                        const float *src);
    nd_status (*download)(nd_backend *backend, const nd_memory *src, const nd_view *view,
                          nd_precision precision, float *dst);
    nd_status (*synchronize)(nd_backend *backend);

    /* Time events in the stream, those of a capture at every replay: record into slot, later read the ns
     * between two recorded slots (synchronizes). */
    nd_status (*record_event)(nd_backend *backend, int slot); /* slots 0..4095 */
    nd_status (*elapsed)(nd_backend *backend, int from, int to, double *ns);

    /* Optional: what runs between begin and end is captured (not executed) and replayed as one graph. NULL
     * where absent. */
    nd_status (*capture_begin)(nd_backend *backend);
    nd_status (*capture_end)(nd_backend *backend, void **capture);
    nd_status (*replay)(nd_backend *backend, void *capture);
    void (*capture_free)(void *capture);

    /* Optional: false for a supported work that would run on slow general loops. The executor then prefers
     * other layouts with copies around them, and the parts of a fused work. NULL: whatever is supported is
     * fast. */
    bool (*fast)(nd_backend *backend, const nd_work *work, nd_precision precision);

    /* Optional: an upload into 8-bit integers, rounded as nd_operation_quantize does. NULL where absent: the
     * executor uploads fp32 and has a kernel round it. */
    nd_status (*upload_quantized)(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_quant quant,
                                  const float *src);

    /* Optional: what a timing depends on at this moment (clocks, temperature, power, what slows the device
     * down), one line. NULL where the backend does not know. */
    void (*conditions)(nd_backend *backend, char *text, size_t size);

    nd_linalg linalg;
} nd_backend_table;

/* First member of every backend's own struct. */
struct nd_backend {
    const nd_backend_table *table;
    const char *name;        /* "cpu" */
    char device[128];        /* "Intel Xeon ..., avx512" */
    char libraries[256];     /* "oneDNN 2.6.3, OpenBLAS 0.3.21" */
    char driver[64];         /* GPU driver, or empty */
    char gpu[160];           /* name of the GPU and a hash that tells it from others, or empty */
    bool channels_last;      /* the executor lays rank-4 activations out as NHWC */
    size_t last_cache_bytes; /* for cold timing */
};

typedef struct nd_device_info {
    char name[128];
    size_t memory_bytes;
} nd_device_info;

typedef struct nd_plugin {
    uint32_t abi; /* nd_plugin_abi */
    const char *name;
    /* Fills at most `capacity` devices, *count with how many there are; with 0, `why` says why not. A failure
     * means that there is something which does not work (a driver that is too old), not that there is
     * nothing. */
    nd_status (*probe)(nd_device_info *devices, int capacity, int *count, char *why, size_t why_size);
    nd_status (*open)(const nd_backend_settings *settings, nd_backend **out);
} nd_plugin;

#define ND_PLUGIN_SYMBOL "nd_plugin_entry"

#pragma GCC visibility pop

#endif
