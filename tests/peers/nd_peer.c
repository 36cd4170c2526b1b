/* Runs a model on raw fp32 files, so that scripts can set nd beside other runtimes.
 *
 * usage: nd_peer BACKEND BATCH[xHEIGHTxWIDTH] MODEL PREFIX [fold] Input i of the graph is read from
 * PREFIX.in<i>, integers and truth values as fp32 too, output i is written to PREFIX.out<i>; the dims of
 * each output go to stdout, one line an output. The exit code is that of nd, and "unsupported" or another
 * family goes before the message. */
#include "model/infer/infer.h"
#include "model/model.h"
#include "run/executor.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { nd_peer_ends_max = 16 };

typedef struct nd_peer {
    nd_graph *graph;
    nd_backend *backend;
    nd_exec *exec;
    float *in[nd_peer_ends_max], *out[nd_peer_ends_max];
} nd_peer;

static nd_status peer_file(const char *prefix, const char *what, int index, const char *mode, FILE **file) {
    char path[4096];
    snprintf(path, sizeof path, "%s.%s%d", prefix, what, index);
    *file = fopen(path, mode);
    ND_REQUIRE(*file, nd_status_input, "%s: cannot open", path);
    return nd_status_ok;
}

static nd_status peer_read(nd_peer *peer, const char *prefix) {
    const nd_graph *graph = peer->graph;
    for (int i = 0; i < graph->n_inputs; i++) {
        const nd_value *value = &graph->values[graph->inputs[i]];
        const size_t count = (size_t)nd_dims_count(value->rank, value->dims);
        FILE *file;
        const bool whole_numbers = value->dtype == nd_dtype_i64 || value->dtype == nd_dtype_i32;
        ND_REQUIRE(value->dtype == nd_dtype_f32 || value->dtype == nd_dtype_bool || whole_numbers,
                   nd_status_unsupported, "input '%s' is %s, not f32", value->name,
                   nd_dtype_name(value->dtype));
        peer->in[i] = nd_alloc_array(count, sizeof(float));
        ND_REQUIRE(peer->in[i], nd_status_memory, "no memory");
        ND_TRY(peer_file(prefix, "in", i, "rb", &file));
        const bool whole = fread(peer->in[i], sizeof(float), count, file) == count && fgetc(file) == EOF;
        fclose(file);
        ND_REQUIRE(whole, nd_status_input, "%s.in%d: not %zu floats", prefix, i, count);
    }
    return nd_status_ok;
}

/* Outputs of a size that only the run knows are read from the executor, as numbers. */
static nd_status peer_write(nd_peer *peer, const char *prefix) {
    const nd_graph *graph = peer->graph;
    for (int i = 0; i < graph->n_outputs; i++) {
        const nd_value *value = &graph->values[graph->outputs[i]];
        const nd_tensor *found = nd_exec_output(peer->exec, i);
        const int rank = found ? found->rank : value->rank;
        const int64_t *dims = found ? found->dims : value->dims;
        const size_t count = (size_t)nd_dims_count(rank, dims);
        FILE *file;
        if (found) {
            peer->out[i] = nd_alloc_array(count + 1, sizeof(float));
            ND_REQUIRE(peer->out[i], nd_status_memory, "no memory");
            nd_tensor_to_f32(found, peer->out[i]);
        }
        ND_TRY(peer_file(prefix, "out", i, "wb", &file));
        const bool whole = fwrite(peer->out[i], sizeof(float), count, file) == count;
        ND_REQUIRE(fclose(file) == 0 && whole, nd_status_input, "%s.out%d: cannot write", prefix, i);
        for (int k = 0; k < rank; k++) printf("%s%" PRId64, k ? " " : "", dims[k]);
        printf("\n");
    }
    return nd_status_ok;
}

static nd_status peer_shape(const char *text, nd_infer_settings *out) {
    long long batch, height = 0, width = 0;
    char more;
    const int read = sscanf(text, "%lldx%lldx%lld%c", &batch, &height, &width, &more);
    ND_REQUIRE(read == 1 || read == 3, nd_status_usage, "'%s' is no batch, nor one with a size", text);
    *out = (nd_infer_settings){.batch = batch, .height = height, .width = width};
    return nd_status_ok;
}

static nd_status peer_run(nd_peer *peer, char **argv, bool fold) {
    nd_infer_settings shape;
    ND_TRY(peer_shape(argv[2], &shape));
    const int64_t batch = shape.batch;
    ND_TRY(nd_backend_open(argv[1], &(nd_backend_settings){0}, &peer->backend));
    ND_TRY(nd_model_open(argv[3], &peer->graph));
    nd_graph *graph = peer->graph;
    if (fold) ND_TRY(nd_graph_fold(graph));
    ND_TRY(nd_graph_infer(graph, &shape));
    ND_REQUIRE(graph->n_inputs <= nd_peer_ends_max && graph->n_outputs <= nd_peer_ends_max,
               nd_status_unsupported, "more than %d inputs or outputs", nd_peer_ends_max);
    ND_TRY(nd_exec_open(peer->backend, graph, &(nd_exec_settings){.batch = batch}, &peer->exec));
    ND_TRY(peer_read(peer, argv[4]));
    for (int i = 0; i < graph->n_outputs; i++) {
        const nd_value *value = &graph->values[graph->outputs[i]];
        if (nd_exec_output(peer->exec, i)) continue;
        peer->out[i] = nd_alloc_array((size_t)nd_dims_count(value->rank, value->dims), sizeof(float));
        ND_REQUIRE(peer->out[i], nd_status_memory, "no memory");
    }
    ND_TRY(nd_exec_run(peer->exec, batch, (const float *const *)peer->in, peer->out));
    return peer_write(peer, argv[4]);
}

int main(int argc, char **argv) {
    const bool fold = argc == 6 && !strcmp(argv[5], "fold");
    if (argc != 5 && !fold) {
        fprintf(stderr, "usage: nd_peer BACKEND BATCH[xHEIGHTxWIDTH] MODEL PREFIX [fold]\n");
        return nd_status_exit_code(nd_status_usage);
    }
    nd_peer peer = {0};
    nd_status status = peer_run(&peer, argv, fold);
    if (status) fprintf(stderr, "%s: %s\n", nd_status_name(status), nd_error());
    nd_exec_close(peer.exec);
    nd_backend_close(peer.backend);
    nd_graph_free(peer.graph);
    for (int i = 0; i < nd_peer_ends_max; i++) {
        free(peer.in[i]);
        free(peer.out[i]);
    }
    return nd_status_exit_code(status);
}
