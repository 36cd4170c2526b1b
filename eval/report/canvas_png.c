#include "eval/report/canvas.h"

#include <math.h>

#ifdef ND_CAIRO
#    include <cairo.h>

enum { pixels = 2 }; /* a side, for each of the canvas */

typedef struct png_canvas {
    nd_canvas canvas;
    cairo_t *cairo;
} png_canvas;

/* The light scheme of nd_svg_style. */
static const unsigned inks[nd_ink_series + nd_series_colours] = {
    0x1c2024, 0x687078, 0xe3e6e8, 0xffffff, 0x0072b2, 0xd55e00,
    0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0x8c6d31, 0x5f5fc4,
};

static cairo_t *use_ink(nd_canvas *canvas, int ink) {
    cairo_t *cairo = ((png_canvas *)canvas)->cairo;
    if (ink >= nd_ink_series) ink = nd_ink_series + (ink - nd_ink_series) % nd_series_colours;
    unsigned rgb = inks[ink];
    cairo_set_source_rgb(cairo, (rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0);
    return cairo;
}

static void png_line(nd_canvas *canvas, double x0, double y0, double x1, double y1, int ink, double thickness,
                     bool dashed) {
    static const double dashes[2] = {5, 4};
    cairo_t *cairo = use_ink(canvas, ink);
    cairo_set_line_width(cairo, thickness);
    cairo_set_dash(cairo, dashes, dashed ? 2 : 0, 0);
    cairo_move_to(cairo, x0, y0);
    cairo_line_to(cairo, x1, y1);
    cairo_stroke(cairo);
    cairo_set_dash(cairo, dashes, 0, 0);
}

static void png_circle(nd_canvas *canvas, double x, double y, double radius, int ink, bool filled,
                       const char *tip) {
    cairo_t *cairo = use_ink(canvas, ink);
    (void)tip;
    cairo_new_path(cairo);
    cairo_arc(cairo, x, y, radius, 0, 2 * acos(-1));
    cairo_set_line_width(cairo, 1.6);
    if (filled)
        cairo_fill(cairo);
    else
        cairo_stroke(cairo);
}

static void png_rectangle(nd_canvas *canvas, double x, double y, double width, double height, int ink,
                          const char *tip) {
    cairo_t *cairo = use_ink(canvas, ink);
    (void)tip;
    cairo_rectangle(cairo, x, y, width, height);
    cairo_fill(cairo);
}

static void png_text(nd_canvas *canvas, double x, double y, const char *text, int ink, double size,
                     nd_anchor anchor, double degrees) {
    cairo_t *cairo = use_ink(canvas, ink);
    cairo_text_extents_t extents;
    cairo_select_font_face(cairo, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cairo, size);
    cairo_text_extents(cairo, text, &extents);
    double shift = anchor == nd_anchor_start ? 0 : anchor == nd_anchor_end ? 1 : 0.5;
    cairo_save(cairo);
    cairo_translate(cairo, x, y);
    cairo_rotate(cairo, -degrees * acos(-1) / 180);
    cairo_move_to(cairo, -shift * extents.x_advance, 0);
    cairo_show_text(cairo, text);
    cairo_restore(cairo);
}

static cairo_status_t png_write(void *closure, const unsigned char *data, unsigned length) {
    return fwrite(data, 1, length, closure) == length ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

nd_status nd_png_draw(FILE *file, double width, double height, void (*draw)(nd_canvas *canvas, void *context),
                      void *context) {
    cairo_surface_t *surface =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(pixels * width), (int)(pixels * height));
    png_canvas png = {.canvas = {width, height, png_line, png_circle, png_rectangle, png_text},
                      .cairo = cairo_create(surface)};
    cairo_scale(png.cairo, pixels, pixels);
    png_rectangle(&png.canvas, 0, 0, width, height, nd_ink_paper, NULL);
    draw(&png.canvas, context);
    cairo_status_t drawn = cairo_status(png.cairo);
    cairo_destroy(png.cairo);
    cairo_status_t written = drawn ? drawn : cairo_surface_write_to_png_stream(surface, png_write, file);
    cairo_surface_destroy(surface);
    ND_REQUIRE(!written || written == CAIRO_STATUS_WRITE_ERROR, nd_status_memory, "a plot of %gx%g: %s",
               width, height, cairo_status_to_string(written));
    return nd_status_ok;
}

#else

nd_status nd_png_draw(FILE *file, double width, double height, void (*draw)(nd_canvas *canvas, void *context),
                      void *context) {
    (void)file, (void)width, (void)height, (void)draw, (void)context;
    return nd_fail(nd_status_unsupported, "built without cairo: SVG files are written");
}

#endif
