#include "run/executor/executor_parts.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { nd_exec_block_align = 256, nd_exec_events = 4096 }; /* bytes; slots of nd_backend_table.record_event */

static nd_status exec_copy_list(nd_exec *exec, const int *list, int count, const int **out) {
    int *copy = nd_arena_alloc(&exec->arena, (size_t)count * sizeof *copy + 1);
    ND_REQUIRE(copy, nd_status_memory, "no memory");
    for (int i = 0; i < count; i++) {
        ND_REQUIRE(list[i] >= 0 && list[i] < exec->graph->n_values, nd_status_usage,
                   "the graph has no value number %d", list[i]);
        copy[i] = list[i];
    }
    *out = copy;
    return nd_status_ok;
}

static nd_status exec_settle(nd_exec *exec, const nd_exec_settings *settings) {
    static const nd_exec_settings defaults = {0};
    const nd_graph *graph = exec->graph;
    nd_exec_settings *s = &exec->settings;
    *s = settings ? *settings : defaults;
    const bool quantised = nd_precision_is_quantised(s->precision);
    const bool e4m3 = s->precision == nd_precision_e4m3;
    ND_REQUIRE(!quantised || (nd_graph_is_quantised(graph) && nd_graph_is_e4m3(graph) == e4m3),
               nd_status_unsupported, "%s: %s needs a network quantised to it, as nd quantize writes it",
               graph->name, nd_precision_name(s->precision));
    if (quantised) s->precision = nd_precision_fp32;
    if (!s->inputs) s->n_inputs = graph->n_inputs;
    if (!s->outputs) s->n_outputs = graph->n_outputs;
    ND_TRY(exec_copy_list(exec, s->inputs ? s->inputs : graph->inputs, s->n_inputs, &s->inputs));
    ND_TRY(exec_copy_list(exec, s->outputs ? s->outputs : graph->outputs, s->n_outputs, &s->outputs));
    const size_t values = (size_t)graph->n_values, nodes = (size_t)graph->n_nodes;
    exec->values = nd_arena_alloc(&exec->arena, values * sizeof *exec->values);
    exec->needed = nd_arena_alloc(&exec->arena, nodes * sizeof *exec->needed);
    exec->interpreted = nd_arena_alloc(&exec->arena, nodes * sizeof *exec->interpreted);
    exec->planned = nd_arena_alloc(&exec->arena, (values + (size_t)s->n_outputs) * sizeof *exec->planned);
    exec->groups = nd_arena_alloc(&exec->arena, nodes * sizeof *exec->groups);
    exec->absorbed = nd_arena_alloc(&exec->arena, nodes * sizeof *exec->absorbed);
    ND_REQUIRE(exec->values && exec->needed && exec->interpreted && exec->planned && exec->groups &&
                   exec->absorbed,
               nd_status_memory, "no memory");
    return nd_status_ok;
}

/* Views get the place of their slots; from here on they are what the kernels see. */
static void exec_resolve(nd_exec *exec) {
    for (int i = 0; i < exec->n_steps; i++) {
        nd_step *step = &exec->steps[i];
        if (step->x >= 0) step->work.x.offset += exec->slots[step->x].offset;
        if (step->x2 >= 0) step->work.x2.offset += exec->slots[step->x2].offset;
        step->work.y.offset += exec->slots[step->y].offset;
    }
}

static nd_status exec_upload_constants(nd_exec *exec) {
    const nd_backend_table *table = exec->backend->table;
    for (int i = 0; i < exec->n_slots; i++) {
        nd_slot *slot = &exec->slots[i];
        if (!slot->source || slot->first > slot->last) continue;
        const size_t bytes = (size_t)slot->elements * slot->element;
        ND_TRY(table->allocate(exec->backend, bytes, &slot->memory));
        ND_TRY(table->upload(exec->backend, slot->memory, &slot->source_view, exec->settings.precision,
                             slot->source));
    }
    return nd_status_ok;
}

static nd_status exec_upload_input(const nd_exec *exec, int value, const nd_view *view, const float *from) {
    const nd_backend_table *table = exec->backend->table;
    const nd_quant quant = exec->values[value].place.quant;
    if (quant.scale > 0) return table->upload_quantized(exec->backend, exec->block, view, quant, from);
    return table->upload(exec->backend, exec->block, view, exec->settings.precision, from);
}

