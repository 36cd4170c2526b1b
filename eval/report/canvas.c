#include "eval/report/canvas.h"

#include "base/text/escape.h"

#include <string.h>

/* Okabe and Ito's colours, told apart with all common kinds of colour blindness; lighter ones on
 * dark paper. */
const char nd_canvas_style[] =
    ".nd-plot{font-family:system-ui,sans-serif}@media (prefers-color-scheme:dark){"
    ".nd-text{color:#e6e8ea}.nd-faint{color:#9aa3ab}.nd-grid{color:#33383d}.nd-paper{color:#16191c}"
    ".nd-s0{color:#4ba8e0}.nd-s1{color:#f08445}.nd-s2{color:#3cc79d}.nd-s3{color:#e09ac2}"
    ".nd-s4{color:#f0b93c}.nd-s5{color:#8fd0f5}.nd-s6{color:#bfa065}.nd-s7{color:#9c9cf0}}";

/* Class and light colour of each role. */
static const char *const inks[nd_ink_series + nd_series_colours][2] = {
    {"nd-text", "#1c2024"}, {"nd-faint", "#687078"}, {"nd-grid", "#e3e6e8"}, {"nd-paper", "#ffffff"},
    {"nd-s0", "#0072b2"},   {"nd-s1", "#d55e00"},    {"nd-s2", "#009e73"},   {"nd-s3", "#cc79a7"},
    {"nd-s4", "#e69f00"},   {"nd-s5", "#56b4e9"},    {"nd-s6", "#8c6d31"},   {"nd-s7", "#5f5fc4"},
};

/* The element's `paint` ("fill" or "stroke") in a role: a presentation attribute, which style sheets
 * override. */
static void print_ink(FILE *file, const char *paint, int ink) {
    if (ink >= nd_ink_series) ink = nd_ink_series + (ink - nd_ink_series) % nd_series_colours;
    fprintf(file, " class=\"%s\" color=\"%s\" %s=\"currentColor\"", inks[ink][0], inks[ink][1], paint);
}

void nd_xml_text(FILE *file, const char *text) {
    static const char *const entities[][2] = {
        {"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}};
    char shown[nd_escape_longest];
    while (*text) {
        (void)nd_escape_next(&text, "\n\t", shown);
        const char *out = shown;
        for (size_t i = 0; i < sizeof entities / sizeof *entities; i++)
            if (!strcmp(shown, entities[i][0])) out = entities[i][1];
        fputs(out, file);
    }
}

void nd_canvas_line(nd_canvas *canvas, double x0, double y0, double x1, double y1, int ink, double thickness,
                    bool dashed) {
    FILE *file = canvas->file;
    fprintf(file, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"", x0, y0, x1, y1);
    print_ink(file, "stroke", ink);
    fprintf(file, " stroke-width=\"%g\"%s/>\n", thickness, dashed ? " stroke-dasharray=\"5 4\"" : "");
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

void nd_canvas_circle(nd_canvas *canvas, double x, double y, double radius, int ink, bool filled,
                      const char *tip) {
    FILE *file = canvas->file;
    fprintf(file, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"", x, y, radius);
    if (!filled) fputs(" fill=\"none\" stroke-width=\"1.6\"", file);
    print_ink(file, filled ? "fill" : "stroke", ink);
    end_shape(file, tip, "circle");
}

void nd_canvas_rectangle(nd_canvas *canvas, double x, double y, double width, double height, int ink,
                         const char *tip) {
    FILE *file = canvas->file;
    fprintf(file, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"", x, y, width, height);
    print_ink(file, "fill", ink);
    end_shape(file, tip, "rect");
}

void nd_canvas_text(nd_canvas *canvas, double x, double y, const char *text, int ink, double size,
                    nd_anchor anchor, double degrees) {
    static const char *const anchors[] = {"start", "middle", "end"};
    FILE *file = canvas->file;
    fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%g\" text-anchor=\"%s\"", x, y, size,
            anchors[anchor]);
    print_ink(file, "fill", ink);
    if (degrees != 0) fprintf(file, " transform=\"rotate(%g %.1f %.1f)\"", -degrees, x, y);
    fputc('>', file);
    nd_xml_text(file, text);
    fputs("</text>\n", file);
}

void nd_canvas_begin(nd_canvas *canvas, FILE *file, double width, double height, const char *title,
                     bool standalone) {
    *canvas = (nd_canvas){file, width, height};
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"nd-plot\" role=\"img\" viewBox=\"0 0 %g %g\" "
            "width=\"%g\" height=\"%g\">\n<title>",
            width, height, width, height);
    nd_xml_text(file, title);
    fputs("</title>\n", file);
    if (standalone) fprintf(file, "<style>%s</style>\n", nd_canvas_style);
    nd_canvas_rectangle(canvas, 0, 0, width, height, nd_ink_paper, NULL);
}

void nd_canvas_end(nd_canvas *canvas) {
    fputs("</svg>\n", canvas->file);
}
