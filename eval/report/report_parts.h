/* The parts of nd_report_make. Private to report*.c. All memory comes from the report's arena. */
#ifndef ND_EVAL_REPORT_PARTS_H
#define ND_EVAL_REPORT_PARTS_H

#include "eval/report/report.h"

enum { nd_report_plots_max = 24, nd_report_layer_plots_max = 8 };

nd_status nd_report_accuracy(const nd_row *rows, size_t n, nd_report *report);
nd_status nd_report_layers(const nd_row *rows, size_t n, nd_report *report);
nd_status nd_report_energy(const nd_row *rows, size_t n, nd_report *report);
nd_status nd_report_tables(const nd_row *rows, size_t n, nd_report *report);

/* Appends a plot with `n_series` empty series; NULL when out of memory or past the limit. `series` is what
 * the plot shows, for filling in. */
nd_plot *nd_report_plot(nd_report *report, size_t n_series, nd_plot_series **series);

/* A value for people: "3", "0.83", "pwdw", "" where null. */
const char *nd_report_text(nd_report *report, const nd_row *row, nd_field field);

/* Rows with equal values in all `fields`. */
bool nd_report_same(const nd_row *a, const nd_row *b, const nd_field *fields, size_t n);

/* The fields of `fields` in which the rows of `members` differ, as words: "dwpw adaptive". Everything is the
 * same: the first field alone. */
const char *nd_report_label(nd_report *report, const nd_row *const *members, size_t n, const nd_row *row,
                            const nd_field *fields, size_t n_fields);

#endif
