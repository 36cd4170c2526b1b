#include "model/infer/infer_state.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int64_t nd_slice_count(const nd_attr *attr, int i, int64_t dim, int64_t *first) {
    const int64_t step = attr->steps[i];
    int64_t start = attr->list[i], end = attr->ends[i];
    if (start < 0) start += dim;
    if (end < 0) end += dim;
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? dim - 1 : dim;
    start = start < 0 ? 0 : start > high ? high : start;
    end = end < low ? low : end > high ? high : end;
    *first = start;
    if (step > 0) return end > start ? (end - start - 1) / step + 1 : 0;
    return start > end ? (end - start + 1) / step + 1 : 0;
}

int64_t nd_pad_index(nd_pad_mode mode, int64_t i, int64_t size) {
    if (i >= 0 && i < size) return i;
    int64_t at = -1;
    if (mode == nd_pad_reflect) at = i < 0 ? -i : 2 * (size - 1) - i;
    if (mode == nd_pad_wrap) at = i < 0 ? i + size : i - size;
    if (mode == nd_pad_edge) at = i < 0 ? 0 : size - 1;
    return at >= 0 && at < size ? at : -1;
}

nd_status nd_infer_axis(const char *what, int64_t *axis, int rank) {
    const int64_t given = *axis;
    if (*axis < 0) *axis += rank;
    ND_REQUIRE(*axis >= 0 && *axis < rank, nd_status_format, "%s %lld of a value of rank %d", what,
               (long long)given, rank);
    return nd_status_ok;
}

/* Makes the n axes in attr->list non-negative and marks them; each may be named once. */
static nd_status shape_axes(nd_attr *attr, int rank, bool marked[2 * nd_rank_max]) {
    for (int i = 0; i < attr->n; i++) {
        ND_TRY(nd_infer_axis("axis", &attr->list[i], rank));
        ND_REQUIRE(!marked[attr->list[i]], nd_status_format, "axis %lld is named twice",
                   (long long)attr->list[i]);
        marked[attr->list[i]] = true;
    }
    return nd_status_ok;
}

static nd_status shape_global_pool(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer, (void)node;
    ND_REQUIRE(x->rank >= 2, nd_status_format, "input %s has no channels", ND_DIMS(x));
    for (int i = 2; i < x->rank; i++) y->dims[i] = 1;
    return nd_status_ok;
}

static nd_status shape_broadcast(const nd_value *a, const nd_value *b, nd_value *y) {
    ND_REQUIRE(nd_dims_broadcast(a->rank, a->dims, b->rank, b->dims, &y->rank, y->dims), nd_status_format,
               "%s and %s do not broadcast", ND_DIMS(a), ND_DIMS(b));
    return nd_status_ok;
}

static nd_status shape_binary(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    nd_value sum = *x;
    static const char *const truths[] = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"};
    ND_REQUIRE(node->n_in > 1, nd_status_format, "one operand");
    for (size_t i = 0; i < sizeof truths / sizeof *truths; i++)
        if (!strcmp(node->op_type, truths[i])) y->dtype = nd_dtype_bool;
    for (int k = 1; k < node->n_in; k++) {
        const nd_value *other = nd_infer_input(infer, node, k), so_far = sum;
        ND_REQUIRE(other, nd_status_format, "operand %d is left out", k);
        ND_TRY(shape_broadcast(&so_far, other, &sum));
    }
    y->rank = sum.rank;
    memcpy(y->dims, sum.dims, sizeof y->dims);
    return nd_status_ok;
}

static nd_status shape_where(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_value *a = nd_infer_input(infer, node, 1), *b = nd_infer_input(infer, node, 2);
    nd_value both;
    ND_REQUIRE(a && b, nd_status_format, "an operand is left out");
    ND_TRY(shape_broadcast(a, b, &both));
    y->dtype = a->dtype;
    return shape_broadcast(x, &both, y);
}

