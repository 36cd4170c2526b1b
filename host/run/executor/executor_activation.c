/* Which nodes are a function of one number, and which. */
#include "run/executor/executor_parts.h"

#include <string.h>

/* By the operator's name. */
static const struct {
    const char *op;
    nd_act act;
} nd_unary_functions[] = {
    {"Abs", nd_act_abs},
    {"Ceil", nd_act_ceil},
    {"Celu", nd_act_celu},
    {"Cos", nd_act_cos},
    {"Elu", nd_act_elu},
    {"Erf", nd_act_erf},
    {"Exp", nd_act_exp},
    {"Floor", nd_act_floor},
    {"Gelu", nd_act_gelu},
    {"Log", nd_act_log},
    {"Mish", nd_act_mish},
    {"Neg", nd_act_neg},
    {"Not", nd_act_hard_sigmoid}, /* 1 - x, of 0 and 1 */
    {"Reciprocal", nd_act_reciprocal},
    {"Round", nd_act_round},
    {"Selu", nd_act_elu},
    {"Sign", nd_act_sign},
    {"Sin", nd_act_sin},
    {"Softplus", nd_act_softplus},
    {"Softsign", nd_act_softsign},
    {"Sqrt", nd_act_sqrt},
    {"Swish", nd_act_swish},
    {"Tanh", nd_act_tanh},
    {"ThresholdedRelu", nd_act_threshold},
};

static bool exec_unary(const nd_node *node, nd_activation *out) {
    for (size_t i = 0; i < sizeof nd_unary_functions / sizeof *nd_unary_functions; i++) {
        if (strcmp(nd_unary_functions[i].op, node->op_type)) continue;
        const nd_act act = nd_unary_functions[i].act;
        const bool approximate = act == nd_act_gelu && node->attr.approximate;
        *out = (nd_activation){approximate ? nd_act_gelu_tanh : act, node->attr.alpha, node->attr.beta};
        return true;
    }
    return false;
}

bool nd_exec_activation(const nd_node *node, nd_activation *out) {
    const nd_attr *attr = &node->attr;
    switch (node->op) {
    case nd_op_relu:
        *out = (nd_activation){.act = nd_act_relu};
        return true;
    case nd_op_clip:
        *out = (nd_activation){.act = nd_act_clip, .a = attr->lo, .b = attr->hi};
        return true;
    case nd_op_leaky_relu:
        *out = (nd_activation){.act = nd_act_leaky_relu, .a = attr->alpha};
        return true;
    case nd_op_sigmoid:
        *out = (nd_activation){.act = nd_act_sigmoid};
        return true;
    case nd_op_hard_sigmoid:
        *out = (nd_activation){.act = nd_act_hard_sigmoid, .a = attr->alpha, .b = attr->beta};
        return true;
    case nd_op_hard_swish:
        *out = (nd_activation){.act = nd_act_hard_swish};
        return true;
    case nd_op_unary:
        return exec_unary(node, out);
    default:
        return false;
    }
}
