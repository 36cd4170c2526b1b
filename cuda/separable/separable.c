/* The planner of separable layers: dense, chunked, fused or wgmma. With `tune` every candidate is checked and
 * timed and the fastest kept, so a layer is never slower than its dense form; ND_CUDA_SEPARABLE forces one,
 * for the raw ratio. Without measurements the choice follows the roofline: strict fp32 is bound by FFMA
 * either way and the library's GEMM is the better half, everything else wants the fused kernel. */
#include "cuda/separable/separable.h"
#include "base/log.h"
#include "cuda/separable/separable_sample.h"
#include "cuda/tune/autotune.h"

#include <stdlib.h>
#include <string.h>

typedef struct nd_separable_candidate {
    const char *name; /* in nd_autotune_file */
    nd_cuda_algorithm algorithm;
    const nd_cuda_implementation *implementation;
} nd_separable_candidate;

static const nd_separable_candidate nd_separable_candidates[] = {
    {"fused_256", nd_cuda_algorithm_fused, &nd_separable_fused_implementations[2]},
    {"fused_128", nd_cuda_algorithm_fused, &nd_separable_fused_implementations[1]},
    {"fused_64", nd_cuda_algorithm_fused, &nd_separable_fused_implementations[0]},
    {"chunked", nd_cuda_algorithm_chunked, &nd_separable_chunked_implementation},
    {"dense", nd_cuda_algorithm_dense, &nd_separable_dense_implementation},
    {"wgmma", nd_cuda_algorithm_wgmma, &nd_separable_wgmma_implementation},
    {"plain", nd_cuda_algorithm_chunked, &nd_cuda_quantized_implementation}, /* of int8 alone */
};

enum { nd_separable_n_candidates = sizeof nd_separable_candidates / sizeof *nd_separable_candidates };

/* wgmma, not yet run on a device, is taken where it is measured, asked for, or alone in its precision. */
static bool separable_wanted(const nd_cuda *cuda, const nd_separable_candidate *candidate,
                             nd_precision precision, bool measured) {
    const bool alone = cuda->algorithms == 1u << candidate->algorithm || precision == nd_precision_e4m3;
    if (!(cuda->algorithms >> candidate->algorithm & 1)) return false;
    return measured || alone || candidate->algorithm != nd_cuda_algorithm_wgmma;
}

/* Without a measurement: tiles of 64 or 128 channels, as the outputs fill, and strict fp32 in two steps.
 * Tiles of 256 make the depthwise half fewer times, but leave a multiprocessor one block, which does the one
 * half after the other; by the roofline (results/golden/cuda_roofline.csv) two blocks of 128 are the faster,
 * so only a measurement takes them; in int8, where the depthwise half outweighs, those of 256 are. */
static bool separable_guess(const nd_cuda *cuda, const nd_work *work, nd_precision precision,
                            const nd_separable_candidate *candidate) {
    const int64_t no = work->y.dims[1];
    if (candidate->algorithm != nd_cuda_algorithm_fused) return true;
    if (precision == nd_precision_fp32 && cuda->algorithms != 1u << nd_cuda_algorithm_fused) return false;
    if (candidate->implementation == &nd_separable_fused_implementations[2])
        return precision == nd_precision_int8;
    if (candidate->implementation == &nd_separable_fused_implementations[1]) return no > 64;
    return true;
}

/* W[o][c] = sum over the terms r of channel c of P[o][r] D[r]: the convolution that the layer stands for, as
 * a kernel of `implementation`. */
static nd_status separable_recompose(nd_cuda *cuda, const nd_cuda_implementation *implementation,
                                     const nd_work *work, nd_precision precision, nd_kernel **out) {
    const int64_t no = work->y.dims[1], ni = work->x.dims[1];
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1];
    float *weights = nd_alloc_array((size_t)(no * ni * taps), sizeof *weights);
    ND_REQUIRE(weights, nd_status_memory, "no memory for %lldx%lld filters", (long long)no, (long long)ni);
    for (int64_t o = 0; o < no; o++)
        for (int64_t r = 0; r < work->terms; r++) {
            float *filter = weights + (o * ni + work->channel[r]) * taps;
            const float scale = work->weights[o * work->terms + r];
            for (int64_t t = 0; t < taps; t++) filter[t] += scale * work->depthwise[r * taps + t];
        }
    nd_work dense = *work;
    dense.operation = nd_operation_conv;
    dense.groups = 1;
    dense.weights = weights;
    const nd_status status = nd_cuda_kernel_make(cuda, implementation, &dense, precision, out);
    free(weights);
    return status;
}

/* The winner's contents become the kernel's; the shell it came in goes. */
static void separable_adopt(nd_kernel *kernel, nd_kernel *winner) {
    *kernel = *winner;
    free(winner);
}

