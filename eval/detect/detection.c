#include "eval/detect/detection.h"

#include "base/machine/clock.h"
#include "model/images.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One network under way. */
typedef struct nd_detection_network {
    nd_exec *exec;
    nd_found *out;
    float *raw[nd_decode_outputs_max];    /* [batch][size] */
    double squares[nd_decode_groups_max]; /* of the distance to network 0 */
    double *sums[nd_decode_outputs_max];  /* network 0: [size], of each number over the images */
    double *square_sums[nd_decode_outputs_max];
} nd_detection_network;

/* --- opening */

static nd_status detection_allocate(nd_detection_network *network, const nd_batches *batches, bool first) {
    nd_found *out = network->out;
    out->index = nd_alloc_array((size_t)batches->count, sizeof *out->index);
    out->of = nd_alloc_array((size_t)batches->count, sizeof *out->of);
    bool enough = out->index && out->of;
    for (int i = 0; i < out->decode.n_outputs && !out->decode.ready; i++) {
        const size_t size = (size_t)out->decode.sizes[i];
        network->raw[i] = nd_alloc_array((size_t)batches->batch, size * sizeof(float));
        enough = enough && network->raw[i];
        if (!first) continue;
        network->sums[i] = nd_alloc_array(size, sizeof(double));
        network->square_sums[i] = nd_alloc_array(size, sizeof(double));
        enough = enough && network->sums[i] && network->square_sums[i];
    }
    ND_REQUIRE(enough, nd_status_memory, "no memory for the heads of %lld images", (long long)batches->batch);
    return nd_status_ok;
}

static nd_status detection_open(nd_detection_network *network, const nd_graph *graph,
                                const nd_batches *batches, const nd_detection_settings *settings,
                                bool first) {
    nd_found *out = network->out;
    for (int g = 0; g < nd_decode_groups_max; g++) out->rel_mse[g] = NAN;
    ND_TRY(nd_decode_open(graph, settings->decoder, &out->decode));
    ND_TRY(nd_images_fit(graph, batches));
    ND_TRY(detection_allocate(network, batches, first));
    const nd_exec_settings exec = {.batch = out->decode.ready ? 1 : batches->batch,
                                   .shrink = true,
                                   .by_image = true,
                                   .precision = settings->precision,
                                   .outputs = out->decode.outputs,
                                   .n_outputs = out->decode.n_outputs};
    ND_TRY(nd_exec_open(settings->backend, graph, &exec, &network->exec));
    out->batch = nd_exec_batch(network->exec);
    return nd_status_ok;
}

static void detection_close(nd_detection_network *network) {
    nd_exec_close(network->exec);
    for (int i = 0; i < nd_decode_outputs_max; i++) {
        free(network->raw[i]);
        free(network->sums[i]);
        free(network->square_sums[i]);
    }
}

/* --- errors of raw heads */

static bool detection_alike(const nd_decode *a, const nd_decode *b) {
    return a->decoder == b->decoder && a->boxes == b->boxes && a->classes == b->classes &&
           a->columns == b->columns && a->n_outputs == b->n_outputs &&
           !memcmp(a->sizes, b->sizes, sizeof a->sizes);
}

static void detection_spread(nd_detection_network *first, int64_t n) {
    const nd_decode *decode = &first->out->decode;
    for (int o = 0; o < decode->n_outputs && !decode->ready; o++)
        for (int64_t i = 0; i < n * decode->sizes[o]; i++) {
            const double x = first->raw[o][i];
            first->sums[o][i % decode->sizes[o]] += x;
            first->square_sums[o][i % decode->sizes[o]] += x * x;
        }
}

static double detection_distance(const nd_decode_group *group, const float *a, const float *b) {
    double sum = 0;
    for (int64_t i = 0; i < group->rows; i++)
        for (int64_t k = 0; k < group->row; k++) {
            const int64_t at = group->base + i * group->step + k;
            sum += ((double)a[at] - b[at]) * ((double)a[at] - b[at]);
        }
    return sum;
}

static void detection_compare(nd_detection_network *network, const nd_detection_network *first, int64_t n) {
    const nd_decode *decode = &network->out->decode;
    for (int g = 0; g < decode->n_groups; g++) {
        const int o = decode->groups[g].output;
        for (int64_t i = 0; i < n; i++)
            network->squares[g] +=
                detection_distance(&decode->groups[g], network->raw[o] + i * decode->sizes[o],
                                   first->raw[o] + i * decode->sizes[o]);
    }
}

