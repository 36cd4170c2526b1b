#include "run/executor/executor_parts.h"

#include <stdlib.h>
#include <string.h>

/* Far above any memory, and far below where sums of slots overflow. */
static const int64_t nd_slot_elements_max = (int64_t)1 << 40;

static nd_status place_slot_new(nd_exec *exec, int64_t elements, int *slot) {
    ND_REQUIRE(elements >= 0 && elements <= nd_slot_elements_max, nd_status_memory,
               "no memory for a value of %lld elements", (long long)elements);
    if (exec->n_slots == exec->cap_slots) {
        const int capacity = exec->cap_slots ? 2 * exec->cap_slots : 64;
        nd_slot *more = realloc(exec->slots, (size_t)capacity * sizeof *more);
        ND_REQUIRE(more, nd_status_memory, "no memory for the plan");
        exec->slots = more;
        exec->cap_slots = capacity;
    }
    exec->slots[exec->n_slots] = (nd_slot){
        .elements = elements, .element = nd_dtype_bytes(nd_precision_storage(exec->settings.precision))};
    *slot = exec->n_slots++;
    return nd_status_ok;
}

bool nd_exec_channels_last(const nd_exec *exec) {
    return exec->backend->channels_last != exec->settings.turned;
}

nd_view nd_exec_layout(const nd_exec *exec, int rank, const int64_t *dims) {
    return nd_exec_channels_last(exec) ? nd_view_channels_last(rank, dims) : nd_view_row_major(rank, dims);
}

nd_status nd_exec_place_new(nd_exec *exec, const nd_view *layout, nd_place *out) {
    out->view = *layout;
    ND_TRY(place_slot_new(exec, nd_view_count(layout), &out->slot));
    if (out->quant.scale > 0) exec->slots[out->slot].element = 1;
    return nd_status_ok;
}

const float *nd_exec_floats(nd_exec *exec, const nd_tensor *tensor) {
    const bool aligned = (uintptr_t)tensor->data % _Alignof(float) == 0; /* mapped files promise nothing */
    if (tensor->dtype == nd_dtype_f32 && aligned) return tensor->data;
    float *copy = nd_arena_alloc(&exec->scratch, (size_t)nd_tensor_count(tensor) * sizeof *copy);
    if (!copy) return NULL;
    if (tensor->dtype == nd_dtype_f32)
        memcpy(copy, tensor->data, nd_tensor_bytes(tensor));
    else
        nd_tensor_to_f32(tensor, copy);
    return copy;
}

bool nd_exec_index(const nd_tensor *list, int64_t at, int64_t *out) {
    int32_t narrow;
    const char *data = list->data;
    if (list->dtype == nd_dtype_i64) {
        memcpy(out, data + (size_t)at * sizeof *out, sizeof *out);
    } else if (list->dtype == nd_dtype_i32) {
        memcpy(&narrow, data + (size_t)at * sizeof narrow, sizeof narrow);
        *out = narrow;
    } else {
        return false;
    }
    return true;
}

static nd_status exec_place_constant(nd_exec *exec, int value) {
    const nd_tensor *tensor = exec->graph->values[value].init;
    ND_REQUIRE(nd_tensor_count(tensor) > 0, nd_status_unsupported, "constant \"%s\" is empty",
               exec->graph->values[value].name);
    const nd_view layout = nd_exec_layout(exec, tensor->rank, tensor->dims);
    nd_place *place = &exec->values[value].place;
    ND_TRY(nd_exec_place_new(exec, &layout, place));
    nd_slot *slot = &exec->slots[place->slot];
    slot->source = nd_exec_floats(exec, tensor);
    slot->source_view = layout;
    ND_REQUIRE(slot->source, nd_status_memory, "no memory for a constant");
    return nd_status_ok;
}

nd_status nd_exec_source_stored(nd_exec *exec, int value, nd_place *out) {
    nd_exec_value *v = &exec->values[value];
    if (v->place.slot < 0 && exec->graph->values[value].init) ND_TRY(exec_place_constant(exec, value));
    ND_REQUIRE(v->place.slot >= 0, nd_status_internal, "value \"%s\" is read before it is made",
               exec->graph->values[value].name);
    *out = v->place;
    return nd_status_ok;
}

nd_status nd_exec_target(nd_exec *exec, int value, nd_place *out) {
    nd_exec_value *v = &exec->values[value];
    /* Integers stay by themselves: the rest of a Concat may be in another range, or no integers. */
    if (v->place.slot < 0 && (v->parent < 0 || v->place.quant.scale > 0)) {
        const nd_view layout = nd_exec_layout(exec, v->rank, v->dims);
        ND_TRY(nd_exec_place_new(exec, &layout, &v->place));
    } else if (v->place.slot < 0) {
        nd_place outer; /* `nesting` bounds the recursion */
        ND_TRY(nd_exec_target(exec, v->parent, &outer));
        v->place = outer;
        for (int i = 0; i < v->rank; i++) v->place.view.dims[i] = v->dims[i];
        v->place.view.offset += v->parent_start * outer.view.strides[v->parent_axis];
    }
    *out = v->place;
    return nd_status_ok;
}

bool nd_exec_broadcast(const nd_view *view, int rank, const int64_t *dims, nd_view *out) {
    nd_view wide = {.rank = rank, .offset = view->offset}; /* `out` may be `view` */
    const int lead = rank - view->rank;
    if (lead < 0) return false;
    for (int i = 0; i < rank; i++) {
        const bool repeated = i < lead || view->dims[i - lead] == 1;
        if (!repeated && view->dims[i - lead] != dims[i]) return false;
        wide.dims[i] = dims[i];
        wide.strides[i] = i < lead || (repeated && dims[i] > 1) ? 0 : view->strides[i - lead];
    }
    *out = wide;
    return true;
}
