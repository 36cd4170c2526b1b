/* The executor from the inside. Opening one goes through these steps, each a file:
 *
 *   executor_dynamic.c which nodes run/dynamic/ runs, after all others
 *   executor_values.c  dims of every value for the executor's batch; which nodes are needed; uses
 *   executor_fuse.c    nodes that will run as one kernel; executor_functions.c: which may end it
 *   executor_place.c   where values live: slots of memory, and views of slots
 *   executor_quant.c   what QuantizeLinear and DequantizeLinear say
 *   executor_lower.c   nodes become works; with executor_group, _convolve, _elementwise, _product, _einsum,
 *                      _normalize, _resize and executor_move.c
 *   executor_emit.c    works become steps, with copies where the backend wants another layout
 *   executor_host.c    steps of which the backend has no kernel, run by the reference on the host
 *   executor_plan.c    slots get lifetimes, then offsets in one block of memory
 *
 * Nothing is allocated on the device before the plan is known, and nothing at all while running. */
#ifndef ND_RUN_EXECUTOR_PARTS_H
#define ND_RUN_EXECUTOR_PARTS_H

#include "run/dynamic/dynamic.h"
#include "run/executor.h"
#include "run/executor/executor_functions.h"

/* A region of device memory with one lifetime, in elements of its own size. */
typedef struct nd_slot {
    int64_t elements;
    size_t element;      /* bytes */
    int first, last;     /* steps that touch it; first > last: none */
    int64_t offset;      /* in the block of activations, in its own elements */
    bool pinned;         /* inputs of the network: uploaded once, may be run many times */
    const float *source; /* constants: what to upload; they have memory of their own */
    nd_view source_view;
    nd_memory *memory;
} nd_slot;

/* Where a value is: a view of a slot, with its offset relative to the slot. */
typedef struct nd_place {
    int slot; /* -1: nowhere yet */
    nd_view view;
    nd_quant quant; /* 8 bits; scale 0: the storage type of the precision */
} nd_place;

typedef struct nd_exec_value {
    int rank;
    int64_t dims[nd_rank_max];
    bool fed, wanted; /* an input or an output of this executor */
    bool fixed;       /* computed from constants alone: the same for all images, of any batch */
    int uses, user;   /* needed nodes that read it; the last of them */
    int producer;     /* needed node that makes it, or -1 */
    int parent;       /* made directly inside this value (of a Concat), or -1 */
    int parent_axis, nesting;
    int64_t parent_start;
    nd_place place;
    nd_place real; /* of a quantised value: where it is dequantised, once somebody asked */
} nd_exec_value;

/* Nodes that run as one kernel; -1 where absent. They are lowered at the last one's position, when the
 * residual is ready too. */
typedef struct nd_group {
    int pad;               /* zero padding, folded into the window */
    int gather, depthwise; /* of a separable pair whose pointwise part is `main` */
    int again;             /* DequantizeLinear between these two, of the integers that were gathered */
    int middle;            /* QuantizeLinear between the two, DequantizeLinear after it */
    int main;
    int bias;     /* Add of a constant per channel */
    int residual; /* Add of a computed value */
    int act;
    int gate;     /* Sigmoid of what comes before: `act` (or `main`, alone) is the Mul of the two, SiLU */
    int quantize; /* QuantizeLinear of the result */
    int last;
} nd_group;

/* A step that runs on the host, as a work on dense copies of its operands. */
typedef struct nd_host {
    nd_work work;
    const char *op; /* the operator it is of */
    char engine[40];
    float *x, *x2, *y; /* NULL where unused; in the arena */
    bool x_constant, x2_constant;
    int64_t bytes; /* that a run moves */
} nd_host;

typedef struct nd_step {
    nd_work work;
    int x, x2, y; /* slots, -1 where unused */
    const char *name;
    nd_kernel *kernel;
    nd_host *host; /* instead of a kernel */
    int64_t macs;
    double ns;
    nd_precision precision;
} nd_step;

