/* Rows to files in four formats driven by the field table, and back from two of them.
 *
 *   json  one object a line, null fields left out
 *   csv   RFC 4180, a header with every field; null is an empty cell, an empty text is "". A text that a
 *         spreadsheet would run (it starts with = + - @, a tab or a carriage return) has an apostrophe before
 *         it, as has one that starts with an apostrophe; reading takes it away
 *   md    key and provenance fields that are the same in all rows stand on top, as a list; then a table of
 *         what varies and of what was measured; then a table of the long values (arrays, provenance) by row
 *         number
 *   sql   CREATE TABLE IF NOT EXISTS nd_rows and an INSERT a row, in the common subset of SQLite and
 *         PostgreSQL
 *
 * None loses anything; json and csv read back equal, value by value, md and sql are for people and databases.
 * Arrays are "[1,2,3]" in a cell. Reals have as many digits as reading the same bits needs. */
#ifndef ND_BASE_ROW_WRITE_H
#define ND_BASE_ROW_WRITE_H

#include "base/rows/row.h"

#include <stdio.h>

#pragma GCC visibility push(default)

typedef struct nd_row_writer nd_row_writer;

/* The formats' names, which are also their file extensions; NULL-ended. */
extern const char *const nd_row_formats[];

/* `file` stays the caller's; `name` is its name in messages and must outlive the writer. Every row is flushed
 * as it comes, but md is written when the writer is closed, because only then is it known which columns vary.
 * The csv header and the sql table come with the first row, or at the end where there was none, and are left
 * out where the file (opened to append) already holds something. nd_status_usage for an unknown format. */
nd_status nd_row_writer_open(const char *format, FILE *file, const char *name, nd_row_writer **out);
nd_status nd_row_writer_add(nd_row_writer *writer, const nd_row *row);
nd_status nd_row_writer_close(nd_row_writer *writer); /* ends the table and frees; NULL is legal */
void nd_row_writer_drop(nd_row_writer *writer);       /* frees and writes nothing more; NULL is legal */

/* Rows of a file of json or csv, told by its content. Messages carry file and line; fields this version does
 * not know are ignored, rows of a newer schema refused. A torn last line of json (a killed run) is left out
 * and said in a warning. *rows is malloc'd: nd_rows_free. */
nd_status nd_rows_read(const char *path, nd_row **rows, size_t *count);
nd_status nd_rows_parse(const char *text, size_t length, const char *name, nd_row **rows, size_t *count);
void nd_rows_free(nd_row *rows, size_t count);

/* Makes a file of JSON rows fit to be gone on with, which means read, appended to and written anew: a torn
 * last line is cut off, a missing last newline added. A file that does not exist is left alone, and so is one
 * that would lose something: nd_status_format where a line is no row of nd, or has fields that this version
 * does not know. */
nd_status nd_rows_mend(const char *path);

/* Both are null, or hold exactly the same value. */
bool nd_row_value_equal(nd_field field, const nd_row_value *a, const nd_row_value *b);

#pragma GCC visibility pop

#endif
