/* Which implementation runs a work: the named one, the fastest, or the first that can.
 *
 * The fastest is measured in prepare, every candidate on the same buffers in turn, and kept
 * for later processes (base/files/choices.h). The key is a hash of everything the answer depends on:
 * processor, instruction set, threads, library versions, precision and the work itself. */
#include "base/files/choices.h"
#include "base/hash.h"
#include "base/machine/clock.h"
#include "run/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    plan_candidates_max = 8,
    plan_rounds_min = 7,
    plan_rounds_max = 15,
    plan_version = 3, /* of the key: raise when an implementation changes enough to be measured again */
};
static const char plan_file[] = "cpu_plans.txt";
static const double plan_budget_ns = 3e8; /* a work, once plan_rounds_min are done */
static const double plan_gain = 0.97; /* a later entry of the table must beat an earlier one by this much */

/* e4m3 is moved here, and turned into fp32 and back, but not computed in. */
bool nd_cpu_takes(const nd_cpu *cpu, const nd_cpu_implementation *implementation, const nd_work *work,
                  nd_precision precision) {
    const bool known =
        precision != nd_precision_e4m3 || implementation->supports == nd_cpu_quantized_supports;
    return implementation->operation == work->operation && known &&
           implementation->supports(cpu, work, precision);
}

/* An implementation may still refuse in prepare (no fast kernel in the library, too much workspace): then the
 * next is asked. Anything else is a failure. */
static nd_status plan_first(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    for (size_t i = 0; i < cpu->n_implementations; i++) {
        const nd_cpu_implementation *implementation = &cpu->implementations[i];
        if (!nd_cpu_takes(cpu, implementation, work, precision)) continue;
        const nd_status status = implementation->prepare(cpu, work, precision, out);
        if (status != nd_status_unsupported) return status;
    }
    return nd_cpu_reference_prepare(cpu, work, precision, out);
}

/* `name` binds the operations that have an implementation of that name; the others are planned as usual. */
static nd_status plan_named(nd_cpu *cpu, const nd_work *work, nd_precision precision, const char *name,
                            nd_kernel **out) {
    for (size_t i = 0; i < cpu->n_implementations; i++) {
        const nd_cpu_implementation *implementation = &cpu->implementations[i];
        if (strcmp(implementation->name, name) || !nd_cpu_takes(cpu, implementation, work, precision))
            continue;
        const nd_status status = implementation->prepare(cpu, work, precision, out);
        if (status != nd_status_unsupported) return status;
    }
    return plan_first(cpu, work, precision, out);
}

static void plan_add_view(nd_sha256 *hash, const nd_view *view) {
    nd_sha256_add(hash, &view->rank, sizeof view->rank);
    nd_sha256_add(hash, view->dims, (size_t)view->rank * sizeof *view->dims);
    nd_sha256_add(hash, view->strides, (size_t)view->rank * sizeof *view->strides);
}

static void plan_key(const nd_cpu *cpu, const nd_work *work, nd_precision precision,
                     char key[nd_sha256_hex_size]) {
    const int64_t numbers[] = {plan_version,
                               cpu->threads,
                               (int64_t)cpu->level,
                               precision,
                               work->operation,
                               work->groups,
                               work->terms,
                               work->residual,
                               !!work->bias,
                               work->activation.act,
                               work->y_quant.scale > 0,
                               !!work->depthwise_scale};
    nd_sha256 hash;
    nd_sha256_init(&hash);
    nd_sha256_add(&hash, cpu->base.device, strlen(cpu->base.device));
    nd_sha256_add(&hash, cpu->base.libraries, strlen(cpu->base.libraries));
    nd_sha256_add(&hash, numbers, sizeof numbers);
    nd_sha256_add(&hash, &work->window, sizeof work->window);
    plan_add_view(&hash, &work->x);
    plan_add_view(&hash, &work->y);
    if (work->residual) plan_add_view(&hash, &work->x2);
    if (work->channel) nd_sha256_add(&hash, work->channel, (size_t)work->terms * sizeof *work->channel);
    nd_sha256_hex(&hash, key);
}

typedef struct plan_candidate {
    const nd_cpu_implementation *implementation;
    nd_kernel *kernel;
    double ns[plan_rounds_max];
} plan_candidate;

typedef struct plan_trial {
    plan_candidate candidates[plan_candidates_max];
    int n, rounds;
    nd_memory *x, *x2, *y, *workspace;
} plan_trial;

static nd_status plan_memory(const nd_view *view, nd_quant quant, nd_precision precision, nd_memory **out) {
    int64_t last = view->offset;
    for (int i = 0; i < view->rank; i++) last += (view->dims[i] - 1) * view->strides[i];
    const size_t element = nd_dtype_bytes(nd_precision_storage(nd_precision_stored(precision, quant)));
    return nd_cpu_memory_new((size_t)(last + 1) * element, nd_cpu_guard_none, out);
}

