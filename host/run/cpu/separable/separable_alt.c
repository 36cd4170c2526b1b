/* What the planner measures our fused separable kernel against.
 *   pair   our depthwise half writes its result to memory, oneDNN's 1x1 convolution does the rest;
 *   dense  the terms are multiplied out into the regular convolution they stand for, run directly or by
 *          Winograd: where ranks are high or channels few, decoupling does not pay and this says so. */
#include "run/cpu/depthwise.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct pair_kernel {
    nd_kernel base;
    const nd_sep_isa *isa;
    nd_sep_terms terms;
    nd_kernel *pointwise;
    size_t middle_bytes; /* of the depthwise result, in front of the pointwise kernel's own workspace */
} pair_kernel;

static bool alt_supports(const nd_work *work, nd_precision precision) {
    return precision == nd_precision_fp32 && nd_view_is_channels_last(&work->x) &&
           nd_view_is_channels_last(&work->y);
}

bool nd_cpu_separable_pair_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    return alt_supports(work, precision) && nd_cpu_conv_supports(cpu, work, precision);
}

static nd_status pair_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    pair_kernel *k = (pair_kernel *)kernel;
    char *workspace = buffers->workspace;
    nd_cpu_depthwise_images(k->isa, &k->terms, (const float *)buffers->x + k->terms.x.offset,
                            (float *)workspace);
    const nd_cpu_buffers inner = {
        .x = workspace, .x2 = buffers->x2, .y = buffers->y, .workspace = workspace + k->middle_bytes};
    return k->pointwise->run(k->pointwise, &inner);
}

static void pair_release(nd_kernel *kernel) {
    pair_kernel *k = (pair_kernel *)kernel;
    nd_sep_terms_free(&k->terms);
    if (k->pointwise) k->pointwise->release(k->pointwise);
    free(k);
}

static nd_status pair_pointwise(pair_kernel *k, const nd_work *work, nd_precision precision) {
    const int64_t no = work->y.dims[1], depth = k->terms.groups * k->terms.lanes;
    float *weights = nd_alloc_array((size_t)no, (size_t)depth * sizeof *weights);
    ND_REQUIRE(weights, nd_status_memory, "separable: no memory for %lldx%lld weights", (long long)no,
               (long long)depth);
    for (int64_t o = 0; o < no; o++) {
        for (int64_t t = 0; t < work->terms; t++) {
            weights[o * depth + k->terms.place[t]] = work->weights[o * work->terms + t];
        }
    }
    nd_work pointwise = *work;
    const int64_t dims[] = {work->y.dims[0], depth, work->y.dims[2], work->y.dims[3]};
    pointwise.operation = nd_operation_conv;
    pointwise.x = nd_view_channels_last(4, dims);
    pointwise.window = (nd_window){.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
    pointwise.groups = 1;
    pointwise.weights = weights;
    const nd_status status = nd_cpu_conv_prepare(k->base.cpu, &pointwise, precision, &k->pointwise);
    k->middle_bytes = nd_cpu_round((size_t)nd_view_count(&pointwise.x) * sizeof(float));
    free(weights);
    return status;
}

nd_status nd_cpu_separable_pair_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                        nd_kernel **out) {
    nd_status status = nd_status_ok;
    pair_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "separable: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = pair_run, .release = pair_release};
    k->isa = nd_cpu_sep_isa(cpu, precision);
    ND_TRY_DONE(nd_sep_terms_build(work, k->isa->lanes, nd_sep_blocks, &k->terms));
    ND_TRY_DONE(pair_pointwise(k, work, precision));
    k->base.workspace_bytes = k->middle_bytes + k->pointwise->workspace_bytes;
    ND_REQUIRE_DONE(k->base.workspace_bytes <= cpu->workspace_limit, nd_status_unsupported,
                    "separable: two steps need %zu bytes of workspace", k->base.workspace_bytes);
    snprintf(k->base.engine, sizeof k->base.engine, "nd:depthwise:%s + %.30s", k->isa->name,
             k->pointwise->engine);
    *out = &k->base;
done:
    if (status) pair_release(&k->base);
    return status;
}

/* The regular convolution: W[o][channel[t]] += pointwise[o][t] * depthwise[t], summed in fp64. */
static nd_status alt_compose(const nd_work *work, float **out) {
    const int64_t ni = work->x.dims[1], no = work->y.dims[1], terms = work->terms;
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    float *weights = nd_alloc_array((size_t)no, (size_t)(ni * taps) * sizeof *weights);
    double *row = nd_alloc_array((size_t)(ni * taps), sizeof *row);
    *out = weights;
    for (int64_t o = 0; o < no && weights && row; o++) {
        for (int64_t i = 0; i < ni * taps; i++) row[i] = 0;
        for (int64_t t = 0; t < terms; t++) {
            const double scale = work->weights[o * terms + t];
            for (int64_t tap = 0; tap < taps; tap++) {
                row[work->channel[t] * taps + tap] += scale * work->depthwise[t * taps + tap];
            }
        }
        for (int64_t i = 0; i < ni * taps; i++) weights[o * ni * taps + i] = (float)row[i];
    }
    const bool made = weights && row;
    free(row);
    if (made) return nd_status_ok;
    free(weights);
    *out = NULL;
    return nd_fail(nd_status_memory, "separable: no memory for the regular convolution");
}

typedef nd_status alt_conv(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out);

static nd_status alt_dense(nd_cpu *cpu, const nd_work *work, nd_precision precision, alt_conv *prepare,
                           nd_kernel **out) {
    float *weights;
    ND_TRY(alt_compose(work, &weights));
    nd_work dense = *work;
    dense.operation = nd_operation_conv;
    dense.groups = 1;
    dense.weights = weights;
    const nd_status status = prepare(cpu, &dense, precision, out);
    free(weights);
    return status;
}

/* Not of integers, whose tensor between the halves is rounded. */
bool nd_cpu_separable_dense_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    return !nd_precision_is_quantised(precision) && nd_cpu_conv_supports(cpu, work, precision);
}

nd_status nd_cpu_separable_dense_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                         nd_kernel **out) {
    return alt_dense(cpu, work, precision, nd_cpu_conv_prepare, out);
}

bool nd_cpu_separable_winograd_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    nd_work dense = *work;
    dense.groups = 1;
    return nd_cpu_conv_winograd_supports(cpu, &dense, precision);
}

nd_status nd_cpu_separable_winograd_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                            nd_kernel **out) {
    return alt_dense(cpu, work, precision, nd_cpu_conv_winograd_prepare, out);
}
