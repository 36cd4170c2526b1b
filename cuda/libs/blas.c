#include "cuda/libs/blas.h"
#include "base/log.h"
#include "cuda/kernels/kernels.h"
#include "cuda/tune/autotune.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nd_blas {
    cublasHandle_t handle;
    cublasLtHandle_t lt;
};

nd_status nd_cublas_failed(int error, const char *expression, const char *file, int line) {
    const cublasStatus_t code = (cublasStatus_t)error;
    nd_status status = nd_status_device;
    if (code == CUBLAS_STATUS_ALLOC_FAILED) status = nd_status_memory;
    if (code == CUBLAS_STATUS_NOT_SUPPORTED) status = nd_status_unsupported;
    return nd_fail(status, "cuBLAS: %s at %s:%d: %s", cublasGetStatusString(code), file, line, expression);
}

nd_status nd_blas_open(nd_cuda *cuda, nd_blas **out) {
    nd_blas *blas = *out = nd_alloc_array(1, sizeof *blas);
    ND_REQUIRE(blas, nd_status_memory, "no memory for cuBLAS");
    ND_CUBLAS_TRY(cublasCreate(&blas->handle));
    ND_CUBLAS_TRY(cublasSetStream(blas->handle, cuda->stream));
    ND_CUBLAS_TRY(cublasSetMathMode(blas->handle, CUBLAS_PEDANTIC_MATH)); /* moments are strict fp32 */
    ND_CUBLAS_TRY(cublasLtCreate(&blas->lt));
    return nd_status_ok;
}

void nd_blas_close(nd_blas *blas) {
    if (!blas) return;
    if (blas->handle) (void)cublasDestroy(blas->handle);
    if (blas->lt) (void)cublasLtDestroy(blas->lt);
    free(blas);
}

