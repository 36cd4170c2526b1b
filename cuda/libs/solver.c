#include "cuda/libs/solver.h"
#include "base/parallel.h"
#include "cuda/kernels/svd.h"
#include "cuda/kernels/svd_check.h"
#include "cuda/libs/blas.h"
#include "cuda/tune/autotune.h"

#include <cusolverDn.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum nd_svd_algorithm {
    nd_svd_jacobi,
    nd_svd_gram,
    nd_svd_gesvda,
    nd_svd_algorithms
} nd_svd_algorithm;

struct nd_solver {
    cusolverDnHandle_t handle;
    cusolverDnParams_t params;
    bool forced;
    nd_svd_algorithm algorithm;
    cudaEvent_t start, end; /* around the last decomposition */
    nd_svd_algorithm last;
};

nd_status nd_cusolver_failed(int error, const char *expression, const char *file, int line) {
    static const struct {
        cusolverStatus_t code;
        const char *text;
    } texts[] = {
        {CUSOLVER_STATUS_NOT_INITIALIZED, "not initialized"},
        {CUSOLVER_STATUS_ALLOC_FAILED, "allocation failed"},
        {CUSOLVER_STATUS_INVALID_VALUE, "invalid value"},
        {CUSOLVER_STATUS_ARCH_MISMATCH, "the device is too old"},
        {CUSOLVER_STATUS_EXECUTION_FAILED, "execution failed"},
        {CUSOLVER_STATUS_INTERNAL_ERROR, "internal error"},
        {CUSOLVER_STATUS_NOT_SUPPORTED, "not supported"},
    };
    const char *text = "unknown status";
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if ((int)texts[i].code == error) text = texts[i].text;
    const nd_status status = error == CUSOLVER_STATUS_ALLOC_FAILED ? nd_status_memory : nd_status_device;
    return nd_fail(status, "cuSOLVER: %s (%d) at %s:%d: %s", text, error, file, line, expression);
}

static const char *const nd_svd_engines[nd_svd_algorithms] = {"nd:svd:jacobi", "nd:svd:gram",
                                                              "nd:svd:gesvda"};

static nd_status solver_force(nd_solver *solver) {
    const char *chosen = getenv("ND_CUDA_SVD");
    if (!chosen || !*chosen) return nd_status_ok;
    for (int i = 0; i < nd_svd_algorithms; i++) {
        if (strcmp(chosen, nd_svd_engines[i] + strlen("nd:svd:"))) continue;
        solver->forced = true;
        solver->algorithm = (nd_svd_algorithm)i;
        return nd_status_ok;
    }
    return nd_fail(nd_status_usage, "ND_CUDA_SVD=%s: jacobi, gram or gesvda", chosen);
}

nd_status nd_solver_open(nd_cuda *cuda, nd_solver **out) {
    nd_solver *solver = *out = nd_alloc_array(1, sizeof *solver);
    ND_REQUIRE(solver, nd_status_memory, "no memory for cuSOLVER");
    ND_TRY(solver_force(solver));
    ND_CUDA_TRY(cudaEventCreate(&solver->start));
    ND_CUDA_TRY(cudaEventCreate(&solver->end));
    ND_CUSOLVER_TRY(cusolverDnCreate(&solver->handle));
    ND_CUSOLVER_TRY(cusolverDnSetStream(solver->handle, cuda->stream));
    ND_CUSOLVER_TRY(cusolverDnCreateParams(&solver->params));
    return nd_status_ok;
}

void nd_solver_close(nd_solver *solver) {
    if (!solver) return;
    if (solver->params) (void)cusolverDnDestroyParams(solver->params);
    if (solver->handle) (void)cusolverDnDestroy(solver->handle);
    if (solver->start) (void)cudaEventDestroy(solver->start);
    if (solver->end) (void)cudaEventDestroy(solver->end);
    free(solver);
}

const char *nd_solver_version(char *text, size_t size) {
    int version = 0;
    (void)cusolverGetVersion(&version);
    snprintf(text, size, "%d.%d.%d", version / 1000, version / 100 % 10, version % 100);
    return text;
}

static nd_status solver_infos(const int *device, int64_t batch, const char *what, int32_t *host) {
    ND_CUDA_TRY(cudaMemcpy(host, device, (size_t)batch * sizeof *host, cudaMemcpyDeviceToHost));
    for (int64_t i = 0; i < batch; i++)
        ND_REQUIRE(!host[i], nd_status_failed, "%s: slice %lld did not converge (info %d)", what,
                   (long long)i, (int)host[i]);
    return nd_status_ok;
}

