#include "base/text/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool nd_text_match(const char *pattern, const char *name) {
    /* On a mismatch after a '*', let that star swallow one more character. */
    const char *star = NULL, *resume = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            resume = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return !*pattern;
}

bool nd_text_int(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno) return false;
    *out = value;
    return true;
}

bool nd_text_real(const char *text, double *out) {
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end || errno == ERANGE) return false;
    *out = value;
    return true;
}

enum { nd_text_ints_max = 100000 };

/* One element of a list: "7", "1..9", "1..9+2" or "1..64*2". */
static bool text_range(const char *text, int64_t *first, int64_t *last, int64_t *step, bool *geometric) {
    char copy[64];
    if (strlen(text) >= sizeof copy) return false;
    strcpy(copy, text);
    *step = 1;
    *geometric = false;
    char *dots = strstr(copy, "..");
    if (!dots) {
        if (!nd_text_int(copy, first)) return false;
        *last = *first;
        return true;
    }
    *dots = '\0';
    char *by = strpbrk(dots + 2, "+*");
    if (by) {
        *geometric = *by == '*';
        *by = '\0';
        if (!nd_text_int(by + 1, step) || *step < (*geometric ? 2 : 1)) return false;
    }
    if (!nd_text_int(copy, first) || !nd_text_int(dots + 2, last)) return false;
    return *first <= *last && !(*geometric && *first < 1);
}

nd_status nd_text_ints(const char *text, int64_t **out, size_t *count) {
    *out = NULL;
    *count = 0;
    nd_arena arena = {0};
    char **parts;
    size_t n_parts, capacity = 16, used = 0;
    int64_t *values = malloc(capacity * sizeof *values);
    nd_status status = nd_text_split(&arena, text, ',', &parts, &n_parts);
    if (status) goto done;
    for (size_t i = 0; i < n_parts; i++) {
        int64_t first, last, step;
        bool geometric;
        ND_REQUIRE_DONE(text_range(parts[i], &first, &last, &step, &geometric), nd_status_usage,
                        "\"%s\" is no number or range (7, 1..9, 1..9+2, 1..64*2)", parts[i]);
        for (int64_t value = first; value <= last;) {
            ND_REQUIRE_DONE(used < nd_text_ints_max, nd_status_usage, "\"%s\" has more than %d values", text,
                            nd_text_ints_max);
            if (used == capacity || !values) {
                int64_t *more = realloc(values, 2 * capacity * sizeof *values);
                ND_REQUIRE_DONE(more, nd_status_memory, "no memory for the list \"%s\"", text);
                values = more;
                capacity *= 2;
            }
            values[used++] = value;
            if (geometric ? value > last / step : value > last - step) break;
            value = geometric ? value * step : value + step;
        }
    }
    *out = values;
    *count = used;
    values = NULL;
done:
    free(values);
    nd_arena_free(&arena);
    return status;
}

nd_status nd_text_split(nd_arena *arena, const char *text, char separator, char ***out, size_t *count) {
    size_t parts = 1;
    for (const char *c = text; *c; c++) parts += *c == separator;
    char **list = nd_arena_alloc(arena, (parts + 1) * sizeof *list);
    ND_REQUIRE(list, nd_status_memory, "no memory");
    for (size_t i = 0; i < parts; i++) {
        const char *end = strchr(text, separator);
        size_t length = end ? (size_t)(end - text) : strlen(text);
        list[i] = nd_arena_strndup(arena, text, length);
        ND_REQUIRE(list[i], nd_status_memory, "no memory");
        text = end ? end + 1 : text + length;
    }
    *out = list;
    *count = parts;
    return nd_status_ok;
}