const char *nd_blas_version(char *text, size_t size) {
    const size_t version = cublasLtGetVersion();
    snprintf(text, size, "%zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
    return text;
}

/* Rows that are moved at once, and of these in one product: a product sums in fp32, one row after the other,
 * and its error grows with their number; the sum over products is in fp64. */
enum { nd_accumulate_rows = 4096, nd_accumulate_slab = 256 };

/* Host memory is the caller's again, after a failure too; the first failure is the one that counts. */
static nd_status blas_wait(nd_cuda *cuda, nd_status status) {
    const cudaError_t error = cudaStreamSynchronize(cuda->stream);
    return status || !error ? status : nd_cuda_failed(error, "cudaStreamSynchronize", __FILE__, __LINE__);
}

/* Row-major c = a^T b is column-major c^T = b^T a, where row-major a, b already are transposed. */
nd_status nd_blas_accumulate(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                             const float *b, double *c) {
    nd_cuda *cuda = (nd_cuda *)backend;
    const int64_t rows = n < nd_accumulate_rows ? n : nd_accumulate_rows;
    const size_t row_a = (size_t)k * sizeof *a, row_b = (size_t)m * sizeof *b, count = (size_t)(k * m);
    const float one = 1, zero = 0;
    void *da = NULL, *db = NULL, *part = NULL, *sum = NULL;
    nd_status status = nd_status_ok;
    if (!n || !count) return nd_status_ok;
    ND_TRY_DONE(nd_cuda_allocate((size_t)rows * row_a, &da));
    if (b != a) ND_TRY_DONE(nd_cuda_allocate((size_t)rows * row_b, &db));
    ND_TRY_DONE(nd_cuda_allocate(count * sizeof(float), &part));
    ND_TRY_DONE(nd_cuda_allocate(count * sizeof(double), &sum));
    ND_CUDA_TRY_DONE(cudaMemcpyAsync(sum, c, count * sizeof(double), cudaMemcpyHostToDevice, cuda->stream));
    for (int64_t first = 0; first < n; first += rows) {
        const int64_t length = n - first < rows ? n - first : rows;
        ND_CUDA_TRY_DONE(
            cudaMemcpyAsync(da, a + first * k, (size_t)length * row_a, cudaMemcpyHostToDevice, cuda->stream));
        if (db)
            ND_CUDA_TRY_DONE(cudaMemcpyAsync(db, b + first * m, (size_t)length * row_b,
                                             cudaMemcpyHostToDevice, cuda->stream));
        const float *left = da, *right = db ? db : da;
        for (int64_t at = 0; at < length; at += nd_accumulate_slab) {
            const int64_t slab = length - at < nd_accumulate_slab ? length - at : nd_accumulate_slab;
            ND_CUBLAS_TRY_DONE(cublasSgemm_64(cuda->blas->handle, CUBLAS_OP_N, CUBLAS_OP_T, m, k, slab, &one,
                                              right + at * m, m, left + at * k, k, &zero, part, m));
            ND_TRY_DONE(nd_cuda_moments_launch(part, (int64_t)count, sum, cuda->stream));
        }
    }
    ND_CUDA_TRY_DONE(cudaMemcpyAsync(c, sum, count * sizeof(double), cudaMemcpyDeviceToHost, cuda->stream));
done:
    status = blas_wait(cuda, status);
    (void)cudaFree(da);
    (void)cudaFree(db);
    (void)cudaFree(part);
    (void)cudaFree(sum);
    return status;
}

/* rows x columns of doubles at distance `stride` on the host, packed on the device. */
static nd_status blas_push(nd_cuda *cuda, const double *from, int64_t rows, int64_t columns, int64_t stride,
                           void **out) {
    const size_t row = (size_t)columns * sizeof *from;
    ND_TRY(nd_cuda_allocate((size_t)rows * row, out));
    ND_CUDA_TRY(cudaMemcpy2DAsync(*out, row, from, (size_t)stride * sizeof *from, row, (size_t)rows,
                                  cudaMemcpyHostToDevice, cuda->stream));
    return nd_status_ok;
}

nd_status nd_blas_gemm(nd_backend *backend, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                       double alpha, const double *a, int64_t lda, const double *b, int64_t ldb, double beta,
                       double *c, int64_t ldc) {
    nd_cuda *cuda = (nd_cuda *)backend;
    void *da = NULL, *db = NULL, *dc = NULL;
    const int64_t a_columns = trans_a ? m : k, b_columns = trans_b ? k : n;
    nd_status status = nd_status_ok;
    if (!m || !n) return nd_status_ok;
    ND_TRY_DONE(blas_push(cuda, a, trans_a ? k : m, a_columns, lda, &da));
    ND_TRY_DONE(blas_push(cuda, b, trans_b ? n : k, b_columns, ldb, &db));
    ND_TRY_DONE(blas_push(cuda, c, m, n, ldc, &dc));
    ND_CUBLAS_TRY_DONE(cublasDgemm_64(cuda->blas->handle, trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                      trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k, &alpha, db, b_columns, da,
                                      a_columns, &beta, dc, n));
    ND_CUDA_TRY_DONE(cudaMemcpy2DAsync(c, (size_t)ldc * sizeof *c, dc, (size_t)n * sizeof *c,
                                       (size_t)n * sizeof *c, (size_t)m, cudaMemcpyDeviceToHost,
                                       cuda->stream));
done:
    status = blas_wait(cuda, status);
    (void)cudaFree(da);
    (void)cudaFree(db);
    (void)cudaFree(dc);
    return status;
}

nd_status nd_blas_gram(nd_cuda *cuda, int64_t batch, int64_t m, int64_t n, const double *a, double *gram) {
    const double one = 1, zero = 0;
    ND_CUBLAS_TRY(cublasDgemmStridedBatched_64(cuda->blas->handle, CUBLAS_OP_T, CUBLAS_OP_N, n, n, m, &one, a,
                                               m, m * n, a, m, m * n, &zero, gram, n, n * n, batch));
    return nd_status_ok;
}

enum { nd_gemm_proposals = 12 }; /* of the library's heuristics, that are timed */

/* Column-major for the library: y^T[n][m] = w x^T, with w stored as its own transpose. */
struct nd_gemm_plan {
    nd_cuda *cuda;
    nd_gemm_problem problem;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t w, x, x2, y;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
    char name[96];
};

typedef struct nd_gemm_types {
    cudaDataType_t data;
    cublasComputeType_t compute;
} nd_gemm_types;

static const nd_gemm_types nd_gemm_types_of[nd_precision_count] = {
    [nd_precision_fp32] = {CUDA_R_32F, CUBLAS_COMPUTE_32F_PEDANTIC},
    [nd_precision_tf32] = {CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32},
    [nd_precision_fp16] = {CUDA_R_16F, CUBLAS_COMPUTE_32F},
    [nd_precision_bf16] = {CUDA_R_16BF, CUBLAS_COMPUTE_32F},
};

/* `compute` in place of the precision's own. */
static nd_status gemm_operation(nd_gemm_plan *plan, cublasComputeType_t compute) {
    const nd_gemm_problem *p = &plan->problem;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = p->bias
                                            ? (p->relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS)
                                            : (p->relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT);
    if (plan->operation) (void)cublasLtMatmulDescDestroy(plan->operation);
    plan->operation = NULL;
    ND_CUBLAS_TRY(cublasLtMatmulDescCreate(&plan->operation, compute, CUDA_R_32F));
    ND_CUBLAS_TRY(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                 sizeof transposed));
    ND_CUBLAS_TRY(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                 sizeof epilogue));
    /* The heuristic asks how the bias is aligned, and finds nothing for a bias that is nowhere: any block
     * will do. */
    const void *bias = plan->cuda->staging;
    if (p->bias)
        ND_CUBLAS_TRY(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                     &bias, sizeof bias));
    return nd_status_ok;
}

