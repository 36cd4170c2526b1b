#include "base/rows/row_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const sql_types[] = {
    [nd_field_type_int] = "BIGINT", [nd_field_type_real] = "DOUBLE PRECISION",
    [nd_field_type_text] = "TEXT",  [nd_field_type_flag] = "BOOLEAN",
    [nd_field_type_ints] = "TEXT",  [nd_field_type_reals] = "TEXT",
};

/* Names are quoted: some of them ("commit", "no") are words of SQL. */
nd_status nd_row_sql_header(FILE *file) {
    fputs("CREATE TABLE IF NOT EXISTS nd_rows (", file);
    for (int i = 0; i < nd_field_count; i++)
        fprintf(file, "%s\"%s\" %s", i ? ", " : "", nd_field_table[i].name,
                sql_types[nd_field_table[i].type]);
    fputs(");\n", file);
    return nd_status_ok;
}

static void print_literal(FILE *file, nd_field_type type, const char *text) {
    if (type == nd_field_type_int || type == nd_field_type_real || type == nd_field_type_flag) {
        fputs(text, file);
        return;
    }
    fputc('\'', file);
    for (; *text; text++) {
        if (*text == '\'') fputc('\'', file);
        fputc(*text, file);
    }
    fputc('\'', file);
}

nd_status nd_row_sql_add(FILE *file, const nd_row *row) {
    const char *comma = "";
    fputs("INSERT INTO nd_rows (", file);
    for (int i = 0; i < nd_field_count; i++) {
        if (!row->values[i].set) continue;
        fprintf(file, "%s\"%s\"", comma, nd_field_table[i].name);
        comma = ", ";
    }
    fputs(") VALUES (", file);
    comma = "";
    for (int i = 0; i < nd_field_count; i++) {
        if (!row->values[i].set) continue;
        char *text = nd_row_value_text((nd_field)i, &row->values[i]);
        ND_REQUIRE(text, nd_status_memory, "sql: out of memory");
        fputs(comma, file);
        print_literal(file, nd_field_table[i].type, text);
        free(text);
        comma = ", ";
    }
    fputs(");\n", file);
    return nd_status_ok;
}

static void skip_space(nd_cursor *cursor) {
    for (; cursor->at < cursor->end && strchr(" \t\r\n", *cursor->at); cursor->at++)
        cursor->line += *cursor->at == '\n';
}

static bool accept(nd_cursor *cursor, const char *word) {
    skip_space(cursor);
    size_t length = strlen(word);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, word, length)) return false;
    cursor->at += length;
    return true;
}

/* 'text', "name" or a bare word. Quotes are doubled inside. */
static nd_status next_token(nd_cursor *cursor, nd_cell *cell) {
    skip_space(cursor);
    cell->length = 0;
    char quote = cursor->at < cursor->end && (*cursor->at == '\'' || *cursor->at == '"') ? *cursor->at : 0;
    int64_t first = cursor->line;
    if (quote) cursor->at++;
    for (; cursor->at < cursor->end; cursor->at++) {
        char c = *cursor->at;
        if (!quote && strchr(",() \t\r\n", c)) break;
        cursor->line += c == '\n';
        if (quote && c == quote) {
            cursor->at++;
            if (cursor->at == cursor->end || *cursor->at != quote) return nd_status_ok;
        }
        ND_REQUIRE(nd_cell_add(cell, c), nd_status_memory, "%s: out of memory", cursor->name);
    }
    ND_REQUIRE(!quote, nd_status_format, "%s:%" PRId64 ": a quoted text does not end", cursor->name, first);
    return nd_status_ok;
}

static nd_status syntax(const nd_cursor *cursor) {
    return nd_fail(nd_status_format, "%s:%" PRId64 ": not an INSERT statement as nd writes it", cursor->name,
                   cursor->line);
}

static nd_status parse_insert(nd_cursor *cursor, nd_cell *cell, nd_row *row) {
    int columns[2 * nd_field_count];
    size_t count = 0, capacity = sizeof columns / sizeof *columns;
    char where[512];
    snprintf(where, sizeof where, "%s:%" PRId64, cursor->name, cursor->line);
    do {
        ND_TRY(next_token(cursor, cell));
        nd_field field;
        if (count == capacity || !cell->length) return syntax(cursor);
        columns[count++] = nd_field_find(cell->text, &field) ? (int)field : -1;
    } while (accept(cursor, ","));
    if (!accept(cursor, ")") || !accept(cursor, "VALUES") || !accept(cursor, "(")) return syntax(cursor);
    for (size_t i = 0; i < count; i++) {
        if (i && !accept(cursor, ",")) return syntax(cursor);
        ND_TRY(next_token(cursor, cell));
        if (columns[i] < 0) continue;
        ND_TRY(nd_row_value_parse(row, (nd_field)columns[i], cell->length ? cell->text : "", cell->length,
                                  where));
    }
    return accept(cursor, ")") && accept(cursor, ";") ? nd_status_ok : syntax(cursor);
}

/* Only what nd_row_sql_header and nd_row_sql_add write. */
nd_status nd_row_sql_parse(nd_cursor *cursor, nd_row_list *out) {
    nd_status status = nd_status_ok;
    nd_cell cell = {0};
    cursor->line = 1;
    for (skip_space(cursor); cursor->at < cursor->end; skip_space(cursor)) {
        if (accept(cursor, "CREATE TABLE")) {
            const char *end = memchr(cursor->at, ';', (size_t)(cursor->end - cursor->at));
            ND_REQUIRE_DONE(end, nd_status_format, "%s: CREATE TABLE does not end", cursor->name);
            cursor->at = end + 1;
            continue;
        }
        if (!accept(cursor, "INSERT INTO nd_rows (")) {
            status = syntax(cursor);
            goto done;
        }
        nd_row *row = nd_row_list_add(out);
        ND_REQUIRE_DONE(row, nd_status_memory, "%s: out of memory", cursor->name);
        ND_TRY_DONE(parse_insert(cursor, &cell, row));
    }
done:
    free(cell.text);
    return status;
}
