/* Operations along one axis that are the same at every place of the others: softmax and resampling. They
 * work on many such places side by side, lanes, which are adjacent in memory where the view lets them be. */
#include "run/cpu/cpu.h"
#include "run/cpu/kernels/exponential.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { lanes_block = 256 };

typedef struct lanes_kernel {
    nd_kernel base;
    nd_view x, y;
    int axis, lane; /* lane: -1 where there is no other axis */
    int64_t lanes, blocks, units;
    int64_t terms;    /* resample */
    float *weights;   /* [dims of y[axis]][terms], owned */
    int32_t *sources; /* likewise */
} lanes_kernel;

typedef struct lanes_job {
    const lanes_kernel *kernel;
    const float *x;
    float *y;
} lanes_job;

static void lanes_release(nd_kernel *kernel) {
    lanes_kernel *k = (lanes_kernel *)kernel;
    free(k->weights);
    free(k->sources);
    free(k);
}

/* The axis whose elements lie closest in y. */
static int lanes_choose(const nd_view *y, int axis) {
    int lane = -1;
    for (int i = 0; i < y->rank; i++)
        if (i != axis && y->dims[i] > 1 && (lane < 0 || y->strides[i] < y->strides[lane])) lane = i;
    return lane;
}

static nd_status lanes_prepare(nd_cpu *cpu, const nd_work *work, const char *engine,
                               nd_status (*run)(nd_kernel *, const nd_cpu_buffers *), nd_kernel **out) {
    lanes_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "%s: no memory for the kernel", engine);
    k->base = (nd_kernel){.cpu = cpu, .run = run, .release = lanes_release};
    strncpy(k->base.engine, engine, sizeof k->base.engine - 1);
    k->x = work->x;
    k->y = work->y;
    k->axis = (int)work->axis;
    k->lane = lanes_choose(&work->y, k->axis);
    k->lanes = k->lane < 0 ? 1 : work->y.dims[k->lane];
    k->blocks = (k->lanes + lanes_block - 1) / lanes_block;
    k->units = nd_view_count(&work->y) / work->y.dims[k->axis] / k->lanes * k->blocks;
    *out = &k->base;
    return nd_status_ok;
}

/* Where a unit begins, a block of lanes at one place of the axes that are neither; returns how many lanes. */
static int64_t lanes_begin(const lanes_kernel *k, int64_t unit, int64_t *x, int64_t *y) {
    const int64_t first = unit % k->blocks * lanes_block;
    int64_t rest = unit / k->blocks;
    *x = k->x.offset;
    *y = k->y.offset;
    for (int i = k->y.rank - 1; i >= 0; i--) {
        if (i == k->axis || i == k->lane) continue;
        *x += rest % k->y.dims[i] * k->x.strides[i];
        *y += rest % k->y.dims[i] * k->y.strides[i];
        rest /= k->y.dims[i];
    }
    if (k->lane >= 0) {
        *x += first * k->x.strides[k->lane];
        *y += first * k->y.strides[k->lane];
    }
    return k->lanes - first < lanes_block ? k->lanes - first : lanes_block;
}

/* A loop over units of name##_lanes, which is inlined for lanes that are adjacent and for others. */
#define LANES_UNITS(name)                                                                                    \
    ND_CLONES static void name##_units(void *context, int64_t begin, int64_t end, int worker) {              \
        const lanes_job *job = context;                                                                      \
        const lanes_kernel *k = job->kernel;                                                                 \
        const int64_t xl = k->lane < 0 ? 0 : k->x.strides[k->lane];                                          \
        const int64_t yl = k->lane < 0 ? 0 : k->y.strides[k->lane];                                          \
        (void)worker;                                                                                        \
        for (int64_t unit = begin; unit < end; unit++) {                                                     \
            int64_t x, y;                                                                                    \
            const int64_t lanes = lanes_begin(k, unit, &x, &y);                                              \
            if (xl == 1 && yl == 1)                                                                          \
                name##_lanes(k, lanes, job->x + x, job->y + y, 1, 1);                                        \
            else                                                                                             \
                name##_lanes(k, lanes, job->x + x, job->y + y, xl, yl);                                      \
        }                                                                                                    \
    }

