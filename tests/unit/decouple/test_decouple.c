/* Whole networks: the same function at full rank, rules, settings, calibration. */
#include "decouple/decouple.h"

#include "decouple/calib/calibrate.h"
#include "decouple/calib/layer_data.h"
#include "decouple/curves/score_loss.h"
#include "model/model.h"
#include "model/zoo/zoo.h"
#include "tests/unit/help/net_help.h"

#include <sys/wait.h>
#include <unistd.h>

/* --- from weights alone --- */

Test(decouple, full_rank_keeps_the_function) {
    static const char *const methods[] = {"dwpw", "pwdw", "spatial", "channel"};
    nd_backend *backend = help_backend();
    for (int m = 0; m < 4; m++)
        for (int ranks = nd_ranks_uniform; ranks <= nd_ranks_adaptive; ranks++) {
            nd_graph *original = small_net(), *graph = small_net();
            nd_decouple_settings settings = nd_decouple_defaults();
            settings.method = methods[m];
            settings.ranks = (nd_ranks)ranks;
            settings.rule = nd_rule_rank;
            settings.target = 4096; /* more than any full rank */
            settings.first_conv = true;
            nd_decouple_report report = decouple_net(graph, backend, &settings);
            double distance = logit_distance(backend, original, graph, 2, 3);
            cr_expect_lt(distance, 1e-4, "%s: %g", methods[m], distance);
            cr_expect_eq(report.n_layers, 5); /* the pointwise one has its line as well */
            for (size_t l = 0; l < report.n_layers; l++) cr_expect_lt(report.layers[l].error, 1e-5);
            cr_expect_not_null(nd_graph_meta(graph, "nd.settings"));
            nd_decouple_report_free(&report);
            nd_graph_free(original);
            nd_graph_free(graph);
        }
    nd_backend_close(backend);
}

/* A network of volumes or signals: its convolutions have their lines, and nothing is done. */
Test(decouple, convolutions_of_other_ranks_are_named) {
    nd_backend *backend = help_backend();
    for (int rank = 3; rank <= 5; rank += 2) {
        const int64_t dims[] = {1, 2, 8, 8, 8}, kernel[] = {4, 2, 3, 3, 3};
        nd_graph *graph = new_graph("other");
        nd_node *node;
        int in[] = {add_input(graph, "x", rank, dims), add_floats(graph, "w", rank, kernel, NULL)};
        const int y = add_node(graph, nd_op_opaque, "other", in, 2, &node); /* as the reader leaves it */
        node->op_type = "Conv";
        OK(nd_graph_add_output(graph, y));
        OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1, .allow_opaque = true}));
        const nd_decouple_settings settings = nd_decouple_defaults();
        nd_decouple_report report;
        OK(nd_decouple(graph, backend, &settings, &report));
        cr_expect_str_eq(layer_of(&report, "other")->why, "not a 2-D convolution");
        cr_expect(!report.changed);
        nd_decouple_report_free(&report);
        nd_graph_free(graph);
    }
    nd_backend_close(backend);
}

