#include "check/check.h"
#include "run/plugins.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef struct tally {
    int failed, listed;
    char detail[512];
} tally;

static void note(void *user, const nd_check_report *report) {
    tally *t = user;
    t->listed += report->outcome == nd_check_outcome_listed;
    if (report->outcome != nd_check_outcome_failed) return;
    t->failed++;
    strncpy(t->detail, report->detail, sizeof t->detail - 1);
}

static nd_backend *open_ref(void) {
    nd_backend *backend;
    cr_assert_eq(nd_backend_open("ref", NULL, &backend), nd_status_ok);
    return backend;
}

static nd_status check(nd_backend *backend, const char *operation, tally *t, nd_check_result *result) {
    *t = (tally){0};
    const nd_check_settings settings = {.operation = operation, .seed = 5, .report = note, .user = t};
    return nd_check_run(backend, &settings, result);
}

/* The whole of it is `nd check --backend ref`; here every operation once, small shapes. */
Test(check, ref_agrees_with_the_second_formulation) {
    static const char *const operations[] = {"conv/3x3_n3_c17/*",
                                             "conv/groups_4*",
                                             "conv/*dilated*",
                                             "separable/adaptive*",
                                             "separable/s2*",
                                             "gemm/m3*",
                                             "pool",
                                             "binary",
                                             "activation",
                                             "affine",
                                             "softmax",
                                             "lrn",
                                             "reduce",
                                             "normalize",
                                             "product",
                                             "resample",
                                             "gather",
                                             "copy",
                                             "fill",
                                             "svd/*x9*",
                                             "eigen/9",
                                             "solve/9",
                                             "accumulate/1*",
                                             "matmul"};
    nd_backend *backend = open_ref();
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        tally t;
        nd_check_result result;
        cr_expect_eq(check(backend, operations[i], &t, &result), nd_status_ok, "%s: %s", operations[i],
                     t.detail);
        cr_expect(result.compared > 0 && !result.failed && !result.unsupported, "%s", operations[i]);
    }
    nd_backend_close(backend);
}

/* Primitives of oneDNN that were made for several threads, and have one when they run: what happens beside
 * other processes (nd_cpu_team_alone). */
Test(check, library_loops_that_get_one_thread, .timeout = 60) {
    static const char *const operations[] = {"conv/*", "gemm/*", "pool/*", "softmax/*"};
    nd_backend *backend;
    if (nd_backend_open("cpu", &(nd_backend_settings){.threads = 3}, &backend))
        cr_skip_test("no cpu backend");
    void *openmp = dlopen("libgomp.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (!openmp) cr_skip_test("another OpenMP runtime than gcc's");
    void (*limit)(int);
    *(void **)&limit = dlsym(openmp, "omp_set_max_active_levels"); /* as dlsym(3) has it */
    limit(0);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        tally t;
        nd_check_result result;
        cr_expect_eq(check(backend, operations[i], &t, &result), nd_status_ok, "%s: %s", operations[i],
                     t.detail);
        cr_expect(result.compared > 0 && !result.failed, "%s", operations[i]);
    }
    nd_backend_close(backend);
}

/* A check that cannot fail checks nothing: faults put into a correct backend must be found. */
static const nd_backend_table *inner;
static void (*fault)(nd_work *work);

static nd_status faulty_prepare(nd_backend *backend, const nd_work *work, nd_precision precision,
                                nd_kernel **out) {
    nd_work changed = *work;
    fault(&changed);
    return inner->prepare(backend, &changed, precision, out);
}

static void write_one_further(nd_work *work) {
    work->y.offset++;
}

static void read_one_before(nd_work *work) {
    work->x.offset--;
}

static void drop_bias(nd_work *work) {
    work->bias = NULL;
}

static void drop_activation(nd_work *work) {
    work->activation.act = nd_act_none;
}

static void drop_residual(nd_work *work) {
    work->residual = false;
}

static void swap_padding(nd_work *work) {
    const int64_t top = work->window.pad[0];
    work->window.pad[0] = work->window.pad[1];
    work->window.pad[1] = top;
}

static void mistake_a_channel(nd_work *work) {
    static int32_t channel[128];
    memcpy(channel, work->channel, (size_t)work->terms * sizeof *channel);
    channel[work->terms - 1] = channel[work->terms - 2];
    work->channel = channel;
}

static void count_padding(nd_work *work) {
    work->count_include_pad = !work->count_include_pad;
}

static void scale_slightly(nd_work *work) {
    work->alpha *= 1.001f;
}

static void shift_one_row(nd_work *work) {
    work->x.offset += work->x.strides[2];
    work->x.dims[2]--;
}

Test(check, finds_faults) {
    static const struct {
        const char *operation;
        void (*fault)(nd_work *work);
        const char *detail;
    } faults[] = {
        {"conv/3x3_n3*/packed", write_one_further, "outside"},
        {"copy/matrix/*", write_one_further, "outside"},
        {"gather/image/*", read_one_before, "nan"},
        {"conv/3x3_n3*/*", drop_bias, "expected"},
        {"conv/3x3_s2/*", drop_activation, "expected"},
        {"separable/t4_residual/packed", drop_residual, "expected"},
        {"conv/3x3_pad_2_0_1_3/*", swap_padding, "expected"},
        {"separable/adaptive_residual/*", mistake_a_channel, "expected"},
        {"pool/average_3x3_pad/*", count_padding, "expected"},
        {"lrn/strong/*", scale_slightly, "expected"},
        {"conv/1x1_c7/*", shift_one_row, "expected"},
    };
    nd_backend *backend = open_ref();
    inner = backend->table;
    nd_backend_table faulty = *inner;
    faulty.prepare = faulty_prepare;
    backend->table = &faulty;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        tally t;
        nd_check_result result;
        fault = faults[i].fault;
        cr_expect_eq(check(backend, faults[i].operation, &t, &result), nd_status_failed, "fault %zu", i);
        cr_expect(t.failed > 0 && t.failed == result.compared && strstr(t.detail, faults[i].detail),
                  "fault %zu: %s", i, t.detail);
        cr_expect(strstr(t.detail, "seed 5"), "%s", t.detail);
    }
    backend->table = inner;
    nd_backend_close(backend);
}

