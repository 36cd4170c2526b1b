/* Gradients against finite differences, and the output metric made of them. */
#include "decouple/calib/gradient.h"
#include "decouple/calib/output_metric.h"
#include "decouple/fit/moments.h"
#include "decouple/fit/refit.h"
#include "run/captures.h"
#include "tests/unit/help/decouple_help.h"

enum { images = 3, side = 6, width = 6 };

static int constant(nd_graph *graph, int rank, const int64_t *dims, uint64_t seed, float shift) {
    nd_rng rng = nd_rng_seed(seed);
    if (shift == 0) return add_normals(graph, NULL, rank, dims, &rng, 0.5f);
    const int value = add_normals(graph, NULL, rank, dims, &rng, 1);
    const nd_tensor *tensor = graph->values[value].init;
    for (int64_t e = 0; e < nd_tensor_count(tensor); e++)
        ((float *)tensor->data)[e] = shift + fabsf(((float *)tensor->data)[e]);
    return value;
}

static int node(nd_graph *graph, nd_op op, int n_in, const int *in, nd_node **out) {
    return add_node(graph, op, NULL, in, n_in, out);
}

static int conv(nd_graph *graph, int x, int64_t no, int64_t ni, int64_t groups, nd_window window,
                uint64_t seed) {
    nd_node *made = NULL;
    int64_t dims[4] = {no, ni / groups, window.kernel[0], window.kernel[1]};
    int in[2] = {x, constant(graph, 4, dims, seed, 0)};
    int y = node(graph, nd_op_conv, 2, in, &made);
    made->attr.window = window;
    made->attr.groups = groups;
    return y;
}

static const nd_window window3 = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
static const nd_window window1 = {{1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}};

/* --- one op each, between the output `x` of a convolution [n][width][side][side] and the scores --- */

static int unary(nd_graph *graph, nd_op op, int x, nd_node **made) {
    return node(graph, op, 1, &x, made);
}

static int build_relu(nd_graph *graph, int x) {
    return unary(graph, nd_op_relu, x, NULL);
}

static int build_leaky(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int y = unary(graph, nd_op_leaky_relu, x, &made);
    made->attr.alpha = 0.1f;
    return y;
}

static int build_clip(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int y = unary(graph, nd_op_clip, x, &made);
    made->attr.lo = 0;
    made->attr.hi = 1;
    return y;
}

static int build_smooth(nd_graph *graph, int x) {
    return unary(graph, nd_op_sigmoid, unary(graph, nd_op_hard_swish, x, NULL), NULL);
}

static int build_strided(nd_graph *graph, int x) {
    const nd_window window = {{3, 2}, {2, 3}, {1, 2}, {0, 2, 1, 1}};
    return conv(graph, x, 4, width, 2, window, 31);
}

static int build_padded_pointwise(nd_graph *graph, int x) {
    const nd_window window = {{1, 1}, {1, 1}, {1, 1}, {1, 0, 2, 1}};
    return conv(graph, x, 4, width, 1, window, 32);
}

static int build_block(nd_graph *graph, int x) {
    int inner = unary(graph, nd_op_relu, conv(graph, x, width, width, 1, window3, 33), NULL);
    int in[2] = {conv(graph, inner, width, width, width, window3, 34), x};
    return unary(graph, nd_op_relu, node(graph, nd_op_add, 2, in, NULL), NULL);
}

static int build_broadcast_add(nd_graph *graph, int x) {
    int in[2] = {x, unary(graph, nd_op_global_average_pool, x, NULL)};
    return node(graph, nd_op_add, 2, in, NULL);
}

static int build_option_a(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int y = unary(graph, nd_op_slice, x, &made);
    made->attr.n = 2;
    for (int i = 0; i < 2; i++) {
        made->attr.list[i] = i;
        made->attr.ends[i] = side;
        made->attr.axes[i] = i + 2;
        made->attr.steps[i] = 2;
    }
    y = unary(graph, nd_op_pad, y, &made);
    made->attr.n = 8;
    made->attr.list[1] = 2;
    made->attr.list[5] = 3;
    return y;
}

static int build_concat(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int in[3] = {conv(graph, x, 2, width, 1, window1, 35), x, conv(graph, x, 3, width, 1, window3, 36)};
    int y = node(graph, nd_op_concat, 3, in, &made);
    made->attr.axis = 1;
    return y;
}

static int build_pool(nd_graph *graph, nd_op op, int x, bool counted) {
    nd_node *made = NULL;
    int y = unary(graph, op, x, &made);
    made->attr.window = (nd_window){{3, 2}, {2, 2}, {1, 1}, {1, 0, 0, 1}};
    made->attr.ceil_mode = true;
    made->attr.count_include_pad = counted;
    return y;
}