Test(decouple, full_rank_keeps_a_zoo_network) {
    nd_backend *backend = help_backend();
    nd_graph *original = NULL, *graph = NULL;
    uint64_t seed = 1;
    OK(nd_zoo_build(nd_zoo_find("resnet20"), nd_zoo_random, &seed, &original));
    OK(nd_graph_infer(original, &(nd_infer_settings){.batch = 1}));
    OK(nd_graph_clone(original, &graph));
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = "dwpw";
    settings.target = 9;
    nd_decouple_report report = decouple_net(graph, backend, &settings);
    cr_expect_lt(logit_distance(backend, original, graph, 1, 3), 1e-4);
    nd_decouple_report_free(&report);
    nd_graph_free(original);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

Test(decouple, layers_follow_their_settings) {
    static const nd_layer_rule rules[] = {{"block.*", "2"}, {"block.b", "pwdw:3"}, {"down", "dense"}};
    nd_backend *backend = help_backend();
    nd_graph *graph = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = "dwpw";
    settings.layers = rules;
    settings.n_layers = 3;
    nd_decouple_report report = decouple_net(graph, backend, &settings);
    cr_expect_str_eq(layer_of(&report, "first")->why, "first conv");
    cr_expect_eq(layer_of(&report, "block.a")->rank, 16);
    cr_expect_str_eq(layer_of(&report, "block.b")->method, "pwdw");
    cr_expect_eq(layer_of(&report, "block.b")->rank, 24);
    cr_expect_str_eq(layer_of(&report, "down")->why, "by setting");
    cr_expect(nd_graph_find_node(graph, "block.a.dw") >= 0);
    cr_expect(nd_graph_find_node(graph, "block.a.pw") >= 0);
    cr_expect_eq(nd_graph_find_node(graph, "block.a"), -1);
    cr_expect_eq(report.after.total_macs, nd_cost_graph(graph).total_macs);
    nd_decouple_report_free(&report);

    static const nd_layer_rule unknown[] = {{"blok*", "2"}};
    settings.layers = unknown;
    settings.n_layers = 1;
    cr_expect_eq(nd_decouple(graph, backend, &settings, &report), nd_status_usage);
    cr_expect_not_null(strstr(nd_error(), "blok*"));
    nd_graph_free(graph);
    nd_backend_close(backend);
}

static double reach_of(nd_backend *backend, const nd_graph *graph, const char *method) {
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_candidates candidates = {0};
    settings.method = method;
    settings.rule = nd_rule_macs_ratio;
    OK(nd_decouple_candidates(graph, backend, &settings, &candidates));
    const double most = candidates.most;
    nd_candidates_free(&candidates);
    return most;
}

/* It opens pointwise layers, by method or by a layer's own setting, and only those; what is for spatial
 * kernels never touches them. */
Test(decouple, lowrank_is_for_pointwise_layers) {
    static const struct {
        const char *method;
        nd_layer_rule rule;
        const char *score, *block; /* what becomes of them */
        int64_t rank;              /* of score */
    } cases[] = {
        {"dwpw", {NULL, NULL}, "dense", "dwpw", 0},
        {"lowrank", {NULL, NULL}, "lowrank", "dense", 3},
        {"dwpw,lowrank", {NULL, NULL}, "lowrank", "dwpw", 3},
        {"dwpw,lowrank", {"score", "dense"}, "dense", "dwpw", 0},
        {"dwpw,lowrank", {"*", "2"}, "lowrank", "dwpw", 2},
        {"dwpw", {"*", "2"}, "dense", "dwpw", 0},
        {"dwpw", {"score", "lowrank:4"}, "lowrank", "dwpw", 4},
        {"dwpw", {"*", "lowrank:4"}, "lowrank", "dense", 4},
    };
    nd_backend *backend = help_backend();
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.target = 3;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        nd_graph *graph = small_net();
        settings.method = cases[c].method;
        settings.layers = &cases[c].rule;
        settings.n_layers = cases[c].rule.pattern != NULL;
        nd_decouple_report report = decouple_net(graph, backend, &settings);
        cr_expect_str_eq(layer_of(&report, "score")->method, cases[c].score, "case %d", (int)c);
        cr_expect_str_eq(layer_of(&report, "block.a")->method, cases[c].block, "case %d", (int)c);
        cr_expect_eq(layer_of(&report, "score")->rank, cases[c].rank, "case %d", (int)c);
        nd_decouple_report_free(&report);
        nd_graph_free(graph);
    }
    nd_graph *graph = small_net(), *full = small_net();
    settings.layers = &(nd_layer_rule){"score", "dwpw:2"};
    nd_decouple_report report;
    cr_expect_eq(nd_decouple(graph, backend, &settings, &report), nd_status_usage,
                 "dwpw of a pointwise layer");
    cr_expect_gt(reach_of(backend, graph, "dwpw,lowrank"), reach_of(backend, graph, "dwpw"));

    nd_batches *fresh = open_pictures(8, 12);
    settings.method = "lowrank";
    settings.target = 5;
    settings.n_layers = 0;
    report = decouple_net(full, backend, &settings);
    cr_expect(nd_graph_find_node(full, "score.reduce") >= 0 && nd_graph_find_node(full, "score.expand") >= 0);
    cr_expect_lt(distance_on(backend, graph, full, fresh->count, ((pictures *)fresh)->images), 1e-6);
    nd_decouple_report_free(&report);
    nd_batches_close(fresh);
    nd_graph_free(graph);
    nd_graph_free(full);
    nd_backend_close(backend);
}

