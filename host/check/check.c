#include "check/check.h"

#include "base/text/text.h"
#include "check/cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const nd_check_operation *const nd_check_operations[] = {
    &nd_check_conv,      &nd_check_conv_small, &nd_check_separable, &nd_check_separable_small,
    &nd_check_gemm,      &nd_check_pool,       &nd_check_binary,    &nd_check_activation,
    &nd_check_affine,    &nd_check_softmax,    &nd_check_lrn,       &nd_check_reduce,
    &nd_check_normalize, &nd_check_product,    &nd_check_resample,  &nd_check_gather,
    &nd_check_copy,      &nd_check_fill,       &nd_check_quantize,  &nd_check_dequantize,
};

static const nd_check_identities *const nd_check_identity_list[] = {
    &nd_check_transfer, &nd_check_svd,        &nd_check_eigen,
    &nd_check_solve,    &nd_check_accumulate, &nd_check_matmul,
};

static const nd_check_epilogue nd_check_epilogue_list[] = {
    {"", false, {0}},
    {"_relu", false, {.act = nd_act_relu}},
    {"_residual", true, {0}},
    {"_residual_relu", true, {.act = nd_act_relu}},
    {"_residual_hard_swish", true, {.act = nd_act_hard_swish}},
};

enum {
    nd_check_guard = 256, /* elements before and after every operand */
    nd_check_margin = 3,  /* channels before and after a slice: no multiple of any vector */
};
/* Exact in the storage type, and no likely result. */
static float check_sentinel(nd_precision precision) {
    return precision == nd_precision_int8 ? 165 : precision == nd_precision_e4m3 ? 416 : 1536;
}

static const nd_rounding nd_roundings[nd_precision_count] = {
    [nd_precision_fp32] = {.sum = 0x1p-24, .product = 0, .store = 0x1p-24},
    /* Tensor cores may truncate the operands to 10 bits, and the sums to 23. */
    [nd_precision_tf32] = {.sum = 0x1p-23, .product = 0x1p-9, .store = 0x1p-24},
    [nd_precision_fp16] = {.sum = 0x1p-23, .product = 0, .store = 0x1p-11},
    [nd_precision_bf16] = {.sum = 0x1p-23, .product = 0, .store = 0x1p-8},
    [nd_precision_int8] = {0}, /* exact */
    /* What tensor cores of sm_90 keep of sums; stored values are exact, but those of sums. */
    [nd_precision_e4m3] = {.sum = 0x1p-13},
};

/* How operands lie in memory: as the backend prefers; the same as slices of wider buffers; in the other
 * layout; inputs in one layout and the output in the other. */
typedef enum nd_layout {
    nd_layout_packed,
    nd_layout_sliced,
    nd_layout_turned,
    nd_layout_mixed,
    nd_layout_count,
} nd_layout;

static const char *const nd_layout_names[nd_layout_count] = {"packed", "sliced", "turned", "mixed"};

typedef struct nd_check {
    nd_backend *backend;
    const nd_check_settings *settings;
    nd_check_result *result;
    nd_check_report report;
    char name[160], detail[512];
} nd_check;

/* An operand in memory: `view` inside a buffer of `elements`. */
typedef struct nd_operand {
    nd_view view;
    int64_t elements;
    nd_memory *memory;
    nd_precision precision; /* it is stored in */
} nd_operand;

static nd_operand check_lay(const nd_check *check, const nd_view *dims, const bool *repeat,
                            nd_layout layout) {
    const bool last = check->backend->channels_last != (layout == nd_layout_turned);
    nd_view wide = *dims;
    const int axis = dims->rank > 1 ? 1 : 0;
    const int64_t margin = layout == nd_layout_sliced && dims->rank > 1 ? nd_check_margin : 0;
    for (int i = 0; repeat && i < dims->rank; i++)
        if (repeat[i]) wide.dims[i] = 1;
    if (margin) wide.dims[axis] += 2 * margin;
    const nd_view dense =
        last ? nd_view_channels_last(wide.rank, wide.dims) : nd_view_row_major(wide.rank, wide.dims);
    nd_operand operand = {.view = dense, .elements = nd_view_count(&dense) + 2 * nd_check_guard};
    operand.view.offset = nd_check_guard + margin * dense.strides[axis];
    memcpy(operand.view.dims, dims->dims, sizeof operand.view.dims);
    for (int i = 0; repeat && i < dims->rank; i++)
        if (repeat[i] && dims->dims[i] != 1) operand.view.strides[i] = 0;
    return operand;
}

