/* Runs a graph, or a part of one, on a backend. */
#ifndef ND_RUN_EXECUTOR_H
#define ND_RUN_EXECUTOR_H

#include "model/graph.h"
#include "run/backend.h"

#pragma GCC visibility push(default)

typedef struct nd_exec nd_exec;

/* How DW+PW pairs run. */
typedef enum nd_fuse {
    nd_fuse_auto,   /* the separable op where the backend supports it */
    nd_fuse_off,    /* always as two convolutions */
    nd_fuse_forced, /* an error where the backend does not support it */
} nd_fuse;

typedef struct nd_exec_settings {
    int64_t batch; /* images the plan is made for; smaller batches run too */
    /* nd_exec_run may work in parts, with the same result: where memory runs out, of half the batch and so
     * on until it fits, which is warned of; where a node mixes images, as in files that were exported for
     * one, of the batch that the graph was inferred for. */
    bool shrink;
    nd_precision
        precision; /* int8: of a quantised network, whose other works are fp32; so is one that says fp32 */
    nd_fuse separable;
    bool plain;  /* no fusion at all: one kernel a node, for checking */
    bool turned; /* activations of images in the other of NHWC and NCHW than the backend's own: its libraries
                    may be faster there. A kernel that runs in the own order alone is refused. */
    bool time_nodes;
    bool by_image; /* every output must be of so many numbers an image, one image after the other, which one
                      is not where another axis comes first or no image goes into it */
    /* Values fed instead of the graph's inputs: runs only what lies between; NULL = graph's. */
    const int *inputs;
    int n_inputs;
    const int *outputs; /* values wanted; NULL = graph's */
    int n_outputs;
} nd_exec_settings;

/* The graph must have been inferred (model/infer/infer.h) and must outlive the executor; weights are packed
 * here.
 */
nd_status nd_exec_open(nd_backend *backend, const nd_graph *graph, const nd_exec_settings *settings,
                       nd_exec **out);
void nd_exec_close(nd_exec *exec); /* NULL is legal */

/* 1 <= n <= batch of the settings. inputs[i] and outputs[i] are fp32 row-major (NCHW), n images each, in
 * the order of the settings. Outputs of which the graph has no shape, as the run alone knows it, are NULL
 * there and read by nd_exec_output. */
nd_status nd_exec_run(nd_exec *exec, int64_t n, const float *const *inputs, float *const *outputs);

/* Output `index` of the last run, f32, i64 or bool, until the next: of one whose size or integers only the
 * run knows (the boxes of a detector). NULL for the others. */
const nd_tensor *nd_exec_output(const nd_exec *exec, int index);

/* Images of the plan: those of the settings, or fewer where `shrink` had to. */
int64_t nd_exec_batch(const nd_exec *exec);

/* The parts of nd_exec_run for timing: upload (at most nd_exec_batch images), start the kernels, wait. */
nd_status nd_exec_upload(nd_exec *exec, int64_t n, const float *const *inputs);
nd_status nd_exec_start(nd_exec *exec);
nd_status nd_exec_wait(nd_exec *exec);

/* One entry per kernel of the plan, in order. `ns` is the last run's time with time_nodes, else 0. */
typedef struct nd_exec_node {
    const char *name; /* of the (last) graph node it stands for */
    nd_operation operation;
    const char *engine;
    int64_t macs; /* per image */
    double ns;
} nd_exec_node;

size_t nd_exec_node_count(const nd_exec *exec);
nd_exec_node nd_exec_node_at(const nd_exec *exec, size_t index);
/* Entries that the host runs, the backend having no kernel for them; *bytes: what a run moves there and back.
 */
size_t nd_exec_host_count(const nd_exec *exec, int64_t *bytes);
/* Nodes that are no entries: their sizes or integers are known while running alone, and the host runs them
 * one by one, after all others. */
size_t nd_exec_dynamic_count(const nd_exec *exec);
size_t nd_exec_activation_bytes(const nd_exec *exec); /* of the memory plan */
size_t nd_exec_workspace_bytes(const nd_exec *exec);  /* scratch memory that its kernels share */
bool nd_exec_captured(const nd_exec *exec);           /* the backend replays all kernels as one */

#pragma GCC visibility pop

#endif
