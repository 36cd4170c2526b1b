#include "model/model.h"
#include "run/dynamic/dynamic_parts.h"
#include "run/executor/executor_functions.h"

#include <stdlib.h>
#include <string.h>

/* Of an If or a Loop, a graph of its own, which reads values of the graph around it by their names. */
typedef struct nd_branch {
    nd_graph *graph;
    nd_dynamic *run;
    int declared; /* the first inputs of `graph`: a Loop gives them */
} nd_branch;

typedef struct nd_instruction {
    int node;
    nd_call_function *function; /* NULL: an If or a Loop */
    struct nd_plan_kept *kept;
    bool loop;
    nd_branch branches[2]; /* then, else; or the body */
} nd_instruction;

struct nd_dynamic {
    nd_backend *backend;
    const nd_dynamic_runner *runner;
    const nd_graph *graph;
    nd_instruction *list;
    int n;
    nd_tensor *values;    /* as graph->values; without a buffer: not there */
    int *last;            /* the last instruction that reads each; n for outputs, which are kept */
    const nd_tensor **in; /* room for the operands of one node */
    nd_tensor *out;
};

static const struct {
    const char *op;
    nd_call_function *function;
} nd_call_functions[] = {
    {"Add", nd_call_binary},
    {"And", nd_call_binary},
    {"Div", nd_call_binary},
    {"Equal", nd_call_binary},
    {"Greater", nd_call_binary},
    {"GreaterOrEqual", nd_call_binary},
    {"Less", nd_call_binary},
    {"LessOrEqual", nd_call_binary},
    {"Max", nd_call_binary},
    {"Min", nd_call_binary},
    {"Mod", nd_call_binary},
    {"Mul", nd_call_binary},
    {"Or", nd_call_binary},
    {"Pow", nd_call_binary},
    {"PRelu", nd_call_binary},
    {"Sub", nd_call_binary},
    {"Sum", nd_call_binary},
    {"Xor", nd_call_binary},
    {"Cast", nd_call_cast},
    {"Clip", nd_call_clip},
    {"IsNaN", nd_call_unary},
    {"Not", nd_call_unary},
    {"Where", nd_call_where},
    {"Concat", nd_call_concat},
    {"ConstantOfShape", nd_call_constant_of_shape},
    {"Dropout", nd_call_identity},
    {"Expand", nd_call_expand},
    {"Flatten", nd_call_flatten},
    {"Identity", nd_call_identity},
    {"Pad", nd_call_pad},
    {"Range", nd_call_range},
    {"Reshape", nd_call_reshape},
    {"Shape", nd_call_shape},
    {"Size", nd_call_size},
    {"Slice", nd_call_slice},
    {"Split", nd_call_split},
    {"Squeeze", nd_call_squeeze},
    {"Tile", nd_call_tile},
    {"Transpose", nd_call_transpose},
    {"Unsqueeze", nd_call_unsqueeze},
    {"Gather", nd_call_gather},
    {"GatherElements", nd_call_gather_elements},
    {"GatherND", nd_call_gather_nd},
    {"Scatter", nd_call_scatter_elements},
    {"ScatterElements", nd_call_scatter_elements},
    {"ScatterND", nd_call_scatter_nd},
    {"CumSum", nd_call_cumulative},
    {"ArgMax", nd_call_arg},
    {"ArgMin", nd_call_arg},
    {"NonMaxSuppression", nd_call_suppress},
    {"NonZero", nd_call_nonzero},
    {"RoiAlign", nd_call_roi_align},
    {"TopK", nd_call_top},
    {"ConvInteger", nd_call_conv_integer},
    {"DynamicQuantizeLinear", nd_call_quantize_dynamic},
    {"MatMulInteger", nd_call_matmul_integer},
    {"QuantizeLinear", nd_call_quantize},
    {"DequantizeLinear", nd_call_dequantize},
    {"QLinearConv", nd_call_qlinear_conv},
    {"QLinearMatMul", nd_call_qlinear_matmul},
    {"com.microsoft.QGemm", nd_call_qgemm},
    {"com.microsoft.QLinearAdd", nd_call_in_numbers},
    {"com.microsoft.QLinearAveragePool", nd_call_in_numbers},
    {"com.microsoft.QLinearConcat", nd_call_qlinear_concat},
    {"com.microsoft.QLinearGlobalAveragePool", nd_call_in_numbers},
    {"com.microsoft.QLinearLeakyRelu", nd_call_in_numbers},
    {"com.microsoft.QLinearMul", nd_call_in_numbers},
    {"com.microsoft.QLinearSigmoid", nd_call_in_numbers},
    {"com.microsoft.QLinearSoftmax", nd_call_in_numbers},
    {"GRU", nd_call_recurrent},
    {"LSTM", nd_call_recurrent},
    {"RNN", nd_call_recurrent},
    {"com.microsoft.DynamicQuantizeLSTM", nd_call_recurrent},
};

