#include "cli/verbs/eval/eval.h"

#include "eval/accuracy.h"
#include "eval/scores.h"

#include <inttypes.h>
#include <stdlib.h>

static nd_status eval_measure(const nd_eval *eval, nd_accuracy *results) {
    const char *scores = nd_args_text(eval->args, "scores", NULL);
    const nd_graph *const *graphs = (const nd_graph *const *)eval->graphs;
    if (scores) ND_TRY(nd_scores_fit(graphs, eval->count));
    const nd_progress progress = nd_cli_progress();
    const nd_accuracy_settings settings = {.backend = eval->backend,
                                           .precision = eval->precision,
                                           .keep_logits = scores != NULL,
                                           .progress = &progress};
    ND_TRY(nd_accuracy_measure_all(graphs, eval->count, eval->batches, &settings, results));
    for (size_t i = 0; i < eval->count; i++) {
        eval->models[i].seconds = results[i].seconds;
        eval->models[i].batch = results[i].batch;
    }
    return scores ? nd_scores_write(scores, results, eval->count) : nd_status_ok;
}

/* What makes a number less than it looks like. */
static void eval_doubt(const nd_eval *eval, const nd_accuracy *results) {
    for (size_t i = 0; i < eval->count; i++) {
        const nd_accuracy *result = &results[i];
        if (!result->nan_images) continue;
        nd_log(nd_log_warn,
               "%s: the scores of %" PRId64 " of %" PRId64
               " images are NaN: counted as wrong, and in no agreement",
               eval->models[i].spec, result->nan_images, result->n);
    }
    const nd_accuracy *first = &results[0];
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

static nd_status eval_row(const nd_eval *eval, const nd_accuracy *results, size_t i, nd_row *row) {
    ND_TRY(nd_eval_row(eval, i, row));
    return nd_accuracy_row(&results[i], eval->original && i ? &results[0] : NULL, eval->batches, row);
}

static void eval_table_row(const nd_eval *eval, size_t i, const nd_row *row, nd_table *table) {
    nd_table_cell(table, "%s", eval->models[i].spec);
    nd_table_cell(table, "%.2f", (double)eval->models[i].cost.total_macs * 1e-6);
    if (eval->original) nd_eval_cell(table, row, nd_field_total_macs_ratio, "%.2f");
    if (row->values[nd_field_top1_correct].set) {
        nd_table_cell(table, "%" PRId64, row->values[nd_field_top1_correct].i);
        nd_table_cell(table, "%" PRId64, row->values[nd_field_top5_correct].i);
    } else {
        nd_table_cell(table, "-");
        nd_table_cell(table, "-");
    }
    nd_eval_cell(table, row, nd_field_top1, "%.2f");
    nd_eval_cell(table, row, nd_field_top5, "%.2f");
    if (!eval->original) return;
    nd_eval_cell(table, row, nd_field_drop_top1, "%.2f");
    nd_eval_interval(table, row, nd_field_drop_top1_lo, nd_field_drop_top1_hi);
    nd_eval_cell(table, row, nd_field_drop_top5, "%.2f");
    nd_eval_interval(table, row, nd_field_drop_top5_lo, nd_field_drop_top5_hi);
    nd_eval_cell(table, row, nd_field_agreement, "%.2f");
    nd_eval_cell(table, row, nd_field_logit_rel_mse, "%.4f");
}

static nd_status eval_print(const nd_eval *eval, const nd_accuracy *results) {
    static const char *const alone[] = {"model", "MMACs", "top-1", "top-5", "top-1 %", "top-5 %", NULL};
    static const char *const beside[] = {"model",   "MMACs",     "MACs x",  "top-1", "top-5",
                                         "top-1 %", "top-5 %",   "drop",    "95 %",  "drop top-5",
                                         "95 %",    "agreement", "rel mse", NULL};
    const bool show = !nd_output_quiet(eval->output);
    nd_status status = nd_status_ok;
    nd_table *table = nd_table_new(eval->original ? beside : alone);
    for (size_t i = 0; !status && i < eval->count; i++) {
        nd_row row = {0};
        status = eval_row(eval, results, i, &row);
        if (!status) status = nd_output_row(eval->output, &row);
        if (!status) eval_table_row(eval, i, &row, table);
        nd_row_free(&row);
    }
    nd_table_print(table, show && !status ? stdout : NULL);
    ND_TRY(status);
    if (!show) return nd_status_ok;
    nd_eval_print_setting(eval, results[0].n, results[0].skipped);
    return nd_status_ok;
}

static nd_status eval_classifiers(const nd_eval *eval) {
    nd_status status;
    nd_accuracy *results = calloc(eval->count, sizeof *results);
    ND_REQUIRE(results, nd_status_memory, "no memory for %zu models", eval->count);
    ND_REQUIRE_DONE(!eval->batches->objects, nd_status_usage,
                    "%s: boxes to be found; how are the heads of the network read? Give --decode",
                    eval->batches->name);
    ND_TRY_DONE(eval_measure(eval, results));
    eval_doubt(eval, results);
    ND_TRY_DONE(eval_print(eval, results));
done:
    for (size_t i = 0; i < eval->count; i++) nd_accuracy_free(&results[i]);
    free(results);
    return status;
}

nd_status nd_verb_eval(nd_args *args) {
    nd_eval eval;
    nd_status status = nd_eval_open(args, &eval);
    if (!status) status = nd_args_has(args, "decode") ? nd_eval_detectors(&eval) : eval_classifiers(&eval);
    return nd_eval_close(&eval, status);
}
