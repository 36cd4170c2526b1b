#include "cuda/libs/dnn_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_cudnn_failed(int error, const char *expression, const char *file, int line) {
    char detail[256] = "";
    cudnnGetLastErrorString(detail, sizeof detail);
    nd_status status = nd_status_device;
    if (error == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
        error == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)
        status = nd_status_memory;
    if (error == CUDNN_STATUS_NOT_SUPPORTED || error / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000)
        status = nd_status_unsupported;
    return nd_fail(status, "cuDNN: %s at %s:%d: %s%s%s", cudnnGetErrorString((cudnnStatus_t)error), file,
                   line, expression, *detail ? ": " : "", detail);
}

nd_status nd_dnn_set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                     cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    ND_CUDNN_TRY(cudnnBackendSetAttribute(descriptor, name, type, count, values));
    return nd_status_ok;
}

static nd_status dnn_piece(nd_dnn_graph *graph, cudnnBackendDescriptorType_t type,
                           cudnnBackendDescriptor_t *out) {
    ND_REQUIRE(graph->n_pieces < nd_dnn_pieces_max, nd_status_internal,
               "a cuDNN graph of more than %d pieces", (int)nd_dnn_pieces_max);
    ND_CUDNN_TRY(cudnnBackendCreateDescriptor(type, out));
    graph->pieces[graph->n_pieces++] = *out;
    return nd_status_ok;
}

void nd_dnn_graph_free(nd_dnn_graph *graph) {
    while (graph->n_pieces) (void)cudnnBackendDestroyDescriptor(graph->pieces[--graph->n_pieces]);
    graph->graph = NULL;
}

static cudnnDataType_t dnn_type(nd_precision precision) {
    static const cudnnDataType_t types[nd_precision_count] = {
        [nd_precision_fp32] = CUDNN_DATA_FLOAT, [nd_precision_tf32] = CUDNN_DATA_FLOAT,
        [nd_precision_fp16] = CUDNN_DATA_HALF,  [nd_precision_bf16] = CUDNN_DATA_BFLOAT16,
        [nd_precision_int8] = CUDNN_DATA_INT8,  [nd_precision_e4m3] = CUDNN_DATA_FP8_E4M3,
    };
    return types[precision];
}

/* Of sums. */
static cudnnDataType_t dnn_compute(nd_precision precision) {
    return precision == nd_precision_int8 ? CUDNN_DATA_INT32 : CUDNN_DATA_FLOAT;
}

typedef struct nd_dnn_tensor {
    int64_t uid, dims[4], strides[4], alignment;
    cudnnDataType_t type;
    bool is_virtual;
} nd_dnn_tensor;

static nd_dnn_tensor dnn_tensor_of(int64_t uid, const nd_view *view, nd_precision precision) {
    const int64_t size = (int64_t)nd_dtype_bytes(nd_precision_storage(precision));
    nd_dnn_tensor tensor = {.uid = uid, .alignment = view->offset * size % 16 ? size : 16};
    tensor.type = dnn_type(precision);
    for (int i = 0; i < 4; i++) {
        tensor.dims[i] = view->dims[i];
        tensor.strides[i] = view->strides[i];
    }
    return tensor;
}

static nd_status dnn_tensor_make(nd_dnn_graph *graph, const nd_dnn_tensor *t, cudnnBackendDescriptor_t *out) {
    ND_TRY(dnn_piece(graph, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &t->uid));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t->type));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t->dims));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t->strides));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &t->alignment));
    if (t->is_virtual)
        ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &t->is_virtual));
    ND_CUDNN_TRY(cudnnBackendFinalize(*out));
    return nd_status_ok;
}

/* The padding below and to the right that gives exactly the output's dims. */
static void dnn_post_padding(const nd_work *work, int64_t post[2]) {
    const nd_window *g = &work->window;
    for (int i = 0; i < 2; i++) {
        const int64_t reach =
            (work->y.dims[2 + i] - 1) * g->stride[i] + (g->kernel[i] - 1) * g->dilation[i] + 1;
        const int64_t implied = reach - work->x.dims[2 + i] - g->pad[i];
        post[i] = implied > g->pad[2 + i] ? implied : g->pad[2 + i];
    }
}

