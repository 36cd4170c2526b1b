#include "cuda/libs/dnn.h"
#include "base/log.h"
#include "cuda/libs/dnn_graph.h"
#include "cuda/libs/dnn_key.h"
#include "cuda/tune/autotune.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A plan that was built once and serves every kernel of its problem: building one asks the heuristics, and
 * may compile. `plan` refers to its graph and to the configuration it was built from; NULL for the legacy
 * call. `engine` is empty where cuDNN has none. */
typedef struct nd_dnn_built {
    char key[nd_sha256_hex_size], engine[nd_dnn_name_size + 32];
    nd_dnn_graph graph;
    cudnnBackendDescriptor_t config, plan;
    size_t workspace;
    bool transformed;
} nd_dnn_built;

struct nd_dnn {
    cudnnHandle_t handle;
    nd_dnn_built *built; /* grown */
    size_t n_built, capacity;
};

static void dnn_built_free(nd_dnn_built *built) {
    if (built->plan) (void)cudnnBackendDestroyDescriptor(built->plan);
    if (built->config) (void)cudnnBackendDestroyDescriptor(built->config);
    nd_dnn_graph_free(&built->graph);
}

nd_status nd_dnn_open(nd_cuda *cuda, nd_dnn **out) {
    nd_dnn *dnn = *out = nd_alloc_array(1, sizeof *dnn);
    ND_REQUIRE(dnn, nd_status_memory, "no memory for cuDNN");
    ND_REQUIRE(cudnnGetVersion() / 10000 == CUDNN_MAJOR && cudnnGetVersion() >= 90800, nd_status_backend,
               "cuDNN %zu.%zu is too old: 9.8 or a later 9 is needed", cudnnGetVersion() / 10000,
               cudnnGetVersion() / 100 % 100);
    ND_CUDNN_TRY(cudnnCreate(&dnn->handle));
    ND_CUDNN_TRY(cudnnSetStream(dnn->handle, cuda->stream));
    return nd_status_ok;
}

void nd_dnn_close(nd_dnn *dnn) {
    if (!dnn) return;
    for (size_t i = 0; i < dnn->n_built; i++) dnn_built_free(&dnn->built[i]);
    free(dnn->built);
    if (dnn->handle) (void)cudnnDestroy(dnn->handle);
    free(dnn);
}

