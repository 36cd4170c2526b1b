/* Pools over channels-last images, in two passes: the rows of taps into one row of the input's width, then
 * its columns into a row of the output. A tap is a long run of adjacent numbers in both. */
#include "run/cpu/cpu.h"
#include "run/quantized.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { pool_piece = 512 }; /* numbers widened at once */

/* One row of accumulators, which may be the output itself. `taps`: by output pixel, the first column and how
 * many there are, `step` numbers apart. */
typedef struct pool_span {
    int64_t first, count;
} pool_span;

typedef struct pool_columns {
    const pool_span *taps;
    int64_t width, channels, step, out_pixel;
} pool_columns;

/* What depends on the type of the elements and on the function. Accumulators are fp32; largest numbers
 * stay in their own width. */
typedef struct pool_type {
    int element, wide; /* bytes of an element, of an accumulator */
    void (*begin)(int64_t n, void *sum);
    void (*take)(int64_t n, const void *x, void *sum);
    void (*columns)(const pool_columns *row, const void *sums, void *out);
} pool_type;

typedef struct pool_kernel {
    nd_kernel base;
    nd_view x, y;
    nd_window window;
    bool maximum, count_include_pad;
    const pool_type *type;
    bool direct;                 /* accumulators of an output row are the row */
    pool_span *taps;             /* [width of y] */
    int64_t in_count, out_count; /* numbers of a row */
} pool_kernel;

#define POOL_LARGER(a, b) ((a) > (b) ? (a) : (b))
#define POOL_SUM(a, b)    ((a) + (b))

#define POOL_TAKE(name, type, function)                                                                      \
    ND_CLONES static void name##_merge(int64_t n, const type *x, type *restrict sum) {                       \
        for (int64_t i = 0; i < n; i++) sum[i] = (type)function(x[i], sum[i]);                               \
    }                                                                                                        \
    static void name##_take(int64_t n, const void *x, void *sum) {                                           \
        name##_merge(n, x, sum);                                                                             \
    }

#define POOL_FUNCTIONS(name, type, function, none)                                                           \
    static void name##_begin(int64_t n, void *sum) {                                                         \
        for (int64_t i = 0; i < n; i++) ((type *)sum)[i] = none;                                             \
    }                                                                                                        \
    ND_CLONES static void name##_row(const pool_columns *row, const type *sums, type *restrict out) {        \
        const int64_t channels = row->channels;                                                              \
        for (int64_t p = 0; p < row->width; p++, out += row->out_pixel) {                                    \
            const type *from = sums + row->taps[p].first * channels;                                         \
            for (int64_t c = 0; c < channels; c++) out[c] = row->taps[p].count ? from[c] : none;             \
            for (int64_t t = 1; t < row->taps[p].count; t++) {                                               \
                from += row->step;                                                                           \
                for (int64_t c = 0; c < channels; c++) out[c] = (type)function(from[c], out[c]);             \
            }                                                                                                \
        }                                                                                                    \
    }                                                                                                        \
    static void name##_columns(const pool_columns *row, const void *sums, void *out) {                       \
        name##_row(row, sums, out);                                                                          \
    }

POOL_TAKE(largest, float, POOL_LARGER)
POOL_TAKE(total, float, POOL_SUM)
POOL_TAKE(largest_byte, uint8_t, POOL_LARGER)
POOL_FUNCTIONS(largest, float, POOL_LARGER, -INFINITY)
POOL_FUNCTIONS(total, float, POOL_SUM, 0)
POOL_FUNCTIONS(largest_byte, uint8_t, POOL_LARGER, 0)

static void take_half(int64_t n, const uint16_t *x, float *sum,
                      void (*merge)(int64_t, const void *, void *)) {
    float wide[pool_piece];
    for (int64_t i = 0; i < n; i += pool_piece) {
        const int64_t count = n - i < pool_piece ? n - i : pool_piece;
        nd_cpu_widen(count, x + i, wide);
        merge(count, wide, sum + i);
    }
}

/* bf16 in the order of integers, which is its own inverse. */
static inline int16_t half_order(uint16_t half) {
    const int16_t bits = (int16_t)half;
    return (int16_t)(bits ^ ((bits >> 15) & 0x7fff));
}