static int build_max_pool(nd_graph *graph, int x) {
    return build_pool(graph, nd_op_max_pool, x, false);
}

static int build_average_pool(nd_graph *graph, int x) {
    return build_pool(graph, nd_op_average_pool, x, false);
}

static int build_counted_pool(nd_graph *graph, int x) {
    return build_pool(graph, nd_op_average_pool, x, true);
}

static int build_mean(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int y = unary(graph, nd_op_reduce_mean, x, &made);
    made->attr.n = 2;
    made->attr.list[0] = 1;
    made->attr.list[1] = 3;
    return y;
}

static int build_mean_scores(nd_graph *graph, int x) {
    return unary(graph, nd_op_global_average_pool, x, NULL);
}

static int build_transpose(nd_graph *graph, int x) {
    static const int64_t order[] = {0, 2, 3, 1};
    nd_node *made = NULL;
    int y = unary(graph, nd_op_transpose, x, &made);
    made->attr.n = 4;
    memcpy(made->attr.list, order, sizeof order);
    return y;
}

static int build_gather(nd_graph *graph, int x) {
    return add_gather(graph, x, (int64_t[]){4, 0, 4, 2}, 4);
}

static int build_batchnorm(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int64_t channels = width;
    int in[5] = {x};
    for (int i = 1; i < 5; i++) in[i] = constant(graph, 1, &channels, 40 + (uint64_t)i, i == 4 ? 0.5f : 0);
    int y = node(graph, nd_op_batchnorm, 5, in, &made);
    made->attr.epsilon = 1e-3f;
    return y;
}

static int build_products(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int64_t first[2] = {7, width * side * side}, second[2] = {7, 5};
    int y = unary(graph, nd_op_flatten, x, &made);
    made->attr.axis = 1;
    int gemm[2] = {y, constant(graph, 2, first, 51, 0)};
    y = node(graph, nd_op_gemm, 2, gemm, &made);
    made->attr.trans_b = true;
    made->attr.alpha = 0.5f;
    made->attr.beta = 1;
    int matmul[2] = {unary(graph, nd_op_relu, y, NULL), constant(graph, 2, second, 52, 0)};
    return node(graph, nd_op_matmul, 2, matmul, NULL);
}

/* Heads of detectors: products of computed values, parts, grids and norms. */

static int build_products_of_values(nd_graph *graph, int x) {
    int silu[2] = {x, unary(graph, nd_op_sigmoid, x, NULL)};
    int square = node(graph, nd_op_mul, 2, silu, NULL);
    int pooled[2] = {unary(graph, nd_op_global_average_pool, x, NULL), square};
    int scaled[2] = {node(graph, nd_op_mul, 2, pooled, NULL),
                     constant(graph, 3, (int64_t[]){width, 1, 1}, 61, 0)};
    int twice[2] = {node(graph, nd_op_mul, 2, scaled, NULL), x};
    int itself[2] = {x, x};
    int sum[2] = {node(graph, nd_op_mul, 2, twice, NULL), node(graph, nd_op_mul, 2, itself, NULL)};
    return node(graph, nd_op_add, 2, sum, NULL);
}

static int build_differences(nd_graph *graph, int x) {
    int of_constant[2] = {constant(graph, 2, (int64_t[]){side, 1}, 62, 0), x};
    int a = node(graph, nd_op_sub, 2, of_constant, NULL);
    int of_values[2] = {unary(graph, nd_op_global_average_pool, x, NULL), a};
    return node(graph, nd_op_sub, 2, of_values, NULL);
}

static int build_quotients(nd_graph *graph, int x) {
    int shifted[2] = {unary(graph, nd_op_sigmoid, x, NULL), constant(graph, 1, (int64_t[]){1}, 64, 1)};
    int s = node(graph, nd_op_add, 2, shifted, NULL);
    int below[2] = {x, s};
    int above[2] = {constant(graph, 4, (int64_t[]){1, width, 1, side}, 63, 0.5f), s};
    int join[2] = {node(graph, nd_op_div, 2, below, NULL), node(graph, nd_op_div, 2, above, NULL)};
    return node(graph, nd_op_add, 2, join, NULL);
}

/* What nodes make of constants alone, in any rank, as exporters leave grids and strides. */
static int made_of_constants(nd_graph *graph, int rank, const int64_t *dims, uint64_t seed) {
    return unary(graph, nd_op_sigmoid, constant(graph, rank, dims, seed, 0), NULL);
}