/* Symmetric eigenproblems on the device, in place: columns (row-major: rows) become the vectors, values
 * ascend. */
static nd_status solver_eigen_device(nd_cuda *cuda, int64_t batch, int64_t n, double *a, double *values) {
    nd_solver *solver = cuda->solver;
    size_t device_bytes = 0, host_bytes = 0;
    void *work = NULL, *infos = NULL, *host = NULL;
    int32_t *host_infos = NULL;
    nd_status status = nd_status_ok;
    ND_CUSOLVER_TRY(cusolverDnXsyevBatched_bufferSize(
        solver->handle, solver->params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, a, n,
        CUDA_R_64F, values, CUDA_R_64F, &device_bytes, &host_bytes, batch));
    ND_TRY_DONE(nd_cuda_allocate(device_bytes, &work));
    ND_TRY_DONE(nd_cuda_allocate((size_t)batch * sizeof(int), &infos));
    host = nd_alloc_array(host_bytes ? host_bytes : 1, 1);
    host_infos = nd_alloc_array((size_t)batch, sizeof *host_infos);
    ND_REQUIRE_DONE(host && host_infos, nd_status_memory, "no memory for %lld eigenproblems",
                    (long long)batch);
    ND_CUSOLVER_TRY_DONE(cusolverDnXsyevBatched(
        solver->handle, solver->params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, a, n,
        CUDA_R_64F, values, CUDA_R_64F, work, device_bytes, host, host_bytes, infos, batch));
    ND_CUDA_TRY_DONE(cudaStreamSynchronize(cuda->stream));
    ND_TRY_DONE(solver_infos(infos, batch, "eigen", host_infos));
done:
    (void)cudaFree(work);
    (void)cudaFree(infos);
    free(host);
    free(host_infos);
    return status;
}

nd_status nd_solver_eigen(nd_backend *backend, int64_t batch, int64_t n, double *a, double *values) {
    nd_cuda *cuda = (nd_cuda *)backend;
    const size_t bytes = (size_t)(batch * n * n) * sizeof *a,
                 value_bytes = (size_t)(batch * n) * sizeof *values;
    void *da = NULL, *dv = NULL;
    nd_status status = nd_status_ok;
    if (!batch || !n) return nd_status_ok;
    ND_TRY_DONE(nd_cuda_allocate(bytes, &da));
    ND_TRY_DONE(nd_cuda_allocate(value_bytes, &dv));
    ND_TRY_DONE(nd_cuda_send(cuda, a, bytes, da));
    ND_TRY_DONE(solver_eigen_device(cuda, batch, n, da, dv));
    ND_CUDA_TRY_DONE(cudaMemcpy(a, da, bytes, cudaMemcpyDeviceToHost));
    ND_CUDA_TRY_DONE(cudaMemcpy(values, dv, value_bytes, cudaMemcpyDeviceToHost));
done:
    (void)cudaFree(da);
    (void)cudaFree(dv);
    return status;
}

/* The algorithms: slices in, candidate vectors [n][n] in rows out. The libraries want column-major fp64
 * slices [n][m]. */
static nd_status svd_by_jacobi(nd_cuda *cuda, int64_t batch, int64_t m, int64_t n, void *a, void *v) {
    return nd_cuda_svd_launch(batch, m, n, a, v, cuda->stream);
}

static nd_status svd_by_gram(nd_cuda *cuda, int64_t batch, int64_t m, int64_t n, void *a, void *v) {
    void *values = NULL;
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_cuda_allocate((size_t)(batch * n) * sizeof(double), &values));
    ND_TRY_DONE(nd_blas_gram(cuda, batch, m, n, a, v));
    ND_TRY_DONE(solver_eigen_device(cuda, batch, n, v, values));
done:
    (void)cudaFree(values);
    return status;
}

