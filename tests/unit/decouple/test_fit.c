/* Least squares and the fits on data, each against its definition. */
#include "decouple/fit/features.h"
#include "decouple/fit/refit.h"
#include "decouple/fit/split.h"
#include "decouple/methods/combine.h"
#include "decouple/methods/dwpw.h"
#include "decouple/methods/lowrank_fit.h"
#include "tests/unit/help/fit_help.h"

/* Few features, where the short way is taken, and many, where it is not. */
Test(fit, features_tell_the_error_of_a_chain) {
    static const char *const names[] = {"dwpw", "pwdw", "spatial"};
    for (int shape = 0; shape < help_n_shapes; shape++) {
        help_problem p = help_problem_open(shape);
        nd_moments_ridge(p.m, &p.conv, 0.05);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            const nd_method *method = nd_method_find(names[i]);
            if (!method->applies(&p.conv)) continue;
            const int64_t most = method->max_rank(&p.conv), step = method->step(&p.conv, nd_ranks_uniform);
            for (int64_t rank = step; rank <= most; rank += most > step ? most - step : 1) {
                nd_chain chain = {0};
                double told = 0, wanted = 0;
                OK(method->decompose(p.backend, &p.conv, nd_ranks_uniform, rank, p.m, &chain));
                OK(nd_chain_compose(&chain, &p.conv, p.w));
                const float *bias = chain.stages[chain.n - 1].bias;
                OK(nd_moments_error(p.m, p.backend, &p.conv, p.w, bias, &wanted));
                OK(nd_features_error(p.m, p.backend, &p.conv, &chain, &told));
                cr_expect_float_eq(told, wanted, 1e-9, "%s, %s at %lld: %g, not %g", p.conv.name, names[i],
                                   (long long)rank, told, wanted);
                nd_chain_free(&chain);
            }
        }
        help_problem_close(&p);
    }
}

/* Of the images of one problem, in blocks of `block`; the targets are noisy, so that a fit has something to
 * get wrong. */
static nd_split split_of(const help_problem *p, int64_t block) {
    nd_split split;
    const int64_t in = p->conv.ni * p->conv.in_h * p->conv.in_w;
    const int64_t out = p->conv.no * nd_conv_out_h(&p->conv) * nd_conv_out_w(&p->conv);
    OK(nd_split_open(&p->conv, help_images, &split));
    cr_assert(split.held);
    for (int64_t i = 0; i < help_images; i += block) {
        const int64_t n = help_images - i < block ? help_images - i : block;
        OK(nd_split_add(&split, p->backend, &p->conv, n, p->x + i * in, p->y + i * out));
    }
    return split;
}

static void add_noise(help_problem *p, float size) {
    const int64_t count = help_images * p->conv.no * nd_conv_out_h(&p->conv) * nd_conv_out_w(&p->conv);
    float *noise = help_normals(count, 5);
    for (int64_t e = 0; e < count; e++) p->y[e] += size * noise[e];
    free(noise);
    nd_moments_free(p->m);
    p->m = help_moments(p->backend, &p->conv, help_images, p->x, p->y);
}

static void expect_close(const double *a, const double *b, int64_t n, const char *what, const char *name) {
    double apart = 0, size = 0;
    for (int64_t e = 0; e < n; e++) {
        apart += pow(a[e] - b[e], 2);
        size += pow(b[e], 2);
    }
    cr_expect(apart <= 1e-8 * size, "%s of %s: %g of %g", what, name, apart, size);
}

