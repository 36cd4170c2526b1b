#include "model/weights/state_dict.h"

#include <stdlib.h>
#include <string.h>

static int entry_compare(const void *left, const void *right) {
    const struct nd_state_dict_entry *a = left, *b = right;
    return strcmp(a->name, b->name);
}

void nd_state_dict_sort(nd_state_dict *file) {
    if (file->n_entries) qsort(file->entries, file->n_entries, sizeof *file->entries, entry_compare);
}

const nd_tensor *nd_state_dict_find(const nd_state_dict *file, const char *name) {
    const struct nd_state_dict_entry key = {.name = name};
    if (!file->n_entries) return NULL;
    const struct nd_state_dict_entry *found =
        bsearch(&key, file->entries, file->n_entries, sizeof *file->entries, entry_compare);
    return found ? &found->tensor : NULL;
}

void nd_state_dict_free(nd_state_dict *file) {
    for (size_t i = 0; i < file->n_entries; i++) nd_tensor_free(&file->entries[i].tensor);
    nd_arena_free(&file->arena);
    *file = (nd_state_dict){0};
}
