/* Names of a graph's values and nodes: unique within each kind, found by hashing. Private to graph*.c. */
#ifndef ND_MODEL_GRAPH_NAMES_H
#define ND_MODEL_GRAPH_NAMES_H

#include "model/graph.h"

typedef struct nd_graph_names nd_graph_names;

typedef enum nd_named { nd_named_value, nd_named_node, nd_named_count } nd_named;

nd_graph_names *nd_graph_names_new(void); /* NULL when out of memory */
void nd_graph_names_free(nd_graph_names *names);

/* -1 when absent. Items that gave their name up are not found: values named "", nodes without outputs. */
int nd_graph_names_find(const nd_graph *graph, nd_named kind, const char *name);

/* Registers the name of the item about to get number `index`: `wanted` itself where it is free, else with a
 * number after it; `prefix` stands for a missing one. *name is a copy in the graph's arena. */
nd_status nd_graph_names_add(nd_graph *graph, nd_named kind, int index, const char *wanted,
                             const char *prefix, const char **name);

/* After items were renumbered or gave names up. */
nd_status nd_graph_names_renew(nd_graph *graph, nd_named kind);

#endif