/* Whatever was held out, with whatever ridge: pooled, the two parts are the moments of all images. */
Test(fit, the_parts_of_a_split_make_the_whole) {
    for (int shape = 0; shape < help_n_shapes; shape++)
        for (int64_t block = 3; block <= help_images; block += 7) {
            help_problem p = help_problem_open(shape);
            nd_split split = split_of(&p, block);
            OK(nd_split_finish(&split, p.backend, &p.conv, 0.2));
            cr_expect_eq(4 * split.held->pixels, p.m->pixels, "%s, blocks of %d", p.conv.name, (int)block);
            cr_expect_eq(3 * split.held->pixels, split.fit->pixels);
            nd_split_pool(&split, &p.conv);
            nd_moments_ridge(p.m, &p.conv, 0.2);
            cr_expect(!split.held && split.fit->pixels == p.m->pixels);
            cr_expect_float_eq(split.fit->vy, p.m->vy, 1e-5 * p.m->vy);
            expect_close(split.fit->g, p.m->g, p.m->groups * p.m->k * p.m->k, "g", p.conv.name);
            expect_close(split.fit->h, p.m->h, p.m->no * p.m->k, "h", p.conv.name);
            expect_close(split.fit->mean_p, p.m->mean_p, p.m->groups * p.m->k, "mean p", p.conv.name);
            expect_close(split.fit->mean_y, p.m->mean_y, p.m->no, "mean y", p.conv.name);
            nd_split_close(&split);
            help_problem_close(&p);
        }
}

/* E|y - (w * x + b)|^2 / var y on the last image of every four, by running it with the bias it has. */
static double error_on_held(const help_problem *p, const double *w, const float *bias) {
    const nd_conv *conv = &p->conv;
    const int64_t in = conv->ni * conv->in_h * conv->in_w, area = nd_conv_out_h(conv) * nd_conv_out_w(conv);
    double rest = 0, variance = 0;
    for (int64_t o = 0; o < conv->no; o++) {
        double sum = 0, squares = 0, n = 0;
        for (int64_t i = 3; i < help_images; i += 4)
            for (int64_t e = 0; e < area; e++, n++) {
                double y = p->y[(i * conv->no + o) * area + e];
                sum += y;
                squares += y * y;
            }
        variance += squares - sum * sum / n;
    }
    for (int64_t i = 3; i < help_images; i += 4) {
        double *image = help_widen(p->x + i * in, in), *one = help_run_conv(conv, w, bias, image);
        for (int64_t e = 0; e < conv->no * area; e++) rest += pow(p->y[i * conv->no * area + e] - one[e], 2);
        free(image);
        free(one);
    }
    return rest / variance;
}

/* The held-out error is what running the chain on those images gives, its own bias and all, and the ridge
 * that is chosen by it no worse than the one it began with or the next ones. */
Test(fit, held_out_error_is_measured_and_chooses_the_ridge) {
    for (int shape = 0; shape < help_n_shapes; shape++) {
        help_problem p = help_problem_open(shape);
        add_noise(&p, 2);
        nd_split split = split_of(&p, 4);
        const nd_method *method = nd_method_find("dwpw");
        if (!method->applies(&p.conv)) method = nd_method_find("channel");
        nd_chain chain = {0};
        double first = 0, least = 0, next = 0;
        OK(nd_split_finish(&split, p.backend, &p.conv, 1e-3));
        int64_t step = method->step(&p.conv, nd_ranks_adaptive);
        int64_t rank = (method->max_rank(&p.conv) / step + 1) / 2 * step;
        OK(method->decompose(p.backend, &p.conv, nd_ranks_adaptive, rank, split.fit, &chain));
        OK(nd_split_error(&split, p.backend, &p.conv, &chain, &first));
        OK(nd_chain_compose(&chain, &p.conv, p.w));
        double found = error_on_held(&p, p.w, chain.stages[chain.n - 1].bias);
        cr_expect_float_eq(first, found, 1e-4 * found, "%s: %g, measured %g", p.conv.name, first, found);

        double factor = 0, seen = 0;
        OK(nd_split_optimism(&split, p.backend, &p.conv, &chain, &factor));
        OK(nd_moments_error(split.fit, p.backend, &p.conv, p.w, NULL,
                            &seen)); /* its bias is the best there */
        cr_expect_float_eq(factor * seen, first, 1e-3 * first, "%s: %g times %g is not %g", p.conv.name,
                           factor, seen, first);

        OK(nd_split_ridge(&split, p.backend, &p.conv, &chain));
        OK(nd_split_error(&split, p.backend, &p.conv, &chain, &least));
        cr_expect_leq(least, first * (1 + 1e-5), "%s: %g, was %g", p.conv.name, least, first);
        for (int side = -1; side <= 1; side += 2) {
            nd_moments_ridge(split.fit, &p.conv, split.lambda * pow(10, 0.5 * side));
            OK(nd_refit_last(p.backend, &p.conv, split.fit, &chain));
            OK(nd_refit_chain_bias(&p.conv, split.fit, &chain));
            OK(nd_split_error(&split, p.backend, &p.conv, &chain, &next));
            bool edge = split.lambda < 2e-4 || split.lambda > 5;
            cr_expect(edge || next >= least * (1 - 0.0101), "%s: ridge %g has %g, its neighbour %g",
                      p.conv.name, split.lambda, least, next);
        }
        nd_chain_free(&chain);
        nd_split_close(&split);
        help_problem_close(&p);
    }
}

