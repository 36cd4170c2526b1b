/* Operators that run on the host or by being lowered, against what defines them. */
#include "run/executor.h"
#include "run/plugins.h"
#include "tests/unit/help/onnx_help.h"

#include <math.h>

static void run_on(const char *name, nd_graph *graph, int64_t batch, const float *x, float *y,
                   void (*expect)(const nd_exec *exec)) {
    nd_backend *backend;
    nd_exec *exec;
    OK(nd_backend_open(name, NULL, &backend));
    OK(nd_exec_open(backend, graph, NULL, &exec));
    OK(nd_exec_run(exec, batch, &x, (float *[]){y, NULL}));
    if (expect) expect(exec);
    nd_exec_close(exec);
    nd_backend_close(backend);
}

static const char *const backends[] = {"ref", "cpu"};

/* --- DepthToSpace and SpaceToDepth */

enum { batch = 2, depth = 3, block = 2, high = 2, wide = 5, blocked = depth * block * block };

/* Of y[n][c][h * block + i][w * block + j], where x has it. */
static int blocked_at(bool channels_first, int n, int c, int h, int i, int w, int j) {
    const int channel = channels_first ? (c * block + i) * block + j : (i * block + j) * depth + c;
    return ((n * blocked + channel) * high + h) * wide + w;
}

static int add_blocks(nd_graph *graph, int x, const char *op, bool channels_first) {
    nd_node *node;
    const int y = add_node(graph, nd_op_depth_to_space, NULL, &x, 1, &node);
    node->op_type = op;
    node->attr.size = block;
    node->attr.channels_first = channels_first;
    return y;
}

Test(whole_operators, depth_becomes_blocks_and_blocks_depth) {
    enum { count = batch * blocked * high * wide };
    float x[count], y[count];
    for (int i = 0; i < count; i++) x[i] = (float)i;
    for (int mode = 0; mode < 4; mode++) {
        const bool channels_first = mode & 1, back = mode & 2; /* the way back has no order of its own: DCR */
        nd_graph *graph = new_graph("blocks");
        const int in = add_input(graph, "x", 4, (const int64_t[]){batch, blocked, high, wide});
        const int spread = add_blocks(graph, in, "DepthToSpace", channels_first);
        finish(graph, back ? add_blocks(graph, spread, "SpaceToDepth", false) : spread, batch);
        for (int b = 0; b < 2; b++) {
            run_on(backends[b], graph, batch, x, y, NULL);
            const float *at = y;
            for (int n = 0; n < batch && !back; n++)
                for (int c = 0; c < depth; c++)
                    for (int h = 0; h < high * block; h++)
                        for (int w = 0; w < wide * block; w++)
                            cr_expect_eq(*at++, x[blocked_at(channels_first, n, c, h / block, h % block,
                                                             w / block, w % block)]);
            if (back && !channels_first) cr_expect_arr_eq(y, x, sizeof x);
            if (back && channels_first) cr_expect_neq(memcmp(y, x, sizeof x), 0, "another order of channels");
        }
        nd_graph_free(graph);
    }
}

/* --- Loop */

static nd_message typed_info(const char *name, int type) {
    nd_message info = {.used = 0}, value = {.used = 0}, tensor = {.used = 0};
    const nd_message shape = {.used = 0};
    put_int(&tensor, 1, (uint64_t)type);
    if (type != 1) put_message(&tensor, 2, &shape);
    put_message(&value, 1, &tensor);
    put_text(&info, 1, name);
    put_message(&info, 2, &value);
    return info;
}

