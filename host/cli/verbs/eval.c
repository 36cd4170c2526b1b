#include "cli/cli.h"

#include "base/parallel.h"
#include "eval/accuracy.h"
#include "eval/max_drop.h"
#include "eval/scores.h"
#include "model/cost.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <stdlib.h>

enum { nd_eval_batch = 32 };

typedef struct nd_eval_model {
    const char *spec;
    char sha256[65];
    nd_cost cost;
} nd_eval_model;

/* The original, where there is one, is model 0. */
typedef struct nd_eval {
    const nd_args *args;
    size_t count;
    bool original;
    nd_eval_model *models;
    nd_graph **graphs;
    nd_accuracy *results;
    nd_precision precision;
    nd_backend *backend;
    nd_batches *batches;
    nd_output *output;
} nd_eval;

static nd_status eval_open_models(nd_eval *eval) {
    const nd_args *args = eval->args;
    const char *original = nd_args_text(args, "original", NULL);
    eval->original = original != NULL;
    eval->count = args->n_positional + (original ? 1 : 0);
    eval->models = calloc(eval->count, sizeof *eval->models);
    eval->graphs = calloc(eval->count, sizeof *eval->graphs);
    eval->results = calloc(eval->count, sizeof *eval->results);
    ND_REQUIRE(eval->models && eval->graphs && eval->results, nd_status_memory, "no memory for %zu models",
               eval->count);
    for (size_t i = 0; i < eval->count; i++) {
        nd_eval_model *model = &eval->models[i];
        model->spec = original ? (i ? args->positional[i - 1] : original) : args->positional[i];
        ND_TRY(nd_model_open(model->spec, &eval->graphs[i]));
        nd_graph_sha256(eval->graphs[i], model->sha256);
        nd_status status = nd_graph_fold(eval->graphs[i]);
        if (status) return nd_fail_in(status, "%s", model->spec);
    }
    return nd_status_ok;
}

static nd_status eval_open_data(nd_eval *eval) {
    const nd_args *args = eval->args;
    nd_dataset_settings settings = {.spec = nd_args_text(args, "data", NULL)};
    ND_REQUIRE(settings.spec, nd_status_usage, "on which images? Give --data DATASET");
    ND_TRY(nd_args_int(args, "batch", nd_eval_batch, 1, 65536, &settings.batch));
    ND_TRY(nd_args_int(args, "first", 0, 0, INT64_MAX, &settings.first));
    ND_TRY(nd_args_int(args, "limit", 0, 0, INT64_MAX, &settings.limit));
    ND_TRY(
        nd_cli_dataset(args, (const nd_graph *const *)eval->graphs, eval->count, settings, &eval->batches));
    ND_REQUIRE(eval->original || !eval->batches->synthetic, nd_status_usage,
               "%s: made-up pictures have no labels to be right about; give --original MODEL for the "
               "agreement with it",
               settings.spec);
    return nd_status_ok;
}

/* A network that leaves its image size open takes that of the data. */
static nd_status eval_infer(nd_eval *eval) {
    const nd_infer_settings infer = {
        .batch = eval->batches->batch, .height = eval->batches->height, .width = eval->batches->width};
    for (size_t i = 0; i < eval->count; i++) {
        nd_status status = nd_graph_infer(eval->graphs[i], &infer);
        if (status) return nd_fail_in(status, "%s", eval->models[i].spec);
        eval->models[i].cost = nd_cost_graph(eval->graphs[i]);
    }
    return nd_status_ok;
}

/* A drop on the images that chose the ranks is no test result. */
static void eval_warn(const nd_eval *eval) {
    for (size_t i = 0; i < eval->count; i++) {
        bool exactly;
        if (!nd_max_drop_met(eval->graphs[i], eval->batches, &exactly)) continue;
        nd_log(nd_log_warn, "%s: its ranks were chosen by the accuracy on %s %s; this is no test of it",
               eval->models[i].spec, exactly ? "these very images of" : "images of", eval->batches->name);
    }
}

