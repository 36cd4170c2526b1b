#include "cli/args/rerun.h"
#include "cli/cli.h"

#include "base/files/draft.h"
#include "base/rows/row_write.h"
#include "bench/gate/compare.h"
#include "bench/gate/judgement.h"
#include "bench/timing/pairing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct row_file {
    nd_row *rows;
    size_t count;
} row_file;

static nd_status read_settings(nd_args *args, nd_compare_settings *settings, row_file *margins) {
    *settings = nd_compare_defaults();
    ND_TRY(nd_args_real(args, "margin", settings->margin, 0, 10, &settings->margin));
    ND_TRY(nd_args_real(args, "layer-margin", settings->layer_margin, 0, 10, &settings->layer_margin));
    ND_TRY(nd_args_real(args, "time-margin", settings->time_margin, 0, 10, &settings->time_margin));
    ND_TRY(nd_args_real(args, "absolute", settings->absolute_ns, 0, 1e12, &settings->absolute_ns));
    ND_TRY(nd_args_real(args, "points", settings->accuracy_points, 0, 100, &settings->accuracy_points));
    const char *file = nd_args_text(args, "margins", NULL);
    if (!file) return nd_status_ok;
    ND_TRY(nd_rows_read(file, &margins->rows, &margins->count));
    bool any = false;
    for (size_t i = 0; i < margins->count; i++) any = any || margins->rows[i].values[nd_field_margin].set;
    ND_REQUIRE(any, nd_status_format, "--margins %s: no row has a margin; nd compare --aa writes them", file);
    settings->margins = margins->rows;
    settings->n_margins = margins->count;
    return nd_status_ok;
}

static void print_rows(const nd_comparison *comparison, bool all) {
    static const char *const headings[] = {"row",      "base x", "new x",   "change %", "95 %",
                                           "margin %", "p",      "verdict", "",         NULL};
    nd_table *table = nd_table_new(headings);
    for (size_t i = 0; i < comparison->n; i++) {
        const nd_compared *r = &comparison->rows[i];
        const bool told = r->gated || r->verdict > nd_verdict_same || *r->of[nd_aspect_cost].why;
        if (!all && !told) continue;
        const nd_row_value *base = &r->base->values[nd_field_ratio], *now = &r->now->values[nd_field_ratio];
        char what[256], why[512];
        nd_row_describe(r->base, what, sizeof what);
        nd_compared_why(r, why, sizeof why);
        nd_table_cell(table, "%s", what);
        nd_table_cell(table, base->set ? "%.3f" : "-", base->r);
        nd_table_cell(table, now->set ? "%.3f" : "-", now->r);
        nd_table_cell(table, isnan(r->change.value) ? "-" : "%+.1f", 100 * (r->change.value - 1));
        nd_table_cell(table, isnan(r->change.lo) ? "-" : "%+.1f..%+.1f", 100 * (r->change.lo - 1),
                      100 * (r->change.hi - 1));
        const bool timed = r->base->values[nd_field_ns_median].set;
        nd_table_cell(table, isnan(r->margin) ? "-" : "%.1f", timed ? 100 * r->margin : r->margin);
        nd_table_cell(table, isnan(r->p) ? "-" : "%.2g", r->p);
        nd_table_cell(table, "%s", nd_verdict_name(r->verdict));
        nd_table_cell(table, "%s", why);
    }
    nd_table_print(table, stdout);
}

static void print_overall(const nd_comparison *comparison) {
    size_t counts[nd_verdict_count] = {0};
    for (size_t i = 0; i < comparison->n; i++) ++counts[comparison->rows[i].verdict];
    nd_cli_print("\n%s:", nd_verdict_name(comparison->overall));
    const char *comma = "";
    for (int v = 0; v < nd_verdict_count; v++) {
        if (!counts[v]) continue;
        nd_cli_print("%s %zu %s", comma, counts[v], nd_verdict_name((nd_verdict)v));
        comma = ",";
    }
    nd_cli_print(" of %zu rows\n", comparison->n);
    if (comparison->unmatched) nd_cli_print("%zu new rows have no base\n", comparison->unmatched);
    if (*comparison->note) nd_cli_print("note: %s\n", comparison->note);
}

/* Measures the new side once more when something moved and this program can do it. */
static nd_status confirm(nd_comparison *first, const row_file *base, const nd_compare_settings *settings) {
    if (!nd_verdict_moved(first->overall)) return nd_status_ok;
    row_file again = {0};
    nd_comparison second = {0};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_cli_rerun(first->rows[0].now, &again.rows, &again.count));
    ND_TRY_DONE(nd_compare(base->rows, base->count, again.rows, again.count, settings, &second));
    nd_compare_confirm(first, &second);
done:
    nd_comparison_free(&second);
    nd_rows_free(again.rows, again.count);
    if (status != nd_status_unsupported) return status;
    nd_log(nd_log_warn, "not confirmed by a second run: %s", nd_error());
    return nd_status_ok;
}

static nd_status write_verdicts(const nd_comparison *comparison, nd_output *output) {
    for (size_t i = 0; i < comparison->n; i++) {
        nd_row row = {0};
        nd_compare_row(&comparison->rows[i], &row);
        nd_status status = nd_output_row(output, &row);
        nd_row_free(&row);
        if (status) return status;
    }
    return nd_status_ok;
}

