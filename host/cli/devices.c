#include "cli/cli.h"

#include "run/plugins.h"

#include <string.h>

enum { nd_devices_max = 64 };

typedef struct nd_devices_line {
    const char *backend;
    int index; /* -1: the backend has no device */
    const nd_device_info *info;
    const char *missing;
    char libraries[256], driver[64];
} nd_devices_line;

/* Versions are known to an open backend only. One that does not open says so in place of them. */
static void nd_devices_open(nd_devices_line *line) {
    nd_backend *backend;
    const nd_backend_settings settings = {.device = line->index};
    if (nd_backend_open(line->backend, &settings, &backend)) {
        snprintf(line->libraries, sizeof line->libraries, "%.250s", nd_error());
        return;
    }
    snprintf(line->libraries, sizeof line->libraries, "%s", backend->libraries);
    snprintf(line->driver, sizeof line->driver, "%s", backend->driver);
    nd_backend_close(backend);
}

static nd_status nd_devices_write(const nd_args *args, nd_output *output, const nd_devices_line *line) {
    nd_row row = {0};
    nd_row_provenance(&row, args->argc, args->argv);
    nd_row_set_text(&row, nd_field_verb, "devices");
    nd_row_set_text(&row, nd_field_backend, line->backend);
    if (line->index >= 0) {
        nd_row_set_text(&row, nd_field_device, line->info->name);
        if (line->info->memory_bytes)
            nd_row_set_int(&row, nd_field_memory_bytes, (int64_t)line->info->memory_bytes);
        if (*line->libraries) nd_row_set_text(&row, nd_field_libraries, line->libraries);
        if (*line->driver) nd_row_set_text(&row, nd_field_driver, line->driver);
    } else {
        nd_row_set_text(&row, nd_field_why, line->missing);
    }
    const nd_status status = nd_output_row(output, &row);
    nd_row_free(&row);
    return status;
}

static void nd_devices_cells(nd_table *table, const nd_devices_line *line) {
    nd_table_cell(table, "%s", line->backend);
    if (line->index < 0) {
        nd_table_cell(table, "-");
        nd_table_cell(table, "none");
        nd_table_cell(table, "-");
        nd_table_cell(table, "%s", line->missing);
        return;
    }
    nd_table_cell(table, "%d", line->index);
    nd_table_cell(table, "%s", line->info->name);
    if (line->info->memory_bytes)
        nd_table_cell(table, "%.1f", (double)line->info->memory_bytes / 0x1p30);
    else
        nd_table_cell(table, "-");
    nd_table_cell(table, "%s%s%s", line->libraries, *line->driver ? ", driver " : "", line->driver);
}

static nd_status nd_devices_backend(const nd_args *args, const char *name, nd_output *output,
                                    nd_table *table) {
    nd_device_info devices[nd_devices_max];
    char why[1024] = "";
    int count = 0;
    /* What is absent is an answer here, not an error. */
    if (nd_backend_probe(name, devices, nd_devices_max, &count, why, sizeof why)) count = 0;
    if (count > nd_devices_max) count = nd_devices_max;
    for (int i = count ? 0 : -1; i < count; i++) {
        nd_devices_line line = {
            .backend = name, .index = i, .info = i < 0 ? NULL : &devices[i], .missing = why};
        if (i >= 0) nd_devices_open(&line);
        nd_devices_cells(table, &line);
        ND_TRY(nd_devices_write(args, output, &line));
        if (i < 0) break;
    }
    return nd_status_ok;
}

nd_status nd_verb_devices(nd_args *args) {
    static const char *const headings[] = {"backend", "device", "name", "GiB", "libraries", NULL};
    nd_output *output;
    ND_TRY(nd_output_open(args, &output));
    nd_table *table = nd_table_new(headings);
    const char *only = nd_args_text(args, "backend", "auto");
    nd_status status = nd_status_ok;
    for (int i = 0; nd_backend_names[i] && !status; i++)
        if (!strcmp(only, "auto") || !strcmp(only, nd_backend_names[i]))
            status = nd_devices_backend(args, nd_backend_names[i], output, table);
    nd_table_print(table, status || nd_output_quiet(output) ? NULL : stdout);
    const nd_status closed = nd_output_close(output);
    return status ? status : closed;
}
