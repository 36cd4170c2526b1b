#include "cli/verbs/sweep/sweep_rows.h"

#include "base/files/draft.h"
#include "base/rows/row_write.h"
#include "eval/report/pareto.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

nd_status nd_sweep_rows_open(const nd_args *args, nd_sweep_rows *out) {
    *out = (nd_sweep_rows){.args = args};
    const char *path = nd_args_text(args, "json", NULL);
    if (path && strcmp(path, "-") && !access(path, F_OK)) {
        ND_TRY(nd_rows_mend(path));
        ND_TRY(nd_rows_read(path, &out->rows, &out->count));
        out->capacity = out->resumed = out->count;
    }
    if (out->resumed) nd_log(nd_log_info, "%s: %zu rows are there already", path, out->resumed);
    ND_TRY(nd_output_open(args, &out->output));
    for (size_t i = 0; i < out->count; i++) ND_TRY(nd_output_replay(out->output, &out->rows[i]));
    return nd_status_ok;
}

bool nd_sweep_rows_has(const nd_sweep_rows *rows, const char *point) {
    for (size_t i = 0; i < rows->count; i++) {
        const nd_row_value *value = &rows->rows[i].values[nd_field_point];
        if (value->set && !strcmp(value->text, point)) return true;
    }
    return false;
}

nd_status nd_sweep_rows_add(nd_sweep_rows *rows, const nd_row *row) {
    nd_row *grown = nd_array_grow(rows->rows, rows->count, &rows->capacity, sizeof *grown);
    ND_REQUIRE(grown, nd_status_memory, "no memory for rows");
    rows->rows = grown;
    nd_row *copy = &rows->rows[rows->count++];
    *copy = (nd_row){0};
    nd_row_copy(copy, row);
    return nd_output_row(rows->output, row);
}

static double real_of(const nd_row *row, nd_field field) {
    return row->values[field].set ? row->values[field].r : 0;
}

static void cell(nd_table *table, const nd_row *row, nd_field field, const char *format) {
    nd_table_cell(table, row->values[field].set ? format : "-", real_of(row, field));
}

/* A column of numbers, or of intervals where `hi` is another field. */
typedef struct figure {
    const char *heading;
    nd_field field, hi;
    const char *format;
    bool always; /* else only where a row has it */
} figure;

#define ONE(heading, name, format, always)                                                                   \
    { heading, nd_field_##name, nd_field_##name, format, always }
#define TWO(lo, hi, format, always)                                                                          \
    { "95 %", nd_field_##lo, nd_field_##hi, format, always }
static const figure figures[] = {
    ONE("conv MACs x", conv_macs_ratio, "%.3f", true),
    ONE("params x", params_ratio, "%.3f", true),
    ONE("top-1 %", top1, "%.2f", false),
    ONE("drop", drop_top1, "%+.2f", false),
    TWO(drop_top1_lo, drop_top1_hi, "%+.2f..%+.2f", false),
    ONE("agree %", agreement, "%.2f", false),
    ONE("rel mse", logit_rel_mse, "%.4f", false),
    ONE("AP", ap, "%.2f", false),
    ONE("drop AP", drop_ap, "%+.2f", false),
    TWO(drop_ap_lo, drop_ap_hi, "%+.2f..%+.2f", false),
    ONE("AP50", ap50, "%.2f", false),
    ONE("drop AP50", drop_ap50, "%+.2f", false),
    TWO(drop_ap50_lo, drop_ap50_hi, "%+.2f..%+.2f", false),
    ONE("agree AP50", agree_ap50, "%.2f", false),
    TWO(agree_ap50_lo, agree_ap50_hi, "%.2f..%.2f", false),
    ONE("raw rel mse", raw_rel_mse, "%.2e", false),
    ONE("time x", ratio, "%.2f", false),
};
enum { n_figures = sizeof figures / sizeof *figures };

static bool shows(const nd_sweep_rows *rows, const figure *f) {
    for (size_t i = 0; i < rows->count; i++)
        if (rows->rows[i].values[f->field].set) return true;
    return f->always;
}

static nd_table *new_table(const nd_sweep_rows *rows) {
    const char *headings[n_figures + 11] = {"method", "ranks",   "rule",  "",
                                            "calib",  "backend", "dtype", "batch"};
    int n = 8;
    for (int f = 0; f < n_figures; f++)
        if (shows(rows, &figures[f])) headings[n++] = figures[f].heading;
    headings[n++] = "Pareto";
    headings[n++] = "in time";
    headings[n] = NULL;
    return nd_table_new(headings);
}

static void figure_cell(nd_table *table, const nd_row *row, const figure *f) {
    const bool known = row->values[f->field].set;
    nd_table_cell(table, known ? f->format : "-", real_of(row, f->field), real_of(row, f->hi));
}

static void print_table(const nd_sweep_rows *rows) {
    nd_table *table = new_table(rows);
    for (size_t i = 0; i < rows->count; i++) {
        const nd_row *row = &rows->rows[i];
        static const nd_field texts[] = {nd_field_method, nd_field_ranks, nd_field_rule};
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
            nd_table_cell(table, "%s", row->values[texts[t]].set ? row->values[texts[t]].text : "");
        cell(table, row, nd_field_target, "%g");
        nd_table_cell(table, "%s", row->values[nd_field_calib].set ? row->values[nd_field_calib].text : "");
        nd_table_cell(table, "%s",
                      row->values[nd_field_backend].set ? row->values[nd_field_backend].text : "");
        nd_table_cell(table, "%s", row->values[nd_field_dtype].set ? row->values[nd_field_dtype].text : "");
        nd_table_cell(table, "%" PRId64, row->values[nd_field_batch].i);
        for (int f = 0; f < n_figures; f++)
            if (shows(rows, &figures[f])) figure_cell(table, row, &figures[f]);
        nd_table_cell(table, "%s", row->values[nd_field_pareto].i ? "*" : "");
        nd_table_cell(table, "%s", row->values[nd_field_pareto_time].i ? "*" : "");
    }
    nd_table_print(table, stdout);
    if (rows->resumed) nd_cli_print("\n%zu of %zu rows were there already\n", rows->resumed, rows->count);
}

typedef struct rewriting {
    const nd_sweep_rows *rows;
    const char *format, *path;
} rewriting;

static nd_status write_all(void *context, FILE *file) {
    const rewriting *job = context;
    nd_row_writer *writer;
    ND_TRY(nd_row_writer_open(job->format, file, job->path, &writer));
    nd_status status = nd_status_ok;
    for (size_t i = 0; i < job->rows->count && !status; i++)
        status = nd_row_writer_add(writer, &job->rows->rows[i]);
    nd_status closed = nd_row_writer_close(writer);
    return status ? status : closed;
}

nd_status nd_sweep_rows_finish(nd_sweep_rows *rows) {
    bool quiet = nd_output_quiet(rows->output);
    ND_TRY(nd_pareto_mark(rows->rows, rows->count));
    nd_status status = nd_output_close(rows->output, nd_status_ok);
    rows->output = NULL;
    for (int f = 0; nd_row_formats[f] && !status; f++) {
        const char *path = nd_args_text(rows->args, nd_row_formats[f], NULL);
        rewriting job = {rows, nd_row_formats[f], path};
        if (path && strcmp(path, "-")) status = nd_file_replace(path, write_all, &job);
    }
    if (!status && !quiet) print_table(rows);
    return status;
}

nd_status nd_sweep_rows_close(nd_sweep_rows *rows, nd_status status) {
    status = nd_output_close(rows->output, status);
    nd_rows_free(rows->rows, rows->count);
    *rows = (nd_sweep_rows){0};
    return status;
}
