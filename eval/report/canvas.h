/* What plots are drawn on: one <svg> element. Coordinates are pixels from the top left. Colours are roles,
 * which follow the reader's light or dark scheme where it has style sheets, and are those of the light one
 * where it has not. */
#ifndef ND_EVAL_CANVAS_H
#define ND_EVAL_CANVAS_H

#include "base/status.h"

#include <stdbool.h>
#include <stdio.h>

enum { nd_series_colours = 8 };

typedef enum nd_ink {
    nd_ink_text,
    nd_ink_faint, /* ticks and notes */
    nd_ink_grid,
    nd_ink_paper,
    nd_ink_series, /* + n, n < nd_series_colours */
} nd_ink;

typedef enum nd_anchor { nd_anchor_start, nd_anchor_middle, nd_anchor_end } nd_anchor;

typedef struct nd_canvas {
    FILE *file;
    double width, height;
} nd_canvas;

/* Opens the element; `standalone` adds the style that a page would have. */
void nd_canvas_begin(nd_canvas *canvas, FILE *file, double width, double height, const char *title,
                     bool standalone);
void nd_canvas_end(nd_canvas *canvas);
extern const char nd_canvas_style[]; /* the rules behind the roles, for the head of a page */

void nd_canvas_line(nd_canvas *canvas, double x0, double y0, double x1, double y1, int ink, double thickness,
                    bool dashed);
/* `tip` is shown when the reader points at it; NULL for none. */
void nd_canvas_circle(nd_canvas *canvas, double x, double y, double radius, int ink, bool filled,
                      const char *tip);
void nd_canvas_rectangle(nd_canvas *canvas, double x, double y, double width, double height, int ink,
                         const char *tip);
/* Degrees anticlockwise around the anchor. */
void nd_canvas_text(nd_canvas *canvas, double x, double y, const char *text, int ink, double size,
                    nd_anchor anchor, double degrees);

/* Text with &, <, >, quotes and control characters escaped, for SVG and HTML. */
void nd_xml_text(FILE *file, const char *text);

/* The file `svg` as a PNG of twice its pixels, by rsvg-convert of librsvg. nd_status_unsupported where that
 * is not installed. Whether `png` took it is for the caller to ask (ferror). */
nd_status nd_canvas_png(const char *svg, FILE *png);

#endif
