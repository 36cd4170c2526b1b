#include "bench/subjects/rig.h"

#include "base/machine/clock.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "bench/subjects/rig_check.h"
#include "bench/timing/displace.h"
#include "bench/timing/slowdown.h"
#include "decouple/methods/method.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    stages_max = 2,
    slots_max = 64,
    copies_max = 8, /* of the weights: preparing many is slow on some backends */
    pixels_checked = 8,
    repeats_recorded = 1000,
    layout_rounds = 9,
    fill_block = 1 << 16,
};

static const char *const implementation_names[nd_implementation_count] = {
    [nd_implementation_dense] = "dense",       [nd_implementation_direct] = "direct",
    [nd_implementation_winograd] = "winograd", [nd_implementation_unfused] = "unfused",
    [nd_implementation_fused] = "fused",       [nd_implementation_best] = "best",
};

const char *nd_implementation_name(nd_implementation implementation) {
    return implementation_names[implementation];
}

bool nd_implementation_is_dense(nd_implementation implementation) {
    return implementation == nd_implementation_dense || implementation == nd_implementation_direct ||
           implementation == nd_implementation_winograd;
}

bool nd_implementation_find(const char *name, nd_implementation *out) {
    for (int i = 0; i < nd_implementation_count; i++)
        if (!strcmp(implementation_names[i], name)) {
            *out = (nd_implementation)i;
            return true;
        }
    return false;
}

const char *nd_form_name(nd_form form) {
    return form == nd_form_dwpw ? "dwpw" : "pwdw";
}

static int64_t weight_count(const nd_conv *stage) {
    return stage->no * (stage->ni / stage->groups) * nd_conv_taps(stage);
}

/* A prepared implementation. The kernels of one copy run one after the other. */
typedef struct entry {
    nd_rig_entry info;
    nd_rig *rig;
    nd_backend *backend; /* of its kernels */
    nd_conv stages[stages_max];
    float *weights[stages_max];
    int32_t *channel; /* separable: input channel of each term */
    int n_stages, n_kernels;
    nd_kernel *kernels[copies_max][stages_max];
    int copies;
    nd_memory *mid, *workspace;
    int64_t turn; /* runs so far: chooses slot and copy */
    void *capture;
    int64_t captured;
} entry;

struct nd_rig {
    nd_conv conv;
    nd_rig_settings settings;
    nd_view x_view, y_view;
    float *x_host, *y_host, *bias;
    nd_memory *x[slots_max], *y[slots_max];
    int slots;
    nd_displacer displacer;
    entry *entries[nd_subjects_max];
    int count;
};

static nd_view image_view(const nd_rig *rig, bool channels_last, int64_t channels, int64_t height,
                          int64_t width) {
    const int64_t dims[4] = {rig->settings.batch, channels, height, width};
    return channels_last ? nd_view_channels_last(4, dims) : nd_view_row_major(4, dims);
}

/* What a stage of an entry reads and writes. */
static nd_view stage_in(const entry *e, int index) {
    const nd_conv *stage = &e->stages[index];
    return image_view(e->rig, e->info.channels_last, stage->ni, stage->in_h, stage->in_w);
}

static nd_view stage_out(const entry *e, int index) {
    const nd_conv *stage = &e->stages[index];
    return image_view(e->rig, e->info.channels_last, stage->no, nd_conv_out_h(stage), nd_conv_out_w(stage));
}

static size_t view_bytes(const nd_rig *rig, const nd_view *view) {
    return (size_t)nd_view_count(view) * nd_dtype_bytes(nd_precision_storage(rig->settings.precision));
}

typedef struct random_fill {
    float *values;
    int64_t count;
    double deviation;
    uint64_t seed;
} random_fill;

/* Every block has a seed of its own, so that any number of threads makes the same values. */
static void fill_blocks(void *context, int64_t begin, int64_t end, int worker) {
    const random_fill *fill = context;
    (void)worker;
    for (int64_t block = begin; block < end; block++) {
        nd_rng rng = nd_rng_seed(fill->seed + 1000 * (uint64_t)block);
        const int64_t first = block * fill_block, left = fill->count - first;
        for (int64_t i = 0; i < (left < fill_block ? left : fill_block); i++)
            fill->values[first + i] = (float)(fill->deviation * nd_rng_normal(&rng));
    }
}

