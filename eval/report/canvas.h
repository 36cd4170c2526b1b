/* What plots are drawn on: an SVG text, or a PNG by cairo. Coordinates are pixels from the top left. Colours
 * are roles, so that an SVG can follow the reader's light or dark scheme. */
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

typedef struct nd_canvas nd_canvas;
struct nd_canvas {
    double width, height;
    void (*line)(nd_canvas *canvas, double x0, double y0, double x1, double y1, int ink, double thickness,
                 bool dashed);
    /* `tip` is shown when the reader points at it, where the medium can; NULL for none. */
    void (*circle)(nd_canvas *canvas, double x, double y, double radius, int ink, bool filled,
                   const char *tip);
    void (*rectangle)(nd_canvas *canvas, double x, double y, double width, double height, int ink,
                      const char *tip);
    /* Degrees anticlockwise around the anchor. */
    void (*text)(nd_canvas *canvas, double x, double y, const char *text, int ink, double size,
                 nd_anchor anchor, double degrees);
};

/* Writes SVG elements to `file`. nd_svg_begin opens the <svg> element; `standalone` adds the style and
 * background that a page would have. */
typedef struct nd_svg {
    nd_canvas canvas;
    FILE *file;
} nd_svg;

void nd_svg_begin(nd_svg *svg, FILE *file, double width, double height, const char *title, bool standalone);
void nd_svg_end(nd_svg *svg);
extern const char nd_svg_style[]; /* the rules of the roles, for the head of a page */

/* Text with &, <, > and quotes escaped, for SVG and HTML. */
void nd_xml_text(FILE *file, const char *text);

/* Draws through `draw` and writes a PNG, twice the pixels of the canvas. nd_status_unsupported in a build
 * without cairo. Whether `file` took it is for the caller to ask (ferror). */
nd_status nd_png_draw(FILE *file, double width, double height, void (*draw)(nd_canvas *canvas, void *context),
                      void *context);

#endif
