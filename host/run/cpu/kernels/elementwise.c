/* Operations that touch every element once: binary, activation, affine, copy. Loops are collapsed to as few
 * axes as the views allow, ordered so that y is written in memory order, and split over the threads. */
#include "run/cpu/cpu.h"
#include "run/cpu/kernels/exponential.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { operand_y, operand_x, operand_a, operand_b, operand_count };
enum { elementwise_block = 1024 };

/* One run of the innermost axis. Strides are in elements, 0 repeats. */
typedef struct elementwise_row {
    int64_t n;
    float *y;
    const float *x, *a, *b;
    int64_t step[operand_count];
} elementwise_row;

typedef struct elementwise_kernel elementwise_kernel;
typedef void elementwise_body(const elementwise_kernel *k, const elementwise_row *row);

struct elementwise_kernel {
    nd_kernel base;
    elementwise_body *body;
    nd_activation activation;
    nd_pairing pairing;
    bool half;
    int operands;      /* in use: y, x, then a and b */
    float *weights[2]; /* affine: a and b, owned */
    int rank;
    int64_t dims[nd_rank_max], strides[nd_rank_max][operand_count];
    int64_t offset[operand_count];
    int64_t rows, block, blocks; /* runs of the innermost axis, and its pieces */
};

/* x and y are the same or apart. */
ND_CLONES static void activate(nd_activation activation, int64_t count, const float *x, float *y) {
    const float a = activation.a, b = activation.b;
    switch (activation.act) {
    case nd_act_none:
        if (x != y) memcpy(y, x, (size_t)count * sizeof *y);
        break;
    case nd_act_relu:
        for (int64_t i = 0; i < count; i++) y[i] = x[i] > 0 ? x[i] : 0;
        break;
    case nd_act_clip:
        for (int64_t i = 0; i < count; i++) y[i] = x[i] < a ? a : x[i] > b ? b : x[i];
        break;
    case nd_act_leaky_relu:
        for (int64_t i = 0; i < count; i++) y[i] = x[i] < 0 ? a * x[i] : x[i];
        break;
    case nd_act_sigmoid:
        for (int64_t i = 0; i < count; i++) y[i] = 1 / (1 + nd_cpu_exp(-x[i]));
        break;
    case nd_act_swish:
        for (int64_t i = 0; i < count; i++) y[i] = x[i] / (1 + nd_cpu_exp(-a * x[i]));
        break;
    default:
        for (int64_t i = 0; i < count; i++) y[i] = nd_activation_apply(activation, x[i]);
    }
}

void nd_cpu_activate(nd_activation activation, int64_t count, float *y) {
    if (activation.act != nd_act_none) activate(activation, count, y, y);
}

static bool row_contiguous(const elementwise_row *row, int operands) {
    for (int i = 0; i < operands; i++) {
        if (row->step[i] != 1) return false;
    }
    return true;
}

/* The pairing outside of the loop, so that the loop is one the compiler vectorises. */
#define ROW_PAIR(expression)                                                                                 \
    for (int64_t i = 0; dense && i < n; i++) {                                                               \
        const float u = x[i], v = a[i];                                                                      \
        y[i] = (expression);                                                                                 \
    }                                                                                                        \
    for (int64_t i = 0; !dense && i < n; i++) {                                                              \
        const float u = x[i * sx], v = a[i * sa];                                                            \
        y[i * sy] = (expression);                                                                            \
    }

ND_CLONES static void row_binary(const elementwise_kernel *k, const elementwise_row *row) {
    float *restrict y = row->y;
    const float *x = row->x, *a = row->a;
    const int64_t n = row->n, sy = row->step[operand_y], sx = row->step[operand_x], sa = row->step[operand_a];
    const bool dense = row_contiguous(row, 3);
    switch (k->pairing) {
    case nd_pairing_add:
        ROW_PAIR(u + v)
        break;
    case nd_pairing_mul:
        ROW_PAIR(u * v)
        break;
    case nd_pairing_sub:
        ROW_PAIR(u - v)
        break;
    case nd_pairing_div:
        ROW_PAIR(u / v)
        break;
    default:
        ROW_PAIR(nd_pairing_apply(k->pairing, u, v))
    }
    if (sy == 1) {
        nd_cpu_activate(k->activation, n, y);
    } else if (k->activation.act != nd_act_none) {
        for (int64_t i = 0; i < n; i++) nd_cpu_activate(k->activation, 1, y + i * sy);
    }
}

ND_CLONES static void row_affine(const elementwise_kernel *k, const elementwise_row *row) {
    float *restrict y = row->y;
    const float *x = row->x, *a = row->a, *b = row->b;
    const int64_t n = row->n, sy = row->step[operand_y], sx = row->step[operand_x], sa = row->step[operand_a];
    if (row_contiguous(row, 4)) {
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * a[i] + b[i];
    } else {
        for (int64_t i = 0; i < n; i++) y[i * sy] = x[i * sx] * a[i * sa] + b[i * row->step[operand_b]];
    }
    for (int64_t i = 0; sy != 1 && i < n; i++) nd_cpu_activate(k->activation, 1, y + i * sy);
    if (sy == 1) nd_cpu_activate(k->activation, n, y);
}

