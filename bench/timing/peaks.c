#include "bench/timing/peaks.h"

#include "base/machine/clock.h"
#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#    include <immintrin.h>
#endif

enum { fma_rounds = 200000, chains = 12 };

static const double long_product_ns = 1e6, long_copy_ns = 1e5; /* one run on a device */

/* Twelve independent chains of fused multiply-adds hide the latency of any current core. They are spelled out
 * because a loop over an array of them would stay in memory. The returned sum keeps the compiler from
 * removing them. One call is fma_rounds * chains * lanes FMAs. */
#define TWELVE(step)                                                                                         \
    step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)

static float fma_scalar(int64_t rounds) {
    const float a = 0.999f, b = 1e-3f;
#define BEGIN(k) float s##k = (float)k;
#define STEP(k)  s##k = s##k * a + b;
#define SUM(k)   +s##k
    TWELVE(BEGIN)
    for (int64_t i = 0; i < rounds; i++) {
        TWELVE(STEP)
    }
    return 0 TWELVE(SUM);
#undef BEGIN
#undef STEP
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static float fma_avx2(int64_t rounds) {
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
#    define BEGIN(k) __m256 v##k = _mm256_set1_ps((float)k);
#    define STEP(k)  v##k = _mm256_fmadd_ps(v##k, a, b);
#    define LAST(k)  const float s##k = _mm256_cvtss_f32(v##k);
    TWELVE(BEGIN)
    for (int64_t i = 0; i < rounds; i++) {
        TWELVE(STEP)
    }
    TWELVE(LAST)
    return 0 TWELVE(SUM);
#    undef BEGIN
#    undef STEP
#    undef LAST
}

__attribute__((target("avx512f"))) static float fma_avx512(int64_t rounds) {
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
#    define BEGIN(k) __m512 v##k = _mm512_set1_ps((float)k);
#    define STEP(k)  v##k = _mm512_fmadd_ps(v##k, a, b);
#    define LAST(k)  const float s##k = _mm512_cvtss_f32(v##k);
    TWELVE(BEGIN)
    for (int64_t i = 0; i < rounds; i++) {
        TWELVE(STEP)
    }
    TWELVE(LAST)
    return 0 TWELVE(SUM);
#    undef BEGIN
#    undef STEP
#    undef LAST
}
#endif

#undef SUM
#undef TWELVE

typedef struct fma_loop {
    float (*run)(int64_t rounds);
    int lanes;
} fma_loop;

static fma_loop best_fma_loop(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return (fma_loop){fma_avx512, 16};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return (fma_loop){fma_avx2, 8};
#endif
    return (fma_loop){fma_scalar, 1};
}

typedef struct fma_work {
    fma_loop loop;
    volatile float sink;
} fma_work;

static void fma_body(void *context, int64_t begin, int64_t end, int worker) {
    fma_work *work = context;
    (void)worker;
    for (int64_t i = begin; i < end; i++) work->sink = work->loop.run(fma_rounds);
}

static double fma_gflops(void) {
    enum { runs = 64 };
    fma_work work = {.loop = best_fma_loop()};
    int threads = nd_threads();
    double best = INFINITY;
    for (int i = 0; i < runs; i++) {
        double start = nd_seconds();
        nd_parallel_for(threads, fma_rounds, fma_body, &work);
        double took = nd_seconds() - start;
        if (took < best) best = took;
    }
    return 2e-9 * fma_rounds * chains * work.loop.lanes * threads / best;
}

typedef struct copy_work {
    char *dst;
    const char *src;
} copy_work;

static void copy_body(void *context, int64_t begin, int64_t end, int worker) {
    copy_work *work = context;
    (void)worker;
    memcpy(work->dst + begin, work->src + begin, (size_t)(end - begin));
}

static nd_status host_copy_gbps(size_t bytes, double *out) {
    enum { runs = 40 };
    copy_work work = {.dst = malloc(bytes)};
    char *src = malloc(bytes);
    if (!work.dst || !src) {
        free(work.dst);
        free(src);
        return nd_fail(nd_status_memory, "peaks: no %zu bytes to copy", 2 * bytes);
    }
    memset(src, 1, bytes);
    work.src = src;
    double best = INFINITY;
    for (int i = 0; i <= runs; i++) { /* the first run only touches the pages */
        double start = nd_seconds();
        nd_parallel_for((int64_t)bytes, 1, copy_body, &work);
        double took = nd_seconds() - start;
        if (i && took < best) best = took;
    }
    free(work.dst);
    free(src);
    *out = 2e-9 * (double)bytes / best;
    return nd_status_ok;
}

/* Best time in ns of one kernel on zeroed buffers. */
static nd_status best_ns(nd_backend *backend, const nd_work *work, nd_precision precision, int runs,
                         double *out) {
    const nd_backend_table *table = backend->table;
    size_t element = nd_dtype_bytes(nd_precision_storage(precision));
    nd_kernel *kernel = NULL;
    nd_memory *x = NULL, *y = NULL, *workspace = NULL;
    nd_status status = nd_status_ok;
    *out = INFINITY;
    ND_TRY_DONE(table->prepare(backend, work, precision, &kernel));
    ND_TRY_DONE(table->allocate(backend, (size_t)nd_view_count(&work->x) * element, &x));
    ND_TRY_DONE(table->allocate(backend, (size_t)nd_view_count(&work->y) * element, &y));
    size_t scratch = table->info(kernel).workspace_bytes;
    if (scratch) ND_TRY_DONE(table->allocate(backend, scratch, &workspace));
    for (int i = 0; i <= runs; i++) {
        double ns;
        ND_TRY_DONE(table->record_event(backend, 0));
        ND_TRY_DONE(table->run(backend, kernel, x, NULL, y, workspace));
        ND_TRY_DONE(table->record_event(backend, 1));
        ND_TRY_DONE(table->elapsed(backend, 0, 1, &ns));
        if (i && ns > 0 && ns < *out) *out = ns;
    }
done:
    table->synchronize(backend);
    table->free(workspace);
    table->free(y);
    table->free(x);
    table->release(kernel);
    return status;
}

static nd_status gemm_gflops(nd_backend *backend, nd_precision precision, int64_t n, double *out) {
    const int64_t dims[2] = {n, n};
    float *weights = nd_alloc_array((size_t)(n * n), sizeof *weights);
    ND_REQUIRE(weights, nd_status_memory, "peaks: out of memory");
    nd_work work = {.operation = nd_operation_gemm,
                    .x = nd_view_row_major(2, dims),
                    .y = nd_view_row_major(2, dims),
                    .weights = weights};
    double ns = INFINITY;
    nd_status status = nd_status_ok;
    if (backend->table->supports(backend, &work, precision))
        status = best_ns(backend, &work, precision, 6, &ns);
    free(weights);
    *out = 2 * (double)n * (double)n * (double)n / ns;
    return status;
}

static nd_status device_copy_gbps(nd_backend *backend, nd_precision precision, size_t bytes, double *out) {
    size_t element = nd_dtype_bytes(nd_precision_storage(precision));
    const int64_t dims[2] = {(int64_t)(bytes / element / 4096), 4096};
    nd_work work = {
        .operation = nd_operation_copy, .x = nd_view_row_major(2, dims), .y = nd_view_row_major(2, dims)};
    double ns = INFINITY;
    nd_status status = nd_status_ok;
    if (backend->table->supports(backend, &work, precision))
        status = best_ns(backend, &work, precision, 6, &ns);
    *out = 2 * (double)nd_view_count(&work.x) * (double)element / ns;
    return status;
}

/* What is timed on a device begins after a launch of some microseconds: products grow until that does not
 * count. */
static nd_status device_gflops(nd_backend *backend, nd_precision precision, double *out) {
    *out = 0;
    for (int64_t n = 256; n <= 8192; n *= 2) {
        double gflops;
        ND_TRY(gemm_gflops(backend, precision, n, &gflops));
        *out = fmax(*out, gflops);
        if (2 * (double)(n * n * n) / gflops >= long_product_ns) break;
    }
    return nd_status_ok;
}

/* Copies, likewise, and of four times the last cache at least. */
static nd_status device_gbps(nd_backend *backend, nd_precision precision, double *out) {
    const size_t least = 4 * backend->last_cache_bytes, most = (size_t)1 << 30;
    *out = 0;
    for (size_t bytes = least < (size_t)1 << 20 ? (size_t)1 << 20 : least; bytes <= most; bytes *= 2) {
        double gbps;
        ND_TRY(device_copy_gbps(backend, precision, bytes, &gbps));
        *out = gbps;
        if (2 * (double)bytes / gbps >= long_copy_ns) break;
    }
    return nd_status_ok;
}

static nd_status host_peaks(nd_backend *backend, nd_precision precision, nd_peaks *out) {
    const size_t bytes = nd_peaks_rotation(backend) / 2;
    double memory = 0;
    ND_TRY(host_copy_gbps(bytes, &memory));
    /* The naive loops of ref would take seconds for a GEMM and say nothing about the machine. */
    if (strcmp(backend->name, "ref") != 0) {
        ND_TRY(gemm_gflops(backend, precision, 1024, &out->gflops));
        ND_TRY(device_copy_gbps(backend, precision, bytes, &out->gbps));
    }
    if (precision == nd_precision_fp32) out->gflops = fmax(out->gflops, fma_gflops());
    out->gbps = fmax(out->gbps, memory);
    return nd_status_ok;
}

nd_status nd_peaks_measure(nd_backend *backend, nd_precision precision, nd_peaks *out) {
    *out = (nd_peaks){0};
    if (strcmp(backend->name, "cuda") != 0) return host_peaks(backend, precision, out);
    ND_TRY(device_gflops(backend, precision, &out->gflops));
    return device_gbps(backend, precision, &out->gbps);
}

double nd_peaks_bound(const nd_peaks *peaks, double macs, double bytes) {
    double compute = peaks->gflops > 0 ? 2 * macs / peaks->gflops : 0;
    double traffic = peaks->gbps > 0 ? bytes / peaks->gbps : 0;
    return compute > traffic ? compute : traffic;
}

size_t nd_peaks_rotation(const nd_backend *backend) {
    const size_t least = (size_t)16 << 20, most = (size_t)256 << 20;
    size_t twice = 2 * backend->last_cache_bytes;
    return twice < least ? least : twice > most ? most : twice;
}
