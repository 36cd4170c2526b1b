#include "eval/report/report_parts.h"

#include "base/rows/row_write.h"

#include <inttypes.h>

nd_plot *nd_report_plot(nd_report *report, size_t n_series, nd_plot_series **series) {
    if (report->n_plots == nd_report_plots_max) {
        report->plots_left_out++;
        return NULL;
    }
    *series = nd_arena_alloc(&report->arena, (n_series + 1) * sizeof **series);
    if (!*series) return NULL;
    nd_plot *plot = &report->plots[report->n_plots++];
    *plot = (nd_plot){.series = *series, .n_series = n_series, .level = 0.0 / 0.0};
    return plot;
}

const char *nd_report_text(nd_report *report, const nd_row *row, nd_field field) {
    const nd_row_value *value = &row->values[field];
    const char *text = "";
    if (!value->set) return text;
    switch (nd_field_table[field].type) {
    case nd_field_type_int:
        text = nd_arena_printf(&report->arena, "%" PRId64, value->i);
        break;
    case nd_field_type_real:
        text = nd_arena_printf(&report->arena, "%.4g", value->r);
        break;
    case nd_field_type_flag:
        text = value->i ? "yes" : "no";
        break;
    case nd_field_type_text:
        text = nd_arena_strdup(&report->arena, value->text);
        break;
    case nd_field_type_ints:
    case nd_field_type_reals:
        text = nd_arena_printf(&report->arena, "%" PRId64 " values", value->i);
        break;
    }
    return text ? text : "";
}

bool nd_report_same(const nd_row *a, const nd_row *b, const nd_field *fields, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!nd_row_value_equal(fields[i], &a->values[fields[i]], &b->values[fields[i]])) return false;
    return true;
}

const char *nd_report_label(nd_report *report, const nd_row *const *members, size_t n, const nd_row *row,
                            const nd_field *fields, size_t n_fields) {
    const char *label = "";
    for (size_t f = 0; f < n_fields; f++) {
        bool varies = false;
        for (size_t i = 1; i < n && !varies; i++)
            varies = !nd_report_same(members[0], members[i], &fields[f], 1);
        if (!varies && f) continue;
        const char *text = nd_report_text(report, row, fields[f]);
        if (fields[f] == nd_field_calib) text = *text ? "calibrated" : "weights alone";
        if (!*text) continue;
        const char *longer = nd_arena_printf(&report->arena, "%s%s%s", label, *label ? ", " : "", text);
        if (longer) label = longer;
    }
    return label;
}
