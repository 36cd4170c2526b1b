/* Gemm and MatMul by a constant as layers without a spatial kernel (method.md, "Pointwise layers"). */
#include "decouple/calib/calibrate.h"
#include "decouple/methods/method.h"
#include "model/model.h"
#include "tests/unit/help/net_help.h"

#include <unistd.h>

static int turned(nd_graph *graph, int x, const int64_t perm[4]) {
    nd_node *node = NULL;
    const int y = add_node(graph, nd_op_transpose, NULL, &x, 1, &node);
    node->attr.n = 4;
    memcpy(node->attr.list, perm, 4 * sizeof *perm);
    return y;
}

static int add_matrix(nd_graph *graph, const char *name, int64_t rows, int64_t columns, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    return add_normals(graph, name, 2, (int64_t[]){rows, columns}, &rng, 0.3f);
}

static int add_gemm(nd_graph *graph, const char *name, int x, int64_t no, int64_t ni, bool trans_b) {
    char weight[32], bias[32];
    nd_node *node = NULL;
    nd_rng rng = nd_rng_seed((uint64_t)no);
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    const int in[] = {x, add_matrix(graph, weight, trans_b ? no : ni, trans_b ? ni : no, (uint64_t)(no + ni)),
                      add_normals(graph, bias, 1, &no, &rng, 1)};
    const int y = add_node(graph, nd_op_gemm, name, in, 3, &node);
    node->attr.alpha = node->attr.beta = 1;
    node->attr.trans_b = trans_b;
    return y;
}

/* A 3x3, its pixels as rows of a MatMul, pooling, a Gemm of either layout. */
static nd_graph *mixed_net(void) {
    nd_graph *graph = new_graph("mixed");
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    const int a = add_plain(graph, nd_op_relu, add_conv(graph, "first", x, 12, 3, 3, 1, 1), -1);
    const int rows = turned(graph, a, (int64_t[]){0, 2, 3, 1});
    const int tokens = add_node(graph, nd_op_matmul, "tokens",
                                (int[]){rows, add_matrix(graph, "tokens.weight", 12, 20, 5)}, 2, NULL);
    const int b = turned(graph, add_plain(graph, nd_op_relu, tokens, -1), (int64_t[]){0, 3, 1, 2});
    nd_node *flat = NULL;
    const int pooled = add_plain(graph, nd_op_global_average_pool, b, -1);
    const int c = add_node(graph, nd_op_flatten, NULL, &pooled, 1, &flat);
    flat->attr.axis = 1;
    const int d = add_plain(graph, nd_op_relu, add_gemm(graph, "hidden", c, 16, 20, true), -1);
    finish(graph, add_gemm(graph, "score", d, 6, 16, false), 1);
    return graph;
}

static int output_of(const nd_graph *graph, const char *name) {
    const int node = nd_graph_find_node(graph, name);
    cr_assert_geq(node, 0, "no node %s", name);
    return graph->nodes[node].out[0];
}

static float *run_to(nd_backend *backend, const nd_graph *graph, int value, nd_batches *images,
                     int64_t *size) {
    nd_exec *exec = NULL;
    const nd_value *v = &graph->values[value];
    *size = nd_dims_count(v->rank - 1, v->dims + 1);
    float *out = nd_alloc_array((size_t)(images->count * *size), sizeof *out);
    const nd_exec_settings settings = {.batch = images->count, .outputs = &value, .n_outputs = 1};
    const float *x = ((pictures *)images)->images;
    OK(nd_exec_open(backend, graph, &settings, &exec));
    OK(nd_exec_run(exec, images->count, &x, &out));
    nd_exec_close(exec);
    return out;
}

/* sum |y' - y|^2 over sum |y|^2, less the mean of each of `no` outputs where it is centred. */
static double relative_error(const float *wanted, const float *got, int64_t count, int64_t no, bool centred) {
    double error = 0, spread = 0;
    for (int64_t o = 0; o < no; o++) {
        double sum = 0, squares = 0;
        for (int64_t e = o; e < count; e += no) {
            sum += wanted[e];
            squares += (double)wanted[e] * wanted[e];
            error += ((double)got[e] - wanted[e]) * ((double)got[e] - wanted[e]);
        }
        spread += squares - (centred ? sum * sum / (double)(count / no) : 0);
    }
    return error / spread;
}

Test(products, full_rank_is_the_original) {
    static const char *const parts[] = {"tokens", "hidden", "score"};
    nd_backend *backend = help_backend();
    nd_graph *original = mixed_net(), *graph = mixed_net();
    nd_batches *fresh = open_pictures(8, 12);
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = "lowrank";
    settings.target = 100;
    nd_decouple_report report = decouple_net(graph, backend, &settings);
    for (int p = 0; p < 3; p++) {
        char name[32];
        cr_expect_str_eq(layer_of(&report, parts[p])->method, "lowrank");
        snprintf(name, sizeof name, "%s.expand", parts[p]);
        cr_expect(nd_graph_find_node(graph, name) >= 0, "%s", name);
    }
    cr_expect_lt(distance_on(backend, original, graph, 8, ((pictures *)fresh)->images), 1e-6);
    cr_expect_eq(report.after.total_macs, nd_cost_graph(graph).total_macs);
    nd_decouple_report_free(&report);
    nd_batches_close(fresh);
    nd_graph_free(graph);
    nd_graph_free(original);
    nd_backend_close(backend);
}

