#include "base/rng.h"
#include "eval/report/pareto.h"

#include <criterion/criterion.h>
#include <math.h>

/* The definition, pair by pair. */
static bool dominated(const double *gain, const double *cost, size_t n, size_t i) {
    for (size_t k = 0; k < n; k++)
        if (gain[k] >= gain[i] && cost[k] <= cost[i] && (gain[k] > gain[i] || cost[k] < cost[i])) return true;
    return false;
}

Test(pareto, front_is_what_nothing_dominates) {
    nd_rng rng = nd_rng_seed(1);
    for (int round = 0; round < 300; round++) {
        double gain[30], cost[30];
        bool best[30];
        size_t n = (size_t)nd_rng_below(&rng, 31);
        for (size_t i = 0; i < n; i++) {
            gain[i] = (double)nd_rng_below(&rng, 8); /* many ties */
            cost[i] = (double)nd_rng_below(&rng, 8);
        }
        cr_assert_eq(nd_pareto_front(gain, cost, n, best), nd_status_ok);
        for (size_t i = 0; i < n; i++)
            cr_expect_eq(best[i], !dominated(gain, cost, n, i), "point %zu of %zu", i, n);
    }
}

Test(pareto, unknown_values_are_on_no_front) {
    const double gain[] = {NAN, 1}, cost[] = {0, 5};
    bool best[2];
    cr_assert_eq(nd_pareto_front(gain, cost, 2, best), nd_status_ok);
    cr_expect(!best[0] && best[1]);
}

Test(pareto, rows_compete_within_their_group) {
    static const struct {
        const char *backend;
        double top1;
        int64_t macs;
        bool best;
    } cases[] = {
        {"cpu", 90, 100, true}, {"cpu", 80, 120, false}, {"cpu", 85, 50, true}, {"ref", 10, 500, true}};
    nd_row rows[4] = {0};
    for (int i = 0; i < 4; i++) {
        nd_row_set_text(&rows[i], nd_field_backend, cases[i].backend);
        nd_row_set_real(&rows[i], nd_field_top1, cases[i].top1);
        nd_row_set_int(&rows[i], nd_field_total_macs, cases[i].macs);
    }
    cr_assert_eq(nd_pareto_mark(rows, 4), nd_status_ok);
    for (int i = 0; i < 4; i++) {
        cr_expect(rows[i].values[nd_field_pareto].set);
        cr_expect_eq(rows[i].values[nd_field_pareto].i, cases[i].best, "row %d", i);
    }
    cr_expect(!rows[0].values[nd_field_pareto_time].set, "nothing was timed");
    nd_row_set_text(&rows[0], nd_field_ranks, "dense"); /* the original: 1 by definition */
    nd_row_set_real(&rows[1], nd_field_ratio, 2);
    nd_row_set_real(&rows[2], nd_field_ratio, 1.5);
    cr_assert_eq(nd_pareto_mark(rows, 4), nd_status_ok);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(rows[i].values[nd_field_pareto].i, cases[i].best, "MACs do not change with time");
        cr_expect(rows[i].values[nd_field_pareto_time].i, "each is the most accurate of its speed: row %d",
                  i);
    }
    cr_expect(!rows[3].values[nd_field_pareto_time].set);
    nd_row_set_real(&rows[1], nd_field_ratio, 1.4);
    cr_assert_eq(nd_pareto_mark(rows, 4), nd_status_ok);
    cr_expect(!rows[1].values[nd_field_pareto_time].i, "slower and less accurate than row 2");
    for (int i = 0; i < 4; i++) nd_row_free(&rows[i]);
}

/* The original takes 100 ns in fp32 and 20 in int8; in time all dtypes compete, in MACs each for itself. */
Test(pareto, times_are_compared_across_dtypes) {
    static const struct {
        const char *dtype;
        double top1, ns, ratio;
        int64_t macs;
        bool best;
    } cases[] = {{"fp32", 90, 0, 0, 100, true},
                 {"fp32", 80, 40, 2.5, 40, false},
                 {"int8", 89, 0, 0, 100, true},
                 {"int8", 79, 10, 2, 40, true}};
    nd_row rows[4] = {0};
    const nd_row *row[4];
    for (int i = 0; i < 4; i++) {
        row[i] = &rows[i];
        nd_row_set_text(&rows[i], nd_field_dtype, cases[i].dtype);
        nd_row_set_real(&rows[i], nd_field_top1, cases[i].top1);
        nd_row_set_int(&rows[i], nd_field_total_macs, cases[i].macs);
        if (cases[i].ratio > 0) nd_row_set_real(&rows[i], nd_field_ratio, cases[i].ratio);
        if (cases[i].ratio > 0) nd_row_set_real(&rows[i], nd_field_ns_median, cases[i].ns);
        if (!(cases[i].ratio > 0)) nd_row_set_text(&rows[i], nd_field_ranks, "dense");
    }
    cr_expect_float_eq(nd_pareto_original_ns(row, 4, row[0]), 100, 1e-9);
    cr_expect_float_eq(nd_pareto_original_ns(row, 4, row[2]), 20, 1e-9);
    cr_assert_eq(nd_pareto_mark(rows, 4), nd_status_ok);
    for (int i = 0; i < 4; i++) {
        cr_expect(rows[i].values[nd_field_pareto].i, "row %d", i);
        cr_expect_eq(rows[i].values[nd_field_pareto_time].i, cases[i].best, "row %d", i);
        nd_row_free(&rows[i]);
    }
}

/* Of detectors what is wanted is AP, else agreement, else a small error of raw numbers; classes do not
 * compete. */
Test(pareto, detectors_compete_by_what_was_measured) {
    static const nd_field fields[] = {nd_field_ap, nd_field_agree_ap50, nd_field_raw_rel_mse};
    for (int f = 0; f < 3; f++) {
        nd_row rows[3] = {0};
        for (int i = 0; i < 3; i++) {
            nd_row_set_int(&rows[i], nd_field_total_macs, 100 + i);
            nd_row_set_real(&rows[i], fields[f], (f == 2 ? -1 : 1) * (double[]){40, 30, 50}[i]);
        }
        nd_row_set_text(&rows[2], nd_field_class_name, "dog");
        cr_assert_eq(nd_pareto_mark(rows, 3), nd_status_ok);
        cr_expect(rows[0].values[nd_field_pareto].i && !rows[1].values[nd_field_pareto].i, "field %d", f);
        cr_expect(!rows[2].values[nd_field_pareto].set);
        for (int i = 0; i < 3; i++) nd_row_free(&rows[i]);
    }
}
