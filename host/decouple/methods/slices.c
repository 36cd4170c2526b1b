#include "decouple/methods/slices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { svd_widest = 64 }; /* nd_linalg.svd */

void nd_slices_free(nd_slices *slices) {
    free(slices->sigma);
    free(slices->v);
    *slices = (nd_slices){0};
}

static void fix_sign(double *v, int64_t n) {
    int64_t largest = 0;
    for (int64_t t = 1; t < n; t++)
        if (fabs(v[t]) > fabs(v[largest])) largest = t;
    if (v[largest] >= 0) return;
    for (int64_t t = 0; t < n; t++) v[t] = -v[t];
}

/* Eigenvectors of a^T a. Squaring costs half the digits, which fp32 weights do not have in fp64. */
static nd_status svd_by_gram(nd_backend *backend, int64_t m, int64_t n, const float *a, double *sigma,
                             double *v) {
    nd_status status = nd_status_ok;
    double *wide = nd_alloc_array((size_t)m, (size_t)n * sizeof *wide);
    double *gram = nd_alloc_array((size_t)n, (size_t)n * sizeof *gram);
    double *values = nd_alloc_array((size_t)n, sizeof *values);
    ND_REQUIRE_DONE(wide && gram && values, nd_status_memory, "no memory for a %lldx%lld Gram matrix",
                    (long long)n, (long long)n);
    for (int64_t e = 0; e < m * n; e++) wide[e] = a[e];
    ND_TRY_DONE(backend->table->linalg.gemm(backend, true, false, n, n, m, 1, wide, n, wide, n, 0, gram, n));
    ND_TRY_DONE(backend->table->linalg.eigen(backend, 1, n, gram, values));
    for (int64_t k = 0; k < n; k++) {
        sigma[k] = k < m ? sqrt(fmax(values[n - 1 - k], 0)) : 0;
        memcpy(v + k * n, gram + (n - 1 - k) * n, (size_t)n * sizeof *v);
        fix_sign(v + k * n, n);
    }
done:
    free(wide);
    free(gram);
    free(values);
    return status;
}

nd_status nd_slices_svd(nd_backend *backend, int64_t count, int64_t m, int64_t n, const float *a,
                        nd_slices *out) {
    *out = (nd_slices){.count = count, .full = m < n ? m : n, .n = n};
    out->sigma = nd_alloc_array((size_t)(count * n), sizeof *out->sigma);
    out->v = nd_alloc_array((size_t)(count * n * n), sizeof *out->v);
    nd_status status = nd_status_ok;
    if (!out->sigma || !out->v)
        status = nd_fail(nd_status_memory, "no memory for %lld singular vectors", (long long)count * n);
    else if (n <= svd_widest)
        status = backend->table->linalg.svd(backend, count, m, n, a, out->sigma, out->v);
    else
        for (int64_t s = 0; !status && s < count; s++)
            status = svd_by_gram(backend, m, n, a + s * m * n, out->sigma + s * n, out->v + s * n * n);
    if (status) nd_slices_free(out);
    return status;
}

typedef struct candidate {
    double score;
    int32_t slice, term;
} candidate;

static int compare_candidates(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->slice != y->slice) return x->slice < y->slice ? -1 : 1;
    return (x->term > y->term) - (x->term < y->term);
}

nd_status nd_slices_select(int64_t count, int64_t n, const double *scores, int64_t groups, nd_ranks ranks,
                           int64_t rank, int64_t cap, int32_t *kept) {
    if (ranks == nd_ranks_uniform) {
        for (int64_t s = 0; s < count; s++) kept[s] = (int32_t)(rank / count);
        return nd_status_ok;
    }
    int64_t per_group = count / groups, n_candidates = per_group * cap;
    candidate *list = nd_alloc_array((size_t)n_candidates, sizeof *list);
    ND_REQUIRE(list, nd_status_memory, "no memory for choosing among %lld terms", (long long)n_candidates);
    memset(kept, 0, (size_t)count * sizeof *kept);
    for (int64_t g = 0; g < groups; g++) {
        for (int64_t c = 0; c < n_candidates; c++) {
            int64_t slice = g * per_group + c / cap;
            list[c] = (candidate){scores[slice * n + c % cap], (int32_t)slice, (int32_t)(c % cap)};
        }
        qsort(list, (size_t)n_candidates, sizeof *list, compare_candidates);
        for (int64_t r = 0; r < rank / groups && r < n_candidates; r++) kept[list[r].slice]++;
    }
    free(list);
    return nd_status_ok;
}

static int compare_descending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* gain[r] = sum over groups of the r-th largest sigma^2 of the group. */
static nd_status adaptive_gains(const nd_slices *slices, int64_t groups, double *gain, int64_t per_group) {
    double *sorted = nd_alloc_array((size_t)per_group, sizeof *sorted);
    ND_REQUIRE(sorted, nd_status_memory, "no memory for a spectrum");
    for (int64_t g = 0; g < groups; g++) {
        for (int64_t e = 0; e < per_group; e++) {
            int64_t slice = g * (slices->count / groups) + e / slices->full;
            double sigma = slices->sigma[slice * slices->n + e % slices->full];
            sorted[e] = sigma * sigma;
        }
        qsort(sorted, (size_t)per_group, sizeof *sorted, compare_descending);
        for (int64_t e = 0; e < per_group; e++) gain[e] += sorted[e];
    }
    free(sorted);
    return nd_status_ok;
}

/* Mean over the slices with energy of the share their T leading values hold, at T = 0..full. */
static void mean_energy(const nd_slices *slices, double *energy) {
    int64_t alive = 0;
    for (int64_t s = 0; s < slices->count; s++) {
        const double *sigma = slices->sigma + s * slices->n;
        double total = 0, sum = 0;
        for (int64_t k = 0; k < slices->full; k++) total += sigma[k] * sigma[k];
        if (!(total > 0)) continue;
        alive++;
        for (int64_t k = 0; k < slices->full; k++) {
            sum += sigma[k] * sigma[k];
            energy[k + 1] += sum / total;
        }
    }
    for (int64_t k = 1; k <= slices->full; k++) energy[k] = alive ? energy[k] / (double)alive : 1;
}

nd_status nd_slices_spectrum(const nd_slices *slices, int64_t groups, nd_ranks ranks, double **error2,
                             double **energy, size_t *count) {
    bool uniform = ranks == nd_ranks_uniform;
    int64_t steps = uniform ? slices->full : slices->count / groups * slices->full;
    nd_status status = nd_status_ok;
    double *gain = nd_alloc_array((size_t)steps, sizeof *gain);
    double *error = nd_alloc_array((size_t)steps + 1, sizeof *error);
    double *share = nd_alloc_array((size_t)steps + 1, sizeof *share);
    ND_REQUIRE_DONE(gain && error && share, nd_status_memory, "no memory for a spectrum");
    if (uniform)
        for (int64_t s = 0; s < slices->count; s++)
            for (int64_t k = 0; k < steps; k++)
                gain[k] += slices->sigma[s * slices->n + k] * slices->sigma[s * slices->n + k];
    else
        ND_TRY_DONE(adaptive_gains(slices, groups, gain, steps));
    for (int64_t r = steps; r > 0; r--) error[r - 1] = error[r] + gain[r - 1];
    if (uniform)
        mean_energy(slices, share);
    else
        for (int64_t r = 0; r <= steps; r++) share[r] = error[0] > 0 ? 1 - error[r] / error[0] : 1;
    *error2 = error;
    *energy = share;
    *count = (size_t)steps + 1;
    error = share = NULL;
done:
    free(gain);
    free(error);
    free(share);
    return status;
}
