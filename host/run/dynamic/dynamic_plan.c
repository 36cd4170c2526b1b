/* Operators without a function of their own: a graph of one node, planned on a backend for the sizes at
 * hand. The plan is kept for as long as they stay the same. */
#include "run/dynamic/dynamic_parts.h"

#include "model/infer/infer.h"

#include <stdlib.h>
#include <string.h>

enum { nd_plan_ends_max = 16 };

typedef struct nd_plan_kept {
    const nd_dynamic_runner *runner;
    nd_graph *graph;
    nd_exec *exec;
    int n;                       /* of inputs */
    int input[nd_plan_ends_max]; /* of the node */
    int rank[nd_plan_ends_max];
    int64_t dims[nd_plan_ends_max][nd_rank_max];
    const nd_buffer *held[nd_plan_ends_max]; /* by operand: of a constant, its bytes, which `graph` keeps */
    bool empty;                              /* planned for one row where there is none */
} nd_plan_kept;

void nd_plan_kept_free(nd_plan_kept *kept) {
    if (!kept) return;
    if (kept->exec) kept->runner->close(kept->exec);
    nd_graph_free(kept->graph);
    free(kept);
}

static void plan_drop(nd_call *call) {
    nd_plan_kept_free(call->kept);
    call->kept = NULL;
}

/* Weights, scales and integers are operands that a plan has as constants: those of another run make another
 * plan. */
static bool plan_is_constant(const nd_call *call, int k) {
    const nd_op op = call->node->op;
    const bool product = op == nd_op_matmul || op == nd_op_gemm || op == nd_op_einsum;
    return (k && !product) || call->graph->values[call->node->in[k]].init ||
           call->in[k]->dtype != nd_dtype_f32;
}

static bool plan_fits(const nd_call *call) {
    const nd_plan_kept *kept = call->kept;
    int n = 0;
    if (!kept) return false;
    for (int k = 0; k < call->node->n_in; k++) {
        const nd_tensor *x = call->in[k];
        if (!x) continue;
        if (plan_is_constant(call, k)) {
            if (x->buffer != kept->held[k]) return false;
            continue;
        }
        if (kept->empty || n == kept->n || kept->rank[n] != x->rank) return false;
        if (memcmp(kept->dims[n], x->dims, (size_t)x->rank * sizeof *x->dims)) return false;
        n++;
    }
    return n == kept->n;
}

static nd_status plan_input(nd_call *call, int k, int *value) {
    nd_plan_kept *kept = call->kept;
    const nd_tensor *x = call->in[k];
    *value = -1;
    if (!x) return nd_status_ok;
    if (plan_is_constant(call, k)) {
        kept->held[k] = x->buffer;
        return nd_graph_add_init(kept->graph, NULL, x, value);
    }
    ND_REQUIRE(kept->n < nd_plan_ends_max, nd_status_unsupported, "more than %d operands", nd_plan_ends_max);
    int64_t *dims = kept->dims[kept->n];
    memcpy(dims, x->dims, sizeof x->dims);
    kept->input[kept->n] = k;
    kept->rank[kept->n++] = x->rank;
    if (x->rank && !dims[0]) {
        kept->empty = true;
        dims[0] = 1;
    }
    ND_REQUIRE(nd_dims_count(x->rank, dims) > 0, nd_status_unsupported, "an empty operand");
    return nd_graph_add_input(kept->graph, "x", x->rank, dims, value);
}

static nd_status plan_build(nd_call *call) {
    const nd_node *node = call->node;
    nd_plan_kept *kept = call->kept;
    int in[nd_plan_ends_max], out;
    nd_node *copy;
    ND_TRY(nd_graph_new(node->name, &kept->graph));
    kept->graph->opset = call->graph->opset;
    ND_REQUIRE(node->n_in <= nd_plan_ends_max && node->n_out == 1, nd_status_unsupported,
               "more than %d operands or one result", nd_plan_ends_max);
    for (int k = 0; k < node->n_in; k++) ND_TRY(plan_input(call, k, &in[k]));
    ND_REQUIRE(kept->n > 0, nd_status_unsupported, "nothing but constants");
    ND_TRY(nd_graph_add_value(kept->graph, "y", &out));
    ND_TRY(nd_graph_add_output(kept->graph, out));
    ND_TRY(nd_graph_add_node(kept->graph, node->op, node->name, in, node->n_in, &out, 1, &copy));
    copy->attr = node->attr;
    copy->op_type = node->op_type;
    const int64_t batch = kept->rank[0] ? kept->dims[0][0] : 1;
    ND_TRY(nd_graph_infer(kept->graph, &(nd_infer_settings){.batch = batch}));
    return call->runner->open(call->backend, kept->graph, &(nd_exec_settings){.batch = batch}, &kept->exec);
}

static nd_status plan_run(nd_call *call) {
    nd_plan_kept *kept = call->kept;
    const nd_value *y = &kept->graph->values[kept->graph->outputs[0]];
    const float *inputs[nd_plan_ends_max];
    int64_t dims[nd_rank_max];
    memcpy(dims, y->dims, sizeof dims);
    if (kept->empty && y->rank) dims[0] = 0;
    ND_TRY(nd_call_new(nd_dtype_f32, y->rank, dims, &call->out[0]));
    if (kept->empty) return nd_status_ok;
    for (int i = 0; i < kept->n; i++) inputs[i] = call->in[kept->input[i]]->data;
    float *output = call->out[0].data;
    return call->runner->run(kept->exec, kept->rank[0] ? kept->dims[0][0] : 1, inputs, &output);
}

static nd_status plan_call(nd_call *call) {
    if (!plan_fits(call)) {
        plan_drop(call);
        call->kept = calloc(1, sizeof *call->kept);
        ND_REQUIRE(call->kept, nd_status_memory, "no memory");
        call->kept->runner = call->runner;
        const nd_status status = plan_build(call);
        if (status) {
            plan_drop(call);
            return status;
        }
    }
    return plan_run(call);
}

/* What only chooses among numbers gives integers of integers; those of 24 bits are numbers. */
static nd_status plan_integers(nd_call *call) {
    nd_tensor numbers, result = {0};
    const nd_tensor *in[] = {&numbers};
    nd_call sub = *call;
    ND_TRY(nd_call_convert(call->in[0], nd_dtype_f32, &numbers));
    sub.in = in;
    sub.out = &result;
    nd_status status = plan_call(&sub);
    call->kept = sub.kept;
    if (!status) status = nd_call_convert(&result, call->in[0]->dtype, &call->out[0]);
    nd_tensor_free(&numbers);
    nd_tensor_free(&result);
    return status;
}

nd_status nd_call_plan(nd_call *call) {
    const nd_op op = call->node->op;
    const bool chooses = op == nd_op_max_pool || op == nd_op_depth_to_space;
    return chooses && call->in[0] && call->in[0]->dtype != nd_dtype_f32 ? plan_integers(call)
                                                                        : plan_call(call);
}
