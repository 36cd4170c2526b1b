#include "decouple/plan/allocate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_candidate_list_add(nd_candidate_list *list, const nd_candidate *candidate) {
    nd_candidate *rows = nd_array_grow(list->rows, list->count, &list->capacity, sizeof *rows);
    ND_REQUIRE(rows, nd_status_memory, "no memory for candidates");
    list->rows = rows;
    rows[list->count++] = *candidate;
    return nd_status_ok;
}

static bool better(const nd_candidate *a, const nd_candidate *b, double price) {
    double x = a->error + price * (double)a->cost, y = b->error + price * (double)b->cost;
    return x != y ? x < y : a->cost < b->cost;
}

/* The best candidate of every layer at a price per unit of cost; returns the sum of costs. */
static int64_t choose_at(const nd_candidate *table, size_t count, int n_layers, double price,
                         size_t *chosen) {
    for (int l = 0; l < n_layers; l++) chosen[l] = SIZE_MAX;
    for (size_t c = 0; c < count; c++) {
        size_t *best = &chosen[table[c].layer];
        if (*best == SIZE_MAX || better(&table[c], &table[*best], price)) *best = c;
    }
    int64_t cost = 0;
    for (int l = 0; l < n_layers; l++) cost += table[chosen[l]].cost;
    return cost;
}

static int64_t choose_cheapest(const nd_candidate *table, size_t count, int n_layers, size_t *chosen) {
    int64_t cost = 0;
    for (int l = 0; l < n_layers; l++) {
        size_t best = SIZE_MAX;
        for (size_t c = 0; c < count; c++) {
            if (table[c].layer != l) continue;
            if (best == SIZE_MAX || table[c].cost < table[best].cost ||
                (table[c].cost == table[best].cost && table[c].error < table[best].error))
                best = c;
        }
        chosen[l] = best;
        cost += table[best].cost;
    }
    return cost;
}

/* Takes the affordable improvement with the most gain per cost until there is none. */
static void spend(const nd_candidate *table, size_t count, int64_t slack, size_t *chosen) {
    for (;;) {
        size_t best = SIZE_MAX;
        double best_gain = 0;
        for (size_t c = 0; c < count; c++) {
            const nd_candidate *now = &table[chosen[table[c].layer]];
            int64_t extra = table[c].cost - now->cost;
            double gain = now->error - table[c].error;
            if (!(gain > 0) || extra > slack) continue;
            gain = extra > 0 ? gain / (double)extra : INFINITY;
            if (gain <= best_gain) continue;
            best = c;
            best_gain = gain;
        }
        if (best == SIZE_MAX) return;
        slack -= table[best].cost - table[chosen[table[best].layer]].cost;
        chosen[table[best].layer] = best;
    }
}

nd_status nd_allocate(const nd_candidate *table, size_t count, int n_layers, int64_t budget, size_t *chosen) {
    bool *has = nd_alloc_array((size_t)n_layers, sizeof *has);
    ND_REQUIRE(has, nd_status_memory, "no memory for an allocation");
    int layers = 0;
    for (size_t c = 0; c < count; c++) {
        layers += !has[table[c].layer];
        has[table[c].layer] = true;
    }
    free(has);
    ND_REQUIRE(layers == n_layers, nd_status_internal, "a layer has no candidate");
    int64_t least = choose_cheapest(table, count, n_layers, chosen);
    ND_REQUIRE(least <= budget, nd_status_usage,
               "the budget of %lld is out of reach: the cheapest choice for these layers costs %lld",
               (long long)budget, (long long)least);
    size_t *trial = nd_alloc_array((size_t)n_layers, sizeof *trial);
    ND_REQUIRE(trial, nd_status_memory, "no memory for an allocation");

    /* Prices from nothing to where a single unit of cost outweighs any error. */
    double most = 0;
    for (size_t c = 0; c < count; c++) most = fmax(most, table[c].error);
    double low = log(fmax(most, 1e-300)) - 60, high = log(fmax(most, 1e-300)) + 1;
    int64_t cost = choose_at(table, count, n_layers, 0, trial);
    for (int step = 0; step < 100 && cost > budget; step++) {
        double middle = (low + high) / 2;
        int64_t now = choose_at(table, count, n_layers, exp(middle), trial);
        if (now > budget) {
            low = middle;
            continue;
        }
        high = middle;
        memcpy(chosen, trial, (size_t)n_layers * sizeof *chosen);
        least = now;
    }
    if (cost <= budget) {
        memcpy(chosen, trial, (size_t)n_layers * sizeof *chosen);
        least = cost;
    }
    spend(table, count, budget - least, chosen);
    free(trial);
    return nd_status_ok;
}
