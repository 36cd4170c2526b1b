/* The plugin: its entry, its table, memory and time. */
#include "run/cpu/cpu.h"
#include "base/log.h"
#include "base/machine/clock.h"
#include "run/cpu/linalg/linalg.h"
#include "run/cpu/onednn_version.h"

#include <cblas.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void cpu_close(nd_backend *backend) {
    nd_cpu *cpu = (nd_cpu *)backend;
    if (cpu->stream) dnnl_stream_destroy(cpu->stream);
    if (cpu->engine) dnnl_engine_destroy(cpu->engine);
    free(cpu);
}

static bool cpu_supports(nd_backend *backend, const nd_work *work, nd_precision precision) {
    const nd_cpu *cpu = (const nd_cpu *)backend;
    return nd_cpu_reference_supports(cpu, work, precision);
}

/* Whatever no implementation takes runs on the loops of ref. */
static bool cpu_fast(nd_backend *backend, const nd_work *work, nd_precision precision) {
    const nd_cpu *cpu = (const nd_cpu *)backend;
    for (size_t i = 0; i < cpu->n_implementations; i++)
        if (nd_cpu_takes(cpu, &cpu->implementations[i], work, precision)) return true;
    return false;
}

static nd_status cpu_prepare(nd_backend *backend, const nd_work *work, nd_precision precision,
                             nd_kernel **out) {
    nd_cpu *cpu = (nd_cpu *)backend;
    *out = NULL;
    ND_REQUIRE(cpu_supports(backend, work, precision), nd_status_unsupported, "cpu: no %s in %s",
               nd_operation_name(work->operation), nd_precision_name(precision));
    nd_cpu_enter(cpu);
    return nd_cpu_plan(cpu, work, precision, out);
}

static nd_kernel_info cpu_info(const nd_kernel *kernel) {
    return (nd_kernel_info){.engine = kernel->engine, .workspace_bytes = kernel->workspace_bytes};
}

static nd_status cpu_run(nd_backend *backend, nd_kernel *kernel, const nd_memory *x, const nd_memory *x2,
                         nd_memory *y, nd_memory *workspace) {
    nd_cpu_enter((nd_cpu *)backend);
    const nd_cpu_buffers buffers = {.x = x ? x->data : NULL,
                                    .x2 = x2 ? x2->data : NULL,
                                    .y = y->data,
                                    .workspace = workspace ? workspace->data : NULL};
    return kernel->run(kernel, &buffers);
}

static void cpu_release(nd_kernel *kernel) {
    if (kernel) kernel->release(kernel);
}

static nd_status cpu_allocate(nd_backend *backend, size_t bytes, nd_memory **out) {
    return nd_cpu_memory_new(bytes, ((const nd_cpu *)backend)->guard, out);
}

static nd_status cpu_synchronize(nd_backend *backend) {
    (void)backend;
    return nd_status_ok;
}

static nd_status cpu_record_event(nd_backend *backend, int slot) {
    ND_REQUIRE(slot >= 0 && slot < nd_cpu_events, nd_status_usage, "cpu: no event %d", slot);
    ((nd_cpu *)backend)->events[slot] = 1e9 * nd_seconds();
    return nd_status_ok;
}

static nd_status cpu_elapsed(nd_backend *backend, int from, int to, double *ns) {
    const bool known = from >= 0 && from < nd_cpu_events && to >= 0 && to < nd_cpu_events;
    ND_REQUIRE(known, nd_status_usage, "cpu: no events %d and %d", from, to);
    const double *events = ((nd_cpu *)backend)->events;
    *ns = events[to] - events[from];
    return nd_status_ok;
}

static const nd_backend_table cpu_table = {
    .close = cpu_close,
    .supports = cpu_supports,
    .prepare = cpu_prepare,
    .info = cpu_info,
    .run = cpu_run,
    .release = cpu_release,
    .allocate = cpu_allocate,
    .free = nd_cpu_memory_free,
    .upload = nd_cpu_upload,
    .upload_quantized = nd_cpu_upload_quantized,
    .download = nd_cpu_download,
    .synchronize = cpu_synchronize,
    .record_event = cpu_record_event,
    .elapsed = cpu_elapsed,
    .fast = cpu_fast,
    .linalg = {.svd = nd_cpu_svd,
               .accumulate = nd_cpu_accumulate,
               .solve = nd_cpu_solve,
               .eigen = nd_cpu_eigen,
               .gemm = nd_cpu_gemm_f64,
               .concurrent = true},
};

