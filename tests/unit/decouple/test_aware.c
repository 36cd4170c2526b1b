/* Fits through the activation: what passes it is measured here by running both networks, not by the code
 * under test. */
#include "decouple/calib/aware.h"

#include "decouple/calib/calibrate.h"
#include "decouple/fit/refit.h"
#include "tests/unit/help/net_help.h"

enum { images = 16 };

/* One layer of the small network between the original and one that already differs upstream of it. */
typedef struct pass {
    nd_backend *backend;
    nd_batches *calib;
    nd_graph *original, *current;
    nd_decouple_settings settings;
    nd_plan plan;
    nd_activation_cache *activations;
    nd_layer_data data;
    nd_layer *layer;
    int after; /* the value after the activation */
} pass;

/* Of the weights (slot 1) or biases (2) of a conv, from output `first` on. */
static void change_conv(nd_graph *graph, const char *name, int slot, int64_t first, float scale,
                        float shift) {
    int value = graph->nodes[nd_graph_find_node(graph, name)].in[slot];
    const nd_tensor *old = graph->values[value].init;
    int64_t count = nd_tensor_count(old);
    nd_tensor tensor = {0};
    OK(nd_tensor_new(nd_dtype_f32, old->rank, old->dims, &tensor));
    memcpy(tensor.data, old->data, nd_tensor_bytes(old));
    float *values = tensor.data;
    for (int64_t e = first * (count / old->dims[0]); e < count; e++) values[e] = scale * values[e] + shift;
    OK(nd_graph_set_init(graph, value, &tensor));
    nd_tensor_free(&tensor);
}

static int activation_after(const nd_graph *graph, int node) {
    int user = -1;
    do {
        cr_assert_eq(nd_graph_uses(graph, graph->nodes[node].out[0], &user), 1);
        node = user;
    } while (graph->nodes[node].op != nd_op_relu);
    return graph->nodes[node].out[0];
}

static void open_pass(nd_graph *original, bool disturbed, const char *name, const nd_method *method,
                      pass *w) {
    *w = (pass){.backend = help_backend(), .calib = open_pictures(images, 11), .original = original};
    OK(nd_graph_clone(original, &w->current));
    OK(nd_graph_infer(w->current, &(nd_infer_settings){.batch = 1}));
    w->settings = nd_decouple_defaults();
    w->settings.calib = w->calib;
    w->settings.calib_images = images;
    OK(nd_plan_open(original, &w->settings, &w->plan));
    for (int l = 0; l < w->plan.n_layers; l++)
        if (!strcmp(w->plan.layers[l].name, name)) w->layer = &w->plan.layers[l];
    cr_assert_not_null(w->layer);
    w->layer->method = method;
    w->after = activation_after(original, w->layer->node);
    if (disturbed) {
        const nd_layer *first = &w->plan.layers[0];
        float *noise = help_normals(help_kernel_size(&first->conv), 5);
        for (int64_t e = 0; e < help_kernel_size(&first->conv); e++)
            noise[e] = first->conv.weights[e] + 0.05f * noise[e];
        OK(nd_conv_set(w->current, first->node, &first->conv, noise, first->conv.bias));
        free(noise);
    }
    OK(nd_activation_cache_new(w->calib, images, 1 << 24, &w->activations));
    OK(nd_activation_cache_move(w->activations, w->backend, original, w->current, w->layer->node));
    w->data = (nd_layer_data){original, w->current, w->backend, &w->settings, w->layer, w->activations, 0};
}

static void close_pass(pass *w) {
    nd_activation_cache_free(w->activations);
    nd_plan_close(&w->plan);
    nd_graph_free(w->original);
    nd_graph_free(w->current);
    nd_batches_close(w->calib);
    nd_backend_close(w->backend);
}