POOL_FUNCTIONS(largest_ordered, int16_t, POOL_LARGER, (int16_t)(0xff80 ^ 0x7fff))

ND_CLONES static void largest_half_merge(int64_t n, const uint16_t *x, int16_t *restrict sum) {
    for (int64_t i = 0; i < n; i++) {
        const bool number = (x[i] & 0x7fff) <= 0x7f80; /* NaN is passed over, as in fp32 */
        const int16_t ordered = number ? half_order(x[i]) : INT16_MIN;
        sum[i] = (int16_t)POOL_LARGER(ordered, sum[i]);
    }
}

static void largest_half_take(int64_t n, const void *x, void *sum) {
    largest_half_merge(n, x, sum);
}

ND_CLONES static void largest_half_back(const pool_columns *row, int16_t *out) {
    for (int64_t p = 0; p < row->width; p++, out += row->out_pixel) {
        for (int64_t c = 0; c < row->channels; c++) out[c] = half_order((uint16_t)out[c]);
    }
}

static void largest_half_columns(const pool_columns *row, const void *sums, void *out) {
    largest_ordered_columns(row, sums, out);
    largest_half_back(row, out);
}

static void total_take_half(int64_t n, const void *x, void *sum) {
    take_half(n, x, sum, total_take);
}

static const pool_type pool_types[nd_precision_count][2] = {
    [nd_precision_fp32] = {{4, 4, total_begin, total_take, total_columns},
                           {4, 4, largest_begin, largest_take, largest_columns}},
    [nd_precision_bf16] = {{2, 4, total_begin, total_take_half, total_columns},
                           {2, 2, largest_ordered_begin, largest_half_take, largest_half_columns}},
    [nd_precision_int8] = {{0}, {1, 1, largest_byte_begin, largest_byte_take, largest_byte_columns}},
};

bool nd_cpu_pool_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return pool_types[precision][work->maximum].element && nd_cpu_view_channels(&work->x) &&
           nd_cpu_view_channels(&work->y) &&
           (precision != nd_precision_int8 || nd_quantized_agrees(work, precision));
}

/* The taps of output `position` that lie in [low, high). */
static void pool_taps(const nd_window *g, int axis, int64_t position, int64_t low, int64_t high,
                      int64_t *begin, int64_t *end) {
    const int64_t origin = position * g->stride[axis] - g->pad[axis];
    *begin = 0;
    *end = g->kernel[axis];
    while (*begin < *end && origin + *begin * g->dilation[axis] < low) (*begin)++;
    while (*end > *begin && origin + (*end - 1) * g->dilation[axis] >= high) --*end;
}

/* What an average divides by along one axis. Taps past the declared padding, which ceil mode reaches, never
 * count. */
static int64_t pool_count(const pool_kernel *k, int axis, int64_t position) {
    const nd_window *g = &k->window;
    const int64_t size = k->x.dims[2 + axis];
    int64_t begin, end;
    pool_taps(g, axis, position, k->count_include_pad ? -g->pad[axis] : 0,
              k->count_include_pad ? size + g->pad[axis + 2] : size, &begin, &end);
    return end - begin;
}

/* Rows of taps into `sums`, [width of x][channels]. */
static void pool_vertical(const pool_kernel *k, const char *image, int64_t oy, char *sums) {
    const nd_window *g = &k->window;
    const int64_t channels = k->x.dims[1], width = k->x.dims[3];
    const bool adjacent = width == 1 || k->x.strides[3] == channels;
    int64_t begin, end;
    pool_taps(g, 0, oy, 0, k->x.dims[2], &begin, &end);
    k->type->begin(k->in_count, sums);
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = (oy * g->stride[0] - g->pad[0] + i * g->dilation[0]) * k->x.strides[2];
        if (adjacent) k->type->take(k->in_count, image + row * k->type->element, sums);
        for (int64_t x = 0; x < width && !adjacent; x++) {
            k->type->take(channels, image + (row + x * k->x.strides[3]) * k->type->element,
                          sums + x * channels * k->type->wide);
        }
    }
}

ND_CLONES static void pool_divide(int64_t n, float by, float *sum) {
    for (int64_t i = 0; i < n; i++) sum[i] /= by;
}