/* Visits a view's elements in row-major order of its dims. */
typedef struct nd_cursor {
    const nd_view *view;
    int64_t index[nd_rank_max], position;
} nd_cursor;

static nd_cursor cursor_start(const nd_view *view) {
    return (nd_cursor){.view = view, .position = view->offset};
}

static void cursor_next(nd_cursor *cursor) {
    const nd_view *view = cursor->view;
    for (int i = view->rank - 1; i >= 0; i--) {
        cursor->position += view->strides[i];
        if (++cursor->index[i] < view->dims[i]) return;
        cursor->position -= view->dims[i] * view->strides[i];
        cursor->index[i] = 0;
    }
}

/* Uploads the whole buffer: `values` through the view (or none), `around` everywhere else. */
static nd_status check_upload(nd_check *check, nd_operand *operand, const nd_view *values_view,
                              const float *values, float around) {
    const nd_backend_table *table = check->backend->table;
    const nd_precision precision = operand->precision;
    float *buffer = nd_alloc_array((size_t)operand->elements, sizeof *buffer);
    ND_REQUIRE(buffer, nd_status_memory, "no memory for a check");
    for (int64_t i = 0; i < operand->elements; i++) buffer[i] = around;
    nd_cursor to = cursor_start(values_view);
    const int64_t count = values ? nd_view_count(values_view) : 0;
    for (int64_t i = 0; i < count; i++, cursor_next(&to)) buffer[to.position] = values[i];
    const nd_view flat = nd_view_row_major(1, &operand->elements);
    const size_t bytes = (size_t)operand->elements * nd_dtype_bytes(nd_precision_storage(precision));
    nd_status status =
        operand->memory ? nd_status_ok : table->allocate(check->backend, bytes, &operand->memory);
    if (!status) status = table->upload(check->backend, operand->memory, &flat, precision, buffer);
    free(buffer);
    return status;
}

/* The elements of x2 that exist: axes of stride 0 once. */
static nd_view check_once(const nd_view *view) {
    nd_view once = *view;
    for (int i = 0; i < view->rank; i++)
        if (!view->strides[i]) once.dims[i] = 1;
    return once;
}

static void check_say(nd_check *check, nd_check_outcome outcome) {
    check->report.outcome = outcome;
    nd_check_result *result = check->result;
    result->compared += outcome == nd_check_outcome_passed || outcome == nd_check_outcome_failed;
    result->failed += outcome == nd_check_outcome_failed;
    result->unsupported += outcome == nd_check_outcome_unsupported;
    if (check->settings->report) check->settings->report(check->settings->user, &check->report);
}

static bool check_worse(double error, double bound, const nd_check_report *than) {
    if (isnan(error)) return !isnan(than->error);
    return !isnan(than->error) && error * than->bound > than->error * bound;
}

/* "0,3,5,5" for the i-th element in row-major order. */
static void check_index(const nd_view *view, int64_t i, char *text, size_t size) {
    int64_t below = nd_view_count(view);
    size_t used = 0;
    text[0] = '\0';
    for (int axis = 0; axis < view->rank && used < size; axis++) {
        below /= view->dims[axis];
        used += (size_t)snprintf(text + used, size - used, axis ? ",%lld" : "%lld",
                                 (long long)(i / below % view->dims[axis]));
    }
}