/* Everything that supports the work, prepared, and buffers for all. */
static nd_status plan_gather(nd_cpu *cpu, const nd_work *work, nd_precision precision, plan_trial *trial) {
    size_t workspace = 0;
    for (size_t i = 0; i < cpu->n_implementations && trial->n < plan_candidates_max; i++) {
        const nd_cpu_implementation *implementation = &cpu->implementations[i];
        plan_candidate *candidate = &trial->candidates[trial->n];
        if (!nd_cpu_takes(cpu, implementation, work, precision)) continue;
        const nd_status status = implementation->prepare(cpu, work, precision, &candidate->kernel);
        if (status == nd_status_unsupported) continue;
        if (status) return status;
        candidate->implementation = implementation;
        if (candidate->kernel->workspace_bytes > workspace) workspace = candidate->kernel->workspace_bytes;
        trial->n++;
    }
    if (trial->n < 2) return nd_status_ok;
    ND_TRY(plan_memory(&work->x, work->x_quant, precision, &trial->x));
    ND_TRY(plan_memory(&work->y, work->y_quant, precision, &trial->y));
    if (work->residual) ND_TRY(plan_memory(&work->x2, work->x2_quant, precision, &trial->x2));
    return nd_cpu_memory_new(workspace, nd_cpu_guard_none, &trial->workspace);
}

static nd_status plan_measure(plan_trial *trial) {
    const nd_cpu_buffers buffers = {.x = trial->x->data,
                                    .x2 = trial->x2 ? trial->x2->data : NULL,
                                    .y = trial->y->data,
                                    .workspace = trial->workspace->data};
    for (int i = 0; i < trial->n; i++) { /* warm-up: code, packed weights, pages */
        nd_kernel *kernel = trial->candidates[i].kernel;
        ND_TRY(kernel->run(kernel, &buffers));
    }
    const double begin = 1e9 * nd_seconds();
    while (trial->rounds < plan_rounds_max) {
        if (trial->rounds >= plan_rounds_min && 1e9 * nd_seconds() - begin > plan_budget_ns) break;
        for (int i = 0; i < trial->n; i++) {
            nd_kernel *kernel = trial->candidates[i].kernel;
            const double start = 1e9 * nd_seconds();
            ND_TRY(kernel->run(kernel, &buffers));
            trial->candidates[i].ns[trial->rounds] = 1e9 * nd_seconds() - start;
        }
        trial->rounds++;
    }
    return nd_status_ok;
}

static int plan_compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* By the lower quartile: what else runs on the machine only ever adds time, and rounds are few. */
static int plan_fastest(plan_trial *trial) {
    int best = 0;
    const int quartile = trial->rounds / 4;
    for (int i = 0; i < trial->n; i++) {
        double *ns = trial->candidates[i].ns;
        qsort(ns, (size_t)trial->rounds, sizeof *ns, plan_compare);
        if (ns[quartile] < plan_gain * trial->candidates[best].ns[quartile]) best = i;
    }
    return best;
}

static nd_status plan_tuned(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    nd_status status = nd_status_ok;
    char key[nd_sha256_hex_size], name[nd_choice_size];
    plan_trial trial = {.n = 0};
    plan_key(cpu, work, precision, key);
    if (nd_choice_find(plan_file, key, name)) return plan_named(cpu, work, precision, name, out);
    ND_TRY_DONE(plan_gather(cpu, work, precision, &trial));
    if (trial.n < 2) {
        status = plan_first(cpu, work, precision, out);
        goto done;
    }
    ND_TRY_DONE(plan_measure(&trial));
    plan_candidate *best = &trial.candidates[plan_fastest(&trial)];
    nd_choice_keep(plan_file, key, best->implementation->name);
    *out = best->kernel;
    best->kernel = NULL;
done:
    for (int i = 0; i < trial.n; i++) {
        if (trial.candidates[i].kernel) trial.candidates[i].kernel->release(trial.candidates[i].kernel);
    }
    nd_cpu_memory_free(trial.x);
    nd_cpu_memory_free(trial.x2);
    nd_cpu_memory_free(trial.y);
    nd_cpu_memory_free(trial.workspace);
    return status;
}

nd_status nd_cpu_plan(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    if (cpu->prefer[0]) return plan_named(cpu, work, precision, cpu->prefer, out);
    const bool choice = work->operation == nd_operation_conv || work->operation == nd_operation_separable;
    const bool some = nd_view_count(&work->x) > 0 && nd_view_count(&work->y) > 0;
    if (cpu->tune && choice && some) return plan_tuned(cpu, work, precision, out);
    return plan_first(cpu, work, precision, out);
}
