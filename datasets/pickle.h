/* Reads the Python pickles that data sets come in, as data alone.
 *
 * Nothing is ever called: a global and the arguments it would be called with become an object to look at.
 * Protocols 2 to 4, the opcodes that lists, dicts, tuples, numbers, strings and numpy arrays are written
 * with; any other is refused by its code. A pickle that is cut short gives what is complete of it. */
#ifndef ND_DATASETS_PICKLE_H
#define ND_DATASETS_PICKLE_H

#include "base/memory.h"

typedef enum nd_pickle_kind {
    nd_pickle_none,
    nd_pickle_bool,
    nd_pickle_int,
    nd_pickle_text, /* str and bytes alike; points into the file */
    nd_pickle_list,
    nd_pickle_tuple,
    nd_pickle_dict,   /* items: key, value, key, value, ... */
    nd_pickle_global, /* text: "module name" */
    nd_pickle_object, /* items: the global, its arguments (a tuple), its state or nothing */
    nd_pickle_mark,   /* never seen outside */
} nd_pickle_kind;

typedef struct nd_pickle nd_pickle;
struct nd_pickle {
    nd_pickle_kind kind;
    int64_t integer; /* bool and int */
    const char *text;
    size_t length; /* of text, or number of items */
    nd_pickle **items;
    size_t capacity;
};

/* Values live in the arena, texts in `data`. *cut tells whether the end was missing. */
nd_status nd_pickle_parse(const void *data, size_t bytes, const char *name, nd_arena *arena,
                          const nd_pickle **out, bool *cut);

/* NULL when absent, or when `dict` is none. */
const nd_pickle *nd_pickle_get(const nd_pickle *dict, const char *key);
bool nd_pickle_is_text(const nd_pickle *value, const char *text); /* NULL is no text */

#endif
