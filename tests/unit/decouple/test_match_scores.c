/* Gains and biases that make the scores follow the original's. */
#include "decouple/calib/calibrate.h"
#include "decouple/calib/match_scores.h"
#include "tests/unit/help/net_help.h"

enum { images = 64 };

typedef struct pass {
    nd_backend *backend;
    nd_batches *calib;
    nd_graph *original, *current;
    nd_decouple_settings settings;
    nd_plan plan;
    nd_chain *chains;
} pass;

/* The kernels of the original as chains of one stage, where each output has a gain and a bias that are wrong
 * by `off`, in both signs. */
static void open_pass(float off, pass *w) {
    *w = (pass){.backend = help_backend(), .calib = open_pictures(images, 11), .original = small_net()};
    w->settings = nd_decouple_defaults();
    w->settings.calib = w->calib;
    w->settings.calib_images = images;
    OK(nd_graph_clone(w->original, &w->current));
    OK(nd_graph_infer(w->current, &(nd_infer_settings){.batch = 1}));
    OK(nd_plan_open(w->original, &w->settings, &w->plan));
    w->chains = nd_alloc_array((size_t)w->plan.n_layers, sizeof *w->chains);
    for (int l = 0; l < w->plan.n_layers; l++) {
        const nd_conv *conv = &w->plan.layers[l].conv;
        const int64_t row = help_kernel_size(conv) / conv->no;
        nd_stage *stage = NULL;
        OK(nd_chain_add(&w->chains[l], "", &conv->window, conv->no, conv->ni, conv->groups, false, &stage));
        OK(nd_chain_set_bias(&w->chains[l], conv->bias));
        for (int64_t o = 0; o < conv->no; o++) {
            const float wrong = (o + l) % 2 ? off : -off;
            stage->bias[o] += wrong;
            for (int64_t e = 0; e < row; e++)
                stage->weights[o * row + e] = (1 + wrong) * conv->weights[o * row + e];
        }
        OK(nd_layer_put(w->current, &w->plan.layers[l], &w->chains[l]));
    }
}

static void close_pass(pass *w) {
    for (int l = 0; l < w->plan.n_layers; l++) nd_chain_free(&w->chains[l]);
    free(w->chains);
    nd_plan_close(&w->plan);
    nd_graph_free(w->original);
    nd_graph_free(w->current);
    nd_batches_close(w->calib);
    nd_backend_close(w->backend);
}

static double distance(const pass *w, nd_batches *fresh) {
    return distance_on(w->backend, w->original, w->current, fresh->count, ((pictures *)fresh)->images);
}

Test(match_scores, wrong_gains_and_biases_are_made_up_for) {
    pass w;
    nd_batches *fresh = open_pictures(24, 12);
    open_pass(.05f, &w);
    const double before = distance(&w, fresh);
    OK(nd_match_scores(w.original, w.current, w.backend, &w.settings, &w.plan, w.chains));
    const double after = distance(&w, fresh);
    cr_log_info("distance of the scores %g, then %g", before, after);
    cr_expect_lt(after, 0.3 * before);
    for (int l = 0; l < w.plan.n_layers; l++) /* the chains say the same as the network */
        OK(nd_layer_put(w.current, &w.plan.layers[l], &w.chains[l]));
    cr_expect_float_eq(distance(&w, fresh), after, 1e-6 * after);
    nd_batches_close(fresh);
    close_pass(&w);
}

Test(match_scores, what_follows_already_stays) {
    pass w;
    open_pass(0, &w);
    OK(nd_match_scores(w.original, w.current, w.backend, &w.settings, &w.plan, w.chains));
    for (int l = 0; l < w.plan.n_layers; l++) {
        const nd_conv *conv = &w.plan.layers[l].conv;
        const nd_stage *stage = &w.chains[l].stages[0];
        cr_expect_arr_eq(stage->weights, conv->weights,
                         (size_t)help_kernel_size(conv) * sizeof *stage->weights);
        cr_expect_arr_eq(stage->bias, conv->bias, (size_t)conv->no * sizeof *stage->bias);
    }
    close_pass(&w);
}

/* Few images, or none held out: nothing is matched, and nothing is lost. */
Test(match_scores, few_images_are_left_alone) {
    pass w;
    open_pass(.05f, &w);
    w.settings.calib_images = 7;
    const nd_stage *stage = &w.chains[1].stages[0];
    const float first = stage->weights[0];
    OK(nd_match_scores(w.original, w.current, w.backend, &w.settings, &w.plan, w.chains));
    cr_expect_eq(stage->weights[0], first);
    close_pass(&w);
}