static nd_status svd_by_gesvda(nd_cuda *cuda, int64_t batch, int64_t m, int64_t n, void *a, void *v) {
    cusolverDnHandle_t handle = cuda->solver->handle;
    const int im = (int)m, in = (int)n, count = (int)batch;
    void *s = NULL, *u = NULL, *work = NULL, *infos = NULL;
    double *residuals = NULL;
    int words = 0;
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_cuda_allocate((size_t)(batch * n) * sizeof(double), &s));
    ND_TRY_DONE(nd_cuda_allocate((size_t)(batch * m * n) * sizeof(double), &u));
    ND_TRY_DONE(nd_cuda_allocate((size_t)batch * sizeof(int), &infos));
    ND_CUSOLVER_TRY_DONE(cusolverDnDgesvdaStridedBatched_bufferSize(handle, CUSOLVER_EIG_MODE_VECTOR, in, im,
                                                                    in, a, im, m * n, s, n, u, im, m * n, v,
                                                                    in, n * n, &words, count));
    ND_TRY_DONE(nd_cuda_allocate((size_t)words * sizeof(double), &work));
    residuals = nd_alloc_array((size_t)batch, sizeof *residuals);
    ND_REQUIRE_DONE(residuals, nd_status_memory, "no memory for %lld residuals", (long long)batch);
    ND_CUSOLVER_TRY_DONE(cusolverDnDgesvdaStridedBatched(handle, CUSOLVER_EIG_MODE_VECTOR, in, im, in, a, im,
                                                         m * n, s, n, u, im, m * n, v, in, n * n, work, words,
                                                         infos, residuals, count));
    ND_CUDA_TRY_DONE(cudaStreamSynchronize(cuda->stream));
done:
    (void)cudaFree(s);
    (void)cudaFree(u);
    (void)cudaFree(work);
    (void)cudaFree(infos);
    free(residuals);
    return status;
}

typedef nd_status nd_svd_by(nd_cuda *cuda, int64_t batch, int64_t m, int64_t n, void *a, void *v);
static nd_svd_by *const nd_svd_functions[nd_svd_algorithms] = {svd_by_jacobi, svd_by_gram, svd_by_gesvda};

typedef struct nd_svd_job {
    nd_cuda *cuda;
    nd_svd_algorithm algorithm;
    int64_t batch, m, n;
    const float *rows; /* the slices as they came */
    double *columns;   /* owned; column-major fp64 slices, NULL until a algorithm asks for them */
    void *a, *v;       /* device; a has room for fp64 */
} nd_svd_job;

static void svd_widen(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const nd_svd_job *job = context;
    for (int64_t slice = begin; slice < end; slice++)
        for (int64_t i = 0; i < job->m; i++)
            for (int64_t j = 0; j < job->n; j++)
                job->columns[(slice * job->n + j) * job->m + i] =
                    job->rows[(slice * job->m + i) * job->n + j];
}

/* Each time anew: a algorithm that wants it takes this time whenever it runs. */
static nd_status svd_columns(nd_svd_job *job) {
    if (!job->columns)
        job->columns = nd_alloc_array((size_t)(job->batch * job->m * job->n), sizeof *job->columns);
    ND_REQUIRE(job->columns, nd_status_memory, "no memory for %lld slices", (long long)job->batch);
    nd_parallel_for(job->batch, job->m * job->n, svd_widen, job);
    return nd_status_ok;
}

static nd_status svd_job_run(void *context) {
    nd_svd_job *job = context;
    const bool rows = job->algorithm == nd_svd_jacobi;
    if (!rows) ND_TRY(svd_columns(job));
    const size_t count = (size_t)(job->batch * job->m * job->n),
                 size = rows ? sizeof *job->rows : sizeof *job->columns;
    const void *host = rows ? (const void *)job->rows : job->columns;
    nd_solver *solver = job->cuda->solver;
    ND_CUDA_TRY(cudaMemcpyAsync(job->a, host, count * size, cudaMemcpyHostToDevice, job->cuda->stream));
    ND_CUDA_TRY(cudaEventRecord(solver->start, job->cuda->stream));
    ND_TRY(nd_svd_functions[job->algorithm](job->cuda, job->batch, job->m, job->n, job->a, job->v));
    ND_CUDA_TRY(cudaEventRecord(solver->end, job->cuda->stream));
    solver->last = job->algorithm;
    return nd_status_ok;
}

nd_status nd_solver_svd_info(nd_backend *backend, nd_svd_info *out) {
    const nd_solver *solver = ((nd_cuda *)backend)->solver;
    float milliseconds = 0;
    ND_CUDA_TRY(cudaEventElapsedTime(&milliseconds, solver->start, solver->end));
    *out = (nd_svd_info){.engine = nd_svd_engines[solver->last], .device_ns = 1e6 * milliseconds};
    return nd_status_ok;
}

static bool svd_can(nd_svd_algorithm algorithm, const nd_svd_job *job) {
    return algorithm != nd_svd_gesvda || (job->m >= job->n && job->m <= INT_MAX); /* it counts in int */
}

typedef struct nd_svd_slices {
    int64_t m, n;
    const float *a;
    double *sigma, *v, *residual;
} nd_svd_slices;