static nd_status gemm_describe(nd_gemm_plan *plan) {
    const nd_gemm_problem *p = &plan->problem;
    const nd_gemm_types *types = &nd_gemm_types_of[p->precision];
    ND_TRY(gemm_operation(plan, types->compute));
    ND_CUBLAS_TRY(cublasLtMatrixLayoutCreate(&plan->w, types->data, (uint64_t)p->k, (uint64_t)p->n, p->ldw));
    ND_CUBLAS_TRY(cublasLtMatrixLayoutCreate(&plan->x, types->data, (uint64_t)p->k, (uint64_t)p->m, p->ldx));
    ND_CUBLAS_TRY(cublasLtMatrixLayoutCreate(&plan->y, types->data, (uint64_t)p->n, (uint64_t)p->m, p->ldy));
    ND_CUBLAS_TRY(cublasLtMatrixLayoutCreate(&plan->x2, types->data, (uint64_t)p->n, (uint64_t)p->m,
                                             p->residual ? p->ldx2 : p->ldy));
    return nd_status_ok;
}

static void gemm_name(const cublasLtMatmulAlgo_t *algorithm, char *name, size_t size) {
    int32_t id = 0;
    uint32_t tile = 0, stages = 0, split = 0;
    size_t written;
    (void)cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, &written);
    (void)cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile, sizeof tile,
                                               &written);
    (void)cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_STAGES_ID, &stages,
                                               sizeof stages, &written);
    (void)cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                               sizeof split, &written);
    snprintf(name, size, "cublasLt:algo%d_tile%u_stages%u_split%u", (int)id, (unsigned)tile, (unsigned)stages,
             (unsigned)split);
}

typedef struct nd_gemm_trial {
    nd_gemm_plan *plan;
    nd_inputs *inputs;
} nd_gemm_trial;

/* A proposal of the heuristics, as a candidate. */
typedef struct nd_gemm_candidate {
    cublasLtMatmulHeuristicResult_t *proposal;
    char name[96];
} nd_gemm_candidate;

