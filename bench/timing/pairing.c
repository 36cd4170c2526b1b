#include "bench/timing/pairing.h"

#include "base/rows/row_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_row_set_make(const nd_row *rows, size_t n, nd_row_set *out) {
    *out = (nd_row_set){.rows = rows, .n = n, .keys = calloc(n ? n : 1, sizeof *out->keys)};
    ND_REQUIRE(out->keys, nd_status_memory, "compare: out of memory");
    for (size_t i = 0; i < n; i++) nd_row_key(&rows[i], out->keys[i]);
    return nd_status_ok;
}

void nd_row_set_free(nd_row_set *set) {
    free(set->keys);
    *set = (nd_row_set){0};
}

const nd_row *nd_row_set_find(const nd_row_set *set, const char key[65]) {
    for (size_t i = set->n; i-- > 0;)
        if (!strcmp(set->keys[i], key)) return &set->rows[i];
    return NULL;
}

bool nd_row_is(const nd_row *row, nd_field field, const char *text) {
    return row->values[field].set && !strcmp(row->values[field].text, text);
}

nd_field nd_row_difference(const nd_row *a, const nd_row *b) {
    /* Causes before their consequences: another machine or data set explains the rest. */
    static const nd_field first[] = {nd_field_schema,         nd_field_verb,       nd_field_device,
                                     nd_field_backend,        nd_field_model,      nd_field_weights_sha256,
                                     nd_field_dataset_sha256, nd_field_preprocess, nd_field_n,
                                     nd_field_dtype,          nd_field_threads,    nd_field_batch};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (!nd_row_value_equal(first[i], &a->values[first[i]], &b->values[first[i]])) return first[i];
    for (int f = 0; f < nd_field_count; f++)
        if (nd_field_table[f].role == nd_field_role_key &&
            !nd_row_value_equal((nd_field)f, &a->values[f], &b->values[f]))
            return (nd_field)f;
    return nd_field_count;
}

static void append(char *text, size_t size, const char *format, const char *value) {
    size_t used = strlen(text);
    if (used + 1 < size) snprintf(text + used, size - used, format, value);
}

void nd_row_describe(const nd_row *row, char *text, size_t size) {
    static const struct {
        nd_field field;
        const char *format;
    } parts[] = {{nd_field_model, "%s"},           {nd_field_layer, " %s"},      {nd_field_method, " %s"},
                 {nd_field_implementation, " %s"}, {nd_field_rank, " T=%s"},     {nd_field_dtype, " %s"},
                 {nd_field_batch, " batch %s"},    {nd_field_dataset, " on %s"}, {nd_field_backend, " %s"}};
    char number[32];
    text[0] = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const nd_row_value *value = &row->values[parts[i].field];
        if (!value->set) continue;
        snprintf(number, sizeof number, "%" PRId64, value->i);
        const bool worded = nd_field_table[parts[i].field].type == nd_field_type_text;
        append(text, size, parts[i].format, worded ? value->text : number);
    }
    if (row->values[nd_field_cold].set)
        append(text, size, " %s", row->values[nd_field_cold].i ? "cold" : "hot");
}

/* Rows of two networks that were timed together agree on the original; all others have the model
 * in common. */
static bool same_original(const nd_row *a, const nd_row *b) {
    const nd_row_value *left = &a->values[nd_field_original], *right = &b->values[nd_field_original];
    bool two = left->set || right->set;
    if (!left->set) left = &a->values[nd_field_model];
    if (!right->set) right = &b->values[nd_field_model];
    nd_field sha256 = nd_field_weights_sha256;
    return nd_row_value_equal(nd_field_model, left, right) &&
           (two || nd_row_value_equal(sha256, &a->values[sha256], &b->values[sha256]));
}

