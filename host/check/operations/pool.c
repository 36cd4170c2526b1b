#include "check/cases.h"

#include <math.h>

typedef struct nd_pool_case {
    const char *title;
    int64_t n, c, h, w;
    nd_window window;
    int64_t extra; /* rows and columns that ceil mode adds to the output */
    bool maximum, count_include_pad;
} nd_pool_case;

static const nd_pool_case nd_pool_cases[] = {
    {"max_2x2_s2", 1, 64, 14, 14, {{2, 2}, {2, 2}, ND_ONE, {0}}, 0, true, false},
    {"max_3x3_s2", 2, 48, 15, 13, {{3, 3}, {2, 2}, ND_ONE, {0}}, 0, true, false},
    {"max_3x3_s2_pad", 1, 17, 14, 14, {{3, 3}, {2, 2}, ND_ONE, {1, 1, 1, 1}}, 0, true, false},
    {"max_3x3_s2_ceil", 3, 33, 14, 10, {{3, 3}, {2, 2}, ND_ONE, {0}}, 1, true, false},
    {"max_2x3_s1_2", 1, 5, 9, 8, {{2, 3}, {1, 2}, ND_ONE, {0, 1, 1, 1}}, 0, true, false},
    {"max_dilated", 1, 8, 11, 11, {{3, 3}, {1, 1}, {2, 2}, {2, 2, 2, 2}}, 0, true, false},
    {"average_2x2_s2", 1, 64, 12, 12, {{2, 2}, {2, 2}, ND_ONE, {0}}, 0, false, false},
    {"average_3x3_pad", 2, 19, 9, 7, {{3, 3}, {1, 1}, ND_ONE, {1, 1, 1, 1}}, 0, false, false},
    {"average_3x3_pad_counted", 2, 19, 9, 7, {{3, 3}, {1, 1}, ND_ONE, {1, 1, 1, 1}}, 0, false, true},
    {"average_3x3_pad_0_2", 1, 20, 8, 8, {{3, 3}, {2, 2}, ND_ONE, {0, 1, 2, 1}}, 0, false, true},
    {"average_3x3_s2_ceil", 1, 16, 10, 10, {{3, 3}, {2, 2}, ND_ONE, {0}}, 1, false, false},
    {"average_3x3_s2_ceil_counted", 1, 16, 10, 10, {{3, 3}, {2, 2}, ND_ONE, {1, 1, 0, 0}}, 1, false, true},
    {"average_whole_7x7", 3, 100, 7, 7, {{7, 7}, {1, 1}, ND_ONE, {0}}, 0, false, false},
    {"average_whole_13x9", 1, 30, 13, 9, {{13, 9}, {1, 1}, ND_ONE, {0}}, 0, false, false},
    {"max_whole_7x7", 3, 100, 7, 7, {{7, 7}, {1, 1}, ND_ONE, {0}}, 0, true, false},
    {"max_whole_13x9", 1, 30, 13, 9, {{13, 9}, {1, 1}, ND_ONE, {0}}, 0, true, false},
    {"average_1x1", 1, 24, 1, 1, {{1, 1}, {1, 1}, ND_ONE, {0}}, 0, false, false},
    {"max_3x3_on_1x1", 2, 24, 1, 1, {{3, 3}, {1, 1}, ND_ONE, {1, 1, 1, 1}}, 0, true, false},
    {"max_5x5_on_2x1_s2", 2, 24, 2, 1, {{5, 5}, {2, 2}, ND_ONE, {2, 2, 2, 2}}, 0, true, false},
    {"average_3x3_on_1x1", 2, 24, 1, 1, {{3, 3}, {1, 1}, ND_ONE, {1, 1, 1, 1}}, 0, false, false},
    {"average_3x3_on_1x1_counted", 2, 24, 1, 1, {{3, 3}, {1, 1}, ND_ONE, {1, 1, 1, 1}}, 0, false, true},
    {"average_5x5_on_1x2", 2, 24, 1, 2, {{5, 5}, {1, 1}, ND_ONE, {2, 2, 2, 2}}, 0, false, false},
};

static const char *pool_title(int index) {
    return nd_pool_cases[index].title;
}

