/* A report of rows: plots and tables, as one self-contained HTML page, as Markdown, and as files of each
 * plot. */
#ifndef ND_EVAL_REPORT_H
#define ND_EVAL_REPORT_H

#include "base/rows/row.h"
#include "eval/report/plot.h"

typedef struct nd_report_table {
    const char *title, *note;
    const char **headings;
    const char **cells; /* row by row; never NULL */
    bool *numeric;      /* by column */
    size_t n_columns, n_rows;
} nd_report_table;

/* A row that no plot can show, and the field that is out of bounds; the tables have it all the same. */
typedef struct nd_report_odd {
    size_t row;
    nd_field field;
} nd_report_odd;

typedef struct nd_report {
    nd_plot *plots;
    size_t n_plots, plots_left_out; /* per-layer plots past the limit; their figures are in the tables */
    nd_report_table *tables;
    size_t n_tables;
    const char **facts; /* "host_cpu: ...": what rows were made with, each once; NULL-ended */
    const char **commands;
    nd_report_odd *odd;
    size_t n_odd;
    size_t n_rows;
    nd_arena arena;
} nd_report;

/* Finds what the rows can show:
 *   accuracy against MACs        rows with conv_macs_ratio and top1, or AP, agreement and raw errors of
 *                                detectors
 *   accuracy against time        the same with a measured ratio, their own or that of an end-to-end bench row
 *   times of layers              bench rows of layers: dense, unfused, fused, best
 *   energy by rank               rows with an energy array
 *   tables of networks, layers, verdicts
 * nd_status_usage when there is nothing to show. The rows must outlive the report. Time grows with n, memory
 * too. */
nd_status nd_report_make(const nd_row *rows, size_t n, nd_report *out);
void nd_report_free(nd_report *report);

nd_status nd_report_html(const nd_report *report, FILE *file);
nd_status nd_report_md(const nd_report *report, FILE *file);

/* NAME.svg and, where rsvg-convert is installed, NAME.png of each plot; the folder is made when missing. */
nd_status nd_report_plots(const nd_report *report, const char *folder);

#endif