static nd_status shape_gemm(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_value *w = nd_infer_input(infer, node, 1), *bias = nd_infer_input(infer, node, 2);
    const nd_attr *attr = &node->attr;
    ND_REQUIRE(w && w->rank == 2 && x->rank == 2, nd_status_format, "operands %s and %s are no matrices",
               ND_DIMS(x), w ? ND_DIMS(w) : "absent");
    const int64_t m = x->dims[attr->trans_a], n = w->dims[!attr->trans_b];
    ND_REQUIRE(x->dims[!attr->trans_a] == w->dims[attr->trans_b], nd_status_format,
               "inner dimensions of %s and %s differ", ND_DIMS(x), ND_DIMS(w));
    y->dims[0] = m;
    y->dims[1] = n;
    if (!bias) return nd_status_ok;
    nd_value sum;
    ND_TRY(shape_broadcast(y, bias, &sum));
    ND_REQUIRE(sum.rank == 2 && sum.dims[0] == m && sum.dims[1] == n, nd_status_format,
               "bias %s does not fit output %s", ND_DIMS(bias), ND_DIMS(y));
    return nd_status_ok;
}

/* As in numpy: a vector on the left is a row, on the right a column, and its axis is not in the product. */
static nd_status shape_matmul(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_value *w = nd_infer_input(infer, node, 1);
    ND_REQUIRE(w && w->rank >= 1 && x->rank >= 1, nd_status_format, "operands %s and %s", ND_DIMS(x),
               w ? ND_DIMS(w) : "absent");
    const int64_t inner = w->dims[w->rank > 1 ? w->rank - 2 : 0];
    ND_REQUIRE(x->dims[x->rank - 1] == inner, nd_status_format, "inner dimensions of %s and %s differ",
               ND_DIMS(x), ND_DIMS(w));
    nd_value a = *x, b = *w;
    a.rank = a.rank > 2 ? a.rank - 2 : 0;
    b.rank = b.rank > 2 ? b.rank - 2 : 0;
    ND_TRY(shape_broadcast(&a, &b, y));
    if (x->rank > 1) y->dims[y->rank++] = x->dims[x->rank - 2];
    if (w->rank > 1) y->dims[y->rank++] = w->dims[w->rank - 1];
    return nd_status_ok;
}

static nd_status shape_einsum(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_value *w = nd_infer_input(infer, node, 1);
    const nd_attr *attr = &node->attr;
    int64_t sizes[128] = {0};
    ND_REQUIRE(w && x->rank == attr->n && w->rank == attr->size, nd_status_format,
               "operands %s and %s for %d and %d axes", ND_DIMS(x), w ? ND_DIMS(w) : "absent", attr->n,
               (int)attr->size);
    for (int i = 0; i < x->rank; i++) sizes[attr->list[i]] = x->dims[i];
    for (int i = 0; i < w->rank; i++) {
        int64_t *size = &sizes[attr->ends[i]];
        ND_REQUIRE(!*size || *size == w->dims[i], nd_status_unsupported, "axes '%c' of %s and %s differ",
                   (int)attr->ends[i], ND_DIMS(x), ND_DIMS(w));
        *size = w->dims[i];
    }
    y->rank = (int)attr->groups;
    for (int i = 0; i < y->rank; i++) y->dims[i] = sizes[attr->axes[i]];
    return nd_status_ok;
}

static nd_status shape_batchnorm(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)y;
    ND_REQUIRE(x->rank >= 2, nd_status_format, "input %s has no channels", ND_DIMS(x));
    for (int k = 1; k < 5; k++) {
        const nd_value *row = nd_infer_input(infer, node, k);
        ND_REQUIRE(row && row->rank == 1 && row->dims[0] == x->dims[1], nd_status_format,
                   "input %d, %s, does not fit the channels of %s", k, row ? ND_DIMS(row) : "absent",
                   ND_DIMS(x));
    }
    return nd_status_ok;
}

