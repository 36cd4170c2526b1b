#include "base/row_write.h"

#include "base/file.h"
#include "base/row_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const format_names[nd_row_format_count] = {
    [nd_row_format_json] = "json",
    [nd_row_format_csv] = "csv",
    [nd_row_format_md] = "md",
    [nd_row_format_sql] = "sql",
};

const char *nd_row_format_name(nd_row_format format) {
    return format_names[format];
}

bool nd_row_format_find(const char *path, nd_row_format *out) {
    const char *dot = strrchr(path, '.');
    if (!dot || strchr(dot, '/')) return false;
    if (!strcmp(dot + 1, "jsonl")) {
        *out = nd_row_format_json;
        return true;
    }
    for (int i = 0; i < nd_row_format_count; ++i)
        if (!strcmp(dot + 1, format_names[i])) {
            *out = (nd_row_format)i;
            return true;
        }
    return false;
}

struct nd_row_writer {
    FILE *file;
    nd_row_format format;
    nd_rows kept; /* md only */
};

static nd_status check_file(FILE *file) {
    ND_REQUIRE(!fflush(file) && !ferror(file), nd_status_input, "writing rows: %s", strerror(errno));
    return nd_status_ok;
}

nd_status nd_row_writer_open(FILE *file, nd_row_format format, bool append, nd_row_writer **out) {
    *out = NULL;
    if (!append && format == nd_row_format_csv) ND_TRY(nd_row_csv_header(file));
    if (!append && format == nd_row_format_sql) ND_TRY(nd_row_sql_header(file));
    ND_TRY(check_file(file));
    nd_row_writer *writer = calloc(1, sizeof *writer);
    ND_REQUIRE(writer, nd_status_memory, "row writer: out of memory");
    writer->file = file;
    writer->format = format;
    *out = writer;
    return nd_status_ok;
}

static nd_status add_json(FILE *file, const nd_row *row) {
    char *line;
    ND_TRY(nd_row_to_json(row, &line));
    /* One write for text and newline, so that a kill between the two is as unlikely as it can be. */
    fprintf(file, "%s\n", line);
    free(line);
    return nd_status_ok;
}

static nd_status keep(nd_rows *rows, const nd_row *row) {
    nd_row *copy = nd_rows_add(rows);
    ND_REQUIRE(copy, nd_status_memory, "row writer: out of memory");
    nd_row_copy(copy, row);
    return nd_status_ok;
}

nd_status nd_row_writer_add(nd_row_writer *writer, const nd_row *row) {
    switch (writer->format) {
    case nd_row_format_json:
        ND_TRY(add_json(writer->file, row));
        break;
    case nd_row_format_csv:
        ND_TRY(nd_row_csv_add(writer->file, row));
        break;
    case nd_row_format_sql:
        ND_TRY(nd_row_sql_add(writer->file, row));
        break;
    default:
        return keep(&writer->kept, row);
    }
    return check_file(writer->file);
}

nd_status nd_row_writer_close(nd_row_writer *writer) {
    if (!writer) return nd_status_ok;
    nd_status status = nd_status_ok;
    if (writer->format == nd_row_format_md) status = nd_row_md_write(writer->file, &writer->kept);
    if (!status) status = check_file(writer->file);
    nd_rows_free(&writer->kept);
    free(writer);
    return status;
}

nd_row *nd_rows_add(nd_rows *rows) {
    if (rows->count == rows->capacity) {
        size_t capacity = rows->capacity ? 2 * rows->capacity : 16;
        if (capacity > SIZE_MAX / sizeof(nd_row)) return NULL;
        nd_row *grown = realloc(rows->rows, capacity * sizeof *grown);
        if (!grown) return NULL;
        rows->rows = grown;
        rows->capacity = capacity;
    }
    nd_row *row = &rows->rows[rows->count++];
    memset(row, 0, sizeof *row);
    return row;
}

void nd_rows_free(nd_rows *rows) {
    for (size_t i = 0; i < rows->count; ++i) nd_row_free(&rows->rows[i]);
    free(rows->rows);
    *rows = (nd_rows){0};
}

/* A last line without its newline is either whole (somebody's editor) or torn (a killed writer). */
static nd_status parse_json(nd_cursor *cursor, nd_rows *out) {
    const char *start = cursor->at;
    for (; cursor->at < cursor->end; ++cursor->line) {
        const char *line = cursor->at;
        const char *newline = memchr(line, '\n', (size_t)(cursor->end - line));
        const char *end = newline ? newline : cursor->end;
        cursor->at = newline ? newline + 1 : end;
        if (strspn(line, " \t\r") >= (size_t)(end - line)) continue;
        char where[512];
        snprintf(where, sizeof where, "%s:%" PRId64, cursor->name, cursor->line);
        nd_row row = {0};
        nd_status status = nd_row_from_json(line, (size_t)(end - line), where, &row);
        if (status) {
            nd_row_free(&row);
            if (newline || status == nd_status_memory) return status;
            out->torn = true;
            return nd_status_ok;
        }
        nd_row *kept = nd_rows_add(out);
        if (!kept) {
            nd_row_free(&row);
            return nd_fail(nd_status_memory, "%s: out of memory", where);
        }
        *kept = row;
        out->bytes = (size_t)(cursor->at - start);
    }
    return nd_status_ok;
}

nd_status nd_rows_parse(const char *text, size_t length, nd_row_format format, const char *name,
                        nd_rows *out) {
    static nd_status (*const parsers[nd_row_format_count])(nd_cursor *, nd_rows *) = {
        [nd_row_format_json] = parse_json,
        [nd_row_format_csv] = nd_row_csv_parse,
        [nd_row_format_md] = nd_row_md_parse,
        [nd_row_format_sql] = nd_row_sql_parse,
    };
    nd_cursor cursor = {.at = text, .end = text + length, .name = name, .line = 1};
    return parsers[format](&cursor, out);
}

nd_status nd_rows_read(const char *path, nd_rows *out) {
    nd_row_format format = nd_row_format_json;
    nd_row_format_find(path, &format);
    nd_buffer *bytes;
    ND_TRY(nd_file_map(path, &bytes));
    nd_status status = nd_status_ok;
    if (bytes->bytes) status = nd_rows_parse(bytes->data, bytes->bytes, format, path, out);
    nd_buffer_unref(bytes);
    return status;
}