static nd_status gemm_trial_run(void *made, void *user) {
    const nd_gemm_candidate *candidate = made;
    const nd_gemm_trial *t = user;
    t->plan->algorithm = candidate->proposal->algo;
    t->plan->workspace = candidate->proposal->workspaceSize;
    ND_TRY(nd_inputs_grow(t->inputs, t->plan->workspace));
    const nd_inputs *s = t->inputs;
    return nd_gemm_plan_run(t->plan, s->operands.x, s->weights, s->bias_stored, s->operands.x2, s->operands.y,
                            s->operands.workspace, s->cuda->stream);
}

static void gemm_trial_facts(const void *made, nd_autotune_facts *facts) {
    const nd_gemm_candidate *candidate = made;
    *facts = (nd_autotune_facts){.name = candidate->name};
}

static void gemm_key(const nd_cuda *cuda, const nd_gemm_problem *p, char key[nd_sha256_hex_size]) {
    const int64_t values[] = {
        nd_operation_gemm, p->m,        p->n,       p->k,         p->ldx,  p->ldw,      p->ldx2, p->ldy,
        p->align_x,        p->align_x2, p->align_y, p->precision, p->bias, p->residual, p->relu};
    nd_sha256 hash;
    nd_autotune_key(cuda, &hash);
    nd_sha256_add(&hash, values, sizeof values);
    nd_sha256_hex(&hash, key);
}

/* The same product as a convolution of one pixel by one. */
static nd_work gemm_work(const nd_gemm_problem *p) {
    const int64_t x[] = {p->m, p->k, 1, 1}, y[] = {p->m, p->n, 1, 1};
    nd_work work = {.operation = nd_operation_gemm,
                    .residual = p->residual,
                    .window = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}},
                    .groups = 1,
                    .activation = {.act = p->relu ? nd_act_relu : nd_act_none}};
    work.x = nd_view_row_major(4, x);
    work.x2 = work.y = nd_view_row_major(4, y);
    work.x.strides[0] = p->ldx;
    work.x2.strides[0] = p->ldx2;
    work.y.strides[0] = p->ldy;
    return work;
}

/* Checks and times every proposal on tuning inputs. *winner stays where none of them runs. */
static nd_status gemm_measure(nd_gemm_plan *plan, cublasLtMatmulHeuristicResult_t *results, int count,
                              int *winner, bool *checked) {
    const nd_gemm_problem *p = &plan->problem;
    const nd_work work = gemm_work(p);
    const int64_t dims[] = {p->n, p->k, 1, 1};
    nd_view filter = nd_view_row_major(4, dims);
    nd_gemm_candidate candidates[nd_gemm_proposals];
    nd_inputs inputs;
    nd_gemm_trial trial = {plan, &inputs};
    nd_status status = nd_status_ok;
    filter.strides[0] = p->ldw;
    ND_TRY(nd_inputs_make(plan->cuda, &work, p->precision, &inputs));
    nd_autotune tuning = {.cuda = plan->cuda,
                          .run = gemm_trial_run,
                          .facts = gemm_trial_facts,
                          .until = nd_autotune_until(plan->cuda),
                          .inputs = &inputs,
                          .user = &trial};
    ND_TRY_DONE(nd_inputs_add_weights(&inputs, &filter, p->bias));
    for (int i = 0; i < count && !nd_autotune_is_late(&tuning); i++) {
        candidates[i].proposal = &results[i];
        gemm_name(&results[i].algo, candidates[i].name, sizeof candidates[i].name);
        nd_autotune_add(&tuning, &candidates[i]);
    }
    const nd_gemm_candidate *won = nd_autotune_finish(&tuning);
    if (won) *winner = (int)(won - candidates);
    *checked = won && inputs.expected;
    ND_REQUIRE_DONE(won || !tuning.wrong, nd_status_device, "all %d algorithms that run are wrong",
                    tuning.wrong);
done:
    nd_inputs_free(&inputs);
    return status;
}

/* The place of an earlier process' winner "NAME/PLACE" among the proposals: the same ones come in the same
 * order for the same problem. -1 where it is no longer there. */