static nd_status dnn_convolution(const nd_dnn_problem *problem, nd_dnn_graph *graph,
                                 cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                 cudnnBackendDescriptor_t y, cudnnBackendDescriptor_t *out) {
    const nd_window *g = &problem->work.window;
    const cudnnDataType_t compute = dnn_compute(problem->precision);
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t spatial = 2;
    const float one = 1, zero = 0;
    int64_t post[2];
    cudnnBackendDescriptor_t conv;
    dnn_post_padding(&problem->work, post);
    ND_TRY(dnn_piece(graph, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, &conv));
    ND_TRY(nd_dnn_set(conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &spatial));
    ND_TRY(nd_dnn_set(conv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute));
    ND_TRY(nd_dnn_set(conv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    ND_TRY(nd_dnn_set(conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, g->pad));
    ND_TRY(nd_dnn_set(conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, post));
    ND_TRY(nd_dnn_set(conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, g->stride));
    ND_TRY(nd_dnn_set(conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, g->dilation));
    ND_CUDNN_TRY(cudnnBackendFinalize(conv));
    ND_TRY(dnn_piece(graph, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, out));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                      1, &conv));
    ND_TRY(
        nd_dnn_set(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x));
    ND_TRY(
        nd_dnn_set(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w));
    ND_TRY(
        nd_dnn_set(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero));
    ND_CUDNN_TRY(cudnnBackendFinalize(*out));
    return nd_status_ok;
}

/* b is NULL for ReLU. */
static nd_status dnn_pointwise(nd_dnn_graph *graph, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                               cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y,
                               cudnnBackendDescriptor_t *out) {
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t pointwise;
    ND_TRY(dnn_piece(graph, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &pointwise));
    ND_TRY(nd_dnn_set(pointwise, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode));
    ND_TRY(nd_dnn_set(pointwise, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute));
    ND_CUDNN_TRY(cudnnBackendFinalize(pointwise));
    ND_TRY(dnn_piece(graph, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, out));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                      &pointwise));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x));
    if (b)
        ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &b));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y));
    ND_CUDNN_TRY(cudnnBackendFinalize(*out));
    return nd_status_ok;
}

static nd_dnn_tensor dnn_filter(const nd_dnn_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t dims[] = {work->y.dims[1], work->x.dims[1] / work->groups, work->window.kernel[0],
                            work->window.kernel[1]};
    const nd_view view = problem->channels_last ? nd_view_channels_last(4, dims) : nd_view_row_major(4, dims);
    return dnn_tensor_of(nd_dnn_uid_w, &view, problem->precision);
}

/* One step of the epilogue: its mode and second operand (uid 0: none). */
typedef struct nd_dnn_step {
    cudnnPointwiseMode_t mode;
    nd_dnn_tensor operand;
} nd_dnn_step;

static int dnn_steps(const nd_dnn_problem *problem, nd_dnn_step steps[3]) {
    const nd_work *work = &problem->work;
    int count = 0;
    if (work->residual)
        steps[count++] =
            (nd_dnn_step){CUDNN_POINTWISE_ADD, dnn_tensor_of(nd_dnn_uid_x2, &work->x2, problem->precision)};
    if (problem->bias) {
        const int64_t dims[] = {1, work->y.dims[1], 1, 1};
        const nd_view view = nd_view_channels_last(4, dims);
        steps[count++] =
            (nd_dnn_step){CUDNN_POINTWISE_ADD, dnn_tensor_of(nd_dnn_uid_bias, &view, problem->precision)};
    }
    if (work->activation.act == nd_act_relu) steps[count++] = (nd_dnn_step){.mode = CUDNN_POINTWISE_RELU_FWD};
    return count;
}

static nd_status dnn_assemble(const nd_dnn_problem *problem, bool fused, nd_dnn_graph *graph,
                              cudnnBackendDescriptor_t operations[4], int64_t *count) {
    const nd_dnn_tensor x = dnn_tensor_of(nd_dnn_uid_x, &problem->work.x, problem->precision);
    nd_dnn_tensor y = dnn_tensor_of(nd_dnn_uid_y, &problem->work.y, problem->precision);
    const nd_dnn_tensor w = dnn_filter(problem);
    nd_dnn_step steps[3];
    const int n_steps = fused ? dnn_steps(problem, steps) : 0;
    cudnnBackendDescriptor_t dx, dw, from, to, operand;
    if (nd_precision_is_quantised(problem->precision)) y.type = dnn_compute(problem->precision);
    ND_TRY(dnn_tensor_make(graph, &x, &dx));
    ND_TRY(dnn_tensor_make(graph, &w, &dw));
    nd_dnn_tensor between = y;
    between.is_virtual = true;
    between.type = CUDNN_DATA_FLOAT;
    between.uid = nd_dnn_uid_virtual;
    ND_TRY(dnn_tensor_make(graph, n_steps ? &between : &y, &from));
    ND_TRY(dnn_convolution(problem, graph, dx, dw, from, &operations[0]));
    *count = 1;
    for (int i = 0; i < n_steps; i++) {
        between.uid++;
        operand = NULL;
        if (steps[i].operand.uid) ND_TRY(dnn_tensor_make(graph, &steps[i].operand, &operand));
        ND_TRY(dnn_tensor_make(graph, i + 1 < n_steps ? &between : &y, &to));
        ND_TRY(dnn_pointwise(graph, steps[i].mode, from, operand, to, &operations[(*count)++]));
        from = to;
    }
    return nd_status_ok;
}

