#include "base/rows/row_text.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Where a field is written: in the list on top, as a column of the table, or by row in the table of long
 * values. */
typedef enum place { place_nowhere, place_list, place_column, place_detail } place;

static bool is_array(nd_field field) {
    nd_field_type type = nd_field_table[field].type;
    return type == nd_field_type_ints || type == nd_field_type_reals;
}

static place place_of(nd_field field, const nd_row *rows, size_t count) {
    bool any = false, same = true;
    for (size_t r = 0; r < count; r++) {
        any = any || rows[r].values[field].set;
        same = same && nd_row_value_equal(field, &rows[r].values[field], &rows[0].values[field]);
    }
    if (!any) return place_nowhere;
    nd_field_role role = nd_field_table[field].role;
    if (role != nd_field_role_measured && same) return place_list;
    return is_array(field) || role == nd_field_role_provenance ? place_detail : place_column;
}

/* Punctuation that Markdown would act on gets a backslash, as Markdown has it; line ends, other control
 * characters and blanks that would be trimmed are \xNN, and the empty text is "" (so a text that begins with
 * a quote has it escaped). */
static void print_text(FILE *file, const char *text) {
    size_t length = strlen(text);
    if (!length) fputs("\"\"", file);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool edge = i == 0 || i + 1 == length;
        if (c < ' ' || (c == ' ' && edge))
            fprintf(file, "\\x%02x", c);
        else
            fprintf(file, "%s%c", strchr("\\|*<`", c) || (c == '"' && i == 0) ? "\\" : "", c);
    }
}

static nd_status print_value(FILE *file, nd_field field, const nd_row_value *value) {
    char *text = nd_row_value_text(field, value);
    ND_REQUIRE(text, nd_status_memory, "md: out of memory");
    if (nd_field_table[field].type == nd_field_type_text)
        print_text(file, text);
    else
        fputs(text, file);
    free(text);
    return nd_status_ok;
}

static nd_status write_list(FILE *file, const nd_row *first, const place *places) {
    bool any = false;
    for (int i = 0; i < nd_field_count; i++) {
        if (places[i] != place_list) continue;
        fprintf(file, "- %s: ", nd_field_table[i].name);
        ND_TRY(print_value(file, (nd_field)i, &first->values[i]));
        fputc('\n', file);
        any = true;
    }
    if (any) fputc('\n', file);
    return nd_status_ok;
}

static nd_status write_table(FILE *file, const nd_row *rows, size_t count, const place *places) {
    fputs("| # |", file);
    for (int i = 0; i < nd_field_count; i++)
        if (places[i] == place_column) fprintf(file, " %s |", nd_field_table[i].name);
    fputs("\n|--:|", file);
    for (int i = 0; i < nd_field_count; i++)
        if (places[i] == place_column)
            fputs(nd_field_table[i].type == nd_field_type_text ? ":--|" : "--:|", file);
    for (size_t r = 0; r < count; r++) {
        fprintf(file, "\n| %zu |", r + 1);
        for (int i = 0; i < nd_field_count; i++) {
            if (places[i] != place_column) continue;
            fputc(' ', file);
            if (rows[r].values[i].set) ND_TRY(print_value(file, (nd_field)i, &rows[r].values[i]));
            fputs(" |", file);
        }
    }
    fputc('\n', file);
    return nd_status_ok;
}

static nd_status write_details(FILE *file, const nd_row *rows, size_t count, const place *places) {
    bool any = false;
    for (size_t r = 0; r < count; r++)
        for (int i = 0; i < nd_field_count; i++) {
            if (places[i] != place_detail || !rows[r].values[i].set) continue;
            if (!any) fputs("\n| # | field | value |\n|--:|:--|:--|\n", file);
            any = true;
            fprintf(file, "| %zu | %s | ", r + 1, nd_field_table[i].name);
            ND_TRY(print_value(file, (nd_field)i, &rows[r].values[i]));
            fputs(" |\n", file);
        }
    return nd_status_ok;
}

nd_status nd_row_md_write(FILE *file, const nd_row *rows, size_t count) {
    if (!count) return nd_status_ok;
    place places[nd_field_count];
    for (int i = 0; i < nd_field_count; i++) places[i] = place_of((nd_field)i, rows, count);
    ND_TRY(write_list(file, rows, places));
    ND_TRY(write_table(file, rows, count, places));
    return write_details(file, rows, count, places);
}

enum { max_cells = nd_field_count + 2 };

typedef struct md_parser {
    nd_row_list *rows;
    size_t first;  /* rows that were in the list before this file */
    nd_row shared; /* values of the list on top */
    int columns[max_cells];
    int n_columns;
    bool details;
    nd_cell cell;
    char where[512];
} md_parser;

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

