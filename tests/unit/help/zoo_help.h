/* Architectures without weights. */
#ifndef ND_TESTS_ZOO_HELP_H
#define ND_TESTS_ZOO_HELP_H

#include "model/zoo/zoo.h"
#include "tests/unit/help/graph_help.h"

static inline nd_graph *blank(const char *arch) {
    nd_graph *graph;
    cr_assert_eq(nd_zoo_build(nd_zoo_find(arch), nd_zoo_blank, NULL, &graph), nd_status_ok, "%s", nd_error());
    return graph;
}

#endif
