/* Rows by conjugate gradients: the normal equations of an output with T terms have T cols unknowns, and their
 * matrix differs from output to output, where the products of all outputs with g are one product of matrices
 * and a step of all of them. About that matrix is the Kronecker product of v S v^T and the covariance of the
 * channels, whose inverse makes a few steps enough. Filters have s T unknowns only and are solved for
 * exactly. */
#include "decouple/methods/pwdw_alternate.h"

#include "base/memory.h"
#include "base/parallel.h"
#include "decouple/fit/refit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { rounds = 3, most_steps = 4, gram_bytes = 256 << 20 };
/* An output is done when the squared norm of its residual, preconditioned, has fallen by this. */
static const double tolerance = 1e-3;
static const double jitter = 1e-6; /* of the mean of a diagonal */

typedef struct alternation {
    nd_backend *backend;
    const nd_pwdw_problem *at;
    int64_t k, most;          /* most terms of one output */
    int64_t *first;           /* [n_out + 1]: number of its first term */
    double *w, *wg;           /* [n_out][k] */
    const double *rows;       /* what `w` is composed of, with the filters */
    double *rest, *z, *p, *q; /* [rank][cols]: residual, preconditioned, direction and its image */
    double *near;             /* [n_out][most][most]: inverse of v S v^T */
    double *size, *start;     /* [n_out]: squared norm of the residual, now and at first */
} alternation;

/* --- one output --- */

/* w_o = sum over its terms of rows[i] v[t] */
static void compose_output(const alternation *a, int64_t o) {
    const nd_pwdw_problem *at = a->at;
    const int64_t s = at->s;
    double *w = a->w + o * a->k;
    memset(w, 0, (size_t)a->k * sizeof *w);
    for (int64_t term = a->first[o]; term < a->first[o + 1]; term++)
        for (int64_t i = 0; i < at->cols; i++)
            for (int64_t t = 0; t < s; t++)
                w[i * s + t] += a->rows[term * at->cols + i] * at->v[term * s + t];
}

/* out[term][i] = sum over t of v[term][t] x[i][t] */
static void contract(const alternation *a, int64_t o, const double *x, double *out) {
    const nd_pwdw_problem *at = a->at;
    const int64_t s = at->s;
    for (int64_t term = a->first[o]; term < a->first[o + 1]; term++)
        for (int64_t i = 0; i < at->cols; i++) {
            double sum = 0;
            for (int64_t t = 0; t < s; t++) sum += at->v[term * s + t] * x[i * s + t];
            out[term * at->cols + i] = sum;
        }
}

static double dot(const alternation *a, int64_t o, const double *x, const double *y) {
    double sum = 0;
    for (int64_t e = a->first[o] * a->at->cols; e < a->first[o + 1] * a->at->cols; e++) sum += x[e] * y[e];
    return sum;
}

static void compose(void *context, int64_t begin, int64_t end, int worker) {
    const alternation *a = context;
    (void)worker;
    for (int64_t o = begin; o < end; o++) compose_output(a, o);
}

static void residual(void *context, int64_t begin, int64_t end, int worker) {
    const alternation *a = context;
    (void)worker;
    for (int64_t o = begin; o < end; o++) {
        double *wg = a->wg + o * a->k;
        for (int64_t e = 0; e < a->k; e++) wg[e] = a->at->h[o * a->k + e] - wg[e];
        contract(a, o, wg, a->rest);
    }
}

/* z = near z, within the terms of an output; p takes what stays of it, and the new direction. */
static void new_direction(void *context, int64_t begin, int64_t end, int worker) {
    const alternation *a = context;
    const int64_t cols = a->at->cols;
    (void)worker;
    for (int64_t o = begin; o < end; o++) {
        const int64_t terms = a->first[o + 1] - a->first[o], base = a->first[o] * cols;
        const double *near = a->near + o * a->most * a->most;
        double *z = a->z + base, *y = a->q + base, *p = a->p + base;
        memcpy(y, z, (size_t)(terms * cols) * sizeof *y);
        memset(z, 0, (size_t)(terms * cols) * sizeof *z);
        for (int64_t b = 0; b < terms; b++)
            for (int64_t c = 0; c < terms; c++)
                for (int64_t i = 0; i < cols; i++) z[b * cols + i] += near[b * terms + c] * y[c * cols + i];
        const double before = a->size[o], now = dot(a, o, a->rest, a->z);
        const double kept = before > 0 ? now / before : 0;
        for (int64_t e = 0; e < terms * cols; e++) p[e] = z[e] + kept * p[e];
        a->size[o] = now;
    }
}

static bool is_done(const alternation *a, int64_t o) {
    return !(a->size[o] > tolerance * a->start[o]);
}

static bool all_done(const alternation *a) {
    int64_t o = 0;
    while (o < a->at->n_out && is_done(a, o)) o++;
    return o == a->at->n_out;
}

