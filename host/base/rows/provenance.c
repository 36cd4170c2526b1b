#include "base/parallel.h"
#include "base/rows/row.h"
#include "nd_version.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#if defined(__clang__)
#    define ND_COMPILER "clang " __clang_version__
#else
#    define ND_COMPILER "gcc " __VERSION__
#endif

/* "model name" of the first processor, or an empty string where /proc does not say. */
static void host_cpu(char *name, size_t size) {
    name[0] = '\0';
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        snprintf(name, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    fclose(file);
}

/* Appends while there is room; the text stays ended. */
static void append(char *text, size_t size, size_t *used, char byte) {
    if (*used + 1 >= size) return;
    text[(*used)++] = byte;
    text[*used] = '\0';
}

/* As a POSIX shell reads it: words with anything but plain characters stand in single quotes. The program
 * without its folder. */
static void quote_all(char *text, size_t size, int argc, char **argv) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < argc; i++) {
        const char *slash = i ? NULL : strrchr(argv[0], '/'), *word = slash ? slash + 1 : argv[i];
        const bool quote = !*word || word[strspn(word, plain)];
        if (i) append(text, size, &used, ' ');
        if (quote) append(text, size, &used, '\'');
        for (const char *c = word; *c; c++) {
            if (*c != '\'') {
                append(text, size, &used, *c);
                continue;
            }
            for (const char *escape = "'\\''"; *escape; escape++) append(text, size, &used, *escape);
        }
        if (quote) append(text, size, &used, '\'');
    }
}

void nd_row_threads(nd_row *row) {
    nd_row_set_int(row, nd_field_threads, nd_threads());
    nd_row_set_text(row, nd_field_threads_why, nd_threads_why());
}

void nd_row_provenance(nd_row *row, int argc, char **argv) {
    char text[4096];
    nd_row_set_int(row, nd_field_schema, nd_row_schema);
    nd_row_set_text(row, nd_field_nd_version, ND_VERSION);
    nd_row_set_text(row, nd_field_commit, ND_COMMIT);
    nd_row_set_flag(row, nd_field_dirty, ND_DIRTY);
    nd_row_set_text(row, nd_field_compiler, ND_COMPILER);
    host_cpu(text, sizeof text);
    if (*text) nd_row_set_text(row, nd_field_host_cpu, text);

    quote_all(text, sizeof text, argc, argv);
    nd_row_set_text(row, nd_field_command, text);

    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc))
        nd_row_set_text(row, nd_field_utc, text);
}
