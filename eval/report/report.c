#include "eval/report/report.h"

#include "base/files/draft.h"
#include "base/log.h"
#include "eval/report/canvas.h"
#include "eval/report/report_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What every distinct value of these fields is, once. */
static nd_status gather_facts(const nd_row *rows, size_t n, nd_report *report) {
    static const nd_field fields[] = {nd_field_model,    nd_field_dataset,   nd_field_preprocess,
                                      nd_field_host_cpu, nd_field_gpu,       nd_field_driver,
                                      nd_field_device,   nd_field_libraries, nd_field_compiler,
                                      nd_field_commit,   nd_field_clocks};
    enum { n_fields = sizeof fields / sizeof *fields, per_field = 6 };
    size_t count = 0;
    report->facts = nd_arena_alloc(&report->arena, (n_fields * per_field + 1) * sizeof *report->facts);
    ND_REQUIRE(report->facts, nd_status_memory, "report: out of memory");
    for (size_t f = 0; f < n_fields; f++) {
        const char *seen[per_field];
        size_t n_seen = 0;
        for (size_t i = 0; i < n && n_seen < per_field; i++) {
            const nd_row_value *value = &rows[i].values[fields[f]];
            bool known = !value->set;
            for (size_t k = 0; k < n_seen && !known; k++) known = !strcmp(seen[k], value->text);
            if (known) continue;
            seen[n_seen++] = value->text;
            report->facts[count] =
                nd_arena_printf(&report->arena, "%s: %s", nd_field_table[fields[f]].name, value->text);
            ND_REQUIRE(report->facts[count++], nd_status_memory, "report: out of memory");
        }
    }
    return nd_status_ok;
}

static nd_status gather_commands(const nd_row *rows, size_t n, nd_report *report) {
    enum { most = 20 };
    size_t count = 0;
    report->commands = nd_arena_alloc(&report->arena, (most + 1) * sizeof *report->commands);
    ND_REQUIRE(report->commands, nd_status_memory, "report: out of memory");
    for (size_t i = 0; i < n && count < most; i++) {
        const nd_row_value *command = &rows[i].values[nd_field_command];
        bool known = !command->set;
        for (size_t k = 0; k < count && !known; k++) known = !strcmp(report->commands[k], command->text);
        if (known) continue;
        report->commands[count] = nd_arena_strdup(&report->arena, command->text);
        ND_REQUIRE(report->commands[count++], nd_status_memory, "report: out of memory");
    }
    return nd_status_ok;
}

/* What no network, machine or clock gives, and no axis could show beside the others. */
static bool plottable(const nd_row *row, nd_field *odd) {
    enum { most_times = 1000000000, most_seconds = 1000000000 };
    static const struct {
        nd_field field;
        double low, high;
    } limits[] = {
        {nd_field_conv_macs_ratio, 0, most_times},
        {nd_field_total_macs_ratio, 0, most_times},
        {nd_field_params_ratio, 0, most_times},
        {nd_field_ratio, 0, most_times},
        {nd_field_top1, 0, 100},
        {nd_field_top5, 0, 100},
        {nd_field_ap, 0, 100},
        {nd_field_ap50, 0, 100},
        {nd_field_agree_ap50, 0, 100},
        {nd_field_agree_ap50_lo, 0, 100},
        {nd_field_agree_ap50_hi, 0, 100},
        {nd_field_drop_ap_lo, -1000, 1000},
        {nd_field_drop_ap_hi, -1000, 1000},
        {nd_field_drop_ap50_lo, -1000, 1000},
        {nd_field_drop_ap50_hi, -1000, 1000},
        {nd_field_raw_rel_mse, 0, 1e9},
        {nd_field_drop_top1_lo, -1000, 1000},
        {nd_field_drop_top1_hi, -1000, 1000},
        {nd_field_drop_top5_lo, -1000, 1000},
        {nd_field_drop_top5_hi, -1000, 1000},
        {nd_field_ns_median, 0, 1e9 * most_seconds},
        {nd_field_ns_q1, 0, 1e9 * most_seconds},
        {nd_field_ns_q3, 0, 1e9 * most_seconds},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const nd_row_value *value = &row->values[limits[i].field];
        *odd = limits[i].field;
        if (value->set && !(value->r >= limits[i].low && value->r <= limits[i].high)) return false;
    }
    const nd_row_value *energy = &row->values[nd_field_energy];
    *odd = nd_field_energy;
    for (int64_t i = 0; energy->set && i < energy->i; i++)
        if (!(energy->reals[i] >= -1 && energy->reals[i] <= 2)) return false;
    return true;
}

