#include "base/rows/row_text.h"

#include <stdlib.h>

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
