#include "base/rows/row_write.h"

#include "base/files/file.h"
#include "base/log.h"
#include "base/rows/row_text.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static nd_status row_json_header(FILE *file) {
    (void)file;
    return nd_status_ok;
}

static nd_status row_json_add(FILE *file, const nd_row *row) {
    char *line;
    ND_TRY(nd_row_to_json(row, &line));
    fprintf(file, "%s\n", line);
    free(line);
    return nd_status_ok;
}

/* The text of a mapped file has no NUL at its end, so the str functions may not look at it. */
static bool row_blank(const char *line, const char *end) {
    while (line < end && *line && strchr(" \t\r\n", *line)) line++;
    return line == end;
}

/* A last line without its newline is either whole (somebody's editor) or torn (a killed writer), which then
 * begins like all that nd writes. */
static bool is_torn(const char *line, const char *end) {
    static const char start[] = "{\"schema\":";
    const size_t length = (size_t)(end - line), common = sizeof start - 1;
    if (memcmp(line, start, length < common ? length : common)) return false;
    json_t *whole = json_loadb(line, length, 0, NULL);
    json_decref(whole);
    return !whole;
}

static nd_status row_json_parse(nd_cursor *cursor, nd_row_list *out) {
    const char *line, *end;
    while (nd_cursor_line(cursor, &line, &end)) {
        if (row_blank(line, end)) continue;
        char where[512];
        snprintf(where, sizeof where, "%s:%" PRId64, cursor->name, cursor->line);
        nd_row row = {0};
        nd_status status = nd_row_from_json(line, (size_t)(end - line), where, &row);
        nd_row *kept = status ? NULL : nd_row_list_add(out);
        if (!status && !kept) status = nd_fail(nd_status_memory, "%s: out of memory", where);
        if (!status) {
            *kept = row;
            continue;
        }
        nd_row_free(&row);
        if (status == nd_status_memory || cursor->at[-1] == '\n' || !is_torn(line, end)) return status;
        nd_log(nd_log_warn, "%s: the last line is torn and left out", where);
    }
    return nd_status_ok;
}

/* Formats that write row by row. md, which cannot, stands apart below. */
typedef struct nd_row_stream {
    const char *name;
    nd_status (*header)(FILE *file);
    nd_status (*add)(FILE *file, const nd_row *row);
    nd_status (*parse)(nd_cursor *cursor, nd_row_list *out); /* NULL: written for others to read */
} nd_row_stream;

enum { format_json, format_csv, format_md, format_sql, format_count };

static const nd_row_stream streams[format_count] = {
    [format_json] = {"json", row_json_header, row_json_add, row_json_parse},
    [format_csv] = {"csv", nd_row_csv_header, nd_row_csv_add, nd_row_csv_parse},
    [format_md] = {"md", NULL, NULL, NULL},
    [format_sql] = {"sql", nd_row_sql_header, nd_row_sql_add, NULL},
};

const char *const nd_row_formats[] = {"json", "csv", "md", "sql", NULL};

struct nd_row_writer {
    FILE *file;
    const char *name;
    const nd_row_stream *stream;
    bool started;     /* the header, where there is one, is written */
    nd_row_list kept; /* md only */
};

static nd_status check_file(const nd_row_writer *writer) {
    errno = 0;
    ND_REQUIRE(!fflush(writer->file) && !ferror(writer->file), nd_status_input, "%s: cannot write rows: %s",
               writer->name, strerror(errno ? errno : EIO));
    return nd_status_ok;
}

nd_status nd_row_writer_open(const char *format, FILE *file, const char *name, nd_row_writer **out) {
    *out = NULL;
    const nd_row_stream *stream = NULL;
    for (int i = 0; i < format_count; i++)
        if (!strcmp(streams[i].name, format)) stream = &streams[i];
    ND_REQUIRE(stream, nd_status_usage, "%s: no such row format; there are json, csv, md and sql", format);
    nd_row_writer *writer = calloc(1, sizeof *writer);
    ND_REQUIRE(writer, nd_status_memory, "%s: no memory for its rows", name);
    *writer = (nd_row_writer){.file = file, .name = name, .stream = stream};
    *out = writer;
    return nd_status_ok;
}

static nd_status start(nd_row_writer *writer) {
    if (writer->started) return nd_status_ok;
    writer->started = true;
    const bool fresh = fseek(writer->file, 0, SEEK_END) || ftell(writer->file) <= 0;
    return fresh && writer->stream->header ? writer->stream->header(writer->file) : nd_status_ok;
}