/* Compares the downloaded buffer with what was expected; the first damaged guard element fails it too. */
static nd_check_outcome check_compare(nd_check *check, const nd_problem *problem, const nd_operand *y,
                                      float *buffer) {
    const int64_t count = nd_view_count(&y->view);
    const double tiny = problem->storage == nd_dtype_f16 ? 0x1p-24 : 0x1p-126;
    const float sentinel = check_sentinel(y->precision);
    /* Integers are exact, but for the epilogues of oneDNN, which round in their own order: cuDNN's are sums,
     * ended by a kernel of ours. */
    const char *engine = check->report.engine;
    const bool own =
        !strncmp(engine, "nd:", 3) || !strncmp(engine, "ref:", 4) || !strncmp(engine, "cudnn:", 6);
    const double quantum = problem->quantised && !own && y->precision == nd_precision_int8 ? 1 : 0;
    int64_t worst = 0;
    float got = 0;
    check->report.error = 0;
    check->report.bound = 1;
    nd_cursor at = cursor_start(&y->view);
    for (int64_t i = 0; i < count; i++, cursor_next(&at)) {
        const double expected = problem->expected[i], value = buffer[at.position];
        const double bound = problem->slack[i] +
                             problem->rounding.store * (fabs(expected) + problem->slack[i]) + tiny + quantum;
        const double error = isfinite(value) ? fabs(value - expected) : NAN;
        if (i == 0 || check_worse(error, bound, &check->report)) {
            check->report.error = error;
            check->report.bound = bound;
            worst = i;
            got = buffer[at.position];
        }
        buffer[at.position] = sentinel; /* what is left must be untouched */
    }
    for (int64_t i = 0; i < y->elements; i++) {
        if (buffer[i] == sentinel) continue;
        snprintf(check->detail, sizeof check->detail,
                 "wrote %g outside of the output, %lld elements from the start of its buffer (seed %llu)",
                 (double)buffer[i], (long long)(i - nd_check_guard),
                 (unsigned long long)check->settings->seed);
        return nd_check_outcome_failed;
    }
    if (check->report.error <= check->report.bound) return nd_check_outcome_passed;
    char index[128];
    check_index(&y->view, worst, index, sizeof index);
    snprintf(check->detail, sizeof check->detail, "at [%s]: %.9g, expected %.9g within %.3g (seed %llu)",
             index, (double)got, problem->expected[worst], check->report.bound,
             (unsigned long long)check->settings->seed);
    return nd_check_outcome_failed;
}

/* Twice, so that a kernel that adds to what it finds is found out. */
static nd_status check_execute(nd_check *check, nd_kernel *kernel, const nd_operand *operands) {
    const nd_backend_table *table = check->backend->table;
    nd_memory *workspace = NULL;
    nd_status status = nd_status_ok;
    const nd_kernel_info info = table->info(kernel);
    check->report.engine = info.engine ? info.engine : "";
    if (info.workspace_bytes) ND_TRY(table->allocate(check->backend, info.workspace_bytes, &workspace));
    for (int i = 0; i < 2 && !status; i++)
        status = table->run(check->backend, kernel, operands[0].memory, operands[1].memory,
                            operands[2].memory, workspace);
    if (!status) status = table->synchronize(check->backend);
    table->free(workspace);
    return status;
}

static nd_status check_on_device(nd_check *check, const nd_problem *problem, const nd_work *work,
                                 nd_operand *operands) {
    const nd_backend_table *table = check->backend->table;
    const nd_precision precision = check->settings->precision;
    nd_kernel *kernel = NULL;
    float *buffer = nd_alloc_array((size_t)operands[2].elements, sizeof *buffer);
    const nd_view once = check_once(&work->x2), flat = nd_view_row_major(1, &operands[2].elements);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(buffer, nd_status_memory, "no memory for a check");
    if (problem->x) ND_TRY_DONE(check_upload(check, &operands[0], &work->x, problem->x, NAN));
    if (problem->x2) ND_TRY_DONE(check_upload(check, &operands[1], &once, problem->x2, NAN));
    ND_TRY_DONE(check_upload(check, &operands[2], &work->y, NULL, check_sentinel(operands[2].precision)));
    ND_TRY_DONE(table->prepare(check->backend, work, precision, &kernel));
    ND_TRY_DONE(check_execute(check, kernel, operands));
    ND_TRY_DONE(table->download(check->backend, operands[2].memory, &flat, operands[2].precision, buffer));
    check_say(check, check_compare(check, problem, &operands[2], buffer));
done:
    table->release(kernel);
    free(buffer);
    return status;
}

