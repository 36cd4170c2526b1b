#include "decouple/curves/curve_ranks.h"

/* Shares of the dense layer's cost (method.md, "Measured curves"). */
static const double measured_shares[] = {.06, .09, .125, .185, .25, .31, .37, .5, .62, .8},
                    quick_shares[] = {.06, .09, .125, .185, .25, .37, .62, .8};
enum {
    n_shares = sizeof measured_shares / sizeof *measured_shares,
    n_quick_shares = sizeof quick_shares / sizeof *quick_shares
};
/* A layer that keeps more than this many times the share that the network keeps is rare, and high ranks are
 * slow to fit. */
static const double most_of_mean = 2.5;

static double most_share(const nd_decouple_settings *settings) {
    return settings->rule == nd_rule_macs_ratio ? most_of_mean / settings->target : 1;
}

int64_t nd_curve_rank_within(const nd_decouple_settings *settings, const nd_method *method,
                             const nd_layer *layer, double share) {
    const nd_conv *conv = &layer->conv;
    const int64_t step = nd_plan_step(settings, method, conv), most = method->max_rank(conv) / step * step;
    const double budget = share * (double)layer->dense_macs;
    int64_t low = step, high = most;
    while (low < high) {
        int64_t middle = (low + high + step) / 2 / step * step;
        if ((double)nd_method_macs(method, conv, settings->ranks, middle) <= budget)
            low = middle;
        else
            high = middle - step;
    }
    const bool costlier = nd_method_macs(method, conv, settings->ranks, low) >= layer->dense_macs;
    return low > most || costlier ? 0 : low;
}

int nd_curve_ranks(const nd_decouple_settings *settings, const nd_method *method, const nd_layer *layer,
                   const double *shares, int count, int64_t *ranks) {
    int n = 0;
    for (int s = 0; s < count; s++) {
        const int64_t rank = nd_curve_rank_within(settings, method, layer, shares[s]);
        if (rank > (n ? ranks[n - 1] : 0)) ranks[n++] = rank;
    }
    return n;
}

int nd_curve_grid(const nd_decouple_settings *settings, const nd_method *method, const nd_layer *layer,
                  int64_t *ranks) {
    const double *shares = settings->quick ? quick_shares : measured_shares;
    const int all = settings->quick ? n_quick_shares : n_shares;
    int most = 1;
    while (most < all && shares[most] <= most_share(settings)) most++;
    return nd_curve_ranks(settings, method, layer, shares, most, ranks);
}
