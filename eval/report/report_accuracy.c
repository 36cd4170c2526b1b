#include "eval/report/pareto.h"
#include "eval/report/report_parts.h"

#include "base/rows/row_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows whose accuracies can stand in one plot. */
static const nd_field group_fields[] = {nd_field_model, nd_field_dataset_sha256, nd_field_preprocess};
/* What distinguishes the series of a plot, the telling ones first. */
static const nd_field series_fields[] = {nd_field_method,  nd_field_ranks, nd_field_calib, nd_field_rule,
                                         nd_field_backend, nd_field_dtype, nd_field_batch};
enum {
    n_group = sizeof group_fields / sizeof *group_fields,
    n_series_fields = sizeof series_fields / sizeof *series_fields,
    series_max = 24,
};

/* What is plotted, up to a gain or down to an error. `lo` and `hi` bound the drop from the original, or the
 * value itself where `own`; equal: nothing does. */
typedef struct measure {
    const char *stem, *title, *unit;
    nd_field value, lo, hi;
    bool own;
    double most; /* that it can be; 0: no bound */
} measure;

static const measure measures[] = {
    {"top1", "Top-1 accuracy", "Top-1, %", nd_field_top1, nd_field_drop_top1_lo, nd_field_drop_top1_hi, false,
     100},
    {"top5", "Top-5 accuracy", "Top-5, %", nd_field_top5, nd_field_drop_top5_lo, nd_field_drop_top5_hi, false,
     100},
    {"ap", "COCO's AP", "AP, %", nd_field_ap, nd_field_drop_ap_lo, nd_field_drop_ap_hi, false, 100},
    {"ap50", "AP50", "AP50, %", nd_field_ap50, nd_field_drop_ap50_lo, nd_field_drop_ap50_hi, false, 100},
    {"agreement", "AP50 of agreement", "AP50 against the original's detections, %", nd_field_agree_ap50,
     nd_field_agree_ap50_lo, nd_field_agree_ap50_hi, true, 100},
    {"raw", "Error of raw outputs", "squared error of the outputs / their variation", nd_field_raw_rel_mse,
     nd_field_raw_rel_mse, nd_field_raw_rel_mse, true, 0},
};
enum { n_measures = sizeof measures / sizeof *measures };

typedef struct group {
    nd_report *report;
    const nd_row **rows;  /* decoupled; originals too where they were timed in several dtypes */
    const double *ratios; /* measured time, by row; NaN where unknown */
    size_t n;
    const nd_row **originals; /* one a dtype, the first is what all are compared with */
    size_t n_originals;
    bool dtypes; /* `ratios` compare with the first original, in whatever dtype a row is */
} group;

/* A network, and something to plot of it or to compare with it. */
static bool has_accuracy(const nd_row *row) {
    if (row->values[nd_field_layer].set || row->values[nd_field_class_name].set) return false;
    bool any = row->values[nd_field_decode].set;
    for (int m = 0; m < n_measures; m++) any = any || row->values[measures[m].value].set;
    return any;
}

static bool is_original(const nd_row *row) {
    const nd_row_value *method = &row->values[nd_field_method];
    return !method->set || !strcmp(method->text, "none");
}

static bool is_network_time(const nd_row *row) {
    const nd_row_value *impl = &row->values[nd_field_implementation];
    return row->values[nd_field_ratio].set && impl->set && !strcmp(impl->text, "best") &&
           !row->values[nd_field_layer].set;
}

/* The end-to-end ratio of each row's network, by row: its own, or that of a bench row of the same network
 * when the accuracy row was not timed itself; NaN where there is none. */
