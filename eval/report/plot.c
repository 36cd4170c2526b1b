#include "eval/report/plot.h"

#include "eval/report/canvas.h"

#include <math.h>
#include <string.h>

/* The rectangle of the axes on the canvas, and the ranges it shows. */
typedef struct frame {
    double left, top, right, bottom;
    double x0, x1, y0, y1; /* x as position_x gives it */
    bool log_x;
} frame;

static double position_x(const frame *f, double x) {
    return f->log_x ? log2(x) : x;
}

static double at_x(const frame *f, double x) {
    return f->left + (position_x(f, x) - f->x0) / (f->x1 - f->x0) * (f->right - f->left);
}

static double at_y(const frame *f, double y) {
    return f->bottom - (y - f->y0) / (f->y1 - f->y0) * (f->bottom - f->top);
}

double nd_plot_step(double low, double high, int most) {
    double least = (high - low) / most;
    if (!(least > 0) || !isfinite(least)) return 1;
    double power = pow(10, floor(log10(least)));
    static const double factors[] = {1, 2, 5, 10};
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++)
        if (factors[i] * power >= least * (1 - 1e-9)) return factors[i] * power;
    return 10 * power;
}

static void widen(double value, double *low, double *high) {
    if (!isfinite(value)) return;
    if (value < *low) *low = value;
    if (value > *high) *high = value;
}

/* Room around the data, ends on steps; a single value gets a unit. */
static void round_range(double *low, double *high, bool from_zero) {
    if (!(*low <= *high)) *low = 0, *high = 1;
    if (from_zero && *low > 0) *low = 0;
    if (*high - *low < 1e-12 * fmax(1, fabs(*high))) *low -= 0.5, *high += 0.5;
    double step = nd_plot_step(*low, *high, 8);
    double low_end = floor(*low / step + 1e-9) * step, high_end = ceil(*high / step - 1e-9) * step;
    *low = low_end;
    *high = high_end;
}

static void find_ranges(const nd_plot *plot, frame *f) {
    f->x0 = f->y0 = INFINITY;
    f->x1 = f->y1 = -INFINITY;
    for (size_t s = 0; s < plot->n_series; s++)
        for (size_t i = 0; i < plot->series[s].n; i++) {
            const nd_plot_point *point = &plot->series[s].points[i];
            widen(point->x, &f->x0, &f->x1);
            widen(point->y, &f->y0, &f->y1);
            widen(point->lo, &f->y0, &f->y1);
            widen(point->hi, &f->y0, &f->y1);
        }
    widen(plot->level, &f->y0, &f->y1);
    f->log_x = plot->ratios && f->x0 > 0 && f->x1 > 8 * f->x0;
    if (f->log_x) {
        f->x0 = log2(f->x0) - 0.2;
        f->x1 = log2(f->x1) + 0.2;
    } else {
        round_range(&f->x0, &f->x1, false);
    }
    round_range(&f->y0, &f->y1, plot->from_zero);
}

/* Steps from low to high. Counted, because adding a step may change nothing where it is small beside the
 * value. */
static int count_ticks(double low, double high, double step) {
    enum { most = 64 };
    const double steps = floor((high - low) / step + 1e-6);
    return steps >= 0 && steps <= most ? (int)steps : 0;
}

static void draw_number(nd_canvas *c, double x, double y, double value, nd_anchor anchor) {
    char text[32];
    if (fabs(value) < 1e-12) value = 0;
    snprintf(text, sizeof text, "%g", value);
    nd_canvas_text(c, x, y, text, nd_ink_faint, 12, anchor, 0);
}

static void draw_y_axis(nd_canvas *c, const nd_plot *plot, const frame *f) {
    double step = nd_plot_step(f->y0, f->y1, 8);
    const int ticks = count_ticks(f->y0, f->y1, step);
    for (int i = 0; i <= ticks; i++) {
        const double y = f->y0 + i * step;
        nd_canvas_line(c, f->left, at_y(f, y), f->right, at_y(f, y), nd_ink_grid, 1, false);
        draw_number(c, f->left - 8, at_y(f, y) + 4, y, nd_anchor_end);
    }
    nd_canvas_text(c, 18, (f->top + f->bottom) / 2, plot->y_label, nd_ink_text, 13, nd_anchor_middle, 90);
}