static nd_status cpu_probe(nd_device_info *devices, int capacity, int *count, char *why, size_t why_size) {
    *count = 1;
    if (capacity > 0) {
        devices[0] = (nd_device_info){0};
        nd_cpu_describe(devices[0].name, sizeof devices[0].name);
    }
    if (why_size) why[0] = '\0';
    return nd_status_ok;
}

static nd_status cpu_choose_level(const char *isa, nd_cpu_level *level) {
    *level = nd_cpu_level_best();
    if (!isa || !*isa) return nd_status_ok;
    for (int i = 0; i < nd_cpu_level_count; i++) {
        if (strcmp(isa, nd_cpu_level_names[i])) continue;
        ND_REQUIRE(nd_cpu_level_available((nd_cpu_level)i), nd_status_device,
                   "cpu: isa %s is beyond this processor, which has %s", isa, nd_cpu_level_names[*level]);
        *level = (nd_cpu_level)i;
        return nd_status_ok;
    }
    return nd_fail(nd_status_usage,
                   "cpu: no isa \"%s\": scalar, avx2, avx2_vnni, avx512, avx512_vnni, avx512_bf16 or amx",
                   isa);
}

static nd_status cpu_open(const nd_backend_settings *settings, nd_backend **out) {
    static const nd_backend_settings defaults = {0};
    nd_status status = nd_status_ok;
    if (!settings) settings = &defaults;
    *out = NULL;
    ND_REQUIRE(!settings->device, nd_status_device, "cpu has one device, 0");
    nd_cpu *cpu = nd_alloc_array(1, sizeof *cpu);
    ND_REQUIRE(cpu, nd_status_memory, "cpu: no memory");
    ND_TRY_DONE(cpu_choose_level(settings->isa, &cpu->level));
    nd_threads_set(settings->threads);
    cpu->threads = nd_cpu_blas_reserve(nd_cpu_team_possible(nd_threads()));
    ND_REQUIRE_DONE(cpu->threads, nd_status_memory,
                    "cpu: no address space left for a buffer of OpenBLAS; is there "
                    "a limit (ulimit -v)?");
    if (cpu->threads < nd_threads()) {
        nd_log(nd_log_warn, "cpu: running on %d of %d threads, for want of threads or address space",
               cpu->threads, nd_threads());
        nd_threads_set(cpu->threads);
    }
    nd_cpu_team_lend();
    cpu->tune = settings->tune;
    cpu->implementations = nd_cpu_implementations;
    cpu->n_implementations = nd_cpu_implementation_count;
    cpu->guard = nd_cpu_guard_wanted();
    cpu->workspace_limit = settings->workspace_limit ? settings->workspace_limit : (size_t)1 << 30;
    snprintf(cpu->prefer, sizeof cpu->prefer, "%s", settings->prefer ? settings->prefer : "");
    ND_REQUIRE_DONE(dnnl_engine_create(&cpu->engine, dnnl_cpu, 0) == dnnl_success &&
                        dnnl_stream_create(&cpu->stream, cpu->engine, dnnl_stream_default_flags) ==
                            dnnl_success,
                    nd_status_backend, "cpu: oneDNN gave no engine");
    const dnnl_version_t *onednn = dnnl_version();
    char model[96];
    nd_cpu_describe(model, sizeof model);
    cpu->base = (nd_backend){.table = &cpu_table, .name = "cpu", .channels_last = true};
    cpu->base.last_cache_bytes = (size_t)32 << 20;
    snprintf(cpu->base.device, sizeof cpu->base.device, "%s, %s", model, nd_cpu_level_names[cpu->level]);
    snprintf(cpu->base.libraries, sizeof cpu->base.libraries, "oneDNN %d.%d.%d%s, %s", onednn->major,
             onednn->minor, onednn->patch, nd_onednn_has_winograd ? "" : " (no Winograd)",
             openblas_get_config());
    *out = &cpu->base;
done:
    if (status) cpu_close(&cpu->base);
    return status;
}

__attribute__((visibility("default")))
const nd_plugin nd_plugin_entry = {.abi = nd_plugin_abi, .name = "cpu", .probe = cpu_probe, .open = cpu_open};