/* A gram of features that repeat each other more than exactly, as rounding may have it, factors only with
 * some jitter: what the attempts before left in its place does not tell. Features that never vary get
 * nothing. */
Test(fit, a_gram_of_doubled_features_is_solved_in_place) {
    enum { n = 40, doubled = 12, dead = 3 };
    nd_backend *backend = help_backend();
    float *factor = help_normals(n * n, 17);
    double gram[n * n], x[n], wanted[n], residual = 0, size = 0;
    int64_t like[n];
    for (int64_t i = 0; i < n; i++) like[i] = i < doubled ? i + doubled : i;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            gram[i * n + j] = 0;
            for (int64_t k = 0; k < n; k++)
                if (i < n - dead && j < n - dead)
                    gram[i * n + j] += (double)factor[like[i] * n + k] * factor[like[j] * n + k];
        }
    for (int64_t i = 0; i < doubled; i++) {
        gram[i * n + i + doubled] *= 1 + 1e-7;
        gram[(i + doubled) * n + i] *= 1 + 1e-7;
    }
    for (int64_t i = 0; i < n; i++) x[i] = wanted[i] = gram[i * n + 1] - 2 * gram[i * n + n / 2];
    double *before = nd_alloc_array(n, n * sizeof *before);
    memcpy(before, gram, sizeof gram);
    OK(nd_refit_gram(backend, n, gram, 1, x));
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < n; j++) sum += x[j] * before[j * n + i];
        residual += pow(sum - wanted[i], 2);
        size += pow(wanted[i], 2);
    }
    cr_expect(residual < 1e-8 * size, "%g of %g", residual, size);
    for (int64_t i = n - dead; i < n; i++) cr_expect_eq(x[i], 0);
    free(before);
    free(factor);
    nd_backend_close(backend);
}

/* Rounding alone, as images that are all alike leave it. */
Test(fit, grams_that_are_no_grams_are_solved) {
    enum { n = 12 };
    nd_backend *backend = help_backend();
    double gram[n * n], x[n];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) gram[i * n + j] = i == j ? 1e-9 : -0.9e-9;
    for (int64_t i = 0; i < n; i++) x[i] = 1e-9;
    OK(nd_refit_gram(backend, n, gram, 1, x));
    for (int64_t i = 0; i < n; i++) cr_expect(isfinite(x[i]) && fabs(x[i]) <= 1, "%g", x[i]);
    nd_backend_close(backend);
}

