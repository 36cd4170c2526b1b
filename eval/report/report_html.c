#include "eval/report/report.h"

#include "base/text/escape.h"
#include "eval/report/canvas.h"

#include <errno.h>
#include <string.h>

static const char page_style[] =
    ":root{color-scheme:light dark}"
    "body{margin:0 auto;max-width:72rem;padding:2rem 1.2rem 4rem;font:16px/1.5 system-ui,sans-serif;"
    "background:#fff;color:#1c2024}"
    "h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.2rem;margin:2.4rem 0 .4rem}"
    "p{margin:.3rem 0}.faint{color:#687078;font-size:.9rem}"
    "figure{margin:1.4rem 0}figure svg{max-width:100%;height:auto;border:1px solid #e3e6e8;border-radius:6px}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-"
    "nums}"
    "th,td{padding:.25rem .6rem;border-bottom:1px solid #e3e6e8;text-align:left;white-space:nowrap}"
    "th{font-weight:600;vertical-align:bottom}.n{text-align:right}"
    "tbody tr:hover{background:#f4f6f7}code{font-size:.85rem;overflow-wrap:anywhere}"
    ".SLOWER,.WORSE{color:#c0392b;font-weight:600}.FASTER{color:#1e8449;font-weight:600}.UNSURE{color:#"
    "b7770d}"
    "@media (prefers-color-scheme:dark){body{background:#16191c;color:#e6e8ea}.faint{color:#9aa3ab}"
    "figure svg{border-color:#33383d}th,td{border-color:#33383d}tbody tr:hover{background:#20252a}"
    ".SLOWER,.WORSE{color:#ff8a7a}.FASTER{color:#6fdc9a}.UNSURE{color:#f0c060}}";

static void write_cell(FILE *file, const char *text, bool numeric) {
    static const char *const marked[] = {"SLOWER", "WORSE", "FASTER", "UNSURE"};
    const char *mark = NULL;
    for (size_t i = 0; i < sizeof marked / sizeof *marked; i++)
        if (!strcmp(text, marked[i])) mark = marked[i];
    if (mark)
        fprintf(file, "<td class=\"%s\">", mark);
    else
        fputs(numeric ? "<td class=\"n\">" : "<td>", file);
    nd_xml_text(file, text);
    fputs("</td>", file);
}

static void write_table(FILE *file, const nd_report_table *table) {
    fprintf(file, "<h2>%s</h2>\n<p class=\"faint\">", table->title);
    nd_xml_text(file, table->note);
    fputs("</p>\n<div class=\"scroll\"><table><thead><tr>", file);
    for (size_t c = 0; c < table->n_columns; c++) {
        fputs(table->numeric[c] ? "<th class=\"n\">" : "<th>", file);
        nd_xml_text(file, table->headings[c]);
        fputs("</th>", file);
    }
    fputs("</tr></thead><tbody>\n", file);
    for (size_t r = 0; r < table->n_rows; r++) {
        fputs("<tr>", file);
        for (size_t c = 0; c < table->n_columns; c++)
            write_cell(file, table->cells[r * table->n_columns + c], table->numeric[c]);
        fputs("</tr>\n", file);
    }
    fputs("</tbody></table></div>\n", file);
}

static void write_list(FILE *file, const char *const *items, bool code) {
    fputs("<ul>\n", file);
    for (; *items; items++) {
        fputs(code ? "<li><code>" : "<li>", file);
        nd_xml_text(file, *items);
        fputs(code ? "</code></li>\n" : "</li>\n", file);
    }
    fputs("</ul>\n", file);
}

nd_status nd_report_html(const nd_report *report, FILE *file) {
    fprintf(file,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            "<title>Network decoupling: report</title>\n<style>%s%s</style></head><body>\n"
            "<h1>Network decoupling: report</h1>\n<p class=\"faint\">%zu rows</p>\n",
            page_style, nd_canvas_style, report->n_rows);
    for (size_t i = 0; i < report->n_plots; i++) {
        fputs("<figure>\n", file);
        nd_plot_svg(&report->plots[i], file, false);
        fputs("</figure>\n", file);
    }
    if (report->n_odd)
        fprintf(file,
                "<p class=\"faint\">%zu rows are in the tables alone: a value is out of any bounds.</p>\n",
                report->n_odd);
    if (report->plots_left_out)
        fprintf(file,
                "<p class=\"faint\">%zu more plots are left out; their figures are in the tables.</p>\n",
                report->plots_left_out);
    for (size_t i = 0; i < report->n_tables; i++) write_table(file, &report->tables[i]);
    fputs("<h2>How it was measured</h2>\n", file);
    write_list(file, report->facts, false);
    write_list(file, report->commands, true);
    fputs("</body></html>\n", file);
    ND_REQUIRE(!fflush(file) && !ferror(file), nd_status_input, "report: %s", strerror(errno));
    return nd_status_ok;
}

/* Pipes would end a cell. */
static void write_md_text(FILE *file, const char *text) {
    char shown[nd_escape_longest];
    while (*text) {
        const bool escaped = nd_escape_next(&text, "\n", shown);
        if (!escaped && strchr("|\\*<`", *shown)) fputc('\\', file);
        fputs(*shown == '\n' ? " " : shown, file);
    }
}

static void write_md_table(FILE *file, const nd_report_table *table) {
    fprintf(file, "## %s\n\n%s.\n\n|", table->title, table->note);
    for (size_t c = 0; c < table->n_columns; c++) fprintf(file, " %s |", table->headings[c]);
    fputs("\n|", file);
    for (size_t c = 0; c < table->n_columns; c++) fputs(table->numeric[c] ? "--:|" : ":--|", file);
    for (size_t r = 0; r < table->n_rows; r++) {
        fputs("\n|", file);
        for (size_t c = 0; c < table->n_columns; c++) {
            fputc(' ', file);
            write_md_text(file, table->cells[r * table->n_columns + c]);
            fputs(" |", file);
        }
    }
    fputs("\n\n", file);
}

nd_status nd_report_md(const nd_report *report, FILE *file) {
    fputs("# Network decoupling: report\n\n", file);
    for (size_t i = 0; i < report->n_tables; i++) write_md_table(file, &report->tables[i]);
    fputs("## How it was measured\n\n", file);
    for (const char *const *fact = report->facts; *fact; fact++) {
        fputs("- ", file);
        write_md_text(file, *fact);
        fputc('\n', file);
    }
    for (const char *const *command = report->commands; *command; command++) {
        fputs("- `", file);
        nd_escape_write(*command, "", file);
        fputs("`\n", file);
    }
    ND_REQUIRE(!fflush(file) && !ferror(file), nd_status_input, "report: %s", strerror(errno));
    return nd_status_ok;
}
