#include "cli/verbs/eval/eval.h"

#include "eval/detect/detection.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct nd_eval_found {
    const nd_eval *eval;
    nd_found *found; /* [count] */
    nd_truth truth;  /* the annotations; empty where there are none */
    nd_truth own;    /* without them, what the original found */
    double score;    /* from which on */
    bool boxes;      /* found; else raw numbers alone are compared */
} nd_eval_found;

/* What classes are measured against. */
static const nd_truth *detect_truth(const nd_eval_found *self) {
    return self->truth.n ? &self->truth : &self->own;
}

static nd_status detect_run(nd_eval_found *self) {
    const nd_eval *eval = self->eval;
    const nd_progress progress = nd_cli_progress();
    const nd_detection_settings settings = {.backend = eval->backend,
                                            .precision = eval->precision,
                                            .decoder = nd_args_text(eval->args, "decode", NULL),
                                            .progress = &progress};
    nd_decode heads;
    ND_TRY(nd_decode_open(eval->graphs[0], settings.decoder, &heads));
    self->boxes = nd_decode_finds(&heads);
    nd_decode_close(&heads);
    ND_REQUIRE(
        self->boxes || eval->original, nd_status_usage,
        "%s: --decode none reads no boxes of its outputs; give --original MODEL to compare them with, or "
        "a decoder",
        eval->models[0].spec);
    ND_TRY(nd_args_real(eval->args, "score", 0.25, 0, 1, &self->score));
    ND_REQUIRE(
        eval->original || eval->batches->objects, nd_status_usage,
        "%s: no boxes are annotated in it; give --original MODEL for the agreement with what that finds",
        eval->batches->name);
    ND_TRY(nd_detection_run((const nd_graph *const *)eval->graphs, eval->count, eval->batches, &settings,
                            self->found, &self->truth));
    for (size_t i = 0; i < eval->count; i++) {
        eval->models[i].seconds = self->found[i].seconds;
        eval->models[i].batch = self->found[i].batch;
    }
    return eval->original && self->boxes ? nd_truth_of(&self->found[0], self->score, &self->own)
                                         : nd_status_ok;
}

/* --- rows of classes */

static const char *detect_class(const nd_eval *eval, int32_t label, char *text, size_t size) {
    const nd_batches *batches = eval->batches;
    const bool named = batches->objects && batches->classes && label < batches->n_classes &&
                       !nd_args_has(eval->args, "classes") && !nd_args_has(eval->args, "label-offset");
    snprintf(text, size, "%.100s", named ? batches->classes[label] : "");
    if (!named) snprintf(text, size, "%d", (int)label);
    return text;
}

static nd_status detect_class_row(const nd_eval_found *self, size_t model, const nd_detection_classes *of,
                                  int32_t label) {
    nd_row row = {0};
    char name[128];
    const bool annotated = self->truth.n > 0;
    nd_status status = nd_eval_row(self->eval, model, &row);
    nd_row_set_name(&row, nd_field_dataset, self->eval->batches->name);
    nd_row_set_text(&row, nd_field_dataset_sha256, self->eval->batches->sha256);
    nd_row_set_text(&row, nd_field_preprocess, self->eval->batches->preprocess);
    nd_row_set_int(&row, nd_field_n, self->found[model].n);
    nd_row_set_text(&row, nd_field_decode, nd_args_text(self->eval->args, "decode", NULL));
    nd_row_set_text(&row, nd_field_class_name, detect_class(self->eval, label, name, sizeof name));
    nd_row_set_int(&row, annotated ? nd_field_objects : nd_field_agree_objects, of->objects[label]);
    nd_row_set_real(&row, annotated ? nd_field_ap : nd_field_agree_ap, 100 * of->ap[label]);
    nd_row_set_real(&row, annotated ? nd_field_ap50 : nd_field_agree_ap50, 100 * of->ap50[label]);
    if (annotated) nd_row_set_real(&row, nd_field_voc2007, 100 * of->voc2007[label]);
    if (!status) status = nd_output_row(self->eval->output, &row);
    nd_row_free(&row);
    return status;
}

