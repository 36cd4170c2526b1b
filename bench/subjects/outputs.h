/* What a network puts out, all of it, for checking plans before they are timed. */
#ifndef ND_BENCH_OUTPUTS_H
#define ND_BENCH_OUTPUTS_H

#include "run/executor.h"

/* Which values of a graph are compared: its outputs. Where sizes or integers of one are known while running
 * alone, a backend does not make it but the host, of what the plan leaves: then what goes into that
 * (nd_graph_heads), in a plan of its own. A zeroed struct is empty. */
typedef struct nd_outputs {
    const nd_graph *graph;
    int *values; /* [n] */
    int n;
    bool apart; /* not the graph's outputs */
} nd_outputs;

/* The graph is inferred. nd_status_unsupported where none holds a known number of values for each image. */
nd_status nd_outputs_open(const nd_graph *graph, nd_outputs *out);
void nd_outputs_close(nd_outputs *outputs); /* leaves it empty */

/* Numbers of all of them for one image. */
int64_t nd_outputs_size(const nd_outputs *outputs);

/* Runs n images through the plan of the settings: to[nd_outputs_size * n], n images of the first output, then
 * n of the next. `exec` is such a plan of the graph's own outputs, used where those are compared, or NULL. */
nd_status nd_outputs_run(const nd_outputs *outputs, nd_backend *backend, const nd_exec_settings *settings,
                         nd_exec *exec, int64_t n, const float *images, float *to);

/* Each output against the largest number of its own: |got - expected| <= bound * max |expected| over the
 * first n images, of which `got` has got_n and `expected` exactly n. nd_status_failed names the first output
 * that is not, beginning with `subject`; `with` names the other side. */
nd_status nd_outputs_compare(const nd_outputs *outputs, const float *got, int64_t got_n,
                             const float *expected, int64_t n, double bound, const char *subject,
                             const char *with);

#endif
