#include "decouple/plan/survey.h"
#include "model/zoo/zoo.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>
#include <stdio.h>

/* --- single nodes */

/* Strided, dilated, grouped, padded on one side only: the formula against counting in nested loops. */
Test(cost, conv_counts_what_a_naive_loop_does) {
    nd_graph *graph = new_graph("g");
    nd_node *conv = NULL;
    const int in[] = {add_input(graph, "x", 4, (int64_t[]){-1, 6, 11, 9}),
                      add_floats(graph, "w", 4, (int64_t[]){4, 3, 3, 2}, NULL),
                      add_floats(graph, "b", 1, (int64_t[]){4}, NULL)};
    const int out = add_node(graph, nd_op_conv, NULL, in, 3, &conv);
    conv->attr.groups = 2;
    conv->attr.window =
        (nd_window){.kernel = {3, 2}, .stride = {2, 1}, .dilation = {2, 3}, .pad = {1, 0, 0, 2}};
    finish(graph, out, 3);
    int64_t macs = 0;
    for (int64_t o = 0; o < 4; o++)
        for (int64_t y = -1; y + 2 * (3 - 1) < 11; y += 2)
            for (int64_t z = 0; z + 3 * (2 - 1) < 9 + 2; z++)
                for (int64_t i = 0; i < 6 / 2; i++) macs += 3 * 2;
    const nd_cost cost = nd_cost_graph(graph);
    cr_expect_eq(cost.conv_macs, macs, "%lld, not %lld", (long long)cost.conv_macs, (long long)macs);
    cr_expect_eq(cost.total_macs, macs);
    cr_expect_eq(cost.params, 4 * 3 * 3 * 2 + 4);
    nd_graph_free(graph);
}

Test(cost, inner_products_count_per_image_and_shared_weights_once) {
    nd_graph *graph = new_graph("g");
    nd_node *node = NULL;
    const int x = add_input(graph, "x", 4, (int64_t[]){-1, 7, 1, 1});
    const int w = add_floats(graph, "w", 2, (int64_t[]){7, 7}, NULL),
              b = add_floats(graph, "b", 1, (int64_t[]){7}, NULL);
    const int flat = add_node(graph, nd_op_flatten, NULL, &x, 1, &node);
    node->attr.axis = 1;
    const int hidden = add_node(graph, nd_op_gemm, NULL, (int[]){flat, w, b}, 3, &node);
    node->attr.trans_b = true;
    node->attr.alpha = node->attr.beta = 1;
    const int relu = add_node(graph, nd_op_relu, NULL, &hidden, 1, NULL);
    const int out = add_node(graph, nd_op_matmul, NULL, (int[]){relu, w}, 2, NULL);
    finish(graph, out, 3);
    const nd_cost cost = nd_cost_graph(graph);
    cr_expect_eq(cost.conv_macs, 0);
    cr_expect_eq(cost.total_macs, 2 * 7 * 7);
    cr_expect_eq(cost.params, 7 * 7 + 7);
    nd_graph_free(graph);
}

/* --- the paper's cost model (section 3 and table 1), on blank networks */

typedef struct net {
    nd_graph *graph;
    nd_survey survey;
} net;

static net open_net(const char *arch) {
    net net;
    cr_assert_eq(nd_zoo_build(nd_zoo_find(arch), nd_zoo_blank, NULL, &net.graph), nd_status_ok);
    cr_assert_eq(nd_graph_fold(net.graph), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_graph_infer(net.graph, &(nd_infer_settings){.batch = 1}), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_survey_make(net.graph, &net.survey), nd_status_ok);
    return net;
}

static void close_net(net *net) {
    nd_survey_free(&net->survey);
    nd_graph_free(net->graph);
}

static nd_cost cost_at(const net *net, const char *method, int64_t terms, const char *const *skip,
                       size_t n_skip, nd_cost *layers) {
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = method;
    settings.rule = nd_rule_rank;
    settings.target = (double)terms;
    settings.skip = skip;
    settings.n_skip = n_skip;
    nd_cost total;
    cr_assert_eq(nd_survey_cost(net->graph, &net->survey, &settings, layers, &total), nd_status_ok, "%s",
                 nd_error());
    return total;
}

/* `printed` as the paper gives it, to `digits` decimals of a unit. */
static void expect_printed(int64_t value, double unit, double printed, int digits, const char *what) {
    cr_expect_leq(fabs((double)value / unit - printed), 0.5 * pow(10, -digits) + 1e-12,
                  "%s: %.6f, printed %g", what, (double)value / unit, printed);
}

Test(cost, vgg16_has_the_published_macs) {
    net vgg = open_net("vgg16");
    cr_expect_eq(vgg.survey.cost.conv_macs, 15346630656);
    cr_expect_eq(vgg.survey.cost.total_macs, 15470264320);
    cr_expect_eq(vgg.survey.cost.params, 138357544);
    close_net(&vgg);
}