/* s = x, then `rounds` times s += x: the last s, and every one of them. */
static nd_graph *running_sum(int64_t rounds) {
    enum { type_float = 1, type_i64 = 7, type_bool = 9 };
    nd_message body = {.used = 0}, attribute = {.used = 0}, whole = {.used = 0}, version = {.used = 0};
    nd_message outer = {.used = 0}, loop = node("Loop", "rounds", "", "last"), trips = {.used = 0};
    const nd_message sum = node("Add", "s", "x", "next"), copy = node("Identity", "next", NULL, "slice");
    const nd_message in[] = {typed_info("round", type_i64), typed_info("more", type_bool),
                             typed_info("s", type_float)};
    const nd_message out[] = {typed_info("more", type_bool), typed_info("next", type_float),
                              typed_info("slice", type_float)};
    put_message(&body, 1, &sum);
    put_message(&body, 1, &copy);
    put_text(&body, 2, "body");
    for (int i = 0; i < 3; i++) put_message(&body, 11, &in[i]);
    for (int i = 0; i < 3; i++) put_message(&body, 12, &out[i]);
    put_text(&attribute, 1, "body");
    put_message(&attribute, 6, &body);
    put_int(&attribute, 20, 5); /* GRAPH */
    put_text(&loop, 1, "x");
    put_text(&loop, 2, "all");
    put_message(&loop, 5, &attribute);
    put_int(&trips, type_field, type_i64);
    put_text(&trips, name_field, "rounds");
    put(&trips, raw_field, &rounds, sizeof rounds);
    const nd_message x = value_info("x", 2, (int64_t[]){2, 4});
    const nd_message last = typed_info("last", type_float), all = typed_info("all", type_float);
    put_message(&outer, 1, &loop);
    put_message(&outer, 5, &trips);
    put_message(&outer, 11, &x);
    put_message(&outer, 12, &last);
    put_message(&outer, 12, &all);
    put_int(&version, 2, 13);
    put_int(&whole, 1, 8);
    put_message(&whole, 8, &version);
    put_message(&whole, 7, &outer);
    nd_graph *graph;
    OK(parse(&whole, NULL, &graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 2}));
    return graph;
}

static const float summed[8] = {1, -2, 3.5f, 0, 7, 0.25f, -9, 11};

static void expect_sums(const nd_exec *exec, int rounds) {
    const nd_tensor *last = nd_exec_output(exec, 0), *all = nd_exec_output(exec, 1);
    cr_assert(last && all);
    cr_assert(last->rank == 2 && last->dims[0] == 2 && last->dims[1] == 4);
    cr_assert_eq(all->dims[0], rounds);
    for (int i = 0; i < 8; i++) {
        cr_expect_eq(((const float *)last->data)[i], summed[i] * (float)(rounds + 1));
        for (int r = 0; r < rounds; r++)
            cr_expect_eq(((const float *)all->data)[8 * r + i], summed[i] * (float)(r + 2));
    }
}

static void expect_none(const nd_exec *exec) {
    expect_sums(exec, 0);
}
static void expect_one(const nd_exec *exec) {
    expect_sums(exec, 1);
}
static void expect_five(const nd_exec *exec) {
    expect_sums(exec, 5);
}

Test(whole_operators, a_loop_hands_on_and_collects) {
    void (*const expected[])(const nd_exec *) = {expect_none, expect_one, expect_five};
    static const int64_t rounds[] = {0, 1, 5};
    for (int k = 0; k < 3; k++) {
        nd_graph *graph = running_sum(rounds[k]);
        for (int b = 0; b < 2; b++) run_on(backends[b], graph, 2, summed, NULL, expected[k]);
        nd_graph_free(graph);
    }
}

/* --- QLinearConv */

enum {
    maps = 3,
    side = 5,
    filters = 4,
    kernel = 3,
    pixels = side * side,
    weights = filters * maps * kernel * kernel
};

static const float x_scale = 0.5f, y_scale = 32;
static const uint8_t x_zero = 7, y_zero = 101, w_zero = 0;

/* The definition: integers and numbers that all have an exact float. */
static float convolved(const float *x, const int8_t *w, const float *w_scale, const int32_t *bias, int o,
                       int h, int v) {
    int32_t sum = bias[o];
    for (int c = 0; c < maps; c++)
        for (int i = 0; i < kernel; i++)
            for (int j = 0; j < kernel; j++) {
                const int row = h + i - 1, column = v + j - 1;
                if (row < 0 || row >= side || column < 0 || column >= side) continue;
                sum += ((int32_t)x[(c * side + row) * side + column] - x_zero) *
                       w[((o * maps + c) * kernel + i) * kernel + j];
            }
    return fminf(255, fmaxf(0, nearbyintf((float)sum * x_scale * w_scale[o] / y_scale) + (float)y_zero));
}