/* What is reported of a fit is what running the network on the same images says, and no weights of that rank
 * found without them do as well. */
Test(products, fits_have_the_error_they_report) {
    static const struct {
        const char *name, *setting;
        int64_t no;
        bool centred;
    } layers[] = {{"tokens", "lowrank:4", 20, false},
                  {"hidden", "lowrank:2", 16, true},
                  {"score", "lowrank:2", 6, true}};
    nd_backend *backend = help_backend();
    nd_graph *original = mixed_net();
    nd_batches *calib = open_pictures(24, 11); /* few enough that no pixel is left out */
    for (int l = 0; l < 3; l++) {
        double error[2];
        char last[32];
        snprintf(last, sizeof last, "%s.expand", layers[l].name);
        const nd_layer_rule rule = {layers[l].name, layers[l].setting};
        for (int fitted = 0; fitted < 2; fitted++) {
            nd_graph *graph = mixed_net();
            nd_decouple_settings settings = nd_decouple_defaults();
            settings.method = "pwdw";
            settings.layers = &rule;
            settings.n_layers = 1;
            settings.calib = fitted ? calib : NULL;
            settings.ridge = 1e-4;
            if (!fitted) settings.ridge = 0;
            nd_decouple_report report = decouple_net(graph, backend, &settings);
            int64_t size = 0;
            float *wanted = run_to(backend, original, output_of(original, layers[l].name), calib, &size);
            float *got = run_to(backend, graph, output_of(graph, last), calib, &size);
            error[fitted] = relative_error(wanted, got, calib->count * size, layers[l].no, layers[l].centred);
            if (fitted) {
                const double told = pow(layer_of(&report, layers[l].name)->error, 2);
                cr_expect_float_eq(told, error[1], 1e-4 * error[1] + 1e-9, "%s: %g, measured %g",
                                   layers[l].name, told, error[1]);
            }
            free(wanted);
            free(got);
            nd_decouple_report_free(&report);
            nd_graph_free(graph);
        }
        cr_expect_lt(error[1], 0.9 * error[0], "%s: %g, by the weights alone %g", layers[l].name, error[1],
                     error[0]);
    }
    nd_batches_close(calib);
    nd_graph_free(original);
    nd_backend_close(backend);
}

static double reach_of(nd_backend *backend, const char *method, bool conv_only) {
    nd_graph *graph = mixed_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_candidates candidates = {0};
    settings.method = method;
    settings.rule = nd_rule_macs_ratio;
    settings.conv_only = conv_only;
    settings.first_conv = true;
    OK(nd_decouple_candidates(graph, backend, &settings, &candidates));
    const double most = candidates.most;
    nd_candidates_free(&candidates);
    nd_graph_free(graph);
    return most;
}

Test(products, budgets_count_them_unless_told_not_to) {
    nd_backend *backend = help_backend();
    cr_expect_gt(reach_of(backend, "dwpw,lowrank", false), 1.5 * reach_of(backend, "dwpw", false));
    cr_expect_eq(reach_of(backend, "dwpw,lowrank", true), reach_of(backend, "dwpw", true));
    nd_backend_close(backend);
}

/* Every way through calibration: ranks by budget, at the scores and quick, gains alone, through a ReLU. */
Test(products, all_modes_keep_the_function) {
    nd_backend *backend = help_backend();
    nd_graph *original = mixed_net();
    nd_batches *calib = open_pictures(40, 11), *fresh = open_pictures(24, 12);
    for (int mode = 0; mode < 4; mode++) {
        nd_graph *graph = mixed_net();
        nd_decouple_settings settings = nd_decouple_defaults();
        settings.method = "dwpw,lowrank";
        settings.rule = mode == 2 ? nd_rule_rank : nd_rule_macs_ratio;
        settings.target = mode == 2 ? 6 : 1.5;
        settings.calib = calib;
        settings.quick = mode == 1;
        settings.light = mode == 2;
        settings.relu_aware = mode == 3;
        settings.output_metric = mode == 3;
        nd_decouple_report report = decouple_net(graph, backend, &settings);
        const double distance = distance_on(backend, original, graph, 24, ((pictures *)fresh)->images);
        cr_expect_lt(distance, 0.3, "mode %d: %g", mode, distance);
        nd_decouple_report_free(&report);
        nd_graph_free(graph);
    }
    nd_batches_close(calib);
    nd_batches_close(fresh);
    nd_graph_free(original);
    nd_backend_close(backend);
}

