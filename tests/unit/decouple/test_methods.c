/* Identities every method keeps, whatever its name (method.md, "Two forms" to "Cost"). */
#include "decouple/methods/method.h"
#include "tests/unit/help/decouple_help.h"

static nd_chain decompose(nd_backend *backend, const nd_method *method, const nd_conv *conv, nd_ranks ranks,
                          int64_t rank) {
    nd_chain chain = {0};
    OK(method->decompose(backend, conv, ranks, rank, NULL, &chain));
    return chain;
}

/* A combination's inner method keeps fewer terms than the full kernel has. */
static bool combined(const nd_method *method) {
    return strchr(method->name, '+') != NULL;
}

static int64_t largest(const nd_method *method, const nd_conv *conv, nd_ranks ranks) {
    int64_t step = method->step(conv, ranks);
    return method->max_rank(conv) / step * step;
}

/* Calls `check` for every method, shape and kind of ranks that go together. */
static void for_all(void (*check)(nd_backend *, const nd_method *, const nd_conv *, nd_ranks)) {
    nd_backend *backend = help_backend();
    int done = 0;
    for (const nd_method *const *method = nd_method_table; *method; method++)
        for (int shape = 0; shape < help_n_shapes; shape++) {
            nd_conv conv = help_conv(shape, 17 * (uint64_t)shape + 1);
            for (int ranks = nd_ranks_uniform; ranks <= nd_ranks_adaptive; ranks++) {
                if (!(*method)->applies(&conv)) continue;
                check(backend, *method, &conv, (nd_ranks)ranks);
                done++;
            }
            help_conv_free(&conv);
        }
    cr_assert(done > 40);
    nd_backend_close(backend);
}

static void check_full_rank(nd_backend *backend, const nd_method *method, const nd_conv *conv,
                            nd_ranks ranks) {
    if (combined(method)) return;
    int64_t size = help_kernel_size(conv);
    double *composed = nd_alloc_array((size_t)size, sizeof *composed);
    double *original = help_widen(conv->weights, size);
    nd_chain chain = decompose(backend, method, conv, ranks, largest(method, conv, ranks));
    OK(nd_chain_compose(&chain, conv, composed));
    double distance = help_distance(composed, original, size);
    cr_expect_lt(distance, 1e-6, "%s, %s: %g", method->name, conv->name, distance);
    nd_chain_free(&chain);
    free(composed);
    free(original);
}

Test(methods, full_rank_is_the_original_kernel) {
    for_all(check_full_rank);
}

/* Border pixels, strides, dilation: the stages in turn give what the composed kernel gives. */
static void check_runs_as_composed(nd_backend *backend, const nd_method *method, const nd_conv *conv,
                                   nd_ranks ranks) {
    int64_t step = method->step(conv, ranks), rank = (largest(method, conv, ranks) / step + 1) / 2 * step;
    int64_t outputs = conv->no * nd_conv_out_h(conv) * nd_conv_out_w(conv);
    float *image = help_normals(conv->ni * conv->in_h * conv->in_w, 5);
    double *x = help_widen(image, conv->ni * conv->in_h * conv->in_w);
    double *composed = nd_alloc_array((size_t)help_kernel_size(conv), sizeof *composed);
    nd_chain chain = decompose(backend, method, conv, ranks, rank);
    OK(nd_chain_compose(&chain, conv, composed));
    double *dense = help_run_conv(conv, composed, conv->bias, x);
    double *staged = help_run_chain(&chain, conv, x);
    double distance = help_distance(staged, dense, outputs);
    cr_expect_lt(distance, 1e-12, "%s, %s: %g", method->name, conv->name, distance);
    nd_chain_free(&chain);
    free(image);
    free(x);
    free(composed);
    free(dense);
    free(staged);
}

Test(methods, stages_run_as_the_composed_kernel) {
    for_all(check_runs_as_composed);
}

