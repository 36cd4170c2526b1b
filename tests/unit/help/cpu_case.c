#include "tests/unit/help/cpu_case.h"

#include <criterion/criterion.h>

#include <math.h>
#include <string.h>

enum { cpu_case_pattern = 0x7fa5a5a5 }; /* a NaN: it shows wherever it is read */

static size_t view_elements(const nd_view *view) {
    int64_t last = view->offset;
    if (!view->rank) return 0;
    for (int i = 0; i < view->rank; i++) {
        if (!view->dims[i]) return 0;
        last += (view->dims[i] - 1) * view->strides[i];
    }
    return (size_t)last + 1;
}

float *cpu_case_numbers(cpu_case *c, nd_rng *rng, int64_t count) {
    float *out = nd_arena_alloc(&c->arena, (size_t)count * sizeof *out);
    cr_assert_not_null(out);
    for (int64_t i = 0; i < count; i++) out[i] = (float)nd_rng_normal(rng);
    return out;
}

void cpu_case_fill(cpu_case *c, nd_rng *rng) {
    c->x_count = view_elements(&c->work.x);
    c->x2_count = view_elements(&c->work.x2);
    c->y_count = view_elements(&c->work.y);
    c->x = cpu_case_numbers(c, rng, (int64_t)c->x_count);
    c->x2 = cpu_case_numbers(c, rng, (int64_t)c->x2_count);
    c->y = cpu_case_numbers(c, rng, (int64_t)c->y_count);
    c->expected = cpu_case_numbers(c, rng, (int64_t)c->y_count);
    const uint32_t pattern = cpu_case_pattern;
    for (size_t i = 0; i < c->y_count; i++) {
        memcpy(&c->y[i], &pattern, sizeof pattern);
        memcpy(&c->expected[i], &pattern, sizeof pattern);
    }
    /* The scale of the sums: what an activation saturates at says nothing of it. */
    nd_work plain = c->work;
    if (plain.operation != nd_operation_activation) plain.activation.act = nd_act_none;
    cr_assert_eq(nd_ref_run(&plain, c->x, c->x2, c->expected), nd_status_ok, "%s", nd_error());
    c->scale = 0;
    for (size_t i = 0; i < c->y_count; i++) c->scale = fmax(c->scale, fabs((double)c->expected[i]));
    cr_assert_eq(nd_ref_run(&c->work, c->x, c->x2, c->expected), nd_status_ok, "%s", nd_error());
}

void cpu_case_free(cpu_case *c) {
    nd_arena_free(&c->arena);
}

nd_backend *cpu_case_open(const char *isa, int threads, const char *prefer) {
    const nd_backend_settings settings = {.isa = isa, .threads = threads, .prefer = prefer};
    nd_backend *backend = NULL;
    const nd_status status = nd_backend_open("cpu", &settings, &backend);
    if (status == nd_status_device) return NULL;
    cr_assert_eq(status, nd_status_ok, "%s", nd_error());
    return backend;
}

static nd_memory *memory_of(nd_backend *backend, nd_precision precision, const float *data, size_t count) {
    const size_t element = nd_dtype_bytes(nd_precision_storage(precision));
    nd_memory *memory = NULL;
    if (!count) return NULL;
    cr_assert_eq(backend->table->allocate(backend, count * element, &memory), nd_status_ok, "%s", nd_error());
    const int64_t dims[] = {(int64_t)count};
    const nd_view flat = nd_view_row_major(1, dims);
    cr_assert_eq(backend->table->upload(backend, memory, &flat, precision, data), nd_status_ok);
    return memory;
}

