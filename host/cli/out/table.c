#include "cli/cli.h"

#include "base/text/escape.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct nd_table {
    size_t columns, cells, capacity;
    char **texts; /* row by row, the headings first; arena memory */
    nd_arena arena;
};

nd_table *nd_table_new(const char *const *headings) {
    nd_table *table = calloc(1, sizeof *table);
    if (!table) return NULL;
    while (headings[table->columns]) table->columns++;
    for (size_t i = 0; i < table->columns; i++) nd_table_cell(table, "%s", headings[i]);
    return table;
}

void nd_table_cell(nd_table *table, const char *format, ...) {
    if (!table) return;
    char **texts = nd_array_grow(table->texts, table->cells, &table->capacity, sizeof *texts);
    if (!texts) return;
    table->texts = texts;
    char text[512], shown[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    nd_escape(text, "", shown, sizeof shown);
    table->texts[table->cells++] = nd_arena_strdup(&table->arena, shown);
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static int table_width(const char *text) {
    int width = 0;
    for (; text && *text; text++) width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static bool table_numeric(const nd_table *table, size_t column) {
    for (size_t i = table->columns + column; i < table->cells; i += table->columns) {
        const char *text = table->texts[i];
        if (text && *text && !isdigit((unsigned char)text[0]) && !strchr("-+.", text[0])) return false;
    }
    return true;
}

void nd_table_print(nd_table *table, FILE *file) {
    if (!table) return;
    int gap = 0; /* blanks owed: printed before the next text, so that no line ends in them */
    for (size_t i = 0; file && i < table->cells; i++) {
        const size_t column = i % table->columns;
        int width = 0;
        for (size_t j = column; j < table->cells; j += table->columns) {
            int other = table_width(table->texts[j]);
            if (other > width) width = other;
        }
        const char *text = table->texts[i] ? table->texts[i] : "";
        const bool right = table_numeric(table, column);
        const int pad = width - table_width(text);
        if (right) gap += pad;
        if (*text) {
            fprintf(file, "%*s%s", gap, "", text);
            gap = 0;
        }
        gap += right ? 2 : pad + 2;
        if (column + 1 == table->columns || i + 1 == table->cells) {
            fputc('\n', file);
            gap = 0;
        }
    }
    free(table->texts);
    nd_arena_free(&table->arena);
    free(table);
}
