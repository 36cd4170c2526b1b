/* The CPU backend's own declarations.
 *
 * Every operation is a short list of implementations (table.c), best first; the first that supports a
 * work prepares it, unless the planner (plan.c) measures them all or the settings name one. */
#ifndef ND_RUN_CPU_CPU_H
#define ND_RUN_CPU_CPU_H

#include "base/machine/clones.h"
#include "base/parallel.h"
#include "run/backend.h"
#include "run/cpu/memory.h"
#include "run/cpu/separable/separable_kernel.h"

#include <dnnl.h>

typedef enum nd_cpu_level {
    nd_cpu_level_scalar,
    nd_cpu_level_avx2,        /* with FMA */
    nd_cpu_level_avx2_vnni,   /* plus AVX-VNNI */
    nd_cpu_level_avx512,      /* F, BW, VL, DQ */
    nd_cpu_level_avx512_vnni, /* plus AVX512-VNNI */
    nd_cpu_level_avx512_bf16, /* plus AVX512-BF16 */
    nd_cpu_level_amx,         /* plus AMX bf16 and int8, usable by this process */
    nd_cpu_level_count,
} nd_cpu_level;

extern const char *const nd_cpu_level_names[nd_cpu_level_count];
/* By CPUID and what the operating system saves. A level has what the earlier ones have, but for AVX-VNNI,
 * which processors with AVX-512 may lack. */
bool nd_cpu_level_available(nd_cpu_level level);
nd_cpu_level nd_cpu_level_best(void);
void nd_cpu_describe(char *text, size_t size);

enum { nd_cpu_events = 4096 };

typedef struct nd_cpu_implementation nd_cpu_implementation;

typedef struct nd_cpu {
    nd_backend base;
    nd_cpu_level level; /* of our kernels */
    int threads;
    bool tune;
    const nd_cpu_implementation *implementations; /* best first within an operation */
    size_t n_implementations;
    nd_cpu_guard guard;
    char prefer[32]; /* implementation to force, or empty */
    size_t workspace_limit;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    double events[nd_cpu_events]; /* ns */
} nd_cpu;

/* Pointers of one run, view offsets not yet applied. */
typedef struct nd_cpu_buffers {
    const void *x, *x2;
    void *y, *workspace;
} nd_cpu_buffers;

/* First member of every implementation's own kernel. `release` frees the kernel itself; it accepts a
 * half-built one. */
struct nd_kernel {
    nd_cpu *cpu;
    nd_status (*run)(nd_kernel *kernel, const nd_cpu_buffers *buffers);
    void (*release)(nd_kernel *kernel);
    size_t workspace_bytes;
    char engine[64];
};

struct nd_cpu_implementation {
    nd_operation operation;
    const char *name; /* what nd_backend_settings.prefer matches */
    bool (*supports)(const nd_cpu *cpu, const nd_work *work, nd_precision precision);
    nd_status (*prepare)(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out);
};

/* table.c; what is inside the backend reads them from nd_cpu */
extern const nd_cpu_implementation nd_cpu_implementations[];
extern const size_t nd_cpu_implementation_count;

/* Makes the loops of the calling thread, and those of the libraries, as wide as this backend was opened for.
 */
void nd_cpu_enter(const nd_cpu *cpu);

/* Of nd_backend_table. */
nd_status nd_cpu_upload(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_precision precision,
                        const float *src);
nd_status nd_cpu_upload_quantized(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_quant quant,
                                  const float *src);
nd_status nd_cpu_download(nd_backend *backend, const nd_memory *src, const nd_view *view,
                          nd_precision precision, float *dst);

/* team.c: our loops on the libraries' threads, and how many of them their next calls take. */
void nd_cpu_team_lend(void);

/* As many of `wanted` threads as can be had: the runtime would end the program where it cannot start one. */
int nd_cpu_team_possible(int wanted);

