/* Rows to and from files, in four formats driven by the field table:
 *   json   one object a line, written and flushed as it comes
 *   csv    a header with every field, then a line a row; arrays as JSON inside a cell; flushed as it comes
 *   md     one table, written at the end, since it hides the columns that never vary (they stand above it)
 *   sql    CREATE TABLE IF NOT EXISTS rows (...), then an INSERT a row
 * Reading any of them gives the same rows back. */
#ifndef ND_BASE_ROW_WRITE_H
#define ND_BASE_ROW_WRITE_H

#include "base/row.h"

#include <stdio.h>

typedef enum nd_row_format {
    nd_row_format_json,
    nd_row_format_csv,
    nd_row_format_md,
    nd_row_format_sql,
    nd_row_format_count,
} nd_row_format;

const char *nd_row_format_name(nd_row_format format);
bool nd_row_format_find(const char *path, nd_row_format *out); /* by extension; .jsonl is json */

/* A growing list of rows. A zeroed struct is empty. */
typedef struct nd_rows {
    nd_row *rows;
    size_t count, capacity;
    size_t bytes; /* json: length of the whole lines read; a torn line starts here */
    bool torn;    /* json: the last line was cut off in the middle, as a killed writer leaves it */
} nd_rows;

nd_row *nd_rows_add(nd_rows *rows); /* an empty row at the end; NULL when out of memory */
void nd_rows_free(nd_rows *rows);

typedef struct nd_row_writer nd_row_writer;

/* `file` stays the caller's. `append` leaves out the header that the file already has. */
nd_status nd_row_writer_open(FILE *file, nd_row_format format, bool append, nd_row_writer **out);
nd_status nd_row_writer_add(nd_row_writer *writer, const nd_row *row);
nd_status nd_row_writer_close(nd_row_writer *writer); /* ends the table and frees; NULL is legal */

/* Adds to *out. The format of a file is told by its extension, else it is json. Errors name file, line and field. */
nd_status nd_rows_parse(const char *text, size_t length, nd_row_format format, const char *name,
                        nd_rows *out);
nd_status nd_rows_read(const char *path, nd_rows *out);

#endif