static nd_call_function *find_function(const nd_node *node) {
    const char *op = node->op_type;
    if (node->op == nd_op_opaque && !node->dynamic) return NULL;
    for (size_t i = 0; i < sizeof nd_call_functions / sizeof *nd_call_functions; i++)
        if (!strcmp(nd_call_functions[i].op, op)) return nd_call_functions[i].function;
    nd_activation activation;
    nd_reduction reduction;
    if (nd_exec_activation(node, &activation)) return nd_call_unary;
    if (nd_exec_reduction(node, &reduction)) return nd_call_reduce;
    return node->op == nd_op_opaque ? NULL : nd_call_plan;
}

/* The tensors of a file may lie anywhere in it, and have any type. */
static nd_status load_constant(const nd_tensor *init, nd_tensor *out) {
    const bool real = init->dtype <= nd_dtype_bf16, truth = init->dtype == nd_dtype_bool;
    const bool aligned = (uintptr_t)init->data % _Alignof(int64_t) == 0;
    const int64_t count = nd_tensor_count(init);
    const char *data = init->data;
    *out = nd_tensor_share(init);
    if (truth || (aligned && (init->dtype == nd_dtype_f32 || init->dtype == nd_dtype_i64)))
        return nd_status_ok;
    nd_tensor_free(out);
    ND_TRY(nd_tensor_new(real ? nd_dtype_f32 : nd_dtype_i64, init->rank, init->dims, out));
    if (init->dtype == nd_dtype_f32 || init->dtype == nd_dtype_i64) {
        if (count) memcpy(out->data, data, nd_tensor_bytes(init));
        return nd_status_ok;
    }
    if (real) {
        nd_tensor_to_f32(init, out->data);
        return nd_status_ok;
    }
    const size_t bytes = nd_dtype_bytes(init->dtype);
    const bool negative = init->dtype == nd_dtype_i8 || init->dtype == nd_dtype_i16 ||
                          init->dtype == nd_dtype_i32; /* little endian, as every machine here */
    for (int64_t i = 0; i < count; i++) {
        int64_t *item = &((int64_t *)out->data)[i];
        memcpy(item, data + (size_t)i * bytes, bytes);
        const int unused = 64 - 8 * (int)bytes;
        if (negative) *item = (int64_t)((uint64_t)*item << unused) >> unused;
    }
    return nd_status_ok;
}

static nd_status open_branch(const nd_dynamic *dynamic, const nd_node *node, const char *attribute,
                             nd_branch *out) {
    nd_status status = nd_status_ok;
    ND_TRY(nd_onnx_branch(dynamic->graph, node, attribute, &out->graph, &out->declared));
    const nd_graph *graph = out->graph;
    bool *nodes = nd_alloc_array((size_t)graph->n_nodes + 1, sizeof *nodes);
    ND_REQUIRE(nodes, nd_status_memory, "no memory");
    for (int i = 0; i < graph->n_nodes; i++) nodes[i] = graph->nodes[i].op != nd_op_constant;
    status = nd_dynamic_open(dynamic->backend, dynamic->runner, graph, nodes, graph->outputs,
                             graph->n_outputs, &out->run);
    free(nodes);
    return status;
}