/* A candidate is its place in the array of kernels. */
static nd_status separable_candidate_run(void *candidate, void *user) {
    nd_kernel *kernel = *(nd_kernel **)candidate;
    nd_inputs *inputs = user;
    ND_TRY(nd_inputs_grow(inputs, kernel->workspace));
    return nd_cuda_kernel_run(kernel, &inputs->operands);
}

static void separable_candidate_drop(void *candidate) {
    nd_cuda_kernel_release(*(nd_kernel **)candidate);
}

static void separable_candidate_facts(const void *candidate, nd_autotune_facts *facts) {
    const nd_kernel *kernel = *(nd_kernel *const *)candidate;
    *facts = (nd_autotune_facts){kernel->engine, kernel->transformed};
}

/* What a choice depends on: everything of the work but the values of its weights, and what it may be of. */
static void separable_key(const nd_kernel *kernel, const nd_work *work, char key[nd_sha256_hex_size]) {
    const nd_view *views[] = {&work->x, &work->y, &work->x2};
    const bool integer_filters = work->depthwise_scale, quantised_y = work->y_quant.scale > 0;
    const int64_t flags[] = {nd_operation_separable,   kernel->precision,    work->bias != NULL,
                             work->residual,           work->activation.act, work->terms,
                             kernel->cuda->algorithms, integer_filters,      quantised_y};
    nd_sha256 hash;
    nd_autotune_key(kernel->cuda, &hash);
    nd_sha256_add(&hash, flags, sizeof flags);
    nd_sha256_add(&hash, &work->window, sizeof work->window);
    nd_sha256_add(&hash, work->channel, (size_t)work->terms * sizeof *work->channel);
    for (int i = 0; i < (work->residual ? 3 : 2); i++) {
        nd_sha256_add(&hash, views[i]->dims, 4 * sizeof *views[i]->dims);
        nd_sha256_add(&hash, views[i]->strides, 4 * sizeof *views[i]->strides);
        nd_sha256_add(&hash, &views[i]->offset, sizeof views[i]->offset);
    }
    nd_sha256_hex(&hash, key);
}

/* made[i] is NULL where candidate i does not come about here. */
static void separable_make_all(nd_cuda *cuda, const nd_work *work, nd_precision precision,
                               nd_kernel *made[nd_separable_n_candidates]) {
    for (int i = 0; i < nd_separable_n_candidates; i++) {
        const nd_separable_candidate *candidate = &nd_separable_candidates[i];
        made[i] = NULL;
        if (!separable_wanted(cuda, candidate, precision, true) ||
            !candidate->implementation->supports(cuda, work, precision))
            continue;
        (void)nd_cuda_kernel_make(cuda, candidate->implementation, work, precision, &made[i]);
    }
}

/* The reference: of int8 the plain kernels, which are its definition; else the layer recomposed in fp32, by
 * the direct kernel. */
static nd_status separable_reference(nd_inputs *inputs, const nd_work *work, nd_kernel **out) {
    if (inputs->precision != nd_precision_int8)
        return separable_recompose(inputs->cuda, &nd_cuda_direct_implementation, work, inputs->precision,
                                   out);
    ND_TRY(
        nd_cuda_kernel_make(inputs->cuda, &nd_cuda_quantized_implementation, work, inputs->precision, out));
    return nd_inputs_grow(inputs, (*out)->workspace);
}

static nd_status separable_run_reference(void *context, const nd_cuda_operands *operands) {
    return nd_cuda_kernel_run(context, operands);
}

static nd_status separable_refer(nd_inputs *inputs, const nd_work *work) {
    nd_kernel *reference = NULL;
    nd_status status = separable_reference(inputs, work, &reference);
    if (status == nd_status_memory) {
        nd_inputs_drop_reference(inputs);
        status = nd_status_ok;
    } else if (!status) {
        status = nd_inputs_reference(inputs, separable_run_reference, reference);
    }
    (void)cudaStreamSynchronize(inputs->cuda->stream);
    nd_cuda_kernel_release(reference);
    return status;
}

/* Operands are allocated when all candidates are there: preparing one may have needed the memory. */
static nd_status separable_autotune(nd_cuda *cuda, const nd_work *work, nd_precision precision, int *winner,
                                    bool *checked) {
    nd_kernel *made[nd_separable_n_candidates], **best;
    nd_inputs inputs;
    separable_make_all(cuda, work, precision, made);
    nd_status status = nd_inputs_make(cuda, work, precision, &inputs);
    if (!status) status = separable_refer(&inputs, work);
    nd_autotune tuning = {.cuda = cuda,
                          .run = separable_candidate_run,
                          .drop = separable_candidate_drop,
                          .facts = separable_candidate_facts,
                          .recorded = true,
                          .inputs = &inputs,
                          .user = &inputs};
    for (int i = 0; i < nd_separable_n_candidates; i++) {
        if (status)
            nd_cuda_kernel_release(made[i]);
        else if (made[i])
            nd_autotune_add(&tuning, &made[i]);
    }
    best = nd_autotune_finish(&tuning);
    *checked = best && inputs.expected;
    nd_inputs_free(&inputs);
    ND_TRY(status);
    ND_REQUIRE(best || !tuning.wrong, nd_status_device,
               "all %d implementations of this separable layer are wrong", tuning.wrong);
    ND_REQUIRE(best, nd_status_unsupported, "no implementation of this separable layer: %s", nd_error());
    *winner = (int)(best - made);
    nd_cuda_kernel_release(*best);
    return nd_status_ok;
}