static nd_status unescape(md_parser *parser, const char *text, size_t length) {
    nd_cell *cell = &parser->cell;
    cell->length = 0;
    ND_REQUIRE(nd_cell_add(cell, 0), nd_status_memory, "%s: out of memory", parser->where);
    cell->length = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '\\' && i + 3 < length && text[i + 1] == 'x' && hex_digit(text[i + 2]) >= 0 &&
            hex_digit(text[i + 3]) >= 0) {
            c = (char)(16 * hex_digit(text[i + 2]) + hex_digit(text[i + 3]));
            i += 3;
        } else if (c == '\\' && i + 1 < length) {
            c = text[++i];
        }
        ND_REQUIRE(nd_cell_add(cell, c), nd_status_memory, "%s: out of memory", parser->where);
    }
    return nd_status_ok;
}

static nd_status set_value(md_parser *parser, nd_row *row, int field, const char *text, size_t length) {
    if (field < 0 || !length) return nd_status_ok;
    if (nd_field_table[field].type != nd_field_type_text)
        return nd_row_value_parse(row, (nd_field)field, text, length, parser->where);
    if (length == 2 && !memcmp(text, "\"\"", 2)) length = 0;
    ND_TRY(unescape(parser, text, length));
    return nd_row_value_parse(row, (nd_field)field, parser->cell.text, parser->cell.length, parser->where);
}

static int field_of(const char *text, size_t length) {
    char name[64];
    if (length >= sizeof name) return -1;
    memcpy(name, text, length);
    name[length] = 0;
    nd_field field;
    return nd_field_find(name, &field) ? (int)field : -1;
}

typedef struct md_cell {
    const char *text;
    size_t length;
} md_cell;

/* "| a | b |" into trimmed cells; returns how many, at most max_cells. */
static int split_cells(const char *line, const char *end, md_cell *cells) {
    int count = 0;
    const char *start = line + 1;
    for (const char *c = start; c < end && count < max_cells; c++) {
        if (*c == '\\')
            c++;
        else if (*c == '|') {
            const char *stop = c;
            while (start < stop && *start == ' ') start++;
            while (stop > start && stop[-1] == ' ') stop--;
            cells[count++] = (md_cell){start, (size_t)(stop - start)};
            start = c + 1;
        }
    }
    return count;
}

static bool cell_is(const md_cell *cell, const char *text) {
    return cell->length == strlen(text) && !memcmp(cell->text, text, cell->length);
}

static void parse_headings(md_parser *parser, const md_cell *cells, int count) {
    parser->details = count == 3 && cell_is(&cells[1], "field") && cell_is(&cells[2], "value");
    parser->n_columns = count;
    for (int i = 1; i < count; i++) parser->columns[i] = field_of(cells[i].text, cells[i].length);
}

static nd_status parse_cells(md_parser *parser, const md_cell *cells, int count) {
    char number[24] = "";
    int64_t index;
    if (cells[0].length < sizeof number) memcpy(number, cells[0].text, cells[0].length);
    ND_REQUIRE(parser->n_columns == count && nd_text_int(number, &index), nd_status_format,
               "%s: not a line of a table as nd writes it", parser->where);
    size_t known = parser->rows->count - parser->first;
    bool next = !parser->details && index == (int64_t)known + 1;
    ND_REQUIRE(next || (parser->details && index >= 1 && index <= (int64_t)known), nd_status_format,
               "%s: row number %" PRId64 " out of order", parser->where, index);
    if (parser->details)
        return set_value(parser, &parser->rows->rows[parser->first + (size_t)index - 1],
                         field_of(cells[1].text, cells[1].length), cells[2].text, cells[2].length);
    nd_row *row = nd_row_list_add(parser->rows);
    ND_REQUIRE(row, nd_status_memory, "%s: out of memory", parser->where);
    nd_row_copy(row, &parser->shared);
    for (int i = 1; i < count; i++)
        ND_TRY(set_value(parser, row, parser->columns[i], cells[i].text, cells[i].length));
    return nd_status_ok;
}

static nd_status parse_line(md_parser *parser, const char *line, const char *end) {
    size_t length = (size_t)(end - line);
    if (length > 2 && !memcmp(line, "- ", 2)) {
        const char *colon = memchr(line, ':', length);
        if (!colon || end - colon < 2) return nd_status_ok;
        return set_value(parser, &parser->shared, field_of(line + 2, (size_t)(colon - line - 2)), colon + 2,
                         (size_t)(end - colon - 2));
    }
    if (!length || *line != '|') return nd_status_ok;
    md_cell cells[max_cells];
    int count = split_cells(line, end, cells);
    if (!count || (cells[0].length && strchr("-:", cells[0].text[0]))) return nd_status_ok;
    if (cell_is(&cells[0], "#")) {
        parse_headings(parser, cells, count);
        return nd_status_ok;
    }
    return parse_cells(parser, cells, count);
}

nd_status nd_row_md_parse(nd_cursor *cursor, nd_row_list *out) {
    md_parser parser = {.rows = out, .first = out->count};
    nd_status status = nd_status_ok;
    const char *line, *end;
    while (!status && nd_cursor_line(cursor, &line, &end)) {
        snprintf(parser.where, sizeof parser.where, "%s:%" PRId64, cursor->name, cursor->line);
        status = parse_line(&parser, line, end);
    }
    nd_row_free(&parser.shared);
    free(parser.cell.text);
    return status;
}