Test(whole_operators, qlinear_convolutions_are_integer_sums_and_one_rounding) {
    static const float w_scale[filters] = {0.5f, 0.25f, 2, 0.125f};
    static const int32_t bias[filters] = {0, 1000, -700, 33};
    static const int64_t of_weights[] = {filters, maps, kernel, kernel}, per[] = {filters};
    float x[maps * pixels], y[filters * pixels];
    int8_t w[weights];
    nd_graph *graph = new_graph("qlinear");
    for (int i = 0; i < maps * pixels; i++) x[i] = (float)(i * 29 % 256);
    for (int i = 0; i < weights; i++) w[i] = (int8_t)(i * 37 % 255 - 127);
    const int numbers = add_input(graph, "x", 4, (const int64_t[]){1, maps, side, side});
    nd_node *node;
    const int whole = add_node(graph, nd_op_cast, NULL, &numbers, 1, &node);
    node->attr.dtype = nd_dtype_u8;
    const int in[] = {whole,
                      add_data(graph, nd_dtype_f32, 0, NULL, &x_scale),
                      add_data(graph, nd_dtype_u8, 0, NULL, &x_zero),
                      add_data(graph, nd_dtype_i8, 4, of_weights, w),
                      add_data(graph, nd_dtype_f32, 1, per, w_scale),
                      add_data(graph, nd_dtype_i8, 0, NULL, &w_zero),
                      add_data(graph, nd_dtype_f32, 0, NULL, &y_scale),
                      add_data(graph, nd_dtype_u8, 0, NULL, &y_zero),
                      add_data(graph, nd_dtype_i32, 1, per, bias)};
    int out;
    OK(nd_graph_add_value(graph, NULL, &out));
    OK(nd_graph_add_node(graph, nd_op_opaque, "q", in, 9, &out, 1, &node));
    node->op_type = "QLinearConv";
    node->dynamic = true;
    node->attr =
        (nd_attr){.groups = 1, .alpha = 1, .window = {{kernel, kernel}, {1, 1}, {1, 1}, {1, 1, 1, 1}}};
    const int back = add_node(graph, nd_op_cast, NULL, &out, 1, &node);
    node->attr.dtype = nd_dtype_f32;
    finish(graph, back, 1);
    int saturated = 0;
    for (int b = 0; b < 2; b++) {
        nd_backend *backend;
        nd_exec *exec;
        OK(nd_backend_open(backends[b], NULL, &backend));
        OK(nd_exec_open(backend, graph, NULL, &exec));
        OK(nd_exec_run(exec, 1, (const float *[]){x}, (float *[]){NULL}));
        const nd_tensor *got = nd_exec_output(exec, 0);
        cr_assert(got && nd_tensor_count(got) == filters * pixels);
        memcpy(y, got->data, sizeof y);
        for (int i = 0; i < filters * pixels; i++) {
            const float want = convolved(x, w, w_scale, bias, i / pixels, i % pixels / side, i % side);
            cr_expect_eq(y[i], want, "%d: %g, %g wanted", i, (double)y[i], (double)want);
            saturated += want == 0 || want == 255;
        }
        nd_exec_close(exec);
        nd_backend_close(backend);
    }
    cr_expect(saturated > 5 && saturated < filters * pixels, "%d", saturated);
    nd_graph_free(graph);
}

/* --- GlobalMaxPool */

/* Of images of any rank, and of numbers below zero. */
Test(whole_operators, a_global_maximum_is_that_of_its_plane) {
    enum { images = 2, planes = 3, area = 24 };
    static const int64_t shapes[][5] = {
        {images, planes, area}, {images, planes, 4, 6}, {images, planes, 2, 3, 4}};
    float x[images * planes * area], y[images * planes];
    for (int i = 0; i < images * planes * area; i++) x[i] = -1 - (float)(i * 7 % 31);
    for (int rank = 3; rank <= 5; rank++) {
        nd_graph *graph = new_graph("maxima");
        const int in = add_input(graph, "x", rank, shapes[rank - 3]);
        finish(graph, add_node(graph, nd_op_global_max_pool, NULL, &in, 1, NULL), images);
        for (int b = 0; b < 2; b++) {
            run_on(backends[b], graph, images, x, y, NULL);
            for (int p = 0; p < images * planes; p++) {
                float most = -INFINITY;
                for (int i = 0; i < area; i++) most = fmaxf(most, x[p * area + i]);
                cr_expect_eq(y[p], most, "rank %d on %s, plane %d: %g, %g", rank, backends[b], p,
                             (double)y[p], (double)most);
            }
        }
        nd_graph_free(graph);
    }
}
