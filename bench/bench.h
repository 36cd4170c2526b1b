/* Dense against decoupled, layer by layer and as a stack. One row per implementation, and at the end one per
 * stack: the sum over all convolutions of the network, those that stay dense included on both sides. */
#ifndef ND_BENCH_BENCH_H
#define ND_BENCH_BENCH_H

#include "base/log.h"
#include "base/rows/row.h"
#include "bench/subjects/rig.h"
#include "bench/subjects/suites.h"
#include "bench/timing/peaks.h"
#include "model/graph.h"

typedef struct nd_bench_settings {
    nd_backend *backend;
    nd_precision precision;
    int64_t batch;
    const int64_t *terms; /* T */
    size_t n_terms;
    bool forms[nd_form_count];
    /* Dense is always timed; best is of those named beside it, of all where it is alone. */
    bool implementations[nd_implementation_count];
    /* Baselines other than the backend's choice (bench/subjects/rig.h); NULL for none. */
    nd_backend *forced[nd_implementation_count];
    bool cold;    /* rotate buffers; otherwise the same ones every run */
    bool layouts; /* dense in NHWC or NCHW, whichever is faster */
    bool nodes;   /* of networks: also the time of every kernel */
    nd_timing_settings timing;
    nd_peaks peaks;
    const nd_row *common; /* provenance and key fields that all rows share */
    nd_status (*row)(void *user, const nd_row *row);
    /* Asked between sessions; true: no more of them, rows of what was measured. NULL: never. */
    bool (*stop)(void *user);
    void *user;
    const nd_progress *progress;
} nd_bench_settings;

/* Where memory runs out, both measure half of the batch instead and say so; the rows have the batch that ran.
 *
 * Implementations that the backend does not support have no row; a stack takes the next simpler one in their
 * place (unfused for fused). */
nd_status nd_bench_layers(const nd_bench_layer *layers, size_t n, const nd_bench_settings *settings);

/* The singular value decompositions that decouple these layers in the forms of the settings, as nd decouple
 * asks for them: ni slices no x kh*kw (dwpw) or no slices ni x kh*kw (pwdw). A row a layer, and one for all;
 * times are of the device alone where the backend knows them, else of the whole call. Values are random. */
nd_status nd_bench_svd(const nd_bench_layer *layers, size_t n, const nd_bench_settings *settings);

/* The layers of an inferred graph: equal shapes once, with their number. *out is malloc'd; names point into
 * the graph. The first convolution, and those without a spatial kernel or with groups, are marked dense. */
nd_status nd_bench_layers_of_graph(const nd_graph *graph, nd_bench_layer **out, size_t *n);

/* Whole networks, end to end on one backend: networks[0] is the original, and the ratio is to it. The others
 * are compiled as settings->implementations ask for: unfused, fused (where every pair has such a kernel),
 * best (the fastest of these; the executor's own choice where it is asked for alone). Each plan is checked
 * first on the images it is timed with: the first one against the reference backend (of large networks with
 * a sample of the heaviest convolutions, bench/subjects/expected.h), a batch also against the plan without
 * any fusion; all outputs are compared, each with its own largest number
 * (bench/subjects/outputs.h). With settings->layouts the original is tried in the other layout too, where the
 * backend runs it there and memory has room for both. Upload and download are not timed. With
 * settings->nodes, every kernel of every plan has a row as well (bench/timing/nodes.h). */
typedef struct nd_bench_network {
    const nd_graph *graph; /* inferred; one input */
    nd_row row;            /* what it is: model, method, rank, costs, ... */
    float *expected; /* the reference's outputs for the first image, kept for the next call; NULL at first */
} nd_bench_network;

nd_status nd_bench_networks(nd_bench_network *networks, size_t n, const nd_bench_settings *settings);
void nd_bench_network_free(nd_bench_network *network); /* not the graph */

bool nd_bench_stopped(const nd_bench_settings *settings);

/* Whether to try again after `status`: when it is for memory, the batch is halved, with a warning. */
bool nd_bench_shrink(nd_status status, nd_bench_settings *settings);

/* "before: ...; after: ...", of the backend's conditions at the start of the run (in `common`) and now. */
void nd_bench_row_clocks(nd_row *row, const nd_bench_settings *settings);

void nd_bench_row_shape(nd_row *row,
                        const nd_bench_layer *layer); /* its name and dims, and how often there is one */

/* Fills the time fields: what all benchmarks' rows have in common. */
void nd_bench_row_time(nd_row *row, const nd_timing *timing, int subject);

#endif
