#include "run/ref/linalg/linalg.h"

#include <math.h>

enum { nd_jacobi_sweeps = 40 }; /* quadratic convergence: 6 to 10 are used */

static void jacobi_rotate(double *restrict p, double *restrict q, int64_t n, double c, double s) {
    for (int64_t k = 0; k < n; k++) {
        const double x = p[k], y = q[k];
        p[k] = c * x - s * y;
        q[k] = s * x + c * y;
    }
}

/* Zeroes a[p][q] by a rotation of axes p and q. Rows are rotated as vectors; columns follow by symmetry. */
static void jacobi_annihilate(int64_t n, double *a, double *v, int64_t p, int64_t q) {
    double *row_p = a + p * n, *row_q = a + q * n;
    const double app = row_p[p], aqq = row_q[q], apq = row_p[q];
    /* t = tan of the smaller of the two angles that do it. */
    const double theta = (aqq - app) / (2 * apq);
    const double t = copysign(1, theta) / (fabs(theta) + sqrt(theta * theta + 1));
    const double c = 1 / sqrt(t * t + 1), s = t * c;
    jacobi_rotate(row_p, row_q, n, c, s);
    jacobi_rotate(v + p * n, v + q * n, n, c, s);
    for (int64_t k = 0; k < n; k++) {
        a[k * n + p] = row_p[k];
        a[k * n + q] = row_q[k];
    }
    row_p[p] = app - t * apq;
    row_q[q] = aqq + t * apq;
    row_p[q] = row_q[p] = 0;
}

/* Descending, by insertion: stable, and n is small or nearly sorted. */
static void jacobi_sort(int64_t n, double *values, double *v) {
    for (int64_t i = 1; i < n; i++)
        for (int64_t j = i; j > 0 && values[j] > values[j - 1]; j--) {
            const double value = values[j];
            values[j] = values[j - 1];
            values[j - 1] = value;
            for (int64_t k = 0; k < n; k++) {
                const double x = v[j * n + k];
                v[j * n + k] = v[(j - 1) * n + k];
                v[(j - 1) * n + k] = x;
            }
        }
}

void nd_ref_jacobi(int64_t n, double *a, double *values, double *v) {
    for (int64_t i = 0; i < n * n; i++) v[i] = i % (n + 1) == 0;
    double trace = 0;
    for (int64_t i = 0; i < n; i++) trace += fabs(a[i * n + i]);
    bool rotated = true;
    for (int sweep = 0; rotated && sweep < nd_jacobi_sweeps; sweep++) {
        rotated = false;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) {
                /* Measured by its own diagonal, for relative accuracy of the small eigenvalues of a graded
                 * matrix, down to where nothing is left but the rounding of the matrix itself. */
                const double limit = 0x1p-53 * sqrt(fabs(a[p * n + p]) * fabs(a[q * n + q]));
                if (fabs(a[p * n + q]) <= fmax(limit, 0x1p-70 * trace)) continue;
                jacobi_annihilate(n, a, v, p, q);
                rotated = true;
            }
    }
    for (int64_t i = 0; i < n; i++) values[i] = a[i * n + i];
    jacobi_sort(n, values, v);
}