static nd_status shape_concat(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const int64_t axis = node->attr.axis;
    for (int k = 1; k < node->n_in; k++) {
        const nd_value *part = nd_infer_input(infer, node, k);
        ND_REQUIRE(part && part->rank == x->rank, nd_status_format, "inputs of different rank");
        for (int i = 0; i < x->rank; i++)
            ND_REQUIRE(i == axis || part->dims[i] == x->dims[i], nd_status_format,
                       "%s and %s differ outside axis %lld", ND_DIMS(x), ND_DIMS(part), (long long)axis);
        ND_REQUIRE(!__builtin_add_overflow(y->dims[axis], part->dims[axis], &y->dims[axis]), nd_status_format,
                   "a concatenation too large");
    }
    return nd_status_ok;
}

static nd_status shape_flatten(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    int64_t *axis = &node->attr.axis;
    if (*axis < 0) *axis += x->rank;
    ND_REQUIRE(*axis >= 0 && *axis <= x->rank, nd_status_format, "axis outside input %s", ND_DIMS(x));
    y->rank = 2;
    y->dims[0] = nd_dims_count((int)*axis, x->dims);
    y->dims[1] = nd_dims_count(x->rank - (int)*axis, x->dims + *axis);
    return nd_status_ok;
}

/* The first entry of a shape, which input `slot` of the node is: files that were exported for so many images
 * say that number where they mean the batch. A shape that is computed means what it says. */
static int64_t shape_first(nd_infer *infer, const nd_node *node, int slot, const nd_value *x) {
    const nd_value *shape = nd_infer_input(infer, node, slot);
    const int64_t first = node->attr.n ? node->attr.list[0] : 0;
    const bool said = first == infer->graph->exported && !(shape && shape->computed);
    const bool of_images = x->rank && x->dims[0] == infer->settings->batch;
    return of_images && said ? infer->settings->batch : first;
}

/* The shape in attr->list with `first` in place of its first entry. */
static nd_status shape_reshape_to(const nd_attr *attr, int64_t first, const nd_value *x, nd_value *y) {
    int open = -1;
    y->rank = attr->n;
    for (int i = 0; i < attr->n; i++) {
        const int64_t entry = i ? attr->list[i] : first;
        ND_REQUIRE(entry >= -1 && (entry || i < x->rank), nd_status_format,
                   "entry %d of the shape, %lld, is not possible for input %s", i, (long long)entry,
                   ND_DIMS(x));
        ND_REQUIRE(entry >= 0 || open < 0, nd_status_format, "two open dimensions");
        if (entry < 0) open = i;
        y->dims[i] = entry < 0 ? 1 : entry ? entry : x->dims[i];
    }
    const int64_t have = nd_dims_count(x->rank, x->dims), want = nd_dims_count(y->rank, y->dims);
    if (open >= 0 && want > 0) y->dims[open] = have / want;
    ND_REQUIRE(nd_dims_count(y->rank, y->dims) == have, nd_status_format, "%s cannot become %s", ND_DIMS(x),
               ND_DIMS(y));
    return nd_status_ok;
}

static nd_status shape_reshape(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_attr *attr = &node->attr;
    ND_REQUIRE(attr->n <= nd_rank_max, nd_status_unsupported, "%d dimensions, at most %d", attr->n,
               nd_rank_max);
    const int64_t said = attr->n ? attr->list[0] : 0;
    const int64_t first = shape_first(infer, node, 1, x);
    if (first != said && !shape_reshape_to(attr, first, x, y)) return nd_status_ok;
    return shape_reshape_to(attr, said, x, y);
}

static nd_status shape_squeeze(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    bool drop[2 * nd_rank_max] = {false};
    ND_TRY(shape_axes(&node->attr, x->rank, drop));
    y->rank = 0;
    for (int i = 0; i < x->rank; i++) {
        ND_REQUIRE(!drop[i] || x->dims[i] == 1, nd_status_format, "axis %d of %s is not 1", i, ND_DIMS(x));
        if (drop[i] || (!node->attr.n && x->dims[i] == 1)) continue;
        y->dims[y->rank++] = x->dims[i];
    }
    return nd_status_ok;
}

