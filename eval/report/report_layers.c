#include "eval/report/report_parts.h"

#include <math.h>
#include <string.h>

static const nd_field run_fields[] = {nd_field_model, nd_field_backend, nd_field_device, nd_field_dtype,
                                      nd_field_batch, nd_field_threads, nd_field_cold};
enum { n_run = sizeof run_fields / sizeof *run_fields, layers_max = 64, implementations_max = 5 };

static const char *const implementations[implementations_max] = {"dense", "winograd", "unfused", "fused",
                                                                 "best"};

static const char *text_of(const nd_row *row, nd_field field) {
    return row->values[field].set ? row->values[field].text : "";
}

static bool is_layer_time(const nd_row *row) {
    return row->values[nd_field_ns_median].set && row->values[nd_field_layer].set &&
           !row->values[nd_field_operation].set && strcmp(text_of(row, nd_field_layer), "conv stack");
}

/* The time of one layer among the rows of one run; a dense row stands for every method and rank. */
static const nd_row *find_time(const nd_row *const *rows, size_t n, const nd_row *like, const char *layer,
                               const char *implementation) {
    static const nd_field what[] = {nd_field_method, nd_field_rank};
    bool dense = !strcmp(implementation, "dense") || !strcmp(implementation, "winograd");
    for (size_t i = 0; i < n; i++)
        if (!strcmp(text_of(rows[i], nd_field_layer), layer) &&
            !strcmp(text_of(rows[i], nd_field_implementation), implementation) &&
            (dense || nd_report_same(rows[i], like, what, 2)))
            return rows[i];
    return NULL;
}

static size_t find_layers(const nd_row *const *rows, size_t n, const char **layers) {
    size_t count = 0;
    for (size_t i = 0; i < n && count < layers_max; i++) {
        const char *name = text_of(rows[i], nd_field_layer);
        size_t k = 0;
        while (k < count && strcmp(layers[k], name)) k++;
        if (k == count) layers[count++] = name;
    }
    return count;
}

static nd_plot_point bar_of(nd_report *report, const nd_row *row, size_t index) {
    nd_plot_point point = {.x = (double)index, .y = NAN, .lo = NAN, .hi = NAN};
    if (!row) return point;
    point.y = 1e-6 * row->values[nd_field_ns_median].r;
    point.lo = row->values[nd_field_ns_q1].set ? 1e-6 * row->values[nd_field_ns_q1].r : NAN;
    point.hi = row->values[nd_field_ns_q3].set ? 1e-6 * row->values[nd_field_ns_q3].r : NAN;
    point.tip = nd_arena_printf(
        &report->arena, "%s %s: %.4g ms, time x%s, MACs x%s, %s", text_of(row, nd_field_layer),
        text_of(row, nd_field_implementation), point.y, nd_report_text(report, row, nd_field_ratio),
        nd_report_text(report, row, nd_field_conv_macs_ratio), text_of(row, nd_field_engine));
    return point;
}

static nd_status plot_run(const nd_row *const *rows, size_t n, const nd_row *like, nd_report *report) {
    const char **layers = nd_arena_alloc(&report->arena, layers_max * sizeof *layers);
    nd_plot_series *series;
    ND_REQUIRE(layers, nd_status_memory, "report: out of memory");
    size_t n_layers = find_layers(rows, n, layers);
    nd_plot *plot = nd_report_plot(report, 0, &series);
    if (!plot) return nd_status_ok;
    series = nd_arena_alloc(&report->arena, implementations_max * sizeof *series);
    ND_REQUIRE(series, nd_status_memory, "report: out of memory");
    for (size_t s = 0; s < implementations_max; s++) {
        nd_plot_point *points = nd_arena_alloc(&report->arena, (n_layers + 1) * sizeof *points);
        ND_REQUIRE(points, nd_status_memory, "report: out of memory");
        bool any = false;
        for (size_t k = 0; k < n_layers; k++) {
            points[k] = bar_of(report, find_time(rows, n, like, layers[k], implementations[s]), k);
            any = any || isfinite(points[k].y);
        }
        if (any) series[plot->n_series++] = (nd_plot_series){implementations[s], points, n_layers};
    }
    plot->series = series;
    plot->categories = layers;
    plot->n_categories = n_layers;
    plot->from_zero = true;
    plot->name = nd_arena_printf(&report->arena, "layers-%zu", report->n_plots);
    plot->title =
        nd_arena_printf(&report->arena, "Time of each layer: %s, %s T=%s", text_of(like, nd_field_model),
                        text_of(like, nd_field_method), nd_report_text(report, like, nd_field_rank));
    plot->note = nd_arena_printf(&report->arena, "%s, %s, batch %s, threads: %s, %s caches; lines: quartiles",
                                 text_of(like, nd_field_backend), text_of(like, nd_field_dtype),
                                 nd_report_text(report, like, nd_field_batch),
                                 nd_report_text(report, like, nd_field_threads),
                                 like->values[nd_field_cold].i ? "cold" : "hot");
    plot->x_label = "";
    plot->y_label = "median time, ms";
    return nd_status_ok;
}