nd_status nd_dnn_graph_make(const nd_dnn_problem *problem, bool fused, cudnnHandle_t handle,
                            nd_dnn_graph *graph) {
    cudnnBackendDescriptor_t operations[4];
    int64_t count = 0;
    nd_status status = nd_status_ok;
    *graph = (nd_dnn_graph){0};
    ND_TRY_DONE(dnn_assemble(problem, fused, graph, operations, &count));
    ND_TRY_DONE(dnn_piece(graph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &graph->graph));
    ND_TRY_DONE(nd_dnn_set(graph->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
                           operations));
    if (handle)
        ND_TRY_DONE(
            nd_dnn_set(graph->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle));
    ND_CUDNN_TRY_DONE(cudnnBackendFinalize(graph->graph));
done:
    if (status) nd_dnn_graph_free(graph);
    return status;
}

/* An engine that cannot say how it behaves is taken for one of those that are there ready-made. */
static bool dnn_is_compiled(cudnnBackendDescriptor_t engine) {
    cudnnBackendBehaviorNote_t notes[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t count = 0;
    bool compiled = false;
    if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                 CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &count, notes))
        return false;
    for (int64_t i = 0; i < count; i++)
        compiled = compiled || notes[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    return compiled;
}

/* "eng62,k2=1,k5=3" and the notes of an engine configuration. */
static nd_status dnn_describe(nd_dnn_candidate *candidate) {
    enum { knobs_max = 64 };
    cudnnBackendDescriptor_t engine = NULL, knobs[knobs_max] = {NULL};
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0, index = 0;
    nd_status status = nd_status_ok;
    ND_CUDNN_TRY_DONE(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    ND_CUDNN_TRY_DONE(cudnnBackendGetAttribute(candidate->config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                               CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine));
    ND_CUDNN_TRY_DONE(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1,
                                               &count, &index));
    ND_CUDNN_TRY_DONE(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                               CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
                                               &count, notes));
    for (int64_t i = 0; i < count; i++) candidate->notes |= 1u << notes[i];
    candidate->compiled = dnn_is_compiled(engine);
    size_t at = (size_t)snprintf(candidate->name, sizeof candidate->name, "eng%lld", (long long)index);
    for (int i = 0; i < knobs_max; i++)
        ND_CUDNN_TRY_DONE(cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[i]));
    ND_CUDNN_TRY_DONE(cudnnBackendGetAttribute(candidate->config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                               CUDNN_TYPE_BACKEND_DESCRIPTOR, knobs_max, &count, knobs));
    for (int64_t i = 0; i < count && i < knobs_max && at < sizeof candidate->name; i++) {
        cudnnBackendKnobType_t type;
        int64_t value = 0, one;
        ND_CUDNN_TRY_DONE(cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                                   CUDNN_TYPE_KNOB_TYPE, 1, &one, &type));
        ND_CUDNN_TRY_DONE(cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE,
                                                   CUDNN_TYPE_INT64, 1, &one, &value));
        at += (size_t)snprintf(candidate->name + at, sizeof candidate->name - at, ",k%d=%lld", (int)type,
                               (long long)value);
    }
done:
    for (int i = 0; i < knobs_max; i++)
        if (knobs[i]) (void)cudnnBackendDestroyDescriptor(knobs[i]);
    if (engine) (void)cudnnBackendDestroyDescriptor(engine);
    return status;
}

static bool dnn_candidates_have(const nd_dnn_candidates *candidates, const char *name) {
    for (int i = 0; i < candidates->count; i++)
        if (!strcmp(candidates->items[i].name, name)) return true;
    return false;
}

/* A mode that has nothing to propose for the graph is no failure; the others may. */
static nd_status dnn_candidates_add(const nd_dnn_graph *graph, cudnnBackendHeurMode_t mode,
                                    cudnnBackendDescriptor_t device, nd_dnn_candidates *candidates) {
    cudnnBackendDescriptor_t heuristic = NULL, configs[nd_dnn_candidates_max] = {NULL};
    int64_t available = 0, count = 0;
    nd_status status = nd_status_ok;
    ND_CUDNN_TRY_DONE(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic));
    ND_TRY_DONE(nd_dnn_set(heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                           &graph->graph));
    ND_TRY_DONE(nd_dnn_set(heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    if (device)
        ND_TRY_DONE(nd_dnn_set(heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                               &device));
    if (cudnnBackendFinalize(heuristic)) goto done;
    if (cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                                 &available, NULL))
        goto done;
    if (available > nd_dnn_candidates_max - candidates->count)
        available = nd_dnn_candidates_max - candidates->count;
    for (int64_t i = 0; i < available; i++)
        ND_CUDNN_TRY_DONE(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[i]));
    if (available)
        ND_CUDNN_TRY_DONE(cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                   CUDNN_TYPE_BACKEND_DESCRIPTOR, available, &count,
                                                   configs));
    for (int64_t i = 0; i < count; i++) {
        nd_dnn_candidate candidate = {.config = configs[i]};
        ND_TRY_DONE(dnn_describe(&candidate));
        if (dnn_candidates_have(candidates, candidate.name)) continue;
        candidates->items[candidates->count++] = candidate;
        configs[i] = NULL;
    }
