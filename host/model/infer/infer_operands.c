/* Operands that newer opsets pass as inputs and that nd needs as constants: shapes, axes, pads, bounds. */
#include "model/infer/infer_state.h"

#include <math.h>
#include <string.h>

/* The integers of input k into list[max]; *count is -1 where the input is left out. */
static nd_status operand_ints(nd_infer *infer, nd_node *node, int k, int64_t *list, int max, int *count) {
    *count = -1;
    const nd_value *input = nd_infer_input(infer, node, k);
    if (!input) return nd_status_ok;
    nd_known known;
    ND_REQUIRE(nd_infer_known(infer, node->in[k], &known), nd_status_unsupported,
               "input %d '%s' is no short list of constant integers", k, input->name);
    ND_REQUIRE(known.rank <= 1, nd_status_format, "input %d '%s' is no list", k, input->name);
    ND_REQUIRE(known.count <= max, nd_status_unsupported, "input %d '%s' has %d entries, at most %d", k,
               input->name, known.count, max);
    ND_REQUIRE(known.dtype == nd_dtype_i64 || known.dtype == nd_dtype_i32, nd_status_format,
               "input %d '%s' is no list of integers", k, input->name);
    for (int i = 0; i < known.count; i++) list[i] = known.items[i].i;
    *count = known.count;
    return nd_status_ok;
}

/* A scalar in fp32; *out is left alone where the input is left out. */
static nd_status operand_scalar(nd_infer *infer, nd_node *node, int k, float *out) {
    const nd_value *input = nd_infer_input(infer, node, k);
    if (!input) return nd_status_ok;
    ND_REQUIRE(input->init && nd_tensor_count(input->init) == 1, nd_status_unsupported,
               "input %d '%s' is no constant scalar", k, input->name);
    nd_tensor_to_f32(input->init, out);
    return nd_status_ok;
}

static nd_status operands_clip(nd_infer *infer, nd_node *node) {
    ND_TRY(operand_scalar(infer, node, 1, &node->attr.lo));
    return operand_scalar(infer, node, 2, &node->attr.hi);
}

static nd_status operands_list(nd_infer *infer, nd_node *node) {
    int count;
    ND_TRY(operand_ints(infer, node, 1, node->attr.list, nd_rank_max, &count));
    if (count >= 0) node->attr.n = count;
    return nd_status_ok;
}

/* Sizes of a Split: as many as it has outputs. */
static nd_status operands_split(nd_infer *infer, nd_node *node) {
    int count;
    ND_TRY(operand_ints(infer, node, 1, node->attr.list, 2 * nd_rank_max, &count));
    if (count >= 0) node->attr.n = count;
    return nd_status_ok;
}

/* Sizes, or scales in fp32; either for the axes that are named, the others stay. */
static nd_status operands_resize(nd_infer *infer, nd_node *node) {
    nd_attr *attr = &node->attr;
    const int rank = nd_infer_input(infer, node, 0)->rank, k = node->n_in == 2 ? 1 : 2;
    const int axes = attr->size ? (int)attr->size : rank;
    const nd_value *scales = nd_infer_input(infer, node, k);
    nd_known known = {0};
    int count;
    ND_TRY(operand_ints(infer, node, 3, attr->list, nd_rank_max, &count));
    attr->n = count > 0 ? count : 0;
    for (int i = 0; i < nd_rank_max; i++) attr->resize.scales[i] = 1;
    if (attr->n) return nd_status_ok;
    ND_REQUIRE(scales && nd_infer_known(infer, node->in[k], &known), nd_status_unsupported,
               "neither sizes nor scales are constant");
    ND_REQUIRE(known.count == axes && known.dtype == nd_dtype_f32, nd_status_format, "%d scales for %d axes",
               known.count, axes);
    for (int i = 0; i < axes; i++) {
        int64_t axis = attr->size ? attr->axes[i] : i;
        ND_TRY(nd_infer_axis("axes", &axis, rank));
        ND_REQUIRE(known.items[i].f > 0 && known.items[i].f < 0x1p24, nd_status_format, "a scale of %g",
                   known.items[i].f);
        attr->resize.scales[axis] = (float)known.items[i].f;
    }
    return nd_status_ok;
}

static nd_status operands_pad(nd_infer *infer, nd_node *node) {
    nd_attr *attr = &node->attr;
    const int rank = nd_infer_input(infer, node, 0)->rank;
    int64_t pads[2 * nd_rank_max], axes[nd_rank_max];
    int n_pads, n_axes;
    ND_TRY(operand_ints(infer, node, 1, pads, 2 * nd_rank_max, &n_pads));
    ND_TRY(operand_scalar(infer, node, 2, &attr->value));
    ND_TRY(operand_ints(infer, node, 3, axes, nd_rank_max, &n_axes));
    if (n_pads < 0) return nd_status_ok;
    for (int i = 0; n_axes < 0 && i < rank; i++) axes[i] = i;
    if (n_axes < 0) n_axes = rank;
    ND_REQUIRE(n_pads == 2 * n_axes, nd_status_format, "%d pads for %d axes", n_pads, n_axes);
    attr->n = 2 * rank;
    memset(attr->list, 0, sizeof attr->list);
    for (int i = 0; i < n_axes; i++) {
        ND_TRY(nd_infer_axis("axes", &axes[i], rank));
        attr->list[axes[i]] = pads[i];
        attr->list[rank + axes[i]] = pads[n_axes + i];
    }
    return nd_status_ok;
}

static nd_status operands_slice(nd_infer *infer, nd_node *node) {
    nd_attr *attr = &node->attr;
    int64_t *const lists[] = {attr->list, attr->ends, attr->axes, attr->steps};
    int counts[4];
    for (int k = 0; k < 4; k++) ND_TRY(operand_ints(infer, node, k + 1, lists[k], nd_rank_max, &counts[k]));
    if (counts[0] < 0) return nd_status_ok;
    attr->n = counts[0];
    for (int i = 0; i < attr->n && counts[2] < 0; i++) attr->axes[i] = i;
    for (int i = 0; i < attr->n && counts[3] < 0; i++) attr->steps[i] = 1;
    for (int k = 1; k < 4; k++)
        ND_REQUIRE(counts[k] == attr->n || (k > 1 && counts[k] < 0), nd_status_format, "%d starts but %d %s",
                   attr->n, counts[k],
                   k == 1   ? "ends"
                   : k == 2 ? "axes"
                            : "steps");
    return nd_status_ok;
}

typedef nd_status nd_operand_reader(nd_infer *infer, nd_node *node);

static nd_operand_reader *const nd_operand_readers[nd_op_count] = {
    [nd_op_clip] = operands_clip,        [nd_op_reshape] = operands_list,
    [nd_op_squeeze] = operands_list,     [nd_op_unsqueeze] = operands_list,
    [nd_op_reduce_mean] = operands_list, [nd_op_reduce_prod] = operands_list,
    [nd_op_split] = operands_split,      [nd_op_expand] = operands_list,
    [nd_op_tile] = operands_list,        [nd_op_resize] = operands_resize,
    [nd_op_reduce] = operands_list,      [nd_op_pad] = operands_pad,
    [nd_op_slice] = operands_slice,
};

nd_status nd_infer_operands(nd_infer *infer, nd_node *node) {
    nd_operand_reader *read = nd_operand_readers[node->op];
    return read ? read(infer, node) : nd_status_ok;
}
