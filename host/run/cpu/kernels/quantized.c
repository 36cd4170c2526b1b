/* What moves 8-bit integers and e4m3, and the steps into them and out of them. run/quantized.h defines each.
 * */
#include "run/quantized.h"
#include "run/cpu/cpu.h"
#include "run/cpu/kernels/quantized.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { quantized_piece = 4096 };

typedef struct quantized_kernel quantized_kernel;
typedef struct quantized_run {
    const char *x, *x2;
    char *y;
    int64_t x_step, x2_step, y_step;
} quantized_run;

typedef void quantized_row(const quantized_kernel *k, int64_t n, const quantized_run *run);

struct quantized_kernel {
    nd_kernel base;
    nd_view x, x2, y;
    nd_quant quant;
    nd_requant requant; /* binary */
    float e4m3[256];    /* dequantize of that: what each byte stands for */
    quantized_row *row;
    int x_bytes, y_bytes; /* of an element */
    int inner;            /* axis of the rows, -1: both views are one run in the same order */
};

static void row_move(const quantized_kernel *k, int64_t n, const quantized_run *run) {
    (void)k;
    if (run->x_step == 1 && run->y_step == 1) {
        memcpy(run->y, run->x, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) run->y[i * run->y_step] = run->x[i * run->x_step];
}

/* Rounding of 0..255 by a sum whose last bit is worth 1. */
static inline uint8_t row_round(float t) {
    const union {
        float value;
        uint32_t bits;
    } sum = {t + 0x1.8p23f};
    return (uint8_t)sum.bits;
}

static inline float row_clamp(float t, float low, float high) {
    t = t > low ? t : low;
    return t < high ? t : high;
}

/* real / scale to the last bit, without dividing: the remainder corrects the product with the inverse, once
 * to within a unit in the last place, and then exactly (Markstein 1990, theorem 4). What saturates is cut off
 * before, where remainders are no numbers; NaN becomes the lowest. */
static inline float row_divide(float real, float scale, float inverse, float most) {
    const float x = row_clamp(real, -most, most);
    float t = x * inverse;
    t = fmaf(fmaf(-t, scale, x), inverse, t);
    return fmaf(fmaf(-t, scale, x), inverse, t);
}

/* Remainders are exact only where they are normal numbers. */
static bool row_multiplies(float scale) {
    return scale > 0x1p-60f && scale < 0x1p60f;
}

ND_CLONES static void row_quantize_adjacent(int64_t n, const float *from, float scale, float zero,
                                            uint8_t *to) {
    const float inverse = 1 / scale, most = 1024 * scale;
    for (int64_t i = 0; i < n; i++)
        to[i] = row_round(row_clamp(row_divide(from[i], scale, inverse, most) + zero, 0, 255));
}

/* nd_f32_to_e4m3 without branches: above 2^-6 the bits that go are rounded off, below it a sum aligns them.
 * NaN is above all numbers. */
static inline uint8_t row_e4m3(float t) {
    const union {
        float value;
        uint32_t bits;
    } of = {t};
    const uint32_t magnitude = of.bits & 0x7fffffff;
    const union {
        uint32_t bits;
        float value;
    } absolute = {magnitude};
    const union {
        float value;
        uint32_t bits;
    } small = {absolute.value + 0x1p14f};
    const uint32_t normal = (magnitude - 0x3c000000 + 0x7ffff + (magnitude >> 20 & 1)) >> 20;
    uint32_t code = magnitude < 0x3c800000 ? small.bits - 0x46800000 : normal;
    code = magnitude >= 0x43e00000 ? 0x7e : code;
    code = magnitude > 0x7f800000 ? 0x7f : code;
    return (uint8_t)(of.bits >> 24 & 0x80) | (uint8_t)code;
}

ND_CLONES static void row_e4m3_adjacent(int64_t n, const float *from, float scale, uint8_t *to) {
    for (int64_t i = 0; i < n; i++) to[i] = row_e4m3(from[i] / scale);
}

void nd_cpu_quantize(nd_quant quant, int64_t n, const float *from, uint8_t *to) {
    if (quant.e4m3)
        row_e4m3_adjacent(n, from, quant.scale, to);
    else if (row_multiplies(quant.scale))
        row_quantize_adjacent(n, from, quant.scale, (float)quant.zero, to);
    else
        for (int64_t i = 0; i < n; i++) to[i] = nd_quantize(quant, from[i]);
}

ND_CLONES static void row_quantize(const quantized_kernel *k, int64_t n, const quantized_run *run) {
    const float *from = (const float *)run->x, scale = k->quant.scale, zero = (float)k->quant.zero;
    uint8_t *to = (uint8_t *)run->y;
    if (run->x_step == 1 && run->y_step == 1) {
        nd_cpu_quantize(k->quant, n, from, to);
        return;
    }
    if (k->quant.e4m3) {
        for (int64_t i = 0; i < n; i++) to[i * run->y_step] = row_e4m3(from[i * run->x_step] / scale);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        to[i * run->y_step] = row_round(row_clamp(from[i * run->x_step] / scale + zero, 0, 255));
}

ND_CLONES static void row_dequantize(const quantized_kernel *k, int64_t n, const quantized_run *run) {
    const uint8_t *from = (const uint8_t *)run->x;
    const float scale = k->quant.scale;
    const int32_t zero = k->quant.zero;
    float *to = (float *)run->y;
    if (run->x_step == 1 && run->y_step == 1) {
        for (int64_t i = 0; i < n; i++) to[i] = scale * (float)(from[i] - zero);
        return;
    }
    for (int64_t i = 0; i < n; i++) to[i * run->y_step] = scale * (float)(from[i * run->x_step] - zero);
}

static void row_dequantize_e4m3(const quantized_kernel *k, int64_t n, const quantized_run *run) {
    const uint8_t *from = (const uint8_t *)run->x;
    float *to = (float *)run->y;
    for (int64_t i = 0; i < n; i++) to[i * run->y_step] = k->e4m3[from[i * run->x_step]];
}

/* low and high lie in 0..255. */
static inline uint8_t row_sum(const nd_requant *r, bool leaky, uint8_t x, uint8_t x2) {
    float t = fmaf((float)x2, r->x2_factor, fmaf((float)x, r->x_factor, r->shift));
    if (leaky) t = t < 0 ? t * r->slope : t;
    return row_round(row_clamp(t + r->zero, r->low, r->high));
}

ND_CLONES static void row_add(const quantized_kernel *k, int64_t n, const quantized_run *run) {
    const nd_requant r = k->requant;
    const uint8_t *x = (const uint8_t *)run->x, *x2 = (const uint8_t *)run->x2;
    uint8_t *y = (uint8_t *)run->y;
    if (run->x_step == 1 && run->x2_step == 1 && run->y_step == 1) {
        if (r.leaky) {
            for (int64_t i = 0; i < n; i++) y[i] = row_sum(&r, true, x[i], x2[i]);
        } else {
            for (int64_t i = 0; i < n; i++) y[i] = row_sum(&r, false, x[i], x2[i]);
        }
        return;
    }
    for (int64_t i = 0; i < n; i++)
        y[i * run->y_step] = row_sum(&r, r.leaky, x[i * run->x_step], x2[i * run->x2_step]);
}

#if defined(__x86_64__)
static void row_add_avx512(const quantized_kernel *k, int64_t n, const quantized_run *run) {
    quantized_run rest = *run;
    int64_t done = 0;
    if (run->x_step == 1 && run->x2_step == 1 && run->y_step == 1 && !k->requant.leaky)
        done = nd_cpu_add_avx512(&k->requant, n, (const uint8_t *)run->x, (const uint8_t *)run->x2,
                                 (uint8_t *)run->y);
    rest.x += done;
    rest.x2 += done;
    rest.y += done;
    row_add(k, n - done, &rest);
}
#endif

typedef struct quantized_job {
    const quantized_kernel *kernel;
    const char *x, *x2;
    char *y;
} quantized_job;

/* Units are rows along `inner`, in row-major order of the other axes. */
static void quantized_rows(void *context, int64_t begin, int64_t end, int worker) {
    const quantized_job *job = context;
    const quantized_kernel *k = job->kernel;
    (void)worker;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t x = k->x.offset, x2 = k->x2.offset, y = k->y.offset, rest = unit;
        for (int axis = k->y.rank - 1; axis >= 0; axis--) {
            if (axis == k->inner) continue;
            x += rest % k->y.dims[axis] * k->x.strides[axis];
            x2 += rest % k->y.dims[axis] * k->x2.strides[axis];
            y += rest % k->y.dims[axis] * k->y.strides[axis];
            rest /= k->y.dims[axis];
        }
        const quantized_run run = {.x = job->x + x * k->x_bytes,
                                   .x2 = job->x2 + x2,
                                   .y = job->y + y * k->y_bytes,
                                   .x_step = k->x.strides[k->inner],
                                   .x2_step = k->x2.strides[k->inner],
                                   .y_step = k->y.strides[k->inner]};
        k->row(k, k->y.dims[k->inner], &run);
    }
}

/* Units are pieces of one run. */
static void quantized_pieces(void *context, int64_t begin, int64_t end, int worker) {
    const quantized_job *job = context;
    const quantized_kernel *k = job->kernel;
    const int64_t first = begin * quantized_piece, count = nd_view_count(&k->y);
    const int64_t last = end * quantized_piece < count ? end * quantized_piece : count;
    (void)worker;
    const quantized_run run = {.x = job->x + (k->x.offset + first) * k->x_bytes,
                               .x2 = job->x2 + k->x2.offset + first,
                               .y = job->y + (k->y.offset + first) * k->y_bytes,
                               .x_step = 1,
                               .x2_step = 1,
                               .y_step = 1};
    k->row(k, last - first, &run);
}

static nd_status quantized_execute(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const quantized_kernel *k = (const quantized_kernel *)kernel;
    /* Where there is no second operand, steps over its zero strides stay within the first. */
    quantized_job job = {k, buffers->x, buffers->x2 ? buffers->x2 : buffers->x, buffers->y};
    const int64_t count = nd_view_count(&k->y);
    if (k->inner < 0) {
        nd_parallel_for((count + quantized_piece - 1) / quantized_piece, quantized_piece, quantized_pieces,
                        &job);
    } else {
        nd_parallel_for(count / k->y.dims[k->inner], k->y.dims[k->inner], quantized_rows, &job);
    }
    return nd_status_ok;
}

static void quantized_release(nd_kernel *kernel) {
    free(kernel);
}

bool nd_cpu_quantized_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return nd_precision_is_quantised(precision) && nd_quantized_agrees(work, precision) && work->y.rank > 0;
}

