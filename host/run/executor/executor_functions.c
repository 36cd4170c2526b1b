#include "run/executor/executor_functions.h"

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

/* Torch exports hard swish as this gate, with a sixth in fp32. */
static bool is_sixth(float x) {
    return x > 0.166666f && x < 0.166667f;
}

bool nd_exec_gate(const nd_node *node, nd_activation *out) {
    if (node->op == nd_op_sigmoid) {
        *out = (nd_activation){.act = nd_act_swish, .a = 1};
        return true;
    }
    *out = (nd_activation){.act = nd_act_hard_swish};
    return node->op == nd_op_hard_sigmoid && is_sixth(node->attr.alpha) && node->attr.beta == 0.5f;
}

nd_activation nd_exec_epilogue(const nd_node *nodes, int act, int gate) {
    nd_activation activation = {0};
    if (gate >= 0)
        nd_exec_gate(&nodes[gate], &activation);
    else if (act >= 0)
        nd_exec_activation(&nodes[act], &activation);
    return activation;
}

/* By the operator's name; truth values are 0 and 1. `turned`: the operands change places. */
static const struct {
    const char *op;
    nd_pairing pairing;
    bool turned;
} nd_binary_functions[] = {
    {"Add", nd_pairing_add, false},     {"Sum", nd_pairing_add, false},
    {"Mul", nd_pairing_mul, false},     {"Sub", nd_pairing_sub, false},
    {"Div", nd_pairing_div, false},     {"Pow", nd_pairing_pow, false},
    {"PRelu", nd_pairing_prelu, false}, {"Min", nd_pairing_min, false},
    {"Max", nd_pairing_max, false},     {"And", nd_pairing_min, false},
    {"Or", nd_pairing_max, false},      {"Equal", nd_pairing_equal, false},
    {"Less", nd_pairing_less, false},   {"LessOrEqual", nd_pairing_less_equal, false},
    {"Greater", nd_pairing_less, true}, {"GreaterOrEqual", nd_pairing_less_equal, true},
};

bool nd_exec_pairing(const nd_node *node, nd_pairing *out, bool *turned) {
    const char *op = node->op == nd_op_binary ? node->op_type : nd_op_name(node->op);
    for (size_t i = 0; i < sizeof nd_binary_functions / sizeof *nd_binary_functions; i++) {
        if (strcmp(nd_binary_functions[i].op, op)) continue;
        *out = nd_binary_functions[i].pairing;
        *turned = nd_binary_functions[i].turned;
        return true;
    }
    return false;
}

static const char *const nd_reductions[nd_reduction_count] = {
    [nd_reduction_mean] = "ReduceMean",      [nd_reduction_sum] = "ReduceSum",
    [nd_reduction_max] = "ReduceMax",        [nd_reduction_min] = "ReduceMin",
    [nd_reduction_prod] = "ReduceProd",      [nd_reduction_l1] = "ReduceL1",
    [nd_reduction_l2] = "ReduceL2",          [nd_reduction_sum_square] = "ReduceSumSquare",
    [nd_reduction_log_sum] = "ReduceLogSum", [nd_reduction_log_sum_exp] = "ReduceLogSumExp",
};

bool nd_exec_reduction(const nd_node *node, nd_reduction *out) {
    const char *op = node->op == nd_op_reduce ? node->op_type : nd_op_name(node->op);
    for (int i = 0; i < nd_reduction_count; i++) {
        if (strcmp(nd_reductions[i], op)) continue;
        *out = (nd_reduction)i;
        return true;
    }
    return false;
}
