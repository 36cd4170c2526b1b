#include "cli/cli.h"

#include "base/draft.h"
#include "base/rows/row_write.h"
#include "eval/report/report.h"

#include <stdlib.h>
#include <string.h>

typedef struct row_list {
    nd_row *rows;
    size_t count;
} row_list;

/* All files one after the other. */
static nd_status read_all(const nd_args *args, row_list *all) {
    for (size_t i = 0; i < args->n_positional; i++) {
        nd_row *rows;
        size_t count;
        ND_TRY(nd_rows_read(args->positional[i], &rows, &count));
        nd_row *grown = realloc(all->rows, (all->count + count + 1) * sizeof *grown);
        if (!grown) {
            nd_rows_free(rows, count);
            return nd_fail(nd_status_memory, "no memory for rows");
        }
        all->rows = grown;
        if (count) memcpy(all->rows + all->count, rows, count * sizeof *rows);
        all->count += count;
        free(rows);
    }
    ND_REQUIRE(all->count, nd_status_usage, "report: no rows in the files given");
    return nd_status_ok;
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
    status = wanted ? write_report(args, &report) : nd_report_md(&report, stdout);
done:
    nd_report_free(&report);
    nd_rows_free(all.rows, all.count);
    return nd_output_close(output, status);
}
