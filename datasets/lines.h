/* Text files of one entry a line: image lists and class maps. */
#ifndef ND_DATASETS_LINES_H
#define ND_DATASETS_LINES_H

#include "base/memory.h"

enum { nd_line_max = 4096 };

/* Under way through a mapped file. A byte order mark at its start and carriage returns are passed over. */
typedef struct nd_lines {
    const char *path; /* for messages */
    nd_buffer *file;
    size_t at;
    int64_t number;         /* of `text`, from 1 */
    char text[nd_line_max]; /* without white space around it */
} nd_lines;

nd_status nd_lines_open(const char *path, nd_lines *out);
void nd_lines_close(nd_lines *lines);

/* The next line that is not blank; *more is false after the last. nd_status_format naming file and line where
 * it is too long or no text. */
nd_status nd_lines_next(nd_lines *lines, bool *more);

/* Cuts the last word off `line`, behind white space or a comma; NULL (and nothing cut) where there is only
 * one. The word points into the line. */
char *nd_line_cut_last(char *line);

/* Takes double quotes around the whole off, and makes "" within them one. Returns the text, inside `line`;
 * NULL where a quote is not closed. */
char *nd_line_unquote(char *line);

#endif
