/* cuBLAS and cuBLASLt, column-major, by plain loops. */
#include "tests/cuda/mock/mock.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <string.h>
#include <vector>

namespace {

template <class T> struct product {
    bool trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    T alpha, beta;
};

template <class T> void multiply(const product<T> &p, const T *a, const T *b, T *c) {
    for (int64_t j = 0; j < p.n; j++)
        for (int64_t i = 0; i < p.m; i++) {
            T sum = 0;
            for (int64_t l = 0; l < p.k; l++)
                sum += (p.trans_a ? a[i * p.lda + l] : a[l * p.lda + i]) *
                       (p.trans_b ? b[l * p.ldb + j] : b[j * p.ldb + l]);
            T &out = c[j * p.ldc + i];
            out = p.alpha * sum + (p.beta ? p.beta * out : 0);
        }
}

/* cuBLASLt's descriptors, as its setters fill them. */
struct preferences {
    uint64_t workspace = 0;
    uint32_t alignment[4] = {256, 256, 256, 256}; /* of A, B, C, D */
};

struct layout {
    nd_dtype type;
    int64_t rows, columns, distance;
};

struct matmul {
    cublasComputeType_t compute;
    cublasOperation_t trans_a = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;

    bool biased() const {
        return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
    }
};

nd_dtype dtype_of(cudaDataType_t type) {
    return type == CUDA_R_16F ? nd_dtype_f16 : type == CUDA_R_16BF ? nd_dtype_bf16 : nd_dtype_f32;
}

} // namespace