static nd_status open_if(const nd_dynamic *dynamic, const nd_node *node, nd_instruction *instruction) {
    for (int b = 0; b < 2; b++) {
        nd_branch *branch = &instruction->branches[b];
        ND_TRY(open_branch(dynamic, node, b ? "else_branch" : "then_branch", branch));
        ND_REQUIRE(branch->graph->n_outputs == node->n_out && !branch->declared, nd_status_format,
                   "%d inputs and %d results of a branch, none and %d wanted", branch->declared,
                   branch->graph->n_outputs, node->n_out);
    }
    return nd_status_ok;
}

/* A body has the number of the round, the condition and what it hands on, and gives the condition, what it
 * hands on, and one slice of each other result. */
static nd_status open_loop(const nd_dynamic *dynamic, const nd_node *node, nd_instruction *instruction) {
    nd_branch *body = &instruction->branches[0];
    instruction->loop = true;
    ND_TRY(open_branch(dynamic, node, "body", body));
    ND_REQUIRE(body->declared >= 2 && body->declared <= node->n_in && node->n_out >= body->declared - 2 &&
                   body->graph->n_outputs == node->n_out + 1,
               nd_status_format, "a body of %d inputs and %d results", body->declared,
               body->graph->n_outputs);
    return nd_status_ok;
}

static nd_status open_branches(const nd_dynamic *dynamic, const nd_node *node, nd_instruction *instruction) {
    const bool loop = !strcmp(node->op_type, "Loop");
    const nd_status status =
        loop ? open_loop(dynamic, node, instruction) : open_if(dynamic, node, instruction);
    return status ? nd_fail_in(status, "%s (%s)", node->name, node->op_type) : nd_status_ok;
}

static nd_status open_instruction(nd_dynamic *dynamic, int i) {
    const nd_node *node = &dynamic->graph->nodes[i];
    const char *op = node->op_type;
    nd_instruction *next = &dynamic->list[dynamic->n];
    const bool branches = node->dynamic && (!strcmp(op, "If") || !strcmp(op, "Loop"));
    *next = (nd_instruction){.node = i, .function = branches ? NULL : find_function(node)};
    dynamic->n++; /* to be closed, whatever follows */
    if (branches) ND_TRY(open_branches(dynamic, node, next));
    ND_REQUIRE(branches || next->function, nd_status_unsupported,
               "%s (%s): nd does not run this operator where sizes or integers follow from the data",
               node->name, op);
    for (int k = 0; k < node->n_in + node->n_out; k++) {
        const int value = k < node->n_in ? node->in[k] : node->out[k - node->n_in];
        ND_REQUIRE(value < 0 || dynamic->graph->values[value].dtype != nd_dtype_e4m3, nd_status_unsupported,
                   "%s (%s): e4m3 is run only between QuantizeLinear and DequantizeLinear", node->name, op);
    }
    for (int k = 0; k < node->n_in; k++) {
        const int value = node->in[k];
        if (value < 0) continue;
        const nd_tensor *init = dynamic->graph->values[value].init;
        dynamic->last[value] = dynamic->n - 1;
        if (init && !dynamic->values[value].buffer) ND_TRY(load_constant(init, &dynamic->values[value]));
    }
    return nd_status_ok;
}

static nd_status open_lists(nd_dynamic *dynamic, const bool *nodes) {
    const nd_graph *graph = dynamic->graph;
    size_t count = 0, ends = 1;
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        if (!nodes[i]) continue;
        count++;
        if ((size_t)node->n_in > ends) ends = (size_t)node->n_in;
        if ((size_t)node->n_out > ends) ends = (size_t)node->n_out;
    }
    dynamic->list = nd_alloc_array(count + 1, sizeof *dynamic->list);
    dynamic->values = nd_alloc_array((size_t)graph->n_values + 1, sizeof *dynamic->values);
    dynamic->last = nd_alloc_array((size_t)graph->n_values + 1, sizeof *dynamic->last);
    dynamic->in = nd_alloc_array(ends, sizeof *dynamic->in);
    dynamic->out = nd_alloc_array(ends, sizeof *dynamic->out);
    ND_REQUIRE(dynamic->list && dynamic->values && dynamic->last && dynamic->in && dynamic->out,
               nd_status_memory, "no memory");
    for (int i = 0; i < graph->n_values; i++) dynamic->last[i] = -1;
    return nd_status_ok;
}