/* Along the direction to where the error is least; an output that is done stays. */
static void step(void *context, int64_t begin, int64_t end, int worker) {
    const alternation *a = context;
    const int64_t cols = a->at->cols;
    (void)worker;
    for (int64_t o = begin; o < end; o++) {
        contract(a, o, a->wg + o * a->k, a->q);
        const double curvature = dot(a, o, a->p, a->q);
        const double length = a->size[o] / curvature;
        if (is_done(a, o) || !(curvature > 0) || !isfinite(length)) continue;
        for (int64_t e = a->first[o] * cols; e < a->first[o + 1] * cols; e++) {
            a->at->u[e] += length * a->p[e];
            a->rest[e] -= length * a->q[e];
        }
    }
}

/* --- rows --- */

/* near = (v S v^T)^-1 of every output. */
static nd_status invert_filters(alternation *a) {
    const nd_pwdw_problem *at = a->at;
    const int64_t s = at->s;
    const size_t square = (size_t)(a->most * a->most);
    double *gram = nd_alloc_array(square, sizeof *gram), *vs = nd_alloc_array((size_t)s, sizeof *vs);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(gram && vs, nd_status_memory, "no memory for filters");
    for (int64_t o = 0; o < at->n_out; o++) {
        const int64_t terms = at->kept[o];
        const double *v = at->v + a->first[o] * s;
        double *near = a->near + o * a->most * a->most, trace = 0;
        for (int64_t b = 0; b < terms; b++) {
            for (int64_t t = 0; t < s; t++) {
                vs[t] = 0;
                for (int64_t r = 0; r < s; r++) vs[t] += v[b * s + r] * at->space[r * s + t];
            }
            for (int64_t c = 0; c < terms; c++) {
                double sum = 0;
                for (int64_t t = 0; t < s; t++) sum += vs[t] * v[c * s + t];
                gram[b * terms + c] = sum;
                near[b * terms + c] = b == c;
            }
            trace += gram[b * terms + b];
        }
        for (int64_t b = 0; b < terms; b++)
            gram[b * terms + b] += trace > 0 ? jitter * trace / (double)terms : 1;
        if (terms) ND_TRY_DONE(a->backend->table->linalg.solve(a->backend, terms, gram, false, terms, near));
    }
done:
    free(gram);
    free(vs);
    return status;
}

/* wg = w g of all outputs, w composed of `rows` */
static nd_status multiply(alternation *a, const double *rows) {
    a->rows = rows;
    nd_parallel_for(a->at->n_out, a->most * a->k, compose, a);
    return a->backend->table->linalg.gemm(a->backend, false, false, a->at->n_out, a->k, a->k, 1, a->w, a->k,
                                          a->at->g, a->k, 0, a->wg, a->k);
}

static nd_status solve_rows(alternation *a) {
    const nd_pwdw_problem *at = a->at;
    const int64_t cost = a->most * a->k;
    ND_TRY(invert_filters(a));
    ND_TRY(multiply(a, at->u));
    nd_parallel_for(at->n_out, cost, residual, a);
    memset(a->p, 0, (size_t)(at->rank * at->cols) * sizeof *a->p);
    memset(a->size, 0, (size_t)at->n_out * sizeof *a->size);
    for (int i = 0; i < most_steps; i++) {
        ND_TRY(a->backend->table->linalg.gemm(a->backend, false, false, at->rank, at->cols, at->cols, 1,
                                              a->rest, at->cols, at->precision, at->cols, 0, a->z, at->cols));
        nd_parallel_for(at->n_out, cost, new_direction, a);
        if (!i) memcpy(a->start, a->size, (size_t)at->n_out * sizeof *a->start);
        if (all_done(a)) break;
        ND_TRY(multiply(a, a->p));
        nd_parallel_for(at->n_out, cost, step, a);
    }
    return nd_status_ok;
}

/* --- filters --- */

/* The normal equations of the filters of outputs [begin, end). */
typedef struct filters {
    const alternation *a;
    int64_t begin, tap;
    int64_t *offset; /* [n_out]: of an output's matrix in `gram` */
    double *product; /* [terms][k]: rows times those of g at the tap */
    double *gram;
} filters;

static void gram_of_tap(void *context, int64_t begin, int64_t end, int worker) {
    const filters *f = context;
    const alternation *a = f->a;
    const int64_t s = a->at->s, cols = a->at->cols;
    (void)worker;
    for (int64_t o = f->begin + begin; o < f->begin + end; o++) {
        const int64_t terms = a->at->kept[o], n = terms * s;
        double *gram = f->gram + f->offset[o];
        for (int64_t b = 0; b < terms; b++)
            for (int64_t c = 0; c < terms; c++) {
                const double *u = a->at->u + (a->first[o] + b) * cols;
                const double *x = f->product + (a->first[o] + c - a->first[f->begin]) * a->k;
                double *sum = gram + (c * s + f->tap) * n + b * s;
                for (int64_t i = 0; i < cols; i++)
                    for (int64_t t = 0; t < s; t++) sum[t] += u[i] * x[i * s + t];
            }
    }
}

