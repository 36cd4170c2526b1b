#include "base/rng.h"
#include "decouple/plan/allocate.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { layers = 4, per_layer = 7, total = layers * per_layer };

/* Errors that fall with cost, as those of ranks do; the last candidate of a layer is dense. */
static void random_table(uint64_t seed, nd_candidate table[total]) {
    nd_rng rng = nd_rng_seed(seed);
    for (int l = 0; l < layers; l++) {
        double scale = exp(3 * nd_rng_uniform(&rng)), decay = 0.2 + nd_rng_uniform(&rng);
        int64_t unit = 1 + nd_rng_below(&rng, 50);
        for (int c = 0; c < per_layer; c++)
            table[l * per_layer + c] = (nd_candidate){
                .layer = l,
                .cost = unit * (c + 1),
                .error = c + 1 == per_layer ? 0 : scale * exp(-decay * c),
            };
    }
}

static int64_t cost_of(const nd_candidate *table, const size_t *chosen) {
    int64_t cost = 0;
    for (int l = 0; l < layers; l++) cost += table[chosen[l]].cost;
    return cost;
}

static double error_of(const nd_candidate *table, const size_t *chosen) {
    double error = 0;
    for (int l = 0; l < layers; l++) error += table[chosen[l]].error;
    return error;
}

static double exhaustive(const nd_candidate *table, int64_t budget) {
    double best = INFINITY;
    for (int code = 0; code < per_layer * per_layer * per_layer * per_layer; code++) {
        size_t chosen[layers];
        for (int l = 0, rest = code; l < layers; l++, rest /= per_layer)
            chosen[l] = (size_t)(l * per_layer + rest % per_layer);
        if (cost_of(table, chosen) <= budget) best = fmin(best, error_of(table, chosen));
    }
    return best;
}

Test(allocate, stays_within_budget_and_near_the_optimum) {
    double gap = 0;
    int trials = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        nd_candidate table[total];
        size_t chosen[layers], dense[layers], cheapest[layers];
        random_table(seed, table);
        for (int l = 0; l < layers; l++) {
            cheapest[l] = (size_t)(l * per_layer);
            dense[l] = cheapest[l] + per_layer - 1;
        }
        int64_t low = cost_of(table, cheapest), high = cost_of(table, dense);
        for (int step = 0; step <= 10; step++) {
            int64_t budget = low + (high - low) * step / 10;
            cr_assert_eq(nd_allocate(table, total, layers, budget, chosen), nd_status_ok, "%s", nd_error());
            cr_assert(cost_of(table, chosen) <= budget);
            double found = error_of(table, chosen), best = exhaustive(table, budget);
            cr_expect(found >= best - 1e-12);
            gap += (found - best) / error_of(table, cheapest);
            trials++;
            /* No single change of mind would help. */
            for (size_t c = 0; c < total; c++) {
                const nd_candidate *now = &table[chosen[table[c].layer]];
                bool affordable = cost_of(table, chosen) - now->cost + table[c].cost <= budget;
                cr_expect(!affordable || table[c].error >= now->error - 1e-15);
            }
        }
        for (int l = 0; l < layers; l++) cr_expect_eq(chosen[l], dense[l], "the whole budget buys dense");
    }
    cr_expect_lt(gap / trials, 0.02, "mean gap %g of the worst error", gap / trials);
}

Test(allocate, refuses_what_cannot_be) {
    nd_candidate table[total];
    size_t chosen[layers];
    random_table(5, table);
    cr_expect_eq(nd_allocate(table, total, layers, 3, chosen), nd_status_usage);
    cr_expect_neq(strstr(nd_error(), "cheapest"), NULL);
    cr_expect_eq(nd_allocate(table, per_layer, layers, 1000000, chosen), nd_status_internal);
}

/* Free loss reductions are taken even when nothing is left to spend. */
Test(allocate, takes_the_better_of_equal_costs) {
    const nd_candidate table[] = {{.layer = 0, .cost = 10, .error = 3}, {.layer = 0, .cost = 10, .error = 1}};
    size_t chosen[1];
    cr_assert_eq(nd_allocate(table, 2, 1, 10, chosen), nd_status_ok);
    cr_expect_eq(chosen[0], 1);
}