/* A batch that is never full leaves the rest of the inputs as they are: they start as zeros, not as whatever
 * was in memory, which could be slow or trap. */
static nd_status exec_clear_inputs(nd_exec *exec) {
    for (int i = 0; i < exec->settings.n_inputs; i++) {
        const nd_exec_value *value = &exec->values[exec->settings.inputs[i]];
        nd_view view = value->place.view;
        view.offset += exec->slots[value->place.slot].offset;
        float *zeros = nd_alloc_array((size_t)nd_view_count(&view), sizeof *zeros);
        ND_REQUIRE(zeros, nd_status_memory, "no memory for an input");
        const nd_status status = exec_upload_input(exec, exec->settings.inputs[i], &view, zeros);
        free(zeros);
        if (status) return status;
    }
    return nd_status_ok;
}

static nd_status exec_prepare(nd_exec *exec) {
    const nd_backend_table *table = exec->backend->table;
    size_t *workspace = &exec->workspace_bytes;
    for (int i = 0; i < exec->n_steps; i++) {
        nd_step *step = &exec->steps[i];
        const nd_status status =
            step->host ? nd_exec_prepare_host(exec, step)
                       : table->prepare(exec->backend, &step->work, step->precision, &step->kernel);
        if (status) return nd_fail_in(status, "%s", step->name);
        if (step->host) continue;
        const size_t bytes = table->info(step->kernel).workspace_bytes;
        if (bytes > *workspace) *workspace = bytes;
    }
    return *workspace ? table->allocate(exec->backend, *workspace, &exec->workspace) : nd_status_ok;
}

static nd_memory *exec_memory(const nd_exec *exec, int slot) {
    if (slot < 0) return NULL;
    return exec->slots[slot].source ? exec->slots[slot].memory : exec->block;
}

static nd_status exec_run_steps(nd_exec *exec) {
    const nd_backend_table *table = exec->backend->table;
    const bool timed = exec->settings.time_nodes;
    for (int i = 0; i < exec->n_steps; i++) {
        const nd_step *step = &exec->steps[i];
        if (timed) ND_TRY(table->record_event(exec->backend, i));
        const nd_status status =
            step->host ? nd_exec_run_host(exec, step)
                       : table->run(exec->backend, step->kernel, exec_memory(exec, step->x),
                                    exec_memory(exec, step->x2), exec_memory(exec, step->y), exec->workspace);
        if (status) return nd_fail_in(status, "%s", step->name);
    }
    return timed ? table->record_event(exec->backend, exec->n_steps) : nd_status_ok;
}

/* One launch instead of one per kernel, where the backend can. The first run is not captured: libraries load
 * code and set themselves up in it, which a graph capture does not allow, and a kernel that fails is named. A
 * backend that cannot capture this network is no error: it runs kernel by kernel, as do networks of which the
 * host runs a part. */
static nd_status exec_record(nd_exec *exec) {
    const nd_backend_table *table = exec->backend->table;
    if (!table->capture_begin || !exec->n_steps || exec->n_host) return nd_status_ok;
    ND_TRY(exec_run_steps(exec));
    ND_TRY(table->synchronize(exec->backend));
    nd_status status = table->capture_begin(exec->backend);
    if (!status) {
        const nd_status ran = exec_run_steps(exec);
        status = table->capture_end(exec->backend, &exec->capture);
        if (!status) status = ran;
        if (ran && exec->capture) table->capture_free(exec->capture);
    }
    if (!status) return nd_status_ok;
    exec->capture = NULL;
    nd_log(nd_log_info, "%s does not capture this network as a graph and runs it kernel by kernel: %s",
           exec->backend->name, nd_error());
    return nd_status_ok;
}

/* The kernel promises memory that it does not have and ends the program that uses it: asked beforehand. A
 * device says itself what it has no room for. */
static nd_status exec_check_room(const nd_exec *exec, size_t bytes) {
    enum { always = 64 << 20 };
    if (*exec->backend->gpu || bytes < always) return nd_status_ok;
    const size_t left = nd_memory_find().left;
    ND_REQUIRE(bytes <= left, nd_status_memory,
               "%s: its values take %.1f GiB at a batch of %lld, and %.1f GiB are left: a smaller --batch "
               "takes less",
               exec->graph->name, (double)bytes / 0x1p30, (long long)exec->settings.batch,
               (double)left / 0x1p30);
    return nd_status_ok;
}