static float *run_to(const pass *w, const nd_graph *graph, int64_t *count) {
    nd_exec *exec = NULL;
    const float *x = ((pictures *)w->calib)->images;
    *count = images * nd_value_size(graph, w->after);
    float *y = nd_alloc_array((size_t)*count, sizeof *y);
    const nd_exec_settings settings = {.batch = images, .outputs = &w->after, .n_outputs = 1};
    OK(nd_exec_open(w->backend, graph, &settings, &exec));
    OK(nd_exec_run(exec, images, &x, &y));
    nd_exec_close(exec);
    return y;
}

/* E|act(u) - act(s)|^2 / var act(s), by running both. */
static double measured(const pass *w) {
    int64_t count = 0, per_image, area;
    float *s = run_to(w, w->original, &count), *u = run_to(w, w->current, &count);
    per_image = count / images;
    area = per_image / w->layer->conv.no;
    double rest = 0, spread = 0;
    for (int64_t o = 0; o < w->layer->conv.no; o++) {
        double sum = 0, square = 0;
        for (int64_t e = 0; e < images * area; e++) {
            int64_t at = e / area * per_image + o * area + e % area;
            sum += s[at];
            square += (double)s[at] * s[at];
            rest += ((double)s[at] - u[at]) * ((double)s[at] - u[at]);
        }
        spread += square - sum * sum / (double)(images * area);
    }
    free(s);
    free(u);
    return rest / spread;
}

/* Fits the layer at a rank, first to the outputs themselves, then through the activation. */
typedef struct fit {
    nd_chain chain;
    double linear, aware, told; /* measured before and after; what the fit says of itself */
    double *before, *after;     /* kernels */
} fit;

static fit fit_layer(pass *w, int64_t rank, double ridge) {
    fit f = {0};
    const nd_conv *conv = &w->layer->conv;
    nd_split split = {0};
    w->layer->rank = rank;
    f.before = nd_alloc_array((size_t)help_kernel_size(conv), sizeof *f.before);
    f.after = nd_alloc_array((size_t)help_kernel_size(conv), sizeof *f.after);
    OK(nd_layer_moments(&w->data, &split));
    OK(nd_split_finish(&split, w->data.backend, conv, ridge));
    nd_split_pool(&split, conv);
    nd_moments *moments = split.fit;
    OK(w->layer->method->decompose(w->backend, conv, nd_ranks_uniform, rank, moments, &f.chain));
    OK(nd_chain_compose(&f.chain, conv, f.before));
    OK(nd_layer_put(w->current, w->layer, &f.chain));
    f.linear = measured(w);
    OK(nd_fit_through_activation(&w->data, w->current, moments, &f.chain, &f.told));
    OK(nd_chain_compose(&f.chain, conv, f.after));
    f.aware = measured(w);
    nd_split_close(&split);
    return f;
}

static void free_fit(fit *f) {
    nd_chain_free(&f->chain);
    free(f->before);
    free(f->after);
}

/* Half the outputs of "block.a" swing widely, and nearly always below zero: linear regression spends its rank
 * on what the ReLU then takes away. */
static nd_graph *mostly_cut_off(void) {
    nd_graph *graph = small_net();
    change_conv(graph, "block.a", 1, 4, 4, 0);
    change_conv(graph, "block.a", 2, 4, 1, -12);
    return graph;
}

Test(aware, redone_chains_never_lose_what_passes) {
    static const nd_method *const methods[] = {&nd_method_channel, &nd_method_channel_dwpw,
                                               &nd_method_channel_pwdw};
    static const char *const layers[] = {"block.a", "block.b", "down"};
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++)
        for (size_t l = 0; l < sizeof layers / sizeof *layers; l++)
            for (int64_t rank = 2; rank <= 4; rank += 2) {
                pass w;
                open_pass(small_net(), true, layers[l], methods[m], &w);
                fit f = fit_layer(&w, rank, 0);
                cr_expect(f.aware <= f.linear * (1 + 1e-5), "%s, %s, rank %d: %g, linear %g",
                          methods[m]->name, layers[l], (int)rank, f.aware, f.linear);
                cr_expect_float_eq(f.told, f.aware, 1e-4 * f.aware, "%s: %g", layers[l], f.told);
                cr_expect_leq(w.current->n_values, w.original->n_values + 4,
                              "one kernel and bias a layer, however many were tried");
                free_fit(&f);
                close_pass(&w);
            }
}