static nd_status gather_plottable(const nd_row *rows, size_t n, nd_report *report, const nd_row ***kept,
                                  size_t *n_kept) {
    *kept = nd_arena_alloc(&report->arena, (n + 1) * sizeof **kept);
    report->odd = nd_arena_alloc(&report->arena, (n + 1) * sizeof *report->odd);
    ND_REQUIRE(*kept && report->odd, nd_status_memory, "report: no memory for %zu rows", n);
    for (size_t i = 0; i < n; i++) {
        nd_field odd;
        if (plottable(&rows[i], &odd))
            (*kept)[(*n_kept)++] = &rows[i];
        else
            report->odd[report->n_odd++] = (nd_report_odd){i, odd};
    }
    return nd_status_ok;
}

nd_status nd_report_make(const nd_row *rows, size_t n, nd_report *out) {
    *out = (nd_report){.n_rows = n};
    const nd_row **kept;
    size_t n_kept = 0;
    nd_status status = nd_status_ok;
    out->plots = nd_arena_alloc(&out->arena, nd_report_plots_max * sizeof *out->plots);
    ND_REQUIRE(out->plots, nd_status_memory, "report: out of memory");
    ND_TRY_DONE(gather_plottable(rows, n, out, &kept, &n_kept));
    ND_TRY_DONE(nd_report_accuracy(kept, n_kept, out));
    ND_TRY_DONE(nd_report_layers(kept, n_kept, out));
    ND_TRY_DONE(nd_report_energy(kept, n_kept, out));
    ND_TRY_DONE(nd_report_tables(rows, n, out));
    ND_TRY_DONE(gather_facts(rows, n, out));
    ND_TRY_DONE(gather_commands(rows, n, out));
    ND_REQUIRE_DONE(out->n_plots || out->n_tables, nd_status_usage,
                    "report: %zu rows, but no accuracy, times, energies or verdicts in them", n);
done:
    if (status) nd_report_free(out);
    return status;
}

void nd_report_free(nd_report *report) {
    nd_arena_free(&report->arena);
    *report = (nd_report){0};
}

static nd_status write_svg(void *context, FILE *file) {
    nd_plot_svg(context, file, true);
    return nd_status_ok;
}

static nd_status write_png(void *context, FILE *file) {
    return nd_canvas_png(context, file);
}

nd_status nd_report_plots(const nd_report *report, const char *folder) {
    ND_REQUIRE(!mkdir(folder, 0777) || errno == EEXIST, nd_status_input, "%s: %s", folder, strerror(errno));
    bool converted = true;
    for (size_t i = 0; i < report->n_plots; i++) {
        char path[4096], png[4096];
        nd_plot *plot = &report->plots[i];
        int length = snprintf(path, sizeof path, "%s/%s.svg", folder, plot->name);
        ND_REQUIRE(length < (int)sizeof path, nd_status_input, "%.60s...: path too long", folder);
        snprintf(png, sizeof png, "%s/%s.png", folder, plot->name);
        ND_TRY(nd_file_replace(path, write_svg, plot));
        if (!converted) continue;
        nd_status status = nd_file_replace(png, write_png, path);
        if (status && status != nd_status_unsupported) return status;
        converted = !status;
        if (!converted) nd_log(nd_log_warn, "%s; SVG files are written", nd_error());
    }
    return nd_status_ok;
}