/* Nodes are run one by one on the same backend where the interpreter leaves them to it. */
static nd_status exec_open_dynamic(nd_exec *exec) {
    static const nd_dynamic_runner runner = {nd_exec_open, nd_exec_run, nd_exec_close};
    if (!exec->n_interpreted) return nd_status_ok;
    nd_log(nd_log_info, "%s: the host runs %d nodes one by one, whose sizes or integers only the run knows",
           exec->graph->name, exec->n_interpreted);
    return nd_dynamic_open(exec->backend, &runner, exec->graph, exec->interpreted, exec->settings.outputs,
                           exec->settings.n_outputs, &exec->dynamic);
}

static nd_status exec_build(nd_exec *exec) {
    ND_TRY(nd_exec_trace(exec));
    ND_TRY(nd_exec_fuse(exec));
    nd_exec_find_parents(exec);
    ND_TRY(nd_exec_lower(exec));
    ND_REQUIRE(!exec->settings.time_nodes || exec->n_steps < nd_exec_events, nd_status_unsupported,
               "%d kernels: at most %d can be timed one by one", exec->n_steps, nd_exec_events - 1);
    nd_exec_lifetimes(exec);
    exec->block_bytes = nd_plan_offsets(exec->slots, exec->n_slots, nd_exec_block_align);
    ND_REQUIRE(exec->block_bytes >= 0, nd_status_memory, "no memory for the plan");
    exec_resolve(exec);
    const size_t bytes = (size_t)exec->block_bytes;
    ND_TRY(exec_check_room(exec, bytes));
    ND_TRY(exec->backend->table->allocate(exec->backend, bytes ? bytes : nd_exec_block_align, &exec->block));
    ND_TRY(exec_upload_constants(exec));
    ND_TRY(exec_clear_inputs(exec));
    ND_TRY(exec_prepare(exec));
    ND_TRY(exec_record(exec));
    ND_TRY(exec_open_dynamic(exec));
    nd_exec_say_host(exec);
    nd_arena_free(&exec->scratch);
    return nd_status_ok;
}

/* Whether the network runs in no other batch than that it was inferred for, whose results follow one another.
 */
static bool exec_is_fixed(const nd_exec *exec) {
    if (exec->per_image || !exec->inferred || exec->inferred == exec->settings.batch) return false;
    for (int i = 0; i < exec->settings.n_outputs; i++)
        if (nd_exec_is_late(exec, exec->settings.outputs[i])) return false;
    return true;
}

/* One attempt. *tried: the batch it was for, 0 where the network runs in no other; *fixed: that one, where it
 * was not asked for, else 0. */
static nd_status exec_attempt(nd_backend *backend, const nd_graph *graph, const nd_exec_settings *settings,
                              nd_exec **out, int64_t *tried, int64_t *fixed) {
    *tried = *fixed = 0;
    nd_exec *exec = calloc(1, sizeof *exec);
    ND_REQUIRE(exec, nd_status_memory, "no memory");
    exec->backend = backend;
    exec->graph = graph;
    nd_status status = exec_settle(exec, settings);
    if (!status) status = exec_build(exec);
    if (exec->per_image) *tried = exec->settings.batch;
    if (status == nd_status_unsupported && exec_is_fixed(exec)) *fixed = exec->inferred;
    exec->asked = exec->settings.batch;
    if (status) {
        nd_exec_close(exec);
        return status;
    }
    *out = exec;
    return nd_status_ok;
}

