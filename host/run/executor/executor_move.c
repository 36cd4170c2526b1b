/* Nodes that move data and compute nothing. Most only look at it in another way: their output is a view of
 * the input, and a copy is made where the reader cannot take that view. */
#include "model/infer/infer.h"
#include "run/executor/executor_parts.h"

#include <string.h>

/* Flatten, Reshape, Squeeze, Unsqueeze, Dropout, Identity: the same elements in the same order. */
nd_status nd_lower_reshape(nd_exec *exec, const nd_node *node) {
    nd_exec_value *out = &exec->values[node->out[0]];
    nd_place from, to;
    ND_TRY(nd_exec_source_stored(exec, node->in[0], &from));
    to = from;
    if (nd_view_reshape(&from.view, out->rank, out->dims, &to.view)) {
        out->place = to;
        return nd_status_ok;
    }
    /* The order of elements is that of the logical dims; write them where the new dims want them. */
    nd_view layout = nd_exec_layout(exec, out->rank, out->dims), under_old_dims;
    if (!nd_view_reshape(&layout, from.view.rank, from.view.dims, &under_old_dims)) {
        layout = nd_view_row_major(out->rank, out->dims);
        const bool dense = nd_view_reshape(&layout, from.view.rank, from.view.dims, &under_old_dims);
        ND_REQUIRE(dense, nd_status_format, "%s: the number of elements changes", nd_exec_label(exec, node));
    }
    out->place.quant = from.quant;
    ND_TRY(nd_exec_place_new(exec, &layout, &out->place));
    to = (nd_place){out->place.slot, under_old_dims, from.quant};
    return nd_exec_emit_copy(exec, node, &from, &to);
}

nd_status nd_lower_transpose(nd_exec *exec, const nd_node *node) {
    nd_exec_value *out = &exec->values[node->out[0]];
    nd_place from;
    ND_TRY(nd_exec_source_stored(exec, node->in[0], &from));
    const int rank = from.view.rank;
    nd_view view = {.rank = rank, .offset = from.view.offset};
    for (int i = 0; i < rank; i++) {
        const int axis = nd_exec_axis(node->attr.n ? node->attr.list[i] : rank - 1 - i, rank);
        ND_REQUIRE(axis >= 0, nd_status_format, "%s: perm is no permutation", nd_exec_label(exec, node));
        view.dims[i] = from.view.dims[axis];
        view.strides[i] = from.view.strides[axis];
    }
    out->place = (nd_place){from.slot, view, from.quant};
    return nd_status_ok;
}

nd_status nd_lower_slice(nd_exec *exec, const nd_node *node) {
    const nd_attr *attr = &node->attr;
    nd_exec_value *out = &exec->values[node->out[0]];
    nd_place from;
    ND_TRY(nd_exec_source_stored(exec, node->in[0], &from));
    nd_view view = from.view;
    for (int i = 0; i < attr->n; i++) {
        const int axis = nd_exec_axis(attr->axes[i], view.rank);
        const int64_t step = attr->steps[i];
        ND_REQUIRE(axis >= 0 && step != 0, nd_status_format, "%s: a bad axis or a step of 0",
                   nd_exec_label(exec, node));
        const int64_t size = from.view.dims[axis], high = step > 0 ? size : size - 1;
        int64_t start = attr->list[i] < 0 ? attr->list[i] + size : attr->list[i];
        if (start < 0) start = 0;
        if (start > high) start = high;
        view.offset += start * view.strides[axis];
        view.strides[axis] *= step;
    }
    memcpy(view.dims, out->dims, (size_t)view.rank * sizeof *view.dims);
    out->place = (nd_place){from.slot, view, from.quant};
    return nd_status_ok;
}

/* Every part is a view. */
nd_status nd_lower_split(nd_exec *exec, const nd_node *node) {
    nd_place from;
    ND_TRY(nd_exec_source(exec, node->in[0], &from));
    const int axis = nd_exec_axis(node->attr.axis, from.view.rank);
    ND_REQUIRE(axis >= 0, nd_status_format, "%s: a bad axis", nd_exec_label(exec, node));
    for (int k = 0; k < node->n_out; k++) {
        if (node->out[k] < 0) {
            ND_REQUIRE(k + 1 == node->n_out || node->attr.n, nd_status_unsupported,
                       "%s: an output without name", nd_exec_label(exec, node));
            from.view.offset += (node->attr.n ? node->attr.list[k] : 0) * from.view.strides[axis];
            continue;
        }
        nd_exec_value *out = &exec->values[node->out[k]];
        out->place = from;
        out->place.view.dims[axis] = out->dims[axis];
        from.view.offset += out->dims[axis] * from.view.strides[axis];
    }
    return nd_status_ok;
}

