/* Functions that a model defines for itself, whose calls are read as the nodes of their bodies. Private to
 * onnx_read.c and onnx_unfold.c. */
#ifndef ND_MODEL_ONNX_UNFOLD_H
#define ND_MODEL_ONNX_UNFOLD_H

#include "model/onnx/onnx_parts.h"

typedef struct nd_onnx_function {
    nd_span body, name, domain; /* of the file */
    int64_t opset;              /* of the ONNX operators in the body, 0 where it does not say */
    bool whole;                 /* it has subgraphs, or hands an input on: a call stays a node */
} nd_onnx_function;

typedef struct nd_onnx_functions {
    nd_onnx_function *items; /* in the arena */
    size_t count, capacity;
} nd_onnx_functions;

nd_status nd_onnx_functions_list(nd_span model, nd_arena *arena, nd_onnx_functions *out);
/* NULL when there is none of that name. */
const nd_onnx_function *nd_onnx_functions_find(const nd_onnx_functions *functions, const char *domain,
                                               const char *name);

/* Calls `visit` with each node of the body as the NodeProto that it is in the place of the call: with the
 * names and attributes it has there. Names that only the body has start with that of the call's first result
 * and "//". */
typedef nd_status nd_onnx_unfolded(void *context, nd_buffer *node);
nd_status nd_onnx_unfold(const nd_onnx_function *function, nd_span call, nd_onnx_unfolded *visit,
                         void *context);

#endif