nd_status nd_exec_open(nd_backend *backend, const nd_graph *graph, const nd_exec_settings *settings,
                       nd_exec **out) {
    nd_exec_settings now = settings ? *settings : (nd_exec_settings){0};
    int64_t asked = now.batch, tried, fixed;
    char why[512];
    *out = NULL;
    nd_status status = exec_attempt(backend, graph, &now, out, &tried, &fixed);
    if (fixed && now.shrink && asked % fixed == 0) {
        nd_log(nd_log_info, "%s; running in parts of those", nd_error());
        now.batch = fixed;
        status = exec_attempt(backend, graph, &now, out, &tried, &fixed);
        if (!status) (*out)->asked = asked;
        return status;
    }
    if (status != nd_status_memory || !now.shrink) return status;
    snprintf(why, sizeof why, "%s", nd_error());
    for (asked = tried; status == nd_status_memory && tried > 1;) {
        now.batch = tried / 2;
        status = exec_attempt(backend, graph, &now, out, &tried, &fixed);
    }
    if (status) return status;
    (*out)->asked = asked;
    nd_log(nd_log_warn, "%s: %lld images do not fit %s at once, %lld do: running in parts of those (%s)",
           graph->name, (long long)asked, backend->name, (long long)now.batch, why);
    return nd_status_ok;
}

void nd_exec_close(nd_exec *exec) {
    if (!exec) return;
    const nd_backend_table *table = exec->backend->table;
    if (exec->capture) table->capture_free(exec->capture);
    for (int i = 0; i < exec->n_steps; i++)
        if (exec->steps[i].kernel) table->release(exec->steps[i].kernel);
    for (int i = 0; i < exec->n_slots; i++) table->free(exec->slots[i].memory);
    table->free(exec->block);
    table->free(exec->workspace);
    nd_dynamic_close(exec->dynamic);
    free(exec->steps);
    free(exec->slots);
    nd_arena_free(&exec->arena);
    nd_arena_free(&exec->scratch);
    free(exec);
}

/* The first n images of a value, where the graph keeps images apart; else all of it. */
static nd_view exec_images(const nd_exec *exec, int value, int64_t n) {
    const nd_place *place = &exec->values[value].place;
    nd_view view = place->view;
    const nd_slot *slot = &exec->slots[place->slot];
    if (!slot->source) view.offset += slot->offset;
    const bool batched = view.rank > 0 && view.dims[0] == exec->settings.batch && !exec->values[value].fixed;
    if (exec->per_image && batched && !slot->source) view.dims[0] = n;
    return view;
}

nd_status nd_exec_upload(nd_exec *exec, int64_t n, const float *const *inputs) {
    ND_REQUIRE(n >= 1 && n <= exec->settings.batch, nd_status_usage, "%lld images for a batch of %lld",
               (long long)n, (long long)exec->settings.batch);
    ND_REQUIRE(exec->per_image || n == exec->settings.batch, nd_status_unsupported,
               "this network mixes images: it runs only full batches of %lld",
               (long long)exec->settings.batch);
    for (int i = 0; i < exec->settings.n_inputs; i++) {
        const nd_view view = exec_images(exec, exec->settings.inputs[i], n);
        ND_TRY(exec_upload_input(exec, exec->settings.inputs[i], &view, inputs[i]));
    }
    return nd_status_ok;
}

nd_status nd_exec_start(nd_exec *exec) {
    if (exec->capture) return exec->backend->table->replay(exec->backend, exec->capture);
    return exec_run_steps(exec);
}

static nd_status exec_download_value(const nd_exec *exec, int value, const nd_view *view, float *to) {
    return exec->backend->table->download(exec->backend, exec_memory(exec, exec->values[value].place.slot),
                                          view, exec->settings.precision, to);
}

/* What the plan has made goes to the interpreter, which does the rest. */
static nd_status exec_interpret(nd_exec *exec) {
    for (int i = 0; i < exec->n_planned; i++) {
        const int value = exec->planned[i];
        const nd_exec_value *v = &exec->values[value];
        const nd_view view = exec_images(exec, value, exec->settings.batch);
        nd_tensor tensor;
        ND_TRY(nd_tensor_new(nd_dtype_f32, v->rank, v->dims, &tensor));
        nd_status status = exec_download_value(exec, value, &view, tensor.data);
        if (!status) status = nd_dynamic_feed(exec->dynamic, value, &tensor);
        nd_tensor_free(&tensor);
        if (status) return status;
    }
    return nd_dynamic_run(exec->dynamic);
}

nd_status nd_exec_wait(nd_exec *exec) {
    const nd_backend_table *table = exec->backend->table;
    ND_TRY(table->synchronize(exec->backend));
    for (int i = 0; exec->settings.time_nodes && i < exec->n_steps; i++)
        ND_TRY(table->elapsed(exec->backend, i, i + 1, &exec->steps[i].ns));
    return exec->dynamic ? exec_interpret(exec) : nd_status_ok;
}

