/* Fully connected layers on cuBLASLt. */
#include "cuda/libs/blas.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct nd_gemm_state {
    nd_gemm_plan *plan;
    const void *weights, *bias_stored;
    bool followed; /* by an activation that is no epilogue of the library */
} nd_gemm_state;

static nd_status gemm_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    const nd_gemm_state *state = kernel->state;
    const nd_work *work = &kernel->work;
    const void *x2 = work->residual ? nd_cuda_at(operands->x2, &work->x2, kernel->precision) : NULL;
    ND_TRY(nd_gemm_plan_run(state->plan, nd_cuda_at(operands->x, &work->x, kernel->precision), state->weights,
                            state->bias_stored, x2, nd_cuda_at(operands->y, &work->y, kernel->precision),
                            operands->workspace, kernel->cuda->stream));
    if (!state->followed) return nd_status_ok;
    nd_work activation = *work;
    activation.x = work->y;
    const nd_cuda_call call = {
        .work = &activation,
        .storage = nd_precision_storage(kernel->precision),
        .x = operands->y,
        .y = operands->y,
        .stream = kernel->cuda->stream,
    };
    return nd_cuda_activation_launch(&call);
}

static void gemm_release(nd_kernel *kernel) {
    nd_gemm_state *state = kernel->state;
    if (!state) return;
    nd_gemm_plan_free(state->plan);
    free(state);
}

static const nd_cuda_functions nd_gemm_functions = {gemm_run, gemm_release};

/* Rows of neighbours, at any distance. */
static bool gemm_is_rows(const nd_view *view) {
    const bool neighbours = view->dims[1] == 1 || view->strides[1] == 1;
    return neighbours && (view->dims[0] == 1 || view->strides[0] >= view->dims[1]);
}

static int64_t gemm_distance(const nd_view *view) {
    return view->dims[0] == 1 ? view->dims[1] : view->strides[0];
}

static bool gemm_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    (void)cuda;
    (void)precision;
    return gemm_is_rows(&work->x) && gemm_is_rows(&work->y) && (!work->residual || gemm_is_rows(&work->x2));
}

static nd_view gemm_pixels(const nd_view *rows) {
    return (nd_view){.rank = 4,
                     .dims = {rows->dims[0], rows->dims[1], 1, 1},
                     .strides = {rows->strides[0], rows->strides[1], 1, 1},
                     .offset = rows->offset};
}

nd_work nd_cuda_as_conv(const nd_work *work) {
    static const nd_window one = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
    nd_work conv = *work;
    if (work->operation != nd_operation_gemm) return conv;
    conv.operation = nd_operation_conv;
    conv.groups = 1;
    conv.window = one;
    conv.x = gemm_pixels(&work->x);
    conv.y = gemm_pixels(&work->y);
    if (work->residual) conv.x2 = gemm_pixels(&work->x2);
    return conv;
}

/* What the library has no algorithm for runs all the same. */
static nd_status gemm_direct_prepare(nd_kernel *kernel, const nd_work *work) {
    const nd_work conv = nd_cuda_as_conv(work);
    kernel->work = conv;
    kernel->work.weights = kernel->work.bias = NULL;
    return nd_conv_direct_prepare(kernel, &conv);
}

static nd_status gemm_library_prepare(nd_kernel *kernel, const nd_work *work) {
    nd_gemm_state *state = kernel->state = nd_alloc_array(1, sizeof *state);
    ND_REQUIRE(state, nd_status_memory, "no memory for a GEMM");
    kernel->functions = &nd_gemm_functions;
    const nd_act act = work->activation.act;
    const int64_t size = (int64_t)nd_dtype_bytes(nd_precision_storage(kernel->precision));
    const nd_gemm_problem problem = {
        .m = work->x.dims[0],
        .n = work->y.dims[1],
        .k = work->x.dims[1],
        .ldx = gemm_distance(&work->x),
        .ldw = work->x.dims[1],
        .ldx2 = work->residual ? gemm_distance(&work->x2) : 0,
        .ldy = gemm_distance(&work->y),
        .align_x = nd_gemm_alignment(work->x.offset * size, 0),
        .align_x2 = nd_gemm_alignment(work->x2.offset * size, 0),
        .align_y = nd_gemm_alignment(work->y.offset * size, 0),
        .precision = kernel->precision,
        .bias = work->bias != NULL,
        .residual = work->residual,
        .relu = act == nd_act_relu,
    };
    state->followed = act != nd_act_none && act != nd_act_relu;
    ND_TRY(nd_gemm_plan_make(kernel->cuda, &problem, &state->plan));
    ND_TRY(nd_cuda_constant_stored(kernel, work->weights, (size_t)(problem.n * problem.k), &state->weights));
    ND_TRY(nd_cuda_constant_bias_stored(kernel, work, &state->bias_stored));
    kernel->workspace = nd_gemm_plan_workspace(state->plan);
    snprintf(kernel->engine, sizeof kernel->engine, "%s", nd_gemm_plan_name(state->plan));
    return nd_status_ok;
}

static nd_status gemm_prepare(nd_kernel *kernel, const nd_work *work) {
    const nd_status status = gemm_library_prepare(kernel, work);
    if (status != nd_status_unsupported) return status;
    gemm_release(kernel);
    kernel->state = NULL;
    return gemm_direct_prepare(kernel, work);
}

const nd_cuda_implementation nd_cuda_gemm_implementation = {gemm_supports, gemm_prepare};
