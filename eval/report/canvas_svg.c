#include "eval/report/canvas.h"

#include <stddef.h>

/* Okabe and Ito's colours, told apart with all common kinds of colour blindness; lighter ones on dark paper.
 */
const char nd_svg_style[] =
    ".nd-plot{--paper:#fff;--text:#1c2024;--faint:#687078;--grid:#e3e6e8;--s0:#0072b2;--s1:#d55e00;--s2:#"
    "009e73;"
    "--s3:#cc79a7;--s4:#e69f00;--s5:#56b4e9;--s6:#8c6d31;--s7:#5f5fc4;font-family:system-ui,sans-serif}"
    "@media "
    "(prefers-color-scheme:dark){.nd-plot{--paper:#16191c;--text:#e6e8ea;--faint:#9aa3ab;--grid:#33383d;"
    "--s0:#4ba8e0;--s1:#f08445;--s2:#3cc79d;--s3:#e09ac2;--s4:#f0b93c;--s5:#8fd0f5;--s6:#bfa065;--s7:#9c9cf0}"
    "}";

static const char *const ink_names[] = {"text", "faint", "grid", "paper"};

static void print_ink(FILE *file, int ink) {
    if (ink >= nd_ink_series)
        fprintf(file, "var(--s%d)", (ink - nd_ink_series) % nd_series_colours);
    else
        fprintf(file, "var(--%s)", ink_names[ink]);
}

void nd_xml_text(FILE *file, const char *text) {
    for (; *text; text++) switch (*text) {
        case '&':
            fputs("&amp;", file);
            break;
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        case '\'':
            fputs("&#39;", file);
            break;
        default:
            /* XML has no other control characters. */
            if ((unsigned char)*text >= ' ' || *text == '\n' || *text == '\t') fputc(*text, file);
        }
}

static FILE *file_of(nd_canvas *canvas) {
    return ((nd_svg *)canvas)->file;
}

static void svg_line(nd_canvas *canvas, double x0, double y0, double x1, double y1, int ink, double thickness,
                     bool dashed) {
    FILE *file = file_of(canvas);
    fprintf(file, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"", x0, y0, x1, y1);
    print_ink(file, ink);
    fprintf(file, "\" stroke-width=\"%g\"%s/>\n", thickness, dashed ? " stroke-dasharray=\"5 4\"" : "");
}

static void end_shape(FILE *file, const char *tip, const char *element) {
    if (!tip) {
        fputs("/>\n", file);
        return;
    }
    fputs("><title>", file);
    nd_xml_text(file, tip);
    fprintf(file, "</title></%s>\n", element);
}

static void svg_circle(nd_canvas *canvas, double x, double y, double radius, int ink, bool filled,
                       const char *tip) {
    FILE *file = file_of(canvas);
    fprintf(file, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"", x, y, radius);
    if (filled)
        print_ink(file, ink);
    else
        fputs("none\" stroke-width=\"1.6\" stroke=\"", file), print_ink(file, ink);
    fputc('"', file);
    end_shape(file, tip, "circle");
}

static void svg_rectangle(nd_canvas *canvas, double x, double y, double width, double height, int ink,
                          const char *tip) {
    FILE *file = file_of(canvas);
    fprintf(file, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"", x, y, width, height);
    print_ink(file, ink);
    fputc('"', file);
    end_shape(file, tip, "rect");
}

static void svg_text(nd_canvas *canvas, double x, double y, const char *text, int ink, double size,
                     nd_anchor anchor, double degrees) {
    static const char *const anchors[] = {"start", "middle", "end"};
    FILE *file = file_of(canvas);
    fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%g\" text-anchor=\"%s\" fill=\"", x, y, size,
            anchors[anchor]);
    print_ink(file, ink);
    if (degrees != 0) fprintf(file, "\" transform=\"rotate(%g %.1f %.1f)", -degrees, x, y);
    fputs("\">", file);
    nd_xml_text(file, text);
    fputs("</text>\n", file);
}

void nd_svg_begin(nd_svg *svg, FILE *file, double width, double height, const char *title, bool standalone) {
    *svg = (nd_svg){.canvas = {width, height, svg_line, svg_circle, svg_rectangle, svg_text}, .file = file};
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"nd-plot\" role=\"img\" viewBox=\"0 0 %g %g\" "
            "width=\"%g\" height=\"%g\">\n<title>",
            width, height, width, height);
    nd_xml_text(file, title);
    fputs("</title>\n", file);
    if (standalone) fprintf(file, "<style>%s</style>\n", nd_svg_style);
    svg_rectangle(&svg->canvas, 0, 0, width, height, nd_ink_paper, NULL);
}

void nd_svg_end(nd_svg *svg) {
    fputs("</svg>\n", svg->file);
}