extern "C" {

const char *cublasGetStatusString(cublasStatus_t) {
    return "mock cuBLAS status";
}

cublasStatus_t cublasCreate_v2(cublasHandle_t *out) {
    *out = nullptr;
    ND_MOCK_CALL(CUBLAS_STATUS_NOT_INITIALIZED);
    nd_mock_make<nd_mock_handle>("cuBLAS handles", out);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t blas) {
    nd_mock_give_back<nd_mock_handle>("cuBLAS handles", blas);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t blas, cudaStream_t stream) {
    nd_mock_as<nd_mock_handle>(blas)->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) {
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemm_v2_64(cublasHandle_t blas, cublasOperation_t ta, cublasOperation_t tb, int64_t m,
                                 int64_t n, int64_t k, const float *alpha, const float *a, int64_t lda,
                                 const float *b, int64_t ldb, const float *beta, float *c, int64_t ldc) {
    ND_MOCK_CALL(CUBLAS_STATUS_EXECUTION_FAILED);
    const product<float> p = {ta != CUBLAS_OP_N, tb != CUBLAS_OP_N, m, n, k, lda, ldb, ldc, *alpha, *beta};
    nd_mock_enqueue(nd_mock_as<nd_mock_handle>(blas)->stream, [=] { return multiply(p, a, b, c), true; });
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDgemmStridedBatched_64(cublasHandle_t blas, cublasOperation_t ta, cublasOperation_t tb,
                                            int64_t m, int64_t n, int64_t k, const double *alpha,
                                            const double *a, int64_t lda, long long stride_a, const double *b,
                                            int64_t ldb, long long stride_b, const double *beta, double *c,
                                            int64_t ldc, long long stride_c, int64_t count) {
    ND_MOCK_CALL(CUBLAS_STATUS_EXECUTION_FAILED);
    const product<double> p = {ta != CUBLAS_OP_N, tb != CUBLAS_OP_N, m, n, k, lda, ldb, ldc, *alpha, *beta};
    nd_mock_enqueue(nd_mock_as<nd_mock_handle>(blas)->stream, [=] {
        for (int64_t i = 0; i < count; i++) multiply(p, a + i * stride_a, b + i * stride_b, c + i * stride_c);
        return true;
    });
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDgemm_v2_64(cublasHandle_t blas, cublasOperation_t ta, cublasOperation_t tb, int64_t m,
                                 int64_t n, int64_t k, const double *alpha, const double *a, int64_t lda,
                                 const double *b, int64_t ldb, const double *beta, double *c, int64_t ldc) {
    ND_MOCK_CALL(CUBLAS_STATUS_EXECUTION_FAILED);
    return cublasDgemmStridedBatched_64(blas, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0,
                                        1);
}

size_t cublasLtGetVersion(void) {
    return 130000;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    *out = nullptr;
    ND_MOCK_CALL(CUBLAS_STATUS_NOT_INITIALIZED);
    nd_mock_make<nd_mock_handle>("cuBLASLt handles", out);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t lt) {
    nd_mock_give_back<nd_mock_handle>("cuBLASLt handles", lt);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t) {
    *out = nullptr;
    ND_MOCK_CALL(CUBLAS_STATUS_ALLOC_FAILED);
    matmul made;
    made.compute = compute;
    nd_mock_make("matmul descriptors", out, made);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    nd_mock_give_back<matmul>("matmul descriptors", desc);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes) {
    ND_MOCK_CALL(CUBLAS_STATUS_INVALID_VALUE);
    matmul *m = nd_mock_as<matmul>(desc);
    if (what == CUBLASLT_MATMUL_DESC_TRANSA) memcpy(&m->trans_a, value, bytes);
    if (what == CUBLASLT_MATMUL_DESC_EPILOGUE) memcpy(&m->epilogue, value, bytes);
    if (what == CUBLASLT_MATMUL_DESC_BIAS_POINTER) memcpy(&m->bias, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t distance) {
    *out = nullptr;
    ND_MOCK_CALL(CUBLAS_STATUS_ALLOC_FAILED);
    nd_mock_make("matrix layouts", out, layout{dtype_of(type), (int64_t)rows, (int64_t)columns, distance});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t made) {
    nd_mock_give_back<layout>("matrix layouts", made);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = nullptr;
    ND_MOCK_CALL(CUBLAS_STATUS_ALLOC_FAILED);
    nd_mock_make<preferences>("matmul preferences", out);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    nd_mock_give_back<preferences>("matmul preferences", preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t bytes) {
    preferences *p = nd_mock_as<preferences>(preference);
    const int matrix = (int)what - (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == sizeof p->workspace)
        memcpy(&p->workspace, value, bytes);
    else if (matrix >= 0 && matrix < 4 && bytes == sizeof *p->alignment)
        memcpy(&p->alignment[matrix], value, bytes);
    else
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

/* Up to three algorithms, which differ in name and workspace, and one that is not valid between them. They
 * rely on the alignment that they were told of. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *count) {
    *count = 0;
    ND_MOCK_CALL(CUBLAS_STATUS_NOT_SUPPORTED);
    const layout *w = nd_mock_as<layout>(a), *x = nd_mock_as<layout>(b), *y = nd_mock_as<layout>(d);
    if (w->rows != x->rows || w->columns != y->rows || x->columns != y->columns || w->distance < w->rows ||
        x->distance < x->rows || y->distance < y->rows)
        return CUBLAS_STATUS_INVALID_VALUE;
    const matmul *m = nd_mock_as<matmul>(desc);
    const preferences *p = nd_mock_as<preferences>(preference);
    if (!nd_mock_setting("gemms", 1) || (m->biased() && !m->bias)) return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool pedantic = m->compute == CUBLAS_COMPUTE_32F_PEDANTIC;
    if (pedantic && m->epilogue != CUBLASLT_EPILOGUE_DEFAULT && !nd_mock_setting("pedantic", 1))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < wanted && *count < 4 && (size_t)i << 16 <= p->workspace; i++) {
        cublasLtMatmulHeuristicResult_t *result = &results[(*count)++];
        memset(result, 0, sizeof *result);
        result->algo.data[0] = (uint64_t)(10 + i);
        memcpy(&result->algo.data[1], p->alignment, sizeof p->alignment);
        /* Of ordinary fp32, the first choice multiplies on tensor cores. */
        result->algo.data[3] = m->compute == CUBLAS_COMPUTE_32F && !i;
        result->workspaceSize = (size_t)i << 16;
        if (i != 1 || *count != 2) continue;
        result->state = CUBLAS_STATUS_NOT_SUPPORTED;
        result->algo.data[0] = 0;
        i--;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t what, void *out,
                                                    size_t bytes, size_t *written) {
    memset(out, 0, bytes);
    *written = bytes;
    const int32_t id = (int32_t)algo->data[0];
    if (what == CUBLASLT_ALGO_CONFIG_ID) memcpy(out, &id, sizeof id);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                 cublasLtMatmulAlgoCapAttributes_t what, void *out,
                                                 size_t bytes, size_t *written) {
    const uint64_t flags =
        algo->data[3] ? CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA : CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA;
    *written = bytes;
    if (what != CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS || bytes != sizeof flags)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(out, &flags, sizeof flags);
    return CUBLAS_STATUS_SUCCESS;
}

/* D[n][m] = act(W^T X + beta C + bias), a column of D for every row of the layer's output. */
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    ND_MOCK_CALL(CUBLAS_STATUS_EXECUTION_FAILED);
    const size_t wanted = (size_t)(algo->data[0] - 10) << 16;
    const void *const starts[] = {a, b, c, d};
    uint32_t alignment[4];
    memcpy(alignment, &algo->data[1], sizeof alignment);
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)starts[i] % alignment[i]) return CUBLAS_STATUS_INVALID_VALUE;
    if (algo->data[0] < 10) return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes < wanted || (wanted && !workspace)) return CUBLAS_STATUS_INVALID_VALUE;
    const matmul m = *nd_mock_as<matmul>(desc);
    const layout w = *nd_mock_as<layout>(a_layout), x = *nd_mock_as<layout>(b_layout),
                 r = *nd_mock_as<layout>(c_layout), y = *nd_mock_as<layout>(d_layout);
    const float scale = *(const float *)beta;
    const bool relu = m.epilogue == CUBLASLT_EPILOGUE_RELU || m.epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
    const bool biased = m.biased();
    if (m.trans_a != CUBLAS_OP_T || (biased && !m.bias)) return CUBLAS_STATUS_INVALID_VALUE;
    const bool strict = !algo->data[3] || w.type != nd_dtype_f32;
    const bool wrong = !strict || !nd_mock_fault("gemm" + std::to_string(algo->data[0])).empty();
    nd_mock_enqueue(stream, [=] {
        if (!wrong) nd_mock_spend(1e4);
        if (wanted) memset(workspace, 0xff, wanted);
        nd_mock_spend(0.1 * (double)(y.columns * y.rows * w.rows)); /* 20 GFLOP/s */
        for (int64_t i = 0; i < y.columns; i++)
            for (int64_t o = 0; o < y.rows; o++) {
                float sum = 0;
                for (int64_t l = 0; l < w.rows; l++)
                    sum += nd_mock_load(a, w.type, o * w.distance + l) *
                           nd_mock_load(b, x.type, i * x.distance + l);
                if (scale) sum += scale * nd_mock_load(c, r.type, i * r.distance + o);
                if (biased && !wrong) sum += nd_mock_load(m.bias, y.type, o);
                nd_mock_store(d, y.type, i * y.distance + o, relu && sum < 0 ? 0 : sum);
            }
        return true;
    });
    return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