/* Repeated elements are written out: a value that others read has each of its own. */
nd_status nd_lower_expand(nd_exec *exec, const nd_node *node) {
    nd_place from, to;
    ND_TRY(nd_exec_source(exec, node->in[0], &from));
    ND_TRY(nd_exec_target(exec, node->out[0], &to));
    ND_REQUIRE(nd_exec_broadcast(&from.view, to.view.rank, to.view.dims, &from.view), nd_status_format,
               "%s: the input does not broadcast", nd_exec_label(exec, node));
    return nd_exec_emit_copy(exec, node, &from, &to);
}

/* Each repeated axis becomes two: the repeats, along which the input has stride 0, and its own. */
nd_status nd_lower_tile(nd_exec *exec, const nd_node *node) {
    nd_place from, to;
    ND_TRY(nd_exec_source(exec, node->in[0], &from));
    ND_TRY(nd_exec_target(exec, node->out[0], &to));
    const nd_view x = from.view, y = to.view;
    int rank = 0;
    for (int i = 0; i < x.rank; i++) {
        const int64_t repeats = y.dims[i] / x.dims[i];
        const int needed = repeats > 1 ? 2 : 1;
        ND_REQUIRE(rank + needed <= nd_rank_max, nd_status_unsupported, "%s: too many repeated axes",
                   nd_exec_label(exec, node));
        if (repeats > 1) {
            from.view.dims[rank] = to.view.dims[rank] = repeats;
            from.view.strides[rank] = 0;
            to.view.strides[rank++] = x.dims[i] * y.strides[i];
        }
        from.view.dims[rank] = to.view.dims[rank] = x.dims[i];
        from.view.strides[rank] = x.strides[i];
        to.view.strides[rank++] = y.strides[i];
    }
    from.view.rank = to.view.rank = rank;
    return nd_exec_emit_copy(exec, node, &from, &to);
}

/* The map with fewer channels, and the one with fewer pixels, each as images, channels, rows of blocks, rows
 * in a block, columns of blocks, columns in a block. */
static void view_blocks(const nd_attr *attr, const nd_view *deep, const nd_view *wide, nd_view *out_deep,
                        nd_view *out_wide) {
    const int64_t block = attr->size, channels = wide->dims[1], step = deep->strides[1];
    const int64_t inner = attr->channels_first ? step : channels * step; /* between pixels of a block */
    const int64_t dims[6] = {deep->dims[0], channels, deep->dims[2], block, deep->dims[3], block};
    const int64_t of_deep[6] = {deep->strides[0], attr->channels_first ? block * block * step : step,
                                deep->strides[2], block * inner,
                                deep->strides[3], inner};
    const int64_t of_wide[6] = {wide->strides[0], wide->strides[1],         wide->strides[2] * block,
                                wide->strides[2], wide->strides[3] * block, wide->strides[3]};
    *out_deep = (nd_view){.rank = 6, .offset = deep->offset};
    *out_wide = (nd_view){.rank = 6, .offset = wide->offset};
    memcpy(out_deep->dims, dims, sizeof dims);
    memcpy(out_wide->dims, dims, sizeof dims);
    memcpy(out_deep->strides, of_deep, sizeof of_deep);
    memcpy(out_wide->strides, of_wide, sizeof of_wide);
}

nd_status nd_lower_blocks(nd_exec *exec, const nd_node *node) {
    nd_place from, to;
    ND_TRY(nd_exec_source(exec, node->in[0], &from));
    ND_TRY(nd_exec_target(exec, node->out[0], &to));
    const nd_view x = from.view, y = to.view;
    if (!strcmp(node->op_type, "SpaceToDepth"))
        view_blocks(&node->attr, &y, &x, &to.view, &from.view);
    else
        view_blocks(&node->attr, &x, &y, &from.view, &to.view);
    return nd_exec_emit_copy(exec, node, &from, &to);
}

static bool place_same(const nd_place *a, const nd_place *b) {
    if (a->slot != b->slot || a->view.offset != b->view.offset) return false;
    for (int i = 0; i < a->view.rank; i++)
        if (a->view.dims[i] > 1 && a->view.strides[i] != b->view.strides[i]) return false;
    return nd_view_same_dims(&a->view, &b->view);
}