/* A line for each class with objects, a column for each network. */
static void detect_class_table(const nd_eval_found *self, const nd_detection_classes *of) {
    const nd_eval *eval = self->eval;
    const char **headings = calloc(eval->count + 3, sizeof *headings);
    if (!headings) return;
    headings[0] = "class";
    headings[1] = "objects";
    for (size_t i = 0; i < eval->count; i++) headings[2 + i] = eval->models[i].spec;
    nd_table *table = nd_table_new(headings);
    for (int32_t label = 0; label < of[0].classes; label++) {
        char name[128];
        if (!of[0].objects[label]) continue;
        nd_table_cell(table, "%s", detect_class(eval, label, name, sizeof name));
        nd_table_cell(table, "%" PRId64, of[0].objects[label]);
        for (size_t i = 0; i < eval->count; i++) nd_table_cell(table, "%.2f", 100 * of[i].ap50[label]);
    }
    nd_cli_print("\n%s by class, AP50\n\n", self->truth.n ? "objects" : "objects that the original finds");
    nd_table_print(table, stdout);
    free(headings);
}

static nd_status detect_classes(const nd_eval_found *self) {
    const nd_eval *eval = self->eval;
    nd_status status = nd_status_ok;
    nd_detection_classes *of = calloc(eval->count, sizeof *of);
    ND_REQUIRE(of, nd_status_memory, "no memory for %zu models", eval->count);
    for (size_t i = 0; i < eval->count; i++) {
        ND_TRY_DONE(nd_detection_by_class(&self->found[i], detect_truth(self), &of[i]));
        for (int32_t label = 0; label < of[i].classes; label++)
            if (of[i].objects[label]) ND_TRY_DONE(detect_class_row(self, i, &of[i], label));
    }
    if (!nd_output_quiet(eval->output) && detect_truth(self)->objects) detect_class_table(self, of);
done:
    for (size_t i = 0; i < eval->count; i++) nd_detection_classes_free(&of[i]);
    free(of);
    return status;
}

/* --- rows of networks */

typedef struct nd_eval_column {
    const char *heading;
    nd_field field, hi; /* hi: an interval from `field` to it; else equal */
    const char *format;
    bool annotated, beside; /* shown where there are annotations; beside an original */
    bool raw;               /* of raw numbers as well */
} nd_eval_column;

#define REAL(heading, name, format) heading, nd_field_##name, nd_field_##name, format
#define INTERVAL(lo, hi)            "95 %", nd_field_##lo, nd_field_##hi, NULL
static const nd_eval_column nd_eval_columns[] = {
    {REAL("MACs x", total_macs_ratio, "%.2f"), false, true, true},
    {REAL("AP", ap, "%.2f"), true, false, false},
    {REAL("AP50", ap50, "%.2f"), true, false, false},
    {REAL("AP75", ap75, "%.2f"), true, false, false},
    {REAL("VOC 2007", voc2007, "%.2f"), true, false, false},
    {REAL("drop AP", drop_ap, "%.2f"), true, true, false},
    {INTERVAL(drop_ap_lo, drop_ap_hi), true, true, false},
    {REAL("drop AP50", drop_ap50, "%.2f"), true, true, false},
    {INTERVAL(drop_ap50_lo, drop_ap50_hi), true, true, false},
    {REAL("agreement AP50", agree_ap50, "%.2f"), false, true, false},
    {INTERVAL(agree_ap50_lo, agree_ap50_hi), false, true, false},
    {REAL("AP", agree_ap, "%.2f"), false, true, false},
    {REAL("IoU", agree_iou, "%.4f"), false, true, false},
    {REAL("raw rel mse", raw_rel_mse, "%.2e"), false, true, true},
    {REAL("boxes rel mse", boxes_rel_mse, "%.2e"), false, true, false},
    {REAL("scores rel mse", scores_rel_mse, "%.4f"), false, true, false},
};
enum { nd_eval_column_count = sizeof nd_eval_columns / sizeof *nd_eval_columns };

static bool detect_shows(const nd_eval_found *self, const nd_eval_column *column) {
    return (self->boxes || column->raw) && (!column->annotated || self->truth.n) &&
           (!column->beside || self->eval->original);
}

