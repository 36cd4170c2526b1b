/* cuSOLVER, over nd's reference linear algebra. */
#include "tests/cuda/mock/mock.h"

#include <cusolverDn.h>
#include <math.h>
#include <string.h>
#include <vector>

extern "C" {
#include "run/plugins.h"
}

namespace {

cudaStream_t stream_of(cusolverDnHandle_t solver) {
    return nd_mock_as<nd_mock_handle>(solver)->stream;
}

enum { workspace_bytes = 4096 }; /* asked for and overwritten, so that it must be there */

} // namespace

extern "C" {

cusolverStatus_t cusolverGetVersion(int *version) {
    *version = 12004;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *out) {
    *out = nullptr;
    ND_MOCK_CALL(CUSOLVER_STATUS_NOT_INITIALIZED);
    nd_mock_make<nd_mock_handle>("cuSOLVER handles", out);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t solver) {
    nd_mock_give_back<nd_mock_handle>("cuSOLVER handles", solver);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t solver, cudaStream_t stream) {
    nd_mock_as<nd_mock_handle>(solver)->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t *out) {
    *out = nullptr;
    ND_MOCK_CALL(CUSOLVER_STATUS_ALLOC_FAILED);
    nd_mock_make<char>("cuSOLVER params", out);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) {
    nd_mock_give_back<char>("cuSOLVER params", params);
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXsyevBatched_bufferSize(cusolverDnHandle_t, cusolverDnParams_t, cusolverEigMode_t,
                                                   cublasFillMode_t, int64_t, cudaDataType, const void *,
                                                   int64_t, cudaDataType, const void *, cudaDataType,
                                                   size_t *device, size_t *host, int64_t) {
    ND_MOCK_CALL(CUSOLVER_STATUS_INVALID_VALUE);
    *device = workspace_bytes;
    *host = 0;
    return CUSOLVER_STATUS_SUCCESS;
}

/* Columns of the column-major result are rows of the row-major one, as nd_linalg has them. */
cusolverStatus_t cusolverDnXsyevBatched(cusolverDnHandle_t solver, cusolverDnParams_t, cusolverEigMode_t,
                                        cublasFillMode_t, int64_t n, cudaDataType, void *a, int64_t,
                                        cudaDataType, void *values, cudaDataType, void *work, size_t bytes,
                                        void *, size_t, int *info, int64_t batch) {
    ND_MOCK_CALL(CUSOLVER_STATUS_EXECUTION_FAILED);
    if (bytes < workspace_bytes || !work) return CUSOLVER_STATUS_INVALID_VALUE;
    const bool diverges = nd_mock_fails("converge");
    nd_mock_enqueue(stream_of(solver), [=] {
        memset(work, 0xff, workspace_bytes);
        memset(info, 0, (size_t)batch * sizeof *info);
        if (diverges) info[batch - 1] = 1;
        return !nd_ref_linalg.eigen(nullptr, batch, n, (double *)a, (double *)values);
    });
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDgesvdaStridedBatched_bufferSize(cusolverDnHandle_t, cusolverEigMode_t, int, int,
                                                            int, const double *, int, long long,
                                                            const double *, long long, const double *, int,
                                                            long long, const double *, int, long long,
                                                            int *words, int) {
    ND_MOCK_CALL(CUSOLVER_STATUS_INVALID_VALUE);
    *words = workspace_bytes / 8;
    return CUSOLVER_STATUS_SUCCESS;
}

/* The library's answer for a slice of zeros is NaN. */
static bool one_slice(int m, int n, const double *a, double *s, double *v) {
    std::vector<float> rows((size_t)(m * n));
    float largest = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            rows[(size_t)(i * n + j)] = (float)a[j * m + i];
            largest = fmaxf(largest, fabsf((float)a[j * m + i]));
        }
    if (largest > 0) return !nd_ref_linalg.svd(nullptr, 1, m, n, rows.data(), s, v);
    for (int i = 0; i < n * n; i++) v[i] = NAN;
    return true;
}

cusolverStatus_t cusolverDnDgesvdaStridedBatched(cusolverDnHandle_t solver, cusolverEigMode_t, int rank,
                                                 int m, int n, const double *a, int, long long stride_a,
                                                 double *s, long long stride_s, double *, int, long long,
                                                 double *v, int, long long stride_v, double *work, int words,
                                                 int *info, double *residuals, int batch) {
    ND_MOCK_CALL(CUSOLVER_STATUS_EXECUTION_FAILED);
    if (words < workspace_bytes / 8 || !work || m < n || rank != n) return CUSOLVER_STATUS_INVALID_VALUE;
    memset(residuals, 0, (size_t)batch * sizeof *residuals);
    const bool diverges = nd_mock_fails("converge");
    nd_mock_enqueue(stream_of(solver), [=] {
        memset(info, 0, (size_t)batch * sizeof *info);
        for (int i = 0; i < batch; i++)
            if (!one_slice(m, n, a + i * stride_a, s + i * stride_s, v + i * stride_v)) return false;
        if (diverges) info[batch - 1] = 1;
        if (diverges) v[(batch - 1) * stride_v] += 1;
        return true;
    });
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t, cusolverDnParams_t, cublasFillMode_t,
                                             int64_t, cudaDataType, const void *, int64_t, cudaDataType,
                                             size_t *device, size_t *host) {
    ND_MOCK_CALL(CUSOLVER_STATUS_INVALID_VALUE);
    *device = workspace_bytes;
    *host = 64;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t solver, cusolverDnParams_t, cublasFillMode_t uplo,
                                  int64_t n, cudaDataType, void *a, int64_t, cudaDataType, void *work,
                                  size_t bytes, void *, size_t host_bytes, int *info) {
    ND_MOCK_CALL(CUSOLVER_STATUS_EXECUTION_FAILED);
    if (uplo != CUBLAS_FILL_MODE_UPPER || bytes < workspace_bytes || host_bytes < 64 || !work)
        return CUSOLVER_STATUS_INVALID_VALUE;
    nd_mock_enqueue(stream_of(solver), [=] {
        *info = nd_ref_linalg.solve(nullptr, n, (double *)a, false, 0, nullptr) ? 1 : 0;
        return true;
    });
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXpotrs(cusolverDnHandle_t solver, cusolverDnParams_t, cublasFillMode_t uplo,
                                  int64_t n, int64_t n_rhs, cudaDataType, const void *a, int64_t,
                                  cudaDataType, void *b, int64_t, int *info) {
    ND_MOCK_CALL(CUSOLVER_STATUS_EXECUTION_FAILED);
    if (uplo != CUBLAS_FILL_MODE_UPPER) return CUSOLVER_STATUS_INVALID_VALUE;
    nd_mock_enqueue(stream_of(solver), [=] {
        *info = 0;
        return !nd_ref_linalg.solve(nullptr, n, (double *)(uintptr_t)a, true, n_rhs, (double *)b);
    });
    return CUSOLVER_STATUS_SUCCESS;
}

} // extern "C"
