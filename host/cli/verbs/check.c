#include "cli/cli.h"

#include "base/parallel.h"
#include "check/check.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What came of one operation, over its cases. */
typedef struct nd_check_line {
    const char *operation;
    int64_t compared, failed, unsupported;
    double worst; /* error / bound */
    char worst_case[160];
} nd_check_line;

enum { nd_check_lines_max = 64 };

typedef struct nd_check_lines {
    nd_check_line lines[nd_check_lines_max];
    int count;
} nd_check_lines;

static nd_check_line *check_line_of(nd_check_lines *lines, const char *operation) {
    for (int i = 0; i < lines->count; i++)
        if (!strcmp(lines->lines[i].operation, operation)) return &lines->lines[i];
    if (lines->count == nd_check_lines_max) return &lines->lines[nd_check_lines_max - 1];
    lines->lines[lines->count] = (nd_check_line){.operation = operation};
    return &lines->lines[lines->count++];
}

static void check_note(void *user, const nd_check_report *report) {
    nd_check_line *line = check_line_of(user, report->operation);
    switch (report->outcome) {
    case nd_check_outcome_listed:
        nd_cli_print("%s\n", report->name);
        return;
    case nd_check_outcome_unsupported:
        line->unsupported++;
        nd_log(nd_log_info, "%s: not supported", report->name);
        return;
    case nd_check_outcome_failed:
        line->failed++;
        nd_log(nd_log_error, "%s (%s): %s", report->name, report->engine, report->detail);
        break;
    case nd_check_outcome_passed:
        break;
    }
    line->compared++;
    const double ratio = report->bound > 0 ? report->error / report->bound : 0;
    if (ratio <= line->worst && *line->worst_case) return; /* a NaN is worse than all */
    line->worst = ratio;
    snprintf(line->worst_case, sizeof line->worst_case, "%s", report->name);
}

static nd_status check_write(const nd_args *args, nd_output *output, const nd_backend *backend,
                             const nd_check_settings *settings, const nd_check_line *line) {
    nd_row row = {0};
    nd_row_provenance(&row, args->argc, args->argv);
    nd_row_set_text(&row, nd_field_verb, "check");
    nd_row_set_text(&row, nd_field_backend, backend->name);
    nd_row_set_text(&row, nd_field_device, backend->device);
    nd_row_set_text(&row, nd_field_libraries, backend->libraries);
    nd_row_set_text(&row, nd_field_dtype, nd_precision_name(settings->precision));
    nd_row_threads(&row);
    nd_row_set_text(&row, nd_field_operation, line->operation);
    nd_row_set_int(&row, nd_field_seed, (int64_t)settings->seed);
    nd_row_set_int(&row, nd_field_compared, line->compared);
    nd_row_set_int(&row, nd_field_failed, line->failed);
    nd_row_set_int(&row, nd_field_unsupported, line->unsupported);
    if (line->compared) nd_row_set_real(&row, nd_field_worst, line->worst);
    if (line->compared) nd_row_set_text(&row, nd_field_worst_case, line->worst_case);
    const nd_status status = nd_output_row(output, &row);
    nd_row_free(&row);
    return status;
}

static nd_status check_print(const nd_args *args, const nd_backend *backend,
                             const nd_check_settings *settings, const nd_check_lines *lines) {
    static const char *const headings[] = {"operation", "compared",     "failed", "unsupported",
                                           "worst",     "of its bound", NULL};
    nd_output *output;
    ND_TRY(nd_output_open(args, &output));
    const bool quiet = nd_output_quiet(output);
    nd_status status = nd_status_ok;
    nd_table *table = nd_table_new(headings);
    for (int i = 0; i < lines->count && !status; i++) {
        const nd_check_line *line = &lines->lines[i];
        nd_table_cell(table, "%s", line->operation);
        nd_table_cell(table, "%" PRId64, line->compared);
        nd_table_cell(table, "%" PRId64, line->failed);
        nd_table_cell(table, "%" PRId64, line->unsupported);
        nd_table_cell(table, "%s", line->compared ? line->worst_case : "-");
        nd_table_cell(table, line->compared ? "%.3f" : "-", line->worst);
        status = check_write(args, output, backend, settings, line);
    }
    if (!quiet)
        nd_cli_print("%s: %s\n%s, seed %" PRIu64 "\n\n", backend->name, backend->device,
                     nd_precision_name(settings->precision), settings->seed);
    nd_table_print(table, quiet ? NULL : stdout);
    return nd_output_close(output, status);
}

nd_status nd_verb_check(nd_args *args) {
    nd_check_settings settings = {
        .operation = nd_args_text(args, "op", NULL), .list = nd_args_has(args, "list"), .report = check_note};
    int64_t seed;
    ND_TRY(nd_cli_precision(nd_args_text(args, "dtype", "fp32"), &settings.precision));
    ND_TRY(nd_args_int(args, "seed", 1, 0, INT64_MAX, &seed));
    settings.seed = (uint64_t)seed;
    nd_backend *backend;
    ND_TRY(nd_cli_backend(args, &backend));
    nd_check_lines *lines = calloc(1, sizeof *lines);
    nd_check_result result = {0};
    nd_status status = lines ? nd_status_ok : nd_fail(nd_status_memory, "no memory");
    if (!status) {
        settings.user = lines;
        status = nd_check_run(backend, &settings, &result);
        /* The verdict's message must outlive what printing may fail with. */
        char verdict[512];
        snprintf(verdict, sizeof verdict, "%s", nd_error());
        const bool show = !settings.list && (!status || status == nd_status_failed);
        const nd_status printed = show ? check_print(args, backend, &settings, lines) : nd_status_ok;
        status = status ? nd_fail(status, "%s", verdict) : printed;
    }
    free(lines);
    nd_backend_close(backend);
    return status;
}
