/* Result rows: one typed record per result, one JSON object a line, the fields of base/rows/row_fields.h. */
#ifndef ND_BASE_ROW_H
#define ND_BASE_ROW_H

#include "base/memory.h"

#pragma GCC visibility push(default)

typedef enum nd_field {
#define ND_FIELD(name, type, role, text) nd_field_##name,
#include "base/rows/row_fields.h"
    nd_field_count,
} nd_field;

typedef enum nd_field_type {
    nd_field_type_int,
    nd_field_type_real,
    nd_field_type_text,
    nd_field_type_flag,
    nd_field_type_ints,
    nd_field_type_reals,
} nd_field_type;

typedef enum nd_field_role {
    nd_field_role_key,
    nd_field_role_measured,
    nd_field_role_provenance
} nd_field_role;

typedef struct nd_field_info {
    const char *name;
    nd_field_type type;
    nd_field_role role;
    const char *text;
} nd_field_info;

extern const nd_field_info nd_field_table[nd_field_count];
bool nd_field_find(const char *name, nd_field *out); /* by its name, or one that older files have */

enum { nd_row_schema = 1 };

/* A field that is not set is null, and left out by the writers; but where it was set to a real that is no
 * finite number, which JSON cannot hold, JSON says null. */
typedef struct nd_row_value {
    bool set;
    bool no_number;
    int64_t i; /* int, flag, number of elements of an array */
    union {    /* by the field's type */
        double r;
        const char *text;
        const int64_t *ints;
        const double *reals;
    };
} nd_row_value;

/* Owns its texts and arrays. A zeroed struct is an empty row. */
typedef struct nd_row {
    nd_row_value values[nd_field_count];
    nd_arena arena;
} nd_row;

/* Setters copy; out of memory leaves the field null. Setting a field again replaces it. A setter of the wrong
 * type for the field is a bug and leaves it null. A NULL text is null, and so is a real that is infinite or
 * NaN; in an array it is NaN, written as null. Bytes of a text that are no UTF-8 become \xff. */
void nd_row_set_int(nd_row *row, nd_field field, int64_t value);
void nd_row_set_real(nd_row *row, nd_field field, double value);
void nd_row_set_text(nd_row *row, nd_field field, const char *text);
void nd_row_set_flag(nd_row *row, nd_field field, bool value);

/* A MODEL or DATASET ("PATH", "KIND:PATH") by the last part of its path, "vgg16:w.safetensors" for
 * "vgg16:/data/w.safetensors": the folders of a machine are nobody's business and would set equal rows apart.
 * What it holds is told by the SHA-256 beside it. */
void nd_row_set_name(nd_row *row, nd_field field, const char *spec);
void nd_row_set_ints(nd_row *row, nd_field field, const int64_t *values, size_t count);
void nd_row_set_reals(nd_row *row, nd_field field, const double *values, size_t count);
void nd_row_copy(nd_row *dst, const nd_row *src); /* fields set in src overwrite those of dst */
void nd_row_free(nd_row *row);

/* Of a field of reals; NaN where it is null. */
double nd_row_real(const nd_row *row, nd_field field);

/* How many CPU threads, and what says so (base/parallel.h). */
void nd_row_threads(nd_row *row);

/* schema, nd_version, commit, dirty, compiler, host_cpu, command, utc. */
void nd_row_provenance(nd_row *row, int argc, char **argv);

/* SHA-256 over all key fields that are set: equal for comparable rows, and the name of a finished item when a
 * sweep resumes. */
void nd_row_key(const nd_row *row, char hex[65]);

/* One line of JSON without the newline, malloc'd; fields in table order.
 * Reals are written with 17 significant digits, so that reading gives the same bits. */
nd_status nd_row_to_json(const nd_row *row, char **out);

/* `where` ("rows.jsonl:12") goes into messages. Unknown fields are ignored, wrong types refused, and so is a
 * schema above nd_row_schema: its fields may mean something else. */
nd_status nd_row_from_json(const char *line, size_t length, const char *where, nd_row *out);

#pragma GCC visibility pop

#endif
