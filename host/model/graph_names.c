#include "model/graph_names.h"

#include <stdlib.h>
#include <string.h>

/* Open addressing over indices into values or nodes. An entry is never taken out: a lookup passes over
 * indices whose item has given its name up. */
typedef struct nd_name_table {
    int *slots; /* index + 1, or 0 */
    size_t size, used;
} nd_name_table;

struct nd_graph_names {
    nd_name_table tables[nd_named_count];
    uint64_t fresh; /* the last number given to a name that was taken or missing */
};

nd_graph_names *nd_graph_names_new(void) {
    return calloc(1, sizeof(nd_graph_names));
}

void nd_graph_names_free(nd_graph_names *names) {
    if (!names) return;
    for (int i = 0; i < nd_named_count; i++) free(names->tables[i].slots);
    free(names);
}

/* Empty for an item that gave its name up. */
static const char *name_of(const nd_graph *graph, nd_named kind, int index) {
    if (kind == nd_named_value) return graph->values[index].name;
    const nd_node *node = &graph->nodes[index];
    return node->n_out ? node->name : "";
}

static uint64_t name_hash(const char *name) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    return hash;
}

int nd_graph_names_find(const nd_graph *graph, nd_named kind, const char *name) {
    const nd_name_table *table = &graph->names->tables[kind];
    if (!table->size || !*name) return -1;
    for (size_t at = name_hash(name) % table->size; table->slots[at]; at = (at + 1) % table->size) {
        int index = table->slots[at] - 1;
        if (!strcmp(name_of(graph, kind, index), name)) return index;
    }
    return -1;
}

static void name_put(nd_name_table *table, const char *name, int index) {
    size_t at = name_hash(name) % table->size;
    while (table->slots[at]) at = (at + 1) % table->size;
    table->slots[at] = index + 1;
    table->used++;
}

nd_status nd_graph_names_renew(nd_graph *graph, nd_named kind) {
    nd_name_table *table = &graph->names->tables[kind];
    const int count = kind == nd_named_value ? graph->n_values : graph->n_nodes;
    const size_t size = 64 + 4 * (size_t)count;
    int *slots = calloc(size, sizeof *slots);
    ND_REQUIRE(slots, nd_status_memory, "%s: no memory for %zu names", graph->name, size);
    free(table->slots);
    *table = (nd_name_table){.slots = slots, .size = size};
    for (int i = 0; i < count; i++) {
        const char *name = name_of(graph, kind, i);
        if (*name) name_put(table, name, i);
    }
    return nd_status_ok;
}

nd_status nd_graph_names_add(nd_graph *graph, nd_named kind, int index, const char *wanted,
                             const char *prefix, const char **name) {
    nd_name_table *table = &graph->names->tables[kind];
    /* At most half full, so that a search always meets an empty slot soon. */
    if (table->used + 1 > table->size / 2) ND_TRY(nd_graph_names_renew(graph, kind));
    const bool given = wanted && *wanted;
    if (given) prefix = wanted;
    if (given && nd_graph_names_find(graph, kind, wanted) < 0) {
        *name = nd_arena_strdup(&graph->arena, wanted);
    } else {
        do {
            *name =
                nd_arena_printf(&graph->arena, "%s_%llu", prefix, (unsigned long long)++graph->names->fresh);
        } while (*name && nd_graph_names_find(graph, kind, *name) >= 0);
    }
    ND_REQUIRE(*name, nd_status_memory, "%s: no memory for a name", graph->name);
    name_put(table, *name, index);
    return nd_status_ok;
}
