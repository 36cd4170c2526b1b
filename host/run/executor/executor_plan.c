#include "run/executor/executor_parts.h"

#include <stdlib.h>

static void exec_touch(nd_exec *exec, int slot, int step) {
    if (slot < 0) return;
    nd_slot *touched = &exec->slots[slot];
    if (step < touched->first) touched->first = step;
    if (step > touched->last) touched->last = step;
}

void nd_exec_lifetimes(nd_exec *exec) {
    const int end = exec->n_steps;
    for (int i = 0; i < exec->n_slots; i++) {
        exec->slots[i].first = end + 1;
        exec->slots[i].last = -1;
    }
    for (int i = 0; i < end; i++) {
        exec_touch(exec, exec->steps[i].x, i);
        exec_touch(exec, exec->steps[i].x2, i);
        exec_touch(exec, exec->steps[i].y, i);
    }
    for (int i = 0; i < exec->n_planned; i++)
        exec_touch(exec, exec->values[exec->planned[i]].place.slot, end);
    for (int i = 0; i < exec->n_slots; i++) {
        if (!exec->slots[i].pinned) continue;
        exec_touch(exec, i, 0);
        exec_touch(exec, i, end);
    }
}

static bool plan_planned(const nd_slot *slot) {
    return slot->first <= slot->last && !slot->source;
}

static int64_t plan_bytes(const nd_slot *slot) {
    return slot->elements * (int64_t)slot->element;
}

static int plan_by_size(const void *left, const void *right) {
    const nd_slot *a = *(nd_slot *const *)left, *b = *(nd_slot *const *)right;
    const int64_t a_bytes = plan_bytes(a), b_bytes = plan_bytes(b);
    if (a_bytes != b_bytes) return a_bytes < b_bytes ? 1 : -1;
    return a < b ? -1 : a > b;
}

static int plan_by_offset(const void *left, const void *right) {
    const nd_slot *a = *(nd_slot *const *)left, *b = *(nd_slot *const *)right;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

/* The lowest gap among the `n` slots that are alive at the same time, sorted by offset. */
static int64_t plan_gap(nd_slot *const *alive, int n, int64_t bytes, int64_t align) {
    int64_t offset = 0;
    for (int i = 0; i < n; i++) {
        if (alive[i]->offset - offset >= bytes) break;
        const int64_t end = (alive[i]->offset + plan_bytes(alive[i]) + align - 1) / align * align;
        if (end > offset) offset = end;
    }
    return offset;
}

int64_t nd_plan_offsets(nd_slot *slots, int n_slots, int64_t align) {
    nd_slot **order = nd_alloc_array((size_t)n_slots, sizeof *order);
    nd_slot **alive = nd_alloc_array((size_t)n_slots, sizeof *alive);
    int64_t total = -1;
    if (!order || !alive) goto done;
    int n = 0;
    for (int i = 0; i < n_slots; i++)
        if (plan_planned(&slots[i])) order[n++] = &slots[i];
    qsort(order, (size_t)n, sizeof *order, plan_by_size);
    total = 0;
    for (int i = 0; i < n; i++) {
        nd_slot *slot = order[i];
        int n_alive = 0;
        for (int j = 0; j < i; j++)
            if (order[j]->first <= slot->last && slot->first <= order[j]->last) alive[n_alive++] = order[j];
        qsort(alive, (size_t)n_alive, sizeof *alive, plan_by_offset);
        slot->offset = plan_gap(alive, n_alive, plan_bytes(slot), align);
        if (slot->offset + plan_bytes(slot) > total) total = slot->offset + plan_bytes(slot);
    }
    for (int i = 0; i < n; i++) order[i]->offset /= (int64_t)order[i]->element;
done:
    free(order);
    free(alive);
    return total;
}