done:
    for (int64_t i = 0; i < nd_dnn_candidates_max; i++)
        if (configs[i]) (void)cudnnBackendDestroyDescriptor(configs[i]);
    if (heuristic) (void)cudnnBackendDestroyDescriptor(heuristic);
    return status;
}

/* Those on tensor cores to the front, the order else kept. */
static void dnn_candidates_prefer(nd_dnn_candidates *candidates) {
    int front = 0;
    for (int i = 0; i < candidates->count; i++) {
        const nd_dnn_candidate candidate = candidates->items[i];
        if (!(candidate.notes >> CUDNN_NUMERICAL_NOTE_TENSOR_CORE & 1)) continue;
        memmove(&candidates->items[front + 1], &candidates->items[front],
                (size_t)(i - front) * sizeof candidate);
        candidates->items[front++] = candidate;
    }
}

/* Sums of integers on tensor cores are proposed last, after engines that have none. */
nd_status nd_dnn_candidates_find(const nd_dnn_graph *graph, cudnnBackendDescriptor_t device,
                                 nd_precision precision, nd_dnn_candidates *candidates) {
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    *candidates = (nd_dnn_candidates){0};
    candidates->items = nd_alloc_array(nd_dnn_candidates_max, sizeof *candidates->items);
    ND_REQUIRE(candidates->items, nd_status_memory, "no memory for cuDNN's candidates");
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        nd_status status = dnn_candidates_add(graph, modes[i], device, candidates);
        if (!status) continue;
        nd_dnn_candidates_free(candidates);
        return status;
    }
    if (nd_precision_is_quantised(precision)) dnn_candidates_prefer(candidates);
    return nd_status_ok;
}

void nd_dnn_candidates_free(nd_dnn_candidates *candidates) {
    for (int i = 0; i < candidates->count; i++)
        if (candidates->items[i].config) (void)cudnnBackendDestroyDescriptor(candidates->items[i].config);
    free(candidates->items);
    *candidates = (nd_dnn_candidates){0};
}

bool nd_dnn_notes_allow(uint32_t notes, nd_precision precision) {
    const uint32_t tensor_core = 1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    const uint32_t down = 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    const uint32_t reduced = 1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    if (notes & (reduced | down)) return false;
    return precision != nd_precision_fp32 || !(notes & tensor_core);
}

bool nd_dnn_notes_transform(uint32_t notes) {
    return notes >> CUDNN_NUMERICAL_NOTE_FFT & 1 || notes >> CUDNN_NUMERICAL_NOTE_WINOGRAD & 1 ||
           notes >> CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4 & 1 ||
           notes >> CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 & 1 ||
           notes >> CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13 & 1;
}

const char *nd_dnn_notes_format(uint32_t notes, char *text, size_t size) {
    static const char *const names[] = {
        "tensor_core",  "down_convert", "reduced_reduction", "fft",       "nondeterministic", "winograd",
        "winograd_4x4", "winograd_6x6", "winograd_13x13",    "strict_nan"};
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof *names && at < size; i++)
        if (notes >> i & 1) at += (size_t)snprintf(text + at, size - at, "%s%s", at ? " " : "", names[i]);
    return text;
}

nd_status nd_dnn_plan_build(const nd_dnn_candidate *candidate, cudnnHandle_t handle,
                            cudnnBackendDescriptor_t device, cudnnBackendDescriptor_t *plan,
                            int64_t *workspace) {
    int64_t count;
    nd_status status = nd_status_ok;
    *plan = NULL;
    *workspace = 0;
    ND_CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, plan));
    ND_TRY_DONE(nd_dnn_set(*plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                           &candidate->config));
    if (handle)
        ND_TRY_DONE(nd_dnn_set(*plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle));
    if (device)
        ND_TRY_DONE(nd_dnn_set(*plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                               &device));
    if (cudnnBackendFinalize(*plan) ||
        cudnnBackendGetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                 workspace)) {
        (void)cudnnBackendDestroyDescriptor(*plan);
        *plan = NULL;
    }
done:
    if (status) {
        (void)cudnnBackendDestroyDescriptor(*plan);
        *plan = NULL;
    }
    return status;
}