static double case_difference(const cpu_case *c) {
    double difference = 0;
    for (size_t i = 0; i < c->y_count; i++) {
        uint32_t bits;
        memcpy(&bits, &c->expected[i], sizeof bits);
        if (bits == cpu_case_pattern) {
            uint32_t ours;
            memcpy(&ours, &c->y[i], sizeof ours);
            /* bf16 storage keeps the upper half of the pattern only. */
            if (ours >> 16 != bits >> 16) return INFINITY;
            continue;
        }
        if (!isfinite(c->y[i])) return INFINITY;
        difference = fmax(difference, fabs((double)c->y[i] - c->expected[i]));
    }
    return difference / fmax(c->scale, 1e-30);
}

double cpu_case_error(cpu_case *c, nd_backend *backend, nd_precision precision, char engine[64]) {
    const nd_backend_table *t = backend->table;
    const int64_t dims[] = {(int64_t)c->y_count};
    const nd_view flat = nd_view_row_major(1, dims);
    nd_kernel *kernel = NULL;
    nd_memory *workspace = NULL;
    cr_assert(t->supports(backend, &c->work, precision));
    cr_assert_eq(t->prepare(backend, &c->work, precision, &kernel), nd_status_ok, "%s", nd_error());
    const nd_kernel_info info = t->info(kernel);
    if (engine) {
        strncpy(engine, info.engine, 63);
        engine[63] = '\0';
    }
    nd_memory *x = memory_of(backend, precision, c->x, c->x_count);
    nd_memory *x2 = memory_of(backend, precision, c->x2, c->x2_count);
    nd_memory *y = memory_of(backend, precision, c->y, c->y_count);
    if (info.workspace_bytes) {
        cr_assert_eq(t->allocate(backend, info.workspace_bytes, &workspace), nd_status_ok);
    }
    double error = 0;
    for (int run = 0; run < 2; run++) {
        cr_assert_eq(t->run(backend, kernel, x, x2, y, workspace), nd_status_ok, "%s", nd_error());
        cr_assert_eq(t->download(backend, y, &flat, precision, c->y), nd_status_ok);
        error = fmax(error, case_difference(c));
    }
    t->free(x);
    t->free(x2);
    t->free(y);
    t->free(workspace);
    t->release(kernel);
    return error;
}

void cpu_case_separable(cpu_case *c, const cpu_separable *s, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    *c = (cpu_case){0};
    nd_work *work = &c->work;
    const int64_t oh = (s->h + 2 * s->pad - s->dilation * (s->kernel_h - 1) - 1) / s->stride + 1;
    const int64_t ow = (s->w + 2 * s->pad - s->dilation * (s->kernel_w - 1) - 1) / s->stride + 1;
    const int64_t x[] = {s->n, s->ni, s->h, s->w}, y[] = {s->n, s->no, oh, ow};
    int64_t terms = 0;
    for (int i = 0; i < s->ni; i++) terms += s->ranks[i % s->rank_period];
    int32_t *channel = nd_arena_alloc(&c->arena, (size_t)terms * sizeof *channel);
    cr_assert_not_null(channel);
    for (int i = 0, t = 0; i < s->ni; i++) {
        for (int k = 0; k < s->ranks[i % s->rank_period]; k++) channel[t++] = i;
    }
    *work = (nd_work){.operation = nd_operation_separable,
                      .x = nd_view_channels_last(4, x),
                      .y = nd_view_channels_last(4, y),
                      .residual = s->residual,
                      .terms = terms,
                      .channel = channel,
                      .activation = {s->act, .1f, .9f},
                      .window = {.kernel = {s->kernel_h, s->kernel_w},
                                 .stride = {s->stride, s->stride},
                                 .dilation = {s->dilation, s->dilation},
                                 .pad = {s->pad, s->pad, s->pad, s->pad}}};
    if (s->residual) work->x2 = work->y;
    work->weights = cpu_case_numbers(c, &rng, s->no * terms);
    work->depthwise = cpu_case_numbers(c, &rng, terms * s->kernel_h * s->kernel_w);
    if (s->bias) work->bias = cpu_case_numbers(c, &rng, s->no);
    cpu_case_fill(c, &rng);
}
