#include "datasets/lines.h"

#include "base/files/file.h"

#include <string.h>

static const char nd_line_blank[] = " \t\r";

nd_status nd_lines_open(const char *path, nd_lines *out) {
    static const char mark[] = "\xef\xbb\xbf";
    *out = (nd_lines){.path = path};
    ND_TRY(nd_file_map(path, &out->file));
    if (out->file->bytes >= 3 && !memcmp(out->file->data, mark, 3)) out->at = 3;
    return nd_status_ok;
}

void nd_lines_close(nd_lines *lines) {
    nd_buffer_unref(lines->file);
    lines->file = NULL;
}

static void line_trim(char *line) {
    char *end = line + strlen(line);
    while (end > line && strchr(nd_line_blank, end[-1])) *--end = '\0';
    const size_t lead = strspn(line, nd_line_blank);
    memmove(line, line + lead, strlen(line + lead) + 1);
}

nd_status nd_lines_next(nd_lines *lines, bool *more) {
    const char *data = lines->file->data;
    *more = false;
    while (lines->at < lines->file->bytes) {
        const char *text = data + lines->at, *stop = memchr(text, '\n', lines->file->bytes - lines->at);
        const size_t length = stop ? (size_t)(stop - text) : lines->file->bytes - lines->at;
        lines->at += length + (stop ? 1 : 0);
        lines->number++;
        ND_REQUIRE(length < nd_line_max, nd_status_format, "%s:%lld: a line of %zu bytes, at most %d",
                   lines->path, (long long)lines->number, length, nd_line_max - 1);
        ND_REQUIRE(!memchr(text, '\0', length), nd_status_format, "%s:%lld: not text", lines->path,
                   (long long)lines->number);
        memcpy(lines->text, text, length);
        lines->text[length] = '\0';
        line_trim(lines->text);
        *more = *lines->text != '\0';
        if (*more) break;
    }
    return nd_status_ok;
}

static bool line_separates(char c) {
    return c == ',' || (c && strchr(nd_line_blank, c));
}

char *nd_line_cut_last(char *line) {
    char *word = line + strlen(line);
    while (word > line && !line_separates(word[-1])) word--;
    if (word == line) return NULL;
    char *end = word;
    while (end > line && line_separates(end[-1])) end--;
    if (end == line) return NULL;
    *end = '\0';
    return word;
}

char *nd_line_unquote(char *line) {
    if (*line != '"') return line;
    char *to = line, *from = line + 1;
    while (*from && (*from != '"' || from[1] == '"')) {
        from += *from == '"'; /* two for one */
        *to++ = *from++;
    }
    if (*from != '"' || from[1]) return NULL;
    *to = '\0';
    return line;
}