/* The axis whose elements are adjacent in both views, or else in y. */
static int quantized_inner(const nd_work *work) {
    const nd_view *x = &work->x, *y = &work->y;
    const nd_view *x2 = work->operation == nd_operation_binary ? &work->x2 : x;
    const size_t bytes = (size_t)y->rank * sizeof *y->strides;
    const bool same = !memcmp(x->strides, y->strides, bytes) && !memcmp(x2->strides, y->strides, bytes);
    if (same && (nd_view_is_row_major(y) || (y->rank == 4 && nd_view_is_channels_last(y)))) return -1;
    int inner = y->rank - 1;
    for (int axis = 0; axis < y->rank; axis++) {
        if (y->dims[axis] > 1 && y->strides[axis] == 1) inner = axis;
    }
    for (int axis = 0; axis < y->rank; axis++) {
        if (y->dims[axis] > 1 && y->strides[axis] == 1 && x->strides[axis] == 1) inner = axis;
    }
    return inner;
}

nd_status nd_cpu_quantized_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                   nd_kernel **out) {
    quantized_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "%s: no memory for the kernel", nd_operation_name(work->operation));
    k->base = (nd_kernel){.cpu = cpu, .run = quantized_execute, .release = quantized_release};
    k->x = work->x;
    k->y = work->y;
    if (work->operation == nd_operation_binary) k->x2 = work->x2;
    k->x_bytes = k->y_bytes = 1;
    k->inner = quantized_inner(work);
    if (work->operation == nd_operation_copy) k->row = row_move;
    if (work->operation == nd_operation_binary) {
        k->row = row_add;
#if defined(__x86_64__)
        if (cpu->level >= nd_cpu_level_avx512) k->row = row_add_avx512;
#endif
        k->requant = nd_requant_of(work, NULL, NULL, NULL);
    }
    if (work->operation == nd_operation_quantize) {
        k->row = row_quantize;
        k->quant = work->y_quant;
        k->x_bytes = sizeof(float);
    }
    if (work->operation == nd_operation_dequantize) {
        k->row = work->x_quant.e4m3 ? row_dequantize_e4m3 : row_dequantize;
        k->quant = work->x_quant;
        for (int q = 0; q < 256 && k->quant.e4m3; q++) k->e4m3[q] = nd_dequantize(k->quant, (uint8_t)q);
        k->y_bytes = sizeof(float);
    }
    snprintf(k->base.engine, sizeof k->base.engine, "nd:%s:%s", nd_operation_name(work->operation),
             nd_precision_name(precision));
    *out = &k->base;
    return nd_status_ok;
}
