#include "cli/cli.h"

#include "base/files/draft.h"
#include "base/rows/row_write.h"
#include "base/text/escape.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { nd_output_max = 8 };

/* Where rows go: to a draft (base/files/draft.h), which is published with the first row where the target held
 * nothing, and with the last one where it did; to the end of a file, for a sweep that goes on; or
 * to stdout. */
typedef struct stream {
    nd_row_writer *writer;
    const char *path;
    FILE *file;
    nd_draft *draft; /* NULL: `file` is stdout, or opened to append */
    bool appends, terminal;
    char *shown; /* with `terminal`: `file` is this memory, from where rows are shown escaped (owned) */
    size_t shown_bytes;
} stream;

struct nd_output {
    stream streams[nd_output_max];
    int n_streams;
    bool quiet, rows;
    nd_auto *automatic;
};

static bool holds_something(const char *path) {
    struct stat about;
    return !stat(path, &about) && S_ISREG(about.st_mode) && about.st_size > 0;
}

static nd_status open_stream(stream *s, const char *path, bool goes_on) {
    s->path = path;
    if (!strcmp(path, "-")) {
        s->terminal = isatty(STDOUT_FILENO);
        s->file = s->terminal ? open_memstream(&s->shown, &s->shown_bytes) : stdout;
        ND_REQUIRE(s->file, nd_status_memory, "stdout: no memory");
        return nd_status_ok;
    }
    s->appends = goes_on && holds_something(path);
    if (!s->appends) {
        ND_TRY(nd_draft_open(path, &s->draft));
        s->file = nd_draft_file(s->draft);
        return nd_status_ok;
    }
    s->file = fopen(path, "a");
    ND_REQUIRE(s->file, nd_status_input, "%s: %s", path, strerror(errno));
    return nd_status_ok;
}

static nd_status output_add(nd_output *output, const char *format, const char *path, bool goes_on) {
    const bool to_stdout = !strcmp(path, "-");
    ND_REQUIRE(!to_stdout || !output->quiet, nd_status_usage, "--%s -: stdout is taken by another format",
               format);
    stream *s = &output->streams[output->n_streams++];
    output->quiet |= to_stdout;
    nd_status status = open_stream(s, path, goes_on);
    if (status) return nd_fail_in(status, "--%s", format);
    return nd_row_writer_open(format, s->file, to_stdout ? "stdout" : path, &s->writer);
}

nd_status nd_output_open(const nd_args *args, nd_output **out) {
    *out = NULL;
    nd_output *output = calloc(1, sizeof *output);
    ND_REQUIRE(output, nd_status_memory, "no memory");
    output->automatic = args->automatic;
    for (int i = 0; nd_row_formats[i]; i++) {
        const char *path = nd_args_text(args, nd_row_formats[i], NULL);
        /* A sweep goes on where a killed one stopped. */
        const bool goes_on = !strcmp(args->verb, "sweep") && !strcmp(nd_row_formats[i], "json");
        const nd_status status = path ? output_add(output, nd_row_formats[i], path, goes_on) : nd_status_ok;
        if (status) return nd_output_close(output, status);
    }
    *out = output;
    return nd_status_ok;
}

/* A file that held nothing has the rows as they come. Rows that must not yet take the place of others stay
 * beside them, also when this program fails or is stopped. */
static nd_status show_row(stream *s) {
    const bool written = s->draft && ftell(s->file) > 0;
    if (!written) return nd_status_ok;
    if (!nd_draft_replaces(s->draft)) return nd_draft_publish(s->draft);
    nd_draft_keep(s->draft);
    return nd_status_ok;
}

/* What was written for a terminal since the last time. */
static nd_status show_text(stream *s) {
    if (!s->terminal || !s->file) return nd_status_ok;
    ND_REQUIRE(!fflush(s->file), nd_status_memory, "stdout: no memory");
    s->shown[s->shown_bytes] = '\0'; /* earlier, longer rows stand behind */
    nd_escape_write(s->shown, "\n", stdout);
    rewind(s->file);
    ND_REQUIRE(!fflush(stdout), nd_status_input, "stdout: cannot write rows: %s", strerror(errno));
    return nd_status_ok;
}

static nd_status add_row(stream *s, const nd_row *row) {
    ND_TRY(nd_row_writer_add(s->writer, row));
    ND_TRY(show_text(s));
    return show_row(s);
}

nd_status nd_output_row(nd_output *output, const nd_row *row) {
    if (row->values[nd_field_backend].set) output->automatic->finished = true;
    output->rows = true;
    for (int i = 0; i < output->n_streams; i++) ND_TRY(add_row(&output->streams[i], row));
    return nd_status_ok;
}

nd_status nd_output_replay(nd_output *output, const nd_row *row) {
    for (int i = 0; i < output->n_streams; i++)
        if (!output->streams[i].appends) ND_TRY(nd_row_writer_add(output->streams[i].writer, row));
    return nd_status_ok;
}

bool nd_output_quiet(const nd_output *output) {
    return output->quiet;
}

static nd_status close_file(stream *s) {
    FILE *file = s->file;
    nd_status status = show_text(s);
    s->file = NULL;
    if (!file || file == stdout) return status;
    const bool closed = !fclose(file);
    free(s->shown);
    s->shown = NULL;
    ND_REQUIRE(closed, nd_status_input, "%s: cannot write rows: %s", s->path, strerror(errno));
    return status;
}

/* The rows are all there. */
static nd_status finish_stream(stream *s) {
    nd_status status = nd_row_writer_close(s->writer);
    if (!s->draft) {
        const nd_status closed = close_file(s);
        return status ? status : closed;
    }
    if (!status) return nd_draft_commit(s->draft);
    nd_draft_discard(s->draft);
    return status;
}

/* Some rows, or none, are there. What a target held that is not complete now stays. */
static void abandon_stream(stream *s, bool rows) {
    if (rows)
        (void)nd_row_writer_close(s->writer);
    else
        nd_row_writer_drop(s->writer);
    if (!s->draft) {
        (void)close_file(s);
        return;
    }
    if (rows) (void)show_row(s);
    if (rows && nd_draft_replaces(s->draft))
        nd_log(nd_log_warn, "%s is as it was; the rows written before this are in %s", s->path,
               nd_draft_path(s->draft));
    nd_draft_discard(s->draft);
}

/* A gate that failed and a measurement that is noisy are results. */
static bool is_result(nd_status status) {
    return !status || status == nd_status_failed || status == nd_status_inconclusive;
}

nd_status nd_output_close(nd_output *output, nd_status status) {
    const bool complete = is_result(status);
    char message[2048];
    snprintf(message, sizeof message, "%s", nd_error());
    for (int i = 0; output && i < output->n_streams; i++) {
        stream *s = &output->streams[i];
        if (!complete) {
            abandon_stream(s, output->rows);
            continue;
        }
        const nd_status finished = finish_stream(s);
        if (!finished || !is_result(status)) continue;
        status = finished;
        snprintf(message, sizeof message, "%s", nd_error());
    }
    free(output);
    return status ? nd_fail(status, "%s", message) : nd_status_ok;
}