const char *nd_dnn_version(char *text, size_t size) {
    const size_t version = cudnnGetVersion();
    snprintf(text, size, "%zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
    return text;
}

/* A graph plan, or the legacy call of one fixed algorithm. */
struct nd_dnn_plan {
    const nd_cuda *cuda;
    nd_dnn_problem problem;
    cudnnBackendDescriptor_t plan, pack;
    nd_dnn_graph graph;              /* of `plan`, where it is this plan's own */
    cudnnBackendDescriptor_t config; /* likewise */
    bool shared;                     /* `plan` is one that was built for the problem: nd_dnn_built */
    bool fused;                      /* bias, residual and ReLU are in the plan */
    bool transformed;                /* by Winograd or Fourier */
    cudnnTensorDescriptor_t x, y;    /* legacy */
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    size_t workspace;
    char name[nd_dnn_name_size + 32];
};

/* Of the engines that are compiled when they are built, so many are tried for a problem. */
enum { nd_dnn_compiled_max = 2 };

static const char nd_dnn_legacy_name[] = "legacy_winograd_nonfused";

void nd_dnn_plan_free(nd_dnn_plan *plan) {
    if (!plan) return;
    if (plan->pack) (void)cudnnBackendDestroyDescriptor(plan->pack);
    if (plan->plan && !plan->shared) (void)cudnnBackendDestroyDescriptor(plan->plan);
    if (plan->config) (void)cudnnBackendDestroyDescriptor(plan->config);
    nd_dnn_graph_free(&plan->graph);
    if (plan->x) (void)cudnnDestroyTensorDescriptor(plan->x);
    if (plan->y) (void)cudnnDestroyTensorDescriptor(plan->y);
    if (plan->w) (void)cudnnDestroyFilterDescriptor(plan->w);
    if (plan->conv) (void)cudnnDestroyConvolutionDescriptor(plan->conv);
    free(plan);
}

size_t nd_dnn_plan_workspace(const nd_dnn_plan *plan) {
    return plan->workspace;
}

bool nd_dnn_plan_transformed(const nd_dnn_plan *plan) {
    return plan->transformed;
}

const char *nd_dnn_plan_name(const nd_dnn_plan *plan) {
    return plan->name;
}

static bool dnn_has_epilogue(const nd_dnn_problem *problem) {
    return problem->bias || problem->work.residual || problem->work.activation.act != nd_act_none;
}

/* By an activation that the graph leaves out. */
static bool dnn_is_followed(const nd_dnn_problem *problem) {
    const nd_act act = problem->work.activation.act;
    return act != nd_act_none && act != nd_act_relu;
}

static nd_status dnn_plan_new(const nd_cuda *cuda, const nd_dnn_problem *problem, bool fused,
                              const char *engine, nd_dnn_plan **out) {
    nd_dnn_plan *plan = *out = nd_alloc_array(1, sizeof *plan);
    ND_REQUIRE(plan, nd_status_memory, "no memory for a cuDNN plan");
    plan->cuda = cuda;
    plan->problem = *problem;
    plan->fused = fused;
    const bool followed = fused ? dnn_is_followed(problem) : dnn_has_epilogue(problem);
    snprintf(plan->name, sizeof plan->name, "cudnn:%s%s", engine,
             !followed ? ""
             : fused   ? "+activation"
                       : "+epilogue");
    return nd_status_ok;
}

static nd_status dnn_run_graph(nd_dnn_plan *plan, const nd_dnn_operands *o) {
    const nd_work *work = &plan->problem.work;
    const nd_precision precision = plan->problem.precision;
    int64_t uids[] = {nd_dnn_uid_x, nd_dnn_uid_w, nd_dnn_uid_y, nd_dnn_uid_bias, nd_dnn_uid_x2};
    void *pointers[] = {nd_cuda_at(o->x, &work->x, precision), (void *)(uintptr_t)o->w,
                        nd_cuda_at(o->y, &work->y, precision), (void *)(uintptr_t)o->bias_stored, NULL};
    int64_t count = 3;
    if (plan->fused && plan->problem.bias) count++;
    if (plan->fused && work->residual) {
        uids[count] = nd_dnn_uid_x2;
        pointers[count++] = nd_cuda_at(o->x2, &work->x2, precision);
    }
    if (plan->pack) (void)cudnnBackendDestroyDescriptor(plan->pack);
    plan->pack = NULL;
    ND_CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &plan->pack));
    ND_TRY(nd_dnn_set(plan->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids));
    ND_TRY(
        nd_dnn_set(plan->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers));
    ND_TRY(nd_dnn_set(plan->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &o->workspace));
    ND_CUDNN_TRY(cudnnBackendFinalize(plan->pack));
    ND_CUDNN_TRY(cudnnBackendExecute(plan->cuda->dnn->handle, plan->plan, plan->pack));
    return nd_status_ok;
}

static nd_status dnn_run_legacy(nd_dnn_plan *plan, const nd_dnn_operands *o) {
    const nd_work *work = &plan->problem.work;
    const float one = 1, zero = 0;
    ND_CUDNN_TRY(cudnnConvolutionForward(
        plan->cuda->dnn->handle, &one, plan->x, nd_cuda_at(o->x, &work->x, plan->problem.precision), plan->w,
        o->w, plan->conv, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED, o->workspace, plan->workspace, &zero,
        plan->y, nd_cuda_at(o->y, &work->y, plan->problem.precision)));
    return nd_status_ok;
}

