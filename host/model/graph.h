/* The typed intermediate representation of a network.
 *
 * A graph is a list of nodes in topological order over a list of values. Node and value numbers are indices
 * into these lists; -1 is "none" (an optional input that is left out). Values that are initializers carry a
 * tensor. Everything named `const char *` lives in the graph's arena; tensor data is shared by reference
 * (base/memory.h), so that cloning a graph copies no weights.
 *
 * What nd cannot interpret stays as an `nd_op_opaque` node with its original bytes: it can be written out
 * again, and only running it is refused. */
#ifndef ND_MODEL_GRAPH_H
#define ND_MODEL_GRAPH_H

#include "base/tensor.h"
#include "base/window.h"

#pragma GCC visibility push(default)

typedef enum nd_op {
    nd_op_opaque,
    nd_op_conv,      /* x, W[no][ni/g][kh][kw], bias? */
    nd_op_gemm,      /* x[n][k], W[m][k] (trans_b) or [k][m], bias? */
    nd_op_matmul,    /* x[..][k], W[k][m], constant or computed */
    nd_op_batchnorm, /* x, gamma, beta, mean, var (inference) */
    nd_op_relu,
    nd_op_clip,
    nd_op_leaky_relu,
    nd_op_sigmoid,
    nd_op_hard_sigmoid,
    nd_op_hard_swish,
    nd_op_add, /* two inputs, broadcast as in numpy */
    nd_op_mul,
    nd_op_max_pool,
    nd_op_average_pool,
    nd_op_global_average_pool,
    nd_op_global_max_pool,
    nd_op_concat,
    nd_op_flatten,
    nd_op_reshape,
    nd_op_squeeze,
    nd_op_unsqueeze,
    nd_op_transpose,
    nd_op_pad,
    nd_op_softmax,
    nd_op_lrn,
    nd_op_dropout, /* identity at inference */
    nd_op_identity,
    nd_op_constant, /* its output value carries the tensor as `init` */
    nd_op_gather,   /* constant indices */
    nd_op_reduce_mean,
    nd_op_slice,
    nd_op_shape, /* this and the rest: arithmetic on shapes, set aside by nd_graph_infer */
    nd_op_cast,
    nd_op_sub,
    nd_op_div,
    nd_op_reduce_prod,
    nd_op_constant_of_shape,
    nd_op_quantize,       /* x, scale, zero point?: of the tensor, or per index of attr.axis */
    nd_op_dequantize,     /* the same, back */
    nd_op_unary,          /* a function of every number, that op_type names: "Sqrt", "Gelu", ... */
    nd_op_binary,         /* likewise of two or more, broadcast: "Pow", "Min", ... */
    nd_op_where,          /* condition, a, b */
    nd_op_normalize,      /* x, scale?, bias?: "LayerNormalization", "GroupNormalization", ... */
    nd_op_split,          /* along an axis */
    nd_op_expand,         /* broadcast to a shape */
    nd_op_tile,           /* repeated along axes */
    nd_op_resize,         /* by interpolation along every axis */
    nd_op_reduce,         /* over axes, as op_type says: "ReduceSum", "ReduceMax", ... */
    nd_op_conv_1d,        /* x[n][ni][l], W[no][ni/g][k], bias?: its axis is the second of the window */
    nd_op_conv_transpose, /* x, W[ni][no/g][kh][kw] or [ni][no/g][k], bias? */
    nd_op_einsum,         /* of two operands; the letters of its axes are in attr */
    nd_op_depth_to_space, /* channels to blocks of pixels, or as op_type says "SpaceToDepth", the reverse */
    nd_op_count,
} nd_op;

const char *nd_op_name(nd_op op); /* the ONNX operator name: "Conv", "GlobalAveragePool", ... */

/* Padding that follows from the input's size: nd_graph_infer works it out into the window. */
typedef enum nd_auto_pad { nd_auto_pad_none, nd_auto_pad_same_upper, nd_auto_pad_same_lower } nd_auto_pad;

/* Resize: how pixels are weighed, where pixel i of the output lies in the input, and what is nearest to it.
 */
