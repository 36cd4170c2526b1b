/* What dwpw and pwdw share: a kernel as many small matrices ("slices", one per input or output channel), the
 * singular values of each, and how many terms each slice keeps. */
#ifndef ND_DECOUPLE_SLICES_H
#define ND_DECOUPLE_SLICES_H

#include "decouple/methods/method.h"

/* Right singular vectors: sigma[count][n] descending, v[count][n][n] with the vectors in rows, signed so that
 * the largest |entry| is positive. `full` = min(m, n) of them can be other than zero. */
typedef struct nd_slices {
    int64_t count, full, n;
    double *sigma, *v;
} nd_slices;

/* a[count][m][n]. The backend's SVD takes n <= 64; wider slices go through their Gram matrices. */
nd_status nd_slices_svd(nd_backend *backend, int64_t count, int64_t m, int64_t n, const float *a,
                        nd_slices *out);
void nd_slices_free(nd_slices *slices);

/* How many leading terms each slice keeps: uniform gives each the same share of `rank`; adaptive takes the
 * largest scores[count][n] of each group of slices, ties to the lower slice, at most `cap` of one slice.
 * Every group gets rank / groups terms. kept[count]. */
nd_status nd_slices_select(int64_t count, int64_t n, const double *scores, int64_t groups, nd_ranks ranks,
                           int64_t rank, int64_t cap, int32_t *kept);

/* Answers nd_method.spectrum from the singular values. */
nd_status nd_slices_spectrum(const nd_slices *slices, int64_t groups, nd_ranks ranks, double **error2,
                             double **energy, size_t *count);

#endif