static void row_activation(const elementwise_kernel *k, const elementwise_row *row) {
    const int64_t n = row->n, sy = row->step[operand_y], sx = row->step[operand_x];
    if (sx == 1 && sy == 1) {
        activate(k->activation, n, row->x, row->y);
        return;
    }
    for (int64_t i = 0; i < n; i++) row->y[i * sy] = nd_activation_apply(k->activation, row->x[i * sx]);
}

static void row_copy(const elementwise_kernel *k, const elementwise_row *row) {
    const int64_t n = row->n, sy = row->step[operand_y], sx = row->step[operand_x];
    (void)k;
    if (sx == 1 && sy == 1) {
        memmove(row->y, row->x, (size_t)n * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < n; i++) row->y[i * sy] = row->x[i * sx];
}

/* bf16: a piece of the row at a time through fp32 on the stack. Weights of affine are fp32 already. */
ND_CLONES static void row_half(const elementwise_kernel *k, const elementwise_row *row, char *const *at) {
    float values[operand_count][elementwise_block];
    elementwise_row wide = {
        .n = row->n, .y = values[operand_y], .x = values[operand_x], .step = {1, 1, 1, 1}};
    wide.a = values[operand_a];
    wide.b = values[operand_b];
    for (int o = operand_x; o < k->operands; o++) {
        const uint16_t *from = (const uint16_t *)at[o];
        const float *weights = (const float *)at[o];
        const bool owned = o >= operand_a && k->weights[o - operand_a];
        for (int64_t i = 0; i < row->n; i++) {
            values[o][i] = owned ? weights[i * row->step[o]] : nd_bf16_to_f32(from[i * row->step[o]]);
        }
    }
    k->body(k, &wide);
    uint16_t *to = (uint16_t *)at[operand_y];
    for (int64_t i = 0; i < row->n; i++) to[i * row->step[operand_y]] = nd_f32_to_bf16(values[operand_y][i]);
}

typedef struct elementwise_job {
    const elementwise_kernel *kernel;
    char *base[operand_count];
} elementwise_job;

/* The row at `position` of every operand, `n` elements of it. */
static void elementwise_row_at(const elementwise_job *job, const int64_t *position, int64_t n) {
    const elementwise_kernel *k = job->kernel;
    const int last = k->rank - 1;
    elementwise_row row = {.n = n};
    char *at[operand_count] = {NULL};
    for (int o = 0; o < k->operands; o++) {
        const bool owned = o >= operand_a && k->weights[o - operand_a];
        at[o] = job->base[o] + position[o] * (k->half && !owned ? 2 : 4);
        row.step[o] = k->strides[last][o];
    }
    if (k->half) {
        row_half(k, &row, at);
        return;
    }
    row.y = (float *)at[operand_y];
    row.x = (const float *)at[operand_x];
    row.a = (const float *)at[operand_a];
    row.b = (const float *)at[operand_b];
    k->body(k, &row);
}

/* Units are (row, piece of the row). Positions are stepped, not divided out anew: rows may be as short as the
 * channels of a pixel. */
static void elementwise_rows(void *context, int64_t begin, int64_t end, int worker) {
    const elementwise_job *job = context;
    const elementwise_kernel *k = job->kernel;
    const int last = k->rank - 1;
    int64_t index[nd_rank_max] = {0}, base[operand_count], rest = begin / k->blocks,
            piece = begin % k->blocks;
    (void)worker;
    for (int o = 0; o < k->operands; o++) base[o] = k->offset[o];
    for (int axis = last - 1; axis >= 0; axis--) {
        index[axis] = rest % k->dims[axis];
        rest /= k->dims[axis];
        for (int o = 0; o < k->operands; o++) base[o] += index[axis] * k->strides[axis][o];
    }
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t position[operand_count];
        const int64_t start = piece * k->block, left = k->dims[last] - start;
        for (int o = 0; o < k->operands; o++) position[o] = base[o] + start * k->strides[last][o];
        elementwise_row_at(job, position, left < k->block ? left : k->block);
        if (++piece < k->blocks) continue;
        piece = 0;
        for (int axis = last - 1; axis >= 0; axis--) {
            const bool more = ++index[axis] < k->dims[axis];
            const int64_t step = more ? 1 : 1 - k->dims[axis];
            for (int o = 0; o < k->operands; o++) base[o] += step * k->strides[axis][o];
            if (more) break;
            index[axis] = 0;
        }
    }
}

static nd_status elementwise_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    elementwise_kernel *k = (elementwise_kernel *)kernel;
    elementwise_job job = {.kernel = k};
    job.base[operand_y] = buffers->y;
    job.base[operand_x] = (char *)(uintptr_t)buffers->x;
    job.base[operand_a] = k->weights[0] ? (char *)k->weights[0] : (char *)(uintptr_t)buffers->x2;
    job.base[operand_b] = (char *)k->weights[1];
    nd_parallel_for(k->rows * k->blocks, k->block, elementwise_rows, &job);
    return nd_status_ok;
}