typedef enum nd_resize_mode { nd_resize_nearest, nd_resize_linear, nd_resize_cubic } nd_resize_mode;
typedef enum nd_resize_coordinates {
    nd_resize_half_pixel,
    nd_resize_half_pixel_symmetric,
    nd_resize_pytorch_half_pixel,
    nd_resize_align_corners,
    nd_resize_asymmetric,
} nd_resize_coordinates;
typedef enum nd_resize_rounding {
    nd_resize_round_prefer_floor,
    nd_resize_round_prefer_ceil,
    nd_resize_floor,
    nd_resize_ceil,
} nd_resize_rounding;

typedef struct nd_resize {
    nd_resize_mode mode;
    nd_resize_coordinates coordinates;
    nd_resize_rounding rounding;
    float cubic;               /* coefficient a of the cubic kernel */
    bool exclude_outside;      /* pixels outside of the input weigh nothing, else those at its edge repeat */
    float scales[nd_rank_max]; /* output / input, of every axis */
} nd_resize;

/* Pad: what is added is a constant, the elements at the edge in reverse, that one again, those at the other
 * edge. */
typedef enum nd_pad_mode { nd_pad_constant, nd_pad_reflect, nd_pad_edge, nd_pad_wrap } nd_pad_mode;

/* LSTM, GRU and RNN: what becomes of the sums at a gate, and the rest of their attributes. */
typedef enum nd_gate { nd_gate_sigmoid, nd_gate_tanh, nd_gate_relu } nd_gate;

typedef struct nd_recurrence {
    int64_t hidden; /* size of the state, 0 as the weights have it */
    int directions; /* 1 or 2: forward, then backward */
    bool backward;  /* of one direction: from the last step to the first */
    bool batch_first;
    bool reset_after;    /* GRU: the reset gate meets the product with the state, not the state */
    bool coupled;        /* LSTM: the forget gate is one less the input gate */
    float clip;          /* sums are within -clip and clip; infinite where absent */
    nd_gate gates[2][3]; /* by direction: f, g and h of the operator's definition */
} nd_recurrence;

typedef struct nd_attr {
    nd_window window;       /* convolutions, pools */
    nd_auto_pad auto_pad;   /* convolutions, pools */
    int64_t groups;         /* convolutions, normalize */
    bool ceil_mode;         /* pools */
    bool count_include_pad; /* average_pool */
    bool trans_a, trans_b;  /* gemm */
    float alpha, beta;      /* gemm, leaky_relu, hard_sigmoid, lrn, unary */
    float lo, hi;           /* clip; -inf and +inf when absent */
    float epsilon;          /* batchnorm, normalize */
    float bias;             /* lrn */
    float value;            /* pad, constant_of_shape: the constant */
    int64_t size;           /* lrn: window across channels; constant_of_shape: the integer;
                               split: num_outputs, 0 when absent;
                               resize: entries of axes, 0 for all axes;
                               topk: k, where it is no input; gather_nd: axes of the batch;
                               roi_align: sampling points, 0 for as many as pixels;
                               depth_to_space: height and width of a block */
    int64_t axis;   /* concat, flatten, softmax, gather, split, quantize, dequantize, normalize: the first */
    nd_dtype dtype; /* cast */
    bool keep_dims; /* reduce_mean, reduce_prod, reduce */
    bool training;  /* BatchNormalization by statistics of its input: opaque, but for constants */
    bool approximate;        /* unary: Gelu by tanh */
    bool largest;            /* dynamic: TopK takes the largest */
    bool last;               /* dynamic: of equals, ArgMax and ArgMin take the last */
    bool reverse, exclusive; /* dynamic: CumSum */
    bool remainder;          /* dynamic: Mod has the sign of the dividend */
    bool center; /* dynamic: boxes of NonMaxSuppression are a centre and a size; pixels of RoiAlign have their
                    centres at halves */
    bool channels_first; /* depth_to_space: the pixels of a block are the inner part of the channels (CRD) */
    bool flat_softmax;   /* softmax before opset 13: flattened to 2-D at axis */
    nd_resize resize;
    nd_pad_mode pad_mode;
    nd_recurrence recurrence;      /* dynamic: LSTM, GRU, RNN */
    int n;                         /* entries used in the lists below */
    int64_t list[2 * nd_rank_max]; /* squeeze/unsqueeze/reduction axes, reshape dims, transpose perm, pad
                                      begins then ends, slice starts, shape start and end, split sizes, expand
                                      shape, tile repeats, resize sizes (n = 0: scales), conv_transpose
                                      output padding */
    /* slice; axes: resize; ends: conv_transpose sizes of the output, 0 where they follow */
    /* einsum: the letters of the left operand (n) in list, of the right (size) in ends, of the result
     * (groups) in axes */
    int64_t ends[nd_rank_max], axes[nd_rank_max], steps[nd_rank_max];
} nd_attr;