Test(decouple, rules_keep_their_word) {
    nd_backend *backend = help_backend();
    for (int rule = nd_rule_energy; rule <= nd_rule_macs_ratio; rule++) {
        nd_graph *graph = small_net();
        nd_decouple_settings settings = nd_decouple_defaults();
        settings.rule = (nd_rule)rule;
        settings.target = rule == nd_rule_macs_ratio ? 1.5 : 0.6;
        settings.ranks = rule == nd_rule_energy ? nd_ranks_uniform : nd_ranks_adaptive;
        nd_decouple_report report = decouple_net(graph, backend, &settings);
        for (size_t l = 0; l < report.n_layers; l++) {
            const nd_layer_report *layer = &report.layers[l];
            cr_expect(layer->new_macs <= layer->macs, "%s", layer->name);
            if (rule == nd_rule_frobenius && layer->rank)
                cr_expect(layer->energy >= 0.6 - 1e-6, "%s", layer->name);
        }
        if (rule == nd_rule_macs_ratio)
            cr_expect((double)report.before.total_macs >= 1.5 * (double)report.after.total_macs);
        nd_decouple_report_free(&report);

        settings.rule = nd_rule_macs_ratio;
        settings.target = 1000;
        cr_expect_eq(nd_decouple(graph, backend, &settings, &report), nd_status_usage, "an impossible ratio");
        nd_graph_free(graph);
    }
    nd_backend_close(backend);
}

/* --- on data --- */

/* Fresh images: weights alone, then gain and bias, then the refit, then the refit through the ReLU, or with
 * filters chosen in the output metric. */
Test(decouple, calibration_brings_the_function_back) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(64, 11), *fresh = open_pictures(24, 12);
    nd_graph *original = small_net();
    double distance[5];
    for (int mode = 0; mode < 5; mode++) {
        nd_graph *graph = small_net();
        nd_decouple_settings settings = nd_decouple_defaults();
        settings.method = "dwpw";
        settings.ranks = nd_ranks_adaptive;
        settings.target = 2;
        settings.calib = mode ? calib : NULL;
        settings.light = mode == 1;
        settings.relu_aware = mode == 3;
        settings.output_metric = mode == 4;
        nd_decouple_report report = decouple_net(graph, backend, &settings);
        distance[mode] = distance_on(backend, original, graph, 24, ((pictures *)fresh)->images);
        nd_decouple_report_free(&report);
        nd_graph_free(graph);
    }
    cr_log_info("weights alone %g, gain and bias %g, refit %g, through the ReLU %g, output metric %g",
                distance[0], distance[1], distance[2], distance[3], distance[4]);
    cr_expect_lt(distance[1], distance[0]);
    cr_expect_lt(distance[2], 0.7 * distance[1]);
    cr_expect_lt(distance[3], 1.2 * distance[2]);
    cr_expect_lt(distance[4], 1.2 * distance[2]);
    cr_expect_neq(distance[4], distance[2]);
    nd_graph_free(original);
    nd_batches_close(calib);
    nd_batches_close(fresh);
    nd_backend_close(backend);
}

/* Curves and the quick budget both meet the ratio; a decoupled model is a model like any other. */
Test(decouple, ratio_is_met_on_data_and_again) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(21, 11);
    for (int quick = 0; quick < 2; quick++) {
        nd_graph *graph = small_net();
        nd_decouple_settings settings = nd_decouple_defaults();
        settings.method = "dwpw,pwdw,spatial,channel";
        settings.ranks = nd_ranks_adaptive;
        settings.rule = nd_rule_macs_ratio;
        settings.target = 1.6;
        settings.calib = calib;
        settings.quick = quick;
        nd_decouple_report report = decouple_net(graph, backend, &settings);
        cr_expect((double)report.before.total_macs >= 1.6 * (double)report.after.total_macs);
        cr_expect((double)report.before.total_macs <= 1.8 * (double)report.after.total_macs);
        nd_decouple_report_free(&report);

        settings = nd_decouple_defaults();
        settings.rule = nd_rule_frobenius;
        settings.target = 0.999;
        report = decouple_net(graph, backend, &settings);
        cr_expect_eq(report.after.total_macs, nd_cost_graph(graph).total_macs);
        nd_decouple_report_free(&report);
        nd_graph_free(graph);
    }
    nd_batches_close(calib);
    nd_backend_close(backend);
}

Test(decouple, a_network_without_input_is_refused) {
    nd_backend *backend = help_backend();
    nd_graph *graph = new_graph("constant");
    nd_decouple_report report;
    nd_decouple_settings settings = nd_decouple_defaults();
    OK(nd_graph_add_output(graph, add_floats(graph, "c", 1, &(int64_t){1}, NULL)));
    cr_expect_eq(nd_decouple(graph, backend, &settings, &report), nd_status_unsupported);
    nd_graph_free(graph);
    nd_backend_close(backend);
}

