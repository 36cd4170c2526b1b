/* The interpreter from the inside: a function for every operator, by its name. Private to run/dynamic/.
 *
 *   dynamic.c              the nodes in their order, what they are given and what becomes of it
 *   dynamic_tensor.c       what the functions share
 *   dynamic_elementwise.c  functions of one number and of two, casts, choices
 *   dynamic_move.c         what moves numbers and computes none
 *   dynamic_gather.c       numbers by their indices
 *   dynamic_reduce.c       reductions and running sums
 *   dynamic_select.c       the largest of them
 *   dynamic_suppress.c     NonMaxSuppression
 *   dynamic_roi.c          RoiAlign
 *   dynamic_recurrent.c    LSTM, GRU, RNN
 *   dynamic_integer.c      products of 8-bit integers, and their quantisation
 *   dynamic_quantized.c    8-bit tensors with scales, and operators on them
 *   dynamic_plan.c         all others, as a graph of one node on a backend */
#ifndef ND_RUN_DYNAMIC_DYNAMIC_PARTS_H
#define ND_RUN_DYNAMIC_DYNAMIC_PARTS_H

#include "run/dynamic/dynamic.h"

/* A node under way. Inputs that are left out are NULL; outputs start empty and are made by the function. */
typedef struct nd_call {
    nd_backend *backend;
    const nd_dynamic_runner *runner;
    const nd_graph *graph;
    const nd_node *node;
    const nd_tensor **in;
    nd_tensor *out;
    struct nd_plan_kept *kept; /* of dynamic_plan.c: what was planned for the sizes of the last run */
} nd_call;

/* Messages leave out the node. */
typedef nd_status nd_call_function(nd_call *call);

nd_call_function nd_call_binary, nd_call_unary, nd_call_where, nd_call_cast, nd_call_clip;
nd_call_function nd_call_reshape, nd_call_squeeze, nd_call_unsqueeze, nd_call_flatten, nd_call_identity,
    nd_call_transpose, nd_call_slice, nd_call_split, nd_call_concat, nd_call_expand, nd_call_tile,
    nd_call_pad, nd_call_shape, nd_call_size, nd_call_constant_of_shape, nd_call_range;
nd_call_function nd_call_gather, nd_call_gather_elements, nd_call_gather_nd, nd_call_scatter_elements,
    nd_call_scatter_nd;
nd_call_function nd_call_reduce, nd_call_cumulative, nd_call_top, nd_call_arg, nd_call_nonzero,
    nd_call_suppress;
nd_call_function nd_call_conv_integer, nd_call_matmul_integer, nd_call_quantize_dynamic;
nd_call_function nd_call_quantize, nd_call_dequantize, nd_call_qlinear_conv, nd_call_qlinear_matmul,
    nd_call_qgemm, nd_call_qlinear_concat, nd_call_in_numbers;
nd_call_function nd_call_roi_align, nd_call_recurrent, nd_call_plan;

void nd_plan_kept_free(struct nd_plan_kept *kept); /* NULL is legal */

/* Zeroed, of a size that there is memory for. */
nd_status nd_call_new(nd_dtype dtype, int rank, const int64_t *dims, nd_tensor *out);

/* The same elements under other dims, which are checked to be as many. */
nd_status nd_call_view(const nd_tensor *x, int rank, const int64_t *dims, nd_tensor *out);

/* Input k of the node, which has to be there. */
nd_status nd_call_input(const nd_call *call, int k, const nd_tensor **out);

/* The integers of input k, or where that is left out those of the attribute, `n` of them; -1 where there is
 * neither. */
nd_status nd_call_list(const nd_call *call, int k, int n, const int64_t *attribute, int64_t *list, int max,
                       int *count);

/* The number that input k is; `absent` where it is left out. */
nd_status nd_call_number(const nd_call *call, int k, double absent, double *out);

/* -rank..rank-1 into 0..rank-1. */
nd_status nd_call_axis(int64_t axis, int rank, int *out);

/* Elements before and after an axis. */
int64_t nd_call_outer(const nd_tensor *x, int axis);
int64_t nd_call_inner(const nd_tensor *x, int axis);

/* Strides by which x is read as if it had the dims of `as`, to which it broadcasts. */
void nd_call_strides(const nd_tensor *x, const nd_tensor *as, int64_t *strides);

/* Steps through `rank` axes in row-major order, index[] starting as zeros; false after the last. */
bool nd_call_next(int rank, const int64_t *dims, int64_t *index);

/* y, all of it, from the elements of x that lie at offset + sum of index * stride. */
void nd_call_copy(const nd_tensor *x, int64_t offset, const int64_t *strides, nd_tensor *y);

/* Scale and zero point of an even range of 8 bits that holds 0 and all of x. Numbers that are not finite
 * have none. */
nd_status nd_call_range_of(const float *x, int64_t count, float *scale, float *zero);
/* A number in such a range, as an integer. */
float nd_call_rounded(float x, float scale, float zero);

/* In the type: f32, i64 or bool. */
nd_status nd_call_convert(const nd_tensor *x, nd_dtype dtype, nd_tensor *out);

#endif