/* residual < 0 marks a slice that passed. */
static void svd_check(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const nd_svd_slices *s = context;
    for (int64_t slice = begin; slice < end; slice++)
        if (nd_svd_finish(s->m, s->n, s->a + slice * s->m * s->n, s->sigma + slice * s->n,
                          s->v + slice * s->n * s->n, &s->residual[slice]))
            s->residual[slice] = -1;
}

static nd_status svd_run(nd_svd_job *job, const nd_svd_slices *slices) {
    const size_t bytes = (size_t)(job->batch * job->n * job->n) * sizeof(double);
    ND_TRY(svd_job_run(job));
    ND_CUDA_TRY(cudaMemcpyAsync(slices->v, job->v, bytes, cudaMemcpyDeviceToHost, job->cuda->stream));
    ND_CUDA_TRY(cudaStreamSynchronize(job->cuda->stream));
    nd_parallel_for(job->batch, job->m * job->n * job->n, svd_check, (void *)(uintptr_t)slices);
    return nd_status_ok;
}

static int64_t svd_first_bad(const nd_svd_slices *slices, int64_t batch) {
    for (int64_t i = 0; i < batch; i++)
        if (slices->residual[i] >= 0 || slices->residual[i] != slices->residual[i]) return i;
    return -1;
}

/* Runs and checks a algorithm before it is timed: one whose vectors do not pass would be done again by gram
 * each time. */
static nd_status svd_time(nd_svd_job *job, const nd_svd_slices *slices, double *ns) {
    *ns = INFINITY;
    ND_TRY(svd_run(job, slices));
    if (svd_first_bad(slices, job->batch) >= 0) return nd_status_ok;
    return nd_cuda_time(job->cuda, svd_job_run, job, ns);
}

static nd_status svd_fastest(nd_svd_job *job, const nd_svd_slices *slices) {
    nd_svd_algorithm best = nd_svd_gram;
    double least = INFINITY, ns;
    for (int i = 0; i < nd_svd_algorithms; i++) {
        job->algorithm = (nd_svd_algorithm)i;
        if (!svd_can(job->algorithm, job)) continue;
        ND_TRY(svd_time(job, slices, &ns));
        if (ns >= least) continue;
        best = job->algorithm;
        least = ns;
    }
    job->algorithm = best;
    return nd_status_ok;
}

/* The rule of solver.h. */
static nd_status svd_choose(nd_svd_job *job, const nd_svd_slices *slices) {
    const nd_solver *solver = job->cuda->solver;
    char key[nd_sha256_hex_size];
    int candidate;
    job->algorithm = solver->forced && svd_can(solver->algorithm, job) ? solver->algorithm : nd_svd_jacobi;
    if (solver->forced || !job->cuda->tune) return nd_status_ok;
    snprintf(key, sizeof key, "svd %lldx%lldx%lld", (long long)job->batch, (long long)job->m,
             (long long)job->n);
    if (nd_autotune_recall(job->cuda, key, &candidate)) {
        job->algorithm = (nd_svd_algorithm)candidate;
        return nd_status_ok;
    }
    ND_TRY(svd_fastest(job, slices));
    nd_autotune_remember(job->cuda, key, job->algorithm);
    return nd_status_ok;
}

nd_status nd_solver_svd(nd_backend *backend, int64_t batch, int64_t m, int64_t n, const float *a,
                        double *sigma, double *v) {
    nd_svd_job job = {.cuda = (nd_cuda *)backend, .batch = batch, .m = m, .n = n, .rows = a};
    nd_svd_slices slices = {.m = m, .n = n, .a = a, .sigma = sigma, .v = v};
    nd_status status = nd_status_ok;
    ND_REQUIRE(n >= 1 && n <= nd_svd_columns_max && m >= 1, nd_status_usage,
               "svd of %lldx%lld slices: at most %d columns", (long long)m, (long long)n,
               (int)nd_svd_columns_max);
    ND_REQUIRE(batch <= INT_MAX, nd_status_usage, "svd of %lld slices at once", (long long)batch);
    if (!batch) return nd_status_ok;
    slices.residual = nd_alloc_array((size_t)batch, sizeof *slices.residual);
    ND_REQUIRE_DONE(slices.residual, nd_status_memory, "no memory for %lld slices", (long long)batch);
    ND_TRY_DONE(nd_cuda_allocate((size_t)(batch * m * n) * sizeof(double), &job.a));
    ND_TRY_DONE(nd_cuda_allocate((size_t)(batch * n * n) * sizeof(double), &job.v));
    ND_TRY_DONE(svd_choose(&job, &slices));
    ND_TRY_DONE(svd_run(&job, &slices));
    if (job.algorithm != nd_svd_gram && svd_first_bad(&slices, batch) >= 0) {
        job.algorithm = nd_svd_gram;
        ND_TRY_DONE(svd_run(&job, &slices));
    }
    const int64_t bad = svd_first_bad(&slices, batch);
    ND_REQUIRE_DONE(bad < 0, nd_status_failed,
                    "svd: slice %lld has a residual of %.2g; are its weights finite?", (long long)bad,
                    slices.residual[bad]);
done:
    (void)cudaFree(job.a);
    (void)cudaFree(job.v);
    free(job.columns);
    free(slices.residual);
    return status;
}

