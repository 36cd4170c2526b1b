#include "base/rows/row_text.h"

#include "base/text/escape.h"

#include <stdlib.h>
#include <string.h>

/* Where a field is written: in the list on top, as a column of the table, or by row in the table of long
 * values. */
typedef enum place { place_nowhere, place_list, place_column, place_detail } place;

static bool is_array(nd_field field) {
    nd_field_type type = nd_field_table[field].type;
    return type == nd_field_type_ints || type == nd_field_type_reals;
}

static place place_of(nd_field field, const nd_row *rows, size_t count) {
    bool any = false, same = true;
    for (size_t r = 0; r < count; r++) {
        any = any || rows[r].values[field].set;
        same = same && nd_row_value_equal(field, &rows[r].values[field], &rows[0].values[field]);
    }
    if (!any) return place_nowhere;
    nd_field_role role = nd_field_table[field].role;
    if (role != nd_field_role_measured && same) return place_list;
    return is_array(field) || role == nd_field_role_provenance ? place_detail : place_column;
}

/* Punctuation that Markdown would act on gets a backslash, as Markdown has it; control characters are escaped
 * (base/text/escape.h), blanks that would be trimmed are \x20, and the empty text is "". */
static void print_text(FILE *file, const char *text) {
    const char *const start = text;
    char shown[nd_escape_longest];
    if (!*text) fputs("\"\"", file);
    while (*text) {
        const bool first = text == start, escaped = nd_escape_next(&text, "", shown);
        const bool edge = first || !*text;
        if (edge && !strcmp(shown, " "))
            fputs("\\x20", file);
        else
            fprintf(file, "%s%s", !escaped && strchr("\\|*<`", *shown) ? "\\" : "", shown);
    }
}

static nd_status print_value(FILE *file, nd_field field, const nd_row_value *value) {
    char *text = nd_row_value_text(field, value);
    ND_REQUIRE(text, nd_status_memory, "md: out of memory");
    if (nd_field_table[field].type == nd_field_type_text)
        print_text(file, text);
    else
        fputs(text, file);
    free(text);
    return nd_status_ok;
}

static nd_status write_list(FILE *file, const nd_row *first, const place *places) {
    bool any = false;
    for (int i = 0; i < nd_field_count; i++) {
        if (places[i] != place_list) continue;
        fprintf(file, "- %s: ", nd_field_table[i].name);
        ND_TRY(print_value(file, (nd_field)i, &first->values[i]));
        fputc('\n', file);
        any = true;
    }
    if (any) fputc('\n', file);
    return nd_status_ok;
}

static nd_status write_table(FILE *file, const nd_row *rows, size_t count, const place *places) {
    fputs("| # |", file);
    for (int i = 0; i < nd_field_count; i++)
        if (places[i] == place_column) fprintf(file, " %s |", nd_field_table[i].name);
    fputs("\n|--:|", file);
    for (int i = 0; i < nd_field_count; i++)
        if (places[i] == place_column)
            fputs(nd_field_table[i].type == nd_field_type_text ? ":--|" : "--:|", file);
    for (size_t r = 0; r < count; r++) {
        fprintf(file, "\n| %zu |", r + 1);
        for (int i = 0; i < nd_field_count; i++) {
            if (places[i] != place_column) continue;
            fputc(' ', file);
            if (rows[r].values[i].set) ND_TRY(print_value(file, (nd_field)i, &rows[r].values[i]));
            fputs(" |", file);
        }
    }
    fputc('\n', file);
    return nd_status_ok;
}

static nd_status write_details(FILE *file, const nd_row *rows, size_t count, const place *places) {
    bool any = false;
    for (size_t r = 0; r < count; r++)
        for (int i = 0; i < nd_field_count; i++) {
            if (places[i] != place_detail || !rows[r].values[i].set) continue;
            if (!any) fputs("\n| # | field | value |\n|--:|:--|:--|\n", file);
            any = true;
            fprintf(file, "| %zu | %s | ", r + 1, nd_field_table[i].name);
            ND_TRY(print_value(file, (nd_field)i, &rows[r].values[i]));
            fputs(" |\n", file);
        }
    return nd_status_ok;
}

nd_status nd_row_md_write(FILE *file, const nd_row *rows, size_t count) {
    if (!count) return nd_status_ok;
    place places[nd_field_count];
    for (int i = 0; i < nd_field_count; i++) places[i] = place_of((nd_field)i, rows, count);
    ND_TRY(write_list(file, rows, places));
    ND_TRY(write_table(file, rows, count, places));
    return write_details(file, rows, count, places);
}