struct nd_exec {
    nd_backend *backend;
    const nd_graph *graph;
    nd_exec_settings settings; /* with its own copies of the lists, batch resolved */
    int64_t asked;             /* images a run may have: more than settings.batch where that had to shrink */
    int64_t inferred;          /* images that the graph was inferred for; 0 until that is known */
    bool per_image;            /* no node mixes images, so that fewer than a batch may run */
    nd_exec_value *values;     /* as graph->values */
    bool *needed;              /* as graph->nodes */
    bool *interpreted;         /* likewise: not planned, as their sizes or integers are known too late */
    int n_interpreted;
    nd_dynamic *dynamic; /* runs those; NULL where there are none */
    int *planned;        /* values to have after the plan has run: outputs, and what `dynamic` reads */
    int n_planned;
    nd_group *groups; /* by their last node; main == -1: none */
    bool *absorbed;   /* nodes that run inside the group of a later node */
    nd_slot *slots;
    int n_slots, cap_slots;
    nd_step *steps;
    int n_steps, cap_steps;
    int n_host; /* of them on the host */
    int64_t block_bytes;
    nd_memory *block, *workspace;
    size_t workspace_bytes;
    void *capture;
    nd_arena arena;   /* lists */
    nd_arena scratch; /* weights in fp32, until the kernels are prepared */
};

/* dynamic */
nd_status nd_exec_divide(nd_exec *exec); /* once it is known what is needed */
bool nd_exec_computed(const nd_exec *exec,
                      int value); /* exists at run time: neither left out nor a constant */
/* Whether run/dynamic/ makes this value. */
bool nd_exec_is_late(const nd_exec *exec, int value);

/* values */
nd_status nd_exec_trace(nd_exec *exec);
const nd_tensor *nd_exec_constant(const nd_exec *exec, const nd_node *node, int index);
int nd_exec_axis(int64_t axis, int rank); /* negative axes count from the end; -1 when out of range */
/* "resnet.fc (Gemm)"; in the arena, "?" when out of memory. */
const char *nd_exec_label(nd_exec *exec, const nd_node *node);

/* Scale and zero of a QuantizeLinear or DequantizeLinear of the whole tensor, as nd stores it; false where
 * they are computed, vary along an axis or are no numbers. */
bool nd_exec_quant(const nd_exec *exec, const nd_node *node, nd_quant *out);
bool nd_exec_quant_same(const nd_quant *a, const nd_quant *b);

/* The integers, or bytes of e4m3, that constant input `index` was dequantised from, and a copied scale per
 * output, where it has one scale or one per index of `axis`; false where it has none or other ones. */
bool nd_exec_integers(nd_exec *exec, const nd_node *node, int index, int axis, int64_t outputs, bool e4m3,
                      const int8_t **q, const float **scales);

nd_status nd_exec_source(nd_exec *exec, int value, nd_place *out); /* the same, dequantised */

/* fuse */
nd_status nd_exec_fuse(nd_exec *exec);
nd_group nd_group_single(int node);
/* The constant operand of an Add or Mul as one number per index of `axis` of the result; NULL when there is
 * none or it varies along other axes. *computed = index of the other input. */
const float *nd_exec_channel_constant(nd_exec *exec, const nd_node *node, int axis, int *computed);
const float *nd_exec_floats(nd_exec *exec, const nd_tensor *tensor); /* fp32, until opened; NULL: no memory */

/* Input `index` of a convolution as `count` numbers, until opened; NULL where it is left out. */
nd_status nd_exec_bias(nd_exec *exec, const nd_node *node, int index, int64_t count, const float **out);

/* Whether a Gemm or MatMul has constant weights (and a bias) that a gemm work takes; else it is a product. */
bool nd_exec_is_gemm(const nd_exec *exec, const nd_node *node);

