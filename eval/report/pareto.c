#include "eval/report/pareto.h"

#include "base/rows/row_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct point {
    double gain, cost;
    size_t index;
} point;

/* Cheapest first; of equally cheap ones the best first. */
static int by_cost(const void *a, const void *b) {
    const point *x = a, *y = b;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    return (x->gain < y->gain) - (x->gain > y->gain);
}

nd_status nd_pareto_front(const double *gain, const double *cost, size_t n, bool *best) {
    point *points = malloc((n ? n : 1) * sizeof *points);
    ND_REQUIRE(points, nd_status_memory, "pareto: out of memory");
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        best[i] = false;
        if (!isnan(gain[i]) && !isnan(cost[i])) points[count++] = (point){gain[i], cost[i], i};
    }
    qsort(points, count, sizeof *points, by_cost);
    double highest = -INFINITY, at_cost = NAN;
    for (size_t i = 0; i < count; i++) {
        bool tie = points[i].cost == at_cost && points[i].gain == highest;
        best[points[i].index] = points[i].gain > highest || tie;
        if (points[i].gain <= highest) continue;
        highest = points[i].gain;
        at_cost = points[i].cost;
    }
    free(points);
    return nd_status_ok;
}

static bool same_group(const nd_row *a, const nd_row *b) {
    static const nd_field fields[] = {nd_field_model,   nd_field_weights_sha256, nd_field_dataset_sha256,
                                      nd_field_backend, nd_field_device,         nd_field_dtype};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!nd_row_value_equal(fields[i], &a->values[fields[i]], &b->values[fields[i]])) return false;
    return true;
}

/* What is wanted of a network: right answers; of a detector AP, or agreement with the original where nothing
 * is annotated, or raw numbers that are off by little; NaN where nothing was measured. */
static double gain_of(const nd_row *row) {
    static const nd_field fields[] = {nd_field_top1, nd_field_ap, nd_field_agree_ap50};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (row->values[fields[i]].set) return row->values[fields[i]].r;
    const nd_row_value *error = &row->values[nd_field_raw_rel_mse];
    return error->set ? -error->r : NAN;
}

static bool has_point(const nd_row *row) {
    return !isnan(gain_of(row)) && row->values[nd_field_total_macs].set && !row->values[nd_field_layer].set &&
           !row->values[nd_field_class_name].set;
}

static double macs_of(const nd_row *row) {
    return (double)row->values[nd_field_total_macs].i;
}

/* Relative to the original's, which was timed in the same blocks; NaN where nothing was timed. */
static double time_of(const nd_row *row) {
    const nd_row_value *ratio = &row->values[nd_field_ratio], *ranks = &row->values[nd_field_ranks];
    bool original = ranks->set && !strcmp(ranks->text, "dense");
    return ratio->set ? 1 / ratio->r : original ? 1 : NAN;
}

static nd_status mark_group(nd_row *rows, const size_t *members, size_t n, double (*cost_of)(const nd_row *),
                            nd_field field) {
    double *gain = calloc(2 * n, sizeof *gain), *cost = gain ? gain + n : NULL;
    bool *best = malloc(n * sizeof *best);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(gain && best, nd_status_memory, "pareto: out of memory");
    for (size_t i = 0; i < n; i++) {
        gain[i] = gain_of(&rows[members[i]]);
        cost[i] = cost_of(&rows[members[i]]);
    }
    ND_TRY_DONE(nd_pareto_front(gain, cost, n, best));
    for (size_t i = 0; i < n; i++)
        if (!isnan(cost[i])) nd_row_set_flag(&rows[members[i]], field, best[i]);
done:
    free(gain);
    free(best);
    return status;
}

static bool any_timed(const nd_row *rows, const size_t *members, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (rows[members[i]].values[nd_field_ratio].set) return true;
    return false;
}

nd_status nd_pareto_mark(nd_row *rows, size_t n) {
    size_t *members = malloc((n ? n : 1) * sizeof *members);
    bool *done = calloc(n ? n : 1, sizeof *done);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(members && done, nd_status_memory, "pareto: out of memory");
    for (size_t i = 0; i < n; i++) {
        size_t count = 0;
        if (done[i] || !has_point(&rows[i])) continue;
        for (size_t k = i; k < n; k++) {
            if (done[k] || !has_point(&rows[k]) || !same_group(&rows[i], &rows[k])) continue;
            members[count++] = k;
            done[k] = true;
        }
        ND_TRY_DONE(mark_group(rows, members, count, macs_of, nd_field_pareto));
        if (any_timed(rows, members, count))
            ND_TRY_DONE(mark_group(rows, members, count, time_of, nd_field_pareto_time));
    }
done:
    free(members);
    free(done);
    return status;
}
