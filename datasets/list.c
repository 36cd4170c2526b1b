/* list:FILE, as Caffe has it: a picture and its class on each line. Names may hold spaces or stand in double
 * quotes; the class is the last word, behind white space or a comma. A line without a class is a picture of
 * unknown class, and said. Names are relative to the list's folder. */
#include "datasets/source.h"

#include "base/log.h"
#include "base/text/text.h"
#include "datasets/lines.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct nd_list {
    nd_files *files;
    const char *folder;
    int64_t unlabelled, first; /* lines without a class, and the first of them */
} nd_list;

static bool list_exists(const char *folder, const char *name) {
    char path[nd_line_max + 4096];
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", *name == '/' ? "" : folder, name);
    return !stat(path, &about);
}

/* As Windows writes them, unless a file is really called so. */
static void list_turn_slashes(const char *folder, char *name) {
    if (!strchr(name, '\\') || list_exists(folder, name)) return;
    for (char *c = name; *c; c++)
        if (*c == '\\') *c = '/';
}

static nd_status list_line(nd_list *list, nd_lines *lines) {
    char whole[nd_line_max];
    int64_t label = -1;
    memcpy(whole, lines->text, sizeof whole);
    char *name = lines->text, *word = nd_line_cut_last(name);
    if (!word || !nd_text_int(word, &label)) { /* the last word is part of the name */
        memcpy(name, whole, sizeof whole);
        label = -1;
    }
    ND_REQUIRE(label >= -1 && label <= INT32_MAX, nd_status_format,
               "%s:%lld: class %lld: expected 0 or more, or -1 for unknown", lines->path,
               (long long)lines->number, (long long)label);
    if (label < 0 && !list->unlabelled++) list->first = lines->number;
    name = nd_line_unquote(name);
    ND_REQUIRE(name && *name, nd_status_format, "%s:%lld: %s", lines->path, (long long)lines->number,
               name ? "a class without a picture" : "a quote that is not closed");
    list_turn_slashes(list->folder, name);
    return nd_files_add(list->files, name, (int32_t)label, lines->number);
}

static nd_status list_read(nd_list *list, nd_lines *lines) {
    bool more;
    for (;;) {
        ND_TRY(nd_lines_next(lines, &more));
        if (!more) break;
        ND_TRY(list_line(list, lines));
    }
    const int64_t count = nd_files_source(list->files)->count;
    ND_REQUIRE(count, nd_status_format, "%s: no picture in the list", lines->path);
    if (list->unlabelled && list->unlabelled < count)
        nd_log(nd_log_warn, "%s:%lld: no class on this line%s; %lld of %lld pictures are in no accuracy",
               lines->path, (long long)list->first, list->unlabelled > 1 ? " and others" : "",
               (long long)list->unlabelled, (long long)count);
    return nd_status_ok;
}

nd_status nd_source_open_list(const char *path, nd_split asked, nd_split otherwise, nd_source **out) {
    (void)otherwise;
    *out = NULL;
    ND_TRY(nd_source_refuse_split(path, asked));
    nd_lines lines;
    ND_TRY(nd_lines_open(path, &lines));
    const char *slash = strrchr(path, '/');
    char folder[4096];
    nd_list list = {.folder = folder};
    const int length = slash ? snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path)
                             : snprintf(folder, sizeof folder, ".");
    if (slash == path) strcpy(folder, "/");
    nd_status status = length >= 0 && (size_t)length < sizeof folder
                           ? nd_files_new(folder, path, &list.files)
                           : nd_fail(nd_status_input, "%s: path too long", path);
    if (!status) status = list_read(&list, &lines);
    nd_lines_close(&lines);
    if (status)
        nd_files_free(list.files);
    else
        *out = nd_files_source(list.files);
    return status;
}
