/* A chain of one to four small convolutions that stands for one regular convolution. Every method makes one;
 * the rewriter, the cost model, refitting and the combinations see nothing else.
 *
 * Only one stage of a chain carries each of stride, dilation and padding per axis (the spatial stages), and
 * only the last carries the bias, so padding stays exact (paper, a.3). */
#ifndef ND_DECOUPLE_CHAIN_H
#define ND_DECOUPLE_CHAIN_H

#include "model/graph.h"

/* A regular convolution as found in a graph: shapes and borrowed weights. Cross-correlation, NCHW. */
typedef struct nd_conv {
    const char *name;
    int64_t no, ni, groups; /* ni counts all groups */
    nd_window window;
    int64_t in_h, in_w;   /* of its input in this graph */
    const float *weights; /* [no][ni/groups][kh][kw] */
    const float *bias;    /* [no], or NULL */
} nd_conv;

/* Fails with nd_status_unsupported when the node is no 2-D conv with constant fp32 weights. The weights live
 * in the graph. */
nd_status nd_conv_from_node(const nd_graph *graph, const nd_node *node, nd_conv *out);

int64_t nd_conv_out_h(const nd_conv *conv);
int64_t nd_conv_out_w(const nd_conv *conv);
int64_t nd_conv_taps(const nd_conv *conv); /* kh * kw */
int64_t nd_conv_macs(const nd_conv *conv); /* one image */

typedef struct nd_stage {
    nd_window window;
    int64_t no, ni, groups; /* of this stage, after `channel` */
    int32_t *channel;       /* NULL, or ni input channel numbers gathered before the convolution (owned) */
    float *weights;         /* [no][ni/groups][kh][kw] (owned) */
    float *bias;            /* NULL or [no] (owned) */
    const char *suffix; /* names the stage: ".dw", ".pw", ".v", ".h", ".reduce", ".expand" (static text) */
} nd_stage;

enum { nd_chain_max = 4 };

typedef struct nd_chain {
    int n;
    nd_stage stages[nd_chain_max];
} nd_chain;

void nd_chain_free(nd_chain *chain);

/* The regular kernel it stands for: weights[no][ni/groups][kh][kw] of `conv`'s shape, in fp64. The error
 * |W' - W| / |W| follows from it. */
nd_status nd_chain_compose(const nd_chain *chain, const nd_conv *conv, double *weights);

int64_t nd_chain_macs(const nd_chain *chain, const nd_conv *conv); /* one image */
int64_t nd_chain_params(const nd_chain *chain);

/* Replaces stage `index` of `chain` by the stages of `inner`, which must stand for that stage. */
nd_status nd_chain_splice(nd_chain *chain, int index, nd_chain *inner);

/* Replaces a conv node by the chain (standard Conv and Gather nodes named NAME + suffix). nd_graph_sort
 * afterwards. */
nd_status nd_chain_rewrite(nd_graph *graph, int node, const nd_chain *chain);

#endif
