/* Rows to and from files, in four formats driven by the field table:
 *   json   one object a line, written and flushed as it comes
 *   csv    a header with every field, then a line a row; arrays as JSON inside a cell; written and flushed as
 * it comes md     one table, written at the end, since it hides the columns that never vary (they stand above
 * it) sql    CREATE TABLE IF NOT EXISTS rows (...), then an INSERT a row Reading any of them gives the same
 * rows back. */
#ifndef ND_BASE_ROW_WRITE_H
#define ND_BASE_ROW_WRITE_H

#include "base/row.h"

#include <stdio.h>

typedef struct nd_row_writer nd_row_writer;

/* `file` stays the caller's. nd_status_usage for an unknown format. */
nd_status nd_row_writer_open(const char *format, FILE *file, nd_row_writer **out);
nd_status nd_row_writer_add(nd_row_writer *writer, const nd_row *row);
nd_status nd_row_writer_close(nd_row_writer *writer); /* ends the table and frees; NULL is legal */

/* Rows of a file, format by content ("{", "CREATE", "|", else csv). A torn last line of json (a killed run)
 * is left out and said in a warning. *rows is malloc'd; free each row, then the array, with nd_rows_free. */
nd_status nd_rows_read(const char *path, nd_row **rows, size_t *count);
void nd_rows_free(nd_row *rows, size_t count);

#endif