Test(aware, the_whole_method_beats_the_last_stage_where_much_is_cut_off) {
    nd_method last_alone = nd_method_channel;
    last_alone.redone = false;
    pass w;
    open_pass(mostly_cut_off(), true, "block.a", &nd_method_channel, &w);
    fit whole = fit_layer(&w, 3, 1e-3);
    close_pass(&w);
    open_pass(mostly_cut_off(), true, "block.a", &last_alone, &w);
    fit last = fit_layer(&w, 3, 1e-3);
    close_pass(&w);
    cr_log_info("linear %g, last stage %g, all stages %g", whole.linear, last.aware, whole.aware);
    cr_expect_float_eq(whole.linear, last.linear, 1e-9);
    cr_expect_float_eq(last.told, last.aware, 1e-4 * last.aware);
    cr_expect_lt(whole.aware, 0.8 * whole.linear);
    cr_expect_lt(whole.aware, 0.95 * last.aware);
    free_fit(&whole);
    free_fit(&last);
}

/* Nothing is cut off: the linear regression is the answer already. */
Test(aware, positive_responses_keep_the_linear_regression) {
    for (int64_t rank = 1; rank <= 7; rank += 3) {
        nd_graph *graph = small_net();
        change_conv(graph, "down", 2, 0, 1, 40);
        pass w;
        open_pass(graph, true, "down", &nd_method_channel, &w);
        fit f = fit_layer(&w, rank, 1e-9);
        int64_t size = help_kernel_size(&w.layer->conv);
        cr_expect_lt(help_distance(f.after, f.before, size), 1e-3, "rank %d: %g", (int)rank,
                     help_distance(f.after, f.before, size));
        cr_expect_lt(f.linear - f.aware, 1e-5 * f.linear);
        free_fit(&f);
        close_pass(&w);
    }
}

Test(aware, full_rank_stays_exact) {
    static const char *const layers[] = {"block.a", "block.b", "down"};
    for (size_t l = 0; l < sizeof layers / sizeof *layers; l++) {
        pass w;
        open_pass(small_net(), false, layers[l], &nd_method_channel, &w);
        fit f = fit_layer(&w, nd_method_channel.max_rank(&w.layer->conv), 0);
        double *own = help_widen(w.layer->conv.weights, help_kernel_size(&w.layer->conv));
        cr_expect_lt(f.aware, 1e-9, "%s: %g", layers[l], f.aware);
        cr_expect_lt(help_distance(f.after, own, help_kernel_size(&w.layer->conv)), 1e-4, "%s", layers[l]);
        free(own);
        free_fit(&f);
        close_pass(&w);
    }
}

/* The report says which of its errors are those after an activation: "score" has none, and is pointwise
 * besides. */
Test(aware, the_report_says_what_its_error_is) {
    nd_backend *backend = help_backend();
    nd_batches *calib = open_pictures(images, 11);
    for (int aware = 0; aware < 2; aware++) {
        nd_graph *graph = small_net();
        nd_decouple_settings settings = nd_decouple_defaults();
        nd_decouple_report report = {0};
        settings.method = "channel";
        settings.target = 3;
        settings.calib = calib;
        settings.relu_aware = aware;
        OK(nd_decouple(graph, backend, &settings, &report));
        for (size_t l = 0; l < report.n_layers; l++)
            if (report.layers[l].rank) cr_expect_eq(report.layers[l].after_activation, aware == 1);
        nd_decouple_report_free(&report);
        nd_graph_free(graph);
    }
    nd_batches_close(calib);
    nd_backend_close(backend);
}