static nd_status shape_unsqueeze(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    bool added[2 * nd_rank_max] = {false};
    y->rank = x->rank + node->attr.n;
    ND_REQUIRE(y->rank <= nd_rank_max, nd_status_unsupported, "%d dimensions, at most %d", y->rank,
               nd_rank_max);
    ND_TRY(shape_axes(&node->attr, y->rank, added));
    for (int i = 0, from = 0; i < y->rank; i++) y->dims[i] = added[i] ? 1 : x->dims[from++];
    return nd_status_ok;
}

static nd_status shape_transpose(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    nd_attr *attr = &node->attr;
    bool seen[2 * nd_rank_max] = {false};
    for (int i = 0; !attr->n && i < x->rank; i++) attr->list[i] = x->rank - 1 - i;
    if (!attr->n) attr->n = x->rank;
    ND_REQUIRE(attr->n == x->rank, nd_status_format, "perm has %d entries for input %s", attr->n, ND_DIMS(x));
    ND_TRY(shape_axes(attr, x->rank, seen));
    for (int i = 0; i < x->rank; i++) y->dims[i] = x->dims[attr->list[i]];
    return nd_status_ok;
}

static nd_status shape_pad(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    const nd_attr *attr = &node->attr;
    ND_REQUIRE(attr->n == 2 * x->rank, nd_status_format, "%d pads for input %s", attr->n, ND_DIMS(x));
    for (int i = 0; i < x->rank; i++) {
        const int64_t before = attr->list[i], after = attr->list[x->rank + i], size = x->dims[i];
        if (attr->pad_mode != nd_pad_constant && (before || after)) {
            ND_REQUIRE(before >= 0 && after >= 0, nd_status_unsupported,
                       "pads that cut axis %d and are no constant", i);
            ND_REQUIRE(before <= size && after <= size && nd_pad_index(attr->pad_mode, -before, size) >= 0 &&
                           nd_pad_index(attr->pad_mode, size - 1 + after, size) >= 0,
                       nd_status_unsupported, "axis %d of %s has too few elements to repeat", i, ND_DIMS(x));
        }
        bool fits = !__builtin_add_overflow(y->dims[i], attr->list[i], &y->dims[i]);
        fits = fits && !__builtin_add_overflow(y->dims[i], attr->list[x->rank + i], &y->dims[i]);
        ND_REQUIRE(fits, nd_status_format, "pads of axis %d are too large", i);
    }
    return nd_status_ok;
}

/* LayerNormalization's scale and bias meet the axes from its first on; those of the others the channels. */
static nd_status shape_normalize(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)y;
    const bool layer = *node->op_type == 'L';
    if (layer) ND_TRY(nd_infer_axis("axis", &node->attr.axis, x->rank));
    ND_REQUIRE(layer || x->rank >= 2, nd_status_format, "input %s has no channels", ND_DIMS(x));
    ND_REQUIRE(layer || x->dims[1] % node->attr.groups == 0, nd_status_format,
               "%lld groups do not divide the channels of %s", (long long)node->attr.groups, ND_DIMS(x));
    for (int k = 1; k < 3; k++) {
        const nd_value *row = nd_infer_input(infer, node, k);
        if (!row) continue;
        const int64_t count = nd_dims_count(row->rank, row->dims);
        const bool fits = layer ? row->rank <= x->rank
                                : row->rank == 1 && (count == x->dims[1] || count == node->attr.groups);
        ND_REQUIRE(fits, nd_status_format, "input %d, %s, does not fit %s", k, ND_DIMS(row), ND_DIMS(x));
    }
    return nd_status_ok;
}

