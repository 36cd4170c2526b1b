#include "run/cpu/linalg/cholesky.h"

#include "base/parallel.h"

#include <cblas.h>
#include <lapacke.h>

/* Right-looking: a block of columns is factored, the rows below are solved with it, and their products are
 * subtracted from the rest of the matrix, which is where the time goes. */
enum { columns = 128, tile = 256 };

typedef struct step {
    int n;
    double *a;
    int done, below; /* the block of columns is [done, below) */
} step;

static int least(int64_t x, int64_t y) {
    return (int)(x < y ? x : y);
}

static double *at(const step *s, int64_t row, int64_t column) {
    return s->a + row * s->n + column;
}

static int64_t tiles_below(const step *s) {
    return (s->n - s->below + tile - 1) / tile;
}

static void solve_rows(void *context, int64_t begin, int64_t end, int worker) {
    const step *s = context;
    (void)worker;
    for (int64_t t = begin; t < end; t++) {
        const int64_t row = s->below + t * tile;
        cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, least(tile, s->n - row),
                    s->below - s->done, 1, at(s, s->done, s->done), s->n, at(s, row, s->done), s->n);
    }
}

static void update_tile(const step *s, int64_t i, int64_t j) {
    const int width = s->below - s->done, rows = least(tile, s->n - i);
    if (i == j) {
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, rows, width, -1, at(s, i, s->done), s->n, 1,
                    at(s, i, i), s->n);
    } else {
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, tile, width, -1, at(s, i, s->done), s->n,
                    at(s, j, s->done), s->n, 1, at(s, i, j), s->n);
    }
}

/* Tiles of the lower triangle, counted by rows: row r has r + 1 of them. */
static void update_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const step *s = context;
    int64_t row = 0, column = begin;
    (void)worker;
    for (; column > row; row++) column -= row + 1;
    for (int64_t t = begin; t < end; t++) {
        update_tile(s, s->below + row * tile, s->below + column * tile);
        if (column++ == row) {
            row++;
            column = 0;
        }
    }
}

int64_t nd_cpu_cholesky(int64_t n, double *a) {
    step s = {.n = (int)n, .a = a};
    for (; s.done < n; s.done = s.below) {
        s.below = least(s.done + columns, n);
        const int width = s.below - s.done;
        const lapack_int failed =
            LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', width, at(&s, s.done, s.done), s.n);
        if (failed) return s.done + failed;
        const int64_t tiles = tiles_below(&s), cost = (int64_t)width * tile;
        nd_parallel_for(tiles, cost * width, solve_rows, &s);
        nd_parallel_for(tiles * (tiles + 1) / 2, cost * tile, update_tiles, &s);
    }
    return 0;
}