/* Fields that rows timed in the same blocks have in common. */
static bool same_blocks(const nd_row *a, const nd_row *b, bool layer_too) {
    static const nd_field fields[] = {nd_field_verb,  nd_field_backend, nd_field_device, nd_field_dtype,
                                      nd_field_batch, nd_field_threads, nd_field_cold};
    if (!same_original(a, b)) return false;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!nd_row_value_equal(fields[i], &a->values[fields[i]], &b->values[fields[i]])) return false;
    return !layer_too ||
           nd_row_value_equal(nd_field_layer, &a->values[nd_field_layer], &b->values[nd_field_layer]);
}

const nd_row *nd_row_dense_partner(const nd_row_set *set, const nd_row *row) {
    const nd_row_value *samples = &row->values[nd_field_samples_ns];
    for (size_t i = set->n; i-- > 0;) {
        const nd_row *other = &set->rows[i];
        const nd_row_value *theirs = &other->values[nd_field_samples_ns];
        if (nd_row_is(other, nd_field_implementation, "dense") && theirs->set && samples->set &&
            theirs->i == samples->i && same_blocks(row, other, true))
            return other;
    }
    return NULL;
}

static bool is_stack(const nd_row *row) {
    return nd_row_is(row, nd_field_layer, "conv stack");
}

/* A layer's row for a stack: the implementation itself, else the unfused one, else dense. */
static const nd_row *stack_member(const nd_row_set *set, const nd_row *stack, const nd_row *dense) {
    static const nd_field what[] = {nd_field_method, nd_field_rank};
    const char *const wanted[] = {stack->values[nd_field_implementation].text, "unfused"};
    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++)
        for (size_t i = set->n; i-- > 0;) {
            const nd_row *row = &set->rows[i];
            bool fits = nd_row_is(row, nd_field_implementation, wanted[w]) &&
                        row->values[nd_field_samples_ns].set && same_blocks(row, dense, true);
            for (size_t k = 0; k < sizeof what / sizeof *what; k++)
                fits = fits && nd_row_value_equal(what[k], &row->values[what[k]], &stack->values[what[k]]);
            if (fits) return row;
        }
    return dense;
}

static bool is_stack_layer(const nd_row *row, const nd_row *stack) {
    return nd_row_is(row, nd_field_implementation, "dense") && row->values[nd_field_layer].set &&
           !is_stack(row) && row->values[nd_field_samples_ns].set && same_blocks(row, stack, false);
}

static bool add_group(nd_pairs *groups, size_t *n, const nd_row *dense, const nd_row *row) {
    const nd_row_value *base = &dense->values[nd_field_samples_ns],
                       *other = &row->values[nd_field_samples_ns];
    if (!base->set || !other->set || base->i != other->i || !base->i) return false;
    double layers = row->values[nd_field_layers].set ? (double)row->values[nd_field_layers].i : 1;
    const nd_row_value *sessions = &row->values[nd_field_sessions];
    groups[(*n)++] = (nd_pairs){.base = base->reals,
                                .other = other->reals,
                                .n = (size_t)base->i,
                                .count = layers,
                                .sessions = sessions->ints,
                                .n_sessions = (size_t)sessions->i};
    return true;
}

nd_status nd_row_groups(const nd_row_set *set, const nd_row *row, nd_pairs **groups, size_t *n) {
    *n = 0;
    *groups = calloc(set->n + 1, sizeof **groups);
    ND_REQUIRE(*groups, nd_status_memory, "compare: out of memory");
    bool complete = true;
    if (is_stack(row)) {
        for (size_t i = 0; i < set->n; i++)
            if (is_stack_layer(&set->rows[i], row))
                complete =
                    add_group(*groups, n, &set->rows[i], stack_member(set, row, &set->rows[i])) && complete;
    } else {
        const nd_row *dense = nd_row_dense_partner(set, row);
        complete = dense && add_group(*groups, n, dense, row);
    }
    if (!complete) *n = 0;
    if (*n) return nd_status_ok;
    free(*groups);
    *groups = NULL;
    return nd_status_ok;
}