/* Without sizes parts are equal, but for the last since opset 18. */
static nd_status shape_split(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_attr *attr = &node->attr;
    const int64_t axis = attr->axis, whole = x->dims[axis], n = node->n_out;
    const int64_t equal = (whole + n - 1) / n;
    int64_t sum = 0;
    (void)y;
    ND_REQUIRE(!attr->n || attr->n == n, nd_status_format, "%d sizes for %d outputs", attr->n, node->n_out);
    ND_REQUIRE(!attr->size || attr->size == n, nd_status_format, "num_outputs is %lld for %d outputs",
               (long long)attr->size, node->n_out);
    ND_REQUIRE(attr->n || attr->size || whole % n == 0, nd_status_format,
               "axis %lld of %s has no %d equal parts", (long long)axis, ND_DIMS(x), node->n_out);
    for (int k = 0; k < node->n_out; k++) {
        const int64_t size = attr->n ? attr->list[k] : equal < whole - sum ? equal : whole - sum;
        ND_REQUIRE(size >= 0 && size <= whole - sum, nd_status_format, "part %d of %s has size %lld", k,
                   ND_DIMS(x), (long long)size);
        sum += size;
        if (node->out[k] < 0) continue;
        nd_value *part = &infer->graph->values[node->out[k]];
        part->dtype = x->dtype;
        part->rank = x->rank;
        memcpy(part->dims, x->dims, sizeof part->dims);
        part->dims[axis] = size;
    }
    ND_REQUIRE(sum == whole, nd_status_format, "sizes do not add up to axis %lld of %s", (long long)axis,
               ND_DIMS(x));
    return nd_status_ok;
}

static nd_status shape_expand(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    nd_value to = {.rank = node->attr.n};
    for (int i = 0; i < to.rank; i++) {
        to.dims[i] = node->attr.list[i];
        ND_REQUIRE(to.dims[i] >= 0, nd_status_format, "entry %d of the shape is %lld", i,
                   (long long)to.dims[i]);
    }
    return shape_broadcast(x, &to, y);
}

static nd_status shape_tile(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    const nd_attr *attr = &node->attr;
    ND_REQUIRE(attr->n == x->rank, nd_status_format, "%d repeats for input %s", attr->n, ND_DIMS(x));
    for (int i = 0; i < x->rank; i++)
        ND_REQUIRE(attr->list[i] >= 0 && !__builtin_mul_overflow(x->dims[i], attr->list[i], &y->dims[i]),
                   nd_status_format, "axis %d repeated %lld times", i, (long long)attr->list[i]);
    return nd_status_ok;
}

static nd_status shape_resize(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    nd_attr *attr = &node->attr;
    const int64_t first = attr->size ? attr->list[0] : shape_first(infer, node, 3, x);
    ND_REQUIRE(!attr->n || attr->n == (attr->size ? attr->size : x->rank), nd_status_format,
               "%d sizes for input %s", attr->n, ND_DIMS(x));
    for (int i = 0; i < attr->n; i++) {
        int64_t axis = attr->size ? attr->axes[i] : i;
        ND_TRY(nd_infer_axis("axes", &axis, x->rank));
        ND_REQUIRE(attr->list[i] > 0, nd_status_format, "size %lld of axis %lld", (long long)attr->list[i],
                   (long long)axis);
        y->dims[axis] = i ? attr->list[i] : first;
        attr->resize.scales[axis] = (float)y->dims[axis] / (float)x->dims[axis];
    }
    for (int i = 0; !attr->n && i < x->rank; i++)
        y->dims[i] = (int64_t)floor((double)x->dims[i] * (double)attr->resize.scales[i]);
    return nd_status_ok;
}

static nd_status shape_gather(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_value *index = nd_infer_input(infer, node, 1);
    const int64_t axis = node->attr.axis;
    ND_REQUIRE(index && index->rank >= 0, nd_status_format, "no indices");
    y->rank = x->rank - 1 + index->rank;
    ND_REQUIRE(y->rank <= nd_rank_max, nd_status_unsupported, "%d dimensions, at most %d", y->rank,
               nd_rank_max);
    int at = (int)axis;
    for (int i = 0; i < index->rank; i++) y->dims[at++] = index->dims[i];
    for (int i = (int)axis + 1; i < x->rank; i++) y->dims[at++] = x->dims[i];
    return nd_status_ok;
}

static nd_status shape_reduce(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    nd_attr *attr = &node->attr;
    bool reduced[2 * nd_rank_max] = {false};
    for (int i = 0; !attr->n && i < x->rank; i++) attr->list[i] = i;
    if (!attr->n) attr->n = x->rank;
    ND_TRY(shape_axes(attr, x->rank, reduced));
    y->rank = 0;
    for (int i = 0; i < x->rank; i++) {
        if (reduced[i] && !attr->keep_dims) continue;
        y->dims[y->rank++] = reduced[i] ? 1 : x->dims[i];
    }
    return nd_status_ok;
}