static double detection_variation(const nd_detection_network *first, const nd_decode_group *group) {
    const double *sums = first->sums[group->output], *squares = first->square_sums[group->output];
    double total = 0;
    for (int64_t i = 0; i < group->rows; i++)
        for (int64_t k = 0; k < group->row; k++) {
            const int64_t at = group->base + i * group->step + k;
            total += squares[at] - sums[at] * sums[at] / (double)first->out->n;
        }
    return total;
}

/* --- images */

/* Post-processing in the graph, an image after the other. */
static nd_status detection_ready(nd_detection_network *network, const nd_frame *frame, const float *image,
                                 nd_detections *found) {
    const nd_decode *decode = &network->out->decode;
    const nd_tensor *outputs[nd_decode_outputs_max];
    const double start = nd_seconds();
    ND_TRY(nd_exec_run(network->exec, 1, &image, network->raw));
    network->out->seconds += nd_seconds() - start;
    for (int o = 0; o < decode->n_outputs; o++) outputs[o] = nd_exec_output(network->exec, o);
    return nd_decode_ready(decode, outputs, frame, found);
}

static nd_status detection_read(nd_detection_network *network, const nd_batch *batch, int64_t i,
                                const float *image, nd_detections *found) {
    const nd_decode *decode = &network->out->decode;
    const float *raw[nd_decode_outputs_max];
    if (decode->ready) return detection_ready(network, &batch->frames[i], image, found);
    for (int o = 0; o < decode->n_outputs; o++) raw[o] = network->raw[o] + i * decode->sizes[o];
    return nd_decode_image(decode, raw, &batch->frames[i], found);
}

static nd_status detection_batch(nd_detection_network *network, const nd_batch *batch, int64_t size) {
    nd_found *out = network->out;
    const double start = nd_seconds();
    if (!out->decode.ready) {
        ND_TRY(nd_exec_run(network->exec, batch->n, &batch->images, network->raw));
        out->seconds += nd_seconds() - start;
    }
    for (int64_t i = 0; i < batch->n; i++) {
        out->index[out->n] = batch->index[i];
        nd_detections *found = &out->of[out->n++];
        ND_TRY(detection_read(network, batch, i, batch->images + i * size, found));
        out->detections += (int64_t)found->count;
    }
    return nd_status_ok;
}

static nd_status detection_truth(nd_batches *batches, int64_t index, nd_truth *truth) {
    const nd_object *objects;
    size_t count;
    ND_TRY(batches->objects(batches, index, &objects, &count));
    nd_object *copies = nd_arena_alloc(&truth->arena, count * sizeof *copies);
    ND_REQUIRE(copies, nd_status_memory, "no memory for %zu objects", count);
    if (count) memcpy(copies, objects, count * sizeof *copies);
    for (size_t i = 0; i < count; i++) {
        if (copies[i].label >= 0 && copies[i].label < truth->classes) continue;
        char where[512];
        snprintf(where, sizeof where, "%s: image %lld", batches->name, (long long)index);
        if (batches->where) batches->where(batches, index, where, sizeof where);
        return nd_fail(nd_status_format,
                       "%s: an object of class %d, but the network's are 0 to %d; --classes and "
                       "--label-offset say which "
                       "one a class is",
                       where, (int)copies[i].label, (int)truth->classes - 1);
    }
    truth->of[truth->n] = copies;
    truth->counts[truth->n++] = count;
    truth->objects += (int64_t)count;
    return nd_status_ok;
}

static nd_status truth_open(int64_t images, int32_t classes, nd_truth *truth) {
    truth->classes = classes;
    truth->of = nd_alloc_array((size_t)images, sizeof *truth->of);
    truth->counts = nd_alloc_array((size_t)images, sizeof *truth->counts);
    ND_REQUIRE(truth->of && truth->counts, nd_status_memory, "no memory for %lld images", (long long)images);
    return nd_status_ok;
}

