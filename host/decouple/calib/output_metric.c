#include "decouple/calib/output_metric.h"

#include "base/rng.h"
#include "decouple/calib/calibrate.h"
#include "decouple/calib/gradient.h"
#include "run/captures.h"
#include "run/heads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { metric_draws = 4, metric_images = 128, kept_bytes = 256 << 20 };
static const double metric_floor = 0.05;

typedef struct metric_job {
    nd_backend *backend;
    const nd_graph *graph;
    nd_gradient *gradient;
    nd_plan *plan;
    int *layer_of;        /* [values] the layer that puts it out and wants a metric, or -1 */
    nd_captures captures; /* the image; before, the heads */
    int64_t block, images;
    int heads[nd_heads_max], n_heads;
    int64_t sizes[nd_heads_max];
    double scale[nd_heads_max]; /* 1 / what a head varies over the images, its root */
    double *sum[nd_heads_max];  /* [size] over the images */
    double squares[nd_heads_max];
    float *seeds[nd_heads_max], *rows; /* [block][size]; gradients of one layer, one row a pixel */
} metric_job;

static int64_t rows_of(const nd_layer *layer) {
    return layer->conv.no / layer->conv.groups;
}

/* [n][no][area] to the rows [n][area] of one group. */
static void pixels_to_rows(const nd_conv *conv, int64_t group, int64_t n, const float *gradient,
                           float *rows) {
    int64_t area = nd_conv_out_h(conv) * nd_conv_out_w(conv), width = conv->no / conv->groups;
    for (int64_t i = 0; i < n; i++) {
        const float *from = gradient + (i * conv->no + group * width) * area;
        for (int64_t p = 0; p < area; p++)
            for (int64_t o = 0; o < width; o++) *rows++ = from[o * area + p];
    }
}

static nd_status add_gradient(void *context, int value, int64_t n, const float *gradient) {
    metric_job *job = context;
    if (job->layer_of[value] < 0) return nd_status_ok;
    nd_layer *layer = &job->plan->layers[job->layer_of[value]];
    const nd_conv *conv = &layer->conv;
    int64_t width = rows_of(layer), pixels = n * nd_conv_out_h(conv) * nd_conv_out_w(conv);
    for (int64_t g = 0; g < conv->groups; g++) {
        pixels_to_rows(conv, g, n, gradient, job->rows);
        ND_TRY(job->backend->table->linalg.accumulate(job->backend, pixels, width, job->rows, width,
                                                      job->rows, layer->metric + g * width * width));
    }
    return nd_status_ok;
}

static nd_status spread_block(void *context, int64_t n) {
    metric_job *job = context;
    for (int h = 0; h < job->n_heads; h++)
        for (int64_t e = 0; e < n * job->sizes[h]; e++) {
            const double x = job->captures.data[h][e];
            job->sum[h][e % job->sizes[h]] += x;
            job->squares[h] += x * x;
        }
    job->images += n;
    return nd_status_ok;
}

/* Of several heads each counts relative to how much it varies itself over the images; of one that is but a
 * factor of the whole. */
static nd_status scale_heads(metric_job *job, const nd_decouple_settings *settings, int64_t images) {
    nd_status status = nd_status_ok;
    nd_captures *captures = &job->captures;
    for (int h = 0; h < job->n_heads; h++) job->scale[h] = 1;
    if (job->n_heads == 1) return nd_status_ok;
    for (int h = 0; h < job->n_heads; h++) {
        job->sum[h] = nd_alloc_array((size_t)job->sizes[h], sizeof *job->sum[h]);
        ND_REQUIRE(job->sum[h], nd_status_memory, "no memory for output metrics");
    }
    ND_TRY_DONE(nd_captures_open(job->backend, job->graph, settings->calib->batch, NULL, 0, job->heads,
                                 job->n_heads, captures));
    ND_TRY_DONE(nd_sample(settings->calib, images, &captures, 1, spread_block, job));
    for (int h = 0; h < job->n_heads; h++) {
        double spread = job->squares[h];
        for (int64_t e = 0; e < job->sizes[h]; e++)
            spread -= job->sum[h][e] * job->sum[h][e] / (double)job->images;
        job->scale[h] = spread > 0 ? sqrt((double)job->images / spread) : 0;
    }
done:
    nd_captures_close(captures);
    job->images = 0;
    return status;
}

static nd_status metric_block(void *context, int64_t n) {
    metric_job *job = context;
    int64_t size = nd_value_size(job->graph, job->graph->inputs[0]);
    for (int64_t first = 0; first < n; first += job->block) {
        int64_t count = n - first < job->block ? n - first : job->block;
        ND_TRY(nd_gradient_forward(job->gradient, count, job->captures.data[0] + first * size));
        for (int draw = 0; draw < metric_draws; draw++) {
            for (int64_t i = 0; i < count; i++) { /* by image, whatever the size of a block */
                nd_rng rng = nd_rng_seed((uint64_t)((job->images + i) * metric_draws + draw + 1));
                for (int h = 0; h < job->n_heads; h++)
                    for (int64_t c = 0; c < job->sizes[h]; c++)
                        job->seeds[h][i * job->sizes[h] + c] = (float)(job->scale[h] * nd_rng_normal(&rng));
            }
            ND_TRY(nd_gradient_backward(job->gradient, (const float *const *)job->seeds, add_gradient, job));
        }
        job->images += count;
    }
    return nd_status_ok;
}