Test(cost, vgg16_layers_have_the_published_macs) {
    static const struct {
        const char *name;
        double dense, one_term; /* MMACs */
    } published[] = {
        {"features.0", 86.7, 38.5},     {"features.2", 1849.7, 234.4}, {"features.5", 924.8, 117.2},
        {"features.7", 1849.7, 220.0},  {"features.10", 924.8, 110.0}, {"features.12", 1849.7, 212.7},
        {"features.14", 1849.7, 212.7}, {"features.17", 924.8, 106.4}, {"features.19", 1849.7, 209.1},
        {"features.21", 1849.7, 209.1}, {"features.24", 462.4, 52.3},  {"features.26", 462.4, 52.3},
        {"features.28", 462.4, 52.3},
    };
    net vgg = open_net("vgg16");
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = "pwdw";
    settings.target = 1;
    settings.first_conv = true;
    nd_cost layers[16], total;
    cr_assert_eq(vgg.survey.n_layers, 16);
    cr_assert_eq(nd_survey_cost(vgg.graph, &vgg.survey, &settings, layers, &total), nd_status_ok);
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        cr_expect_str_eq(vgg.survey.layers[i].name, published[i].name);
        expect_printed(vgg.survey.layers[i].cost.conv_macs, 1e6, published[i].dense, 1, published[i].name);
        expect_printed(layers[i].conv_macs, 1e6, published[i].one_term, 1, published[i].name);
    }
    cr_expect_eq(layers[13].total_macs, vgg.survey.layers[13].cost.total_macs, "inner products stay");
    close_net(&vgg);
}

Test(cost, vgg16_uniform_pwdw_has_the_published_macs) {
    static const struct {
        double gmacs, ratio;
        int digits;
    } published[] = {{1.875, 8.18, 3}, {3.664, 4.19, 3}, {5.452, 2.81, 3}, {7.241, 2.12, 3},
                     {9.030, 1.70, 3}, {10.82, 1.42, 2}, {12.61, 1.22, 2}, {14.40, 1.07, 2}};
    static const double fifth_dense[] = {6.37, 8.00, 9.63, 11.26}, params[] = {5.02, 6.69, 8.36, 10.03};
    static const char *const skip[] = {"features.24", "features.26", "features.28"};
    net vgg = open_net("vgg16");
    const int64_t conv_bias = 4224, fc_params = vgg.survey.cost.params - 14714688;
    for (int terms = 1; terms <= 8; terms++) {
        const nd_cost cost = cost_at(&vgg, "pwdw", terms, NULL, 0, NULL);
        expect_printed(cost.conv_macs, 1e9, published[terms - 1].gmacs, published[terms - 1].digits, "pwdw");
        cr_expect_float_eq(15346630656 / (double)cost.conv_macs, published[terms - 1].ratio, 0.005);
        cr_expect_eq(cost.total_macs - cost.conv_macs, 123633664);
        if (terms < 3 || terms > 6) continue;
        expect_printed(cost_at(&vgg, "pwdw", terms, skip, 3, NULL).conv_macs, 1e9, fifth_dense[terms - 3], 2,
                       "pwdw, conv5 dense");
        expect_printed(cost.params - fc_params - conv_bias, 1e6, params[terms - 3], 2, "conv weights");
    }
    close_net(&vgg);
}

Test(cost, vgg16_reaches_the_published_nd_row_with_mixed_ranks) {
    static const nd_layer_rule rules[] = {{"features.19", "4"}, {"features.21", "4"}};
    net vgg = open_net("vgg16");
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.method = "pwdw";
    settings.target = 5;
    settings.layers = rules;
    settings.n_layers = 2;
    nd_cost total;
    cr_assert_eq(nd_survey_cost(vgg.graph, &vgg.survey, &settings, NULL, &total), nd_status_ok);
    expect_printed(total.conv_macs, 1e9, 8.61, 2, "T = 5 and 4");
    close_net(&vgg);
}