static nd_status solve_output(const filters *f, int64_t o) {
    const alternation *a = f->a;
    const int64_t s = a->at->s, cols = a->at->cols, terms = a->at->kept[o];
    double *v = a->at->v + a->first[o] * s;
    if (!terms) return nd_status_ok;
    memset(v, 0, (size_t)(terms * s) * sizeof *v);
    for (int64_t b = 0; b < terms; b++)
        for (int64_t i = 0; i < cols; i++)
            for (int64_t t = 0; t < s; t++)
                v[b * s + t] += a->at->u[(a->first[o] + b) * cols + i] * a->at->h[o * a->k + i * s + t];
    return nd_refit_gram(a->backend, terms * s, f->gram + f->offset[o], 1, v);
}

static nd_status solve_block(filters *f, int64_t end) {
    const alternation *a = f->a;
    const int64_t s = a->at->s, cols = a->at->cols, first = a->first[f->begin];
    const int64_t terms = a->first[end] - first;
    for (f->tap = 0; terms && f->tap < s; f->tap++) {
        ND_TRY(a->backend->table->linalg.gemm(a->backend, false, false, terms, a->k, cols, 1,
                                              a->at->u + first * cols, cols, a->at->g + f->tap * a->k,
                                              s * a->k, 0, f->product, a->k));
        nd_parallel_for(end - f->begin, a->most * a->most * a->k, gram_of_tap, f);
    }
    for (int64_t o = f->begin; o < end; o++) ND_TRY(solve_output(f, o));
    return nd_status_ok;
}

/* As many outputs at a time as there is room for their matrices; at least one. */
static nd_status solve_filters(alternation *a) {
    const nd_pwdw_problem *at = a->at;
    const int64_t largest = a->most * at->s * a->most * at->s;
    const int64_t room =
        gram_bytes / (int64_t)sizeof(double) > largest ? gram_bytes / (int64_t)sizeof(double) : largest;
    filters f = {.a = a};
    nd_status status = nd_status_ok;
    int64_t used = 0;
    for (int64_t o = 0; o < at->n_out; o++) used += (int64_t)at->kept[o] * at->s * at->kept[o] * at->s;
    const int64_t size = used < room ? used : room;
    f.offset = nd_alloc_array((size_t)at->n_out, sizeof *f.offset);
    f.product = nd_alloc_array((size_t)at->rank, (size_t)a->k * sizeof *f.product);
    f.gram = nd_alloc_array((size_t)size, sizeof *f.gram);
    ND_REQUIRE_DONE(f.offset && f.product && f.gram, nd_status_memory, "no memory for the filters of a fit");
    for (int64_t end = 0; f.begin < at->n_out; f.begin = end) {
        for (used = 0; end < at->n_out; end++) {
            const int64_t n = at->kept[end] * at->s;
            if (used + n * n > size) break;
            f.offset[end] = used;
            used += n * n;
        }
        memset(f.gram, 0, (size_t)used * sizeof *f.gram);
        ND_TRY_DONE(solve_block(&f, end));
    }
done:
    free(f.offset);
    free(f.product);
    free(f.gram);
    return status;
}

/* --- rounds --- */

static nd_status open_alternation(alternation *a) {
    const nd_pwdw_problem *at = a->at;
    const size_t n = (size_t)at->n_out, numbers = (size_t)(at->rank * at->cols);
    a->k = at->cols * at->s;
    a->first = nd_alloc_array(n + 1, sizeof *a->first);
    ND_REQUIRE(a->first, nd_status_memory, "no memory for a fit");
    for (int64_t o = 0; o < at->n_out; o++) {
        a->first[o + 1] = a->first[o] + at->kept[o];
        if (at->kept[o] > a->most) a->most = at->kept[o];
    }
    double **const rows[] = {&a->rest, &a->z, &a->p, &a->q};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        *rows[i] = nd_alloc_array(numbers, sizeof **rows[i]);
    a->w = nd_alloc_array(n, (size_t)a->k * sizeof *a->w);
    a->wg = nd_alloc_array(n, (size_t)a->k * sizeof *a->wg);
    a->near = nd_alloc_array(n, (size_t)(a->most * a->most) * sizeof *a->near);
    a->size = nd_alloc_array(n, sizeof *a->size);
    a->start = nd_alloc_array(n, sizeof *a->start);
    ND_REQUIRE(a->w && a->wg && a->rest && a->z && a->p && a->q && a->near && a->size && a->start,
               nd_status_memory, "no memory for a fit");
    return nd_status_ok;
}

static void close_alternation(alternation *a) {
    free(a->first);
    free(a->w);
    free(a->wg);
    free(a->rest);
    free(a->z);
    free(a->p);
    free(a->q);
    free(a->near);
    free(a->size);
    free(a->start);
}

nd_status nd_pwdw_alternate(nd_backend *backend, const nd_pwdw_problem *problem) {
    alternation a = {.backend = backend, .at = problem};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(open_alternation(&a));
    for (int i = 0; problem->rank && i < rounds; i++) {
        ND_TRY_DONE(solve_rows(&a));
        ND_TRY_DONE(solve_filters(&a));
    }
done:
    close_alternation(&a);
    return status;
}