static bool check_has_sums(nd_operation operation) {
    return operation == nd_operation_conv || operation == nd_operation_separable ||
           operation == nd_operation_gemm;
}

/* A kernel that reports an error is a failed check, not the end of the run. */
static void check_layout(nd_check *check, const nd_problem *problem, nd_layout layout) {
    nd_work work = problem->work;
    const nd_layout input = layout == nd_layout_mixed ? nd_layout_turned : layout;
    nd_operand operands[3] = {
        check_lay(check, &work.x, NULL, input),
        check_lay(check, &work.x2, problem->repeat, input),
        check_lay(check, &work.y, NULL, layout),
    };
    const nd_precision precision = check->settings->precision;
    const bool real_x = work.operation == nd_operation_quantize;
    const bool real_y =
        work.operation == nd_operation_dequantize || (check_has_sums(work.operation) && !work.y_quant.scale);
    for (int i = 0; i < 3; i++) operands[i].precision = precision;
    if (problem->quantised && real_x) operands[0].precision = nd_precision_fp32;
    if (problem->quantised && real_y) operands[2].precision = nd_precision_fp32;
    work.x = operands[0].view;
    work.x2 = operands[1].view;
    work.y = operands[2].view;
    check->detail[0] = '\0';
    check->report.engine = "";
    check->report.error = check->report.bound = 0;
    if (!check->backend->table->supports(check->backend, &work, check->settings->precision)) {
        check_say(check, nd_check_outcome_unsupported);
        return;
    }
    if (check_on_device(check, problem, &work, operands)) {
        snprintf(check->detail, sizeof check->detail, "%s: %.400s", "stopped", nd_error());
        check_say(check, nd_check_outcome_failed);
    }
    for (int i = 0; i < 3; i++) check->backend->table->free(operands[i].memory);
}

/* "conv" stands for all of "conv/...". */
static bool check_wanted(const nd_check *check) {
    const char *pattern = check->settings->operation;
    if (!pattern || nd_text_match(pattern, check->name)) return true;
    return !strchr(pattern, '/') && nd_text_match(pattern, check->report.operation);
}

