/* What shape inference keeps while it visits a graph. Private to infer*.c. */
#ifndef ND_MODEL_INFER_STATE_H
#define ND_MODEL_INFER_STATE_H

#include "model/dims.h"
#include "model/infer/infer.h"

/* An element of a known value: an integer or truth value, or a floating-point number, by the dtype. */
typedef union nd_number {
    int64_t i;
    double f;
} nd_number;

/* A small tensor that is known before anything runs; `items` is NULL where nothing is. */
typedef struct nd_known {
    nd_number *items;
    nd_dtype dtype; /* i64, i32, bool, f32 or f64 */
    int rank, count;
    int64_t dims[nd_rank_max];
} nd_known;

enum { nd_known_max = 256 }; /* elements of a tensor that is still followed */

typedef struct nd_infer {
    nd_graph *graph;
    const nd_infer_settings *settings;
    nd_known *known; /* by value; values made on the way have none */
    int n_known;
    int64_t declared; /* the batch as the first input had it: -1 unknown */
    nd_arena arena;
} nd_infer;

/* Reads a small initializer, or what an earlier node computed. false when unknown. */
bool nd_infer_known(nd_infer *infer, int value, nd_known *out);

/* Evaluates a node whose inputs are all known, or Shape; its output becomes an initializer. *done says
 * whether it did. */
nd_status nd_infer_evaluate(nd_infer *infer, const nd_node *node, bool *done);

/* The same for Range and ConstantOfShape, which may be long (infer_long.c). */
nd_status nd_infer_long(nd_infer *infer, const nd_node *node, bool *done);

/* Moves constant operands into node->attr (infer_operands.c). Messages leave out the node. */
nd_status nd_infer_operands(nd_infer *infer, nd_node *node);

/* Dims of the outputs, given those of the inputs (infer_shapes.c). Messages leave out the node. */
nd_status nd_infer_shapes(nd_infer *infer, nd_node *node);

/* x: the first input, whose rank is known. y: the first output, which starts as a copy of x's dtype, rank and
 * dims. Those declared here are of windows (infer_windows.c). */
typedef nd_status nd_shaper(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y);
nd_shaper nd_shape_conv, nd_shape_conv_transpose, nd_shape_pool;

/* -rank..rank-1 into 0..rank-1; fails naming `what`. */
nd_status nd_infer_axis(const char *what, int64_t *axis, int rank);

/* The value of input k, or NULL where it is left out. */
static inline nd_value *nd_infer_input(const nd_infer *infer, const nd_node *node, int k) {
    return k < node->n_in && node->in[k] >= 0 ? &infer->graph->values[node->in[k]] : NULL;
}

/* The dims of a value in text, for a message. */
enum { nd_dims_text = 8 * 21 + 1 }; /* room for nd_rank_max dims */
#define ND_DIMS(value) nd_dims_format((value)->rank, (value)->dims, (char[nd_dims_text]){0}, nd_dims_text)

#endif
