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

static bool same_fields(const nd_row *a, const nd_row *b, const nd_field *fields, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!nd_row_value_equal(fields[i], &a->values[fields[i]], &b->values[fields[i]])) return false;
    return true;
}

/* Costs in MACs are compared within a dtype, the last of these, costs in time among all. */
static bool same_group(const nd_row *a, const nd_row *b, bool time) {
    static const nd_field fields[] = {nd_field_model,   nd_field_weights_sha256, nd_field_dataset_sha256,
                                      nd_field_backend, nd_field_device,         nd_field_dtype};
    return same_fields(a, b, fields, sizeof fields / sizeof *fields - (time ? 1 : 0));
}

double nd_pareto_original_ns(const nd_row *const *rows, size_t n, const nd_row *like) {
    static const nd_field fields[] = {nd_field_backend, nd_field_device, nd_field_dtype, nd_field_batch};
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const nd_row_value *ratio = &rows[i]->values[nd_field_ratio],
                           *ns = &rows[i]->values[nd_field_ns_median];
        if (!ratio->set || !ns->set || rows[i]->values[nd_field_layer].set) continue;
        if (!same_fields(rows[i], like, fields, sizeof fields / sizeof *fields)) continue;
        sum += log(ns->r * ratio->r);
        count++;
    }
    return count ? exp(sum / (double)count) : NAN;
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

/* Rows that are compared with each other. */
typedef struct members {
    nd_row *rows;
    const nd_row **row; /* of them, with their indices */
    size_t *index, n;
} members;

static double macs_of(const members *m, size_t i) {
    return (double)m->row[i]->values[nd_field_total_macs].i;
}

/* By the ratio to the original, which was timed in the same blocks; NaN where nothing was timed. */
static double time_of(const members *m, size_t i) {
    const nd_row *row = m->row[i];
    const nd_row_value *ratio = &row->values[nd_field_ratio], *ranks = &row->values[nd_field_ranks];
    const bool original = ranks->set && !strcmp(ranks->text, "dense");
    const double ns = nd_pareto_original_ns(m->row, m->n, row), unit = isnan(ns) ? 1 : ns;
    return ratio->set ? unit / ratio->r : original ? unit : NAN;
}

static nd_status mark_group(const members *m, double (*cost_of)(const members *, size_t), nd_field field) {
    double *gain = calloc(2 * m->n, sizeof *gain), *cost = gain ? gain + m->n : NULL;
    bool *best = malloc(m->n * sizeof *best);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(gain && best, nd_status_memory, "pareto: out of memory");
    for (size_t i = 0; i < m->n; i++) {
        gain[i] = gain_of(m->row[i]);
        cost[i] = cost_of(m, i);
    }
    ND_TRY_DONE(nd_pareto_front(gain, cost, m->n, best));
    for (size_t i = 0; i < m->n; i++)
        if (!isnan(cost[i])) nd_row_set_flag(&m->rows[m->index[i]], field, best[i]);
done:
    free(gain);
    free(best);
    return status;
}

static bool any_timed(const members *m) {
    for (size_t i = 0; i < m->n; i++)
        if (m->row[i]->values[nd_field_ratio].set) return true;
    return false;
}

static nd_status mark_groups(members *m, size_t n, bool time) {
    bool *done = calloc(n + 1, sizeof *done);
    nd_status status = nd_status_ok;
    ND_REQUIRE_DONE(done, nd_status_memory, "pareto: out of memory");
    for (size_t i = 0; i < n; i++) {
        m->n = 0;
        if (done[i] || !has_point(&m->rows[i])) continue;
        for (size_t k = i; k < n; k++) {
            if (done[k] || !has_point(&m->rows[k]) || !same_group(&m->rows[i], &m->rows[k], time)) continue;
            m->row[m->n] = &m->rows[k];
            m->index[m->n++] = k;
            done[k] = true;
        }
        if (!time) ND_TRY_DONE(mark_group(m, macs_of, nd_field_pareto));
        if (time && any_timed(m)) ND_TRY_DONE(mark_group(m, time_of, nd_field_pareto_time));
    }
done:
    free(done);
    return status;
}

nd_status nd_pareto_mark(nd_row *rows, size_t n) {
    nd_status status = nd_status_ok;
    members m = {
        .rows = rows, .row = malloc((n + 1) * sizeof *m.row), .index = malloc((n + 1) * sizeof *m.index)};
    ND_REQUIRE_DONE(m.row && m.index, nd_status_memory, "pareto: out of memory");
    ND_TRY_DONE(mark_groups(&m, n, false));
    ND_TRY_DONE(mark_groups(&m, n, true));
done:
    free(m.row);
    free(m.index);
    return status;
}