static void check_costs(nd_backend *backend, const nd_method *method, const nd_conv *conv, nd_ranks ranks) {
    int64_t step = method->step(conv, ranks), most = largest(method, conv, ranks);
    for (int64_t rank = step; rank <= most; rank += (most / step + 4) / 5 * step) {
        nd_chain chain = decompose(backend, method, conv, ranks, rank);
        int64_t macs = nd_chain_macs(&chain, conv), params = nd_chain_params(&chain);
        /* A ragged choice that came out even needs no room for more; low rank rounds its width down. */
        cr_expect(macs <= nd_method_macs(method, conv, ranks, rank), "%s, %s, rank %d", method->name,
                  conv->name, (int)rank);
        cr_expect(params <= nd_method_params(method, conv, ranks, rank), "%s, %s", method->name, conv->name);
        bool free_to_save = ranks == nd_ranks_adaptive || method == &nd_method_dwpw_lowrank;
        if (!free_to_save || chain.stages[chain.n - 1].channel) {
            cr_expect_eq(macs, nd_method_macs(method, conv, ranks, rank), "%s, %s, rank %d", method->name,
                         conv->name, (int)rank);
            cr_expect_eq(params, nd_method_params(method, conv, ranks, rank), "%s, %s", method->name,
                         conv->name);
        }
        nd_chain_free(&chain);
    }
}

Test(methods, costs_are_those_of_the_chain) {
    for_all(check_costs);
}

static void check_tail_energy(nd_backend *backend, const nd_method *method, const nd_conv *conv,
                              nd_ranks ranks) {
    int64_t size = help_kernel_size(conv), step = method->step(conv, ranks);
    double *error2 = NULL, *energy = NULL;
    size_t count = 0;
    double *composed = nd_alloc_array((size_t)size, sizeof *composed);
    OK(method->spectrum(backend, conv, ranks, &error2, &energy, &count));
    cr_assert_eq((int64_t)count, method->max_rank(conv) / step + 1);
    double norm = 0;
    for (int64_t i = 0; i < size; i++) norm += (double)conv->weights[i] * conv->weights[i];
    cr_expect_float_eq(error2[0], norm, 1e-9 * norm);
    for (size_t r = 1; r < count; r += 1 + count / 7) {
        double error = 0;
        nd_chain chain = decompose(backend, method, conv, ranks, (int64_t)r * step);
        OK(nd_chain_compose(&chain, conv, composed));
        for (int64_t i = 0; i < size; i++) error += pow(composed[i] - conv->weights[i], 2);
        /* With ragged ranks PW+DW bounds the terms of one output, and may miss the best spread. */
        bool bounded = ranks == nd_ranks_adaptive && method == &nd_method_pwdw;
        if (bounded)
            cr_expect(error >= error2[r] - 1e-6 * norm, "%s, %s", method->name, conv->name);
        else
            cr_expect(fabs(error - error2[r]) <= 1e-6 * norm, "%s, %s, rank %d: %g, spectrum %g",
                      method->name, conv->name, (int)r, error, error2[r]);
        nd_chain_free(&chain);
    }
    free(error2);
    free(energy);
    free(composed);
}

Test(methods, squared_error_is_the_tail_energy) {
    for_all(check_tail_energy);
}

/* Only the last stage has the bias, every filter's largest entry is positive, nothing is lost on the way. */
static void check_form(nd_backend *backend, const nd_method *method, const nd_conv *conv, nd_ranks ranks) {
    nd_chain chain = decompose(backend, method, conv, ranks, method->step(conv, ranks));
    for (int s = 0; s + 1 < chain.n; s++) cr_expect_null(chain.stages[s].bias);
    cr_assert_not_null(chain.stages[chain.n - 1].bias);
    for (int64_t o = 0; o < conv->no; o++) cr_expect_eq(chain.stages[chain.n - 1].bias[o], conv->bias[o]);
    nd_chain_free(&chain);

    nd_conv bare = *conv;
    bare.bias = NULL;
    chain = decompose(backend, method, &bare, ranks, method->step(conv, ranks));
    cr_expect_null(chain.stages[chain.n - 1].bias);
    nd_chain_free(&chain);
}

Test(methods, bias_is_on_the_last_stage_only) {
    for_all(check_form);
}