/* Inputs depend on the seed and the case alone, not on which cases run. */
static nd_rng check_rng(const nd_check *check, const char *title) {
    uint64_t hash = check->settings->seed;
    for (const char *c = check->report.operation; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    for (const char *c = title; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return nd_rng_seed(hash);
}

static nd_status check_case(nd_check *check, const nd_check_operation *operation, int index,
                            const nd_check_epilogue *epilogue) {
    const bool quantised = nd_precision_is_quantised(check->settings->precision); /* made in fp32 at first */
    char title[96];
    snprintf(title, sizeof title, "%s%s", operation->title(index), epilogue ? epilogue->suffix : "");
    nd_problem problem = {.rounding = nd_roundings[check->settings->precision],
                          .storage =
                              quantised ? nd_dtype_f32 : nd_precision_storage(check->settings->precision),
                          .rng = check_rng(check, title),
                          .epilogue = epilogue,
                          .e4m3 = check->settings->precision == nd_precision_e4m3};
    nd_status status = nd_status_ok;
    bool made = false, defined = false;
    for (int layout = 0; layout < nd_layout_count && !status; layout++) {
        snprintf(check->name, sizeof check->name, "%s/%s/%s", operation->name, title,
                 nd_layout_names[layout]);
        if (!check_wanted(check)) continue;
        if (!made) status = operation->make(&problem, index);
        made = true;
        const int rank = problem.work.x.rank;
        if (layout == nd_layout_sliced && rank < 2) continue; /* nothing to slice */
        if (layout >= nd_layout_turned && rank != 4) break;   /* nothing to turn */
        if (check->settings->list && !status) {
            check_say(check, nd_check_outcome_listed);
            continue;
        }
        if (!status && !problem.expected) status = operation->expect(&problem);
        if (!status && quantised && !problem.quantised) status = nd_problem_quantize(&problem, &defined);
        if (!status && quantised && !defined) {
            check->report.engine = "";
            check_say(check, nd_check_outcome_unsupported);
        } else if (!status) {
            check_layout(check, &problem, (nd_layout)layout);
        }
    }
    nd_arena_free(&problem.arena);
    return status;
}

static nd_status check_cases(nd_check *check, const nd_check_operation *operation) {
    const int count = sizeof nd_check_epilogue_list / sizeof *nd_check_epilogue_list;
    check->report.operation = operation->name;
    for (int i = 0; i < operation->count; i++) {
        if (!operation->epilogues) ND_TRY(check_case(check, operation, i, NULL));
        for (int e = 0; operation->epilogues && e < count; e++)
            ND_TRY(check_case(check, operation, i, &nd_check_epilogue_list[e]));
    }
    return nd_status_ok;
}

static nd_status check_identity(nd_check *check, const nd_check_identities *operation, int index) {
    snprintf(check->name, sizeof check->name, "%s/%s", operation->name, operation->title(index));
    if (!check_wanted(check)) return nd_status_ok;
    check->detail[0] = '\0';
    check->report.engine = "";
    check->report.error = check->report.bound = 0;
    if (check->settings->list) {
        check_say(check, nd_check_outcome_listed);
        return nd_status_ok;
    }
    nd_identity identity = {.backend = check->backend,
                            .precision = check->settings->precision,
                            .rng = check_rng(check, operation->title(index))};
    const nd_status status = operation->run(&identity, index);
    check->report.error = identity.error;
    check->report.bound = identity.bound;
    const bool passed = !status && identity.error <= identity.bound;
    nd_arena_free(&identity.arena);
    if (status == nd_status_memory) return status;
    if (!passed)
        snprintf(check->detail, sizeof check->detail, "%.300s (seed %llu)",
                 status ? nd_error() : identity.detail, (unsigned long long)check->settings->seed);
    check_say(check, passed ? nd_check_outcome_passed : nd_check_outcome_failed);
    return nd_status_ok;
}

nd_status nd_check_run(nd_backend *backend, const nd_check_settings *settings, nd_check_result *result) {
    nd_check check = {.backend = backend, .settings = settings, .result = result};
    *result = (nd_check_result){0};
    check.report.name = check.name;
    check.report.detail = check.detail;
    for (size_t i = 0; i < sizeof nd_check_operations / sizeof *nd_check_operations; i++)
        ND_TRY(check_cases(&check, nd_check_operations[i]));
    for (size_t i = 0; i < sizeof nd_check_identity_list / sizeof *nd_check_identity_list; i++) {
        check.report.operation = nd_check_identity_list[i]->name;
        for (int j = 0; j < nd_check_identity_list[i]->count; j++)
            ND_TRY(check_identity(&check, nd_check_identity_list[i], j));
    }
    if (settings->list) return nd_status_ok;
    ND_REQUIRE(result->compared > 0, nd_status_failed,
               "nothing was compared: no case of \"%s\" runs on %s in %s",
               settings->operation ? settings->operation : "*", backend->name,
               nd_precision_name(settings->precision));
    ND_REQUIRE(!result->failed, nd_status_failed, "%lld of %lld checks failed on %s",
               (long long)result->failed, (long long)result->compared, backend->name);
    return nd_status_ok;
}
