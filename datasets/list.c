/* list:FILE, as Caffe has it: a picture and its class on each line. Names may hold spaces: the class is the
 * last word. A line without a class is a picture of unknown class. Names are relative to the list's folder.
 */
#include "datasets/source.h"

#include "base/file.h"
#include "base/text.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static const char nd_list_blank[] = " \t\r";

/* Cuts the class off the line; the line without one stays whole. */
static bool list_split(char *line, int32_t *label) {
    *label = -1;
    char *end = line + strlen(line);
    while (end > line && strchr(nd_list_blank, end[-1])) *--end = '\0';
    char *word = end;
    while (word > line && !strchr(nd_list_blank, word[-1])) word--;
    int64_t value;
    if (word == line || !nd_text_int(word, &value)) return true;
    if (value < -1 || value > INT32_MAX) return false;
    *label = (int32_t)value;
    while (word > line && strchr(nd_list_blank, word[-1])) word--;
    *word = '\0';
    return true;
}

static nd_status list_line(nd_files *files, const char *path, int64_t number, const char *text,
                           size_t length) {
    char line[4096];
    int32_t label;
    ND_REQUIRE(length < sizeof line && !memchr(text, '\0', length), nd_status_format,
               "%s:%lld: not a line of a file and its class", path, (long long)number);
    memcpy(line, text, length);
    line[length] = '\0';
    ND_REQUIRE(list_split(line, &label), nd_status_format, "%s:%lld: the class must be 0 or more, or -1",
               path, (long long)number);
    const char *name = line + strspn(line, nd_list_blank);
    return *name ? nd_files_add(files, name, label) : nd_status_ok;
}

static nd_status list_read(nd_files *files, const char *path, const nd_buffer *file) {
    const char *text = file->data, *end = text + file->bytes;
    for (int64_t number = 1; text < end; number++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        ND_TRY(list_line(files, path, number, text, (size_t)(stop - text)));
        text = stop < end ? stop + 1 : end;
    }
    ND_REQUIRE(nd_files_source(files)->count, nd_status_format, "%s: no picture in the list", path);
    return nd_status_ok;
}

nd_status nd_source_open_list(const char *path, nd_split asked, nd_split otherwise, nd_source **out) {
    (void)otherwise;
    *out = NULL;
    ND_TRY(nd_source_refuse_split(path, asked));
    nd_buffer *file;
    ND_TRY(nd_file_map(path, &file));
    const char *slash = strrchr(path, '/');
    char folder[4096];
    nd_files *files = NULL;
    const int length = slash ? snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path)
                             : snprintf(folder, sizeof folder, ".");
    if (slash == path) strcpy(folder, "/");
    nd_status status = length >= 0 && (size_t)length < sizeof folder
                           ? nd_files_new(folder, &files)
                           : nd_fail(nd_status_input, "%s: path too long", path);
    if (!status) status = list_read(files, path, file);
    nd_buffer_unref(file);
    if (status)
        nd_files_free(files);
    else
        *out = nd_files_source(files);
    return status;
}
