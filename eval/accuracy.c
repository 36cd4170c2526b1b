#include "eval/accuracy.h"

#include "base/machine/clock.h"
#include "model/images.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One network under measurement. */
typedef struct nd_accuracy_run {
    nd_exec *exec;
    nd_accuracy *out;
    float *scores;  /* [batch][classes] */
    double squares; /* of the distance to the scores of run 0 */
} nd_accuracy_run;

/* Sums of the first network's scores by class, for their spread. */
typedef struct nd_accuracy_spread {
    double *sum, *squares; /* [classes] */
} nd_accuracy_spread;

/* --- does the network fit the stream? */

static nd_status accuracy_find_scores(const nd_graph *graph, int *scores, int64_t *classes) {
    const nd_value *first = &graph->values[graph->outputs[0]];
    char dims[nd_rank_max * 21 + 1];
    *scores = nd_graph_class_scores(graph, classes);
    ND_REQUIRE(*scores >= 0 && *classes <= INT32_MAX, nd_status_usage,
               "%s: none of its outputs is a list of scores for each image; the first, %s, is %s",
               graph->name, first->name,
               nd_dims_format(first->rank > 0 ? first->rank : 0, first->dims, dims, sizeof dims));
    if (graph->n_outputs > 1)
        nd_log(nd_log_warn, "%s: of its %d outputs '%s', with %lld scores, is taken as the classes",
               graph->name, graph->n_outputs, graph->values[*scores].name, (long long)*classes);
    return nd_status_ok;
}

static nd_status accuracy_fits(const nd_graph *graph, const nd_batches *batches, int *scores,
                               int64_t *classes) {
    ND_REQUIRE(graph->n_inputs == 1 && graph->n_outputs >= 1, nd_status_usage,
               "%s: %d inputs and %d outputs; a classifier has one image input and scores", graph->name,
               graph->n_inputs, graph->n_outputs);
    ND_TRY(nd_images_fit(graph, batches));
    return accuracy_find_scores(graph, scores, classes);
}

static nd_status accuracy_run_open(nd_accuracy_run *run, const nd_graph *graph, const nd_batches *batches,
                                   const nd_accuracy_settings *settings, nd_accuracy *out) {
    const int64_t batch = settings->batch ? settings->batch : batches->batch;
    const size_t images = (size_t)batches->count;
    run->out = out;
    out->logit_rel_mse = NAN;
    ND_REQUIRE(batch >= batches->batch, nd_status_usage, "batches of %lld images for runs of %lld",
               (long long)batches->batch, (long long)batch);
    int scores;
    ND_TRY(accuracy_fits(graph, batches, &scores, &out->classes));
    out->hit1 = nd_alloc_array(images, sizeof *out->hit1);
    out->hit5 = nd_alloc_array(images, sizeof *out->hit5);
    out->best = nd_alloc_array(images, sizeof *out->best);
    run->scores = nd_alloc_array((size_t)batch, (size_t)out->classes * sizeof *run->scores);
    bool enough = out->hit1 && out->hit5 && out->best && run->scores;
    if (settings->keep_logits) {
        out->logits = nd_alloc_array(images, (size_t)out->classes * sizeof *out->logits);
        enough = enough && out->logits;
    }
    ND_REQUIRE(enough, nd_status_memory, "no memory for the scores of %zu images", images);
    const nd_exec_settings exec = {.batch = batch,
                                   .shrink = true,
                                   .by_image = true,
                                   .precision = settings->precision,
                                   .outputs = &scores,
                                   .n_outputs = 1};
    ND_TRY(nd_exec_open(settings->backend, graph, &exec, &run->exec));
    out->batch = nd_exec_batch(run->exec);
    return nd_status_ok;
}

/* --- judging scores */

/* Whether class a comes before class b: the higher score, then the lower number. No score is NaN. */
static bool accuracy_before(const float *scores, int64_t a, int64_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
}

static void accuracy_judge(const float *scores, int64_t classes, int32_t label, nd_accuracy *out) {
    const int64_t i = nd_accuracy_labelled(out);
    int64_t best = 0;
    bool broken = isnan(scores[0]);
    for (int64_t c = 1; c < classes; c++) {
        if (accuracy_before(scores, c, best)) best = c;
        broken |= isnan(scores[c]);
    }
    out->best[out->n++] = broken ? -1 : (int32_t)best;
    out->nan_images += broken;
    if (label < 0) {
        out->unlabelled++;
        return;
    }
    out->hit1[i] = out->hit5[i] = 0;
    if (broken) return;
    out->one_above += best == (int64_t)label + 1;
    out->one_below += best == (int64_t)label - 1;
    int64_t ahead = 0;
    for (int64_t c = 0; c < classes; c++) ahead += accuracy_before(scores, c, label);
    out->hit1[i] = ahead < 1;
    out->hit5[i] = ahead < 5;
    out->top1_correct += out->hit1[i];
    out->top5_correct += out->hit5[i];
}