/* q[n][n] <- (q + floor * mean(diag) I)^(1/2) */
static nd_status root_in_place(nd_backend *backend, int64_t n, double *q) {
    nd_status status = nd_status_ok;
    double *vectors = nd_alloc_array((size_t)n, (size_t)n * sizeof *vectors), trace = 0;
    double *values = nd_alloc_array((size_t)n, sizeof *values);
    ND_REQUIRE_DONE(vectors && values, nd_status_memory, "no memory for an output metric");
    for (int64_t i = 0; i < n; i++) trace += q[i * n + i];
    for (int64_t i = 0; i < n; i++) q[i * n + i] += metric_floor * trace / (double)n;
    memcpy(vectors, q, (size_t)(n * n) * sizeof *q);
    ND_TRY_DONE(backend->table->linalg.eigen(backend, 1, n, vectors, values));
    for (int64_t i = 0; i < n; i++) values[i] = sqrt(sqrt(fmax(values[i], 0)));
    for (int64_t i = 0; i < n; i++) /* rows scaled by the fourth root: their Gram matrix is the root */
        for (int64_t o = 0; o < n; o++) vectors[i * n + o] *= values[i];
    ND_TRY_DONE(
        backend->table->linalg.gemm(backend, true, false, n, n, n, 1, vectors, n, vectors, n, 0, q, n));
done:
    free(vectors);
    free(values);
    return status;
}

static bool all_zero(const double *values, int64_t count) {
    for (int64_t e = 0; e < count; e++)
        if (values[e] != 0) return false;
    return true;
}

static nd_status finish(nd_backend *backend, nd_plan *plan) {
    for (int l = 0; l < plan->n_layers; l++) {
        nd_layer *layer = &plan->layers[l];
        int64_t width = rows_of(layer), groups = layer->conv.groups;
        if (layer->metric && all_zero(layer->metric, groups * width * width)) {
            free(layer->metric);
            layer->metric = NULL;
        }
        for (int64_t g = 0; layer->metric && g < groups; g++)
            ND_TRY(root_in_place(backend, width, layer->metric + g * width * width));
    }
    return nd_status_ok;
}

/* Images at once: no more than their activations have room. */
static int64_t block_for(const nd_graph *graph, int64_t batch) {
    int64_t one = nd_gradient_kept_bytes(graph, 1), block = one > 0 ? kept_bytes / one : batch;
    return block < 1 ? 1 : block > batch ? batch : block;
}

static nd_status give_room(metric_job *job) {
    int64_t most = 1;
    for (int v = 0; v < job->graph->n_values; v++) job->layer_of[v] = -1;
    for (int l = 0; l < job->plan->n_layers; l++) {
        nd_layer *layer = &job->plan->layers[l];
        int y = job->graph->nodes[layer->node].out[0];
        int64_t width = rows_of(layer);
        int64_t rows = nd_value_size(job->graph, y) / layer->conv.groups;
        if (layer->why || layer->conv.product || !nd_gradient_known(job->gradient, y)) continue;
        job->layer_of[y] = l;
        if (rows > most) most = rows;
        layer->metric = nd_alloc_array((size_t)(layer->conv.groups * width), (size_t)width * sizeof(double));
        ND_REQUIRE(layer->metric, nd_status_memory, "conv %s: no memory for its metric", layer->name);
    }
    job->rows = nd_alloc_array((size_t)job->block, (size_t)most * sizeof *job->rows);
    bool enough = job->rows != NULL;
    for (int h = 0; h < job->n_heads; h++) {
        job->seeds[h] = nd_alloc_array((size_t)job->block, (size_t)job->sizes[h] * sizeof *job->seeds[h]);
        enough = enough && job->seeds[h];
    }
    ND_REQUIRE(enough, nd_status_memory, "no memory for output metrics");
    return nd_status_ok;
}

nd_status nd_output_metric(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                           nd_plan *plan) {
    nd_status status = nd_status_ok;
    int64_t images = settings->calib_images;
    metric_job job = {.backend = backend, .graph = graph, .plan = plan};
    nd_captures *captures = &job.captures;
    job.block = block_for(graph, settings->calib->batch);
    job.n_heads = nd_graph_heads(graph, job.heads);
    for (int h = 0; h < job.n_heads; h++) job.sizes[h] = nd_value_size(graph, job.heads[h]);
    if (images <= 0 || images > metric_images) images = metric_images;
    job.layer_of = nd_alloc_array((size_t)graph->n_values, sizeof *job.layer_of);
    ND_REQUIRE_DONE(job.layer_of, nd_status_memory, "no memory for output metrics");
    ND_TRY_DONE(nd_gradient_open(backend, graph, job.block, job.heads, job.n_heads, &job.gradient));
    ND_TRY_DONE(give_room(&job));
    ND_TRY_DONE(scale_heads(&job, settings, images));
    ND_TRY_DONE(
        nd_captures_open(backend, graph, settings->calib->batch, NULL, 0, graph->inputs, 1, &job.captures));
    ND_TRY_DONE(nd_sample(settings->calib, images, &captures, 1, metric_block, &job));
    ND_TRY_DONE(finish(backend, plan));
done:
    nd_captures_close(&job.captures);
    nd_gradient_close(job.gradient);
    free(job.layer_of);
    for (int h = 0; h < job.n_heads; h++) {
        free(job.seeds[h]);
        free(job.sum[h]);
    }
    free(job.rows);
    return status;
}