static nd_status shape_slice(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    nd_attr *attr = &node->attr;
    bool seen[nd_rank_max] = {false};
    ND_REQUIRE(attr->n <= x->rank, nd_status_format, "%d starts for input %s", attr->n, ND_DIMS(x));
    for (int i = 0; i < attr->n; i++) {
        ND_TRY(nd_infer_axis("axes", &attr->axes[i], x->rank));
        const int64_t axis = attr->axes[i];
        ND_REQUIRE(attr->steps[i] && !seen[axis], nd_status_format, "axis %lld: %s", (long long)axis,
                   seen[axis] ? "sliced twice" : "a step of 0");
        seen[axis] = true;
        int64_t first;
        y->dims[axis] = nd_slice_count(attr, i, x->dims[axis], &first);
    }
    return nd_status_ok;
}

static nd_status shape_blocks(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer;
    const int64_t block = node->attr.size;
    ND_REQUIRE(x->rank == 4, nd_status_format, "input %s is no map of channels", ND_DIMS(x));
    if (!strcmp(node->op_type, "SpaceToDepth")) {
        ND_REQUIRE(x->dims[2] % block == 0 && x->dims[3] % block == 0 &&
                       !__builtin_mul_overflow(x->dims[1], block * block, &y->dims[1]),
                   nd_status_format, "%s has no blocks of %lld", ND_DIMS(x), (long long)block);
        for (int axis = 2; axis < 4; axis++) y->dims[axis] = x->dims[axis] / block;
        return nd_status_ok;
    }
    ND_REQUIRE(x->dims[1] % (block * block) == 0, nd_status_format,
               "the channels of %s make no blocks of %lld", ND_DIMS(x), (long long)block);
    y->dims[1] = x->dims[1] / (block * block);
    for (int axis = 2; axis < 4; axis++)
        ND_REQUIRE(!__builtin_mul_overflow(x->dims[axis], block, &y->dims[axis]), nd_status_format,
                   "%s in blocks of %lld", ND_DIMS(x), (long long)block);
    return nd_status_ok;
}

static nd_status shape_lrn(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer, (void)y;
    ND_REQUIRE(x->rank >= 2 && node->attr.size >= 1, nd_status_format, "input %s, size %lld", ND_DIMS(x),
               (long long)node->attr.size);
    return nd_status_ok;
}

static nd_status shape_cast(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer, (void)x;
    y->dtype = node->attr.dtype;
    return nd_status_ok;
}

/* Into the type of the zero point, unsigned integers without one; only 8 bits are run. */
static nd_status shape_quantize(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_value *zero = nd_infer_input(infer, node, 2);
    y->dtype = zero ? zero->dtype : nd_dtype_u8;
    ND_REQUIRE(x->dtype == nd_dtype_f32, nd_status_unsupported, "quantises %s", nd_dtype_name(x->dtype));
    ND_REQUIRE(!zero || !zero->raw_type, nd_status_unsupported, "quantises to %s", zero->raw_type);
    ND_REQUIRE(y->dtype == nd_dtype_u8 || y->dtype == nd_dtype_i8 || y->dtype == nd_dtype_e4m3,
               nd_status_unsupported, "quantises to %s", nd_dtype_name(y->dtype));
    return nd_status_ok;
}

static nd_status shape_dequantize(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    const nd_value *scale = nd_infer_input(infer, node, 1);
    ND_REQUIRE(!x->raw_type, nd_status_unsupported, "of %s", x->raw_type);
    y->dtype = scale ? scale->dtype : nd_dtype_f32;
    return nd_status_ok;
}

static nd_status shape_shape(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer, (void)node, (void)x, (void)y;
    return nd_fail(nd_status_unsupported, "the shape of a value of unknown shape");
}