static nd_status measured_ratios(nd_report *report, const nd_row *const *rows, size_t n, double *ratios) {
    static const nd_field same[] = {nd_field_model, nd_field_method, nd_field_rank};
    nd_report_groups networks;
    ND_TRY(nd_report_group(report, rows, n, same, sizeof same / sizeof *same, &networks));
    double *timed = nd_arena_alloc(&report->arena, (networks.n + 1) * sizeof *timed);
    ND_REQUIRE(timed, nd_status_memory, "report: out of memory");
    for (size_t g = 0; g < networks.n; g++) timed[g] = NAN;
    for (size_t i = n; i-- > 0;)
        if (is_network_time(rows[i])) timed[networks.of_row[i]] = rows[i]->values[nd_field_ratio].r;
    for (size_t i = 0; i < n; i++) {
        const nd_row_value *own = &rows[i]->values[nd_field_ratio];
        ratios[i] = own->set ? own->r : rows[i]->values[nd_field_rank].set ? timed[networks.of_row[i]] : NAN;
    }
    return nd_status_ok;
}

static int by_x(const void *a, const void *b) {
    double x = ((const nd_plot_point *)a)->x, y = ((const nd_plot_point *)b)->x;
    return (x > y) - (x < y);
}

/* An interval of a drop may reach past what an accuracy can be; NaN stays. */
static double within(const measure *of, double value) {
    return of->most <= 0 ? value : value < 0 ? 0 : value > of->most ? of->most : value;
}

static bool same_dtype(const nd_row *a, const nd_row *b) {
    return nd_row_value_equal(nd_field_dtype, &a->values[nd_field_dtype], &b->values[nd_field_dtype]);
}

/* What a drop is from. */
static const nd_row *original_of(const group *g, const nd_row *row) {
    for (size_t i = 0; i < g->n_originals; i++)
        if (same_dtype(g->originals[i], row)) return g->originals[i];
    return g->n_originals ? g->originals[0] : NULL;
}

static void set_interval(const group *g, const measure *of, const nd_row *row, nd_plot_point *point) {
    const nd_row *original = original_of(g, row);
    const double base = original ? nd_row_real(original, of->value) : NAN;
    point->lo = point->hi = NAN;
    if (of->lo == of->hi) return;
    point->lo = within(of, of->own ? nd_row_real(row, of->lo) : base - nd_row_real(row, of->hi));
    point->hi = within(of, of->own ? nd_row_real(row, of->hi) : base - nd_row_real(row, of->lo));
}

static nd_plot_point make_point(const group *g, const nd_row *row, double x, const measure *of,
                                nd_field pareto) {
    nd_report *report = g->report;
    const double y = nd_row_real(row, of->value);
    const char *target = nd_report_text(report, row, nd_field_target);
    const char *rank = nd_report_text(report, row, nd_field_rank);
    const char *label = is_original(row) ? "dense" : *rank ? rank : target;
    nd_plot_point point = {
        .x = x,
        .y = y,
        .ring = row->values[pareto].set && row->values[pareto].i,
        .label = *label ? label : NULL,
    };
    set_interval(g, of, row, &point);
    point.tip = nd_arena_printf(&report->arena,
                                of->most > 0 ? "%s T=%s: %.2f %%, conv MACs x%.2f, time x%s"
                                             : "%s T=%s: %.3g, conv MACs x%.2f, time x%s",
                                nd_report_text(report, row, nd_field_method), *label ? label : "?", y,
                                nd_row_real(row, nd_field_conv_macs_ratio),
                                nd_report_text(report, row, nd_field_ratio));
    return point;
}

/* An original stands in the series of what was made from it. */
static const nd_row *series_row(const group *g, const nd_row *row) {
    for (size_t i = 0; i < g->n && is_original(row); i++)
        if (!is_original(g->rows[i]) && same_dtype(g->rows[i], row)) return g->rows[i];
    return row;
}

/* Sorts the rows into series by label; fills at most series_max of them. */
static size_t find_series(const group *g, const char **labels, size_t *of_row) {
    size_t count = 0;
    bool varies[n_series_fields];
    const nd_row **rows = nd_arena_alloc(&g->report->arena, (g->n + 1) * sizeof *rows);
    if (!rows) return 0;
    for (size_t i = 0; i < g->n; i++) rows[i] = series_row(g, g->rows[i]);
    nd_report_varying(rows, g->n, series_fields, n_series_fields, varies);
    for (size_t i = 0; i < g->n; i++) {
        char label[512];
        nd_report_label(rows[i], series_fields, n_series_fields, varies, label, sizeof label);
        size_t s = 0;
        while (s < count && strcmp(labels[s], label)) s++;
        const char *copy =
            s == count && count < series_max ? nd_arena_strdup(&g->report->arena, label) : NULL;
        if (copy) labels[count++] = copy;
        of_row[i] = s;
    }
    return count;
}