static float *random_floats(int64_t count, double deviation, uint64_t seed) {
    random_fill fill = {nd_alloc_array((size_t)count, sizeof(float)), count, deviation, seed};
    if (fill.values)
        nd_parallel_for((count + fill_block - 1) / fill_block, 8 * fill_block, fill_blocks, &fill);
    return fill.values;
}

static nd_status allocate_slots(nd_rig *rig) {
    nd_backend *backend = rig->settings.backend;
    size_t x_bytes = view_bytes(rig, &rig->x_view), y_bytes = view_bytes(rig, &rig->y_view);
    size_t slots = rig->settings.rotation ? rig->settings.rotation / (x_bytes + y_bytes) + 1 : 1;
    if (rig->settings.rotation && slots < 2) slots = 2;
    rig->slots = slots > slots_max ? slots_max : (int)slots;
    for (int i = 0; i < rig->slots; i++) {
        ND_TRY(nd_displace(&rig->displacer));
        ND_TRY(backend->table->allocate(backend, x_bytes, &rig->x[i]));
        ND_TRY(backend->table->allocate(backend, y_bytes, &rig->y[i]));
        ND_TRY(
            backend->table->upload(backend, rig->x[i], &rig->x_view, rig->settings.precision, rig->x_host));
    }
    return nd_status_ok;
}

nd_status nd_rig_open(const nd_bench_layer *layer, const nd_rig_settings *settings, nd_rig **out) {
    *out = NULL;
    nd_status status = nd_status_ok;
    nd_rig *rig = calloc(1, sizeof *rig);
    ND_REQUIRE(rig, nd_status_memory, "bench: out of memory");
    rig->conv = layer->conv;
    rig->settings = *settings;
    rig->displacer = nd_displacer_new(settings->backend, settings->seed);
    const bool last = settings->backend->channels_last;
    const nd_conv *conv = &rig->conv;
    rig->x_view = image_view(rig, last, conv->ni, conv->in_h, conv->in_w);
    rig->y_view = image_view(rig, last, conv->no, nd_conv_out_h(conv), nd_conv_out_w(conv));
    rig->x_host = random_floats(nd_view_count(&rig->x_view), 1, 1);
    rig->y_host = nd_alloc_array((size_t)nd_view_count(&rig->y_view), sizeof *rig->y_host);
    rig->bias = random_floats(conv->no, 0.1, 2);
    ND_REQUIRE_DONE(rig->x_host && rig->y_host && rig->bias, nd_status_memory, "bench: %s: out of memory",
                    conv->name);
    ND_TRY_DONE(allocate_slots(rig));
    *out = rig;
done:
    if (status) nd_rig_close(rig);
    return status;
}

static void entry_free(entry *e) {
    if (!e) return;
    const nd_backend_table *table = e->backend->table;
    table->synchronize(e->backend);
    if (e->capture) table->capture_free(e->capture);
    for (int c = 0; c < copies_max; c++)
        for (int s = 0; s < stages_max; s++) table->release(e->kernels[c][s]);
    table->free(e->mid);
    table->free(e->workspace);
    for (int s = 0; s < stages_max; s++) free(e->weights[s]);
    free(e->channel);
    free(e);
}

void nd_rig_close(nd_rig *rig) {
    if (!rig) return;
    const nd_backend_table *table = rig->settings.backend->table;
    for (int i = 0; i < rig->count; i++) entry_free(rig->entries[i]);
    for (int i = 0; i < slots_max; i++) {
        table->free(rig->x[i]);
        table->free(rig->y[i]);
    }
    nd_displacer_free(&rig->displacer);
    free(rig->x_host);
    free(rig->y_host);
    free(rig->bias);
    free(rig);
}