static nd_table *detect_table(const nd_eval_found *self) {
    const char *headings[nd_eval_column_count + nd_decode_groups_max + 4] = {"model", "MMACs", "detections"};
    const nd_decode *decode = &self->found[0].decode;
    int count = self->boxes ? 3 : 2;
    headings[count] = NULL;
    for (int i = 0; i < nd_eval_column_count; i++)
        if (detect_shows(self, &nd_eval_columns[i])) headings[count++] = nd_eval_columns[i].heading;
    for (int g = 0; !self->boxes && g < decode->n_groups; g++) headings[count++] = decode->groups[g].name;
    return nd_table_new(headings);
}

static void detect_table_row(const nd_eval_found *self, size_t model, const nd_row *row, nd_table *table) {
    nd_table_cell(table, "%s", self->eval->models[model].spec);
    nd_table_cell(table, "%.2f", (double)self->eval->models[model].cost.total_macs * 1e-6);
    if (self->boxes) nd_table_cell(table, "%" PRId64, self->found[model].detections);
    for (int i = 0; i < nd_eval_column_count; i++) {
        const nd_eval_column *column = &nd_eval_columns[i];
        if (!detect_shows(self, column)) continue;
        if (column->format)
            nd_eval_cell(table, row, column->field, column->format);
        else
            nd_eval_interval(table, row, column->field, column->hi);
    }
    for (int g = 0; !self->boxes && g < self->found[model].decode.n_groups; g++) {
        const double error = self->found[model].rel_mse[g];
        nd_table_cell(table, isnan(error) ? "-" : "%.2e", error);
    }
}

static nd_status detect_row(const nd_eval_found *self, size_t model, nd_row *row) {
    const nd_detection_rows rows = {.batches = self->eval->batches,
                                    .truth = &self->truth,
                                    .original = self->eval->original && model ? &self->found[0] : NULL,
                                    .score = self->score,
                                    .draws = nd_detection_draws};
    ND_TRY(nd_eval_row(self->eval, model, row));
    nd_row_set_text(row, nd_field_decode, nd_args_text(self->eval->args, "decode", NULL));
    ND_TRY(nd_detection_row(&rows, &self->found[model], row));
    char text[512];
    if (!model && nd_detection_blind(&rows, &self->found[0], row, text, sizeof text))
        nd_log(nd_log_warn, "%s: %s", self->eval->models[0].spec, text);
    return nd_status_ok;
}

static nd_status detect_print(const nd_eval_found *self) {
    const nd_eval *eval = self->eval;
    const bool show = !nd_output_quiet(eval->output);
    nd_status status = nd_status_ok;
    nd_table *table = detect_table(self);
    for (size_t i = 0; !status && i < eval->count; i++) {
        nd_row row = {0};
        status = detect_row(self, i, &row);
        if (!status) status = nd_output_row(eval->output, &row);
        if (!status) detect_table_row(self, i, &row, table);
        nd_row_free(&row);
    }
    nd_table_print(table, show && !status ? stdout : NULL);
    if (!status && self->boxes) status = detect_classes(self);
    if (status || !show) return status;
    if (self->truth.n) nd_cli_print("\n%" PRId64 " annotated objects\n", self->truth.objects);
    if (!self->boxes)
        nd_cli_print("\nerrors of raw numbers against %s, relative to how much those vary over the images\n",
                     eval->models[0].spec);
    else if (eval->original)
        nd_cli_print("%sagreement is with the %" PRId64
                     " objects that %s finds with a score of at least %g\n",
                     self->truth.n ? "" : "\n", self->own.objects, eval->models[0].spec, self->score);
    nd_eval_print_setting(eval, self->found[0].n, self->found[0].skipped);
    return nd_status_ok;
}

nd_status nd_eval_detectors(const nd_eval *eval) {
    nd_eval_found self = {.eval = eval, .found = calloc(eval->count, sizeof *self.found)};
    ND_REQUIRE(self.found, nd_status_memory, "no memory for %zu models", eval->count);
    nd_status status = detect_run(&self);
    if (!status) status = detect_print(&self);
    for (size_t i = 0; i < eval->count; i++) nd_found_free(&self.found[i]);
    nd_truth_free(&self.truth);
    nd_truth_free(&self.own);
    free(self.found);
    return status;
}