static nd_status detection_stream(nd_detection_network *networks, size_t count, nd_batches *batches,
                                  const nd_detection_settings *settings, nd_truth *truth) {
    const nd_found *first = networks[0].out;
    const int64_t size = batches->channels * batches->height * batches->width;
    ND_TRY(batches->rewind(batches));
    for (;;) {
        nd_batch batch;
        ND_TRY(batches->next(batches, &batch));
        if (batch.n == 0) break;
        ND_REQUIRE(batch.frames, nd_status_usage, "%s does not say where its pictures lie in the images",
                   batches->name);
        for (size_t k = 0; k < count; k++) {
            ND_TRY(detection_batch(&networks[k], &batch, size));
            if (k && detection_alike(&networks[k].out->decode, &first->decode))
                detection_compare(&networks[k], &networks[0], batch.n);
        }
        detection_spread(&networks[0], batch.n);
        for (int64_t i = 0; truth->of && i < batch.n; i++)
            ND_TRY(detection_truth(batches, batch.index[i], truth));
        nd_progress_report(settings->progress, "evaluate", first->n + batches->skipped, batches->count);
    }
    ND_REQUIRE(first->n, nd_status_format, "%s: not one of %lld images could be read", batches->name,
               (long long)batches->count);
    return nd_status_ok;
}

/* Where post-processing in the graph does not say how many classes there are: as many as anybody has. */
static void detection_count_classes(nd_found *out, size_t count, nd_truth *truth) {
    int32_t classes = 1;
    for (size_t k = 0; k < count; k++)
        for (int64_t i = 0; i < out[k].n; i++)
            for (size_t d = 0; d < out[k].of[i].count; d++)
                if (out[k].of[i].items[d].label >= classes) classes = out[k].of[i].items[d].label + 1;
    for (int64_t i = 0; i < truth->n; i++)
        for (size_t o = 0; o < truth->counts[i]; o++)
            if (truth->of[i][o].label >= classes) classes = truth->of[i][o].label + 1;
    for (size_t k = 0; k < count; k++) out[k].decode.classes = classes;
    truth->classes = classes;
}

nd_status nd_detection_run(const nd_graph *const *graphs, size_t count, nd_batches *batches,
                           const nd_detection_settings *settings, nd_found *out, nd_truth *truth) {
    nd_status status = nd_status_ok;
    memset(out, 0, count * sizeof *out);
    *truth = (nd_truth){0};
    nd_detection_network *networks = nd_alloc_array(count, sizeof *networks);
    ND_REQUIRE_DONE(networks && count, networks ? nd_status_usage : nd_status_memory,
                    "no network to measure");
    for (size_t k = 0; k < count; k++) {
        networks[k].out = &out[k];
        ND_TRY_DONE(detection_open(&networks[k], graphs[k], batches, settings, k == 0));
    }
    const bool annotated = batches->objects && nd_decode_finds(&out[0].decode);
    if (annotated) ND_TRY_DONE(truth_open(batches->count, out[0].decode.classes, truth));
    ND_TRY_DONE(detection_stream(networks, count, batches, settings, truth));
    if (out[0].decode.ready) detection_count_classes(out, count, truth);
    for (size_t k = 0; k < count; k++) {
        out[k].skipped = batches->skipped;
        for (int g = 0; k && detection_alike(&out[k].decode, &out[0].decode) && g < out[k].decode.n_groups;
             g++)
            out[k].rel_mse[g] =
                networks[k].squares[g] / detection_variation(&networks[0], &out[0].decode.groups[g]);
    }
done:
    for (size_t k = 0; networks && k < count; k++) {
        detection_close(&networks[k]);
        if (status) nd_found_free(&out[k]);
    }
    if (status) nd_truth_free(truth);
    free(networks);
    return status;
}

nd_status nd_truth_of(const nd_found *found, double score, nd_truth *out) {
    *out = (nd_truth){0};
    nd_status status = truth_open(found->n, found->decode.classes, out);
    for (int64_t i = 0; !status && i < found->n; i++) {
        nd_object *objects = nd_arena_alloc(&out->arena, found->of[i].count * sizeof *objects);
        if (!objects) status = nd_fail(nd_status_memory, "no memory for %zu objects", found->of[i].count);
        for (size_t k = 0; !status && k < found->of[i].count; k++) {
            const nd_detection *detection = &found->of[i].items[k];
            if (detection->score < score) continue;
            objects[out->counts[i]++] = (nd_object){.box = detection->box,
                                                    .area = detection->box.width * detection->box.height,
                                                    .label = detection->label};
        }
        out->of[i] = objects;
        out->objects += (int64_t)out->counts[i];
        out->n++;
    }
    if (status) nd_truth_free(out);
    return status;
}

void nd_found_free(nd_found *found) {
    for (int64_t i = 0; i < found->n; i++) free(found->of[i].items);
    free(found->of);
    free(found->index);
    nd_decode_close(&found->decode);
    *found = (nd_found){0};
}

void nd_truth_free(nd_truth *truth) {
    free(truth->of);
    free(truth->counts);
    nd_arena_free(&truth->arena);
    *truth = (nd_truth){0};
}