nd_status nd_dynamic_open(nd_backend *backend, const nd_dynamic_runner *runner, const nd_graph *graph,
                          const bool *nodes, const int *outputs, int n_outputs, nd_dynamic **out) {
    nd_dynamic *dynamic = calloc(1, sizeof *dynamic);
    nd_status status = nd_status_ok;
    *out = NULL;
    ND_REQUIRE(dynamic, nd_status_memory, "no memory");
    *dynamic = (nd_dynamic){.backend = backend, .runner = runner, .graph = graph};
    ND_TRY_DONE(open_lists(dynamic, nodes));
    for (int i = 0; i < graph->n_nodes; i++)
        if (nodes[i]) ND_TRY_DONE(open_instruction(dynamic, i));
    for (int i = 0; i < n_outputs; i++) {
        const nd_tensor *init = graph->values[outputs[i]].init; /* of a branch it may be a constant */
        dynamic->last[outputs[i]] = dynamic->n;
        if (init && !dynamic->values[outputs[i]].buffer)
            ND_TRY_DONE(load_constant(init, &dynamic->values[outputs[i]]));
    }
    *out = dynamic;
    dynamic = NULL;
done:
    nd_dynamic_close(dynamic);
    return status;
}

void nd_dynamic_close(nd_dynamic *dynamic) {
    if (!dynamic) return;
    for (int i = 0; i < dynamic->n; i++) {
        nd_plan_kept_free(dynamic->list[i].kept);
        for (int b = 0; b < 2; b++) {
            nd_dynamic_close(dynamic->list[i].branches[b].run);
            nd_graph_free(dynamic->list[i].branches[b].graph);
        }
    }
    for (int i = 0; dynamic->values && i < dynamic->graph->n_values; i++) nd_tensor_free(&dynamic->values[i]);
    free(dynamic->list);
    free(dynamic->values);
    free(dynamic->last);
    free(dynamic->in);
    free(dynamic->out);
    free(dynamic);
}

/* The plan holds truth values and integers as the numbers they are. */
nd_status nd_dynamic_feed(nd_dynamic *dynamic, int value, const nd_tensor *tensor) {
    const nd_dtype declared = dynamic->graph->values[value].dtype;
    const nd_dtype dtype = declared <= nd_dtype_bf16   ? nd_dtype_f32
                           : declared == nd_dtype_bool ? nd_dtype_bool
                                                       : nd_dtype_i64;
    nd_tensor_free(&dynamic->values[value]);
    return nd_call_convert(tensor, dtype, &dynamic->values[value]);
}

/* What a branch reads of the graph around it. */
static nd_status give_branch(const nd_dynamic *dynamic, const nd_branch *branch) {
    nd_dynamic *run = branch->run;
    for (int i = branch->declared; i < branch->graph->n_inputs; i++) {
        const int to = branch->graph->inputs[i];
        const int from = nd_graph_find_value(dynamic->graph, branch->graph->values[to].name);
        if (run->last[to] < 0) continue; /* the other branch reads it */
        ND_REQUIRE(from >= 0 && dynamic->values[from].buffer, nd_status_internal,
                   "'%s' is read before it is made", branch->graph->values[to].name);
        nd_tensor_free(&run->values[to]);
        run->values[to] = nd_tensor_share(&dynamic->values[from]);
    }
    return nd_status_ok;
}

static nd_status truth_of(const nd_tensor *condition, bool *out) {
    ND_REQUIRE(condition && condition->dtype == nd_dtype_bool && nd_tensor_count(condition) == 1,
               nd_status_format, "a condition that is no single truth value");
    *out = *(const uint8_t *)condition->data;
    return nd_status_ok;
}