static void draw_x_tick(nd_canvas *c, const frame *f, double x) {
    nd_canvas_line(c, at_x(f, x), f->top, at_x(f, x), f->bottom, nd_ink_grid, 1, false);
    draw_number(c, at_x(f, x), f->bottom + 18, x, nd_anchor_middle);
}

static void draw_x_axis(nd_canvas *c, const nd_plot *plot, const frame *f) {
    if (f->log_x) {
        /* Doublings, and half-way between them 1.5 times as much while there are few. */
        const bool halves = f->x1 - f->x0 < 7;
        for (int power = (int)ceil(f->x0 - 1); power <= f->x1; power++) {
            if (power >= f->x0) draw_x_tick(c, f, exp2(power));
            const double half = 1.5 * exp2(power);
            if (halves && log2(half) >= f->x0 && log2(half) <= f->x1) draw_x_tick(c, f, half);
        }
    } else {
        double step = nd_plot_step(f->x0, f->x1, 10);
        const int ticks = count_ticks(f->x0, f->x1, step);
        for (int i = 0; i <= ticks; i++) draw_x_tick(c, f, f->x0 + i * step);
    }
    nd_canvas_text(c, (f->left + f->right) / 2, f->bottom + 40, plot->x_label, nd_ink_text, 13,
                   nd_anchor_middle, 0);
}

static void draw_level(nd_canvas *c, const nd_plot *plot, const frame *f) {
    if (!isfinite(plot->level)) return;
    double y = at_y(f, plot->level);
    nd_canvas_line(c, f->left, y, f->right, y, nd_ink_faint, 1.2, true);
    if (plot->level_label)
        nd_canvas_text(c, f->right - 6, y - 6, plot->level_label, nd_ink_faint, 12, nd_anchor_end, 0);
}

/* Labels of one series stand above its points, those of the next below: series often run close together. */
static void draw_point(nd_canvas *c, const frame *f, const nd_plot_point *point, int ink) {
    double x = at_x(f, point->x), y = at_y(f, point->y);
    if (isfinite(point->lo) && isfinite(point->hi)) {
        nd_canvas_line(c, x, at_y(f, point->lo), x, at_y(f, point->hi), ink, 1.2, false);
        nd_canvas_line(c, x - 3, at_y(f, point->lo), x + 3, at_y(f, point->lo), ink, 1.2, false);
        nd_canvas_line(c, x - 3, at_y(f, point->hi), x + 3, at_y(f, point->hi), ink, 1.2, false);
    }
    nd_canvas_circle(c, x, y, 4, ink, true, point->tip);
    if (point->ring) nd_canvas_circle(c, x, y, 7.5, nd_ink_text, false, NULL);
    if (point->label)
        nd_canvas_text(c, x + 6, (ink - nd_ink_series) % 2 ? y + 17 : y - 9, point->label, ink, 11,
                       nd_anchor_start, 0);
}

static bool drawable(const nd_plot_point *point) {
    return isfinite(point->x) && isfinite(point->y);
}

static void draw_series(nd_canvas *c, const nd_plot *plot, const frame *f, size_t index) {
    const nd_plot_series *series = &plot->series[index];
    int ink = nd_ink_series + (int)(index % nd_series_colours);
    for (size_t i = 1; i < series->n && plot->lines; i++) {
        const nd_plot_point *a = &series->points[i - 1], *b = &series->points[i];
        if (drawable(a) && drawable(b))
            nd_canvas_line(c, at_x(f, a->x), at_y(f, a->y), at_x(f, b->x), at_y(f, b->y), ink, 1.6,
                           index >= nd_series_colours);
    }
    for (size_t i = 0; i < series->n; i++)
        if (drawable(&series->points[i])) draw_point(c, f, &series->points[i], ink);
}

/* Names of bars that would run into each other are slanted; 7 pixels a letter, most of the width for all. */
static bool slanted_names(const nd_plot *plot) {
    size_t letters = 0;
    for (size_t k = 0; k < plot->n_categories; k++) letters += strlen(plot->categories[k]) + 2;
    return letters * 7 > 640;
}

