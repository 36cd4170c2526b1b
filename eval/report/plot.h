/* Plots: points with intervals on two axes, or grouped bars. Described by data. */
#ifndef ND_EVAL_PLOT_H
#define ND_EVAL_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* y is NaN where a series has no bar in a category. lo and hi are NaN where there is no interval. */
typedef struct nd_plot_point {
    double x, y, lo, hi;
    bool ring;         /* stands out: on the Pareto front */
    const char *label; /* beside the point; NULL for none */
    const char *tip;
} nd_plot_point;

typedef struct nd_plot_series {
    const char *name;
    nd_plot_point *points; /* by x for lines, by category for bars */
    size_t n;
} nd_plot_series;

typedef struct nd_plot {
    const char *name; /* file stem */
    const char *title, *x_label, *y_label;
    const char *note; /* below the title */
    const nd_plot_series *series;
    size_t n_series;
    const char *const *categories; /* bars when there are any */
    size_t n_categories;
    double level; /* a dashed line across at this y, NaN for none */
    const char *level_label;
    bool lines;     /* connect the points of a series */
    bool from_zero; /* y starts at 0 */
    bool ratios;    /* x is a ratio: on a logarithmic axis when it spans more than three doublings */
} nd_plot;

enum { nd_plot_width = 860, nd_plot_height = 470 };

/* Whether `file` took it is for the caller to ask (ferror). */
void nd_plot_svg(const nd_plot *plot, FILE *file, bool standalone);

/* A step of 1, 2 or 5 times a power of ten that cuts [low, high] into at most `most` parts. */
double nd_plot_step(double low, double high, int most);

#endif