static nd_status run_if(const nd_dynamic *dynamic, const nd_instruction *now, nd_tensor *out) {
    bool truth = false;
    ND_TRY(truth_of(dynamic->in[0], &truth));
    const nd_branch *branch = &now->branches[!truth];
    ND_TRY(give_branch(dynamic, branch));
    ND_TRY(nd_dynamic_run(branch->run));
    for (int k = 0; k < branch->graph->n_outputs; k++)
        out[k] = nd_tensor_share(&branch->run->values[branch->graph->outputs[k]]);
    return nd_status_ok;
}

/* Behind the slices of the rounds before; `all` has room for twice as many whenever it is full. */
static nd_status loop_collect(const nd_tensor *slice, int64_t round, nd_tensor *all) {
    const size_t bytes = nd_tensor_bytes(slice);
    if (!round) {
        int64_t dims[nd_rank_max] = {1};
        ND_REQUIRE(slice->rank < nd_rank_max, nd_status_unsupported, "slices of %d axes", slice->rank);
        memcpy(dims + 1, slice->dims, (size_t)slice->rank * sizeof *dims);
        ND_TRY(nd_call_new(slice->dtype, slice->rank + 1, dims, all));
    }
    ND_REQUIRE(all->dtype == slice->dtype && all->rank == slice->rank + 1 &&
                   !memcmp(all->dims + 1, slice->dims, (size_t)slice->rank * sizeof *all->dims),
               nd_status_format, "slices of several shapes or types");
    if (round == all->dims[0]) {
        nd_tensor wide;
        int64_t dims[nd_rank_max];
        memcpy(dims, all->dims, sizeof dims);
        dims[0] *= 2;
        ND_TRY(nd_call_new(all->dtype, all->rank, dims, &wide));
        if (bytes) memcpy(wide.data, all->data, (size_t)round * bytes);
        nd_tensor_free(all);
        *all = wide;
    }
    if (bytes) memcpy((char *)all->data + (size_t)round * bytes, slice->data, bytes);
    return nd_status_ok;
}

static nd_status loop_give(nd_dynamic *run, int value, const nd_tensor *tensor) {
    ND_REQUIRE(tensor && tensor->buffer, nd_status_format, "an operand of the body is missing");
    const nd_tensor shared = nd_tensor_share(tensor);
    nd_tensor_free(&run->values[value]);
    run->values[value] = shared;
    return nd_status_ok;
}

/* One round: out[] starts as what is handed on, and ends as that, followed by all slices. */
static nd_status loop_round(const nd_dynamic *dynamic, const nd_branch *body, int64_t round, bool *more,
                            nd_tensor *out) {
    const nd_graph *graph = body->graph;
    nd_dynamic *run = body->run;
    nd_tensor number = {0}, truth = {0};
    nd_status status = give_branch(dynamic, body);
    if (!status) status = nd_call_new(nd_dtype_i64, 0, NULL, &number);
    if (!status) status = nd_call_new(nd_dtype_bool, 0, NULL, &truth);
    if (status) goto done;
    *(int64_t *)number.data = round;
    *(uint8_t *)truth.data = 1;
    ND_TRY_DONE(loop_give(run, graph->inputs[0], &number));
    ND_TRY_DONE(loop_give(run, graph->inputs[1], &truth));
    for (int k = 2; k < body->declared; k++) ND_TRY_DONE(loop_give(run, graph->inputs[k], &out[k - 2]));
    ND_TRY_DONE(nd_dynamic_run(run));
    ND_TRY_DONE(truth_of(&run->values[graph->outputs[0]], more));
    for (int k = 1; k < graph->n_outputs; k++) {
        const nd_tensor *result = &run->values[graph->outputs[k]];
        if (k > body->declared - 2) {
            ND_TRY_DONE(loop_collect(result, round, &out[k - 1]));
            continue;
        }
        const nd_tensor shared = nd_tensor_share(result);
        nd_tensor_free(&out[k - 1]);
        out[k - 1] = shared;
    }
done:
    nd_tensor_free(&number);
    nd_tensor_free(&truth);
    return status;
}