static double accuracy_distance(const float *a, const float *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

static void accuracy_spread_add(nd_accuracy_spread *spread, const float *scores, int64_t n, int64_t classes) {
    for (int64_t i = 0; i < n * classes; i++) {
        spread->sum[i % classes] += scores[i];
        spread->squares[i % classes] += (double)scores[i] * scores[i];
    }
}

/* Sum over images and classes of |l - mean l|^2, the mean being that of the class. */
static double accuracy_spread_total(const nd_accuracy_spread *spread, int64_t n, int64_t classes) {
    double total = 0;
    for (int64_t c = 0; c < classes; c++)
        total += spread->squares[c] - spread->sum[c] * spread->sum[c] / (double)n;
    return total;
}

/* --- the measurement */

static nd_status accuracy_beyond(const nd_batches *batches, const nd_batch *batch, int64_t i,
                                 int64_t classes) {
    char where[512];
    snprintf(where, sizeof where, "%s: image %lld", batches->name, (long long)batch->index[i]);
    if (batches->where) batches->where(batches, batch->index[i], where, sizeof where);
    return nd_fail(nd_status_format,
                   "%s: class %d, but the network's outputs are 0 to %lld; --classes and --label-offset say "
                   "which output a "
                   "class is",
                   where, (int)batch->labels[i], (long long)classes - 1);
}

static nd_status accuracy_run_batch(nd_accuracy_run *run, const nd_accuracy_run *first,
                                    const nd_batches *batches, const nd_batch *batch) {
    nd_accuracy *out = run->out;
    const double start = nd_seconds();
    ND_TRY(nd_exec_run(run->exec, batch->n, &batch->images, &run->scores));
    out->seconds += nd_seconds() - start;
    if (run != first && out->classes == first->out->classes)
        run->squares += accuracy_distance(run->scores, first->scores, batch->n * out->classes);
    if (out->logits)
        memcpy(out->logits + out->n * out->classes, run->scores,
               (size_t)(batch->n * out->classes) * sizeof *out->logits);
    for (int64_t i = 0; i < batch->n; i++) {
        if (batch->labels[i] >= out->classes) return accuracy_beyond(batches, batch, i, out->classes);
        accuracy_judge(run->scores + i * out->classes, out->classes, batch->labels[i], out);
    }
    return nd_status_ok;
}

static nd_status accuracy_stream(nd_accuracy_run *runs, size_t count, nd_batches *batches,
                                 const nd_accuracy_settings *settings, nd_accuracy_spread *spread) {
    const nd_accuracy *first = runs[0].out;
    ND_TRY(batches->rewind(batches));
    for (;;) {
        nd_batch batch;
        ND_TRY(batches->next(batches, &batch));
        if (batch.n == 0) break;
        for (size_t r = 0; r < count; r++) ND_TRY(accuracy_run_batch(&runs[r], &runs[0], batches, &batch));
        if (count > 1) accuracy_spread_add(spread, runs[0].scores, batch.n, first->classes);
        nd_progress_report(settings->progress, "evaluate", first->n + batches->skipped, batches->count);
    }
    ND_REQUIRE(first->n, nd_status_format, "%s: not one of %lld images could be read", batches->name,
               (long long)batches->count);
    return nd_status_ok;
}

static void accuracy_finish(nd_accuracy_run *runs, size_t count, const nd_batches *batches,
                            const nd_accuracy_spread *spread) {
    const nd_accuracy *first = runs[0].out;
    for (size_t r = 0; r < count; r++) {
        nd_accuracy *out = runs[r].out;
        out->skipped = batches->skipped;
        if (r > 0 && out->classes == first->classes)
            out->logit_rel_mse = runs[r].squares / accuracy_spread_total(spread, first->n, first->classes);
    }
}

nd_status nd_accuracy_measure_all(const nd_graph *const *graphs, size_t count, nd_batches *batches,
                                  const nd_accuracy_settings *settings, nd_accuracy *out) {
    nd_status status = nd_status_ok;
    nd_accuracy_spread spread = {0};
    memset(out, 0, count * sizeof *out);
    nd_accuracy_run *runs = calloc(count ? count : 1, sizeof *runs);
    ND_REQUIRE(runs && count, runs ? nd_status_usage : nd_status_memory, "no network to measure");
    for (size_t r = 0; r < count; r++)
        ND_TRY_DONE(accuracy_run_open(&runs[r], graphs[r], batches, settings, &out[r]));
    spread.sum = nd_alloc_array((size_t)out[0].classes, sizeof *spread.sum);
    spread.squares = nd_alloc_array((size_t)out[0].classes, sizeof *spread.squares);
    ND_REQUIRE_DONE(spread.sum && spread.squares, nd_status_memory, "no memory for %lld classes",
                    (long long)out[0].classes);
    ND_TRY_DONE(accuracy_stream(runs, count, batches, settings, &spread));
    accuracy_finish(runs, count, batches, &spread);
done:
    for (size_t r = 0; r < count; r++) {
        nd_exec_close(runs[r].exec);
        free(runs[r].scores);
        if (status) nd_accuracy_free(&out[r]);
    }
    free(spread.sum);
    free(spread.squares);
    free(runs);
    return status;
}

nd_status nd_accuracy_measure(const nd_graph *graph, nd_batches *batches,
                              const nd_accuracy_settings *settings, nd_accuracy *out) {
    return nd_accuracy_measure_all(&graph, 1, batches, settings, out);
}

int64_t nd_accuracy_labelled(const nd_accuracy *accuracy) {
    return accuracy->n - accuracy->unlabelled;
}

void nd_accuracy_free(nd_accuracy *accuracy) {
    free(accuracy->hit1);
    free(accuracy->hit5);
    free(accuracy->best);
    free(accuracy->logits);
    *accuracy = (nd_accuracy){0};
}
