#include "cli/verbs/sweep_rows.h"

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

static void print_table(const nd_sweep_rows *rows) {
    static const char *const headings[] = {
        "method",  "ranks",       "rule",     "",        "calib", "backend", "dtype",
        "batch",   "conv MACs x", "params x", "top-1 %", "drop",  "95 %",    "agree %",
        "rel mse", "time x",      "Pareto",   "in time", NULL};
    nd_table *table = nd_table_new(headings);
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
        cell(table, row, nd_field_conv_macs_ratio, "%.3f");
        cell(table, row, nd_field_params_ratio, "%.3f");
        cell(table, row, nd_field_top1, "%.2f");
        cell(table, row, nd_field_drop_top1, "%+.2f");
        nd_table_cell(table, row->values[nd_field_drop_top1_lo].set ? "%+.2f..%+.2f" : "-",
                      real_of(row, nd_field_drop_top1_lo), real_of(row, nd_field_drop_top1_hi));
        cell(table, row, nd_field_agreement, "%.2f");
        cell(table, row, nd_field_logit_rel_mse, "%.4f");
        cell(table, row, nd_field_ratio, "%.2f");
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