nd_status nd_dnn_plan_run(nd_dnn_plan *plan, const nd_dnn_operands *operands) {
    ND_TRY(plan->plan ? dnn_run_graph(plan, operands) : dnn_run_legacy(plan, operands));
    nd_work after = plan->problem.work;
    nd_cuda_call call = {
        .work = &after,
        .storage = nd_precision_storage(plan->problem.precision),
        .x = operands->y,
        .x2 = operands->x2,
        .y = operands->y,
        .bias = operands->bias,
        .stream = plan->cuda->stream,
    };
    if (!plan->fused) return dnn_has_epilogue(&plan->problem) ? nd_cuda_epilogue_launch(&call) : nd_status_ok;
    after.x = after.y;
    return dnn_is_followed(&plan->problem) ? nd_cuda_activation_launch(&call) : nd_status_ok;
}

/* The legacy interface has no asymmetric padding and is not told where tensors begin; what it does not take
 * is simply no candidate. */
static nd_status dnn_legacy_make(const nd_cuda *cuda, const nd_dnn_problem *problem, nd_dnn_plan **out) {
    static const cudnnDataType_t types[] = {CUDNN_DATA_FLOAT, CUDNN_DATA_FLOAT, CUDNN_DATA_HALF,
                                            CUDNN_DATA_BFLOAT16};
    const nd_work *work = &problem->work;
    const nd_window *g = &work->window;
    const cudnnDataType_t type = types[problem->precision];
    int dims[2][4], strides[2][4];
    nd_status status = nd_status_ok;
    *out = NULL;
    const int64_t starts = work->x.offset | work->y.offset,
                  size = (int64_t)nd_dtype_bytes(nd_precision_storage(problem->precision));
    ND_REQUIRE(g->pad[0] == g->pad[2] && g->pad[1] == g->pad[3] && g->kernel[0] == 3 && g->kernel[1] == 3 &&
                   starts * size % 16 == 0,
               nd_status_unsupported, "no legacy Winograd for this geometry");
    for (int i = 0; i < 4; i++) {
        dims[0][i] = (int)work->x.dims[i];
        dims[1][i] = (int)work->y.dims[i];
        strides[0][i] = (int)work->x.strides[i];
        strides[1][i] = (int)work->y.strides[i];
    }
    const int pads[] = {(int)g->pad[0], (int)g->pad[1]}, steps[] = {(int)g->stride[0], (int)g->stride[1]};
    const int dilations[] = {(int)g->dilation[0], (int)g->dilation[1]};
    const int filter[] = {dims[1][1], dims[0][1] / (int)work->groups, 3, 3};
    nd_dnn_plan *plan;
    ND_TRY(dnn_plan_new(cuda, problem, false, nd_dnn_legacy_name, &plan));
    ND_CUDNN_TRY_DONE(cudnnCreateTensorDescriptor(&plan->x));
    ND_CUDNN_TRY_DONE(cudnnCreateTensorDescriptor(&plan->y));
    ND_CUDNN_TRY_DONE(cudnnCreateFilterDescriptor(&plan->w));
    ND_CUDNN_TRY_DONE(cudnnCreateConvolutionDescriptor(&plan->conv));
    ND_CUDNN_TRY_DONE(cudnnSetTensorNdDescriptor(plan->x, type, 4, dims[0], strides[0]));
    ND_CUDNN_TRY_DONE(cudnnSetTensorNdDescriptor(plan->y, type, 4, dims[1], strides[1]));
    ND_CUDNN_TRY_DONE(cudnnSetFilterNdDescriptor(
        plan->w, type, problem->channels_last ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW, 4, filter));
    ND_CUDNN_TRY_DONE(cudnnSetConvolutionNdDescriptor(plan->conv, 2, pads, steps, dilations,
                                                      CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    ND_CUDNN_TRY_DONE(cudnnSetConvolutionGroupCount(plan->conv, (int)work->groups));
    ND_CUDNN_TRY_DONE(cudnnSetConvolutionMathType(
        plan->conv, problem->precision == nd_precision_fp32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH));
    ND_CUDNN_TRY_DONE(cudnnGetConvolutionForwardWorkspaceSize(
        cuda->dnn->handle, plan->x, plan->w, plan->conv, plan->y,
        CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED, &plan->workspace));
    ND_REQUIRE_DONE(plan->workspace <= cuda->workspace_limit, nd_status_unsupported,
                    "legacy Winograd wants %zu bytes of workspace", plan->workspace);
    plan->transformed = true;
    *out = plan;
done:
    if (status) nd_dnn_plan_free(plan);
    return status;
}

static nd_status dnn_graph_plan(const nd_cuda *cuda, const nd_dnn_problem *problem, bool fused,
                                const nd_dnn_candidate *candidate, nd_dnn_plan **out) {
    int64_t workspace;
    cudnnBackendDescriptor_t built;
    *out = NULL;
    ND_TRY(nd_dnn_plan_build(candidate, cuda->dnn->handle, NULL, &built, &workspace));
    if (built && (size_t)workspace > cuda->workspace_limit) {
        (void)cudnnBackendDestroyDescriptor(built);
        built = NULL;
    }
    if (!built)
        return nd_fail(nd_status_unsupported, "%s does not build within the workspace limit",
                       candidate->name);
    nd_status status = dnn_plan_new(cuda, problem, fused, candidate->name, out);
    if (status) {
        (void)cudnnBackendDestroyDescriptor(built);
        return status;
    }
    (*out)->plan = built;
    (*out)->workspace = (size_t)workspace;
    (*out)->transformed = nd_dnn_notes_transform(candidate->notes);
    return nd_status_ok;
}

/* [no][ni/groups][kh][kw] in the order of the problem. */
static nd_view dnn_filter(const nd_dnn_problem *problem) {
    const nd_work *work = &problem->work;
    const int64_t dims[] = {work->y.dims[1], work->x.dims[1] / work->groups, work->window.kernel[0],
                            work->window.kernel[1]};
    return problem->channels_last ? nd_view_channels_last(4, dims) : nd_view_row_major(4, dims);
}

static nd_status dnn_trial_run(void *candidate, void *user) {
    nd_dnn_plan *plan = candidate;
    nd_inputs *inputs = user;
    ND_TRY(nd_inputs_grow(inputs, plan->workspace));
    const nd_cuda_operands *o = &inputs->operands;
    const nd_dnn_operands all = {.x = o->x,
                                 .w = inputs->weights,
                                 .bias_stored = inputs->bias_stored,
                                 .bias = inputs->bias,
                                 .x2 = o->x2,
                                 .y = o->y,
                                 .workspace = o->workspace};
    return nd_dnn_plan_run(plan, &all);
}

static void dnn_trial_drop(void *candidate) {
    nd_dnn_plan_free(candidate);
}

static void dnn_trial_facts(const void *candidate, nd_autotune_facts *facts) {
    const nd_dnn_plan *plan = candidate;
    *facts = (nd_autotune_facts){plan->name, plan->transformed};
}

/* At most `most` of the engines that are compiled when they are built, or of those that are not. */
static void dnn_enter_some(nd_autotune *tuning, const nd_dnn_problem *problem, bool fused,
                           const nd_dnn_candidates *candidates, bool compiled, int most) {
    nd_dnn_plan *plan;
    for (int i = 0; i < candidates->count; i++) {
        const nd_dnn_candidate *candidate = &candidates->items[i];
        if (candidate->compiled != compiled || !nd_dnn_notes_allow(candidate->notes, problem->precision))
            continue;
        if (nd_autotune_is_late(tuning)) continue;
        if (most-- <= 0) {
            tuning->left++;
            continue;
        }
        if (!dnn_graph_plan(tuning->cuda, problem, fused, candidate, &plan)) nd_autotune_add(tuning, plan);
    }
}

/* Compiling takes more than a second an engine: the first of them come last, while there is time. */
static void dnn_enter_all(nd_autotune *tuning, const nd_dnn_problem *problem, bool fused,
                          const nd_dnn_candidates *candidates) {
    char text[160];
    nd_dnn_plan *plan;
    dnn_enter_some(tuning, problem, fused, candidates, false, INT_MAX);
    if (!dnn_legacy_make(tuning->cuda, problem, &plan)) nd_autotune_add(tuning, plan);
    dnn_enter_some(tuning, problem, fused, candidates, true, nd_dnn_compiled_max);
    if (tuning->left)
        nd_log(nd_log_info, "%s: %d of cuDNN's engines were not tried (ND_CUDA_TUNE_SECONDS=%g)",
               nd_inputs_text(tuning->inputs, text, sizeof text), tuning->left, tuning->cuda->tune_seconds);
}

/* *checked: the winner was verified against the direct kernel. Where all that runs is wrong, cuDNN has
 * nothing for the problem. */
static nd_status dnn_tune(nd_cuda *cuda, const nd_dnn_problem *problem, bool fused,
                          const nd_dnn_candidates *candidates, nd_dnn_plan **out, bool *checked) {
    nd_inputs inputs;
    const nd_view filter = dnn_filter(problem);
    nd_status status = nd_status_ok;
    ND_TRY(nd_inputs_make(cuda, &problem->work, problem->precision, &inputs));
    nd_autotune tuning = {.cuda = cuda,
                          .run = dnn_trial_run,
                          .drop = dnn_trial_drop,
                          .facts = dnn_trial_facts,
                          .until = nd_autotune_until(cuda),
                          .inputs = &inputs,
                          .user = &inputs};
    ND_TRY_DONE(nd_inputs_add_weights(&inputs, &filter, problem->bias));
    dnn_enter_all(&tuning, problem, fused, candidates);
    *out = nd_autotune_finish(&tuning);
    *checked = inputs.expected != NULL;
    ND_REQUIRE_DONE(*out || !tuning.wrong, nd_status_unsupported, "all %d engines that run are wrong",
                    tuning.wrong);
done:
    nd_inputs_free(&inputs);
    return status;
}

/* Place among the candidates, the legacy call after them; -1 where cuDNN no longer proposes it. */
static int dnn_find(const nd_dnn_candidates *candidates, const char *engine) {
    if (!strcmp(engine, nd_dnn_legacy_name)) return candidates->count;
    for (int i = 0; i < candidates->count; i++)
        if (!strcmp(candidates->items[i].name, engine)) return i;
    return -1;
}

static nd_status dnn_first(const nd_cuda *cuda, const nd_dnn_problem *problem, bool fused,
                           const nd_dnn_candidates *candidates, nd_dnn_plan **out) {
    for (int i = 0; i < candidates->count; i++) {
        if (!nd_dnn_notes_allow(candidates->items[i].notes, problem->precision)) continue;
        const nd_status status = dnn_graph_plan(cuda, problem, fused, &candidates->items[i], out);
        if (status != nd_status_unsupported) return status;
    }
    return nd_status_ok;
}

/* The engine's own name inside "cudnn:<engine>+epilogue". */
static void dnn_engine_of(const nd_dnn_plan *plan, char *engine, size_t size) {
    snprintf(engine, size, "%s", plan->name + strlen("cudnn:"));
    char *suffix = strchr(engine, '+');
    if (suffix) *suffix = '\0';
}

/* A plan refers to its graph and to the configuration it was built from: both go with it. */
static void dnn_plan_own(nd_dnn_plan *plan, nd_dnn_graph *graph, nd_dnn_candidates *candidates) {
    char engine[nd_dnn_name_size + 32];
    dnn_engine_of(plan, engine, sizeof engine);
    for (int i = 0; i < candidates->count && !plan->config; i++) {
        nd_dnn_candidate *candidate = &candidates->items[i];
        if (strcmp(candidate->name, engine)) continue;
        plan->config = candidate->config;
        candidate->config = NULL;
    }
    plan->graph = *graph;
    *graph = (nd_dnn_graph){0};
}

/* Of no engine yet; NULL where there is no memory for it. */
static nd_dnn_built *dnn_built_new(nd_dnn *dnn, const char *key) {
    if (dnn->n_built == dnn->capacity) {
        nd_dnn_built *grown = nd_array_grow(dnn->built, dnn->n_built, &dnn->capacity, sizeof *grown);
        if (!grown) return NULL;
        dnn->built = grown;
    }
    nd_dnn_built *built = &dnn->built[dnn->n_built++];
    *built = (nd_dnn_built){0};
    snprintf(built->key, sizeof built->key, "%s", key);
    return built;
}

/* Gives the plan to all kernels of the problem to come. Where there is no memory for that, it stays
 * its own. */
static void dnn_share(nd_dnn *dnn, const char *key, nd_dnn_plan *plan) {
    nd_dnn_built *built = dnn_built_new(dnn, key);
    if (!built) return;
    built->graph = plan->graph;
    built->config = plan->config;
    built->plan = plan->plan;
    built->workspace = plan->workspace;
    built->transformed = plan->transformed;
    dnn_engine_of(plan, built->engine, sizeof built->engine);
    plan->graph = (nd_dnn_graph){0};
    plan->config = NULL;
    plan->shared = true;
}

static nd_status dnn_none(const nd_dnn_problem *problem) {
    return nd_fail(nd_status_unsupported, "cuDNN has no engine for this convolution in %s",
                   nd_precision_name(problem->precision));
}

/* *out stays NULL where none was built for the problem. */
static nd_status dnn_borrow(const nd_cuda *cuda, const nd_dnn_problem *problem, bool fused, const char *key,
                            nd_dnn_plan **out) {
    for (size_t i = 0; i < cuda->dnn->n_built; i++) {
        const nd_dnn_built *built = &cuda->dnn->built[i];
        if (strcmp(built->key, key)) continue;
        if (!*built->engine) return dnn_none(problem);
        if (!built->plan) return dnn_legacy_make(cuda, problem, out);
        ND_TRY(dnn_plan_new(cuda, problem, fused, built->engine, out));
        (*out)->plan = built->plan;
        (*out)->shared = true;
        (*out)->workspace = built->workspace;
        (*out)->transformed = built->transformed;
        break;
    }
    return nd_status_ok;
}

/* The winner of an earlier process; *out stays NULL where there was none. */
static void dnn_known(nd_cuda *cuda, const nd_dnn_problem *problem, bool fused,
                      const nd_dnn_candidates *candidates, const char *key, nd_dnn_plan **out) {
    char engine[nd_choice_size];
    const int at = nd_choice_find(nd_autotune_file, key, engine) ? dnn_find(candidates, engine) : -1;
    if (at < 0) return;
    if (at >= candidates->count)
        (void)dnn_legacy_make(cuda, problem, out);
    else
        (void)dnn_graph_plan(cuda, problem, fused, &candidates->items[at], out);
}

static nd_status dnn_fastest(nd_cuda *cuda, const nd_dnn_problem *problem, bool fused,
                             const nd_dnn_candidates *candidates, const char *key, nd_dnn_plan **out) {
    char engine[nd_dnn_name_size + 32];
    bool checked = false;
    dnn_known(cuda, problem, fused, candidates, key, out);
    if (*out) return nd_status_ok;
    const nd_status status = dnn_tune(cuda, problem, fused, candidates, out, &checked);
    if (status == nd_status_memory) nd_log(nd_log_warn, "a convolution is not tuned: %s", nd_error());
    if (status || !*out) return status == nd_status_memory ? nd_status_ok : status;
    dnn_engine_of(*out, engine, sizeof engine);
    if (checked) nd_choice_keep(nd_autotune_file, key, engine);
    return nd_status_ok;
}

/* tuned: the same device where engines are to be measured, else NULL. */
static nd_status dnn_choose(const nd_cuda *cuda, nd_cuda *tuned, const nd_dnn_problem *problem, bool fused,
                            nd_dnn_plan **out) {
    char key[nd_sha256_hex_size];
    nd_dnn_graph graph = {0};
    nd_dnn_candidates candidates = {0};
    nd_status status = nd_status_ok;
    *out = NULL;
    nd_dnn_key(cuda, problem, fused, key);
    ND_TRY(dnn_borrow(cuda, problem, fused, key, out));
    if (*out) return nd_status_ok;
    ND_TRY_DONE(nd_dnn_graph_make(problem, fused, cuda->dnn->handle, &graph));
    ND_TRY_DONE(nd_dnn_candidates_find(&graph, NULL, problem->precision, &candidates));
    if (tuned) ND_TRY_DONE(dnn_fastest(tuned, problem, fused, &candidates, key, out));
    if (!*out) ND_TRY_DONE(dnn_first(cuda, problem, fused, &candidates, out));
    if (!*out) {
        (void)dnn_built_new(cuda->dnn, key);
        ND_TRY_DONE(dnn_none(problem));
    }
    if ((*out)->plan) dnn_plan_own(*out, &graph, &candidates);
    dnn_share(cuda->dnn, key, *out);
done:
    nd_dnn_candidates_free(&candidates);
    nd_dnn_graph_free(&graph);
    return status;
}

nd_status nd_dnn_plan_make(nd_cuda *cuda, const nd_dnn_problem *problem, nd_dnn_plan **out) {
    nd_cuda *tuned = cuda->tune && !nd_precision_is_quantised(problem->precision) ? cuda : NULL;
    const nd_status status = dnn_choose(cuda, tuned, problem, true, out);
    if (status != nd_status_unsupported || !dnn_has_epilogue(problem)) return status;
    return dnn_choose(cuda, tuned, problem, false, out);
}

bool nd_dnn_has(const nd_cuda *cuda, const nd_dnn_problem *problem) {
    nd_dnn_plan *plan;
    const bool has = !dnn_choose(cuda, NULL, problem, true, &plan);
    nd_dnn_plan_free(has ? plan : NULL);
    return has;
}

static nd_status dnn_device_make(const char *properties, cudnnBackendDescriptor_t *out) {
    *out = NULL;
    ND_CUDNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, out));
    ND_TRY(nd_dnn_set(*out, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                      (int64_t)strlen(properties), properties));
    ND_CUDNN_TRY(cudnnBackendFinalize(*out));
    return nd_status_ok;
}