/* Takes the buffers that OpenBLAS works in, one a thread, while that can still fail: later it would ask for
 * ever where the address space (ulimit -v) or the commit limit does not hold one. As many of `threads` as
 * have one. */
int nd_cpu_blas_reserve(int threads);
void nd_cpu_team_resize(int threads);

/* plan.c: the implementation to use for a work, by `prefer`, by measuring (cached on disk), or the first. */
bool nd_cpu_takes(const nd_cpu *cpu, const nd_cpu_implementation *implementation, const nd_work *work,
                  nd_precision precision);
nd_status nd_cpu_plan(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out);

/* Helpers on views of rank 4. nd_cpu_view_channels: channels are adjacent in memory, whatever the other
 * strides. nd_cpu_view_pixel: the element step between pixels in raster order where that is one number and
 * channels are adjacent, else 0. */
bool nd_cpu_view_channels(const nd_view *view);
int64_t nd_cpu_view_pixel(const nd_view *view);
size_t nd_cpu_round(size_t bytes); /* up to nd_alignment */

void nd_cpu_activate(nd_activation activation, int64_t count, float *y); /* in place */

/* widened.c: bf16 to fp32 and back, to nearest even; NaN stays one. */
void nd_cpu_widen(int64_t n, const uint16_t *restrict from, float *restrict to);
void nd_cpu_narrow(int64_t n, const float *restrict from, uint16_t *restrict to);

/* quantized.c: nd_quantize of n values. */
void nd_cpu_quantize(nd_quant quant, int64_t n, const float *from, uint8_t *to);

/* Implementations: one pair of functions each. */
#define ND_CPU_IMPL(name)                                                                                    \
    bool nd_cpu_##name##_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision);           \
    nd_status nd_cpu_##name##_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,              \
                                      nd_kernel **out);
ND_CPU_IMPL(separable)          /* separable.c: our fused kernel */
ND_CPU_IMPL(separable_tiled)    /* separable_tiled.c: the same in bf16 and int8 on AMX */
ND_CPU_IMPL(widened)            /* widened.c: bf16 in and out, fp32 in between */
ND_CPU_IMPL(separable_pair)     /* separable_alt.c: depthwise, then oneDNN 1x1 */
ND_CPU_IMPL(separable_dense)    /* separable_alt.c: the regular convolution the terms stand for, direct */
ND_CPU_IMPL(separable_winograd) /* separable_alt.c: the same by Winograd */
ND_CPU_IMPL(conv_depthwise)     /* depthwise.c: groups of few channels */
ND_CPU_IMPL(conv_tiled)         /* separable_tiled.c: few input channels, in bf16 and int8 on AMX */
ND_CPU_IMPL(conv)               /* conv.c: oneDNN, direct */
ND_CPU_IMPL(conv_blocked)       /* conv.c: oneDNN, direct in the layout it likes best, reorders inside */
ND_CPU_IMPL(conv_winograd)      /* conv.c: oneDNN, Winograd with reorders inside */
ND_CPU_IMPL(gemm_few)           /* gemm_few.c: int8, few rows */
ND_CPU_IMPL(gemm)               /* gemm.c: oneDNN inner product */
ND_CPU_IMPL(product)            /* product.c: oneDNN sgemm */
ND_CPU_IMPL(pool)               /* pool.c */
ND_CPU_IMPL(binary)             /* elementwise.c */
ND_CPU_IMPL(activation)
ND_CPU_IMPL(affine)
ND_CPU_IMPL(copy)
ND_CPU_IMPL(quantized) /* quantized.c: what moves integers, into them and out of them */
ND_CPU_IMPL(gather)    /* gather.c */
ND_CPU_IMPL(mean)      /* reduce.c: over planes */
ND_CPU_IMPL(lrn)
ND_CPU_IMPL(softmax) /* lanes.c */
ND_CPU_IMPL(resample)
ND_CPU_IMPL(reference) /* reference.c: anything, on the ref backend's loops */
#undef ND_CPU_IMPL

#endif
