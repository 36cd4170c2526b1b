#include "model/onnx/onnx_names.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a, 64 bits. */
static uint64_t hash_of(nd_span text) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < text.bytes; i++) hash = (hash ^ text.data[i]) * UINT64_C(1099511628211);
    return hash;
}

/* The slot that holds the name, or the free one where it would go. */
static size_t slot_of(const nd_file_names *names, nd_span text) {
    size_t at = (size_t)hash_of(text) & (names->n_slots - 1);
    for (; names->slots[at]; at = (at + 1) & (names->n_slots - 1)) {
        if (nd_span_equal(names->items[names->slots[at] - 1].text, text)) break;
    }
    return at;
}

nd_file_name *nd_file_names_find(const nd_file_names *names, nd_span text) {
    if (!names->n_slots) return NULL;
    const size_t item = names->slots[slot_of(names, text)];
    return item ? &names->items[item - 1] : NULL;
}

static nd_status names_widen(nd_file_names *names) {
    const size_t n_slots = names->n_slots ? 2 * names->n_slots : 1024;
    size_t *slots = calloc(n_slots, sizeof *slots);
    ND_REQUIRE(slots, nd_status_memory, "no memory for %zu names", n_slots);
    free(names->slots);
    names->slots = slots;
    names->n_slots = n_slots;
    for (size_t i = 0; i < names->count; i++) slots[slot_of(names, names->items[i].text)] = i + 1;
    return nd_status_ok;
}

nd_status nd_file_names_get(nd_file_names *names, nd_span text, nd_file_name **out) {
    *out = nd_file_names_find(names, text);
    if (*out) return nd_status_ok;
    /* At most half full, so that a search always meets a free slot soon. */
    if (2 * (names->count + 1) > names->n_slots) ND_TRY(names_widen(names));
    nd_file_name *items = nd_array_grow(names->items, names->count, &names->capacity, sizeof *items);
    ND_REQUIRE(items, nd_status_memory, "no memory for a name");
    names->items = items;
    *out = &items[names->count++];
    **out = (nd_file_name){.text = text, .producer = -1};
    names->slots[slot_of(names, text)] = names->count;
    return nd_status_ok;
}

void nd_file_names_free(nd_file_names *names) {
    free(names->items);
    free(names->slots);
    *names = (nd_file_names){0};
}
