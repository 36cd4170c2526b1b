/* Reports of synthetic rows: complete, well-formed, and not blank when drawn. */
#include "eval/report/plot.h"
#include "eval/report/report.h"

#include <criterion/criterion.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { n_rows = 1 + 6 + 6 + 2 + 1 };

static void set_accuracy(nd_row *row, const char *method, int rank) {
    nd_row_set_text(row, nd_field_model, "a<b>&\"c\"");
    nd_row_set_text(row, nd_field_method, method);
    nd_row_set_real(row, nd_field_top1, rank ? 90 - 40.0 / rank : 90);
    nd_row_set_real(row, nd_field_conv_macs_ratio, rank ? 9.0 / rank : 1);
    if (!rank) return;
    nd_row_set_int(row, nd_field_rank, rank);
    nd_row_set_real(row, nd_field_drop_top1, 40.0 / rank);
    nd_row_set_real(row, nd_field_drop_top1_lo, 40.0 / rank - 1);
    nd_row_set_real(row, nd_field_drop_top1_hi, 40.0 / rank + 1);
    nd_row_set_real(row, nd_field_ratio, 4.0 / rank);
    nd_row_set_flag(row, nd_field_pareto, rank % 2);
}

static void make_rows(nd_row *rows) {
    static const double energies[] = {0.5, 0.8, 0.95, 1};
    static const char *const implementations[] = {"dense", "unfused", "fused"};
    memset(rows, 0, n_rows * sizeof *rows);
    nd_row *row = rows;
    set_accuracy(row++, "none", 0);
    for (int i = 0; i < 6; i++) set_accuracy(row++, i % 2 ? "dwpw" : "pwdw", i / 2 + 2);
    for (int i = 0; i < 6; i++, row++) {
        nd_row_set_text(row, nd_field_model, "vgg16");
        nd_row_set_text(row, nd_field_layer, i / 3 ? "conv2" : "conv1");
        nd_row_set_text(row, nd_field_implementation, implementations[i % 3]);
        nd_row_set_text(row, nd_field_method, i % 3 ? "dwpw" : "none");
        if (i % 3) nd_row_set_int(row, nd_field_rank, 3);
        nd_row_set_real(row, nd_field_ns_median, 1e6 / (1 + i));
    }
    for (int i = 0; i < 2; i++, row++) {
        nd_row_set_text(row, nd_field_layer, i ? "conv2" : "conv1");
        nd_row_set_text(row, nd_field_method, "dwpw");
        nd_row_set_reals(row, nd_field_energy, energies, 4);
    }
    nd_row_set_text(row, nd_field_verdict, "SLOWER");
    nd_row_set_text(row, nd_field_layer, "conv1");
}

static void free_rows(nd_row *rows) {
    for (int i = 0; i < n_rows; i++) nd_row_free(&rows[i]);
}

static nd_report make_report(nd_row *rows) {
    nd_report report;
    make_rows(rows);
    cr_assert_eq(nd_report_make(rows, n_rows, &report), nd_status_ok, "%s", nd_error());
    return report;
}

Test(report, finds_what_the_rows_show) {
    nd_row rows[n_rows];
    nd_report report = make_report(rows);
    cr_expect_eq(report.n_plots, 4, "accuracy against MACs and time, layers, energy: %zu", report.n_plots);
    cr_expect_eq(report.n_tables, 3);
    const nd_plot *accuracy = &report.plots[0];
    cr_expect_eq(accuracy->n_series, 2);
    cr_expect_eq(accuracy->series[0].n, 3);
    cr_expect_eq(accuracy->level, 90);
    const nd_plot_point *point = &accuracy->series[0].points[0];
    cr_expect_float_eq(point->hi - point->lo, 2, 1e-9);
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 1; i < 3; i++)
            cr_expect_geq(accuracy->series[s].points[i].x, accuracy->series[s].points[i - 1].x);
    nd_report_free(&report);
    free_rows(rows);
}

