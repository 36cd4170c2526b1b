/* What the text formats of rows share: single values as text and back. Private to the row_*.c files. */
#ifndef ND_BASE_ROW_TEXT_H
#define ND_BASE_ROW_TEXT_H

#include "base/row_write.h"

/* One value that is set: "12", "0.5", "true", "[1,2]", texts as they are. malloc'd, NULL when out of memory.
 */
char *nd_row_value_text(nd_field field, const nd_row_value *value);

/* The reverse. `text` need not end in NUL. Fails naming `where` and the field. */
nd_status nd_row_value_parse(nd_row *row, nd_field field, const char *text, size_t length, const char *where);

/* Both hold exactly the same value (or are both null). */
bool nd_row_value_equal(nd_field field, const nd_row_value *a, const nd_row_value *b);

/* Growing text for the parsers: bytes of one cell. */
typedef struct nd_cell {
    char *text;
    size_t length, capacity;
} nd_cell;

bool nd_cell_add(nd_cell *cell, char byte); /* false when out of memory */

/* Position in a text being parsed, with its line number for messages. */
typedef struct nd_cursor {
    const char *at, *end;
    const char *name;
    int64_t line;
} nd_cursor;

nd_status nd_row_csv_header(FILE *file);
nd_status nd_row_csv_add(FILE *file, const nd_row *row);
nd_status nd_row_csv_parse(nd_cursor *cursor, nd_rows *out);

nd_status nd_row_sql_header(FILE *file);
nd_status nd_row_sql_add(FILE *file, const nd_row *row);
nd_status nd_row_sql_parse(nd_cursor *cursor, nd_rows *out);

nd_status nd_row_md_write(FILE *file, const nd_rows *rows);
nd_status nd_row_md_parse(nd_cursor *cursor, nd_rows *out);

#endif