static nd_status fill_series(const group *g, const double *x, const measure *of, nd_field pareto,
                             nd_plot_series *series, size_t count, const char *const *labels,
                             const size_t *of_row) {
    for (size_t s = 0; s < count; s++) {
        size_t most = 0;
        for (size_t i = 0; i < g->n; i++) most += of_row[i] == s;
        series[s].name = labels[s];
        series[s].points = nd_arena_alloc(&g->report->arena, (most + 1) * sizeof *series[s].points);
        ND_REQUIRE(series[s].points, nd_status_memory, "report: out of memory");
        for (size_t i = 0; i < g->n; i++)
            if (of_row[i] == s && isfinite(x[i]) && isfinite(nd_row_real(g->rows[i], of->value)))
                series[s].points[series[s].n++] = make_point(g, g->rows[i], x[i], of, pareto);
        /* Across dtypes a line goes from the dense network on, as the rows come. */
        if (!g->dtypes || pareto != nd_field_pareto_time)
            qsort(series[s].points, series[s].n, sizeof *series[s].points, by_x);
    }
    return nd_status_ok;
}

static const char *note_of(const group *g, const measure *of) {
    static const char *const bars[] = {"bars: paired 95 % interval of the drop; ",
                                       "bars: bootstrap 95 % interval; ", ""};
    nd_report *report = g->report;
    return nd_arena_printf(&report->arena, "%s images of %s; numbers: T or target; %srings: Pareto set",
                           nd_report_text(report, g->rows[0], nd_field_n),
                           nd_report_text(report, g->rows[0], nd_field_dataset),
                           bars[of->lo == of->hi ? 2 : of->own]);
}

static nd_status add_plot(const group *g, const double *x, const measure *of, bool time) {
    nd_report *report = g->report;
    const char *labels[series_max];
    size_t *of_row = nd_arena_alloc(&report->arena, (g->n + 1) * sizeof *of_row);
    ND_REQUIRE(of_row, nd_status_memory, "report: out of memory");
    size_t count = find_series(g, labels, of_row);
    nd_plot_series *series;
    nd_plot *plot = nd_report_plot(report, count, &series);
    if (!plot) return nd_status_ok;
    nd_field pareto = time ? nd_field_pareto_time : nd_field_pareto;
    ND_TRY(fill_series(g, x, of, pareto, series, count, labels, of_row));
    const char *against = time ? "measured time" : "MACs";
    plot->name =
        nd_arena_printf(&report->arena, "%s-%s-%zu", of->stem, time ? "time" : "macs", report->n_plots);
    plot->title = nd_arena_printf(&report->arena, "%s against %s: %s", of->title, against,
                                  nd_report_text(report, g->rows[0], nd_field_model));
    plot->x_label = !time       ? "times fewer multiply-accumulates in convolutions (original / decoupled)"
                    : g->dtypes ? nd_arena_printf(&report->arena,
                                                  "times faster than the original in %s, measured end to end",
                                                  nd_report_text(report, g->originals[0], nd_field_dtype))
                                : "times faster, measured end to end (original / decoupled)";
    plot->y_label = of->unit;
    plot->note = note_of(g, of);
    plot->lines = plot->ratios = true;
    plot->from_zero = of->most <= 0;
    if (g->n_originals && isfinite(nd_row_real(g->originals[0], of->value))) {
        plot->level = nd_row_real(g->originals[0], of->value);
        plot->level_label = nd_arena_printf(&report->arena, "original %.2f %%", plot->level);
    }
    return nd_status_ok;
}

static bool has_points(const group *g, const double *x, const measure *of) {
    for (size_t i = 0; i < g->n; i++)
        if (isfinite(x[i]) && isfinite(nd_row_real(g->rows[i], of->value))) return true;
    return false;
}

