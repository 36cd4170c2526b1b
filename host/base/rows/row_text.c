#include "base/rows/row_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The shortest of 15 to 17 significant digits that reads back as the same bits. In an array there may be what
 * is no number. */
static void print_real(FILE *file, double value) {
    char text[40] = "null";
    for (int digits = 15; digits <= 17 && isfinite(value); digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    fputs(text, file);
}

static void print_value(FILE *file, nd_field_type type, const nd_row_value *value) {
    switch (type) {
    case nd_field_type_int:
        fprintf(file, "%" PRId64, value->i);
        return;
    case nd_field_type_flag:
        fputs(value->i ? "true" : "false", file);
        return;
    case nd_field_type_real:
        print_real(file, value->r);
        return;
    case nd_field_type_text:
        fputs(value->text, file);
        return;
    case nd_field_type_ints:
    case nd_field_type_reals:
        break;
    }
    fputc('[', file);
    for (int64_t i = 0; i < value->i; i++) {
        if (i) fputc(',', file);
        if (type == nd_field_type_ints)
            fprintf(file, "%" PRId64, value->ints[i]);
        else
            print_real(file, value->reals[i]);
    }
    fputc(']', file);
}

char *nd_row_value_text(nd_field field, const nd_row_value *value) {
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    if (!file) return NULL;
    print_value(file, nd_field_table[field].type, value);
    bool failed = ferror(file);
    if (fclose(file) || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* Both parse one number at *at and move past it. */
static bool parse_int(const char **at, int64_t *out) {
    char *end;
    long long value = strtoll(*at, &end, 10);
    if (end == *at) return false;
    *at = end;
    *out = value;
    return true;
}

static bool parse_real(const char **at, double *out) {
    static const char null[] = "null";
    char *end;
    if (!strncmp(*at, null, sizeof null - 1)) {
        *at += sizeof null - 1;
        *out = NAN;
        return true;
    }
    *out = strtod(*at, &end);
    if (end == *at) return false;
    *at = end;
    return true;
}

static bool parse_array(nd_row *row, nd_field field, const char *text) {
    bool reals = nd_field_table[field].type == nd_field_type_reals;
    size_t capacity = 1;
    for (const char *c = text; *c; c++) capacity += *c == ',';
    double *r = malloc(capacity * sizeof *r);
    int64_t *i = malloc(capacity * sizeof *i);
    size_t count = 0;
    bool good = r && i && *text++ == '[';
    if (good && text[0] == ']' && !text[1]) text++;
    while (good && *text) {
        good = count < capacity && (reals ? parse_real(&text, &r[count]) : parse_int(&text, &i[count]));
        count++;
        if (good && *text == ']' && !text[1])
            text++;
        else
            good = good && *text++ == ',';
    }
    good = good && text[-1] == ']';
    if (good && reals) nd_row_set_reals(row, field, r, count);
    if (good && !reals) nd_row_set_ints(row, field, i, count);
    free(r);
    free(i);
    return good && row->values[field].set;
}

static bool parse_value(nd_row *row, nd_field field, const char *text) {
    const char *at = text;
    int64_t i;
    double r;
    switch (nd_field_table[field].type) {
    case nd_field_type_int:
        if (!parse_int(&at, &i) || *at) return false;
        nd_row_set_int(row, field, i);
        return true;
    case nd_field_type_real:
        if (!parse_real(&at, &r) || *at) return false;
        nd_row_set_real(row, field, r);
        return true;
    case nd_field_type_flag:
        if (strcmp(text, "true") && strcmp(text, "false")) return false;
        nd_row_set_flag(row, field, text[0] == 't');
        return true;
    case nd_field_type_text:
        nd_row_set_text(row, field, text);
        return row->values[field].set;
    case nd_field_type_ints:
    case nd_field_type_reals:
        return parse_array(row, field, text);
    }
    return false;
}

nd_status nd_row_value_parse(nd_row *row, nd_field field, const char *text, size_t length,
                             const char *where) {
    char *copy = malloc(length + 1);
    ND_REQUIRE(copy, nd_status_memory, "%s: out of memory", where);
    memcpy(copy, text, length);
    copy[length] = 0;
    nd_status status = nd_status_ok;
    if (!parse_value(row, field, copy))
        status = nd_fail(nd_status_format, "%s: field %s: '%.40s' is not of its type", where,
                         nd_field_table[field].name, copy);
    free(copy);
    return status;
}

bool nd_row_value_equal(nd_field field, const nd_row_value *a, const nd_row_value *b) {
    if (a->set != b->set) return false;
    if (!a->set) return true;
    switch (nd_field_table[field].type) {
    case nd_field_type_int:
    case nd_field_type_flag:
        return a->i == b->i;
    case nd_field_type_real:
        return a->r == b->r;
    case nd_field_type_text:
        return !strcmp(a->text, b->text);
    case nd_field_type_ints:
        return a->i == b->i && (!a->i || !memcmp(a->ints, b->ints, (size_t)a->i * sizeof *a->ints));
    case nd_field_type_reals:
        return a->i == b->i && (!a->i || !memcmp(a->reals, b->reals, (size_t)a->i * sizeof *a->reals));
    }
    return false;
}

bool nd_cell_add(nd_cell *cell, char byte) {
    char *text = nd_array_grow(cell->text, cell->length + 1, &cell->capacity, 1); /* and the NUL */
    if (!text) return false;
    cell->text = text;
    cell->text[cell->length++] = byte;
    cell->text[cell->length] = 0;
    return true;
}

nd_row *nd_row_list_add(nd_row_list *list) {
    nd_row *rows = nd_array_grow(list->rows, list->count, &list->capacity, sizeof *rows);
    if (!rows) return NULL;
    list->rows = rows;
    nd_row *row = &list->rows[list->count++];
    *row = (nd_row){0};
    return row;
}

bool nd_cursor_line(nd_cursor *cursor, const char **line, const char **end) {
    if (cursor->at >= cursor->end) return false;
    const char *newline = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
    *line = cursor->at;
    *end = newline ? newline : cursor->end;
    cursor->at = newline ? newline + 1 : cursor->end;
    if (*end > *line && (*end)[-1] == '\r') --*end;
    cursor->line++;
    return true;
}