static nd_status eval_measure(nd_eval *eval) {
    const char *dtype = nd_args_text(eval->args, "dtype", "fp32");
    const char *scores = nd_args_text(eval->args, "scores", NULL);
    ND_REQUIRE(nd_precision_find(dtype, &eval->precision), nd_status_usage,
               "--dtype %s: expected fp32, tf32, fp16 or bf16", dtype);
    if (scores) ND_TRY(nd_scores_fit((const nd_graph *const *)eval->graphs, eval->count));
    ND_TRY(nd_cli_backend(eval->args, &eval->backend));
    eval_warn(eval);
    const nd_progress progress = nd_cli_progress();
    const nd_accuracy_settings settings = {.backend = eval->backend,
                                           .precision = eval->precision,
                                           .keep_logits = scores != NULL,
                                           .progress = &progress};
    ND_TRY(nd_accuracy_measure_all((const nd_graph *const *)eval->graphs, eval->count, eval->batches,
                                   &settings, eval->results));
    return scores ? nd_scores_write(scores, eval->results, eval->count) : nd_status_ok;
}

/* What makes a number less than it looks like. */
static void eval_doubt(const nd_eval *eval) {
    for (size_t i = 0; i < eval->count; i++) {
        const nd_accuracy *result = &eval->results[i];
        if (!result->nan_images) continue;
        nd_log(nd_log_warn,
               "%s: the scores of %" PRId64 " of %" PRId64
               " images are NaN: counted as wrong, and in no agreement",
               eval->models[i].spec, result->nan_images, result->n);
    }
    const nd_accuracy *first = &eval->results[0];
    char text[256];
    if (nd_accuracy_at_chance(first, text, sizeof text))
        nd_log(nd_log_warn, "%s: its top-1 on %s is what guessing gives: %s", eval->models[0].spec,
               eval->batches->name, text);
    if (first->unlabelled && first->unlabelled < first->n)
        nd_log(nd_log_warn,
               "%s: %" PRId64 " of %" PRId64 " images have no class; top-1 and top-5 are of the others",
               eval->batches->name, first->unlabelled, first->n);
}

/* --- output */

static double eval_ratio(int64_t original, int64_t changed) {
    return changed > 0 ? (double)original / (double)changed : 0;
}

static void eval_row_cost(const nd_eval *eval, size_t i, nd_row *row) {
    const nd_cost *cost = &eval->models[i].cost, *original = &eval->models[0].cost;
    nd_row_set_int(row, nd_field_conv_macs, cost->conv_macs);
    nd_row_set_int(row, nd_field_total_macs, cost->total_macs);
    nd_row_set_int(row, nd_field_params, cost->params);
    if (!eval->original || i == 0) return;
    nd_row_set_real(row, nd_field_conv_macs_ratio, eval_ratio(original->conv_macs, cost->conv_macs));
    nd_row_set_real(row, nd_field_total_macs_ratio, eval_ratio(original->total_macs, cost->total_macs));
    nd_row_set_real(row, nd_field_params_ratio, eval_ratio(original->params, cost->params));
}

static nd_status eval_row(const nd_eval *eval, size_t i, nd_row *row) {
    nd_row_provenance(row, eval->args->argc, eval->args->argv);
    nd_row_set_text(row, nd_field_verb, "eval");
    ND_TRY(nd_cli_model_row(eval->graphs[i], eval->models[i].spec, eval->models[i].sha256, row));
    nd_row_set_text(row, nd_field_backend, eval->backend->name);
    nd_row_set_text(row, nd_field_device, eval->backend->device);
    nd_row_set_text(row, nd_field_libraries, eval->backend->libraries);
    nd_row_set_text(row, nd_field_driver, *eval->backend->driver ? eval->backend->driver : NULL);
    nd_row_set_text(row, nd_field_dtype, nd_precision_name(eval->precision));
    nd_row_set_int(row, nd_field_batch, eval->batches->batch);
    nd_row_threads(row);
    nd_row_set_real(row, nd_field_seconds, eval->results[i].seconds);
    eval_row_cost(eval, i, row);
    return nd_accuracy_row(&eval->results[i], eval->original && i ? &eval->results[0] : NULL, eval->batches,
                           row);
}

static void eval_cell(nd_table *table, const nd_row *row, nd_field field, const char *format) {
    const nd_row_value *value = &row->values[field];
    char text[64] = "-";
    if (value->set) snprintf(text, sizeof text, format, value->r);
    nd_table_cell(table, "%s", text);
}