typedef struct nd_node {
    nd_op op;
    bool dynamic; /* opaque, but `attr` is read: it is run by run/dynamic/, on tensors whose sizes or integers
                     are known while running alone */
    /* Never NULL or empty; unique. For layers the torchvision/timm module name where known. */
    const char *name;
    const char *op_type; /* as in the file: names the op of an opaque node */
    int n_in, n_out;
    int *in, *out; /* value numbers; an opaque node's `in` ends with what its subgraphs read from outside */
    nd_attr attr;
    /* The NodeProto it was read as, inside graph->source, or that it stands for: a chain in the place of a
     * convolution has that one's. NULL in graphs without a source. */
    const void *raw;
    size_t raw_bytes;
    const char
        *within; /* the function of the file whose body it is of: read, run and never written. Else NULL */
    const void *norm; /* the NodeProto of the BatchNormalization that was folded into it, or NULL */
    /* What nd changed, for the file: bit k stands for a new constant as input k. A convolution with any is
     * written anew, in the place of `raw` and `norm`; of others only the inputs are. */
    uint32_t edited;
    bool narrowed;   /* its output has fewer channels than in the file */
    nd_dtype stored; /* type of its constants in the file: f16, bf16 and f64 are f32 here */
} nd_node;

/* What a constant was dequantised from: init = q scale, without zero points. In the graph's arena. */
typedef struct nd_integers {
    const int8_t *q; /* dims of the constant; with `e4m3` the bytes of such numbers */
    const float *scales;
    int64_t n_scales; /* 1, or one per index of `axis` */
    int axis;
    bool e4m3;
} nd_integers;

typedef struct nd_value {
    const char *name;
    nd_dtype dtype;
    int rank;                    /* -1 unknown */
    int64_t dims[nd_rank_max];   /* -1 unknown */
    const nd_tensor *init;       /* NULL unless a constant */
    const nd_integers *integers; /* `init` came from these, or NULL */
    const void *raw;             /* an initializer of a type nd does not read: its bytes in graph->source */
    size_t raw_bytes;
    const char *raw_type; /* the type of a TensorProto there, as ONNX calls it; else NULL */
    bool pinned;   /* something in the file that is no node here reads it by name: a subgraph, or a node that
                      nothing    depends on. Not to be replaced by another value, and its width not to be
                      changed */
    bool computed; /* `init` follows from shapes: a node set aside writes it, and nd_graph_infer renews it */
    bool sparse;   /* `raw` is a SparseTensorProto, else a TensorProto */
    int producer;  /* node, or -1 for inputs and initializers; kept by nd_graph_sort */
} nd_value;

typedef struct nd_meta {
    const char *key, *text;
} nd_meta;

typedef struct nd_graph {
    const char *name;
    nd_value *values;
    int n_values, cap_values;
    nd_node *nodes;
    int n_nodes, cap_nodes;
    /* Arithmetic on shapes that nd_graph_infer evaluated: nothing runs it, but another batch needs it again.
     */
    nd_node *aside;
    int n_aside, cap_aside;
    int *inputs, n_inputs; /* run-time inputs only, never initializers */
    int *outputs, n_outputs;
    nd_meta *meta;
    int n_meta, cap_meta;
    int64_t opset;     /* of the default ONNX domain; 17 for graphs nd builds */
    nd_buffer *source; /* the file it came from, when nodes refer to its bytes */
    int64_t exported;  /* images that the first input was declared for, once inferred; 1 where that is open */
    bool anew;         /* is written anew, not as that file with what nd changed (nd_onnx_anew) */
    const char *folder; /* of that file, for its external data; NULL where it has none */
    nd_arena arena;
    struct nd_graph_names *names; /* private: finds values and nodes by name */
} nd_graph;