/* The target is the full response: the bias comes back as it was, not lost and not doubled. */
Test(fit, least_squares_finds_the_kernel_and_bias_again) {
    for (int shape = 0; shape < help_n_shapes; shape++) {
        help_problem p = help_problem_open(shape);
        float *bias = nd_alloc_array((size_t)p.conv.no, sizeof *bias);
        double error = 1;
        const double *w = NULL;
        nd_moments_ridge(p.m, &p.conv, 1e-6);
        OK(nd_refit_kernel(p.backend, &p.conv, p.m, &w));
        OK(nd_moments_error(p.m, p.backend, &p.conv, w, NULL, &error));
        cr_expect_lt(error, 1e-8, "%s: %g", p.conv.name, error);
        nd_refit_bias(p.m, w, bias);
        for (int64_t o = 0; o < p.conv.no; o++)
            cr_expect_float_eq(bias[o], p.conv.bias[o], 1e-2, "%s: %g, was %g", p.conv.name, bias[o],
                               p.conv.bias[o]);
        free(bias);
        help_problem_close(&p);
    }
}

static double chain_error(help_problem *p, const nd_chain *chain) {
    double error = -1;
    OK(nd_chain_compose(chain, &p->conv, p->w));
    OK(nd_moments_error(p->m, p->backend, &p->conv, p->w, NULL, &error));
    return error;
}

/* Same rank, on the data it was fitted to: data never loses to weights alone, and full rank is exact. */
Test(fit, data_beats_weights_alone) {
    for (const nd_method *const *method = nd_method_table; *method; method++)
        for (int shape = 1; shape < help_n_shapes; shape += 3) {
            help_problem p = help_problem_open(shape);
            if (!(*method)->applies(&p.conv)) {
                help_problem_close(&p);
                continue;
            }
            nd_moments_ridge(p.m, &p.conv, 1e-4);
            int64_t step = (*method)->step(&p.conv, nd_ranks_uniform), most = (*method)->max_rank(&p.conv);
            for (int64_t rank = step; rank <= most / step * step; rank += (most / step + 1) / 2 * step) {
                nd_chain blind = {0}, fitted = {0};
                OK((*method)->decompose(p.backend, &p.conv, nd_ranks_uniform, rank, NULL, &blind));
                OK((*method)->decompose(p.backend, &p.conv, nd_ranks_uniform, rank, p.m, &fitted));
                double before = chain_error(&p, &blind), after = chain_error(&p, &fitted);
                cr_expect(after <= before + 1e-7, "%s, %s, rank %d: %g, weights alone %g", (*method)->name,
                          p.conv.name, (int)rank, after, before);
                cr_expect_eq(nd_chain_macs(&blind, &p.conv), nd_chain_macs(&fitted, &p.conv));
                nd_chain_free(&blind);
                nd_chain_free(&fitted);
            }
            if (strchr((*method)->name, '+')) { /* never the full kernel */
                help_problem_close(&p);
                continue;
            }
            nd_chain full = {0};
            OK((*method)->decompose(p.backend, &p.conv, nd_ranks_uniform, most / step * step, p.m, &full));
            double error = chain_error(&p, &full);
            cr_expect_lt(error, 1e-6, "%s, %s, full rank: %g", (*method)->name, p.conv.name, error);
            nd_chain_free(&full);
            help_problem_close(&p);
        }
}

/* |w - W|^2_ridge + error * vy: what the refit minimises. */
static double objective(help_problem *p, const nd_chain *chain) {
    double value = chain_error(p, chain) * p->m->vy;
    int64_t per_group = help_kernel_size(&p->conv) / p->conv.groups;
    for (int64_t e = 0; e < help_kernel_size(&p->conv); e++)
        value += p->m->ridge[e / per_group] * pow(p->w[e] - p->conv.weights[e], 2);
    return value;
}

