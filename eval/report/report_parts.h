/* The parts of nd_report_make. Private to report*.c. All memory comes from the report's arena. */
#ifndef ND_EVAL_REPORT_PARTS_H
#define ND_EVAL_REPORT_PARTS_H

#include "eval/report/report.h"

enum { nd_report_plots_max = 24, nd_report_layer_plots_max = 8 };

/* The rows that a plot can show. */
nd_status nd_report_accuracy(const nd_row *const *rows, size_t n, nd_report *report);
nd_status nd_report_layers(const nd_row *const *rows, size_t n, nd_report *report);
nd_status nd_report_energy(const nd_row *const *rows, size_t n, nd_report *report);
/* All rows. */
nd_status nd_report_tables(const nd_row *rows, size_t n, nd_report *report);

/* Appends a plot with `n_series` empty series; NULL when out of memory or past the limit. `series` is what
 * the plot shows, for filling in. */
nd_plot *nd_report_plot(nd_report *report, size_t n_series, nd_plot_series **series);

/* A value for people: "3", "0.83", "pwdw", "" where null. Texts are the row's own. */
const char *nd_report_text(nd_report *report, const nd_row *row, nd_field field);
void nd_report_format(const nd_row *row, nd_field field, char *text, size_t size);

/* Rows with equal values in the same fields, in the order of their first rows, and in order within: those of
 * group g are rows[start[g]] to rows[start[g + 1] - 1]. Takes time in proportion to n. */
typedef struct nd_report_groups {
    size_t n;
    size_t *of_row; /* n of the rows given */
    size_t *start;  /* n + 1 of the groups */
    const nd_row **rows;
    size_t *which; /* rows[i] is this one of the rows given */
} nd_report_groups;

nd_status nd_report_group(nd_report *report, const nd_row *const *rows, size_t n, const nd_field *fields,
                          size_t n_fields, nd_report_groups *out);

/* Rows with equal values in all `fields`. */
bool nd_report_same(const nd_row *a, const nd_row *b, const nd_field *fields, size_t n);

/* varies[f]: the rows of `members` differ in fields[f]. The first field always counts as differing. */
void nd_report_varying(const nd_row *const *members, size_t n, const nd_field *fields, size_t n_fields,
                       bool *varies);

/* The varying fields of a row as words: "dwpw, adaptive". */
void nd_report_label(const nd_row *row, const nd_field *fields, size_t n_fields, const bool *varies,
                     char *text, size_t size);

#endif