nd_status nd_graph_new(const char *name, nd_graph **out);
nd_status nd_graph_clone(const nd_graph *graph, nd_graph **out); /* without dead nodes */
void nd_graph_free(nd_graph *graph);                             /* NULL is legal */

/* Building. Names are copied; a taken or NULL name gets a numbered one (prefix kept). Names of values and
 * nodes are not changed afterwards. */
nd_status nd_graph_add_value(nd_graph *graph, const char *name, int *value);
nd_status nd_graph_add_input(nd_graph *graph, const char *name, int rank, const int64_t *dims, int *value);
nd_status nd_graph_add_output(nd_graph *graph, int value);
/* Shares the tensor's buffer. */
nd_status nd_graph_add_init(nd_graph *graph, const char *name, const nd_tensor *tensor, int *value);
/* Gives an existing value a tensor, in place of the one it may have had. */
nd_status nd_graph_set_init(nd_graph *graph, int value, const nd_tensor *tensor);
/* Says what the tensor of a value was dequantised from, until it gets another; copies. */
nd_status nd_graph_set_integers(nd_graph *graph, int value, const nd_integers *integers);
/* Appends at the end of the list and becomes the producer of `out`; the pointer is valid until the next node
 * is added. `node` may be NULL. */
nd_status nd_graph_add_node(nd_graph *graph, nd_op op, const char *name, const int *in, int n_in,
                            const int *out, int n_out, nd_node **node);
nd_status nd_graph_set_meta(nd_graph *graph, const char *key, const char *text);
const char *nd_graph_meta(const nd_graph *graph, const char *key); /* NULL when absent */

/* Rewriting. Removing marks a node dead (n_in and n_out are 0) and frees its name; nd_graph_sort drops dead
 * nodes, nodes nothing depends on, and unused initializers, sorts topologically (keeping the order where it
 * may) and renews every `producer`. Node numbers change by it, value numbers never. A cycle, a value with two
 * producers and one with none are nd_status_format naming node and value. */
void nd_graph_remove_node(nd_graph *graph, int node);
void nd_graph_replace_value(nd_graph *graph, int from, int to); /* every use, graph outputs included */
nd_status nd_graph_sort(nd_graph *graph);

/* Moves the marked nodes (by node number) out of the list, except those that another node or an output reads
 * as data; their outputs carry a tensor. The list is sorted afterwards. nd_graph_bring_back undoes it. */
nd_status nd_graph_set_aside(nd_graph *graph, const bool *marked);
nd_status nd_graph_bring_back(nd_graph *graph);

int nd_graph_find_value(const nd_graph *graph, const char *name); /* -1 when absent */
bool nd_graph_is_quantised(const nd_graph *graph);                /* whether a node of it rounds to 8 bits */
bool nd_graph_is_e4m3(const nd_graph *graph);                     /* whether one rounds to that */
int nd_graph_find_node(const nd_graph *graph, const char *name);
/* Number of uses, those by nodes set aside included; *node = the first user that is not, or -1. */
int nd_graph_uses(const nd_graph *graph, int value, int *node);
bool nd_graph_is_output(const nd_graph *graph, int value);
/* The output that is a list of scores, a number a class, of an inferred graph: of one dimension beside the
 * batch, others being 1. The first with two classes or more comes before one with a single one; -1 where
 * there is none. *classes: how many. */
int nd_graph_class_scores(const nd_graph *graph, int64_t *classes);

/* The initializer that is input `index` of a node, or NULL when that input is absent or computed. */
const nd_tensor *nd_graph_constant(const nd_graph *graph, const nd_node *node, int index);

/* SHA-256 over all initializers that are not computed, sorted by name: name, dtype, dims, bytes. */
void nd_graph_sha256(const nd_graph *graph, char hex[65]);

#pragma GCC visibility pop

#endif