/* Written over the file that it was read from, which keeps the rest as it was. */
Test(products, a_file_has_them_in_the_place_of_the_old_node) {
    char folder[] = "/tmp/nd-products-XXXXXX", in[64], out[64];
    cr_assert(mkdtemp(folder));
    snprintf(in, sizeof in, "%s/in.onnx", folder);
    snprintf(out, sizeof out, "%s/out.onnx", folder);
    nd_backend *backend = help_backend();
    nd_graph *made = mixed_net(), *graph = NULL, *back = NULL;
    nd_batches *fresh = open_pictures(8, 12);
    OK(nd_onnx_write(made, in));
    OK(nd_onnx_read(in, &graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}));
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = "lowrank";
    settings.target = 3;
    nd_decouple_report report = decouple_net(graph, backend, &settings);
    OK(nd_onnx_write(graph, out));
    OK(nd_onnx_read(out, &back));
    OK(nd_graph_infer(back, &(nd_infer_settings){.batch = 1}));
    cr_expect_lt(distance_on(backend, graph, back, 8, ((pictures *)fresh)->images), 1e-6);
    cr_expect_eq(nd_cost_graph(back).total_macs, report.after.total_macs);
    nd_decouple_report_free(&report);
    nd_batches_close(fresh);
    nd_graph_free(made);
    nd_graph_free(graph);
    nd_graph_free(back);
    nd_backend_close(backend);
    unlink(in);
    unlink(out);
    rmdir(folder);
}

static void give_method(nd_plan *plan, int layer, const char *method, int64_t rank) {
    plan->layers[layer].method = nd_method_find(method);
    plan->layers[layer].rank = rank;
}

static nd_status change_mind(void *plan, int layer) {
    if (layer == 0) give_method(plan, 1, "lowrank", 4);
    return nd_status_ok;
}

/* What the first layer frees is spent on a product that was to stay dense, before one that was not. */
Test(products, one_that_gets_a_method_during_the_pass_is_fitted) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(16, 11);
    nd_graph *graph = mixed_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_plan plan;
    nd_chain chains[4] = {{0}};
    nd_fit_error error[4];
    settings.method = "dwpw,lowrank";
    settings.first_conv = true;
    settings.calib = calib;
    settings.calib_images = 16;
    OK(nd_plan_open(graph, &settings, &plan));
    cr_assert_eq(plan.n_layers, 4);
    give_method(&plan, 0, "dwpw", 12);
    give_method(&plan, 2, "lowrank", 6);
    const nd_fitted_hook hook = {change_mind, &plan};
    OK(nd_calibrate(graph, backend, &settings, &plan, NULL, &hook, chains, error));
    for (int l = 0; l < 3; l++) cr_expect(error[l].seen >= 0 && chains[l].n > 1, "layer %d", l);
    for (int l = 0; l < 4; l++) nd_chain_free(&chains[l]);
    nd_plan_close(&plan);
    nd_graph_free(graph);
    nd_batches_close(calib);
    nd_backend_close(backend);
}

static nd_status fit_mixed(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                           bool changes, bool last, nd_chain *chains) {
    nd_plan plan;
    nd_pass_cache *cache = NULL;
    nd_fit_error error[4];
    OK(nd_plan_open(graph, settings, &plan));
    give_method(&plan, 0, "dwpw", 12);
    give_method(&plan, 2, "lowrank", 6);
    const nd_fitted_hook hook = {change_mind, &plan};
    OK(nd_pass_cache_open(graph, settings, &plan, &cache));
    const nd_status status =
        nd_calibrate(graph, backend, settings, &plan, cache, changes ? &hook : NULL, chains, error);
    nd_pass_cache_close(cache, last); /* or as if killed at its very end */
    nd_plan_close(&plan);
    return status;
}

/* A pass may decide otherwise than the one before did, whose layers then lie in the same file. */
Test(products, layers_of_a_killed_pass_are_taken_only_after_the_same_decisions) {
    char folder[] = "/tmp/nd-pass-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(16, 11);
    nd_graph *graph = mixed_net();
    nd_decouple_settings settings = nd_decouple_defaults();
    nd_chain changed[4] = {{0}}, after[4] = {{0}}, fresh[4] = {{0}};
    settings.method = "dwpw,lowrank";
    settings.first_conv = true;
    settings.calib = calib;
    settings.calib_images = 16;
    settings.cache = folder;
    OK(fit_mixed(graph, backend, &settings, true, false, changed));
    OK(fit_mixed(graph, backend, &settings, false, true, after));
    settings.cache = NULL;
    OK(fit_mixed(graph, backend, &settings, false, true, fresh));
    cr_expect_eq(changed[1].n, 2);
    for (int l = 0; l < 4; l++) {
        cr_assert_eq(after[l].n, fresh[l].n, "layer %d", l);
        for (int s = 0; s < fresh[l].n; s++) {
            const nd_stage *a = &after[l].stages[s], *b = &fresh[l].stages[s];
            const int64_t taps = a->window.kernel[0] * a->window.kernel[1];
            cr_assert(a->no == b->no && a->ni == b->ni);
            cr_expect(!memcmp(a->weights, b->weights,
                              (size_t)(a->no * (a->ni / a->groups) * taps) * sizeof *a->weights),
                      "layer %d", l);
        }
        nd_chain_free(&changed[l]);
        nd_chain_free(&after[l]);
        nd_chain_free(&fresh[l]);
    }
    cr_expect_eq(rmdir(folder), 0);
    nd_graph_free(graph);
    nd_batches_close(calib);
    nd_backend_close(backend);
}
