/* Inner products by a constant in a graph, for those that read and write them as convolutions. */
#ifndef ND_DECOUPLE_PRODUCT_H
#define ND_DECOUPLE_PRODUCT_H

#include "decouple/chain.h"

/* weights[no][ni] as Gemm with trans_b has them, else as [ni][no]; zeros where they are NULL. */
nd_status nd_product_weights(bool trans_b, int64_t no, int64_t ni, const float *weights, nd_tensor *out);

#endif