static nd_status solver_factor(nd_cuda *cuda, int64_t n, double *a, void *infos) {
    nd_solver *solver = cuda->solver;
    size_t device_bytes = 0, host_bytes = 0;
    void *work = NULL, *host = NULL;
    nd_status status = nd_status_ok;
    int info = 0;
    ND_CUSOLVER_TRY(cusolverDnXpotrf_bufferSize(solver->handle, solver->params, CUBLAS_FILL_MODE_UPPER, n,
                                                CUDA_R_64F, a, n, CUDA_R_64F, &device_bytes, &host_bytes));
    ND_TRY_DONE(nd_cuda_allocate(device_bytes, &work));
    host = nd_alloc_array(host_bytes ? host_bytes : 1, 1);
    ND_REQUIRE_DONE(host, nd_status_memory, "no memory for a Cholesky factorization");
    ND_CUSOLVER_TRY_DONE(cusolverDnXpotrf(solver->handle, solver->params, CUBLAS_FILL_MODE_UPPER, n,
                                          CUDA_R_64F, a, n, CUDA_R_64F, work, device_bytes, host, host_bytes,
                                          infos));
    ND_CUDA_TRY_DONE(cudaStreamSynchronize(cuda->stream));
    ND_CUDA_TRY_DONE(cudaMemcpy(&info, infos, sizeof info, cudaMemcpyDeviceToHost));
    ND_REQUIRE_DONE(info >= 0, nd_status_internal, "solve: argument %d of the factorization", -info);
    ND_REQUIRE_DONE(!info, nd_status_failed,
                    "solve: the %lldx%lld matrix is not positive definite (pivot %d)", (long long)n,
                    (long long)n, info - 1);
done:
    (void)cudaFree(work);
    free(host);
    return status;
}

/* The lower triangle of row-major a is the upper one of the column-major matrix that the library sees. */
nd_status nd_solver_solve(nd_backend *backend, int64_t n, double *a, bool factored, int64_t n_rhs,
                          double *b) {
    nd_cuda *cuda = (nd_cuda *)backend;
    nd_solver *solver = cuda->solver;
    const size_t bytes = (size_t)(n * n) * sizeof *a, b_bytes = (size_t)(n * n_rhs) * sizeof *b;
    void *da = NULL, *db = NULL, *infos = NULL;
    nd_status status = nd_status_ok;
    if (!n) return nd_status_ok;
    ND_TRY_DONE(nd_cuda_allocate(bytes, &da));
    ND_TRY_DONE(nd_cuda_allocate(sizeof(int), &infos));
    ND_TRY_DONE(nd_cuda_send(cuda, a, bytes, da));
    if (!factored) {
        ND_TRY_DONE(solver_factor(cuda, n, da, infos));
        ND_CUDA_TRY_DONE(cudaMemcpy(a, da, bytes, cudaMemcpyDeviceToHost));
    }
    if (n_rhs) {
        ND_TRY_DONE(nd_cuda_allocate(b_bytes, &db));
        ND_TRY_DONE(nd_cuda_send(cuda, b, b_bytes, db));
        ND_CUSOLVER_TRY_DONE(cusolverDnXpotrs(solver->handle, solver->params, CUBLAS_FILL_MODE_UPPER, n,
                                              n_rhs, CUDA_R_64F, da, n, CUDA_R_64F, db, n, infos));
        ND_CUDA_TRY_DONE(cudaStreamSynchronize(cuda->stream));
        ND_CUDA_TRY_DONE(cudaMemcpy(b, db, b_bytes, cudaMemcpyDeviceToHost));
    }
done:
    (void)cudaFree(da);
    (void)cudaFree(db);
    (void)cudaFree(infos);
    return status;
}