Test(decouple, one_image_is_survived) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(1, 11);
    nd_graph *graph = small_net(), *original = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.calib = calib;
    nd_decouple_report report = decouple_net(graph, backend, &settings);
    cr_expect(isfinite(distance_on(backend, original, graph, calib->count, ((pictures *)calib)->images)));
    nd_decouple_report_free(&report);
    nd_graph_free(graph);
    nd_graph_free(original);
    nd_batches_close(calib);
    nd_backend_close(backend);
}

static nd_status fail_midway(nd_batches *self, nd_batch *out) {
    ND_REQUIRE(!((pictures *)self)->at, nd_status_input, "the disk is gone");
    return pictures_next(self, out);
}

/* Images that cannot be read end a pass with their own error, whatever was open. */
Test(decouple, a_failing_data_set_is_said) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(14, 11);
    calib->next = fail_midway;
    for (int quick = 0; quick < 2; quick++) {
        nd_graph *graph = small_net();
        nd_decouple_settings settings = nd_decouple_defaults();
        nd_decouple_report report = {0};
        settings.calib = calib;
        settings.quick = quick;
        settings.target = 2;
        cr_expect_eq(nd_decouple(graph, backend, &settings, &report), nd_status_input);
        cr_expect_not_null(strstr(nd_error(), "the disk is gone"), "%s", nd_error());
        nd_graph_free(graph);
    }
    nd_batches_close(calib);
    nd_backend_close(backend);
}

static void die_at_the_third(void *user, const char *what, int64_t done, int64_t total) {
    (void)user;
    (void)total;
    if (!strcmp(what, "calibrating") && done == 2) _exit(0);
}

static void note_resuming(void *user, nd_log_level level, const char *message) {
    (void)level;
    if (strstr(message, "going on at layer 3")) *(bool *)user = true;
}

/* A pass that is killed goes on where it was: the layers done are not fitted again, and the result is the
 * same. */
Test(decouple, a_killed_pass_goes_on) {
    char folder[] = "/tmp/nd-pass-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(14, 11);
    nd_decouple_settings settings = nd_decouple_defaults();
    const nd_progress fatal = {.report = die_at_the_third};
    settings.calib = calib;
    settings.method = "dwpw";
    settings.first_conv = true;
    settings.target = 2;
    nd_graph *whole = small_net(), *resumed = small_net();
    nd_decouple_report report;

    settings.cache = folder;
    pid_t child = fork(); /* before anything here has threads: OpenMP's do not outlive a fork */
    cr_assert_geq(child, 0);
    if (child == 0) {
        settings.progress = &fatal;
        nd_decouple(resumed, backend, &settings, &report);
        _exit(1);
    }
    int ended = -1;
    cr_assert_eq(waitpid(child, &ended, 0), child);
    cr_assert(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
    bool noted = false;
    nd_log_set(note_resuming, &noted);
    report = decouple_net(resumed, backend, &settings);
    nd_decouple_report_free(&report);
    cr_expect(noted);
    settings.cache = NULL;
    report = decouple_net(whole, backend, &settings);
    nd_decouple_report_free(&report);
    cr_expect_eq(distance_on(backend, whole, resumed, calib->count, ((pictures *)calib)->images), 0);
    cr_expect_eq(rmdir(folder), 0, "the cache of a finished pass is gone");
    nd_graph_free(whole);
    nd_graph_free(resumed);
    nd_batches_close(calib);
    nd_backend_close(backend);
}

/* What is kept between layers changes nothing that they are fitted to but the last bits of sums. */
Test(decouple, activation_cache_changes_no_moment) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(16, 11);
    nd_graph *original = small_net(), *current = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_activation_cache *activations[3];
    nd_plan plan;
    settings.calib = calib;
    settings.calib_images = 16;
    OK(nd_plan_open(original, &settings, &plan));
    /* Nothing is kept; only what is after the strided conv fits; all is kept, also ahead of the layers. */
    static const size_t limits[] = {0, 16 * 2 * 4 * 8 * 64, 1 << 24};
    for (int f = 0; f < 3; f++) OK(nd_activation_cache_new(calib, 16, limits[f], &activations[f]));
    for (int l = 0; l < plan.n_layers; l++) {
        const nd_layer *layer = &plan.layers[l];
        nd_split split[3];
        const nd_moments *m[3];
        for (int f = 0; f < 3; f++) {
            const int next = f && l + 1 < plan.n_layers ? plan.layers[l + 1].node : 0;
            const nd_layer_data data = {original, current, backend, &settings, layer, activations[f], next};
            OK(nd_activation_cache_move(activations[f], backend, original, current, layer->node));
            OK(nd_layer_moments(&data, &split[f]));
            OK(nd_moments_finish(split[f].fit, backend, &layer->conv));
            m[f] = split[f].fit;
        }
        const int64_t g = m[0]->groups * m[0]->k * m[0]->k, h = m[0]->no * m[0]->k;
        cr_expect_gt(m[0]->vy, 0);
        for (int f = 1; f < 3; f++) {
            cr_expect_eq(m[f]->pixels, m[0]->pixels);
            cr_expect_lt(help_apart(m[f]->g, m[0]->g, g), 1e-6, "%s", layer->name);
            cr_expect_lt(help_apart(m[f]->h, m[0]->h, h), 1e-6, "%s", layer->name);
        }
        for (int f = 0; f < 3; f++) nd_split_close(&split[f]);
        float *weights = help_normals(help_kernel_size(&layer->conv), 90 + (uint64_t)l);
        for (int64_t e = 0; e < help_kernel_size(&layer->conv); e++)
            weights[e] = 0.9f * layer->conv.weights[e] + 0.02f * weights[e];
        OK(nd_conv_set(current, layer->node, &layer->conv, weights, layer->conv.bias));
        free(weights);
    }
    for (int f = 0; f < 3; f++) nd_activation_cache_free(activations[f]);
    nd_plan_close(&plan);
    nd_graph_free(original);
    nd_graph_free(current);
    nd_batches_close(calib);
    nd_backend_close(backend);
}