static nd_status separable_measure(nd_kernel *kernel, const nd_work *work, const char *key, int *winner) {
    nd_separable_sample sample;
    bool checked = false;
    ND_TRY(nd_separable_sample_make(work, kernel->precision, nd_inputs_blocks, &sample));
    const nd_status status =
        separable_autotune(kernel->cuda, &sample.work, kernel->precision, winner, &checked);
    nd_separable_sample_free(&sample);
    if (!status && checked) nd_choice_keep(nd_autotune_file, key, nd_separable_candidates[*winner].name);
    return status;
}

/* The winner of an earlier process. */
static bool separable_known(const nd_kernel *kernel, const nd_work *work, const char *key, int *winner) {
    char name[nd_choice_size];
    if (!nd_choice_find(nd_autotune_file, key, name)) return false;
    for (*winner = 0; *winner < nd_separable_n_candidates; ++*winner)
        if (!strcmp(nd_separable_candidates[*winner].name, name))
            return nd_separable_candidates[*winner].implementation->supports(kernel->cuda, work,
                                                                             kernel->precision);
    return false;
}

static nd_status separable_tune(nd_kernel *kernel, const nd_work *work) {
    char key[nd_sha256_hex_size];
    int winner;
    nd_kernel *made;
    separable_key(kernel, work, key);
    if (!nd_autotune_recall(kernel->cuda, key, &winner)) {
        if (!separable_known(kernel, work, key, &winner))
            ND_TRY(separable_measure(kernel, work, key, &winner));
        nd_autotune_remember(kernel->cuda, key, winner);
    }
    ND_TRY(nd_cuda_kernel_make(kernel->cuda, nd_separable_candidates[winner].implementation, work,
                               kernel->precision, &made));
    separable_adopt(kernel, made);
    return nd_status_ok;
}

/* e4m3 follows the guess: it has one candidate, and no plain kernel to compare another with. */
static nd_status separable_prepare(nd_kernel *kernel, const nd_work *work) {
    nd_cuda *cuda = kernel->cuda;
    nd_kernel *made;
    const bool tune = cuda->tune && kernel->precision != nd_precision_e4m3;
    const nd_status tuned = tune ? separable_tune(kernel, work) : nd_status_memory;
    if (tuned != nd_status_memory) return tuned;
    if (tune) nd_log(nd_log_warn, "a separable layer is not tuned: %s", nd_error());
    nd_status status = nd_fail(nd_status_unsupported, "no implementation of this separable layer");
    for (int i = 0; i < nd_separable_n_candidates; i++) {
        const nd_separable_candidate *candidate = &nd_separable_candidates[i];
        if (!separable_wanted(cuda, candidate, kernel->precision, false)) continue;
        if (!candidate->implementation->supports(cuda, work, kernel->precision)) continue;
        if (!separable_guess(cuda, work, kernel->precision, candidate)) continue;
        status = nd_cuda_kernel_make(cuda, candidate->implementation, work, kernel->precision, &made);
        if (status == nd_status_unsupported) continue;
        if (!status) separable_adopt(kernel, made);
        return status;
    }
    return status;
}

/* Of a algorithm that is forced, what it does not take is not taken. */
static bool separable_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    for (int i = 0; i < nd_separable_n_candidates; i++) {
        const nd_separable_candidate *candidate = &nd_separable_candidates[i];
        if (separable_wanted(cuda, candidate, precision, cuda->tune) &&
            candidate->implementation->supports(cuda, work, precision))
            return true;
    }
    return false;
}

const nd_cuda_implementation nd_cuda_separable_implementation = {separable_supports, separable_prepare};

static nd_status separable_dense_prepare(nd_kernel *kernel, const nd_work *work) {
    nd_kernel *made;
    ND_TRY(separable_recompose(kernel->cuda, &nd_cuda_conv_implementation, work, kernel->precision, &made));
    separable_adopt(kernel, made);
    return nd_status_ok;
}

static bool separable_dense_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    return !nd_precision_is_quantised(precision) &&
           nd_cuda_conv_implementation.supports(cuda, work, precision);
}

const nd_cuda_implementation nd_separable_dense_implementation = {separable_dense_supports,
                                                                  separable_dense_prepare};