static int build_computed_constants(nd_graph *graph, int x) {
    int scaled[2] = {x, made_of_constants(graph, 1, (int64_t[]){side}, 65)};
    int y = node(graph, nd_op_mul, 2, scaled, NULL);
    int shifted[2] = {made_of_constants(graph, 0, NULL, 66), y};
    y = node(graph, nd_op_add, 2, shifted, NULL);
    int below[2] = {y, made_of_constants(graph, 2, (int64_t[]){side, 1}, 67)};
    y = node(graph, nd_op_div, 2, below, NULL);
    int from[2] = {made_of_constants(graph, 3, (int64_t[]){width, 1, 1}, 68), y};
    y = node(graph, nd_op_sub, 2, from, NULL);
    int whole[2] = {y, made_of_constants(graph, 4, (int64_t[]){1, width, side, side}, 69)};
    return node(graph, nd_op_mul, 2, whole, NULL);
}

/* Of three parts the last is not used. */
static int build_split(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int out[3];
    for (int i = 0; i < 3; i++) out[i] = add_value(graph, NULL);
    OK(nd_graph_add_node(graph, nd_op_split, NULL, &x, 1, out, 3, &made));
    made->attr.axis = 1;
    made->attr.n = 3;
    made->attr.list[0] = 3;
    made->attr.list[1] = 2;
    made->attr.list[2] = 1;
    int in[2] = {unary(graph, nd_op_sigmoid, out[1], NULL), out[0]};
    int y = node(graph, nd_op_concat, 2, in, &made);
    made->attr.axis = 1;
    return y;
}

static int build_softmax(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int y = unary(graph, nd_op_softmax, x, &made);
    made->attr.axis = 2;
    return y;
}

static int build_resize(nd_graph *graph, int x) {
    nd_node *made = NULL;
    const float scales[] = {1, 1, 2, 3};
    int in[3] = {x, -1, add_floats(graph, NULL, 1, (int64_t[]){4}, scales)};
    int y = node(graph, nd_op_resize, 3, in, &made);
    made->attr.resize = (nd_resize){
        .mode = nd_resize_nearest, .coordinates = nd_resize_asymmetric, .rounding = nd_resize_floor};
    return y;
}

static int build_reduce(nd_graph *graph, int x, const char *type, bool keep) {
    nd_node *made = NULL;
    int y = unary(graph, nd_op_reduce, x, &made);
    made->op_type = type;
    made->attr.n = 2;
    made->attr.list[0] = 1;
    made->attr.list[1] = 3;
    made->attr.keep_dims = keep;
    return y;
}

static int build_sum(nd_graph *graph, int x) {
    return build_reduce(graph, x, "ReduceSum", false);
}

/* As SSD normalises its first map. */
static int build_normalised(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int y = build_reduce(graph, x, "ReduceL2", true);
    y = unary(graph, nd_op_expand, y, &made);
    made->attr.n = 4;
    for (int i = 0; i < 4; i++) made->attr.list[i] = (int64_t[]){1, width, 1, side}[i];
    int in[2] = {x, y};
    return node(graph, nd_op_div, 2, in, NULL);
}

static int build_lrn(nd_graph *graph, int x) {
    nd_node *made = NULL;
    int y = unary(graph, nd_op_lrn, x, &made);
    made->attr.size = 3;
    made->attr.alpha = made->attr.beta = made->attr.bias = 1;
    return conv(graph, y, 4, width, 1, window3, 53);
}

typedef struct network {
    nd_graph *graph;
    int image, y, scores;
} network;

static network build(int (*op)(nd_graph *, int)) {
    network net = {.graph = new_graph("one op")};
    net.image = add_input(net.graph, "image", 4, (int64_t[]){1, 3, side, side});
    net.y = conv(net.graph, net.image, width, 3, 1, window3, 1);
    net.scores = op(net.graph, net.y);
    finish(net.graph, net.scores, 1);
    return net;
}

typedef struct catch {
    int value, visits;
    float *gradient;
}
catch;

static nd_status keep(void *context, int value, int64_t n, const float *gradient) {
    catch *c = context;
    if (value != c->value) return nd_status_ok;
    cr_assert_eq(n, images);
    memcpy(c->gradient, gradient, (size_t)(n * width * side * side) * sizeof *gradient);
    c->visits++;
    return nd_status_ok;
}

static float *run(nd_backend *backend, const network *net, int from, int to, const float *data) {
    nd_exec *exec = NULL;
    float *out = nd_alloc_array((size_t)(images * nd_value_size(net->graph, to)), sizeof *out);
    nd_exec_settings settings = {
        .batch = images, .inputs = &from, .n_inputs = 1, .outputs = &to, .n_outputs = 1};
    OK(nd_exec_open(backend, net->graph, &settings, &exec));
    OK(nd_exec_run(exec, images, &data, &out));
    nd_exec_close(exec);
    return out;
}

