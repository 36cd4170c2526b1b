/* Reads the Python pickles that data sets and checkpoints come in, as data alone.
 *
 * Nothing is ever called: a global and the arguments it would be called with become an object to look at,
 * but for collections.OrderedDict, which becomes the dict it stands for. Protocols 2 to 5, the opcodes that
 * lists, dicts, tuples, numbers, strings, numpy arrays and tensors are written with; any other is refused by
 * its code. A pickle that is cut short gives what is complete of it, where that is wanted. */
#ifndef ND_BASE_FORMAT_PICKLE_H
#define ND_BASE_FORMAT_PICKLE_H

#include "base/memory.h"

typedef enum nd_pickle_kind {
    nd_pickle_none,
    nd_pickle_bool,
    nd_pickle_int,
    nd_pickle_big, /* an integer of more than 64 bits: its bytes as text, little-endian two's complement */
    nd_pickle_real,
    nd_pickle_text, /* str and bytes alike; points into the file */
    nd_pickle_list,
    nd_pickle_tuple,
    nd_pickle_dict,       /* items: key, value, key, value, ... */
    nd_pickle_global,     /* text: "module name" */
    nd_pickle_object,     /* items: the global, its arguments (a tuple), its state or nothing */
    nd_pickle_persistent, /* items: the identification of something that lies outside of the pickle */
    nd_pickle_mark,       /* never seen outside */
} nd_pickle_kind;

typedef struct nd_pickle nd_pickle;
struct nd_pickle {
    nd_pickle_kind kind;
    int64_t integer; /* bool and int */
    double real;
    const char *text;
    size_t length; /* of text, or number of items */
    nd_pickle **items;
    size_t capacity;
};

typedef struct nd_pickle_source {
    const void *data;
    size_t bytes;
    const char *name;           /* for messages */
    const char *const *globals; /* NULL-ended: those that may occur, as "module name". NULL: any */
    bool whole;                 /* a missing end is an error */
} nd_pickle_source;

typedef struct nd_pickle_result {
    const nd_pickle *value;
    size_t used; /* bytes up to the end of the pickle */
    bool cut;    /* the end was missing */
    /* Everything that lies outside, in the order of its first mention; one thing may stand here often. */
    const nd_pickle *const *persistent;
    size_t n_persistent;
} nd_pickle_result;

/* Values live in the arena, texts in the source's data. */
nd_status nd_pickle_parse(const nd_pickle_source *source, nd_arena *arena, nd_pickle_result *out);

/* NULL when absent, or when `dict` is none. */
const nd_pickle *nd_pickle_get(const nd_pickle *dict, const char *key);
/* Of a tuple or list, NULL for anything else or outside it; and as a number >= 0. */
const nd_pickle *nd_pickle_item(const nd_pickle *of, size_t index);
bool nd_pickle_item_size(const nd_pickle *of, size_t index, int64_t *out);
/* Of text and global; NULL is no text. */
bool nd_pickle_is_text(const nd_pickle *value, const char *text);

#endif
