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
    accumulate_blocks = 4,  /* of that many rows at once */
    accumulate_tile = 32,   /* the mirrored triangle is read by columns: a tile of it stays in cache */
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

/* One block of rows: its sums in fp32, each block on its own. */
typedef struct accumulation {
    int64_t n, k, m;
    const float *a, *b;
    bool symmetric; /* only the triangle at and right of the diagonal of a part is set */
    int64_t blocks; /* at once */
    int64_t tiles_k, tiles_m;
    int64_t first; /* row of the first block */
    float *parts;  /* [blocks][k][m] */
    double *c;
} accumulation;

static int64_t tiles_of(int64_t n) {
    return (n + product_tile - 1) / product_tile;
}

static int tile_end(int64_t begin, int64_t n) {
    return (int)(begin + product_tile < n ? begin + product_tile : n);
}

static void accumulate_tile_of(const accumulation *s, int64_t block, int64_t i, int64_t j) {
    const int64_t row = s->first + block * accumulate_rows;
    const int rows = (int)(s->n - row < accumulate_rows ? s->n - row : accumulate_rows);
    const int height = tile_end(i, s->k) - (int)i, width = tile_end(j, s->m) - (int)j;
    float *part = s->parts + block * s->k * s->m + i * s->m + j;
    if (s->symmetric && j < i) return;
    if (s->symmetric && i == j) {
        cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, height, rows, 1, s->a + row * s->k + i, (int)s->k,
                    0, part, (int)s->m);
    } else {
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, height, width, rows, 1, s->a + row * s->k + i,
                    (int)s->k, s->b + row * s->m + j, (int)s->m, 0, part, (int)s->m);
    }
}

static void accumulate_products(void *context, int64_t begin, int64_t end, int worker) {
    const accumulation *s = context;
    (void)worker;
    for (int64_t t = begin; t < end; t++) {
        const int64_t block = t / (s->tiles_k * s->tiles_m), tile = t % (s->tiles_k * s->tiles_m);
        accumulate_tile_of(s, block, tile / s->tiles_m * product_tile, tile % s->tiles_m * product_tile);
    }
}

static void accumulate_add_tile(const accumulation *s, const float *part, int64_t i0, int64_t i1, int64_t j0,
                                int64_t j1) {
    for (int64_t i = i0; i < i1; i++) {
        for (int64_t j = j0; j < j1; j++) {
            s->c[i * s->m + j] += s->symmetric && j < i ? part[j * s->m + i] : part[i * s->m + j];
        }
    }
}

/* The blocks in their order, whoever summed them. */
static void accumulate_add(void *context, int64_t begin, int64_t end, int worker) {
    const accumulation *s = context;
    const int64_t tile = accumulate_tile;
    (void)worker;
    for (int64_t i = begin; i < end; i += tile) {
        for (int64_t j = 0; j < s->m; j += tile) {
            for (int64_t block = 0; block < s->blocks; block++)
                accumulate_add_tile(s, s->parts + block * s->k * s->m, i, i + tile < end ? i + tile : end, j,
                                    j + tile < s->m ? j + tile : s->m);
        }
    }
}

nd_status nd_cpu_accumulate(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                            const float *b, double *c) {
    linalg_enter(backend);
    ND_REQUIRE(k <= INT_MAX && m <= INT_MAX, nd_status_usage, "accumulate: %lld x %lld is too large",
               (long long)k, (long long)m);
    /* Where the result is of few tiles the rows are what there is to divide. */
    const int64_t tiles = tiles_of(k) * tiles_of(m), most = tiles < 8 ? accumulate_blocks : 1;
    float *parts = nd_alloc_array((size_t)(most * k), (size_t)m * sizeof *parts);
    ND_REQUIRE(parts, nd_status_memory, "accumulate: no memory for %lld x %lld sums", (long long)k,
               (long long)m);
    accumulation sum = {.n = n, .k = k, .m = m, .a = a, .b = b, .symmetric = a == b && k == m, .c = c};
    sum.parts = parts;
    sum.tiles_k = tiles_of(k);
    sum.tiles_m = tiles_of(m);
    for (; sum.first < n; sum.first += most * accumulate_rows) {
        const int64_t left = (n - sum.first + accumulate_rows - 1) / accumulate_rows;
        sum.blocks = left < most ? left : most;
        nd_parallel_for(sum.blocks * tiles, k * m / tiles * accumulate_rows, accumulate_products, &sum);
        nd_parallel_for(k, m * sum.blocks, accumulate_add, &sum);
    }
    free(parts);
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
    for (int64_t t = begin; t < end; t++) {
        const int64_t i = t / tiles_of(p->n) * product_tile, j = t % tiles_of(p->n) * product_tile;
        cblas_dgemm(CblasRowMajor, p->trans_a ? CblasTrans : CblasNoTrans,
                    p->trans_b ? CblasTrans : CblasNoTrans, tile_end(i, p->m) - (int)i,
                    tile_end(j, p->n) - (int)j, (int)p->k, p->alpha, p->a + (p->trans_a ? i : i * p->lda),
                    (int)p->lda, p->b + (p->trans_b ? j * p->ldb : j), (int)p->ldb, p->beta,
                    p->c + i * p->ldc + j, (int)p->ldc);
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
    const int64_t tiles = tiles_of(m) * tiles_of(n);
    if (tiles) nd_parallel_for(tiles, m * n / tiles * (k + 1), product_tiles, &job);
    return nd_status_ok;
}