/* What each implementation computes, as plain convolutions; of a decoupled layer what the method says. */
static void plan_stages(entry *e) {
    const nd_conv *conv = &e->rig->conv;
    e->n_stages = 1;
    e->stages[0] = *conv;
    if (nd_implementation_is_dense(e->info.implementation)) return;
    const nd_method *method = nd_method_find(nd_form_name(e->info.form));
    const int64_t most = method->max_rank(conv), rank = e->info.terms * method->channels(conv);
    nd_chain shape = {0};
    method->shape(conv, nd_ranks_uniform, rank < most ? rank : most, &shape);
    e->n_stages = shape.n;
    for (int s = 0; s < shape.n; s++) e->stages[s] = nd_chain_stage_conv(&shape, conv, s);
}

static nd_status make_weights(entry *e) {
    for (int s = 0; s < e->n_stages; s++) {
        nd_conv *stage = &e->stages[s];
        double fan_in = (double)weight_count(stage) / (double)stage->no;
        e->weights[s] = random_floats(weight_count(stage), sqrt(1 / fan_in), 3 + (uint64_t)s);
        ND_REQUIRE(e->weights[s], nd_status_memory, "bench: %s: out of memory", e->rig->conv.name);
        stage->weights = e->weights[s];
        stage->bias = s + 1 == e->n_stages ? e->rig->bias : NULL;
    }
    if (e->info.implementation != nd_implementation_fused) return nd_status_ok;
    const int64_t terms = e->stages[0].no, per_channel = terms / e->stages[0].ni;
    e->channel = nd_alloc_array((size_t)terms, sizeof *e->channel);
    ND_REQUIRE(e->channel, nd_status_memory, "bench: %s: out of memory", e->rig->conv.name);
    for (int64_t t = 0; t < terms; t++) e->channel[t] = (int32_t)(t / per_channel);
    return nd_status_ok;
}

static nd_work stage_work(const entry *e, int index) {
    const nd_conv *stage = &e->stages[index];
    bool last = index + 1 == e->n_stages;
    return (nd_work){.operation = nd_operation_conv,
                     .x = stage_in(e, index),
                     .y = stage_out(e, index),
                     .window = stage->window,
                     .groups = stage->groups,
                     .weights = stage->weights,
                     .bias = stage->bias,
                     .activation = {.act = last ? nd_act_relu : nd_act_none}};
}

static nd_work fused_work(const entry *e) {
    return (nd_work){.operation = nd_operation_separable,
                     .x = e->rig->x_view,
                     .y = e->rig->y_view,
                     .window = e->stages[0].window,
                     .weights = e->weights[1],
                     .depthwise = e->weights[0],
                     .channel = e->channel,
                     .terms = e->stages[0].no,
                     .bias = e->rig->bias,
                     .activation = {.act = nd_act_relu}};
}

static nd_status prepare_kernels(entry *e, bool *supported) {
    nd_backend *backend = e->backend;
    nd_precision precision = e->rig->settings.precision;
    nd_work works[stages_max] = {0};
    e->n_kernels = e->info.implementation == nd_implementation_fused ? 1 : e->n_stages;
    for (int s = 0; s < e->n_kernels; s++) {
        works[s] = e->info.implementation == nd_implementation_fused ? fused_work(e) : stage_work(e, s);
        *supported = backend->table->supports(backend, &works[s], precision);
        if (!*supported) return nd_status_ok;
    }
    e->copies = e->rig->slots < copies_max ? e->rig->slots : copies_max;
    for (int c = 0; c < e->copies; c++)
        for (int s = 0; s < e->n_kernels; s++)
            ND_TRY(backend->table->prepare(backend, &works[s], precision, &e->kernels[c][s]));
    return nd_status_ok;
}