/* "[-0.31, 0.92]" */
static void eval_interval(nd_table *table, const nd_row *row, nd_field lo, nd_field hi) {
    if (row->values[lo].set)
        nd_table_cell(table, "[%.2f, %.2f]", row->values[lo].r, row->values[hi].r);
    else
        nd_table_cell(table, "-");
}

static void eval_table_row(const nd_eval *eval, size_t i, const nd_row *row, nd_table *table) {
    nd_table_cell(table, "%s", eval->models[i].spec);
    nd_table_cell(table, "%.2f", (double)eval->models[i].cost.total_macs * 1e-6);
    if (eval->original) eval_cell(table, row, nd_field_total_macs_ratio, "%.2f");
    if (row->values[nd_field_top1_correct].set) {
        nd_table_cell(table, "%" PRId64, row->values[nd_field_top1_correct].i);
        nd_table_cell(table, "%" PRId64, row->values[nd_field_top5_correct].i);
    } else {
        nd_table_cell(table, "-");
        nd_table_cell(table, "-");
    }
    eval_cell(table, row, nd_field_top1, "%.2f");
    eval_cell(table, row, nd_field_top5, "%.2f");
    if (!eval->original) return;
    eval_cell(table, row, nd_field_drop_top1, "%.2f");
    eval_interval(table, row, nd_field_drop_top1_lo, nd_field_drop_top1_hi);
    eval_cell(table, row, nd_field_drop_top5, "%.2f");
    eval_interval(table, row, nd_field_drop_top5_lo, nd_field_drop_top5_hi);
    eval_cell(table, row, nd_field_agreement, "%.2f");
    eval_cell(table, row, nd_field_logit_rel_mse, "%.4f");
}

static nd_status eval_print(const nd_eval *eval) {
    static const char *const alone[] = {"model", "MMACs", "top-1", "top-5", "top-1 %", "top-5 %", NULL};
    static const char *const beside[] = {"model",   "MMACs",     "MACs x",  "top-1", "top-5",
                                         "top-1 %", "top-5 %",   "drop",    "95 %",  "drop top-5",
                                         "95 %",    "agreement", "rel mse", NULL};
    const bool show = !nd_output_quiet(eval->output);
    nd_status status = nd_status_ok;
    nd_table *table = nd_table_new(eval->original ? beside : alone);
    for (size_t i = 0; !status && i < eval->count; i++) {
        nd_row row = {0};
        status = eval_row(eval, i, &row);
        if (!status) status = nd_output_row(eval->output, &row);
        if (!status) eval_table_row(eval, i, &row, table);
        nd_row_free(&row);
    }
    nd_table_print(table, show && !status ? stdout : NULL);
    ND_TRY(status);
    if (!show) return nd_status_ok;
    const nd_accuracy *first = &eval->results[0];
    nd_cli_print("\n%" PRId64 " images of %s, %" PRId64
                 " left out as broken\nprepared by %s\n%s (%s), %s, batch %" PRId64 "\n",
                 first->n, eval->batches->name, first->skipped, eval->batches->preprocess,
                 eval->backend->name, eval->backend->device, nd_precision_name(eval->precision),
                 eval->batches->batch);
    return nd_status_ok;
}

nd_status nd_verb_eval(nd_args *args) {
    nd_eval eval = {.args = args};
    nd_status status = nd_output_open(args, &eval.output);
    if (!status) status = eval_open_models(&eval);
    if (!status) status = eval_open_data(&eval);
    if (!status) status = eval_infer(&eval);
    if (!status) status = eval_measure(&eval);
    if (!status) eval_doubt(&eval);
    if (!status) status = eval_print(&eval);
    for (size_t i = 0; i < eval.count; i++) {
        if (eval.results) nd_accuracy_free(&eval.results[i]);
        if (eval.graphs) nd_graph_free(eval.graphs[i]);
    }
    free(eval.results);
    free(eval.graphs);
    free(eval.models);
    nd_batches_close(eval.batches);
    nd_backend_close(eval.backend);
    return nd_output_close(eval.output, status);
}
