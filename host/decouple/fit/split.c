#include "decouple/fit/split.h"

#include "decouple/fit/features.h"
#include "decouple/fit/refit.h"

#include <stdlib.h>
#include <string.h>

enum { fewest_images = 8, held_of = 4 };
/* Of the ridge. Its error is flat around the least, and what images held out say of it there is noise: a step
 * must gain a hundredth. */
static const double half_decade = 3.1622776601683795, lowest = 1e-4, highest = 10, least_gain = 0.01;

void nd_split_close(nd_split *split) {
    nd_moments_free(split->fit);
    nd_moments_free(split->held);
    *split = (nd_split){0};
}

nd_status nd_split_open(const nd_conv *conv, int64_t images, nd_split *out) {
    *out = (nd_split){0};
    nd_status status = nd_moments_new(conv, &out->fit);
    if (!status && images >= fewest_images) status = nd_moments_new(conv, &out->held);
    if (status) {
        nd_split_close(out);
        return status;
    }
    nd_moments_limit(out->fit, conv, images);
    if (out->held) out->held->limit = out->fit->limit;
    return nd_status_ok;
}

int64_t nd_split_held(int64_t first, int64_t n) {
    return (first + n) / held_of - first / held_of;
}

nd_status nd_split_add(nd_split *split, nd_backend *backend, const nd_conv *conv, int64_t n, const float *x,
                       const float *y) {
    int64_t first = split->images, held = split->held ? nd_split_held(first, n) : 0;
    int64_t seen = n - held, in = conv->ni * conv->in_h * conv->in_w;
    int64_t out = conv->no * nd_conv_out_h(conv) * nd_conv_out_w(conv);
    split->images += n;
    if (seen) ND_TRY(nd_moments_add(split->fit, backend, conv, first, seen, x, y));
    if (!held) return nd_status_ok;
    return nd_moments_add(split->held, backend, conv, first + seen, held, x + seen * in,
                          y ? y + seen * out : NULL);
}

nd_status nd_split_finish(nd_split *split, nd_backend *backend, const nd_conv *conv, double lambda) {
    if (split->held && !nd_split_held(0, split->images)) { /* fewer images came than were said to */
        nd_moments_free(split->held);
        split->held = NULL;
    }
    ND_TRY(nd_moments_finish(split->fit, backend, conv));
    if (split->held) ND_TRY(nd_moments_finish(split->held, backend, conv));
    const double pixels = split->fit->pixels + (split->held ? split->held->pixels : 0);
    if (lambda <= 0) lambda = nd_moments_usual_ridge(pixels / (double)split->fit->k);
    split->lambda = nd_moments_ridge(split->fit, conv, lambda);
    return nd_status_ok;
}

nd_status nd_split_error(const nd_split *split, nd_backend *backend, const nd_conv *conv,
                         const nd_chain *chain, double *error) {
    return nd_features_error(split->held ? split->held : split->fit, backend, conv, chain, error);
}

nd_status nd_split_optimism(const nd_split *split, nd_backend *backend, const nd_conv *conv,
                            const nd_chain *chain, double *factor) {
    double seen = 0, unseen = 0;
    *factor = 1;
    if (!split->held) return nd_status_ok;
    ND_TRY(nd_features_error(split->fit, backend, conv, chain, &seen));
    ND_TRY(nd_features_error(split->held, backend, conv, chain, &unseen));
    if (seen > 0) *factor = unseen / seen;
    return nd_status_ok;
}

static nd_status refit_at(nd_split *split, nd_refit *refit, nd_backend *backend, const nd_conv *conv,
                          double lambda, nd_chain *chain, double *error) {
    nd_moments_ridge(split->fit, conv, lambda);
    ND_TRY(nd_refit_solve(refit, backend, conv, split->fit, chain));
    ND_TRY(nd_refit_chain_bias(conv, split->fit, chain));
    return nd_split_error(split, backend, conv, chain, error);
}

/* Weights of an output of a stage. */
static int64_t last_row(const nd_stage *last) {
    return last->ni / last->groups * last->window.kernel[0] * last->window.kernel[1];
}

/* What a refit finds, to `kept` or back. */
static void copy_last(const nd_chain *chain, float *kept, bool back) {
    const nd_stage *last = &chain->stages[chain->n - 1];
    const size_t count = (size_t)(last->no * last_row(last)), outputs = (size_t)last->no;
    memcpy(back ? last->weights : kept, back ? kept : last->weights, count * sizeof *kept);
    memcpy(back ? last->bias : kept + count, back ? kept + count : last->bias, outputs * sizeof *kept);
}

nd_status nd_split_ridge(nd_split *split, nd_backend *backend, const nd_conv *conv, nd_chain *chain) {
    const double factors[] = {half_decade, 1 / half_decade}, first = split->lambda;
    const nd_stage *last = &chain->stages[chain->n - 1];
    double least = 0, error = 0;
    nd_status status = nd_status_ok;
    nd_refit refit = {0};
    float *kept = nd_alloc_array((size_t)last->no, ((size_t)last_row(last) + 1) * sizeof *kept);
    ND_REQUIRE_DONE(kept, nd_status_memory, "conv %s: no memory for its ridge", conv->name);
    ND_TRY_DONE(nd_refit_open(backend, conv, split->fit, chain, true, &refit));
    ND_TRY_DONE(refit_at(split, &refit, backend, conv, first, chain, &least));
    copy_last(chain, kept, false);
    for (int f = 0; f < 2 && split->lambda == first; f++)
        for (double next = first * factors[f]; next > lowest && next < highest; next *= factors[f]) {
            ND_TRY_DONE(refit_at(split, &refit, backend, conv, next, chain, &error));
            if (error > least * (1 - least_gain)) break;
            least = error;
            split->lambda = next;
            copy_last(chain, kept, false);
        }
    copy_last(chain, kept, true);
    nd_moments_ridge(split->fit, conv, split->lambda);
done:
    nd_refit_close(&refit);
    free(kept);
    return status;
}

void nd_split_pool(nd_split *split, const nd_conv *conv) {
    nd_moments *fit = split->fit;
    if (split->held) {
        nd_moments_unridge(fit, conv);
        nd_moments_pool(fit, split->held);
        nd_moments_free(split->held);
        split->held = NULL;
    }
    nd_moments_ridge(fit, conv, split->lambda);
}