static void draw_bars(nd_canvas *c, const nd_plot *plot, const frame *f) {
    double slot = (f->right - f->left) / (double)plot->n_categories;
    double width = 0.8 * slot / (double)plot->n_series;
    bool slanted = slanted_names(plot);
    for (size_t k = 0; k < plot->n_categories; k++) {
        double left = f->left + ((double)k + 0.1) * slot, middle = left + 0.4 * slot;
        for (size_t s = 0; s < plot->n_series; s++) {
            const nd_plot_point *point = &plot->series[s].points[k];
            if (k >= plot->series[s].n || !isfinite(point->y)) continue;
            double top = at_y(f, point->y), x = left + (double)s * width;
            nd_canvas_rectangle(c, x, top, width * 0.92, f->bottom - top, nd_ink_series + (int)s, point->tip);
            if (isfinite(point->lo) && isfinite(point->hi))
                nd_canvas_line(c, x + width * 0.46, at_y(f, point->lo), x + width * 0.46, at_y(f, point->hi),
                               nd_ink_text, 1, false);
        }
        nd_canvas_text(c, middle, f->bottom + 16, plot->categories[k], nd_ink_faint, 11,
                       slanted ? nd_anchor_end : nd_anchor_middle, slanted ? 35 : 0);
    }
    nd_canvas_line(c, f->left, f->bottom, f->right, f->bottom, nd_ink_faint, 1, false);
}

/* To the right of the axes, one line a series. */
static void draw_legend(nd_canvas *c, const nd_plot *plot, const frame *f) {
    double y = f->top + 6, pitch = plot->n_series > 18 ? (f->bottom - f->top) / (double)plot->n_series : 20;
    for (size_t s = 0; s < plot->n_series; s++, y += pitch) {
        int ink = nd_ink_series + (int)(s % nd_series_colours);
        if (plot->n_categories)
            nd_canvas_rectangle(c, f->right + 18, y - 9, 10, 10, ink, NULL);
        else {
            if (plot->lines)
                nd_canvas_line(c, f->right + 12, y - 4, f->right + 34, y - 4, ink, 1.6,
                               s >= nd_series_colours);
            nd_canvas_circle(c, f->right + 23, y - 4, 3.5, ink, true, NULL);
        }
        nd_canvas_text(c, f->right + 40, y, plot->series[s].name, nd_ink_text, pitch < 14 ? 9 : 12,
                       nd_anchor_start, 0);
    }
}

static double legend_width(const nd_plot *plot) {
    size_t longest = 0;
    for (size_t s = 0; s < plot->n_series; s++)
        if (strlen(plot->series[s].name) > longest) longest = strlen(plot->series[s].name);
    double width = 48 + 6.6 * (double)longest;
    return width > 300 ? 300 : width;
}

static void draw_plot(nd_canvas *canvas, const nd_plot *plot) {
    bool bars = plot->n_categories > 0;
    frame f = {.left = 74,
               .top = plot->note ? 66 : 48,
               .right = canvas->width - 16 - legend_width(plot),
               .bottom = canvas->height - (!bars                 ? 58
                                           : slanted_names(plot) ? 92
                                                                 : 34)};
    find_ranges(plot, &f);
    nd_canvas_text(canvas, f.left, 26, plot->title, nd_ink_text, 16, nd_anchor_start, 0);
    if (plot->note) nd_canvas_text(canvas, f.left, 46, plot->note, nd_ink_faint, 12, nd_anchor_start, 0);
    draw_y_axis(canvas, plot, &f);
    if (bars) {
        draw_bars(canvas, plot, &f);
    } else {
        draw_x_axis(canvas, plot, &f);
        draw_level(canvas, plot, &f);
        for (size_t s = 0; s < plot->n_series; s++) draw_series(canvas, plot, &f, s);
    }
    draw_legend(canvas, plot, &f);
}

void nd_plot_svg(const nd_plot *plot, FILE *file, bool standalone) {
    nd_canvas canvas;
    nd_canvas_begin(&canvas, file, nd_plot_width, nd_plot_height, plot->title, standalone);
    draw_plot(&canvas, plot);
    nd_canvas_end(&canvas);
}
