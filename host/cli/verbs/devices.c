#include "cli/cli.h"

#include "base/parallel.h"
#include "run/plugins.h"

#include <string.h>

enum { nd_devices_max = 64 };

typedef struct nd_devices_line {
    const char *backend;
    int index; /* -1: the backend has no device */
    const nd_device_info *info;
    char why[1024]; /* it cannot be used; empty: it can */
    char libraries[256], driver[64];
} nd_devices_line;

/* The last failure, less what the line says itself: "backend cuda: " and "backend cuda, device 0: ". */
static void devices_refuse(nd_devices_line *line) {
    char prefix[64];
    const char *error = nd_error();
    snprintf(prefix, sizeof prefix,
             line->index < 0 ? "backend %s: " : "backend %s, device %d: ", line->backend, line->index);
    const bool said = !strncmp(error, prefix, strlen(prefix));
    snprintf(line->why, sizeof line->why, "%s", error + (said ? strlen(prefix) : 0));
}

/* Versions are known to an open backend only. One that does not open says why in place of them. */
static void devices_open(nd_devices_line *line) {
    nd_backend *backend;
    const nd_backend_settings settings = {.device = line->index};
    if (nd_backend_open(line->backend, &settings, &backend)) {
        devices_refuse(line);
        return;
    }
    snprintf(line->libraries, sizeof line->libraries, "%s", backend->libraries);
    snprintf(line->driver, sizeof line->driver, "%s", backend->driver);
    nd_backend_close(backend);
}

static nd_status devices_write(const nd_args *args, nd_output *output, const nd_devices_line *line) {
    nd_row row = {0};
    nd_row_provenance(&row, args->argc, args->argv);
    nd_row_set_text(&row, nd_field_verb, "devices");
    nd_row_set_text(&row, nd_field_backend, line->backend);
    if (strcmp(line->backend, "cuda")) nd_row_threads(&row);
    if (line->index >= 0) {
        nd_row_set_text(&row, nd_field_device, line->info->name);
        if (line->info->memory_bytes)
            nd_row_set_int(&row, nd_field_memory_bytes, (int64_t)line->info->memory_bytes);
    }
    if (*line->libraries) nd_row_set_text(&row, nd_field_libraries, line->libraries);
    if (*line->driver) nd_row_set_text(&row, nd_field_driver, line->driver);
    if (*line->why) nd_row_set_text(&row, nd_field_why, line->why);
    const nd_status status = nd_output_row(output, &row);
    nd_row_free(&row);
    return status;
}

static void devices_cells(nd_table *table, const nd_devices_line *line) {
    nd_table_cell(table, "%s", line->backend);
    nd_table_cell(table, line->index < 0 ? "-" : "%d", line->index);
    nd_table_cell(table, "%s", line->index < 0 ? "none" : line->info->name);
    if (line->index >= 0 && line->info->memory_bytes)
        nd_table_cell(table, "%.1f", (double)line->info->memory_bytes / 0x1p30);
    else
        nd_table_cell(table, "-");
    nd_table_cell(table, "%s", *line->why ? "no" : "yes");
    if (*line->why)
        nd_table_cell(table, "%s", line->why);
    else
        nd_table_cell(table, "%s%s%s", line->libraries, *line->driver ? "; driver " : "", line->driver);
}

static nd_status devices_put(const nd_args *args, const nd_devices_line *line, nd_output *output,
                             nd_table *table) {
    devices_cells(table, line);
    return devices_write(args, output, line);
}

static nd_status devices_backend(const nd_args *args, const char *name, nd_output *output, nd_table *table) {
    nd_device_info devices[nd_devices_max];
    nd_devices_line none = {.backend = name, .index = -1};
    int count = 0;
    /* What is absent is an answer here, not an error. */
    if (nd_backend_probe(name, devices, nd_devices_max, &count, none.why, sizeof none.why)) {
        devices_refuse(&none);
        count = 0;
    }
    if (!count) return devices_put(args, &none, output, table);
    for (int i = 0; i < count && i < nd_devices_max; i++) {
        nd_devices_line line = {.backend = name, .index = i, .info = &devices[i]};
        devices_open(&line);
        ND_TRY(devices_put(args, &line, output, table));
    }
    return nd_status_ok;
}

/* What --threads and the memory plan start from. */
static void devices_machine(void) {
    const nd_memory_room memory = nd_memory_find();
    const int threads = nd_threads();
    nd_cli_print("\n%d CPU thread%s by default: %s.\n%.1f GiB by default: %s; %.1f GiB of it left.\n",
                 threads, threads == 1 ? "" : "s", nd_threads_why(), (double)memory.limit / 0x1p30, memory.by,
                 (double)memory.left / 0x1p30);
}

nd_status nd_verb_devices(nd_args *args) {
    static const char *const headings[] = {"backend", "device", "name", "GiB", "usable", "libraries", NULL};
    nd_output *output;
    const char *only = nd_args_text(args, "backend", "auto");
    ND_TRY(nd_backend_known(only));
    ND_TRY(nd_output_open(args, &output));
    nd_table *table = nd_table_new(headings);
    nd_status status = nd_status_ok;
    for (int i = 0; nd_backend_names[i] && !status; i++)
        if (!strcmp(only, "auto") || !strcmp(only, nd_backend_names[i]))
            status = devices_backend(args, nd_backend_names[i], output, table);
    const bool shown = !status && !nd_output_quiet(output);
    nd_table_print(table, shown ? stdout : NULL);
    if (shown) devices_machine();
    return nd_output_close(output, status);
}