static nd_status plot_group(const group *g) {
    double *macs = nd_arena_alloc(&g->report->arena, g->n * sizeof *macs);
    ND_REQUIRE(macs, nd_status_memory, "report: out of memory");
    for (size_t i = 0; i < g->n; i++)
        macs[i] = is_original(g->rows[i]) ? NAN : nd_row_real(g->rows[i], nd_field_conv_macs_ratio);
    for (int time = 0; time < 2; time++)
        for (int m = 0; m < n_measures; m++) {
            const double *x = time ? g->ratios : macs;
            if (has_points(g, x, &measures[m])) ND_TRY(add_plot(g, x, &measures[m], time));
        }
    return nd_status_ok;
}

/* Ratios to the first original become comparable across dtypes, by the times of the originals of each. */
static void compare_dtypes(group *g, const nd_row *const *rows, size_t n, double *times) {
    const double base = nd_pareto_original_ns(rows, n, g->originals[0]);
    for (size_t i = 1; i < g->n_originals; i++)
        g->dtypes = g->dtypes || isfinite(nd_pareto_original_ns(rows, n, g->originals[i]));
    g->dtypes = g->dtypes && isfinite(base);
    if (!g->dtypes) return;
    for (size_t i = 0; i < g->n; i++) times[i] *= base / nd_pareto_original_ns(rows, n, g->rows[i]);
    memmove(times + g->n_originals, times, g->n * sizeof *times);
    memmove(g->rows + g->n_originals, g->rows, g->n * sizeof *g->rows);
    for (size_t i = 0; i < g->n_originals; i++) {
        times[i] = base / nd_pareto_original_ns(rows, n, g->originals[i]);
        g->rows[i] = g->originals[i];
    }
    g->n += g->n_originals;
}

/* The rows of one plot, the originals apart. */
static nd_status gather_group(nd_report *report, const nd_row *const *rows, size_t n, const double *ratios,
                              const size_t *order) {
    const nd_row **members = nd_arena_alloc(&report->arena, (n + 1) * sizeof *members);
    const nd_row **originals = nd_arena_alloc(&report->arena, (n + 1) * sizeof *originals);
    double *times = nd_arena_alloc(&report->arena, (n + 1) * sizeof *times);
    ND_REQUIRE(members && originals && times, nd_status_memory, "report: out of memory");
    group g = {.report = report, .rows = members, .ratios = times, .originals = originals};
    for (size_t i = 0; i < n; i++) {
        if (is_original(rows[i])) {
            if (!g.n_originals || !same_dtype(original_of(&g, rows[i]), rows[i]))
                originals[g.n_originals++] = rows[i];
            continue;
        }
        times[g.n] = ratios[order[i]];
        members[g.n++] = rows[i];
    }
    if (!g.n) return nd_status_ok;
    if (g.n_originals > 1) compare_dtypes(&g, rows, n, times);
    return plot_group(&g);
}

nd_status nd_report_accuracy(const nd_row *const *rows, size_t n, nd_report *report) {
    double *ratios = nd_arena_alloc(&report->arena, (n + 1) * sizeof *ratios);
    const nd_row **with = nd_arena_alloc(&report->arena, (n + 1) * sizeof *with);
    size_t *which = nd_arena_alloc(&report->arena, (n + 1) * sizeof *which), count = 0;
    size_t *order = nd_arena_alloc(&report->arena, (n + 1) * sizeof *order);
    nd_report_groups groups;
    ND_REQUIRE(ratios && with && which && order, nd_status_memory, "report: out of memory");
    ND_TRY(measured_ratios(report, rows, n, ratios));
    for (size_t i = 0; i < n; i++) {
        if (!has_accuracy(rows[i])) continue;
        which[count] = i;
        with[count++] = rows[i];
    }
    ND_TRY(nd_report_group(report, with, count, group_fields, n_group, &groups));
    for (size_t g = 0; g < groups.n; g++) {
        const size_t start = groups.start[g], size = groups.start[g + 1] - start;
        for (size_t i = 0; i < size; i++) order[i] = which[groups.which[start + i]];
        ND_TRY(gather_group(report, groups.rows + start, size, ratios, order));
    }
    return nd_status_ok;
}