static nd_status run_loop(const nd_dynamic *dynamic, const nd_instruction *now, nd_tensor *out) {
    static const int64_t most = INT64_C(1) << 24; /* a condition that never fails is no network */
    const nd_branch *body = &now->branches[0];
    const nd_tensor *trips = dynamic->in[0];
    const int handed = body->declared - 2, results = body->graph->n_outputs - 1;
    int64_t count = INT64_MAX, round = 0;
    bool more = true;
    if (dynamic->in[1]) ND_TRY(truth_of(dynamic->in[1], &more));
    ND_REQUIRE(!trips || (trips->dtype == nd_dtype_i64 && nd_tensor_count(trips) == 1), nd_status_format,
               "a trip count that is no single integer");
    if (trips) count = *(const int64_t *)trips->data;
    for (int k = 0; k < handed; k++) {
        ND_REQUIRE(dynamic->in[k + 2], nd_status_format, "input %d is missing", k + 2);
        out[k] = nd_tensor_share(dynamic->in[k + 2]);
    }
    for (; round < count && more; round++) {
        ND_REQUIRE(round < most, nd_status_unsupported, "over %lld rounds", (long long)most);
        ND_TRY(loop_round(dynamic, body, round, &more, out));
    }
    for (int k = handed; k < results; k++) {
        if (!round) ND_TRY(nd_call_new(nd_dtype_f32, 1, (const int64_t[]){0}, &out[k]));
        if (round) out[k].dims[0] = round; /* the room behind them is not theirs */
    }
    return nd_status_ok;
}

static nd_status run_instruction(nd_dynamic *dynamic, int i) {
    nd_instruction *now = &dynamic->list[i];
    const nd_node *node = &dynamic->graph->nodes[now->node];
    for (int k = 0; k < node->n_in; k++) {
        const nd_tensor *x = node->in[k] < 0 ? NULL : &dynamic->values[node->in[k]];
        ND_REQUIRE(!x || x->buffer, nd_status_internal, "input %d is read before it is made", k);
        dynamic->in[k] = x;
    }
    for (int k = 0; k < node->n_out; k++) dynamic->out[k] = (nd_tensor){0};
    nd_call call = {.backend = dynamic->backend,
                    .runner = dynamic->runner,
                    .graph = dynamic->graph,
                    .node = node,
                    .in = dynamic->in,
                    .out = dynamic->out,
                    .kept = now->kept};
    const nd_status status = now->function ? now->function(&call)
                             : now->loop   ? run_loop(dynamic, now, dynamic->out)
                                           : run_if(dynamic, now, dynamic->out);
    now->kept = call.kept;
    for (int k = 0; k < node->n_out; k++) {
        if (status || node->out[k] < 0) {
            nd_tensor_free(&dynamic->out[k]);
            continue;
        }
        nd_tensor_free(&dynamic->values[node->out[k]]);
        dynamic->values[node->out[k]] = dynamic->out[k];
    }
    return status;
}

/* What nobody reads any more; constants stay. */
static void run_forget(nd_dynamic *dynamic, int i) {
    const nd_node *node = &dynamic->graph->nodes[dynamic->list[i].node];
    for (int k = 0; k < node->n_in + node->n_out; k++) {
        const int value = k < node->n_in ? node->in[k] : node->out[k - node->n_in];
        if (value >= 0 && dynamic->last[value] <= i && !dynamic->graph->values[value].init)
            nd_tensor_free(&dynamic->values[value]);
    }
}

nd_status nd_dynamic_run(nd_dynamic *dynamic) {
    for (int i = 0; i < dynamic->n; i++) {
        const nd_node *node = &dynamic->graph->nodes[dynamic->list[i].node];
        const nd_status status = run_instruction(dynamic, i);
        if (status) return nd_fail_in(status, "%s (%s)", node->name, node->op_type);
        run_forget(dynamic, i);
    }
    return nd_status_ok;
}

const nd_tensor *nd_dynamic_value(const nd_dynamic *dynamic, int value) {
    return &dynamic->values[value];
}
