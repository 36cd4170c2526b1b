#include "decouple/methods/method.h"

#include <string.h>

const nd_method *const nd_method_table[] = {
    &nd_method_dwpw,
    &nd_method_pwdw,
    &nd_method_dwpw_lowrank,
    &nd_method_spatial,
    &nd_method_channel,
    &nd_method_prune,
    &nd_method_lowrank,
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