/* A row of accumulators as it is stored. */
static void pool_finish(const pool_kernel *k, int64_t oy, float *sums, char *out) {
    const int64_t channels = k->y.dims[1], rows = pool_count(k, 0, oy);
    for (int64_t p = 0; p < k->y.dims[3]; p++, sums += channels) {
        char *to = out + p * k->y.strides[3] * k->type->element;
        const int64_t count = k->maximum ? 1 : rows * pool_count(k, 1, p);
        if (count > 1) pool_divide(channels, (float)count, sums);
        if (k->type->element == 4)
            memcpy(to, sums, (size_t)channels * sizeof *sums);
        else
            nd_cpu_narrow(channels, sums, (uint16_t *)to);
    }
}

typedef struct pool_job {
    const pool_kernel *kernel;
    const char *x;
    char *y, *workspace;
} pool_job;

/* Units are (image, output row). */
static void pool_rows(void *context, int64_t begin, int64_t end, int worker) {
    const pool_job *job = context;
    const pool_kernel *k = job->kernel;
    const int64_t element = k->type->element, height = k->y.dims[2];
    const size_t room = k->base.workspace_bytes / (size_t)k->base.cpu->threads;
    char *sums = job->workspace + (size_t)worker * room;
    char *row = sums + nd_cpu_round((size_t)(k->in_count * k->type->wide));
    const pool_columns columns = {.taps = k->taps,
                                  .width = k->y.dims[3],
                                  .channels = k->y.dims[1],
                                  .step = k->window.dilation[1] * k->y.dims[1],
                                  .out_pixel = k->direct ? k->y.strides[3] : k->y.dims[1]};
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t image = unit / height, oy = unit % height;
        const char *x = job->x + (k->x.offset + image * k->x.strides[0]) * element;
        char *y = job->y + (k->y.offset + image * k->y.strides[0] + oy * k->y.strides[2]) * element;
        pool_vertical(k, x, oy, sums);
        k->type->columns(&columns, sums, k->direct ? y : row);
        if (!k->direct) pool_finish(k, oy, (float *)row, y);
    }
}

static nd_status pool_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    const pool_kernel *k = (const pool_kernel *)kernel;
    pool_job job = {k, buffers->x, buffers->y, buffers->workspace};
    nd_parallel_for(k->y.dims[0] * k->y.dims[2],
                    k->in_count * k->window.kernel[0] + k->out_count * k->window.kernel[1], pool_rows, &job);
    return nd_status_ok;
}

static void pool_release(nd_kernel *kernel) {
    pool_kernel *k = (pool_kernel *)kernel;
    free(k->taps);
    free(k);
}

nd_status nd_cpu_pool_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    nd_status status = nd_status_ok;
    pool_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "pool: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = pool_run, .release = pool_release};
    k->x = work->x;
    k->y = work->y;
    k->window = work->window;
    k->maximum = work->maximum;
    k->count_include_pad = work->count_include_pad;
    k->type = &pool_types[precision][work->maximum];
    k->direct = work->maximum && k->type->element == k->type->wide;
    k->in_count = work->x.dims[1] * work->x.dims[3];
    k->out_count = work->y.dims[1] * work->y.dims[3];
    k->taps = nd_alloc_array((size_t)work->y.dims[3], sizeof *k->taps);
    ND_REQUIRE_DONE(k->taps, nd_status_memory, "pool: no memory for the kernel");
    for (int64_t p = 0; p < work->y.dims[3]; p++) {
        int64_t begin, end;
        pool_taps(&k->window, 1, p, 0, work->x.dims[3], &begin, &end);
        const int64_t first = p * k->window.stride[1] - k->window.pad[1] + begin * k->window.dilation[1];
        k->taps[p] = (pool_span){begin < end ? first : 0, end - begin};
    }
    const size_t wide = (size_t)k->type->wide;
    k->base.workspace_bytes =
        (nd_cpu_round((size_t)k->in_count * wide) + nd_cpu_round((size_t)k->out_count * wide)) *
        (size_t)cpu->threads;
    snprintf(k->base.engine, sizeof k->base.engine, "nd:pool%s", k->type->element == 1 ? ":int8" : "");
    *out = &k->base;
done:
    if (status) pool_release(&k->base);
    return status;
}
