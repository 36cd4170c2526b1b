#include "eval/report/report_parts.h"

#include "base/rows/row_write.h"

#include <inttypes.h>
#include <stdio.h>

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

void nd_report_format(const nd_row *row, nd_field field, char *text, size_t size) {
    const nd_row_value *value = &row->values[field];
    *text = '\0';
    if (!value->set) return;
    switch (nd_field_table[field].type) {
    case nd_field_type_int:
        snprintf(text, size, "%" PRId64, value->i);
        break;
    case nd_field_type_real:
        snprintf(text, size, "%.4g", value->r);
        break;
    case nd_field_type_flag:
        snprintf(text, size, "%s", value->i ? "yes" : "no");
        break;
    case nd_field_type_text:
        snprintf(text, size, "%s", value->text);
        break;
    case nd_field_type_ints:
    case nd_field_type_reals:
        snprintf(text, size, "%" PRId64 " values", value->i);
        break;
    }
}

const char *nd_report_text(nd_report *report, const nd_row *row, nd_field field) {
    const nd_row_value *value = &row->values[field];
    char text[64];
    if (!value->set) return "";
    if (nd_field_table[field].type == nd_field_type_text) return value->text;
    nd_report_format(row, field, text, sizeof text);
    const char *copy = nd_arena_strdup(&report->arena, text);
    return copy ? copy : "";
}

bool nd_report_same(const nd_row *a, const nd_row *b, const nd_field *fields, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!nd_row_value_equal(fields[i], &a->values[fields[i]], &b->values[fields[i]])) return false;
    return true;
}

void nd_report_varying(const nd_row *const *members, size_t n, const nd_field *fields, size_t n_fields,
                       bool *varies) {
    for (size_t f = 0; f < n_fields; f++) {
        varies[f] = !f;
        for (size_t i = 1; i < n && !varies[f]; i++)
            varies[f] = !nd_report_same(members[0], members[i], &fields[f], 1);
    }
}

void nd_report_label(const nd_row *row, const nd_field *fields, size_t n_fields, const bool *varies,
                     char *text, size_t size) {
    size_t used = 0;
    *text = '\0';
    for (size_t f = 0; f < n_fields && used < size; f++) {
        char word[256];
        if (!varies[f]) continue;
        nd_report_format(row, fields[f], word, sizeof word);
        if (fields[f] == nd_field_calib)
            snprintf(word, sizeof word, "%s", *word ? "calibrated" : "weights alone");
        if (*word) used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", word);
    }
}