static int gemm_known(const char *key, const cublasLtMatmulHeuristicResult_t *results, int count) {
    char kept[nd_choice_size], name[96];
    char *slash = nd_choice_find(nd_autotune_file, key, kept) ? strrchr(kept, '/') : NULL;
    if (!slash) return -1;
    *slash = '\0';
    const int at = atoi(slash + 1);
    if (at < 0 || at >= count) return -1;
    gemm_name(&results[at].algo, name, sizeof name);
    return strcmp(name, kept) ? -1 : at;
}

static void gemm_keep(const char *key, const cublasLtMatmulHeuristicResult_t *results, int winner) {
    char name[96], kept[nd_choice_size];
    gemm_name(&results[winner].algo, name, sizeof name);
    snprintf(kept, sizeof kept, "%s/%d", name, winner);
    nd_choice_keep(nd_autotune_file, key, kept);
}

static nd_status gemm_tune(nd_gemm_plan *plan, cublasLtMatmulHeuristicResult_t *results, int count) {
    char key[nd_sha256_hex_size];
    int winner = 0;
    gemm_key(plan->cuda, &plan->problem, key);
    if (!nd_autotune_recall(plan->cuda, key, &winner) || winner >= count) {
        bool checked = false;
        winner = gemm_known(key, results, count);
        nd_status status = nd_status_ok;
        if (winner < 0) {
            winner = 0;
            status = gemm_measure(plan, results, count, &winner, &checked);
        }
        if (status == nd_status_memory)
            nd_log(nd_log_warn, "a GEMM is not tuned: %s", nd_error());
        else if (status)
            return status;
        else
            nd_autotune_remember(plan->cuda, key, winner);
        if (checked) gemm_keep(key, results, winner);
    }
    plan->algorithm = results[winner].algo;
    plan->workspace = results[winner].workspaceSize;
    return nd_status_ok;
}

uint32_t nd_gemm_alignment(int64_t offset, int64_t step) {
    const uint64_t both = (uint64_t)(offset | step | 256);
    return (uint32_t)(both & (~both + 1));
}

/* Unless it is told, the library takes it that every matrix begins on 256 bytes. */
static nd_status gemm_prefer(const nd_gemm_plan *plan, cublasLtMatmulPreference_t preference) {
    const nd_gemm_problem *p = &plan->problem;
    const uint64_t limit = plan->cuda->workspace_limit;
    const struct {
        cublasLtMatmulPreferenceAttributes_t matrix;
        uint32_t bytes;
    } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p->align_x},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p->residual ? p->align_x2 : p->align_y},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p->align_y}};
    ND_CUBLAS_TRY(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                       &limit, sizeof limit));
    for (int i = 0; i < 3; i++)
        ND_CUBLAS_TRY(cublasLtMatmulPreferenceSetAttribute(preference, alignments[i].matrix,
                                                           &alignments[i].bytes, sizeof alignments[i].bytes));
    return nd_status_ok;
}

/* Whether an algorithm multiplies fp32 as fp32. */
static bool gemm_is_strict(const cublasLtMatmulAlgo_t *algorithm) {
    uint64_t flags = 0;
    size_t written;
    return !cublasLtMatmulAlgoCapGetAttribute(algorithm, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &flags,
                                              sizeof flags, &written) &&
           !(flags & CUBLASLT_NUMERICAL_IMPL_FLAGS_TENSOR_OP_MASK);
}

/* Moves the proposals that are valid to the front. */
static int gemm_valid(cublasLtMatmulHeuristicResult_t *results, int count, bool strict) {
    int valid = 0;
    for (int i = 0; i < count; i++)
        if (results[i].state == CUBLAS_STATUS_SUCCESS && (!strict || gemm_is_strict(&results[i].algo)))
            results[valid++] = results[i];
    return valid;
}

