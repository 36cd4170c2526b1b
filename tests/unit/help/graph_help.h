/* Building small graphs by hand. Every call asserts. */
#ifndef ND_TESTS_GRAPH_HELP_H
#define ND_TESTS_GRAPH_HELP_H

#include "base/rng.h"
#include "model/infer/infer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert_eq((call), nd_status_ok, "%s", nd_error())

static inline nd_graph *new_graph(const char *name) {
    nd_graph *graph = NULL;
    OK(nd_graph_new(name, &graph));
    return graph;
}

/* Names may be NULL here and below. */
static inline int add_value(nd_graph *graph, const char *name) {
    int value = -1;
    OK(nd_graph_add_value(graph, name, &value));
    return value;
}

static inline int add_input(nd_graph *graph, const char *name, int rank, const int64_t *dims) {
    int value = -1;
    OK(nd_graph_add_input(graph, name, rank, dims, &value));
    return value;
}

/* Frees the tensor, which the graph shares from then on. */
static inline int add_tensor(nd_graph *graph, const char *name, nd_tensor *tensor) {
    int value = -1;
    OK(nd_graph_add_init(graph, name, tensor, &value));
    nd_tensor_free(tensor);
    return value;
}

/* `items` NULL: zeros. */
static inline int add_floats(nd_graph *graph, const char *name, int rank, const int64_t *dims,
                             const float *items) {
    nd_tensor tensor = {0};
    OK(nd_tensor_new(nd_dtype_f32, rank, dims, &tensor));
    if (items) memcpy(tensor.data, items, nd_tensor_bytes(&tensor));
    return add_tensor(graph, name, &tensor);
}

/* Of any type. */
static inline int add_data(nd_graph *graph, nd_dtype dtype, int rank, const int64_t *dims,
                           const void *items) {
    nd_tensor tensor = {0};
    OK(nd_tensor_new(dtype, rank, dims, &tensor));
    memcpy(tensor.data, items, nd_tensor_bytes(&tensor));
    return add_tensor(graph, NULL, &tensor);
}

static inline int add_normals(nd_graph *graph, const char *name, int rank, const int64_t *dims, nd_rng *rng,
                              float scale) {
    nd_tensor tensor = {0};
    OK(nd_tensor_new(nd_dtype_f32, rank, dims, &tensor));
    for (int64_t i = 0; i < nd_tensor_count(&tensor); i++)
        ((float *)tensor.data)[i] = scale * (float)nd_rng_normal(rng);
    return add_tensor(graph, name, &tensor);
}

/* Rank 0 or 1. */
static inline int add_ints(nd_graph *graph, int rank, int64_t count, const int64_t *items) {
    nd_tensor tensor = {0};
    OK(nd_tensor_new(nd_dtype_i64, rank, &count, &tensor));
    memcpy(tensor.data, items, nd_tensor_bytes(&tensor));
    return add_tensor(graph, NULL, &tensor);
}

/* A node with a new output, which is returned; *node may be NULL. */
static inline int add_node(nd_graph *graph, nd_op op, const char *name, const int *in, int n_in,
                           nd_node **node) {
    int out = add_value(graph, NULL);
    OK(nd_graph_add_node(graph, op, name, in, n_in, &out, 1, node));
    return out;
}

/* The chosen channels of x. */
static inline int add_gather(nd_graph *graph, int x, const int64_t *channel, int64_t count) {
    nd_node *node = NULL;
    const int out =
        add_node(graph, nd_op_gather, NULL, (int[]){x, add_ints(graph, 1, count, channel)}, 2, &node);
    node->attr.axis = 1;
    return out;
}

/* Shapes are there afterwards. */
static inline void finish(nd_graph *graph, int out, int64_t batch) {
    OK(nd_graph_add_output(graph, out));
    OK(nd_graph_sort(graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = batch}));
}

#endif