nd_status nd_dnn_engines(const nd_dnn_problem *problem, const char *properties, nd_dnn_visit *visit,
                         void *context) {
    cudnnBackendDescriptor_t device = NULL;
    nd_dnn_graph graph = {0};
    nd_dnn_candidates candidates = {0};
    nd_status status = nd_status_ok;
    char notes[160];
    ND_TRY_DONE(dnn_device_make(properties, &device));
    ND_TRY_DONE(nd_dnn_graph_make(problem, true, NULL, &graph));
    ND_TRY_DONE(nd_dnn_candidates_find(&graph, device, problem->precision, &candidates));
    for (int i = 0; i < candidates.count; i++) {
        const nd_dnn_candidate *candidate = &candidates.items[i];
        cudnnBackendDescriptor_t plan;
        int64_t workspace;
        ND_TRY_DONE(nd_dnn_plan_build(candidate, NULL, device, &plan, &workspace));
        const nd_dnn_engine engine = {.name = candidate->name,
                                      .notes = nd_dnn_notes_format(candidate->notes, notes, sizeof notes),
                                      .usable = nd_dnn_notes_allow(candidate->notes, problem->precision),
                                      .workspace = plan ? workspace : -1};
        if (plan) (void)cudnnBackendDestroyDescriptor(plan);
        ND_TRY_DONE(visit(context, &engine));
    }
done:
    nd_dnn_candidates_free(&candidates);
    nd_dnn_graph_free(&graph);
    if (device) (void)cudnnBackendDestroyDescriptor(device);
    return status;
}