static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t e = 0; e < n; e++) sum += (double)a[e] * b[e];
    return sum;
}

/* Along each of a few directions of few elements, so that no kink is crossed but by bad luck. */
static void check(nd_backend *backend, const network *net, const char *name) {
    enum { directions = 40 };
    const double step = 1e-2;
    nd_gradient *gradient = NULL;
    int64_t size = images * width * side * side, scores = images * nd_value_size(net->graph, net->scores);
    float *picture = help_normals(images * 3 * side * side, 5), *seed = help_normals(scores, 6);
    float *y = run(backend, net, net->image, net->y, picture);
    catch c = {.value = net->y, .gradient = nd_alloc_array((size_t)size, sizeof *c.gradient)};
    OK(nd_gradient_open(backend, net->graph, images + 1, &net->scores, 1, &gradient));
    cr_assert(nd_gradient_known(gradient, net->y), "%s", name);
    cr_expect(!nd_gradient_known(gradient, net->image));
    OK(nd_gradient_forward(gradient, images, picture));
    for (int pass = 0; pass < 2; pass++)
        OK(nd_gradient_backward(gradient, (const float *const *)&seed, keep, &c));
    cr_expect_eq(c.visits, 2);
    int wrong = 0;
    nd_rng rng = nd_rng_seed(8);
    for (int d = 0; d < directions; d++) {
        int64_t at = nd_rng_below(&rng, size);
        float kept = y[at], value[2];
        for (int sign = 0; sign < 2; sign++) {
            y[at] = kept + (float)(sign ? step : -step);
            float *out = run(backend, net, net->y, net->scores, y);
            value[sign] = (float)dot(out, seed, scores);
            free(out);
        }
        y[at] = kept;
        wrong += fabs((value[1] - value[0]) / (2 * step) - c.gradient[at]) > 1e-2;
    }
    cr_expect_leq(wrong, 2, "%s: %d of %d derivatives are off", name, wrong, directions);
    nd_gradient_close(gradient);
    free(c.gradient);
    free(picture);
    free(seed);
    free(y);
}

Test(gradient, equals_finite_differences) {
    static const struct kind {
        char name[24];
        int (*build)(nd_graph *, int);
    } kinds[] = {
        {"relu", build_relu},
        {"leaky relu", build_leaky},
        {"clip", build_clip},
        {"sigmoid", build_smooth},
        {"conv", build_strided},
        {"padded 1x1", build_padded_pointwise},
        {"residual block", build_block},
        {"broadcast add", build_broadcast_add},
        {"slice and pad", build_option_a},
        {"concat", build_concat},
        {"max pool", build_max_pool},
        {"average pool", build_average_pool},
        {"average with padding", build_counted_pool},
        {"mean", build_mean},
        {"transpose", build_transpose},
        {"gather", build_gather},
        {"batch norm", build_batchnorm},
        {"products", build_products},
        {"mul", build_products_of_values},
        {"sub", build_differences},
        {"div", build_quotients},
        {"computed constants", build_computed_constants},
        {"split", build_split},
        {"softmax", build_softmax},
        {"resize", build_resize},
        {"sum", build_sum},
        {"norm and expand", build_normalised},
    };
    nd_backend *backend = help_backend();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        network net = build(kinds[k].build);
        check(backend, &net, kinds[k].name);
        nd_graph_free(net.graph);
    }
    nd_backend_close(backend);
}

Test(gradient, an_op_without_derivative_stops_it) {
    nd_backend *backend = help_backend();
    nd_gradient *gradient = NULL;
    network net = build(build_lrn);
    OK(nd_gradient_open(backend, net.graph, 1, &net.scores, 1, &gradient));
    cr_expect(nd_gradient_known(gradient, net.scores));
    cr_expect(!nd_gradient_known(gradient, net.y));
    nd_gradient_close(gradient);
    nd_graph_free(net.graph);
    nd_backend_close(backend);
}

/* --- the metric --- */

typedef struct pictures {
    nd_batches base;
    float *data;
    int64_t at;
} pictures;

static nd_status next(nd_batches *self, nd_batch *out) {
    pictures *p = (pictures *)self;
    int64_t left = self->count - p->at;
    *out =
        (nd_batch){.n = left < self->batch ? left : self->batch, .images = p->data + p->at * 3 * side * side};
    p->at += out->n;
    return nd_status_ok;
}

static nd_status rewind_pictures(nd_batches *self) {
    ((pictures *)self)->at = 0;
    return nd_status_ok;
}

