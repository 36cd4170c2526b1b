#include "cli/cli.h"

#include "base/rows/row_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { nd_output_max = 8 };

struct nd_output {
    struct nd_output_stream {
        nd_row_writer *writer;
        FILE *file;
        bool appends; /* the file keeps the rows it has */
    } streams[nd_output_max];
    int n_streams;
    bool quiet;
    nd_auto *automatic;
};

static nd_status output_add(nd_output *output, const char *format, const char *path, bool append) {
    const bool to_stdout = !strcmp(path, "-");
    ND_REQUIRE(!to_stdout || !output->quiet, nd_status_usage, "--%s -: stdout is taken by another format",
               format);
    FILE *file = to_stdout ? stdout : fopen(path, append ? "a" : "w");
    ND_REQUIRE(file, nd_status_input, "--%s %s: %s", format, path, strerror(errno));
    struct nd_output_stream *stream = &output->streams[output->n_streams];
    stream->file = file;
    stream->appends = append && !to_stdout;
    output->n_streams++;
    output->quiet |= to_stdout;
    const bool again = output->automatic->failed != NULL;
    return again && to_stdout ? nd_row_writer_continue(format, file, &stream->writer)
                              : nd_row_writer_open(format, file, &stream->writer);
}

nd_status nd_output_open(const nd_args *args, nd_output **out) {
    *out = NULL;
    nd_output *output = calloc(1, sizeof *output);
    ND_REQUIRE(output, nd_status_memory, "no memory");
    output->automatic = args->automatic;
    for (int i = 0; nd_row_formats[i]; i++) {
        const char *path = nd_args_text(args, nd_row_formats[i], NULL);
        /* A sweep goes on where a killed one stopped. */
        const bool append = !strcmp(args->verb, "sweep") && !strcmp(nd_row_formats[i], "json");
        nd_status status = path ? output_add(output, nd_row_formats[i], path, append) : nd_status_ok;
        if (!status) continue;
        nd_output_close(output);
        return status;
    }
    *out = output;
    return nd_status_ok;
}

nd_status nd_output_row(nd_output *output, const nd_row *row) {
    if (row->values[nd_field_backend].set) output->automatic->finished = true;
    for (int i = 0; i < output->n_streams; i++) ND_TRY(nd_row_writer_add(output->streams[i].writer, row));
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

nd_status nd_output_close(nd_output *output) {
    nd_status status = nd_status_ok;
    for (int i = 0; output && i < output->n_streams; i++) {
        struct nd_output_stream *stream = &output->streams[i];
        nd_status closed = nd_row_writer_close(stream->writer);
        if (stream->file != stdout && fclose(stream->file) && !closed)
            closed = nd_fail(nd_status_input, "cannot write rows: %s", strerror(errno));
        if (!status) status = closed;
    }
    free(output);
    return status;
}