static nd_status prepare_memory(entry *e) {
    nd_backend *backend = e->backend;
    for (int s = 0; s < e->n_kernels; s++) {
        nd_kernel_info info = backend->table->info(e->kernels[0][s]);
        if (info.workspace_bytes > e->info.workspace) e->info.workspace = info.workspace_bytes;
        size_t used = strlen(e->info.engine);
        snprintf(e->info.engine + used, sizeof e->info.engine - used, "%s%s", s ? " + " : "", info.engine);
    }
    if (e->info.workspace) ND_TRY(backend->table->allocate(backend, e->info.workspace, &e->workspace));
    if (e->n_kernels < 2) return nd_status_ok;
    nd_view mid = stage_out(e, 0);
    return backend->table->allocate(backend, view_bytes(e->rig, &mid), &e->mid);
}

static void count_work(entry *e) {
    const nd_rig *rig = e->rig;
    double element = (double)nd_dtype_bytes(nd_precision_storage(rig->settings.precision));
    e->info.bytes = (double)view_bytes(rig, &rig->x_view) + (double)view_bytes(rig, &rig->y_view);
    for (int s = 0; s < e->n_stages; s++) {
        e->info.macs += nd_conv_macs(&e->stages[s]);
        e->info.bytes += element * (double)weight_count(&e->stages[s]);
    }
    if (e->n_kernels < 2) return;
    nd_view mid = stage_out(e, 0);
    e->info.bytes += 2 * (double)view_bytes(rig, &mid);
}

int nd_rig_count(const nd_rig *rig) {
    return rig->count;
}

const nd_rig_entry *nd_rig_at(const nd_rig *rig, int index) {
    return &rig->entries[index]->info;
}

size_t nd_rig_rotated(const nd_rig *rig) {
    return (size_t)rig->slots * (view_bytes(rig, &rig->x_view) + view_bytes(rig, &rig->y_view));
}

static nd_status run_once(entry *e) {
    nd_rig *rig = e->rig;
    nd_backend *backend = e->backend;
    int slot = (int)(e->turn % rig->slots), copy = (int)(e->turn % e->copies);
    e->turn++;
    for (int s = 0; s < e->n_kernels; s++) {
        nd_memory *x = s ? e->mid : rig->x[slot];
        nd_memory *y = s + 1 == e->n_kernels ? rig->y[slot] : e->mid;
        ND_TRY(backend->table->run(backend, e->kernels[copy][s], x, NULL, y, e->workspace));
    }
    return nd_status_ok;
}

/* Where the backend captures streams, a sample is one replay, so that the cost of starting kernels does not
 * enter. */
static nd_status run_recorded(entry *e, int64_t repeats) {
    nd_backend *backend = e->backend;
    if (e->captured == repeats) return backend->table->replay(backend, e->capture);
    if (e->capture) backend->table->capture_free(e->capture);
    e->capture = NULL;
    e->captured = 0;
    ND_TRY(backend->table->capture_begin(backend));
    nd_status status = nd_status_ok;
    for (int64_t i = 0; i < repeats && !status; i++) status = run_once(e);
    nd_status ended = backend->table->capture_end(backend, &e->capture);
    if (status || ended) return status ? status : ended;
    e->captured = repeats;
    return backend->table->replay(backend, e->capture);
}

static nd_status run_many(entry *e, int64_t repeats) {
    bool captures = e->backend->table->capture_begin != NULL;
    if (!captures) {
        for (int64_t i = 0; i < repeats; i++) ND_TRY(run_once(e));
        return nd_status_ok;
    }
    for (int64_t left = repeats; left > 0; left -= repeats_recorded)
        ND_TRY(run_recorded(e, left < repeats_recorded ? left : repeats_recorded));
    return nd_status_ok;
}

static nd_status sample_entry(void *context, int64_t repeats, double *ns) {
    entry *e = context;
    nd_backend *backend = e->backend;
    double planted = nd_implementation_is_dense(e->info.implementation) ? 0 : nd_slowdown_planted();
    double start = planted > 0 ? nd_seconds() : 0;
    ND_TRY(backend->table->record_event(backend, 0));
    ND_TRY(run_many(e, repeats));
    if (planted > 0) {
        ND_TRY(backend->table->synchronize(backend));
        nd_slowdown_spin(planted * (nd_seconds() - start));
    }
    ND_TRY(backend->table->record_event(backend, 1));
    return backend->table->elapsed(backend, 0, 1, ns);
}