/* place */
bool nd_exec_index(const nd_tensor *list, int64_t at, int64_t *out); /* false when not i32 or i64 */
bool nd_exec_channels_last(const nd_exec *exec); /* the backend's order, or the other of `turned` */
nd_view nd_exec_layout(const nd_exec *exec, int rank, const int64_t *dims); /* in that order */
nd_status nd_exec_place_new(nd_exec *exec, const nd_view *layout, nd_place *out);
nd_status nd_exec_source_stored(nd_exec *exec, int value,
                                nd_place *out); /* to read from, maybe quantised; constants get a slot */
nd_status nd_exec_target(nd_exec *exec, int value, nd_place *out); /* to write to */
bool nd_exec_broadcast(const nd_view *view, int rank, const int64_t *dims, nd_view *out);

/* emit */
typedef struct nd_operands {
    nd_place x, x2, y;
} nd_operands;

/* Whether the backend runs this as it is; `fast`: and not on general loops. */
bool nd_exec_supports(nd_exec *exec, nd_work work, const nd_operands *operands, bool fast);
/* The same, if need be with operands copied to and from the preferred layout, or row-major. */
bool nd_exec_can_emit(nd_exec *exec, nd_work work, const nd_operands *operands, bool fast);
/* Appends the step, and copies around it: what is fast comes before what needs no copies, and that before the
 * host. nd_status_unsupported names the node. */
nd_status nd_exec_emit(nd_exec *exec, const nd_node *node, nd_work work, const nd_operands *operands);
nd_status nd_exec_emit_copy(nd_exec *exec, const nd_node *node, const nd_place *from, const nd_place *to);

/* host */
bool nd_exec_host_takes(const nd_exec *exec, const nd_work *work, const nd_operands *operands);
nd_status nd_exec_prepare_host(nd_exec *exec,
                               nd_step *step); /* once views are resolved, constants uploaded */
nd_status nd_exec_run_host(nd_exec *exec, const nd_step *step);
void nd_exec_say_host(const nd_exec *exec);

/* lower: executor_lower.c calls executor_group.c (what has weights), executor_elementwise.c (functions of
 * numbers, and reductions) and executor_move.c (what computes nothing). */
nd_status nd_exec_lower(nd_exec *exec);
/* Parts of a group that no kernel of the backend takes with the rest: to be lowered next, in this order. */
typedef struct nd_parts {
    nd_group part[6];
    int n;
} nd_parts;
nd_status nd_exec_lower_weights(nd_exec *exec, const nd_group *group, nd_parts *left);
void nd_exec_find_parents(nd_exec *exec);

typedef nd_status nd_lower(nd_exec *exec, const nd_node *node);
/* x and x2, broadcast to y, through a binary work. */
nd_status nd_exec_lower_pairing(nd_exec *exec, const nd_node *node, const nd_work *work, nd_place x,
                                nd_place x2, const nd_place *y);
nd_lower nd_lower_quantize, nd_lower_dequantize;
/* A function of two operands, the activation after it and the quantisation of both, as the group has them. */
nd_status nd_exec_lower_pair(nd_exec *exec, const nd_group *group);
nd_lower nd_lower_where, nd_lower_reduce, nd_lower_global_average;
/* Over everything but images and channels. */
nd_status nd_lower_global(nd_exec *exec, const nd_node *node, nd_reduction reduction);
nd_lower nd_lower_conv_1d, nd_lower_conv_transpose, nd_lower_einsum;
nd_lower nd_lower_normalize, nd_lower_resize, nd_lower_product;
nd_lower nd_lower_split, nd_lower_expand, nd_lower_tile, nd_lower_blocks;
nd_lower nd_lower_reshape, nd_lower_transpose, nd_lower_slice, nd_lower_concat, nd_lower_pad, nd_lower_gather;

/* plan */
void nd_exec_lifetimes(nd_exec *exec);
/* Offsets for slots so that no two whose lifetimes meet share an element; the largest slots choose first and
 * take the lowest room. Returns the bytes of the block, -1 when out of memory; `align` in bytes. Offsets are
 * in elements of each slot. */
int64_t nd_plan_offsets(nd_slot *slots, int n_slots, int64_t align);

#endif
