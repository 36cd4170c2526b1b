#include "eval/report/report_parts.h"

#include <math.h>
#include <string.h>

/* How a column is filled: from one field, in a format, scaled; or from an interval of two fields. */
typedef struct column {
    const char *heading;
    nd_field field;
    const char *format; /* of a real; NULL = as it is */
    double scale;
    nd_field upper; /* an interval "field..upper" when it is not `field` itself */
} column;

#define PLAIN(heading, name)                                                                                 \
    { heading, nd_field_##name, NULL, 1, nd_field_##name }
#define REAL(heading, name, format, scale)                                                                   \
    { heading, nd_field_##name, format, scale, nd_field_##name }
#define RANGE(heading, low, high, format, scale)                                                             \
    { heading, nd_field_##low, format, scale, nd_field_##high }

static const column network_columns[] = {
    PLAIN("model", model),
    PLAIN("method", method),
    PLAIN("ranks", ranks),
    PLAIN("rule", rule),
    REAL("target", target, "%g", 1),
    PLAIN("T", rank),
    PLAIN("calibration", calib),
    PLAIN("backend", backend),
    PLAIN("dtype", dtype),
    PLAIN("batch", batch),
    REAL("conv MACs x", conv_macs_ratio, "%.3f", 1),
    REAL("total MACs x", total_macs_ratio, "%.3f", 1),
    REAL("params x", params_ratio, "%.3f", 1),
    PLAIN("images", n),
    REAL("top-1 %", top1, "%.2f", 1),
    REAL("drop", drop_top1, "%+.2f", 1),
    RANGE("95 %", drop_top1_lo, drop_top1_hi, "%+.2f", 1),
    REAL("top-5 %", top5, "%.2f", 1),
    REAL("drop top-5", drop_top5, "%+.2f", 1),
    RANGE("95 %", drop_top5_lo, drop_top5_hi, "%+.2f", 1),
    REAL("agreement %", agreement, "%.2f", 1),
    REAL("logit rel. MSE", logit_rel_mse, "%.4f", 1),
    PLAIN("decoded as", decode),
    PLAIN("detections", detections),
    REAL("AP", ap, "%.2f", 1),
    REAL("drop AP", drop_ap, "%+.2f", 1),
    RANGE("95 %", drop_ap_lo, drop_ap_hi, "%+.2f", 1),
    REAL("AP50", ap50, "%.2f", 1),
    REAL("drop AP50", drop_ap50, "%+.2f", 1),
    RANGE("95 %", drop_ap50_lo, drop_ap50_hi, "%+.2f", 1),
    REAL("VOC 2007", voc2007, "%.2f", 1),
    PLAIN("objects of the original", agree_objects),
    REAL("agreement AP50", agree_ap50, "%.2f", 1),
    RANGE("95 %", agree_ap50_lo, agree_ap50_hi, "%.2f", 1),
    REAL("agreement AP", agree_ap, "%.2f", 1),
    REAL("IoU", agree_iou, "%.3f", 1),
    REAL("raw rel. MSE", raw_rel_mse, "%.3g", 1),
    REAL("of boxes", boxes_rel_mse, "%.3g", 1),
    REAL("of scores", scores_rel_mse, "%.3g", 1),
    REAL("time x", ratio, "%.2f", 1),
    PLAIN("Pareto", pareto),
    PLAIN("Pareto, time", pareto_time),
};

static const column class_columns[] = {
    PLAIN("model", model),
    PLAIN("class", class_name),
    PLAIN("objects", objects),
    REAL("AP", ap, "%.2f", 1),
    REAL("AP50", ap50, "%.2f", 1),
    REAL("VOC 2007", voc2007, "%.2f", 1),
    PLAIN("objects of the original", agree_objects),
    REAL("agreement AP50", agree_ap50, "%.2f", 1),
    REAL("agreement AP", agree_ap, "%.2f", 1),
};

static const column time_columns[] = {
    PLAIN("model", model),
    PLAIN("layer", layer),
    PLAIN("layers", layers),
    PLAIN("ni", ni),
    PLAIN("no", no),
    PLAIN("kernel", kh),
    PLAIN("stride", stride),
    PLAIN("height", h),
    PLAIN("backend", backend),
    PLAIN("dtype", dtype),
    PLAIN("batch", batch),
    PLAIN("threads", threads),
    PLAIN("cold", cold),
    PLAIN("method", method),
    PLAIN("T", rank),
    PLAIN("implementation", implementation),
    REAL("MACs x", conv_macs_ratio, "%.2f", 1),
    REAL("time x", ratio, "%.2f", 1),
    RANGE("95 %", ratio_lo, ratio_hi, "%.2f", 1),
    REAL("ms", ns_median, "%.4g", 1e-6),
    RANGE("quartiles", ns_q1, ns_q3, "%.4g", 1e-6),
    REAL("GFLOP/s effective", gflops_effective, "%.1f", 1),
    REAL("GFLOP/s", gflops, "%.1f", 1),
    REAL("GB/s", gbps, "%.1f", 1),
    REAL("roofline ms", roofline_ns, "%.4g", 1e-6),
    PLAIN("discarded", discarded),
    PLAIN("noisy", noisy),
    PLAIN("engine", engine),
};

static const column verdict_columns[] = {
    PLAIN("model", model),
    PLAIN("layer", layer),
    PLAIN("method", method),
    PLAIN("T", rank),
    PLAIN("implementation", implementation),
    PLAIN("backend", backend),
    PLAIN("dtype", dtype),
    PLAIN("batch", batch),
    PLAIN("verdict", verdict),
    REAL("change", change, "%.3f", 1),
    RANGE("95 %", change_lo, change_hi, "%.3f", 1),
    REAL("p", p_value, "%.2g", 1),
    REAL("margin", margin, "%.3f", 1),
};

static void format_cell(const nd_row *row, const column *c, char *text, size_t size) {
    const nd_row_value *value = &row->values[c->field], *upper = &row->values[c->upper];
    *text = '\0';
    if (!value->set || !upper->set) return;
    if (!c->format) {
        nd_report_format(row, c->field, text, size);
        return;
    }
    int length = snprintf(text, size, c->format, c->scale * value->r);
    if (c->upper == c->field || length < 0 || (size_t)length >= size) return;
    length += snprintf(text + length, size - (size_t)length, " .. ");
    if ((size_t)length < size) snprintf(text + length, size - (size_t)length, c->format, c->scale * upper->r);
}

enum { cell_size = 1024 };

/* A column is left out when it is empty throughout, and when it is the same text in all of several rows. */
static bool says_something(const nd_row *const *rows, size_t n, const column *c) {
    char first[cell_size], text[cell_size];
    bool any = false, differs = false;
    format_cell(rows[0], c, first, sizeof first);
    for (size_t i = 0; i < n && !(any && differs); i++) {
        format_cell(rows[i], c, text, sizeof text);
        any = any || *text;
        differs = differs || strcmp(first, text);
    }
    return any && (differs || n == 1 || c->format || c->field == nd_field_verdict);
}

/* Cells of a column are often equal to the one above: the text is kept once. */
static nd_status fill_column(nd_report *report, const nd_report_table *table, size_t column_index,
                             const nd_row *const *rows, const column *c) {
    const char *above = "";
    for (size_t i = 0; i < table->n_rows; i++) {
        char text[cell_size];
        format_cell(rows[i], c, text, sizeof text);
        if (strcmp(above, text)) above = nd_arena_strdup(&report->arena, text);
        ND_REQUIRE(above, nd_status_memory, "report: out of memory");
        table->cells[i * table->n_columns + column_index] = above;
    }
    return nd_status_ok;
}

static nd_status add_table(nd_report *report, const char *title, const char *note, const nd_row *const *rows,
                           size_t n, const column *columns, size_t n_columns) {
    if (!n) return nd_status_ok;
    const column *used[64];
    ND_REQUIRE(n_columns <= sizeof used / sizeof *used, nd_status_internal, "%s: %zu columns", title,
               n_columns);
    size_t count = 0;
    for (size_t c = 0; c < n_columns; c++)
        if (says_something(rows, n, &columns[c])) used[count++] = &columns[c];
    nd_report_table *table = &report->tables[report->n_tables++];
    *table = (nd_report_table){.title = title, .note = note, .n_columns = count, .n_rows = n};
    table->headings = nd_arena_alloc(&report->arena, (count + 1) * sizeof *table->headings);
    table->numeric = nd_arena_alloc(&report->arena, (count + 1) * sizeof *table->numeric);
    table->cells = nd_arena_alloc(&report->arena, (n * count + 1) * sizeof *table->cells);
    ND_REQUIRE(table->headings && table->numeric && table->cells, nd_status_memory, "report: out of memory");
    for (size_t c = 0; c < count; c++) {
        nd_field_type type = nd_field_table[used[c]->field].type;
        table->headings[c] = used[c]->heading;
        table->numeric[c] = type == nd_field_type_int || type == nd_field_type_real;
        ND_TRY(fill_column(report, table, c, rows, used[c]));
    }
    return nd_status_ok;
}

static bool is_class(const nd_row *row) {
    return row->values[nd_field_class_name].set;
}

static bool is_network(const nd_row *row) {
    const bool measured = row->values[nd_field_top1].set || row->values[nd_field_decode].set;
    return measured && !is_class(row) && !row->values[nd_field_verdict].set;
}

static bool is_time(const nd_row *row) {
    return row->values[nd_field_ns_median].set && !is_network(row);
}

static bool is_verdict(const nd_row *row) {
    return row->values[nd_field_verdict].set;
}

nd_status nd_report_tables(const nd_row *rows, size_t n, nd_report *report) {
    static const struct {
        bool (*belongs)(const nd_row *row);
        const char *title, *note;
        const column *columns;
        size_t n_columns;
    } kinds[] = {
        {is_verdict, "Verdicts", "change: new ratio / base ratio, above 1 is faster", verdict_columns,
         sizeof verdict_columns / sizeof *verdict_columns},
        {is_network, "Networks",
         "MACs x, params x and time x are original / decoupled; drops are original - decoupled in points, on "
         "the same "
         "images, with paired 95 % intervals",
         network_columns, sizeof network_columns / sizeof *network_columns},
        {is_class, "Classes", "of a detector: per cent, against annotations or what the original finds",
         class_columns, sizeof class_columns / sizeof *class_columns},
        {is_time, "Times",
         "MACs x and time x are dense / this; medians of interleaved blocks, bootstrap intervals; effective "
         "counts the "
         "MACs of the dense layer",
         time_columns, sizeof time_columns / sizeof *time_columns},
    };
    enum { n_kinds = sizeof kinds / sizeof *kinds };
    const nd_row **members = nd_arena_alloc(&report->arena, (n + 1) * sizeof *members);
    report->tables = nd_arena_alloc(&report->arena, n_kinds * sizeof *report->tables);
    ND_REQUIRE(members && report->tables, nd_status_memory, "report: out of memory");
    for (int k = 0; k < n_kinds; k++) {
        size_t count = 0;
        for (size_t i = 0; i < n; i++)
            if (kinds[k].belongs(&rows[i])) members[count++] = &rows[i];
        ND_TRY(add_table(report, kinds[k].title, kinds[k].note, members, count, kinds[k].columns,
                         kinds[k].n_columns));
    }
    return nd_status_ok;
}
