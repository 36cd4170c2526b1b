#include "decouple/methods/method.h"

int64_t nd_method_macs(const nd_method *method, const nd_conv *conv, nd_ranks ranks, int64_t rank) {
    nd_chain shape = {0};
    method->shape(conv, ranks, rank, &shape);
    return nd_chain_macs(&shape, conv);
}

int64_t nd_method_params(const nd_method *method, const nd_conv *conv, nd_ranks ranks, int64_t rank) {
    nd_chain shape = {0};
    method->shape(conv, ranks, rank, &shape);
    return nd_chain_params(&shape) + (conv->bias ? conv->no : 0);
}
