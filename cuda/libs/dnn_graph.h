/* Operation graphs, candidates and plans of cuDNN's backend API, for dnn.c. */
#ifndef ND_CUDA_DNN_GRAPH_H
#define ND_CUDA_DNN_GRAPH_H

#include "cuda/libs/dnn.h"

#include <cudnn.h>

enum { nd_dnn_pieces_max = 32, nd_dnn_candidates_max = 512, nd_dnn_name_size = 160 };

/* Unique ids of the tensors that are not virtual. */
enum {
    nd_dnn_uid_x = 1,
    nd_dnn_uid_w,
    nd_dnn_uid_y,
    nd_dnn_uid_bias,
    nd_dnn_uid_x2,
    nd_dnn_uid_virtual = 100
};

/* Every descriptor made for a graph; the last one is the graph itself. */
typedef struct nd_dnn_graph {
    cudnnBackendDescriptor_t pieces[nd_dnn_pieces_max];
    int n_pieces;
    cudnnBackendDescriptor_t graph;
} nd_dnn_graph;

/* fused: with bias, residual and ReLU; else the convolution alone. handle is NULL for a device that is not
 * here. */
nd_status nd_dnn_graph_make(const nd_dnn_problem *problem, bool fused, cudnnHandle_t handle,
                            nd_dnn_graph *graph);
void nd_dnn_graph_free(nd_dnn_graph *graph);

typedef struct nd_dnn_candidate {
    cudnnBackendDescriptor_t config;
    char name[nd_dnn_name_size];
    uint32_t notes; /* bit i: numerical note i */
    bool compiled;  /* when its plan is built: more than a second */
} nd_dnn_candidate;

typedef struct nd_dnn_candidates {
    nd_dnn_candidate *items;
    int count;
} nd_dnn_candidates;

/* All that modes A, B and FALLBACK propose, each once, in that order; of 8 bits those on tensor cores first.
 * device is NULL or a device-property descriptor. */
nd_status nd_dnn_candidates_find(const nd_dnn_graph *graph, cudnnBackendDescriptor_t device,
                                 nd_precision precision, nd_dnn_candidates *candidates);
void nd_dnn_candidates_free(nd_dnn_candidates *candidates);

/* Whether an engine with these notes computes in `precision`. */
bool nd_dnn_notes_allow(uint32_t notes, nd_precision precision);
bool nd_dnn_notes_transform(uint32_t notes); /* whether it multiplies transforms of its operands */
const char *nd_dnn_notes_format(uint32_t notes, char *text, size_t size);

/* *plan is NULL when the engine turns out not to support the graph: no failure. */
nd_status nd_dnn_plan_build(const nd_dnn_candidate *candidate, cudnnHandle_t handle,
                            cudnnBackendDescriptor_t device, cudnnBackendDescriptor_t *plan,
                            int64_t *workspace);

nd_status nd_dnn_set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                     cudnnBackendAttributeType_t type, int64_t count, const void *values);

#endif
