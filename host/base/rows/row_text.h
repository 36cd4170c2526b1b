/* What the text formats of rows share. Private to the row_*.c files. */
#ifndef ND_BASE_ROW_TEXT_H
#define ND_BASE_ROW_TEXT_H

#include "base/rows/row_write.h"

/* One value that is set: "12", "0.5", "true", "[1,2]", texts as they are. malloc'd, NULL when out
 * of memory. */
char *nd_row_value_text(nd_field field, const nd_row_value *value);

/* The reverse. `text` need not end in NUL. Fails naming `where` and the field. */
nd_status nd_row_value_parse(nd_row *row, nd_field field, const char *text, size_t length, const char *where);

/* Of every row that is read: whether this version knows its schema. */
nd_status nd_row_check_schema(const nd_row *row, const char *where);

/* nd_row_from_json for a line that is going to be written again: one that would lose something, a field that
 * this version does not know, is refused, and so is one without a schema, which no nd has written. */
nd_status nd_row_from_json_whole(const char *line, size_t length, const char *where, nd_row *out);

/* A growing list of rows. A zeroed struct is empty; nd_rows_free(list.rows, list.count) frees it. */
typedef struct nd_row_list {
    nd_row *rows;
    size_t count, capacity;
} nd_row_list;

/* A new empty row at the end, NULL when out of memory. Earlier pointers into the list become invalid. */
nd_row *nd_row_list_add(nd_row_list *list);

/* The bytes of one cell, growing; ended by NUL once something was added. */
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

/* One line without its end; false at the end of the text. */
bool nd_cursor_line(nd_cursor *cursor, const char **line, const char **end);

nd_status nd_row_csv_header(FILE *file);
nd_status nd_row_csv_add(FILE *file, const nd_row *row);
nd_status nd_row_csv_parse(nd_cursor *cursor, nd_row_list *out);

nd_status nd_row_sql_header(FILE *file);
nd_status nd_row_sql_add(FILE *file, const nd_row *row);

nd_status nd_row_md_write(FILE *file, const nd_row *rows, size_t count);

#endif