Test(fit, refit_of_the_last_stage_is_its_optimum) {
    for (const nd_method *const *method = nd_method_table; *method; method++) {
        help_problem p = help_problem_open(7);
        if (!(*method)->applies(&p.conv)) {
            help_problem_close(&p);
            continue;
        }
        nd_chain chain = {0};
        int64_t step = (*method)->step(&p.conv, nd_ranks_uniform);
        nd_moments_ridge(p.m, &p.conv, 0.01);
        OK((*method)->decompose(p.backend, &p.conv, nd_ranks_uniform, step, NULL, &chain));
        double before = objective(&p, &chain);
        OK(nd_refit_last(p.backend, &p.conv, p.m, &chain));
        double best = objective(&p, &chain);
        cr_expect(best <= before * (1 + 1e-9), "%s: %g after, %g before", (*method)->name, best, before);
        nd_stage *last = &chain.stages[chain.n - 1];
        int64_t count =
            last->no * (last->ni / last->groups) * last->window.kernel[0] * last->window.kernel[1];
        for (int64_t e = 0; e < count; e += 1 + count / 11)
            for (int sign = -1; sign <= 1; sign += 2) {
                float kept = last->weights[e];
                last->weights[e] += (float)sign * 0.02f;
                cr_expect(objective(&p, &chain) >= best * (1 - 1e-9), "%s, weight %d", (*method)->name,
                          (int)e);
                last->weights[e] = kept;
            }
        nd_chain_free(&chain);
        help_problem_close(&p);
    }
}

/* What fits minimise: the error, with the ridge's penalty. */
static double penalised_error(const help_problem *p, const nd_chain *chain) {
    double error = 0, penalty = 0;
    const int64_t size = help_kernel_size(&p->conv), per_group = size / p->conv.groups;
    OK(nd_chain_compose(chain, &p->conv, p->w));
    OK(nd_moments_error(p->m, p->backend, &p->conv, p->w, NULL, &error));
    for (int64_t e = 0; e < size; e++)
        penalty += p->m->ridge[e / per_group] * pow(p->w[e] - p->conv.weights[e], 2);
    return error + penalty / p->m->vy;
}

/* Screened without a chain, narrowed in closed form, and as channel decomposition and a refit have it. */
Test(fit, forms_of_low_rank_have_the_errors_of_their_chains) {
    const nd_ranks ranks[] = {nd_ranks_uniform, nd_ranks_adaptive};
    for (int shape = 0; shape < help_n_shapes; shape++)
        for (int r = 0; r < 2; r++) {
            help_problem p = help_problem_open(shape);
            const int64_t ni = p.conv.ni, half = p.conv.no / p.conv.groups / 2 * p.conv.groups;
            nd_form forms[] = {{ni, 0, 0}, {ni, half, 0}, {2 * ni, p.conv.groups, 0}, {2 * ni, half, 0}};
            const int n = nd_method_dwpw.max_rank(&p.conv) >= 2 * ni && half ? 4 : 1;
            nd_moments_ridge(p.m, &p.conv, 0.05);
            if (nd_method_dwpw.applies(&p.conv))
                OK(nd_lowrank_screen(p.backend, &p.conv, ranks[r], p.m, n, forms));
            for (int f = 0; f < n && nd_method_dwpw.applies(&p.conv); f++) {
                nd_chain chain = {0}, other = {0};
                nd_form narrowed = forms[f];
                const int64_t terms = forms[f].terms, width = forms[f].width;
                OK(nd_dwpw_fit(p.backend, &p.conv, ranks[r], terms, 0, p.m, &chain));
                OK(nd_lowrank_narrow(p.backend, &p.conv, p.m, &narrowed, &chain));
                OK(nd_dwpw_fit(p.backend, &p.conv, ranks[r], terms, 0, p.m, &other));
                if (width)
                    OK(nd_chain_redo_stage(p.backend, &nd_method_channel, 1, width, &p.conv, p.m, &other));
                OK(nd_refit_last(p.backend, &p.conv, p.m, &other));
                const double is = penalised_error(&p, &chain), wanted = penalised_error(&p, &other);
                cr_expect_float_eq(is, wanted, 1e-5, "%s: %g, not %g", p.conv.name, is, wanted);
                cr_expect_float_eq(forms[f].error, is, 1e-5, "%s: %g of %g", p.conv.name, forms[f].error, is);
                cr_expect_float_eq(narrowed.error, is, 1e-5, "%s: %g of %g", p.conv.name, narrowed.error, is);
                nd_chain_free(&chain);
                nd_chain_free(&other);
            }
            help_problem_close(&p);
        }
}

