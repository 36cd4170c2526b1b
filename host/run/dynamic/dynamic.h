/* Runs nodes one by one on tensors in host memory, whose sizes may be other ones in every run and which
 * may hold integers: the boxes that a detector finds, the indices of a TopK. An executor plans all nodes
 * that it can; these are the rest.
 *
 * Tensors are row-major and dense, f32, i64 or bool: floating point of any width is f32, integers are i64.
 * Empty ones are as good as any. Rules are those of the ONNX operators. */
#ifndef ND_RUN_DYNAMIC_DYNAMIC_H
#define ND_RUN_DYNAMIC_DYNAMIC_H

#include "run/executor.h"

typedef struct nd_dynamic nd_dynamic;

/* What plans and runs a graph of one node: products, convolutions and what else is best left to a backend.
 * Handed in, as the executor stands above. */
typedef struct nd_dynamic_runner {
    nd_status (*open)(nd_backend *backend, const nd_graph *graph, const nd_exec_settings *settings,
                      nd_exec **out);
    nd_status (*run)(nd_exec *exec, int64_t n, const float *const *inputs, float *const *outputs);
    void (*close)(nd_exec *exec);
} nd_dynamic_runner;

/* nodes[i]: whether node i of the graph is one of those to run. `outputs` are kept until the next run. All
 * but `nodes` and `outputs` outlive it. nd_status_unsupported names a node that it does not run. */
nd_status nd_dynamic_open(nd_backend *backend, const nd_dynamic_runner *runner, const nd_graph *graph,
                          const bool *nodes, const int *outputs, int n_outputs, nd_dynamic **out);
void nd_dynamic_close(nd_dynamic *dynamic); /* NULL is legal */

/* Gives a value, as f32, that is no result of these nodes; shares the tensor. */
nd_status nd_dynamic_feed(nd_dynamic *dynamic, int value, const nd_tensor *tensor);
nd_status nd_dynamic_run(nd_dynamic *dynamic);
/* One of the outputs, after a run. */
const nd_tensor *nd_dynamic_value(const nd_dynamic *dynamic, int value);

#endif
