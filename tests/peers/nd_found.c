/* What a detector finds in one image, so that scripts can set a decoder beside others.
 *
 * usage: nd_found MODEL DECODER PREFIX
 * The image, as the network takes it, is read from PREFIX.in0 as raw fp32. Prints "CLASS SCORE X Y WIDTH
 * HEIGHT" for each detection, the best first. */
#include "eval/detect/decode.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "run/captures.h"
#include "run/executor.h"
#include "run/plugins.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct nd_peer_detector {
    nd_graph *graph;
    nd_backend *backend;
    nd_exec *exec;
    nd_decode decode;
    float *image, *raw[nd_decode_outputs_max];
    nd_detections found;
} nd_peer_detector;

static nd_status found_read(nd_peer_detector *self, const char *prefix) {
    const size_t count = (size_t)nd_value_size(self->graph, self->graph->inputs[0]);
    char path[4096];
    snprintf(path, sizeof path, "%s.in0", prefix);
    self->image = nd_alloc_array(count, sizeof *self->image);
    FILE *file = fopen(path, "rb");
    ND_REQUIRE(self->image && file, nd_status_input, "%s: cannot read", path);
    const bool whole = fread(self->image, sizeof *self->image, count, file) == count && fgetc(file) == EOF;
    fclose(file);
    ND_REQUIRE(whole, nd_status_input, "%s: not %zu floats", path, count);
    return nd_status_ok;
}

static nd_status found_run(nd_peer_detector *self, char **argv) {
    ND_TRY(nd_backend_open("auto", &(nd_backend_settings){0}, &self->backend));
    ND_TRY(nd_model_open(argv[1], &self->graph));
    ND_TRY(nd_graph_fold(self->graph));
    ND_TRY(nd_graph_infer(self->graph, &(nd_infer_settings){.batch = 1}));
    ND_TRY(nd_decode_open(self->graph, argv[2], &self->decode));
    ND_TRY(found_read(self, argv[3]));
    const nd_decode *decode = &self->decode;
    const nd_exec_settings settings = {
        .batch = 1, .outputs = decode->outputs, .n_outputs = decode->n_outputs};
    ND_TRY(nd_exec_open(self->backend, self->graph, &settings, &self->exec));
    for (int i = 0; i < decode->n_outputs; i++) {
        self->raw[i] = nd_alloc_array((size_t)decode->sizes[i], sizeof *self->raw[i]);
        ND_REQUIRE(self->raw[i], nd_status_memory, "no memory");
    }
    ND_TRY(nd_exec_run(self->exec, 1, (const float *const *)&self->image, self->raw));
    const nd_frame whole = {.width = decode->width, .height = decode->height, .scale_x = 1, .scale_y = 1};
    return nd_decode_image(decode, (const float *const *)self->raw, &whole, &self->found);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: nd_found MODEL DECODER PREFIX\n");
        return nd_status_exit_code(nd_status_usage);
    }
    nd_peer_detector self = {0};
    const nd_status status = found_run(&self, argv);
    if (status) fprintf(stderr, "%s: %s\n", nd_status_name(status), nd_error());
    for (size_t i = 0; !status && i < self.found.count; i++) {
        const nd_detection *d = &self.found.items[i];
        printf("%d %.9g %.9g %.9g %.9g %.9g\n", (int)d->label, d->score, d->box.x, d->box.y, d->box.width,
               d->box.height);
    }
    nd_exec_close(self.exec);
    nd_backend_close(self.backend);
    nd_decode_close(&self.decode);
    nd_graph_free(self.graph);
    free(self.image);
    free(self.found.items);
    for (int i = 0; i < nd_decode_outputs_max; i++) free(self.raw[i]);
    return nd_status_exit_code(status);
}