static nd_status faulty_svd(nd_backend *backend, int64_t batch, int64_t m, int64_t n, const float *a,
                            double *sigma, double *v) {
    const nd_status status = inner->linalg.svd(backend, batch, m, n, a, sigma, v);
    for (int64_t i = 0; i < n; i++) v[i] = -v[i];
    return status;
}

static nd_status faulty_solve(nd_backend *backend, int64_t n, double *a, bool factored, int64_t n_rhs,
                              double *b) {
    const nd_status status = inner->linalg.solve(backend, n, a, factored, n_rhs, b);
    return status == nd_status_failed ? nd_status_ok : status; /* solves what it should refuse */
}

static nd_status faulty_accumulate(nd_backend *backend, int64_t n, int64_t k, const float *a, int64_t m,
                                   const float *b, double *c) {
    for (int64_t i = 0; i < k * m; i++) c[i] = 0;
    return inner->linalg.accumulate(backend, n, k, a, m, b, c);
}

Test(check, finds_faults_in_linear_algebra) {
    static const char *const operations[] = {"svd/64x9_graded", "solve/9", "accumulate/100*"};
    nd_backend *backend = open_ref();
    inner = backend->table;
    nd_backend_table faulty = *inner;
    faulty.linalg.svd = faulty_svd;
    faulty.linalg.solve = faulty_solve;
    faulty.linalg.accumulate = faulty_accumulate;
    backend->table = &faulty;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        tally t;
        nd_check_result result;
        cr_expect_eq(check(backend, operations[i], &t, &result), nd_status_failed, "%s", operations[i]);
        cr_expect_eq(t.failed, 1, "%s", operations[i]);
    }
    backend->table = inner;
    nd_backend_close(backend);
}

static bool supports_nothing(nd_backend *backend, const nd_work *work, nd_precision precision) {
    (void)backend;
    (void)work;
    (void)precision;
    return false;
}

Test(check, comparing_nothing_is_a_failure) {
    nd_backend *backend = open_ref();
    tally t;
    nd_check_result result;
    cr_assert_eq(check(backend, "no such case", &t, &result), nd_status_failed);
    cr_assert(strstr(nd_error(), "nothing was compared"));
    inner = backend->table;
    nd_backend_table none = *inner;
    none.supports = supports_nothing;
    backend->table = &none;
    cr_assert_eq(check(backend, "fill", &t, &result), nd_status_failed);
    cr_assert(result.compared == 0 && result.unsupported > 0);
    backend->table = inner;
    nd_backend_close(backend);
}

Test(check, lists_every_operation) {
    nd_backend *backend = open_ref();
    tally t = {0};
    nd_check_result result;
    for (int operation = 0; operation < nd_operation_count; operation++) {
        const nd_check_settings settings = {.operation = nd_operation_name((nd_operation)operation),
                                            .list = true,
                                            .report = note,
                                            .user = &t};
        t.listed = 0;
        cr_expect_eq(nd_check_run(backend, &settings, &result), nd_status_ok);
        cr_expect(t.listed > 0, "no case of %s", nd_operation_name((nd_operation)operation));
    }
    nd_backend_close(backend);
}

/* Maps smaller than the kernel on every instruction set, ours and oneDNN's, and by every implementation.
 * oneDNN asks for its limit once, so each has a process of its own. */
typedef struct level {
    char onednn[16], ours[16];
} level;

ParameterizedTestParameters(check, cpu_is_right_on_small_maps) {
    static level levels[] = {
        {"SSE41", "scalar"}, {"AVX", "scalar"}, {"AVX2", "avx2"}, {"AVX512_CORE", "avx512"}, {"ALL", ""}};
    return cr_make_param_array(level, levels, sizeof levels / sizeof *levels);
}

ParameterizedTest(level *level, check, cpu_is_right_on_small_maps) {
    static const char *const implementations[] = {"nd", "pair", "dense-direct", "dense-winograd",
                                                  "dense-blocked"};
    static const char *const operations[] = {"conv/*_on_*/packed", "separable/*_on_*/packed", "pool/*_on_*"};
    setenv("ONEDNN_MAX_CPU_ISA", level->onednn, 1);
    for (size_t i = 0; i < sizeof implementations / sizeof *implementations; i++) {
        const nd_backend_settings settings = {.isa = level->ours, .threads = 1, .prefer = implementations[i]};
        nd_backend *backend;
        const nd_status opened = nd_backend_open("cpu", &settings, &backend);
        if (opened == nd_status_device) cr_skip_test("%s: %s", level->ours, nd_error());
        cr_assert_eq(opened, nd_status_ok, "%s", nd_error());
        for (size_t j = 0; j < sizeof operations / sizeof *operations; j++) {
            tally t;
            nd_check_result result;
            const nd_status status = check(backend, operations[j], &t, &result);
            cr_expect(!status && result.compared >= 20 && !result.failed, "%s, %s, %s, %s: %s", level->onednn,
                      level->ours, implementations[i], operations[j], t.detail);
        }
        nd_backend_close(backend);
    }
}
