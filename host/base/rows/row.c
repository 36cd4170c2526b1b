#include "base/rows/row.h"

#include "base/hash.h"
#include "base/rows/row_text.h"
#include "base/text/escape.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const nd_field_info nd_field_table[nd_field_count] = {
#define ND_FIELD(name, type, role, text) {#name, nd_field_type_##type, nd_field_role_##role, text},
#include "base/rows/row_fields.h"
};

static const struct {
    const char *name;
    nd_field field;
} old_names[] = {
#define ND_FIELD_WAS(old, name) {#old, nd_field_##name},
#include "base/rows/row_fields.h"
};

bool nd_field_find(const char *name, nd_field *out) {
    for (int i = 0; i < nd_field_count; i++) {
        if (strcmp(nd_field_table[i].name, name)) continue;
        *out = (nd_field)i;
        return true;
    }
    for (size_t i = 0; i < sizeof old_names / sizeof *old_names; i++) {
        if (strcmp(old_names[i].name, name)) continue;
        *out = old_names[i].field;
        return true;
    }
    return false;
}

static nd_row_value *row_slot(nd_row *row, nd_field field, nd_field_type type) {
    row->values[field] = (nd_row_value){0};
    return nd_field_table[field].type == type ? &row->values[field] : NULL;
}

void nd_row_set_int(nd_row *row, nd_field field, int64_t value) {
    nd_row_value *slot = row_slot(row, field, nd_field_type_int);
    if (slot) *slot = (nd_row_value){.set = true, .i = value};
}

void nd_row_set_real(nd_row *row, nd_field field, double value) {
    nd_row_value *slot = row_slot(row, field, nd_field_type_real);
    if (slot) *slot = (nd_row_value){.set = isfinite(value), .no_number = !isfinite(value), .r = value};
}

static char *row_copy_text(nd_row *row, const char *text) {
    const size_t size = nd_escape_byte * strlen(text) + 1;
    char *copy = nd_arena_alloc(&row->arena, size);
    if (copy) nd_escape_bytes(text, copy, size);
    return copy;
}

void nd_row_set_text(nd_row *row, nd_field field, const char *text) {
    nd_row_value *slot = row_slot(row, field, nd_field_type_text);
    char *copy = slot && text ? row_copy_text(row, text) : NULL;
    if (copy) *slot = (nd_row_value){.set = true, .text = copy};
}

void nd_row_set_name(nd_row *row, nd_field field, const char *spec) {
    if (!spec) return;
    char name[512];
    const size_t end = strlen(spec), colon = strcspn(spec, ":/");
    const size_t kind = spec[colon] == ':' ? colon + 1 : 0;
    size_t stop = end;
    while (stop > kind + 1 && spec[stop - 1] == '/') stop--;
    size_t start = stop;
    while (start > kind && spec[start - 1] != '/') start--;
    snprintf(name, sizeof name, "%.*s%.*s", (int)kind, spec, (int)(stop - start), spec + start);
    nd_row_set_text(row, field, name);
}

void nd_row_set_flag(nd_row *row, nd_field field, bool value) {
    nd_row_value *slot = row_slot(row, field, nd_field_type_flag);
    if (slot) *slot = (nd_row_value){.set = true, .i = value};
}

static void *row_copy_array(nd_row *row, const void *values, size_t count, size_t size) {
    void *copy = nd_arena_alloc(&row->arena, count * size);
    if (copy && count) memcpy(copy, values, count * size);
    return copy;
}

void nd_row_set_ints(nd_row *row, nd_field field, const int64_t *values, size_t count) {
    nd_row_value *slot = row_slot(row, field, nd_field_type_ints);
    int64_t *copy = slot ? row_copy_array(row, values, count, sizeof *values) : NULL;
    if (copy) *slot = (nd_row_value){.set = true, .i = (int64_t)count, .ints = copy};
}

void nd_row_set_reals(nd_row *row, nd_field field, const double *values, size_t count) {
    nd_row_value *slot = row_slot(row, field, nd_field_type_reals);
    double *copy = slot ? row_copy_array(row, values, count, sizeof *values) : NULL;
    if (!copy) return;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(copy[i])) copy[i] = NAN;
    *slot = (nd_row_value){.set = true, .i = (int64_t)count, .reals = copy};
}

void nd_row_copy(nd_row *dst, const nd_row *src) {
    for (int i = 0; i < nd_field_count; i++) {
        const nd_row_value *value = &src->values[i];
        if (value->no_number && !dst->values[i].set) dst->values[i] = *value;
        if (!value->set) continue;
        switch (nd_field_table[i].type) {
        case nd_field_type_int:
            nd_row_set_int(dst, (nd_field)i, value->i);
            break;
        case nd_field_type_real:
            nd_row_set_real(dst, (nd_field)i, value->r);
            break;
        case nd_field_type_text:
            nd_row_set_text(dst, (nd_field)i, value->text);
            break;
        case nd_field_type_flag:
            nd_row_set_flag(dst, (nd_field)i, value->i != 0);
            break;
        case nd_field_type_ints:
            nd_row_set_ints(dst, (nd_field)i, value->ints, (size_t)value->i);
            break;
        case nd_field_type_reals:
            nd_row_set_reals(dst, (nd_field)i, value->reals, (size_t)value->i);
            break;
        }
    }
}

void nd_row_free(nd_row *row) {
    nd_arena_free(&row->arena);
    *row = (nd_row){0};
}

double nd_row_real(const nd_row *row, nd_field field) {
    return row->values[field].set ? row->values[field].r : NAN;
}

