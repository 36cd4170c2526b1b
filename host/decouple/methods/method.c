#include "decouple/methods/method.h"

#include <string.h>

const nd_method *const nd_method_table[] = {
    &nd_method_dwpw,
    &nd_method_pwdw,
    &nd_method_dwpw_lowrank,
    &nd_method_spatial,
    &nd_method_channel,
    &nd_method_prune,
    &nd_method_spatial_dwpw,
    &nd_method_channel_dwpw,
    &nd_method_channel_pwdw,
    &nd_method_prune_dwpw,
    &nd_method_prune_pwdw,
    &nd_method_spatial_channel,
    &nd_method_prune_channel,
    &nd_method_spatial_channel_pwdw,
    &nd_method_prune_channel_pwdw,
    &nd_method_prune_spatial_channel,
    &nd_method_prune_spatial_channel_pwdw,
    NULL,
};

const nd_method *nd_method_find(const char *name) {
    for (const nd_method *const *method = nd_method_table; *method; method++)
        if (!strcmp((*method)->name, name)) return *method;
    return NULL;
}

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
