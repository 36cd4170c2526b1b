/* Linear algebra on OpenBLAS and LAPACK. A row-major matrix is the transpose of a column-major one: every
 * call is made in column-major order with the triangle or the operands swapped, so that nothing is copied.
 *
 * OpenBLAS works on one thread, over tiles in a parallel loop of ours. Its own threads divide a product by
 * how many they are, so that the last bits of a sum depend on that; and their loops wait for a thread whose
 * core another process has, where ours go on with what that thread has not begun. */
#include "run/cpu/linalg/linalg.h"
#include "run/cpu/cpu.h"
#include "run/cpu/linalg/cholesky.h"
#include "run/plugins.h"

#include <cblas.h>
#include <lapacke.h>

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    accumulate_rows = 1024, /* summed in fp32 */
    accumulate_tile = 512,  /* of sums: they and the rows they are of stay in cache */
    least_tile = 128,       /* where the result is of few */
    enough_tiles = 4,
    mirror_tile = 32,   /* read by columns: a tile stays in cache */
    product_tile = 256, /* of both dimensions of a result: packing its operands takes a tenth of the time */
    solve_tile = 64,    /* right-hand sides */
    eigen_small = 32,   /* up to this order Jacobi beats LAPACK */
};

static void linalg_enter(nd_backend *backend) {
    nd_cpu_enter((nd_cpu *)backend);
    nd_cpu_team_resize(1);
}

nd_status nd_cpu_svd(nd_backend *backend, int64_t batch, int64_t m, int64_t n, const float *a, double *sigma,
                     double *v) {
    nd_cpu_enter((nd_cpu *)backend);
    return nd_ref_linalg.svd(backend, batch, m, n, a, sigma, v);
}

/* c += a^T b by tiles. For a symmetric result those at and right of the diagonal are summed, and mirrored;
 * else columns of tiles come one after the other, so that each thread has its share of the last row: moments
 * have one row of ones besides what fills tiles. */
typedef struct accumulation {
    int64_t n, k, m;
    const float *a, *b;
    bool symmetric;
    int64_t tile, tiles_k, tiles_m; /* of a column and a row of the result */
    float *parts;                   /* [threads][tile][tile] */
    double *c;
} accumulation;

static int tile_end(int64_t begin, int64_t tile, int64_t n) {
    return (int)(begin + tile < n ? begin + tile : n);
}

static int64_t tiles_of(int64_t n, int64_t tile) {
    return (n + tile - 1) / tile;
}

static void sum_rows(const accumulation *s, int64_t row, int64_t i, int64_t j, int height, int width,
                     float *part) {
    const int rows = tile_end(row, accumulate_rows, s->n) - (int)row;
    const float *a = s->a + row * s->k + i, *b = s->b + row * s->m + j;
    if (s->symmetric && i == j)
        cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, height, rows, 1, a, (int)s->k, 0, part, width);
    else
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, height, width, rows, 1, a, (int)s->k, b,
                    (int)s->m, 0, part, width);
}

/* The other side of the diagonal of a symmetric result, [height][width] from row i and column j. */
static void mirror(const accumulation *s, int64_t i, int64_t j, int64_t height, int64_t width) {
    double *c = s->c + i * s->m + j, *other = s->c + j * s->m + i;
    for (int64_t q0 = 0; q0 < width; q0 += mirror_tile)
        for (int64_t r0 = 0; r0 < height; r0 += mirror_tile)
            for (int64_t q = q0; q < q0 + mirror_tile && q < width; q++)
                for (int64_t r = r0; r < r0 + mirror_tile && r < height; r++)
                    if (i + r < j + q) other[q * s->m + r] = c[r * s->m + q];
}

/* As many rows in fp32 as keep its precision, which go into the result while they are in cache. */
static void sum_tile(const accumulation *s, int64_t i, int64_t j, float *part) {
    const int height = tile_end(i, s->tile, s->k) - (int)i, width = tile_end(j, s->tile, s->m) - (int)j;
    for (int64_t row = 0; row < s->n; row += accumulate_rows) {
        sum_rows(s, row, i, j, height, width, part);
        for (int64_t r = 0; r < height; r++) {
            double *c = s->c + (i + r) * s->m + j;
            for (int64_t q = s->symmetric && i == j ? r : 0; q < width; q++) c[q] += part[r * width + q];
        }
    }
    if (s->symmetric) mirror(s, i, j, height, width);
}

static void accumulate_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const accumulation *s = context;
    float *part = s->parts + worker * s->tile * s->tile;
    for (int64_t t = begin; t < end; t++)
        sum_tile(s, t % s->tiles_k * s->tile, t / s->tiles_k * s->tile, part);
}

static void accumulate_half(void *context, int64_t begin, int64_t end, int worker) {
    const accumulation *s = context;
    float *part = s->parts + worker * s->tile * s->tile;
    int64_t i = 0, j = begin; /* in tiles */
    for (; j >= s->tiles_m; i++) j -= s->tiles_m - (i + 1);
    for (int64_t t = begin; t < end; t++, j++) {
        if (j == s->tiles_m) j = ++i;
        sum_tile(s, i * s->tile, j * s->tile, part);
    }
}

