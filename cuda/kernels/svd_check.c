#include "cuda/kernels/svd_check.h"

#include <math.h>
#include <string.h>

static double svd_dot(int64_t n, const double *a, const double *b) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* gram[k][l] = (a v_k) . (a v_l), a row of a at a time. Returns |a|^2. */
static double svd_project(int64_t m, int64_t n, const float *a, const double *v, double *gram) {
    double row[nd_svd_columns_max], image[nd_svd_columns_max], energy = 0;
    memset(gram, 0, (size_t)(n * n) * sizeof *gram);
    for (int64_t r = 0; r < m; r++) {
        for (int64_t i = 0; i < n; i++) row[i] = a[r * n + i];
        energy += svd_dot(n, row, row);
        for (int64_t k = 0; k < n; k++) image[k] = svd_dot(n, row, v + k * n);
        for (int64_t k = 0; k < n; k++)
            for (int64_t l = k; l < n; l++) gram[k * n + l] += image[k] * image[l];
    }
    return energy;
}

static double svd_residual(int64_t n, const double *v, const double *gram, double energy) {
    double worst = 0, trace = 0;
    for (int64_t k = 0; k < n; k++) {
        trace += gram[k * n + k];
        for (int64_t l = k; l < n; l++) {
            const double skew = fabs(svd_dot(n, v + k * n, v + l * n) - (k == l));
            const double coupled = k == l ? 0 : fabs(gram[k * n + l]) / energy;
            /* fmax passes NaN over; it must not pass here */
            if (!(skew <= worst)) worst = skew;
            if (!(coupled <= worst)) worst = coupled;
        }
    }
    const double lost = fabs(trace - energy) / energy;
    return lost <= worst ? worst : lost;
}

static void svd_swap(int64_t n, double *a, double *b) {
    for (int64_t i = 0; i < n; i++) {
        const double keep = a[i];
        a[i] = b[i];
        b[i] = keep;
    }
}

static void svd_fix_sign(int64_t n, double *v) {
    int64_t largest = 0;
    for (int64_t i = 1; i < n; i++)
        if (fabs(v[i]) > fabs(v[largest])) largest = i;
    if (v[largest] >= 0) return;
    for (int64_t i = 0; i < n; i++) v[i] = -v[i];
}

bool nd_svd_finish(int64_t m, int64_t n, const float *a, double *sigma, double *v, double *residual) {
    double gram[nd_svd_columns_max * nd_svd_columns_max];
    const double energy = svd_project(m, n, a, v, gram);
    *residual = 0;
    if (energy == 0) {
        memset(sigma, 0, (size_t)n * sizeof *sigma);
        memset(v, 0, (size_t)(n * n) * sizeof *v);
        for (int64_t i = 0; i < n; i++) v[i * n + i] = 1;
        return true;
    }
    *residual = svd_residual(n, v, gram, energy);
    if (!(*residual <= 1e-9)) return false;
    for (int64_t k = 0; k < n; k++) sigma[k] = sqrt(gram[k * n + k]);
    for (int64_t k = 1; k < n; k++)
        for (int64_t l = k; l > 0 && sigma[l] > sigma[l - 1]; l--) {
            svd_swap(1, sigma + l, sigma + l - 1);
            svd_swap(n, v + l * n, v + (l - 1) * n);
        }
    for (int64_t k = 0; k < n; k++) {
        if (k >= m) sigma[k] = 0;
        svd_fix_sign(n, v + k * n);
    }
    return true;
}
