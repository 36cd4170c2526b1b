#include "model/dims.h"

#include <string.h>

bool nd_dims_broadcast(int rank_a, const int64_t *a, int rank_b, const int64_t *b, int *rank, int64_t *out) {
    const int wide = rank_a > rank_b ? rank_a : rank_b;
    int64_t dims[nd_rank_max];
    for (int i = 0; i < wide; i++) {
        const int at_a = i - (wide - rank_a), at_b = i - (wide - rank_b);
        const int64_t m = at_a < 0 ? 1 : a[at_a], n = at_b < 0 ? 1 : b[at_b];
        if (m != n && m != 1 && n != 1) return false;
        dims[i] = m == 1 ? n : m;
    }
    *rank = wide;
    memcpy(out, dims, (size_t)wide * sizeof *dims);
    return true;
}

int64_t nd_dims_broadcast_at(int rank, const int64_t *dims, int rank_to, const int64_t *to, int64_t i) {
    int64_t at = 0, stride = 1;
    for (int axis = rank - 1, meets = rank_to - 1; axis >= 0; axis--, meets--) {
        if (dims[axis] > 1) at += i % to[meets] * stride;
        i /= to[meets];
        stride *= dims[axis];
    }
    return at;
}

bool nd_dims_permute(int rank, const int64_t *dims, const int64_t *order, int64_t *out, int64_t *strides) {
    int64_t from[nd_rank_max], stride = 1;
    for (int axis = rank - 1; axis >= 0; stride *= dims[axis--]) from[axis] = stride;
    for (int i = 0; i < rank; i++) {
        const int64_t axis = order ? order[i] : rank - 1 - i;
        if (axis < 0 || axis >= rank) return false;
        out[i] = dims[axis];
        strides[i] = from[axis];
    }
    return true;
}

int64_t nd_dims_at(int rank, const int64_t *dims, const int64_t *strides, int64_t i) {
    int64_t at = 0;
    for (int axis = rank - 1; axis >= 0; i /= dims[axis--]) at += i % dims[axis] * strides[axis];
    return at;
}

bool nd_dims_mark(int rank, const int64_t *axes, int64_t n, bool *marked) {
    memset(marked, 0, (size_t)rank * sizeof *marked);
    for (int64_t i = 0; i < n; i++) {
        const int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 0 || axis >= rank || marked[axis]) return false;
        marked[axis] = true;
    }
    return true;
}
