#include "eval/report/report_parts.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a. */
static void hash_bytes(uint64_t *hash, const void *data, size_t bytes) {
    for (const unsigned char *at = data; bytes; at++, bytes--)
        *hash = (*hash ^ *at) * UINT64_C(0x100000001b3);
}

static uint64_t hash_row(const nd_row *row, const nd_field *fields, size_t n_fields) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t f = 0; f < n_fields; f++) {
        const nd_row_value *value = &row->values[fields[f]];
        const nd_field_type type = nd_field_table[fields[f]].type;
        const double real = value->r + 0.0; /* both zeros are equal, and so must their hashes be */
        hash_bytes(&hash, &value->set, sizeof value->set);
        if (!value->set) continue;
        if (type == nd_field_type_text)
            hash_bytes(&hash, value->text, strlen(value->text));
        else if (type == nd_field_type_real)
            hash_bytes(&hash, &real, sizeof real);
        else
            hash_bytes(&hash, &value->i, sizeof value->i);
    }
    return hash;
}

nd_status nd_report_group(nd_report *report, const nd_row *const *rows, size_t n, const nd_field *fields,
                          size_t n_fields, nd_report_groups *out) {
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    *out = (nd_report_groups){.of_row = nd_arena_alloc(&report->arena, (n + 1) * sizeof *out->of_row),
                              .start = nd_arena_alloc(&report->arena, (n + 2) * sizeof *out->start),
                              .rows = nd_arena_alloc(&report->arena, (n + 1) * sizeof *out->rows),
                              .which = nd_arena_alloc(&report->arena, (n + 1) * sizeof *out->which)};
    size_t *first = calloc(slots, sizeof *first); /* 1 + the group's first row; 0: an empty slot */
    if (!first || !out->of_row || !out->start || !out->rows || !out->which) {
        free(first);
        return nd_fail(nd_status_memory, "report: no memory for %zu rows", n);
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = hash_row(rows[i], fields, n_fields) & (slots - 1);
        while (first[at] && !nd_report_same(rows[first[at] - 1], rows[i], fields, n_fields))
            at = (at + 1) & (slots - 1);
        out->of_row[i] = first[at] ? out->of_row[first[at] - 1] : out->n++;
        if (!first[at]) first[at] = i + 1;
        out->start[out->of_row[i] + 1]++;
    }
    free(first);
    for (size_t g = 0; g < out->n; g++) out->start[g + 1] += out->start[g];
    size_t *filled = calloc(out->n + 1, sizeof *filled);
    ND_REQUIRE(filled, nd_status_memory, "report: no memory for %zu rows", n);
    for (size_t i = 0; i < n; i++) {
        const size_t g = out->of_row[i], at = out->start[g] + filled[g]++;
        out->rows[at] = rows[i];
        out->which[at] = i;
    }
    free(filled);
    return nd_status_ok;
}