static nd_status shape_same(nd_infer *infer, nd_node *node, const nd_value *x, nd_value *y) {
    (void)infer, (void)node, (void)x, (void)y;
    return nd_status_ok;
}

/* `axis` marks the ops whose attr.axis counts from the end when negative and lies inside the input. */
static const struct {
    nd_shaper *shape;
    bool axis;
} nd_shapers[nd_op_count] = {
    [nd_op_conv] = {nd_shape_conv, false},
    [nd_op_einsum] = {shape_einsum, false},
    [nd_op_conv_1d] = {nd_shape_conv, false},
    [nd_op_conv_transpose] = {nd_shape_conv_transpose, false},
    [nd_op_gemm] = {shape_gemm, false},
    [nd_op_matmul] = {shape_matmul, false},
    [nd_op_batchnorm] = {shape_batchnorm, false},
    [nd_op_relu] = {shape_same, false},
    [nd_op_clip] = {shape_same, false},
    [nd_op_leaky_relu] = {shape_same, false},
    [nd_op_sigmoid] = {shape_same, false},
    [nd_op_hard_sigmoid] = {shape_same, false},
    [nd_op_hard_swish] = {shape_same, false},
    [nd_op_add] = {shape_binary, false},
    [nd_op_mul] = {shape_binary, false},
    [nd_op_sub] = {shape_binary, false},
    [nd_op_div] = {shape_binary, false},
    [nd_op_max_pool] = {nd_shape_pool, false},
    [nd_op_average_pool] = {nd_shape_pool, false},
    [nd_op_global_average_pool] = {shape_global_pool, false},
    [nd_op_global_max_pool] = {shape_global_pool, false},
    [nd_op_concat] = {shape_concat, true},
    [nd_op_flatten] = {shape_flatten, false},
    [nd_op_reshape] = {shape_reshape, false},
    [nd_op_squeeze] = {shape_squeeze, false},
    [nd_op_unsqueeze] = {shape_unsqueeze, false},
    [nd_op_transpose] = {shape_transpose, false},
    [nd_op_pad] = {shape_pad, false},
    [nd_op_softmax] = {shape_same, true},
    [nd_op_lrn] = {shape_lrn, false},
    [nd_op_dropout] = {shape_same, false},
    [nd_op_identity] = {shape_same, false},
    [nd_op_gather] = {shape_gather, true},
    [nd_op_reduce_mean] = {shape_reduce, false},
    [nd_op_reduce_prod] = {shape_reduce, false},
    [nd_op_slice] = {shape_slice, false},
    [nd_op_shape] = {shape_shape, false},
    [nd_op_cast] = {shape_cast, false},
    [nd_op_quantize] = {shape_quantize, false},
    [nd_op_dequantize] = {shape_dequantize, false},
    [nd_op_unary] = {shape_same, false},
    [nd_op_binary] = {shape_binary, false},
    [nd_op_where] = {shape_where, false},
    [nd_op_reduce] = {shape_reduce, false},
    [nd_op_normalize] = {shape_normalize, false},
    [nd_op_split] = {shape_split, true},
    [nd_op_expand] = {shape_expand, false},
    [nd_op_tile] = {shape_tile, false},
    [nd_op_depth_to_space] = {shape_blocks, false},
    [nd_op_resize] = {shape_resize, false},
};

nd_status nd_infer_shapes(nd_infer *infer, nd_node *node) {
    const nd_value *x = nd_infer_input(infer, node, 0);
    ND_REQUIRE(nd_shapers[node->op].shape, nd_status_unsupported, "nd cannot interpret this operator");
    ND_REQUIRE(x && node->out[0] >= 0, nd_status_format, "without input or output");
    nd_value *y = &infer->graph->values[node->out[0]];
    const nd_value given = *x; /* y may be a later element of the same list, never x itself */
    y->dtype = given.dtype;
    y->rank = given.rank;
    memcpy(y->dims, given.dims, sizeof y->dims);
    if (nd_shapers[node->op].axis) ND_TRY(nd_infer_axis("axis", &node->attr.axis, given.rank));
    return nd_shapers[node->op].shape(infer, node, &given, y);
}
