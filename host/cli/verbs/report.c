#include "cli/cli.h"

#include "base/files/draft.h"
#include "base/rows/row_write.h"
#include "eval/report/report.h"

#include <stdlib.h>
#include <string.h>

typedef struct row_list {
    nd_row *rows;
    size_t count;
    size_t *ends; /* of each file, in `rows`; in args' arena */
} row_list;

/* All files one after the other. */
static nd_status read_all(nd_args *args, row_list *all) {
    all->ends = nd_arena_alloc(&args->arena, args->n_positional * sizeof *all->ends);
    ND_REQUIRE(all->ends, nd_status_memory, "no memory for %zu files", args->n_positional);
    for (size_t i = 0; i < args->n_positional; i++) {
        nd_row *rows;
        size_t count;
        ND_TRY(nd_rows_read(args->positional[i], &rows, &count));
        if (!count) nd_log(nd_log_warn, "%s: no rows in it", args->positional[i]);
        nd_row *grown = realloc(all->rows, (all->count + count + 1) * sizeof *grown);
        if (!grown) {
            nd_rows_free(rows, count);
            return nd_fail(nd_status_memory, "%s: no memory for its rows", args->positional[i]);
        }
        all->ends[i] = all->count + count;
        all->rows = grown;
        if (count) memcpy(all->rows + all->count, rows, count * sizeof *rows);
        all->count += count;
        free(rows);
    }
    ND_REQUIRE(all->count, nd_status_usage, "%s: no rows to report%s", args->positional[0],
               args->n_positional > 1 ? ", and none in the other files" : "");
    return nd_status_ok;
}

/* Which rows no plot shows, and why; the first few. */
static void warn_odd(const nd_args *args, const row_list *all, const nd_report *report) {
    enum { most = 10 };
    for (size_t i = 0; i < report->n_odd && i < most; i++) {
        const nd_report_odd *odd = &report->odd[i];
        const nd_row_value *value = &all->rows[odd->row].values[odd->field];
        const bool array = nd_field_table[odd->field].type == nd_field_type_reals;
        size_t file = 0;
        while (odd->row >= all->ends[file]) file++;
        const size_t before = file ? all->ends[file - 1] : 0;
        nd_log(nd_log_warn, "%s: row %zu is left out of the plots: %s %g is out of any bounds",
               args->positional[file], odd->row - before + 1, nd_field_table[odd->field].name,
               array ? value->reals[0] : value->r);
    }
    if (report->n_odd > most)
        nd_log(nd_log_warn, "%zu more rows are left out of the plots", report->n_odd - most);
}

static nd_status write_html(void *context, FILE *file) {
    return nd_report_html(context, file);
}

static nd_status write_md(void *context, FILE *file) {
    return nd_report_md(context, file);
}

static nd_status write_report(const nd_args *args, nd_report *report) {
    const char *path = nd_args_text(args, "output", NULL), *folder = nd_args_text(args, "plots", NULL);
    const char *dot = path ? strrchr(path, '.') : NULL;
    bool html = dot && !strcmp(dot, ".html"), md = dot && !strcmp(dot, ".md");
    ND_REQUIRE(!path || html || md, nd_status_usage,
               "-o %s: a report is .html or .md; rows go to --csv, --md, ...", path);
    if (path) ND_TRY(nd_file_replace(path, html ? write_html : write_md, report));
    if (folder) ND_TRY(nd_report_plots(report, folder));
    return nd_status_ok;
}

nd_status nd_verb_report(nd_args *args) {
    row_list all = {0};
    nd_report report = {0};
    nd_output *output = NULL;
    nd_status status = nd_status_ok;
    ND_TRY_DONE(read_all(args, &all));
    ND_TRY_DONE(nd_output_open(args, &output));
    for (size_t i = 0; i < all.count; i++) ND_TRY_DONE(nd_output_row(output, &all.rows[i]));
    bool wanted = nd_args_has(args, "output") || nd_args_has(args, "plots");
    bool converts = nd_args_has(args, "json") || nd_args_has(args, "csv") || nd_args_has(args, "md") ||
                    nd_args_has(args, "sql");
    if (!wanted && converts) goto done;
    ND_TRY_DONE(nd_report_make(all.rows, all.count, &report));
    if (wanted) warn_odd(args, &all, &report);
    status = wanted ? write_report(args, &report) : nd_report_md(&report, stdout);
done:
    nd_report_free(&report);
    nd_rows_free(all.rows, all.count);
    return nd_output_close(output, status);
}