/* Whether all parts are quantised, and alike: then the whole is. */
static bool concat_quantised(nd_exec *exec, const nd_node *node, nd_quant *out) {
    for (int i = 0; i < node->n_in; i++) {
        const nd_quant *quant = &exec->values[node->in[i]].place.quant;
        if (exec->values[node->in[i]].place.slot < 0 || !(quant->scale > 0)) return false;
        if (i && !nd_exec_quant_same(quant, out)) return false;
        *out = *quant;
    }
    return true;
}

nd_status nd_lower_concat(nd_exec *exec, const nd_node *node) {
    nd_place whole;
    nd_quant quant;
    const bool quantised = concat_quantised(exec, node, &quant);
    if (quantised) exec->values[node->out[0]].place.quant = quant;
    ND_TRY(nd_exec_target(exec, node->out[0], &whole));
    const int axis = nd_exec_axis(node->attr.axis, whole.view.rank);
    ND_REQUIRE(axis >= 0, nd_status_format, "%s: a bad axis", nd_exec_label(exec, node));
    int64_t start = 0;
    for (int i = 0; i < node->n_in; i++) {
        nd_place part, to = whole;
        ND_TRY(quantised ? nd_exec_source_stored(exec, node->in[i], &part)
                         : nd_exec_source(exec, node->in[i], &part));
        to.view.dims[axis] = part.view.dims[axis];
        to.view.offset += start * to.view.strides[axis];
        start += part.view.dims[axis];
        if (place_same(&part, &to)) continue; /* made in place */
        ND_TRY(nd_exec_emit_copy(exec, node, &part, &to));
    }
    return nd_status_ok;
}

/* Whether a node writes its output as a kernel, into whatever view it is given. */
static bool exec_writes(const nd_exec *exec, int node) {
    switch (exec->graph->nodes[node].op) {
    case nd_op_flatten:
    case nd_op_reshape:
    case nd_op_squeeze:
    case nd_op_unsqueeze:
    case nd_op_dropout:
    case nd_op_identity:
    case nd_op_transpose:
    case nd_op_slice:
    case nd_op_split:
    case nd_op_gather:
    case nd_op_dequantize:
        return false;
    default:
        return true;
    }
}

enum { nd_nesting_max = 64 }; /* Concats within Concats, made in place */

/* A part that is made for one Concat alone goes there at once; what a later Concat has claimed is copied. */
static void exec_adopt(nd_exec *exec, int whole, int part, int axis, int64_t start) {
    nd_exec_value *v = &exec->values[part];
    const int nesting = exec->values[whole].nesting + 1;
    if (v->parent >= 0 || v->fed || v->wanted || v->producer < 0 || nesting > nd_nesting_max) return;
    if (!exec->needed[v->producer] || !exec_writes(exec, v->producer)) return;
    v->parent = whole;
    v->parent_axis = axis;
    v->parent_start = start;
    v->nesting = nesting;
}

/* When every part already lies side by side in one later Concat, this one is a part of it too (DenseNet). */
static bool exec_is_run(const nd_exec *exec, const nd_node *node, int axis) {
    const nd_exec_value *first = &exec->values[node->in[0]];
    if (first->parent < 0 || first->parent_axis != axis) return false;
    int64_t start = first->parent_start;
    for (int i = 0; i < node->n_in; i++) {
        const nd_exec_value *v = &exec->values[node->in[i]];
        if (v->parent != first->parent || v->parent_axis != axis || v->parent_start != start) return false;
        start += v->dims[axis];
    }
    return true;
}

/* From the last Concat to the first, so that the largest is the one that parts are made in. */
void nd_exec_find_parents(nd_exec *exec) {
    for (int i = exec->graph->n_nodes - 1; i >= 0; i--) {
        const nd_node *node = &exec->graph->nodes[i];
        if (!exec->needed[i] || node->op != nd_op_concat || node->n_in < 1) continue;
        const int whole = node->out[0], axis = nd_exec_axis(node->attr.axis, exec->values[whole].rank);
        if (axis < 0) continue;
        if (exec_is_run(exec, node, axis))
            exec_adopt(exec, exec->values[node->in[0]].parent, whole, axis,
                       exec->values[node->in[0]].parent_start);
        int64_t start = 0;
        for (int j = 0; j < node->n_in; j++) {
            exec_adopt(exec, whole, node->in[j], axis, start);
            start += exec->values[node->in[j]].dims[axis];
        }
    }
}