/* A detector: agreement with an interval of its own, raw errors without one, classes in a table alone. */
Test(report, shows_detectors) {
    nd_row rows[4] = {0};
    nd_report report;
    for (int i = 0; i < 4; i++) {
        nd_row_set_text(&rows[i], nd_field_model, "yolo");
        nd_row_set_text(&rows[i], nd_field_decode, "yolo");
        nd_row_set_text(&rows[i], nd_field_method, i ? "dwpw" : "none");
        if (!i) continue;
        nd_row_set_real(&rows[i], nd_field_conv_macs_ratio, 1 + i);
        nd_row_set_real(&rows[i], nd_field_agree_ap50, 90 - 10 * i);
        nd_row_set_real(&rows[i], nd_field_agree_ap50_lo, 85 - 10 * i);
        nd_row_set_real(&rows[i], nd_field_agree_ap50_hi, 92 - 10 * i);
        nd_row_set_real(&rows[i], nd_field_raw_rel_mse, 0.1 * i);
    }
    nd_row_set_text(&rows[3], nd_field_class_name, "face");
    cr_assert_eq(nd_report_make(rows, 4, &report), nd_status_ok, "%s", nd_error());
    cr_assert_eq(report.n_plots, 2);
    cr_expect_eq(report.n_tables, 2);
    const nd_plot *agreement = &report.plots[0], *raw = &report.plots[1];
    cr_assert(agreement->n_series == 1 && agreement->series[0].n == 2 && raw->series[0].n == 2);
    cr_expect(agreement->series[0].points[0].lo == 75 && agreement->series[0].points[0].hi == 82);
    cr_expect(isnan(raw->series[0].points[1].lo) && raw->from_zero && raw->series[0].points[1].y == 0.2);
    nd_report_free(&report);
    for (int i = 0; i < 4; i++) nd_row_free(&rows[i]);
}

Test(report, rows_without_results_are_refused) {
    nd_row row = {0};
    nd_report report;
    cr_expect_eq(nd_report_make(&row, 1, &report), nd_status_usage);
    cr_expect_eq(nd_report_make(NULL, 0, &report), nd_status_usage);
}

/* Every opened element is closed, in order; void elements and the doctype aside. */
static void assert_balanced(const char *html) {
    char open[64][16];
    int depth = 0;
    for (const char *c = strchr(html, '<'); c; c = strchr(c + 1, '<')) {
        const char *end = strchr(c, '>');
        cr_assert(end, "a tag does not end");
        size_t length = strcspn(c + 1 + (c[1] == '/'), " >/\n");
        if (c[1] == '!' || !strncmp(c, "<meta", 5) || end[-1] == '/') continue;
        cr_assert_lt(length, 16);
        if (c[1] == '/') {
            cr_assert_gt(depth, 0);
            cr_assert(!strncmp(open[depth - 1], c + 2, length), "%.20s closes %s", c, open[depth - 1]);
            depth--;
            continue;
        }
        cr_assert_lt(depth, 64);
        memcpy(open[depth], c + 1, length);
        open[depth++][length] = 0;
    }
    cr_expect_eq(depth, 0);
}

static char *html_of(const nd_report *report) {
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    cr_assert_eq(nd_report_html(report, file), nd_status_ok);
    fclose(file);
    char *copy = strdup(text);
    free(text);
    return copy;
}

Test(report, html_is_self_contained_and_well_formed) {
    nd_row rows[n_rows];
    nd_report report = make_report(rows);
    char *html = html_of(&report);
    assert_balanced(html);
    cr_expect(strstr(html, "a&lt;b&gt;&amp;&quot;c&quot;"));
    cr_expect_null(strstr(html, "a<b>"));
    cr_expect_null(strstr(html, "nan"), "a NaN was drawn");
    cr_expect_null(strstr(html, " src="));
    cr_expect_null(strstr(html, " href="));
    cr_expect(strstr(html, "class=\"SLOWER\""));
    free(html);
    nd_report_free(&report);
    free_rows(rows);
}

Test(report, markdown_has_the_tables) {
    nd_row rows[n_rows];
    nd_report report = make_report(rows);
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    cr_assert_eq(nd_report_md(&report, file), nd_status_ok);
    fclose(file);
    cr_expect(strstr(text, "## Networks") && strstr(text, "## Times") && strstr(text, "## Verdicts"));
    cr_expect(strstr(text, "| pwdw |"));
    free(text);
    nd_report_free(&report);
    free_rows(rows);
}

/* How many pixels of a PNG have exactly this colour. */
static size_t count_pixels(const char *path, unsigned rgb, size_t *all) {
    png_image image = {.version = PNG_IMAGE_VERSION};
    cr_assert(png_image_begin_read_from_file(&image, path), "%s: %s", path, image.message);
    image.format = PNG_FORMAT_RGB;
    unsigned char *pixels = malloc(PNG_IMAGE_SIZE(image));
    cr_assert(pixels && png_image_finish_read(&image, NULL, pixels, 0, NULL), "%s: %s", path, image.message);
    size_t count = 0;
    *all = (size_t)image.width * image.height;
    for (size_t i = 0; i < *all; i++)
        count +=
            ((unsigned)pixels[3 * i] << 16 | (unsigned)pixels[3 * i + 1] << 8 | pixels[3 * i + 2]) == rgb;
    free(pixels);
    return count;
}