/* *out is NULL, and nothing failed, where the backend does not support it. */
static nd_status entry_make(nd_rig *rig, const nd_rig_entry *what, entry **out) {
    nd_status status = nd_status_ok;
    bool supported = false;
    entry *e = *out = calloc(1, sizeof *e);
    ND_REQUIRE(e, nd_status_memory, "bench: out of memory");
    e->rig = rig;
    e->info = *what;
    nd_backend *forced = rig->settings.forced[what->implementation];
    e->backend = forced ? forced : rig->settings.backend;
    plan_stages(e);
    ND_TRY_DONE(nd_displace(&rig->displacer));
    ND_TRY_DONE(make_weights(e));
    ND_TRY_DONE(prepare_kernels(e, &supported));
    if (supported) ND_TRY_DONE(prepare_memory(e));
    /* A preference is not kept where it does not fit the shape: then there is no such baseline. */
    if (what->implementation == nd_implementation_winograd && !strstr(e->info.engine, "wino"))
        supported = false;
    if (supported) count_work(e);
done:
    if (status || !supported) {
        entry_free(e);
        *out = NULL;
    }
    if (status == nd_status_unsupported && forced) return nd_status_ok;
    return status ? nd_fail_in(status, "%s, %s", rig->conv.name, nd_implementation_name(what->implementation))
                  : nd_status_ok;
}

/* Leaves the faster of two in *kept: medians of runs through all buffers, in turns after one that does not
 * count. */
static nd_status keep_faster(entry **kept, entry *other) {
    entry *const both[] = {*kept, other};
    double ns[2][layout_rounds];
    nd_status status = nd_status_ok;
    for (int round = -1; round < layout_rounds; round++)
        for (int i = 0; i < 2; i++)
            ND_TRY_DONE(sample_entry(both[i], other->rig->slots, &ns[i][round < 0 ? 0 : round]));
    *kept = both[nd_stats_median(ns[1], layout_rounds) < nd_stats_median(ns[0], layout_rounds)];
done:
    entry_free(*kept == other ? both[0] : other);
    return status;
}

/* The other layout is an alternative: where there is none, or no memory for two, the first one stays. */
static nd_status try_turned(nd_rig *rig, entry **e) {
    nd_rig_entry what = {.implementation = nd_implementation_dense,
                         .channels_last = !(*e)->info.channels_last};
    entry *turned;
    const nd_status status = entry_make(rig, &what, &turned);
    if (status && status != nd_status_memory && status != nd_status_unsupported) return status;
    return status || !turned ? nd_status_ok : keep_faster(e, turned);
}

nd_status nd_rig_add(nd_rig *rig, nd_implementation implementation, nd_form form, int64_t terms,
                     bool *added) {
    *added = false;
    if (implementation == nd_implementation_fused && form != nd_form_dwpw) return nd_status_ok;
    ND_REQUIRE(rig->count < nd_subjects_max, nd_status_usage,
               "bench: more than %d implementations of one layer", nd_subjects_max);
    const nd_rig_layout layout =
        implementation == nd_implementation_dense ? rig->settings.layout : nd_rig_layout_own;
    const nd_rig_entry what = {.implementation = implementation,
                               .form = form,
                               .terms = nd_implementation_is_dense(implementation) ? 0 : terms,
                               .channels_last =
                                   rig->settings.backend->channels_last != (layout == nd_rig_layout_turned)};
    entry *e;
    ND_TRY(entry_make(rig, &what, &e));
    if (!e) return nd_status_ok;
    if (layout == nd_rig_layout_faster) {
        const nd_status status = try_turned(rig, &e);
        if (status) {
            entry_free(e);
            return status;
        }
    }
    rig->entries[rig->count++] = e;
    *added = true;
    return nd_status_ok;
}

nd_subject nd_rig_subject(nd_rig *rig, int index) {
    entry *e = rig->entries[index];
    return (nd_subject){
        .name = nd_implementation_name(e->info.implementation), .sample = sample_entry, .context = e};
}

