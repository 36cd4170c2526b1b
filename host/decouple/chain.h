/* A chain of one to five small convolutions that stands for one regular convolution. Every method makes one;
 * the rewriter, the cost model, refitting and the combinations see nothing else.
 *
 * Only one stage of a chain carries each of stride, dilation and padding per axis (the spatial stages), and
 * only the last carries the bias, so padding stays exact (method.md, "Bias, stride, padding").
 *
 * A chain without weights is a shape: enough to count by, and to make room from. */
#ifndef ND_DECOUPLE_CHAIN_H
#define ND_DECOUPLE_CHAIN_H

#include "model/graph.h"

/* An inner product by a constant matrix, Gemm or MatMul, is a pointwise convolution whose channels come last:
 * in_h rows of ni numbers an image, in_w = 1. MatMul has no bias. */
typedef enum nd_product { nd_product_none, nd_product_gemm, nd_product_matmul } nd_product;

/* A regular convolution as found in a graph: shapes and borrowed weights. Cross-correlation, NCHW. */
typedef struct nd_conv {
    const char *name;
    int64_t no, ni, groups; /* ni counts all groups */
    nd_window window;
    int64_t in_h, in_w;   /* of its input in this graph */
    const float *weights; /* [no][ni/groups][kh][kw] */
    const float *bias;    /* [no], or NULL */
    nd_product product;   /* what it is instead */
    const float *stored;  /* of a product: its weights as the graph has them, [ni][no] or [no][ni] */
} nd_conv;

/* Fails with nd_status_unsupported when the node is no 2-D conv with constant fp32 weights. The weights live
 * in the graph. */
nd_status nd_conv_from_node(const nd_graph *graph, const nd_node *node, nd_conv *out);

/* The same of a Gemm or MatMul with a constant fp32 matrix whose rows belong to images. Weights that lie the
 * other way round are copied into the arena. */
nd_status nd_conv_from_product(const nd_graph *graph, const nd_node *node, nd_arena *arena, nd_conv *out);

/* A graph of this convolution alone, its node 0, inferred. x is batch x ni x in_h x in_w, of a product
 * batch x in_h x ni. */
nd_status nd_conv_graph(const nd_conv *conv, int64_t batch, nd_graph **out);

int64_t nd_conv_out_h(const nd_conv *conv);
int64_t nd_conv_out_w(const nd_conv *conv);
int64_t nd_conv_taps(const nd_conv *conv); /* kh * kw */
int64_t nd_conv_macs(const nd_conv *conv); /* one image */

typedef struct nd_stage {
    nd_window window;
    int64_t no, ni, groups; /* of this stage, after `channel` */
    int32_t *channel;       /* NULL, or ni input channel numbers gathered before the convolution (owned) */
    float *weights;         /* [no][ni/groups][kh][kw] (owned); NULL in a shape */
    float *bias;            /* NULL or [no] (owned) */
    int output;             /* its value in the graph that nd_chain_rewrite has put the chain into */
    char suffix[24];        /* names the stage: ".dw", ".pw", ".v", ".h.dw", ".reduce", ".expand" */
} nd_stage;

enum { nd_chain_max = 5 };

typedef struct nd_chain {
    int n;
    int64_t reads; /* of a shape: its first stage gathers from so many of the conv's channels; 0 = from all */
    nd_stage stages[nd_chain_max];
} nd_chain;

void nd_chain_free(nd_chain *chain);

/* Appends a stage to a shape; there must be room for it. Where ni is not what the stage before puts out (for
 * the first: what the conv takes in), the stage gathers its channels. */
void nd_shape_add(nd_chain *shape, const char *suffix, const nd_window *window, int64_t no, int64_t ni,
                  int64_t groups);

/* Zeroed weights and channel numbers for all stages of a shape, and the bias of the conv. */
nd_status nd_chain_allocate(nd_chain *shape, const nd_conv *conv);

/* Appends a stage with zeroed weights, and room for `terms` channel numbers when gathered; the chain owns it
 * at once, so that one nd_chain_free cleans up after a failure. ni is the channels after the gather. */
nd_status nd_chain_add(nd_chain *chain, const char *suffix, const nd_window *window, int64_t no, int64_t ni,
                       int64_t groups, bool gathered, nd_stage **out);
nd_window nd_window_pointwise(void);

/* Gives the last stage the bias of the conv, or none. */
nd_status nd_chain_set_bias(nd_chain *chain, const float *bias);

/* The regular kernel it stands for: weights[no][ni/groups][kh][kw] of `conv`'s shape, in fp64. The error
 * |W' - W| / |W| follows from it. */
nd_status nd_chain_compose(const nd_chain *chain, const nd_conv *conv, double *weights);

int64_t nd_chain_macs(const nd_chain *chain, const nd_conv *conv); /* one image */
int64_t nd_chain_params(const nd_chain *chain);                    /* of a shape: no bias */

/* Channels that stage `index` takes in, as linear functionals of the conv's input: row c lists the non-zero
 * coefficients `value` over `index` in [0, ni*kh*kw) of the conv, rows start[c]..start[c + 1]. */
typedef struct nd_functionals {
    int64_t rows;
    int64_t *start;
    int32_t *index;
    double *value;
} nd_functionals;

nd_status nd_chain_functionals(const nd_chain *chain, const nd_conv *conv, int index, nd_functionals *out);
void nd_functionals_free(nd_functionals *functionals);

/* Stage `index` seen as a convolution of its own, with its place in the network; borrows from the chain. The
 * name is the conv's. A gather is not part of it: its input is what comes after. */
nd_conv nd_chain_stage_conv(const nd_chain *chain, const nd_conv *conv, int index);

/* Replaces stage `index` of `chain` by the stages of `inner`, which must stand for that stage, its bias
 * included. Suffixes are joined, gathers composed. Takes the stages out of `inner`, also on failure. */
nd_status nd_chain_splice(nd_chain *chain, int index, nd_chain *inner);

/* Replaces a conv node by the chain (standard Conv and Gather nodes named NAME + suffix; for a product nodes
 * like the one that is replaced); a shape leaves zeros for weights, to count by. nd_graph_sort afterwards. */
nd_status nd_chain_rewrite(nd_graph *graph, int node, nd_chain *chain);

/* Gives a conv node, or that of a product, new weights [no][ni/groups][kh][kw] and bias, in initializers of
 * its own. */
nd_status nd_conv_set(nd_graph *graph, int node, const nd_conv *conv, const float *weights,
                      const float *bias);

#endif