static nd_status pool_make(nd_problem *problem, int index) {
    const nd_pool_case *c = &nd_pool_cases[index];
    const int64_t x[] = {c->n, c->c, c->h, c->w};
    const int64_t y[] = {c->n, c->c, nd_window_output(&c->window, 0, c->h, false) + c->extra,
                         nd_window_output(&c->window, 1, c->w, false) + c->extra};
    problem->work = (nd_work){.operation = nd_operation_pool,
                              .x = nd_view_row_major(4, x),
                              .y = nd_view_row_major(4, y),
                              .window = c->window,
                              .maximum = c->maximum,
                              .count_include_pad = c->count_include_pad};
    return nd_problem_operands(problem);
}

/* A plane with its padding, and beyond it as far as windows reach. */
typedef struct nd_padded {
    int64_t height, width;
    double *values; /* 0 outside */
    char *kinds;    /* 'x' a pixel, 'p' declared padding, 0 beyond */
} nd_padded;

static void pool_pad(const nd_problem *problem, const float *plane, nd_padded *padded) {
    const nd_view *x = &problem->work.x;
    const int64_t *pad = problem->work.window.pad;
    for (int64_t i = 0; i < padded->height; i++)
        for (int64_t j = 0; j < padded->width; j++) {
            const int64_t h = i - pad[0], w = j - pad[1];
            const bool pixel = h >= 0 && h < x->dims[2] && w >= 0 && w < x->dims[3];
            const bool declared = h < x->dims[2] + pad[2] && w < x->dims[3] + pad[3];
            padded->values[i * padded->width + j] = pixel ? plane[h * x->dims[3] + w] : 0;
            padded->kinds[i * padded->width + j] = pixel ? 'x' : declared ? 'p' : 0;
        }
}

static void pool_window(const nd_problem *problem, const nd_padded *padded, int64_t p, int64_t q,
                        double *value, double *slack) {
    const nd_work *work = &problem->work;
    const nd_window *g = &work->window;
    double sum = 0, magnitude = 0, largest = -INFINITY;
    int64_t pixels = 0, counted = 0;
    for (int64_t tap = 0; tap < g->kernel[0] * g->kernel[1]; tap++) {
        const int64_t i = p * g->stride[0] + tap / g->kernel[1] * g->dilation[0];
        const int64_t j = q * g->stride[1] + tap % g->kernel[1] * g->dilation[1];
        const char kind = padded->kinds[i * padded->width + j];
        const double x = padded->values[i * padded->width + j];
        pixels += kind == 'x';
        counted += kind != 0;
        if (kind != 'x') continue;
        sum += x;
        magnitude += fabs(x);
        largest = x > largest ? x : largest;
    }
    const double divisor = (double)(work->count_include_pad ? counted : pixels);
    *value = work->maximum ? largest : sum / divisor;
    *slack = work->maximum ? 0 : (double)(counted + 2) * problem->rounding.sum * magnitude / divisor;
}

/* By explicit padding. */
static nd_status pool_expect(nd_problem *problem) {
    const nd_work *work = &problem->work;
    const nd_window *g = &work->window;
    const int64_t oh = work->y.dims[2], ow = work->y.dims[3], plane = work->x.dims[2] * work->x.dims[3];
    nd_padded padded = {.height = (oh - 1) * g->stride[0] + g->dilation[0] * (g->kernel[0] - 1) + 1,
                        .width = (ow - 1) * g->stride[1] + g->dilation[1] * (g->kernel[1] - 1) + 1};
    const size_t count = (size_t)(padded.height * padded.width);
    padded.values = nd_arena_alloc(&problem->arena, count * sizeof *padded.values);
    padded.kinds = nd_arena_alloc(&problem->arena, count);
    ND_REQUIRE(padded.values && padded.kinds, nd_status_memory, "no memory for a pool");
    ND_TRY(nd_problem_results(problem));
    for (int64_t i = 0; i < work->y.dims[0] * work->y.dims[1]; i++) {
        pool_pad(problem, problem->x + i * plane, &padded);
        for (int64_t p = 0; p < oh * ow; p++)
            pool_window(problem, &padded, p / ow, p % ow, &problem->expected[i * oh * ow + p],
                        &problem->slack[i * oh * ow + p]);
    }
    return nd_status_ok;
}

const nd_check_operation nd_check_pool = {
    "pool", sizeof nd_pool_cases / sizeof *nd_pool_cases, pool_title, pool_make, pool_expect, false};
