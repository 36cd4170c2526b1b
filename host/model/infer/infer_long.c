/* Range and ConstantOfShape: of any length, where the others that are evaluated keep to short lists. */
#include "model/infer/infer_state.h"

#include <math.h>
#include <string.h>

enum { long_most = 1 << 24 };

static bool is_floating(nd_dtype dtype) {
    return dtype == nd_dtype_f32 || dtype == nd_dtype_f64;
}

/* The count of numbers; -1 where it is none that there could be. Section Range of the ONNX operators. */
static int64_t range_count(const nd_known ends[3]) {
    double count;
    if (is_floating(ends->dtype)) {
        count = ceil((ends[1].items->f - ends[0].items->f) / ends[2].items->f);
    } else {
        int64_t length;
        if (!ends[2].items->i || __builtin_sub_overflow(ends[1].items->i, ends[0].items->i, &length))
            return -1;
        count = ceil((double)length / (double)ends[2].items->i);
    }
    if (!(count <= long_most)) return -1;
    return count > 0 ? (int64_t)count : 0;
}

static void range_fill(const nd_known ends[3], nd_tensor *out) {
    const int64_t count = nd_tensor_count(out);
    for (int64_t i = 0; i < count; i++) {
        const double number = ends[0].items->f + (double)i * ends[2].items->f;
        const int64_t whole = is_floating(out->dtype) ? 0 : ends[0].items->i + i * ends[2].items->i;
        if (out->dtype == nd_dtype_f32)
            ((float *)out->data)[i] = (float)number;
        else if (out->dtype == nd_dtype_f64)
            ((double *)out->data)[i] = number;
        else if (out->dtype == nd_dtype_i32)
            ((int32_t *)out->data)[i] = (int32_t)whole;
        else
            ((int64_t *)out->data)[i] = whole;
    }
}

/* False where the node does not say what there is to be. */
static bool range_read(nd_infer *infer, const nd_node *node, nd_known ends[3], int64_t *count) {
    if (node->n_in != 3) return false;
    for (int k = 0; k < 3; k++) {
        if (node->in[k] < 0 || !nd_infer_known(infer, node->in[k], &ends[k])) return false;
        if (ends[k].count != 1 || ends[k].dtype != ends->dtype || ends->dtype == nd_dtype_bool) return false;
    }
    *count = range_count(ends);
    return *count >= 0;
}

static bool constant_read(nd_infer *infer, const nd_node *node, nd_tensor *out) {
    const nd_dtype dtype = node->attr.dtype;
    nd_known shape;
    if (node->op != nd_op_constant_of_shape || !nd_infer_known(infer, node->in[0], &shape)) return false;
    if (shape.rank != 1 || shape.count > nd_rank_max || is_floating(shape.dtype)) return false;
    if (dtype != nd_dtype_f32 && dtype != nd_dtype_i64 && dtype != nd_dtype_i32) return false;
    *out = (nd_tensor){.dtype = dtype, .rank = shape.count};
    for (int i = 0; i < shape.count; i++) out->dims[i] = shape.items[i].i;
    const int64_t count = nd_dims_count(out->rank, out->dims);
    return count >= 0 && count <= long_most;
}

static void constant_fill(const nd_attr *attr, nd_tensor *out) {
    const int64_t count = nd_tensor_count(out);
    for (int64_t i = 0; i < count; i++)
        if (out->dtype == nd_dtype_f32)
            ((float *)out->data)[i] = attr->value;
        else if (out->dtype == nd_dtype_i32)
            ((int32_t *)out->data)[i] = (int32_t)attr->size;
        else
            ((int64_t *)out->data)[i] = attr->size;
}

nd_status nd_infer_long(nd_infer *infer, const nd_node *node, bool *done) {
    const bool range = !strcmp(node->op_type, "Range");
    nd_known ends[3];
    nd_tensor shape = {.rank = 1}, tensor;
    *done = false;
    if (node->n_out != 1 || node->out[0] < 0 || node->n_in < 1 || node->in[0] < 0) return nd_status_ok;
    if (range ? !range_read(infer, node, ends, &shape.dims[0]) : !constant_read(infer, node, &shape))
        return nd_status_ok;
    ND_TRY(nd_tensor_new(range ? ends->dtype : shape.dtype, shape.rank, shape.dims, &tensor));
    if (range)
        range_fill(ends, &tensor);
    else
        constant_fill(&node->attr, &tensor);
    nd_status status = nd_graph_set_init(infer->graph, node->out[0], &tensor);
    nd_tensor_free(&tensor);
    infer->graph->values[node->out[0]].computed = *done = !status;
    return status;
}