/* A constant into a part of a value: the fill operation, or a copy of one number read everywhere, which is
 * the faster on backends without a fill of their own. */
static nd_status pad_region(nd_exec *exec, const nd_node *node, const nd_place *region, nd_place *number) {
    const nd_work fill = {.operation = nd_operation_fill, .value = node->attr.value},
                  copy = {.operation = nd_operation_copy};
    nd_operands operands = {.x = *region, .y = *region};
    if (nd_exec_supports(exec, fill, &operands, true)) return nd_exec_emit(exec, node, fill, &operands);
    if (number->slot < 0) {
        const nd_view one = nd_view_row_major(1, (const int64_t[]){1});
        float *value = nd_arena_alloc(&exec->scratch, sizeof *value);
        ND_REQUIRE(value, nd_status_memory, "no memory for a constant");
        *value = node->attr.value;
        ND_TRY(nd_exec_place_new(exec, &one, number));
        exec->slots[number->slot].source = value;
        exec->slots[number->slot].source_view = one;
    }
    operands.x.slot = number->slot;
    nd_exec_broadcast(&number->view, region->view.rank, region->view.dims, &operands.x.view);
    if (nd_exec_supports(exec, copy, &operands, false)) return nd_exec_emit(exec, node, copy, &operands);
    return nd_exec_emit(exec, node, fill, &(nd_operands){.x = *region, .y = *region});
}

/* One element of an axis of what is padded so far, again at another place of it. */
static nd_status pad_repeat(nd_exec *exec, const nd_node *node, const nd_place *inner, int axis, int64_t at) {
    const int64_t size = inner->view.dims[axis], stride = inner->view.strides[axis];
    nd_place from = *inner, to = *inner;
    from.view.dims[axis] = to.view.dims[axis] = 1;
    from.view.offset += nd_pad_index(node->attr.pad_mode, at, size) * stride;
    to.view.offset += at * stride;
    return nd_exec_emit_copy(exec, node, &from, &to);
}

/* Axis by axis, so that corners repeat what was repeated before. `inner`: the input in its place. */
static nd_status pad_repeats(nd_exec *exec, const nd_node *node, nd_place inner) {
    const int rank = inner.view.rank;
    for (int i = 0; i < rank; i++) {
        const int64_t before = node->attr.list[i], after = node->attr.list[rank + i];
        const int64_t size = inner.view.dims[i];
        for (int64_t k = 1; k <= before; k++) ND_TRY(pad_repeat(exec, node, &inner, i, -k));
        for (int64_t k = 0; k < after; k++) ND_TRY(pad_repeat(exec, node, &inner, i, size + k));
        inner.view.offset -= before * inner.view.strides[i];
        inner.view.dims[i] += before + after;
    }
    return nd_status_ok;
}

/* Axis by axis, what lies before and after the input; then the input into what is left. Negative padding cuts
 * the input; without any other, that is all there is to do. */
nd_status nd_lower_pad(nd_exec *exec, const nd_node *node) {
    nd_exec_value *out = &exec->values[node->out[0]];
    nd_place from, to = {.slot = -1}, number = {.slot = -1};
    const int rank = out->rank;
    const bool repeats = node->attr.pad_mode != nd_pad_constant;
    bool adds = false;
    for (int i = 0; i < node->attr.n; i++) adds |= node->attr.list[i] > 0;
    ND_TRY(nd_exec_source(exec, node->in[0], &from));
    if (adds) ND_TRY(nd_exec_target(exec, node->out[0], &to));
    ND_REQUIRE(node->attr.n == 2 * rank, nd_status_format, "%s: %d pads for %d axes",
               nd_exec_label(exec, node), node->attr.n, rank);
    for (int i = 0; i < rank; i++) {
        const int64_t before = node->attr.list[i], after = node->attr.list[rank + i];
        const int64_t cut = before < 0 ? -before : 0, lead = before > 0 ? before : 0;
        from.view.dims[i] += (before < 0 ? before : 0) + (after < 0 ? after : 0);
        if (from.view.dims[i] <= 0) return pad_region(exec, node, &to, &number);
        from.view.offset += cut * from.view.strides[i];
        if (!adds) continue;
        nd_place edge = to;
        edge.view.dims[i] = lead;
        if (lead && !repeats) ND_TRY(pad_region(exec, node, &edge, &number));
        edge.view.offset += (lead + from.view.dims[i]) * to.view.strides[i];
        edge.view.dims[i] = after > 0 ? after : 0;
        if (after > 0 && !repeats) ND_TRY(pad_region(exec, node, &edge, &number));
        to.view.offset += lead * to.view.strides[i];
        to.view.dims[i] = from.view.dims[i];
    }
    if (adds) ND_TRY(nd_exec_emit_copy(exec, node, &from, &to));
    if (adds) return repeats ? pad_repeats(exec, node, to) : nd_status_ok;
    out->place = from;
    return nd_status_ok;
}