/* --- softmax */

static inline __attribute__((always_inline)) void
softmax_lanes(const lanes_kernel *k, int64_t lanes, const float *x, float *y, int64_t xl, int64_t yl) {
    const int64_t n = k->y.dims[k->axis], xs = k->x.strides[k->axis], ys = k->y.strides[k->axis];
    float largest[lanes_block], sum[lanes_block];
    for (int64_t l = 0; l < lanes; l++) {
        largest[l] = -INFINITY;
        sum[l] = 0;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < lanes; l++) {
            const float value = x[i * xs + l * xl];
            largest[l] = value > largest[l] ? value : largest[l];
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < lanes; l++) {
            const float power = nd_cpu_exp(x[i * xs + l * xl] - largest[l]);
            y[i * ys + l * yl] = power;
            sum[l] += power;
        }
    for (int64_t l = 0; l < lanes; l++) sum[l] = 1 / sum[l];
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < lanes; l++) y[i * ys + l * yl] *= sum[l];
}

LANES_UNITS(softmax)

static nd_status softmax_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    lanes_job job = {(const lanes_kernel *)kernel, buffers->x, buffers->y};
    const lanes_kernel *k = job.kernel;
    const int64_t lanes = k->lanes < lanes_block ? k->lanes : lanes_block;
    nd_parallel_for(k->units, 8 * lanes * k->y.dims[k->axis], softmax_units, &job);
    return nd_status_ok;
}

bool nd_cpu_softmax_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return precision == nd_precision_fp32 && nd_view_count(&work->y) > 0 &&
           (work->inner == 0 || work->inner == work->y.dims[work->axis]);
}

nd_status nd_cpu_softmax_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    (void)precision;
    return lanes_prepare(cpu, work, "nd:softmax", softmax_run, out);
}

/* --- resampling */

static inline __attribute__((always_inline)) void
resample_lanes(const lanes_kernel *k, int64_t lanes, const float *x, float *y, int64_t xl, int64_t yl) {
    const int64_t xs = k->x.strides[k->axis], ys = k->y.strides[k->axis];
    for (int64_t i = 0; i < k->y.dims[k->axis]; i++) {
        const float *weights = k->weights + i * k->terms;
        const int32_t *sources = k->sources + i * k->terms;
        for (int64_t l = 0; l < lanes; l++) y[i * ys + l * yl] = weights[0] * x[sources[0] * xs + l * xl];
        for (int64_t t = 1; t < k->terms; t++)
            for (int64_t l = 0; l < lanes; l++)
                y[i * ys + l * yl] += weights[t] * x[sources[t] * xs + l * xl];
    }
}

LANES_UNITS(resample)

static nd_status resample_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    lanes_job job = {(const lanes_kernel *)kernel, buffers->x, buffers->y};
    const lanes_kernel *k = job.kernel;
    const int64_t lanes = k->lanes < lanes_block ? k->lanes : lanes_block;
    nd_parallel_for(k->units, lanes * k->terms * k->y.dims[k->axis], resample_units, &job);
    return nd_status_ok;
}

bool nd_cpu_resample_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return precision == nd_precision_fp32 && nd_view_count(&work->y) > 0 && work->terms > 0;
}

nd_status nd_cpu_resample_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    (void)precision;
    ND_TRY(lanes_prepare(cpu, work, "nd:resample", resample_run, out));
    lanes_kernel *k = (lanes_kernel *)*out;
    const size_t count = (size_t)(work->y.dims[k->axis] * work->terms);
    k->terms = work->terms;
    k->weights = nd_alloc_array(count, sizeof *k->weights);
    k->sources = nd_alloc_array(count, sizeof *k->sources);
    if (!k->weights || !k->sources) {
        lanes_release(*out);
        *out = NULL;
        return nd_fail(nd_status_memory, "nd:resample: no memory for %zu weights", count);
    }
    memcpy(k->weights, work->weights, count * sizeof *k->weights);
    memcpy(k->sources, work->channel, count * sizeof *k->sources);
    return nd_status_ok;
}