static void elementwise_release(nd_kernel *kernel) {
    elementwise_kernel *k = (elementwise_kernel *)kernel;
    free(k->weights[0]);
    free(k->weights[1]);
    free(k);
}

/* Orders the axes by y's strides, innermost last, drops axes of one element and merges those that follow each
 * other in every operand. */
static void elementwise_collapse(elementwise_kernel *k, const nd_view *const *views) {
    int order[nd_rank_max], n = 0;
    const nd_view *y = views[operand_y];
    for (int axis = 0; axis < y->rank; axis++) {
        if (y->dims[axis] == 1) continue;
        int at = n++;
        while (at > 0 && y->strides[order[at - 1]] < y->strides[axis]) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = axis;
    }
    k->rank = 0;
    for (int i = 0; i < n; i++) {
        const int axis = order[i];
        bool follows = k->rank > 0;
        for (int o = 0; o < k->operands && follows; o++) {
            follows = k->strides[k->rank - 1][o] == views[o]->strides[axis] * y->dims[axis];
        }
        if (!follows) k->dims[k->rank++] = 1;
        k->dims[k->rank - 1] *= y->dims[axis];
        for (int o = 0; o < k->operands; o++) k->strides[k->rank - 1][o] = views[o]->strides[axis];
    }
    if (!k->rank) k->dims[k->rank++] = 1;
    k->rows = 1;
    for (int i = 0; i + 1 < k->rank; i++) k->rows *= k->dims[i];
    const int64_t width = k->dims[k->rank - 1];
    k->block = k->half || width > 16 * elementwise_block ? elementwise_block : width;
    if (k->block < 1) k->block = 1;
    k->blocks = (width + k->block - 1) / k->block;
}

static nd_status elementwise_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                     elementwise_body *body, const nd_view *const *views, int operands,
                                     elementwise_kernel **out) {
    elementwise_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "%s: no memory for the kernel", nd_operation_name(work->operation));
    k->base = (nd_kernel){.cpu = cpu, .run = elementwise_run, .release = elementwise_release};
    k->body = body;
    k->activation = work->activation;
    k->pairing = work->pairing;
    k->half = precision == nd_precision_bf16;
    k->operands = operands;
    for (int o = 0; o < operands; o++) k->offset[o] = views[o]->offset;
    elementwise_collapse(k, views);
    snprintf(k->base.engine, sizeof k->base.engine, "nd:%s", nd_operation_name(work->operation));
    *out = k;
    return nd_status_ok;
}

static bool elementwise_supports(nd_precision precision) {
    return precision == nd_precision_fp32 || precision == nd_precision_bf16;
}

bool nd_cpu_binary_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    (void)work;
    return elementwise_supports(precision);
}

nd_status nd_cpu_binary_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    const nd_view *views[] = {&work->y, &work->x, &work->x2};
    elementwise_kernel *k = NULL;
    ND_TRY(elementwise_prepare(cpu, work, precision, row_binary, views, 3, &k));
    *out = &k->base;
    return nd_status_ok;
}

bool nd_cpu_activation_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    (void)work;
    return elementwise_supports(precision);
}

nd_status nd_cpu_activation_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                    nd_kernel **out) {
    const nd_view *views[] = {&work->y, &work->x};
    elementwise_kernel *k = NULL;
    ND_TRY(elementwise_prepare(cpu, work, precision, row_activation, views, 2, &k));
    *out = &k->base;
    return nd_status_ok;
}

bool nd_cpu_copy_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    (void)work;
    return elementwise_supports(precision);
}

nd_status nd_cpu_copy_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    const nd_view *views[] = {&work->y, &work->x};
    elementwise_kernel *k = NULL;
    ND_TRY(elementwise_prepare(cpu, work, precision, row_copy, views, 2, &k));
    *out = &k->base;
    return nd_status_ok;
}

bool nd_cpu_affine_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    (void)work;
    return elementwise_supports(precision);
}

nd_status nd_cpu_affine_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    const int64_t channels = work->y.dims[1];
    nd_view channel = {.rank = work->y.rank};
    memcpy(channel.dims, work->y.dims, sizeof channel.dims);
    channel.strides[1] = 1;
    const nd_view *views[] = {&work->y, &work->x, &channel, &channel};
    elementwise_kernel *k = NULL;
    ND_TRY(elementwise_prepare(cpu, work, precision, row_affine, views, 4, &k));
    for (int i = 0; i < 2; i++) k->weights[i] = nd_alloc_array((size_t)channels, sizeof(float));
    if (!k->weights[0] || !k->weights[1]) {
        elementwise_release(&k->base);
        return nd_fail(nd_status_memory, "affine: no memory for the weights");
    }
    memcpy(k->weights[0], work->weights, (size_t)channels * sizeof(float));
    for (int64_t i = 0; k->half && i < channels; i++) {
        k->weights[0][i] = nd_bf16_to_f32(nd_f32_to_bf16(k->weights[0][i]));
    }
    if (work->bias) memcpy(k->weights[1], work->bias, (size_t)channels * sizeof(float));
    *out = &k->base;
    return nd_status_ok;
}
