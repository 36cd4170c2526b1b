#include "cuda/kernels/elementwise.cuh"

static void nd_loop_swap(nd_loop *loop, int a, int b) {
    const uint32_t dim = loop->dims[a];
    loop->dims[a] = loop->dims[b];
    loop->dims[b] = dim;
    for (int i = 0; i < nd_loop_operands; i++) {
        const int64_t stride = loop->strides[i][a];
        loop->strides[i][a] = loop->strides[i][b];
        loop->strides[i][b] = stride;
    }
}

/* Axes a and a + 1 are one axis when stepping a is stepping a + 1 all its way, for every operand. */
static bool nd_loop_mergeable(const nd_loop *loop, int a) {
    if ((uint64_t)loop->dims[a] * loop->dims[a + 1] > UINT32_MAX / 2) return false;
    for (int i = 0; i < nd_loop_operands; i++)
        if (loop->strides[i][a] != loop->dims[a + 1] * loop->strides[i][a + 1]) return false;
    return true;
}

static void nd_loop_merge(nd_loop *loop) {
    for (int a = loop->rank - 2; a >= 0; a--) {
        if (!nd_loop_mergeable(loop, a)) continue;
        loop->dims[a] *= loop->dims[a + 1];
        for (int i = 0; i < nd_loop_operands; i++) loop->strides[i][a] = loop->strides[i][a + 1];
        for (int b = a + 1; b + 1 < loop->rank; b++) nd_loop_swap(loop, b, b + 1);
        loop->rank--;
    }
}

/* 16-byte accesses need neighbours (or one repeated element of x, x2) and every row to begin on a multiple.
 */
static bool nd_loop_is_wide(const nd_loop *loop, int wide) {
    const int last = loop->rank - 1;
    if (loop->dims[last] % (uint32_t)wide) return false;
    for (int i = nd_loop_y; i <= nd_loop_x2; i++) {
        const int64_t step = loop->strides[i][last];
        if (step == 0 && i != nd_loop_y) continue;
        if (step != 1 || loop->offset[i] % wide) return false;
        for (int a = 0; a < last; a++)
            if (loop->strides[i][a] % wide) return false;
    }
    return true;
}

void nd_loop_make(const nd_view *y, const nd_view *x, const nd_view *x2, int bytes, nd_loop *loop) {
    const nd_view *views[] = {y, x, x2};
    *loop = nd_loop();
    for (int i = 0; i < 3; i++) loop->offset[i] = views[i] ? views[i]->offset : 0;
    for (int a = 0; a < y->rank; a++) {
        if (y->dims[a] == 1) continue;
        loop->dims[loop->rank] = (uint32_t)y->dims[a];
        for (int i = 0; i < 3; i++) loop->strides[i][loop->rank] = views[i] ? views[i]->strides[a] : 0;
        loop->strides[nd_loop_channel][loop->rank] = a == 1;
        loop->rank++;
    }
    for (int a = 1; a < loop->rank; a++)
        for (int b = a; b > 0 && loop->strides[nd_loop_y][b] > loop->strides[nd_loop_y][b - 1]; b--)
            nd_loop_swap(loop, b, b - 1);
    nd_loop_merge(loop);
    if (!loop->rank) {
        loop->rank = 1;
        loop->dims[0] = 1;
    }
    const int wide = 16 / bytes;
    loop->vector = nd_loop_is_wide(loop, wide) ? wide : 1;
}

bool nd_loop_next(const nd_loop *loop, int64_t *first, nd_loop *part) {
    uint64_t row = 1; /* elements of one step on the outermost axis */
    for (int a = 1; a < loop->rank; a++) row *= loop->dims[a];
    if (!row || *first >= loop->dims[0]) return false;
    const uint64_t limit = UINT64_C(1) << 30;
    uint64_t steps = row >= limit ? 1 : limit / row;
    if (loop->rank == 1) steps -= steps % (uint64_t)loop->vector;
    if (steps > loop->dims[0] - (uint64_t)*first) steps = loop->dims[0] - (uint64_t)*first;
    *part = *loop;
    part->dims[0] = (uint32_t)steps;
    for (int i = 0; i < nd_loop_operands; i++) part->offset[i] += *first * loop->strides[i][0];
    part->items = (uint32_t)(steps * row / (uint64_t)loop->vector);
    *first += (int64_t)steps;
    return true;
}