/* Layers share no end of the network where it begins with other images than a batch has: between them there
 * is room for those of a batch. */
Test(decouple, an_end_of_other_images_than_a_batch_is_not_shared) {
    nd_backend *backend = help_backend();
    for (int folded = 0; folded <= 1; folded++) {
        nd_graph *graph = new_graph("frames");
        nd_score_tail tail = {0};
        const int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
        const int frames = add_ints(graph, 1, 4, (int64_t[]){-1, folded ? 4 : 8, 8, 8});
        const int all = add_ints(graph, 1, 4, (int64_t[]){-1, 8, 8, 8});
        const int a = add_node(graph, nd_op_reshape, "apart",
                               (int[]){add_conv(graph, "a", x, 8, 3, 3, 1, 1), frames}, 2, NULL);
        const int b = add_conv(graph, "b", a, folded ? 4 : 8, folded ? 4 : 8, 3, 1, 3);
        const int c = add_node(graph, nd_op_reshape, "together", (int[]){b, all}, 2, NULL);
        finish(graph, add_plain(graph, nd_op_global_average_pool, c, -1), 2);
        OK(nd_score_tail_open(backend, graph, b, 2, &tail));
        cr_expect_eq(tail.exec != NULL, !folded);
        nd_score_tail_close(&tail);
        nd_graph_free(graph);
    }
    nd_backend_close(backend);
}

/* What the rest of the original network gives, found once for all layers, changes no loss; nor does an end of
 * the network that layers share. */