static json_t *real_json(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *row_value_json(nd_field_type type, const nd_row_value *value) {
    json_t *array = NULL;
    if (!value->set) return json_null();
    switch (type) {
    case nd_field_type_int:
        return json_integer(value->i);
    case nd_field_type_flag:
        return json_boolean(value->i);
    case nd_field_type_real:
        return real_json(value->r);
    case nd_field_type_text:
        return json_string(value->text);
    case nd_field_type_ints:
        array = json_array();
        for (int64_t i = 0; i < value->i; i++) json_array_append_new(array, json_integer(value->ints[i]));
        return array;
    case nd_field_type_reals:
        array = json_array();
        for (int64_t i = 0; i < value->i; i++) json_array_append_new(array, real_json(value->reals[i]));
        return array;
    }
    return NULL;
}

/* A row's identity holds no nulls: not every format tells them from what was never set. */
static bool is_dumped(const nd_row_value *value, nd_field_role role, bool keys_only) {
    return keys_only ? value->set && role == nd_field_role_key : value->set || value->no_number;
}

static nd_status row_dump(const nd_row *row, bool keys_only, char **out) {
    *out = NULL;
    json_t *object = json_object();
    bool whole = object != NULL;
    for (int i = 0; i < nd_field_count && whole; i++) {
        const nd_field_info *info = &nd_field_table[i];
        if (!is_dumped(&row->values[i], info->role, keys_only)) continue;
        whole = !json_object_set_new(object, info->name, row_value_json(info->type, &row->values[i]));
    }
    if (whole) *out = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    json_decref(object);
    ND_REQUIRE(*out, nd_status_memory, "no memory for a row");
    return nd_status_ok;
}

nd_status nd_row_to_json(const nd_row *row, char **out) {
    return row_dump(row, false, out);
}

void nd_row_key(const nd_row *row, char hex[65]) {
    char *text;
    nd_sha256_text(row_dump(row, true, &text) == nd_status_ok ? text : "", hex);
    free(text);
}

static bool row_read_array(nd_row *row, nd_field field, const json_t *array) {
    const size_t count = json_array_size(array);
    const bool integers = nd_field_table[field].type == nd_field_type_ints;
    int64_t *ints = nd_arena_alloc(&row->arena, count * sizeof *ints);
    double *reals = nd_arena_alloc(&row->arena, count * sizeof *reals);
    if (!ints || !reals) return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        const bool null = json_is_null(item) && !integers;
        if (!null && (integers ? !json_is_integer(item) : !json_is_number(item))) return false;
        ints[i] = json_integer_value(item);
        reals[i] = null ? NAN : json_number_value(item);
    }
    nd_row_value *slot = &row->values[field];
    *slot = (nd_row_value){.set = true, .i = (int64_t)count};
    if (integers)
        slot->ints = ints;
    else
        slot->reals = reals;
    return true;
}

static bool row_read_value(nd_row *row, nd_field field, const json_t *value) {
    switch (nd_field_table[field].type) {
    case nd_field_type_int:
        if (!json_is_integer(value)) return false;
        nd_row_set_int(row, field, json_integer_value(value));
        return true;
    case nd_field_type_real:
        if (!json_is_number(value)) return false;
        nd_row_set_real(row, field, json_number_value(value));
        return true;
    case nd_field_type_text:
        if (!json_is_string(value)) return false;
        nd_row_set_text(row, field, json_string_value(value));
        return true;
    case nd_field_type_flag:
        if (!json_is_boolean(value)) return false;
        nd_row_set_flag(row, field, json_is_true(value));
        return true;
    case nd_field_type_ints:
    case nd_field_type_reals:
        return json_is_array(value) && row_read_array(row, field, value);
    }
    return false;
}

nd_status nd_row_check_schema(const nd_row *row, const char *where) {
    const nd_row_value *schema = &row->values[nd_field_schema];
    ND_REQUIRE(!schema->set || schema->i <= nd_row_schema, nd_status_format,
               "%s: field schema is %lld: the row is of a newer nd, and this one reads up to %d", where,
               (long long)schema->i, nd_row_schema);
    return nd_status_ok;
}

/* Of a `whole` row no field may be lost. */
static nd_status row_load(const char *line, size_t length, const char *where, bool whole, nd_row *out) {
    *out = (nd_row){0};
    json_error_t error;
    json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
    ND_REQUIRE(object, nd_status_format, "%s: %s%s", where, whole ? "not a row of nd: " : "", error.text);
    nd_status status = nd_status_ok;
    const char *name;
    json_t *value;
    ND_REQUIRE_DONE(json_is_object(object), nd_status_format, "%s: not a JSON object", where);
    json_object_foreach(object, name, value) {
        nd_field field;
        if (!nd_field_find(name, &field)) {
            ND_REQUIRE_DONE(!whole, nd_status_format, "%s: %.60s is no field of this nd's rows", where, name);
            continue;
        }
        if (json_is_null(value)) {
            out->values[field].no_number = nd_field_table[field].type == nd_field_type_real;
            continue;
        }
        ND_REQUIRE_DONE(row_read_value(out, field, value), nd_status_format,
                        "%s: field %s has the wrong type", where, name);
    }
    ND_TRY_DONE(nd_row_check_schema(out, where));
    ND_REQUIRE_DONE(!whole || out->values[nd_field_schema].set, nd_status_format,
                    "%s: not a row of nd: it has no field schema", where);
done:
    if (status) nd_row_free(out);
    json_decref(object);
    return status;
}

nd_status nd_row_from_json(const char *line, size_t length, const char *where, nd_row *out) {
    return row_load(line, length, where, false, out);
}

nd_status nd_row_from_json_whole(const char *line, size_t length, const char *where, nd_row *out) {
    return row_load(line, length, where, true, out);
}
