/* Measured curves, and those that are kept of other runs. */
#include "decouple/curves/curve.h"
#include "decouple/plan/plan.h"
#include "tests/unit/help/net_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A power law is linear in both logarithms; a loss that rises with the rank is noise. */
Test(curves, losses_between_the_points) {
    nd_curve curve = {.n = 3, .rank = {2, 8, 32}, .loss = {.5, .02, .125}};
    nd_curve_tidy(&curve);
    cr_expect_eq(curve.loss[1], .125);
    curve = (nd_curve){.n = 3, .rank = {2, 8, 32}, .loss = {.5, .125, .03125}}; /* 1 / rank */
    nd_curve_tidy(&curve);
    for (int64_t rank = 2; rank <= 32; rank++)
        cr_expect_float_eq(nd_curve_at(&curve, rank), 1 / (double)rank, 1e-12, "%d", (int)rank);
}

/* Within the points by both logarithms, beyond them in proportion, without any the error itself. */
Test(curves, what_errors_do_to_the_scores) {
    nd_scale scale = {.n = 3, .error = {.4, .5, .1}, .loss = {.16, .1, .01}};
    nd_scale_tidy(&scale); /* the second has more error than the first */
    cr_assert_eq(scale.n, 2);
    cr_expect_float_eq(nd_scale_at(&scale, .2), .04, 1e-12); /* the square of the error */
    cr_expect_float_eq(nd_scale_at(&scale, .8), .32, 1e-12);
    cr_expect_float_eq(nd_scale_at(&scale, .05), .005, 1e-12);
    const nd_scale none = {0};
    cr_expect_eq(nd_scale_at(&none, .3), .3);
}

static nd_candidates measure_for(nd_backend *backend, const nd_graph *graph, nd_decouple_settings *settings,
                                 double target) {
    nd_plan plan;
    nd_candidates candidates;
    settings->target = target;
    OK(nd_plan_open(graph, settings, &plan));
    OK(nd_plan_measure(graph, backend, settings, &plan, &candidates));
    nd_plan_close(&plan);
    return candidates;
}

static void expect_same(const nd_candidates *a, const nd_candidates *b, const char *what) {
    cr_assert_eq(a->count, b->count, "%s: %d and %d", what, (int)a->count, (int)b->count);
    for (size_t c = 0; c < a->count; c++)
        cr_expect(a->rows[c].rank == b->rows[c].rank && a->rows[c].error == b->rows[c].error, "%s: row %d",
                  what, (int)c);
}

/* A large ratio has no use for high ranks. What is kept of it is no answer for a small one, and what is kept
 * of a small one, or of other methods, changes no digit of what a run with nothing kept finds. */
static void check_kept_curves(nd_backend *backend, nd_batches *calib, bool quick) {
    char folder[] = "/tmp/nd-curves-XXXXXX", command[64];
    cr_assert_not_null(mkdtemp(folder));
    nd_graph *graph = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.rule = nd_rule_macs_ratio;
    settings.ranks = nd_ranks_adaptive;
    settings.quick = quick;
    settings.calib = calib;
    settings.method = "dwpw";
    nd_candidates fresh = measure_for(backend, graph, &settings, 1);
    nd_candidates few = measure_for(backend, graph, &settings, 8);
    cr_expect_lt(few.count, fresh.count);
    settings.cache = folder;
    settings.method = "spatial,pwdw";
    nd_candidates other = measure_for(backend, graph, &settings, 2);
    settings.method = "dwpw";
    nd_candidates begun = measure_for(backend, graph, &settings, 8);
    nd_candidates all = measure_for(backend, graph, &settings, 1);
    nd_candidates again = measure_for(backend, graph, &settings, 8);
    expect_same(&begun, &few, "after other methods");
    expect_same(&all, &fresh, "after a larger target");
    expect_same(&again, &few, "after a smaller target");
    nd_candidates_free(&fresh);
    nd_candidates_free(&few);
    nd_candidates_free(&other);
    nd_candidates_free(&begun);
    nd_candidates_free(&all);
    nd_candidates_free(&again);
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_expect_eq(system(command), 0);
    nd_graph_free(graph);
}

Test(curves, kept_ones_are_what_would_be_measured) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(16, 11);
    check_kept_curves(backend, calib, true);
    check_kept_curves(backend, calib, false);
    nd_batches_close(calib);
    nd_backend_close(backend);
}