static nd_decouple_settings calibrated(pictures *p, int64_t count, int64_t batch) {
    *p = (pictures){.base = {.channels = 3,
                             .height = side,
                             .width = side,
                             .count = count,
                             .batch = batch,
                             .next = next,
                             .rewind = rewind_pictures}};
    p->data = help_normals(count * 3 * side * side, 77);
    nd_decouple_settings settings = nd_decouple_defaults();
    settings.first_conv = true;
    settings.output_metric = true;
    settings.calib = &p->base;
    return settings;
}

/* The block of images does not matter. Where scores are means of the outputs every direction counts alike. */
Test(gradient, metric_is_that_of_the_scores) {
    nd_backend *backend = help_backend();
    nd_plan plan[2] = {{0}, {0}};
    pictures p;
    network net = build(build_block);
    for (int run = 0; run < 2; run++) {
        nd_decouple_settings settings = calibrated(&p, 9, run ? 9 : 2);
        OK(nd_plan_open(net.graph, &settings, &plan[run]));
        OK(nd_output_metric(net.graph, backend, &settings, &plan[run]));
        free(p.data);
    }
    for (int l = 0; l < plan[0].n_layers; l++) {
        const nd_conv *layer = &plan[0].layers[l].conv;
        int64_t rows = layer->no / layer->groups, count = layer->groups * rows * rows;
        if (plan[0].layers[l].why) continue;
        cr_assert_not_null(plan[0].layers[l].metric);
        double distance = help_distance(plan[0].layers[l].metric, plan[1].layers[l].metric, count);
        cr_expect_lt(distance, 1e-5, "%s: %g", layer->name, distance);
    }
    nd_plan_close(&plan[0]);
    nd_plan_close(&plan[1]);
    nd_graph_free(net.graph);

    enum { many = 400 };
    net = build(build_mean_scores);
    nd_decouple_settings settings = calibrated(&p, many, 32);
    OK(nd_plan_open(net.graph, &settings, &plan[0]));
    OK(nd_output_metric(net.graph, backend, &settings, &plan[0]));
    /* 128 images of 4 draws: sum of area * (v/area)(v/area)^T = 512/area I, and the floor. */
    for (int64_t e = 0; e < width * width; e++) {
        double wanted = e % (width + 1) ? 0 : sqrt(1.05 * 512 / (side * side));
        cr_expect_float_eq(plan[0].layers[0].metric[e], wanted, 0.6, "%g", plan[0].layers[0].metric[e]);
    }
    free(p.data);
    nd_plan_close(&plan[0]);
    nd_graph_free(net.graph);
    nd_backend_close(backend);
}

/* An even metric changes nothing; one sensitive to a single output fits it better than the even one does. */
Test(gradient, metric_decides_which_filters_live) {
    nd_backend *backend = help_backend();
    nd_conv layer = help_conv(0, 3);
    int64_t size = help_kernel_size(&layer), k = layer.ni * 9;
    double even[64] = {0}, single[64] = {0}, error[3];
    for (int64_t o = 0; o < layer.no; o++) {
        even[o * (layer.no + 1)] = 3;
        single[o * (layer.no + 1)] = o == 5 ? 100 : 1;
    }
    const double *metrics[] = {NULL, even, single};
    for (const nd_method *const *method = (const nd_method *const[]){&nd_method_dwpw, &nd_method_pwdw, NULL};
         *method; method++) {
        for (int run = 0; run < 3; run++) {
            nd_moments *m = NULL;
            nd_chain chain = {0};
            double *w = nd_alloc_array((size_t)size, sizeof *w);
            OK(nd_moments_new(&layer, &m));
            for (int64_t i = 0; i < k; i++) m->g[i * (k + 1)] = 1; /* white patches: errors are those of w */
            for (int64_t e = 0; e < size; e++) m->h[e] = layer.weights[e];
            m->vy = 1;
            m->metric = metrics[run];
            OK((*method)->decompose(backend, &layer, nd_ranks_adaptive, 12, m, &chain));
            OK(nd_chain_compose(&chain, &layer, w));
            error[run] = 0;
            for (int64_t e = 5 * k; e < 6 * k; e++) error[run] += pow(w[e] - layer.weights[e], 2);
            nd_chain_free(&chain);
            nd_moments_free(m);
            free(w);
        }
        cr_expect_float_eq(error[0], error[1], 1e-5, "%s", (*method)->name);
        cr_expect_lt(error[2], 0.5 * error[0], "%s: %g, %g without", (*method)->name, error[2], error[0]);
    }
    help_conv_free(&layer);
    nd_backend_close(backend);
}