Test(decouple, what_layers_share_changes_no_loss) {
    enum { measured = 12 };
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(16, 11);
    nd_graph *graph = small_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_activation_cache *activations = NULL;
    nd_known_heads shared = {0};
    nd_score_tail tail = {0};
    nd_plan plan;
    settings.calib = calib;
    OK(nd_plan_open(graph, &settings, &plan));
    OK(nd_activation_cache_new(calib, 16, 1 << 24, &activations));
    int last = -1; /* of those that are measured: the rest behind it is the tail alone */
    for (int l = 0; l < plan.n_layers; l++)
        if (nd_method_dwpw.applies(&plan.layers[l].conv)) last = graph->nodes[plan.layers[l].node].out[0];
    OK(nd_score_tail_open(backend, graph, last, calib->batch, &tail));
    cr_assert(tail.exec && tail.value == last);
    for (int l = 0; l < plan.n_layers; l++) {
        const nd_layer *layer = &plan.layers[l];
        nd_known_heads own = {0}, *known[] = {&own, &shared};
        nd_chain chain = {0};
        double loss[2];
        if (!nd_method_dwpw.applies(&layer->conv)) continue;
        OK(nd_activation_cache_move(activations, backend, graph, NULL, layer->node));
        OK(nd_method_dwpw.decompose(backend, &layer->conv, nd_ranks_uniform, layer->conv.ni, NULL, &chain));
        for (int i = 0; i < 2; i++) {
            nd_score_loss *scores = NULL;
            OK(nd_score_loss_open(activations, backend, graph, layer, calib->batch, 1, measured, known[i],
                                  i ? &tail : NULL, &scores));
            OK(nd_score_loss_add(scores, &chain));
            OK(nd_score_loss_measure(scores, activations, &loss[i]));
            nd_score_loss_close(scores);
        }
        cr_expect(loss[0] > 0 && shared.n == 1);
        cr_expect_float_eq(loss[1], loss[0], 1e-6 * loss[0], "%s: %g, not %g", layer->name, loss[1], loss[0]);
        nd_known_heads_free(&own);
        nd_chain_free(&chain);
    }
    nd_known_heads_free(&shared);
    nd_score_tail_close(&tail);
    nd_activation_cache_free(activations);
    nd_plan_close(&plan);
    nd_graph_free(graph);
    nd_batches_close(calib);
    nd_backend_close(backend);
}

static int add_halves(nd_graph *graph, const char *name, int rank, const int64_t *dims, float value) {
    nd_tensor tensor = {0};
    OK(nd_tensor_new(nd_dtype_f16, rank, dims, &tensor));
    for (int64_t e = 0; e < nd_tensor_count(&tensor); e++)
        ((uint16_t *)tensor.data)[e] = nd_f32_to_f16(value * (float)(1 + e % 3));
    return add_tensor(graph, name, &tensor);
}

/* A convolution in fp16 whose normalisation, folded into it, makes a bias of about -mean / sqrt(variance). */
static void write_normalised(const char *path, float mean, float variance) {
    static const int64_t kernel[] = {8, 4, 3, 3}, outputs[] = {8};
    nd_graph *graph = new_graph("halves");
    nd_node *node = NULL;
    const int in[] = {add_input(graph, "image", 4, (int64_t[]){1, 4, 8, 8}),
                      add_halves(graph, "conv.weight", 4, kernel, .1f)};
    const int conv = add_node(graph, nd_op_conv, "conv", in, 2, &node);
    node->attr.window = (nd_window){{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    const int norm[] = {
        conv, add_halves(graph, "scale", 1, outputs, 1), add_halves(graph, "shift", 1, outputs, 0),
        add_halves(graph, "mean", 1, outputs, mean), add_halves(graph, "variance", 1, outputs, variance)};
    OK(nd_graph_add_output(graph, add_node(graph, nd_op_batchnorm, "norm", norm, 5, &node)));
    node->attr.epsilon = 1e-5f;
    OK(nd_onnx_write(graph, path));
    nd_graph_free(graph);
}

/* Weights go back in the type they came in, unless it cannot hold them: then no file is written. */
Test(decouple, what_half_precision_cannot_hold_is_not_written) {
    static const struct {
        float mean, variance;
        nd_status status;
    } cases[] = {{1, 1, nd_status_ok}, {300, 1e-6f, nd_status_unsupported}};
    char folder[] = "/tmp/nd-halves-XXXXXX", in[64], out[64];
    nd_backend *backend = help_backend();
    cr_assert(mkdtemp(folder));
    snprintf(in, sizeof in, "%s/in.onnx", folder);
    snprintf(out, sizeof out, "%s/out.onnx", folder);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        nd_graph *graph = NULL;
        nd_decouple_settings settings = nd_decouple_defaults();
        settings.method = "dwpw";
        settings.target = 2;
        settings.first_conv = true;
        write_normalised(in, cases[c].mean, cases[c].variance);
        OK(nd_model_open(in, &graph));
        OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1, .allow_opaque = true}));
        nd_decouple_report report = decouple_net(graph, backend, &settings);
        cr_assert_eq(nd_model_save(graph, out), cases[c].status, "%s", nd_error());
        cr_expect_eq(!unlink(out), !cases[c].status);
        cr_expect(!cases[c].status || (strstr(nd_error(), "conv.pw.bias") && strstr(nd_error(), "f16")), "%s",
                  nd_error());
        nd_decouple_report_free(&report);
        nd_graph_free(graph);
    }
    cr_expect(!unlink(in) && !rmdir(folder));
    nd_backend_close(backend);
}