/* Compares all output channels of one pixel; `worst` is the largest |difference| / bound so far. */
static nd_status check_pixel(entry *e, int64_t image, int64_t y, int64_t x, double *value) {
    const nd_rig *rig = e->rig;
    int64_t no = rig->conv.no, in = nd_view_count(&rig->x_view) / rig->settings.batch;
    int64_t out_h = rig->y_view.dims[2], out_w = rig->y_view.dims[3];
    ND_TRY(nd_rig_evaluate(e->stages, e->n_stages, rig->x_host + image * in, y, x, value, value + no));
    int64_t length = 0;
    for (int s = 0; s < e->n_stages; s++) length += weight_count(&e->stages[s]) / e->stages[s].no;
    double rounding = nd_rig_rounding(rig->settings.precision, length) * e->n_stages;
    for (int64_t o = 0; o < no; o++) {
        double expected = value[o] > 0 ? value[o] : 0;
        double got = rig->y_host[((image * no + o) * out_h + y) * out_w + x];
        double share = fabs(got - expected) / (rounding * value[no + o] + 1e-30);
        if (!(share <= e->info.error)) e->info.error = share; /* a NaN stays */
        if (!(share <= 1))
            return nd_fail(nd_status_failed,
                           "%s: %s (%s) gives %g where %g is right, at image %lld channel %lld (%lld, %lld)",
                           rig->conv.name, nd_implementation_name(e->info.implementation), e->info.engine,
                           got, expected, (long long)image, (long long)o, (long long)y, (long long)x);
    }
    return nd_status_ok;
}

/* One run on buffers in the entry's layout; slot 0 is left as the other entries want it. */
static nd_status run_for_check(entry *e) {
    nd_rig *rig = e->rig;
    nd_backend *backend = rig->settings.backend;
    const nd_backend_table *table = backend->table;
    const nd_precision precision = rig->settings.precision;
    const nd_view x = stage_in(e, 0), y = stage_out(e, e->n_stages - 1);
    const bool turned = e->info.channels_last != backend->channels_last;
    for (int64_t i = 0; i < nd_view_count(&y); i++) rig->y_host[i] = NAN;
    if (turned) ND_TRY(table->upload(backend, rig->x[0], &x, precision, rig->x_host));
    ND_TRY(table->upload(backend, rig->y[0], &y, precision, rig->y_host));
    e->turn = 0;
    ND_TRY(run_once(e));
    ND_TRY(table->synchronize(backend));
    ND_TRY(table->download(backend, rig->y[0], &y, precision, rig->y_host));
    return turned ? table->upload(backend, rig->x[0], &rig->x_view, precision, rig->x_host) : nd_status_ok;
}

static nd_status check_entry(entry *e) {
    nd_rig *rig = e->rig;
    int64_t h = rig->y_view.dims[2], w = rig->y_view.dims[3], batch = rig->settings.batch;
    ND_TRY(run_for_check(e));
    double *value = malloc(2 * (size_t)rig->conv.no * sizeof *value);
    ND_REQUIRE(value, nd_status_memory, "bench: out of memory");
    const int64_t fixed[4][3] = {
        {0, 0, 0}, {0, h - 1, w - 1}, {batch - 1, 0, w - 1}, {batch - 1, h - 1, w / 2}};
    nd_rng rng = nd_rng_seed(7);
    nd_status status = nd_status_ok;
    for (int i = 0; i < pixels_checked && !status; i++) {
        if (i < 4)
            status = check_pixel(e, fixed[i][0], fixed[i][1], fixed[i][2], value);
        else
            status = check_pixel(e, nd_rng_below(&rng, batch), nd_rng_below(&rng, h), nd_rng_below(&rng, w),
                                 value);
    }
    free(value);
    return status;
}

nd_status nd_rig_check(nd_rig *rig) {
    for (int i = 0; i < rig->count; i++) ND_TRY(check_entry(rig->entries[i]));
    return nd_status_ok;
}