nd_status nd_cpu_accumulate(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                            const float *b, double *c) {
    linalg_enter(backend);
    ND_REQUIRE(n <= INT_MAX && k <= INT_MAX && m <= INT_MAX, nd_status_usage,
               "accumulate: %lld rows, %lld x %lld are too large", (long long)n, (long long)k, (long long)m);
    accumulation sum = {.n = n, .k = k, .m = m, .a = a, .b = b, .symmetric = a == b && k == m, .c = c};
    sum.tile = accumulate_tile;
    while (sum.tile > least_tile && tiles_of(k, sum.tile) * tiles_of(m, sum.tile) < enough_tiles)
        sum.tile /= 2;
    sum.tiles_k = tiles_of(k, sum.tile);
    sum.tiles_m = tiles_of(m, sum.tile);
    sum.parts = nd_alloc_array((size_t)nd_threads(), (size_t)(sum.tile * sum.tile) * sizeof *sum.parts);
    ND_REQUIRE(sum.parts, nd_status_memory, "accumulate: no memory for tiles of sums");
    const int64_t tiles = sum.symmetric ? sum.tiles_k * (sum.tiles_k + 1) / 2 : sum.tiles_k * sum.tiles_m;
    nd_parallel_for(tiles, sum.tile * sum.tile * n, sum.symmetric ? accumulate_half : accumulate_tiles, &sum);
    free(sum.parts);
    return nd_status_ok;
}

typedef struct solution {
    int n;
    int64_t n_rhs;
    const double *factor;
    double *b;
} solution;

static void solve_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const solution *s = context;
    (void)worker;
    for (int64_t row = begin * solve_tile; row < s->n_rhs && row < end * solve_tile; row += solve_tile) {
        const lapack_int rows = (lapack_int)(s->n_rhs - row < solve_tile ? s->n_rhs - row : solve_tile);
        LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'U', s->n, rows, s->factor, s->n, s->b + row * s->n, s->n);
    }
}

nd_status nd_cpu_solve(nd_backend *backend, int64_t n, double *a, bool factored, int64_t n_rhs, double *b) {
    linalg_enter(backend);
    ND_REQUIRE(n <= INT_MAX && n_rhs <= INT_MAX, nd_status_usage, "solve: %lld x %lld is too large",
               (long long)n, (long long)n_rhs);
    const int64_t failed = factored ? 0 : nd_cpu_cholesky(n, a);
    ND_REQUIRE(!failed, nd_status_failed, "solve: the %lldx%lld matrix is not positive definite (pivot %lld)",
               (long long)n, (long long)n, (long long)failed - 1);
    solution job = {(int)n, n_rhs, a, b};
    if (n) nd_parallel_for((n_rhs + solve_tile - 1) / solve_tile, n * n * solve_tile, solve_tiles, &job);
    return nd_status_ok;
}

typedef struct eigenproblems {
    lapack_int n;
    double *a, *values;
    _Atomic lapack_int failed; /* status of one that failed */
} eigenproblems;

static void eigen_solve(void *context, int64_t begin, int64_t end, int worker) {
    eigenproblems *e = context;
    const int64_t n = e->n;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        const lapack_int status =
            LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', e->n, e->a + i * n * n, e->n, e->values + i * n);
        if (status) e->failed = status;
    }
}

nd_status nd_cpu_eigen(nd_backend *backend, int64_t batch, int64_t n, double *a, double *values) {
    linalg_enter(backend);
    ND_REQUIRE(n <= INT_MAX, nd_status_usage, "eigen: order %lld is too large", (long long)n);
    if (n <= eigen_small) return nd_ref_linalg.eigen(backend, batch, n, a, values);
    eigenproblems job = {.n = (lapack_int)n, .a = a, .values = values};
    nd_parallel_for(batch, n * n * n, eigen_solve, &job);
    ND_REQUIRE(job.failed != LAPACK_WORK_MEMORY_ERROR, nd_status_memory, "eigen: no memory for order %lld",
               (long long)n);
    ND_REQUIRE(!job.failed, nd_status_failed, "eigen: a matrix of order %lld: status %d", (long long)n,
               (int)job.failed);
    return nd_status_ok;
}

typedef struct product {
    bool trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    double alpha, beta;
    const double *a, *b;
    double *c;
} product;

static void product_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const product *p = context;
    (void)worker;
    const int64_t across = tiles_of(p->n, product_tile);
    for (int64_t t = begin; t < end; t++) {
        const int64_t i = t / across * product_tile, j = t % across * product_tile;
        cblas_dgemm(CblasRowMajor, p->trans_a ? CblasTrans : CblasNoTrans,
                    p->trans_b ? CblasTrans : CblasNoTrans, tile_end(i, product_tile, p->m) - (int)i,
                    tile_end(j, product_tile, p->n) - (int)j, (int)p->k, p->alpha,
                    p->a + (p->trans_a ? i : i * p->lda), (int)p->lda, p->b + (p->trans_b ? j * p->ldb : j),
                    (int)p->ldb, p->beta, p->c + i * p->ldc + j, (int)p->ldc);
    }
}

nd_status nd_cpu_gemm_f64(nd_backend *backend, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                          double alpha, const double *a, int64_t lda, const double *b, int64_t ldb,
                          double beta, double *c, int64_t ldc) {
    linalg_enter(backend);
    ND_REQUIRE(
        m <= INT_MAX && n <= INT_MAX && k <= INT_MAX && lda <= INT_MAX && ldb <= INT_MAX && ldc <= INT_MAX,
        nd_status_usage, "gemm: %lld x %lld x %lld is too large", (long long)m, (long long)n, (long long)k);
    product job = {trans_a, trans_b, m, n, k, lda, ldb, ldc, alpha, beta, a, b, c};
    const int64_t tiles = tiles_of(m, product_tile) * tiles_of(n, product_tile);
    if (tiles) nd_parallel_for(tiles, m * n / tiles * (k + 1), product_tiles, &job);
    return nd_status_ok;
}