static void remove_files(const char *folder) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_expect_eq(system(command), 0);
}

Test(report, plots_are_written_and_drawn) {
    char folder[] = "nd-report-XXXXXX", path[256];
    nd_row rows[n_rows];
    nd_report report = make_report(rows);
    cr_assert(mkdtemp(folder));
    cr_assert_eq(nd_report_plots(&report, folder), nd_status_ok, "%s", nd_error());
    for (size_t i = 0; i < report.n_plots; i++) {
        snprintf(path, sizeof path, "%s/%s.svg", folder, report.plots[i].name);
        cr_expect_eq(access(path, R_OK), 0, "%s", path);
        snprintf(path, sizeof path, "%s/%s.png", folder, report.plots[i].name);
        if (access(path, R_OK)) continue; /* no rsvg-convert */
        size_t all, blue = count_pixels(path, 0x0072b2, &all);
        cr_expect(blue > 100 && blue < all / 4, "%s: %zu pixels of the first series", path, blue);
    }
    remove_files(folder);
    nd_report_free(&report);
    free_rows(rows);
}

Test(report, a_browser_shows_it, .timeout = 120) {
    if (system("command -v chromium >/dev/null 2>&1")) cr_skip_test("chromium is not installed");
    char folder[] = "nd-report-XXXXXX", path[256], command[1024];
    nd_row rows[n_rows];
    nd_report report = make_report(rows);
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/report.html", folder);
    FILE *file = fopen(path, "w");
    cr_assert(file);
    cr_assert_eq(nd_report_html(&report, file), nd_status_ok);
    fclose(file);
    snprintf(command, sizeof command,
             "cd %s && HOME=$PWD timeout 100 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars"
             " --window-size=1200,3000 --screenshot=report.png report.html >log 2>&1",
             folder);
    cr_assert_eq(system(command), 0, "chromium failed");
    snprintf(path, sizeof path, "%s/report.png", folder);
    size_t all, blue = count_pixels(path, 0x0072b2, &all), orange = count_pixels(path, 0xd55e00, &all);
    cr_expect_gt(blue, 500);
    cr_expect_gt(orange, 300);
    remove_files(folder);
    nd_report_free(&report);
    free_rows(rows);
}

/* Of points at 1, 4 and 32 the middle one stands at two fifths of the way, or at 3/31 of it on a
 * linear axis. */
Test(report, ratios_that_span_much_stand_on_a_logarithmic_axis) {
    nd_plot_point points[] = {{.x = 1, .y = 1, .lo = NAN, .hi = NAN},
                              {.x = 4, .y = 2, .lo = NAN, .hi = NAN},
                              {.x = 32, .y = 3, .lo = NAN, .hi = NAN}};
    const nd_plot_series series = {"series", points, 3};
    for (int ratios = 0; ratios < 2; ratios++) {
        const nd_plot plot = {.title = "t",
                              .x_label = "x",
                              .y_label = "y",
                              .series = &series,
                              .n_series = 1,
                              .level = NAN,
                              .ratios = ratios};
        char *text = NULL;
        size_t size;
        FILE *file = open_memstream(&text, &size);
        cr_assert(file);
        nd_plot_svg(&plot, file, true);
        fclose(file);
        double x[3];
        const char *at = text;
        for (int i = 0; i < 3; i++) {
            at = strstr(at, "<circle cx=\"");
            cr_assert(at);
            at += strlen("<circle cx=\"");
            x[i] = strtod(at, NULL);
        }
        cr_expect_float_eq((x[1] - x[0]) / (x[2] - x[0]), ratios ? 2.0 / 5 : 3.0 / 31, 1e-3);
        cr_expect(strstr(text, ">30<") ? !ratios : ratios);
        cr_expect(strstr(text, ">32<") ? ratios : !ratios);
        free(text);
    }
}

Test(report, steps_are_round) {
    cr_expect_eq(nd_plot_step(0, 100, 10), 10);
    cr_expect_eq(nd_plot_step(0, 7, 8), 1);
    cr_expect_float_eq(nd_plot_step(0, 0.09, 8), 0.02, 1e-12);
    cr_expect_eq(nd_plot_step(3, 3, 8), 1);
}
