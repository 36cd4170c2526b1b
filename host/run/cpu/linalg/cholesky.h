/* The Cholesky factor of a symmetric matrix, by blocks in parallel loops: the same bits with any number of
 * threads, where LAPACK's own depends on it. */
#ifndef ND_RUN_CPU_CHOLESKY_H
#define ND_RUN_CPU_CHOLESKY_H

#include <stdint.h>

/* a[n][n], row-major, lower triangle -> L of a = L L^T, in place; what is right of the diagonal is not
 * touched. n <= INT_MAX. 0, or 1 + the pivot that is not positive. */
int64_t nd_cpu_cholesky(int64_t n, double *a);

#endif
