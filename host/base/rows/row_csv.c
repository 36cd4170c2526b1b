#include "base/rows/row_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_row_csv_header(FILE *file) {
    for (int i = 0; i < nd_field_count; i++) fprintf(file, "%s%s", i ? "," : "", nd_field_table[i].name);
    fputc('\n', file);
    return nd_status_ok;
}

/* What a spreadsheet would take a cell of text that starts so for: a formula, which may do anything. An
 * apostrophe before it makes it text, and is taken away again when the cell is read; so a text's own
 * apostrophe gets one too. */
static bool is_active(char first) {
    return first && strchr("=+-@'\t\r", first);
}

/* Quoted when it has to be, and when it is empty: an empty cell without quotes is null. */
static void print_cell(FILE *file, bool text_field, const char *text) {
    const char *const guard = text_field && is_active(*text) ? "'" : "";
    if (*text && !strpbrk(text, ",\"\r\n") && *text != ' ') {
        fprintf(file, "%s%s", guard, text);
        return;
    }
    fprintf(file, "\"%s", guard);
    for (; *text; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

nd_status nd_row_csv_add(FILE *file, const nd_row *row) {
    for (int i = 0; i < nd_field_count; i++) {
        if (i) fputc(',', file);
        if (!row->values[i].set) continue;
        char *text = nd_row_value_text((nd_field)i, &row->values[i]);
        ND_REQUIRE(text, nd_status_memory, "csv: out of memory");
        print_cell(file, nd_field_table[i].type == nd_field_type_text, text);
        free(text);
    }
    fputc('\n', file);
    return nd_status_ok;
}

/* Reads one cell. `*quoted` tells "" from nothing, `*last` whether the record ends after it. */
static nd_status next_cell(nd_cursor *cursor, nd_cell *cell, bool *quoted, bool *last) {
    cell->length = 0;
    if (cell->text) cell->text[0] = 0;
    bool inside = *quoted = cursor->at < cursor->end && *cursor->at == '"';
    int64_t first = cursor->line;
    if (inside) cursor->at++;
    for (; cursor->at < cursor->end; cursor->at++) {
        char c = *cursor->at;
        cursor->line += c == '\n';
        if (inside && c == '"') {
            if (cursor->at + 1 == cursor->end || cursor->at[1] != '"') {
                inside = false;
                continue;
            }
            cursor->at++;
        } else if (!inside && (c == ',' || c == '\n')) {
            *last = c == '\n';
            cursor->at++;
            return nd_status_ok;
        } else if (!inside && c == '\r') {
            continue;
        }
        ND_REQUIRE(nd_cell_add(cell, c), nd_status_memory, "%s:%" PRId64 ": out of memory", cursor->name,
                   first);
    }
    ND_REQUIRE(!inside, nd_status_format, "%s:%" PRId64 ": a quoted cell does not end", cursor->name, first);
    *last = true;
    return nd_status_ok;
}

/* columns[i] is the field of column i, or -1 for one this version does not know. */
static nd_status parse_header(nd_cursor *cursor, nd_cell *cell, int **columns, size_t *count) {
    for (bool quoted, last = false; !last; ++*count) {
        ND_TRY(next_cell(cursor, cell, &quoted, &last));
        int *grown = realloc(*columns, (*count + 1) * sizeof *grown);
        ND_REQUIRE(grown, nd_status_memory, "%s: out of memory", cursor->name);
        *columns = grown;
        nd_field field;
        grown[*count] = cell->length && nd_field_find(cell->text, &field) ? (int)field : -1;
    }
    return nd_status_ok;
}

static nd_status parse_record(nd_cursor *cursor, nd_cell *cell, const int *columns, size_t count,
                              nd_row *row) {
    char where[512];
    snprintf(where, sizeof where, "%s:%" PRId64, cursor->name, cursor->line);
    size_t column = 0;
    for (bool quoted, last = false; !last; column++) {
        ND_TRY(next_cell(cursor, cell, &quoted, &last));
        ND_REQUIRE(column < count, nd_status_format, "%s: more cells than the header has", where);
        if (columns[column] < 0 || (!cell->length && !quoted)) continue;
        const nd_field field = (nd_field)columns[column];
        const bool guarded = nd_field_table[field].type == nd_field_type_text && cell->length > 1 &&
                             *cell->text == '\'' && is_active(cell->text[1]);
        const char *text = cell->length ? cell->text + guarded : "";
        ND_TRY(nd_row_value_parse(row, field, text, cell->length - guarded, where));
    }
    ND_REQUIRE(column == count, nd_status_format, "%s: %zu cells where the header has %zu", where, column,
               count);
    return nd_row_check_schema(row, where);
}

nd_status nd_row_csv_parse(nd_cursor *cursor, nd_row_list *out) {
    nd_status status = nd_status_ok;
    nd_cell cell = {0};
    int *columns = NULL;
    size_t count = 0;
    cursor->line = 1;
    if (cursor->at == cursor->end) return nd_status_ok;
    ND_TRY_DONE(parse_header(cursor, &cell, &columns, &count));
    size_t unknown = 0;
    while (unknown < count && columns[unknown] < 0) unknown++;
    ND_REQUIRE_DONE(unknown < count, nd_status_format, "%s:1: no column is a field of a row", cursor->name);
    while (cursor->at < cursor->end) {
        nd_row *row = nd_row_list_add(out);
        ND_REQUIRE_DONE(row, nd_status_memory, "%s: out of memory", cursor->name);
        ND_TRY_DONE(parse_record(cursor, &cell, columns, count, row));
    }
done:
    free(columns);
    free(cell.text);
    return status;
}