/* A chain that goes on is at the end of its third round where one that had three rounds is. */
Test(fit, a_refined_chain_has_had_one_round_more) {
    for (int shape = 0; shape < help_n_shapes; shape++)
        for (int adaptive = 0; adaptive < 2; adaptive++) {
            help_problem p = help_problem_open(shape);
            const nd_ranks ranks = adaptive ? nd_ranks_adaptive : nd_ranks_uniform;
            const bool applies =
                nd_method_dwpw.applies(&p.conv) && nd_method_dwpw.max_rank(&p.conv) > p.conv.ni;
            nd_chain chain = {0}, other = {0};
            nd_moments_ridge(p.m, &p.conv, 0.05);
            if (applies) {
                OK(nd_dwpw_fit(p.backend, &p.conv, ranks, p.conv.ni, 2, p.m, &chain));
                const double two = penalised_error(&p, &chain);
                OK(nd_dwpw_refine(p.backend, &p.conv, p.m, &chain));
                OK(nd_dwpw_fit(p.backend, &p.conv, ranks, p.conv.ni, 3, p.m, &other));
                const double is = penalised_error(&p, &chain), wanted = penalised_error(&p, &other);
                cr_expect_float_eq(is, wanted, 1e-5 * wanted, "%s: %g, not %g", p.conv.name, is, wanted);
                cr_expect_leq(is, two * (1 + 1e-6), "%s: %g after %g", p.conv.name, is, two);
            }
            nd_chain_free(&chain);
            nd_chain_free(&other);
            help_problem_close(&p);
        }
}

/* Dead and duplicated channels, a constant target, a single image: finite, and dead inputs change nothing. */
Test(fit, degenerate_data_stays_finite) {
    for (const nd_method *const *method = nd_method_table; *method; method++)
        for (int kind = 0; kind < 3; kind++) {
            nd_backend *backend = help_backend();
            nd_conv conv = help_conv(0, 3);
            int64_t area = conv.in_h * conv.in_w, n = kind == 2 ? 1 : help_images;
            float *x = help_pictures(&conv, n, 5);
            for (int64_t i = 0; kind < 2 && i < n; i++) {
                float *image = x + i * conv.ni * area;
                memset(image + 3 * area, 0, (size_t)area * sizeof *x);
                memcpy(image + 2 * area, image + area, (size_t)area * sizeof *x);
                if (kind == 1) memset(image, 0, (size_t)(conv.ni * area) * sizeof *x);
            }
            float *y = help_responses(&conv, x, n);
            nd_moments *m = help_moments(backend, &conv, n, x, y);
            nd_moments_ridge(m, &conv, 0);
            int64_t rank = 2 * (*method)->step(&conv, nd_ranks_uniform);
            for (int ranks = nd_ranks_uniform; ranks <= nd_ranks_adaptive; ranks++) {
                nd_chain chain = {0};
                double *w = nd_alloc_array((size_t)help_kernel_size(&conv), sizeof *w), error = NAN;
                OK((*method)->decompose(backend, &conv, (nd_ranks)ranks, rank, m, &chain));
                OK(nd_chain_compose(&chain, &conv, w));
                OK(nd_moments_error(m, backend, &conv, w, NULL, &error));
                cr_expect(isfinite(error) && error < 2, "%s, kind %d: %g", (*method)->name, kind, error);
                for (int64_t e = 0; e < help_kernel_size(&conv); e++) cr_assert(isfinite(w[e]));
                for (int64_t o = 0; o < conv.no; o++) cr_assert(isfinite(chain.stages[chain.n - 1].bias[o]));
                free(w);
                nd_chain_free(&chain);
            }
            nd_moments_free(m);
            free(x);
            free(y);
            help_conv_free(&conv);
            nd_backend_close(backend);
        }
}