/* Pruned input and output channels: zero slices give zero terms, never NaN. */
static void check_pruned(nd_backend *backend, const nd_method *method, const nd_conv *conv, nd_ranks ranks) {
    int64_t size = help_kernel_size(conv), taps = nd_conv_taps(conv), cols = conv->ni / conv->groups;
    float *weights = nd_alloc_array((size_t)size, sizeof *weights);
    double *composed = nd_alloc_array((size_t)size, sizeof *composed);
    memcpy(weights, conv->weights, (size_t)size * sizeof *weights);
    for (int64_t o = 0; o < conv->no; o++)
        for (int64_t i = 0; i < cols; i++)
            if (o == 1 || i == 0) memset(weights + (o * cols + i) * taps, 0, (size_t)taps * sizeof *weights);
    nd_conv pruned = *conv;
    pruned.weights = weights;
    nd_chain chain = decompose(backend, method, &pruned, ranks, largest(method, conv, ranks));
    OK(nd_chain_compose(&chain, &pruned, composed));
    for (int64_t i = 0; i < size; i++)
        cr_assert(isfinite(composed[i]) && (combined(method) || fabs(composed[i] - weights[i]) < 1e-5),
                  "%s, %s: %g", method->name, conv->name, composed[i]);
    nd_chain_free(&chain);

    memset(weights, 0, (size_t)size * sizeof *weights);
    chain = decompose(backend, method, &pruned, ranks, method->step(conv, ranks));
    OK(nd_chain_compose(&chain, &pruned, composed));
    for (int64_t i = 0; i < size; i++) cr_assert_eq(composed[i], 0, "%s, %s", method->name, conv->name);
    nd_chain_free(&chain);
    free(weights);
    free(composed);
}

Test(methods, pruned_channels_stay_zero) {
    for_all(check_pruned);
}

static double filter_norm(const float *x, int64_t n, int64_t stride) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i * stride] * x[i * stride];
    return sqrt(sum);
}

Test(methods, terms_are_balanced_and_signed) {
    nd_backend *backend = help_backend();
    nd_conv conv = help_conv(0, 3);
    nd_chain chain = decompose(backend, &nd_method_dwpw, &conv, nd_ranks_adaptive, 13);
    const nd_stage *dw = &chain.stages[0], *pw = &chain.stages[1];
    for (int64_t r = 0; r < 13; r++) {
        double a = filter_norm(dw->weights + r * 9, 9, 1), b = filter_norm(pw->weights + r, conv.no, 13);
        cr_expect_float_eq(a, b, 1e-5 * a);
        float peak = 0;
        for (int t = 0; t < 9; t++)
            if (fabsf(dw->weights[r * 9 + t]) > fabsf(peak)) peak = dw->weights[r * 9 + t];
        cr_expect(peak > 0);
        cr_expect(r == 0 || dw->channel[r] >= dw->channel[r - 1], "terms run with the channels");
    }
    nd_chain_free(&chain);
    help_conv_free(&conv);
    nd_backend_close(backend);
}

Test(methods, merged_pair_is_the_sum_of_its_terms) {
    nd_backend *backend = help_backend();
    nd_conv conv = help_conv(1, 9);
    int64_t rank = 2 * conv.ni, size = help_kernel_size(&conv);
    double *composed = nd_alloc_array((size_t)size, sizeof *composed);
    double *sum = nd_alloc_array((size_t)size, sizeof *sum);
    nd_chain chain = decompose(backend, &nd_method_dwpw, &conv, nd_ranks_uniform, rank);
    OK(nd_chain_compose(&chain, &conv, composed));
    for (int64_t o = 0; o < conv.no; o++)
        for (int64_t r = 0; r < rank; r++)
            for (int64_t t = 0; t < 9; t++)
                sum[(o * conv.ni + r / 2) * 9 + t] +=
                    (double)chain.stages[1].weights[o * rank + r] * chain.stages[0].weights[r * 9 + t];
    cr_expect_lt(help_distance(composed, sum, size), 1e-14);
    nd_chain_free(&chain);
    free(composed);
    free(sum);
    help_conv_free(&conv);
    nd_backend_close(backend);
}

/* Where one channel matters more, adaptive ranks go there, down to none for a channel that does
 * not matter. */
Test(methods, adaptive_ranks_follow_the_energy) {
    nd_backend *backend = help_backend();
    nd_conv conv = help_conv(0, 21);
    float *weights = (float *)conv.weights;
    for (int64_t o = 0; o < conv.no; o++)
        for (int64_t t = 0; t < 9; t++) {
            weights[(o * conv.ni + 2) * 9 + t] *= 100;
            weights[(o * conv.ni + 4) * 9 + t] *= 0.01f;
        }
    nd_chain chain = decompose(backend, &nd_method_dwpw, &conv, nd_ranks_adaptive, 18);
    int terms[6] = {0};
    for (int r = 0; r < 18; r++) terms[chain.stages[0].channel[r]]++;
    cr_expect_eq(terms[2], 8);
    cr_expect_eq(terms[4], 0);
    nd_chain_free(&chain);
    help_conv_free(&conv);
    nd_backend_close(backend);
}