/* A plot for each method and rank of each run. */
nd_status nd_report_layers(const nd_row *const *rows, size_t n, nd_report *report) {
    static const nd_field what[] = {nd_field_method, nd_field_rank};
    const nd_row **times = nd_arena_alloc(&report->arena, (n + 1) * sizeof *times);
    bool *seen = nd_arena_alloc(&report->arena, (n + 1) * sizeof *seen);
    nd_report_groups runs, kinds;
    size_t count = 0, plots = 0;
    ND_REQUIRE(times && seen, nd_status_memory, "report: out of memory");
    for (size_t i = 0; i < n; i++)
        if (is_layer_time(rows[i])) times[count++] = rows[i];
    ND_TRY(nd_report_group(report, times, count, run_fields, n_run, &runs));
    nd_field both[n_run + 2];
    memcpy(both, run_fields, sizeof run_fields);
    memcpy(both + n_run, what, sizeof what);
    ND_TRY(nd_report_group(report, times, count, both, n_run + 2, &kinds));
    for (size_t i = 0; i < count; i++) {
        const size_t run = runs.of_row[i], start = runs.start[run];
        if (seen[kinds.of_row[i]] || !strcmp(text_of(times[i], nd_field_method), "none")) continue;
        seen[kinds.of_row[i]] = true;
        if (++plots > nd_report_layer_plots_max)
            report->plots_left_out++;
        else
            ND_TRY(plot_run(runs.rows + start, runs.start[run + 1] - start, times[i], report));
    }
    return nd_status_ok;
}

static bool has_energies(const nd_row *row) {
    return row->values[nd_field_energy].set && row->values[nd_field_energy].i >= 2 &&
           row->values[nd_field_layer].set;
}

static nd_status plot_energy(const nd_row *const *rows, size_t n, nd_report *report) {
    nd_plot_series *series;
    const nd_row *like = rows[0];
    nd_plot *plot = nd_report_plot(report, n, &series);
    if (!plot) return nd_status_ok;
    for (size_t i = 0; i < n; i++) {
        const nd_row_value *energy = &rows[i]->values[nd_field_energy];
        nd_plot_series *line = &series[i];
        line->name = nd_report_text(report, rows[i], nd_field_layer);
        line->points = nd_arena_alloc(&report->arena, (size_t)energy->i * sizeof *line->points);
        ND_REQUIRE(line->points, nd_status_memory, "report: out of memory");
        for (int64_t r = 0; r < energy->i; r++)
            line->points[line->n++] =
                (nd_plot_point){.x = (double)(r + 1),
                                .y = 100 * energy->reals[r],
                                .lo = NAN,
                                .hi = NAN,
                                .tip = nd_arena_printf(&report->arena, "%s T=%d: %.2f %%", line->name,
                                                       (int)r + 1, 100 * energy->reals[r])};
    }
    plot->lines = true;
    plot->name = nd_arena_printf(&report->arena, "energy-%zu", report->n_plots);
    plot->title = nd_arena_printf(&report->arena, "Energy kept by rank: %s, %s",
                                  text_of(like, nd_field_model), text_of(like, nd_field_method));
    plot->x_label = "T, terms per channel";
    plot->y_label = "squared singular values kept, %";
    return nd_status_ok;
}

nd_status nd_report_energy(const nd_row *const *rows, size_t n, nd_report *report) {
    static const nd_field same[] = {nd_field_model, nd_field_method, nd_field_weights_sha256};
    const nd_row **with = nd_arena_alloc(&report->arena, (n + 1) * sizeof *with);
    nd_report_groups groups;
    size_t count = 0;
    ND_REQUIRE(with, nd_status_memory, "report: out of memory");
    for (size_t i = 0; i < n; i++)
        if (has_energies(rows[i])) with[count++] = rows[i];
    ND_TRY(nd_report_group(report, with, count, same, sizeof same / sizeof *same, &groups));
    for (size_t g = 0; g < groups.n; g++)
        ND_TRY(plot_energy(groups.rows + groups.start[g], groups.start[g + 1] - groups.start[g], report));
    return nd_status_ok;
}