/* Indices as a list in the scratch arena, checked and made positive; NULL with the message set. */
static const int32_t *gather_list(nd_exec *exec, const nd_node *node, const nd_tensor *indices,
                                  int64_t size) {
    const int64_t count = nd_tensor_count(indices);
    int32_t *list = nd_arena_alloc(&exec->scratch, (size_t)count * sizeof *list);
    if (!list || size > INT32_MAX) {
        nd_fail(nd_status_memory, "%s: no memory for the indices", nd_exec_label(exec, node));
        return NULL;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t index = 0;
        const bool integer = nd_exec_index(indices, i, &index);
        if (index < 0) index += size;
        if (!integer || index < 0 || index >= size) {
            nd_fail(nd_status_format, "%s: index %lld of the list is outside 0..%lld",
                    nd_exec_label(exec, node), (long long)i, (long long)size - 1);
            return NULL;
        }
        list[i] = (int32_t)index;
    }
    return list;
}

static void view_swap(nd_view *view, int a, int b) {
    const int64_t dim = view->dims[a], stride = view->strides[a];
    view->dims[a] = view->dims[b];
    view->strides[a] = view->strides[b];
    view->dims[b] = dim;
    view->strides[b] = stride;
}

/* Evenly spaced indices are a view; others are gathered into a slot with axis 1 in their place. */
nd_status nd_lower_gather(nd_exec *exec, const nd_node *node) {
    nd_exec_value *out = &exec->values[node->out[0]];
    const nd_tensor *indices = nd_exec_constant(exec, node, 1);
    nd_place from;
    ND_TRY(nd_exec_source(exec, node->in[0], &from));
    const int axis = nd_exec_axis(node->attr.axis, from.view.rank);
    ND_REQUIRE(indices, nd_status_unsupported, "%s: computed indices", nd_exec_label(exec, node));
    ND_REQUIRE(axis >= 0, nd_status_format, "%s: a bad axis", nd_exec_label(exec, node));
    const int64_t count = nd_tensor_count(indices);
    const int32_t *list = gather_list(exec, node, indices, from.view.dims[axis]);
    if (!list) return indices->dtype == nd_dtype_i64 ? nd_status_format : nd_status_unsupported;
    bool even = true;
    for (int64_t i = 2; i < count; i++) even &= list[i] - list[i - 1] == list[1] - list[0];
    nd_place gathered = from;
    gathered.view.dims[axis] = count;
    if (even) {
        gathered.view.offset += list[0] * from.view.strides[axis];
        gathered.view.strides[axis] *= count > 1 ? list[1] - list[0] : 1;
    } else {
        nd_operands operands = {.x = from};
        const nd_view layout = nd_exec_layout(exec, gathered.view.rank, gathered.view.dims);
        ND_TRY(nd_exec_place_new(exec, &layout, &gathered));
        operands.y = gathered;
        nd_place *sides[] = {&operands.x, &operands.y};
        for (int i = 0; i < 2; i++) {
            nd_view *view = &sides[i]->view;
            if (view->rank == 1) {
                const int64_t dims[] = {1, view->dims[0]};
                if (!nd_view_reshape(view, 2, dims, view)) return nd_status_internal;
            } else if (axis != 1) {
                view_swap(view, axis, 1);
            }
        }
        const nd_work work = {.operation = nd_operation_gather, .channel = list, .terms = count};
        ND_TRY(nd_exec_emit(exec, node, work, &operands));
    }
    /* An index list of any rank stands in place of the axis: one axis is split, or dropped for a scalar. */
    ND_REQUIRE(nd_view_reshape(&gathered.view, out->rank, out->dims, &gathered.view), nd_status_internal,
               "%s: the gathered axis does not split", nd_exec_label(exec, node));
    out->place = gathered;
    return nd_status_ok;
}