/* The paper's ResNet-18 has a 1x1 projection in its first stage too, which torchvision's does not. */
Test(cost, resnet18_has_the_published_macs) {
    static const struct {
        int terms;
        double pwdw, pwdw_ratio, kept, kept_ratio, dwpw, dwpw_ratio;
    } published[] = {{3, 0.923, 1.98, 0.860, 2.12, 0.747, 2.44},
                     {4, 1.181, 1.55, 1.039, 1.76, 0.946, 1.93},
                     {5, 1.438, 1.27, 1.218, 1.50, 1.145, 1.59}};
    static const char *const skip[] = {"layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"};
    const int64_t projection = 64 * 64 * 56 * 56;
    net resnet = open_net("resnet18");
    const int64_t dense = resnet.survey.cost.conv_macs + projection;
    expect_printed(dense, 1e9, 1.826, 3, "dense");
    for (size_t i = 0; i < 3; i++) {
        const int terms = published[i].terms;
        const int64_t pwdw = cost_at(&resnet, "pwdw", terms, NULL, 0, NULL).conv_macs + projection;
        const int64_t kept = cost_at(&resnet, "pwdw", terms, skip, 3, NULL).conv_macs + projection;
        const int64_t dwpw = cost_at(&resnet, "dwpw", terms, NULL, 0, NULL).conv_macs + projection;
        expect_printed(pwdw, 1e9, published[i].pwdw, 3, "pwdw on all");
        expect_printed(kept, 1e9, published[i].kept, 3, "pwdw, stride 2 dense");
        expect_printed(dwpw, 1e9, published[i].dwpw, 3, "dwpw on all");
        cr_expect_float_eq((double)dense / (double)pwdw, published[i].pwdw_ratio, 0.005);
        cr_expect_float_eq((double)dense / (double)kept, published[i].kept_ratio, 0.005);
        cr_expect_float_eq((double)dense / (double)dwpw, published[i].dwpw_ratio, 0.005);
        /* auto takes the cheaper form of each layer. */
        cr_expect_leq(cost_at(&resnet, "auto", terms, NULL, 0, NULL).conv_macs + projection,
                      pwdw < dwpw ? pwdw : dwpw);
    }
    close_net(&resnet);
}

/* The table of a.5 for one layer: 24 -> 40 channels, 3x3, "same" padding, on 28x28. */
Test(cost, methods_cost_what_the_paper_says) {
    enum { ni = 24, no = 40, side = 28, taps = 9, k = 3 };
    for (int64_t stride = 1; stride <= 2; stride++) {
        const int64_t out = (side / stride) * (side / stride);
        const nd_conv conv = {
            .name = "conv",
            .no = no,
            .ni = ni,
            .groups = 1,
            .window = {{k, k}, {stride, stride}, {1, 1}, {1, 1, 1, 1}},
            .in_h = side,
            .in_w = side,
        };
        cr_expect_eq(nd_conv_macs(&conv), out * no * ni * taps);
        for (int64_t terms = 1; terms <= 9; terms++) {
            const nd_method *pwdw = &nd_method_pwdw, *dwpw = &nd_method_dwpw;
            cr_expect_eq(nd_method_macs(pwdw, &conv, nd_ranks_uniform, terms * no),
                         terms * (stride * stride * out * ni * no + out * no * taps));
            cr_expect_eq(nd_method_params(pwdw, &conv, nd_ranks_uniform, terms * no),
                         terms * no * (ni + taps));
            cr_expect_eq(nd_method_macs(dwpw, &conv, nd_ranks_uniform, terms * ni),
                         terms * out * ni * (taps + no));
            cr_expect_eq(nd_method_params(dwpw, &conv, nd_ranks_uniform, terms * ni),
                         terms * ni * (no + taps));
        }
        for (int64_t rank = 1; rank <= ni; rank++) {
            /* The vertical part carries the vertical stride only: its output is as wide as the input. */
            cr_expect_eq(nd_method_macs(&nd_method_spatial, &conv, nd_ranks_uniform, rank),
                         out * rank * (stride * ni * k + no * k));
            cr_expect_eq(nd_method_params(&nd_method_spatial, &conv, nd_ranks_uniform, rank),
                         rank * (ni * k + no * k));
            cr_expect_eq(nd_method_macs(&nd_method_channel, &conv, nd_ranks_uniform, rank),
                         out * rank * (taps * ni + no));
            cr_expect_eq(nd_method_params(&nd_method_channel, &conv, nd_ranks_uniform, rank),
                         rank * (taps * ni + no));
        }
    }
}

/* Break-even of the paper's ratio K (1/9 + 1/C): T <= 8 never costs more from 72 channels on. */
Test(cost, eight_terms_never_cost_more_from_72_channels_on) {
    const double taps = 9;
    net vgg = open_net("vgg16");
    nd_cost layers[16];
    for (int terms = 1; terms <= 9; terms++) {
        cost_at(&vgg, "dwpw", terms, NULL, 0, layers);
        for (size_t i = 1; i < vgg.survey.n_layers; i++) {
            const nd_survey_layer *layer = &vgg.survey.layers[i];
            if (!layer->spatial) continue;
            const double ratio = (double)layers[i].conv_macs / (double)layer->cost.conv_macs;
            cr_expect_float_eq(ratio, terms * (1 / taps + 1 / (double)layer->no), 1e-12, "%s", layer->name);
            if (layer->no >= 72 && terms <= 8) cr_expect_leq(ratio, 1.0, "%s", layer->name);
        }
    }
    close_net(&vgg);
}