nd_status nd_row_writer_add(nd_row_writer *writer, const nd_row *row) {
    if (writer->stream->add) {
        ND_TRY(start(writer));
        ND_TRY(writer->stream->add(writer->file, row));
        return check_file(writer);
    }
    nd_row *copy = nd_row_list_add(&writer->kept);
    ND_REQUIRE(copy, nd_status_memory, "%s: no memory for its rows", writer->name);
    nd_row_copy(copy, row);
    return nd_status_ok;
}

nd_status nd_row_writer_close(nd_row_writer *writer) {
    if (!writer) return nd_status_ok;
    nd_status status = start(writer);
    if (!status && !writer->stream->add)
        status = nd_row_md_write(writer->file, writer->kept.rows, writer->kept.count);
    if (!status) status = check_file(writer);
    nd_row_writer_drop(writer);
    return status;
}

void nd_row_writer_drop(nd_row_writer *writer) {
    if (!writer) return;
    nd_rows_free(writer->kept.rows, writer->kept.count);
    free(writer);
}

void nd_rows_free(nd_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) nd_row_free(&rows[i]);
    free(rows);
}

static const nd_row_stream *recognise(const char *text, size_t length) {
    static const struct {
        const char *start;
        int format;
    } starts[] = {
        {"{", format_json}, {"CREATE ", format_sql}, {"INSERT ", format_sql},
        {"- ", format_md},  {"| ", format_md},
    };
    while (length && strchr(" \t\r\n", *text)) ++text, --length;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        size_t n = strlen(starts[i].start);
        if (length >= n && !memcmp(text, starts[i].start, n)) return &streams[starts[i].format];
    }
    return &streams[format_csv];
}

nd_status nd_rows_parse(const char *text, size_t length, const char *name, nd_row **rows, size_t *count) {
    nd_cursor cursor = {.at = text, .end = text + length, .name = name};
    nd_row_list list = {0};
    const nd_row_stream *stream = recognise(text, length);
    *rows = NULL;
    *count = 0;
    ND_REQUIRE(stream->parse, nd_status_format,
               "%s: rows as %s are for others to read; nd reads json and csv", name, stream->name);
    nd_status status = stream->parse(&cursor, &list);
    if (status) {
        nd_rows_free(list.rows, list.count);
        list = (nd_row_list){0};
    }
    *rows = list.rows;
    *count = list.count;
    return status;
}

nd_status nd_rows_read(const char *path, nd_row **rows, size_t *count) {
    *rows = NULL;
    *count = 0;
    nd_buffer *bytes;
    ND_TRY(nd_file_map(path, &bytes));
    nd_status status = nd_status_ok;
    if (bytes->bytes) status = nd_rows_parse(bytes->data, bytes->bytes, path, rows, count);
    nd_buffer_unref(bytes);
    return status;
}

/* How many bytes of a file are whole rows, and whether the last of them lacks its newline. */
static nd_status whole_rows(const char *path, size_t *bytes, bool *newline_missing) {
    nd_buffer *file;
    ND_TRY(nd_file_map(path, &file));
    nd_cursor cursor = {.at = file->data, .end = (const char *)file->data + file->bytes, .name = path};
    const char *line, *end;
    nd_status status = nd_status_ok;
    *bytes = file->bytes;
    *newline_missing = false;
    while (file->bytes && nd_cursor_line(&cursor, &line, &end)) {
        char where[512];
        nd_row row = {0};
        *newline_missing = cursor.at[-1] != '\n';
        if (*newline_missing && is_torn(line, end)) {
            *bytes -= (size_t)(cursor.end - line);
            *newline_missing = false;
            break;
        }
        if (row_blank(line, end)) continue;
        snprintf(where, sizeof where, "%s:%" PRId64, path, cursor.line);
        status = nd_row_from_json_whole(line, (size_t)(end - line), where, &row);
        nd_row_free(&row);
        if (status == nd_status_format) status = nd_fail(status, "%s; the file is left as it is", nd_error());
        if (status) break;
    }
    nd_buffer_unref(file);
    return status;
}

nd_status nd_rows_mend(const char *path) {
    if (access(path, F_OK)) return nd_status_ok;
    size_t bytes;
    bool newline_missing;
    ND_TRY(whole_rows(path, &bytes, &newline_missing));
    ND_REQUIRE(!truncate(path, (off_t)bytes), nd_status_input, "%s: %s", path, strerror(errno));
    if (!newline_missing) return nd_status_ok;
    FILE *file = fopen(path, "a");
    ND_REQUIRE(file, nd_status_input, "%s: %s", path, strerror(errno));
    bool failed = fputc('\n', file) == EOF;
    failed = fclose(file) || failed;
    ND_REQUIRE(!failed, nd_status_input, "%s: %s", path, strerror(errno));
    return nd_status_ok;
}