static nd_status compare_files(nd_args *args, const nd_compare_settings *settings, nd_output *output) {
    row_file base = {0}, now = {0};
    nd_comparison comparison = {0};
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(args->n_positional == 2, nd_status_usage, "usage: nd compare BASE NEW");
    ND_TRY_DONE(nd_rows_read(args->positional[0], &base.rows, &base.count));
    ND_TRY_DONE(nd_rows_read(args->positional[1], &now.rows, &now.count));
    ND_TRY_DONE(nd_compare(base.rows, base.count, now.rows, now.count, settings, &comparison));
    if (nd_args_has(args, "confirm")) ND_TRY_DONE(confirm(&comparison, &base, settings));
    ND_TRY_DONE(write_verdicts(&comparison, output));
    if (!nd_output_quiet(output)) {
        print_rows(&comparison, nd_args_has(args, "verbose"));
        print_overall(&comparison);
    }
    status = nd_compare_status(&comparison);
    if (status == nd_status_inconclusive && !nd_args_has(args, "strict")) status = nd_status_ok;
done:
    nd_comparison_free(&comparison);
    nd_rows_free(base.rows, base.count);
    nd_rows_free(now.rows, now.count);
    return status;
}

/* Reads the runs that are there and measures the others by the command of the first. */
static nd_status gather_runs(nd_args *args, row_file *runs, size_t n) {
    nd_progress progress = nd_cli_progress();
    for (size_t i = 0; i < n; i++) {
        nd_progress_report(&progress, "A/A runs", (int64_t)i, (int64_t)n);
        if (i < args->n_positional)
            ND_TRY(nd_rows_read(args->positional[i], &runs[i].rows, &runs[i].count));
        else
            ND_TRY(nd_cli_rerun(&runs[0].rows[0], &runs[i].rows, &runs[i].count));
        ND_REQUIRE(runs[i].count, nd_status_format, "A/A: run %zu has no rows", i + 1);
    }
    nd_progress_report(&progress, "A/A runs", (int64_t)n, (int64_t)n);
    return nd_status_ok;
}

typedef struct margin_file {
    const nd_row *rows;
    size_t count;
} margin_file;

static nd_status write_margins(void *context, FILE *file) {
    const margin_file *margins = context;
    nd_row_writer *writer;
    ND_TRY(nd_row_writer_open("json", file, "margins", &writer));
    nd_status status = nd_status_ok;
    for (size_t i = 0; i < margins->count && !status; i++)
        status = nd_row_writer_add(writer, &margins->rows[i]);
    nd_status closed = nd_row_writer_close(writer);
    return status ? status : closed;
}

/* Every run against the first, with the default margins: what the gate would have said. */
static nd_status print_runs(const row_file *runs, size_t n, const nd_compare_settings *settings) {
    size_t counts[nd_verdict_count] = {0};
    for (size_t i = 1; i < n; i++) {
        nd_comparison comparison;
        ND_TRY(nd_compare(runs[0].rows, runs[0].count, runs[i].rows, runs[i].count, settings, &comparison));
        nd_cli_print("run %zu against run 1: %s\n", i + 1, nd_verdict_name(comparison.overall));
        counts[comparison.overall]++;
        nd_comparison_free(&comparison);
    }
    nd_cli_print("A/A of %zu runs:", n);
    for (int v = 0; v < nd_verdict_count; v++)
        if (counts[v]) nd_cli_print(" %zu %s", counts[v], nd_verdict_name((nd_verdict)v));
    putchar('\n');
    return nd_status_ok;
}

static void print_margins(const nd_row *margins, size_t count) {
    static const char *const headings[] = {"row", "margin %", NULL};
    nd_table *table = nd_table_new(headings);
    for (size_t i = 0; i < count; i++) {
        char what[256];
        nd_row_describe(&margins[i], what, sizeof what);
        nd_table_cell(table, "%s", what);
        nd_table_cell(table, "%.1f", 100 * margins[i].values[nd_field_margin].r);
    }
    nd_table_print(table, stdout);
}

static nd_status measure_noise(nd_args *args, const nd_compare_settings *settings) {
    int64_t wanted;
    ND_TRY(nd_args_int(args, "aa", 0, 2, 1000, &wanted));
    size_t n = args->n_positional > (size_t)wanted ? args->n_positional : (size_t)wanted;
    margin_file margins = {0};
    nd_row *rows = NULL;
    nd_status status = nd_status_ok;
    row_file *runs = calloc(n, sizeof *runs);
    const nd_row **sets = calloc(n, sizeof *sets);
    size_t *counts = calloc(n, sizeof *counts);
    ND_REQUIRE_DONE(runs && sets && counts, nd_status_memory, "no memory");
    ND_TRY_DONE(gather_runs(args, runs, n));
    for (size_t i = 0; i < n; i++) {
        sets[i] = runs[i].rows;
        counts[i] = runs[i].count;
    }
    ND_TRY_DONE(nd_compare_margins(sets, counts, n, &rows, &margins.count));
    margins.rows = rows;
    print_margins(rows, margins.count);
    ND_TRY_DONE(print_runs(runs, n, settings));
    const char *path = nd_args_text(args, "output", NULL);
    if (path) ND_TRY_DONE(nd_file_replace(path, write_margins, &margins));
done:
    nd_rows_free(rows, margins.count);
    for (size_t i = 0; runs && i < n; i++) nd_rows_free(runs[i].rows, runs[i].count);
    free(runs);
    free(sets);
    free(counts);
    return status;
}

nd_status nd_verb_compare(nd_args *args) {
    nd_compare_settings settings;
    row_file margins = {0};
    nd_output *output = NULL;
    nd_status status = nd_status_ok;
    ND_TRY_DONE(read_settings(args, &settings, &margins));
    ND_TRY_DONE(nd_output_open(args, &output));
    status =
        nd_args_has(args, "aa") ? measure_noise(args, &settings) : compare_files(args, &settings, output);
done:
    nd_rows_free(margins.rows, margins.count);
    return nd_output_close(output, status);
}