static nd_status exec_download(nd_exec *exec, int64_t n, float *const *outputs) {
    for (int i = 0; i < exec->settings.n_outputs; i++) {
        const int value = exec->settings.outputs[i];
        if (nd_exec_is_late(exec, value)) {
            ND_REQUIRE(!outputs[i], nd_status_usage, "%s: only the run knows the size of output \"%s\"",
                       exec->graph->name, exec->graph->values[value].name);
            continue;
        }
        const nd_view view = exec_images(exec, value, n);
        ND_TRY(exec_download_value(exec, value, &view, outputs[i]));
    }
    return nd_status_ok;
}

const nd_tensor *nd_exec_output(const nd_exec *exec, int index) {
    const int value = exec->settings.outputs[index];
    return nd_exec_is_late(exec, value) ? nd_dynamic_value(exec->dynamic, value) : NULL;
}

static nd_status exec_run_part(nd_exec *exec, int64_t n, const float *const *inputs, float *const *outputs) {
    ND_TRY(nd_exec_upload(exec, n, inputs));
    ND_TRY(nd_exec_start(exec));
    ND_TRY(nd_exec_wait(exec));
    return exec_download(exec, n, outputs);
}

/* Elements of `first` images of a value, a multiple of those of the plan. */
static size_t exec_skip(const nd_exec *exec, int value, int64_t first) {
    const nd_view view = exec_images(exec, value, exec->settings.batch);
    return (size_t)(first / exec->settings.batch * nd_view_count(&view));
}

/* More images than the plan holds. */
static nd_status exec_run_parts(nd_exec *exec, int64_t n, const float *const *inputs, float *const *outputs) {
    const nd_exec_settings *s = &exec->settings;
    const size_t n_pointers = (size_t)(s->n_inputs > s->n_outputs ? s->n_inputs : s->n_outputs);
    const float **from = nd_alloc_array(n_pointers, sizeof *from);
    float **to = nd_alloc_array(n_pointers, sizeof *to);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(from && to, nd_status_memory, "no memory");
    for (int64_t first = 0; first < n; first += s->batch) {
        for (int i = 0; i < s->n_inputs; i++) from[i] = inputs[i] + exec_skip(exec, s->inputs[i], first);
        for (int i = 0; i < s->n_outputs; i++) to[i] = outputs[i] + exec_skip(exec, s->outputs[i], first);
        ND_TRY_DONE(exec_run_part(exec, n - first < s->batch ? n - first : s->batch, from, to));
    }
done:
    free(from);
    free(to);
    return status;
}

nd_status nd_exec_run(nd_exec *exec, int64_t n, const float *const *inputs, float *const *outputs) {
    if (n > exec->settings.batch && n <= exec->asked) return exec_run_parts(exec, n, inputs, outputs);
    return exec_run_part(exec, n, inputs, outputs);
}

int64_t nd_exec_batch(const nd_exec *exec) {
    return exec->settings.batch;
}

size_t nd_exec_node_count(const nd_exec *exec) {
    return (size_t)exec->n_steps;
}

nd_exec_node nd_exec_node_at(const nd_exec *exec, size_t index) {
    const nd_step *step = &exec->steps[index];
    return (nd_exec_node){.name = step->name,
                          .operation = step->work.operation,
                          .engine = step->host ? step->host->engine
                                               : exec->backend->table->info(step->kernel).engine,
                          .macs = step->macs,
                          .ns = step->ns};
}

size_t nd_exec_activation_bytes(const nd_exec *exec) {
    return (size_t)exec->block_bytes;
}

size_t nd_exec_host_count(const nd_exec *exec, int64_t *bytes) {
    *bytes = 0;
    for (int i = 0; i < exec->n_steps; i++)
        if (exec->steps[i].host) *bytes += exec->steps[i].host->bytes;
    return (size_t)exec->n_host;
}

size_t nd_exec_dynamic_count(const nd_exec *exec) {
    return (size_t)exec->n_interpreted;
}

size_t nd_exec_workspace_bytes(const nd_exec *exec) {
    return exec->workspace_bytes;
}

bool nd_exec_captured(const nd_exec *exec) {
    return exec->capture != NULL;
}