/* Fills results[nd_gemm_proposals], none where the library has nothing. */
static nd_status gemm_propose(nd_gemm_plan *plan, bool all, bool strict,
                              cublasLtMatmulHeuristicResult_t *results, int *count) {
    cublasLtMatmulPreference_t preference = NULL;
    nd_status status = nd_status_ok;
    *count = 0;
    ND_CUBLAS_TRY_DONE(cublasLtMatmulPreferenceCreate(&preference));
    ND_TRY_DONE(gemm_prefer(plan, preference));
    const cublasStatus_t found =
        cublasLtMatmulAlgoGetHeuristic(plan->cuda->blas->lt, plan->operation, plan->w, plan->x, plan->x2,
                                       plan->y, preference, all ? nd_gemm_proposals : 1, results, count);
    if (found == CUBLAS_STATUS_NOT_SUPPORTED)
        *count = 0;
    else
        ND_CUBLAS_TRY_DONE(found);
    *count = gemm_valid(results, *count, strict);
done:
    if (preference) (void)cublasLtMatmulPreferenceDestroy(preference);
    return status;
}

/* The library may have no pedantic fp32 with an epilogue. Its ordinary fp32 is as strict where the algorithm
 * says so; that is also checked by what comes out. */
static nd_status gemm_choose(nd_gemm_plan *plan) {
    cublasLtMatmulHeuristicResult_t results[nd_gemm_proposals];
    const nd_gemm_problem *p = &plan->problem;
    int count = 0;
    ND_TRY(gemm_propose(plan, plan->cuda->tune, false, results, &count));
    const bool other = !count && p->precision == nd_precision_fp32;
    if (other) {
        ND_TRY(gemm_operation(plan, CUBLAS_COMPUTE_32F));
        ND_TRY(gemm_propose(plan, true, true, results, &count));
    }
    ND_REQUIRE(count, nd_status_unsupported, "cuBLASLt has no algorithm for %lldx%lldx%lld in %s",
               (long long)p->m, (long long)p->n, (long long)p->k, nd_precision_name(p->precision));
    plan->algorithm = results[0].algo;
    plan->workspace = results[0].workspaceSize;
    if (plan->cuda->tune || other) ND_TRY(gemm_tune(plan, results, count));
    gemm_name(&plan->algorithm, plan->name, sizeof plan->name);
    return nd_status_ok;
}

nd_status nd_gemm_plan_make(nd_cuda *cuda, const nd_gemm_problem *problem, nd_gemm_plan **out) {
    *out = NULL;
    nd_gemm_plan *plan = nd_alloc_array(1, sizeof *plan);
    ND_REQUIRE(plan, nd_status_memory, "no memory for a GEMM plan");
    plan->cuda = cuda;
    plan->problem = *problem;
    nd_status status = gemm_describe(plan);
    if (!status) status = gemm_choose(plan);
    if (status) {
        nd_gemm_plan_free(plan);
        return status;
    }
    *out = plan;
    return nd_status_ok;
}

void nd_gemm_plan_free(nd_gemm_plan *plan) {
    if (!plan) return;
    cublasLtMatrixLayout_t const layouts[] = {plan->w, plan->x, plan->x2, plan->y};
    for (int i = 0; i < 4; i++)
        if (layouts[i]) (void)cublasLtMatrixLayoutDestroy(layouts[i]);
    if (plan->operation) (void)cublasLtMatmulDescDestroy(plan->operation);
    free(plan);
}

size_t nd_gemm_plan_workspace(const nd_gemm_plan *plan) {
    return plan->workspace;
}

const char *nd_gemm_plan_name(const nd_gemm_plan *plan) {
    return plan->name;
}

nd_status nd_gemm_plan_run(nd_gemm_plan *plan, const void *x, const void *w, const void *bias, const void *x2,
                           void *y, void *workspace, cudaStream_t stream) {
    const float one = 1, beta = plan->problem.residual ? 1 : 0;
    if (plan->problem.bias)
        ND_CUBLAS_TRY(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                     &bias, sizeof bias));
    ND_CUBLAS_TRY(cublasLtMatmul(plan->cuda->blas->lt, plan->operation, &one, w, plan->w, x, plan->x, &beta,
                                 plan->problem.residual ? x2 : y, plan->x2, y, plan->y, &plan->algorithm,
                                 workspace, plan->workspace, stream));
    return nd_status_ok;
}
