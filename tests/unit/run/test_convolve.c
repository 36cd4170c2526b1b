/* Convolutions over one axis and transposed ones, against sums over their definitions. */
#include "run/executor.h"
#include "run/plugins.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>
#include <stdio.h>

typedef struct nd_case {
    nd_window window;
    int64_t groups, batch, ni, no, in[2], out[2]; /* ni, no: of a group */
    bool transposed, row;                         /* row: over one axis, the second */
} nd_case;

static bool draw(nd_rng *rng, nd_case *out) {
    nd_case c = {.groups = 1 + nd_rng_below(rng, 3),
                 .batch = 1 + nd_rng_below(rng, 2),
                 .ni = 1 + nd_rng_below(rng, 3),
                 .no = 1 + nd_rng_below(rng, 3),
                 .transposed = true,
                 .row = nd_rng_below(rng, 3) == 0};
    for (int axis = 0; axis < 2; axis++) {
        nd_window *w = &c.window;
        const bool flat = c.row && axis == 0;
        w->kernel[axis] = flat ? 1 : 1 + nd_rng_below(rng, 5);
        w->stride[axis] = flat ? 1 : 1 + nd_rng_below(rng, 5);
        w->dilation[axis] = flat ? 1 : 1 + nd_rng_below(rng, 4);
        c.in[axis] = flat ? 1 : 1 + nd_rng_below(rng, 7);
        for (int side = axis; side < 4; side += 2) w->pad[side] = flat ? 0 : nd_rng_below(rng, 4);
        const int64_t span = w->dilation[axis] * (w->kernel[axis] - 1) + 1;
        c.out[axis] = w->stride[axis] * (c.in[axis] - 1) + span - w->pad[axis] - w->pad[axis + 2];
        if (c.out[axis] < 1) return false;
    }
    if (c.row && nd_rng_below(rng, 2)) { /* not transposed */
        c.transposed = false;
        c.out[1] = nd_window_output(&c.window, 1, c.in[1], false);
    }
    *out = c;
    return c.out[1] >= 1;
}

/* Every product of an input pixel and a number of the filter goes to where the window puts it. */
static void scatter(const nd_case *c, const float *x, const float *w, const float *bias, double *y) {
    const int64_t ni = c->groups * c->ni, no = c->groups * c->no, *k = c->window.kernel;
    for (int64_t i = 0; i < c->batch * no * c->out[0] * c->out[1]; i++)
        y[i] = (double)bias[i / (c->out[0] * c->out[1]) % no];
    for (int64_t n = 0; n < c->batch; n++)
        for (int64_t i = 0; i < ni; i++)
            for (int64_t o = i / c->ni * c->no; o < (i / c->ni + 1) * c->no; o++)
                for (int64_t a = 0;
                     a < (c->transposed ? c->in[0] : c->out[0]) * (c->transposed ? c->in[1] : c->out[1]); a++)
                    for (int64_t b = 0; b < k[0] * k[1]; b++) {
                        /* `a` steps over the side with one number a window, `to` over the other */
                        const int64_t *near = c->transposed ? c->in : c->out,
                                      *far = c->transposed ? c->out : c->in;
                        int64_t to[2] = {a / near[1], a % near[1]};
                        const int64_t at[2] = {b / k[1], b % k[1]};
                        for (int axis = 0; axis < 2; axis++)
                            to[axis] = to[axis] * c->window.stride[axis] +
                                       at[axis] * c->window.dilation[axis] - c->window.pad[axis];
                        if (to[0] < 0 || to[0] >= far[0] || to[1] < 0 || to[1] >= far[1]) continue;
                        const int64_t there = to[0] * far[1] + to[1];
                        const int64_t from = (n * ni + i) * c->in[0] * c->in[1] + (c->transposed ? a : there);
                        const int64_t into =
                            (n * no + o) * c->out[0] * c->out[1] + (c->transposed ? there : a);
                        const int64_t filter = c->transposed ? i * c->no + o % c->no : o * c->ni + i % c->ni;
                        y[into] += (double)x[from] * (double)w[filter * k[0] * k[1] + b];
                    }
}

static nd_graph *graph_of(const nd_case *c, nd_rng *rng, int *weights, int *bias) {
    const int64_t ni = c->groups * c->ni, no = c->groups * c->no, *k = c->window.kernel;
    const int64_t x_dims[] = {c->batch, ni, c->row ? c->in[1] : c->in[0], c->in[1]};
    const int64_t w_dims[] = {c->transposed ? ni : no, c->transposed ? c->no : c->ni, c->row ? k[1] : k[0],
                              k[1]};
    nd_graph *graph = new_graph("convolve");
    nd_node *node;
    const int x = add_input(graph, "x", c->row ? 3 : 4, x_dims);
    *weights = add_normals(graph, "w", c->row ? 3 : 4, w_dims, rng, 1);
    *bias = add_normals(graph, "b", 1, &no, rng, 1);
    const int y = add_node(graph, c->transposed ? nd_op_conv_transpose : nd_op_conv_1d, "it",
                           (int[]){x, *weights, *bias}, 3, &node);
    node->attr.window = c->window;
    node->attr.groups = c->groups;
    finish(graph, y, c->batch);
    return graph;
}

static void expect_case(nd_backend *backend, const nd_case *c, nd_rng *rng) {
    const int64_t n_x = c->batch * c->groups * c->ni * c->in[0] * c->in[1],
                  n_y = c->batch * c->groups * c->no * c->out[0] * c->out[1];
    int w, b;
    nd_exec *exec;
    nd_graph *graph = graph_of(c, rng, &w, &b);
    float *x = nd_alloc_array((size_t)n_x, sizeof *x), *got = nd_alloc_array((size_t)n_y, sizeof *got);
    double *want = nd_alloc_array((size_t)n_y, sizeof *want);
    const nd_value *y = &graph->values[graph->outputs[0]];
    for (int64_t i = 0; i < n_x; i++) x[i] = (float)nd_rng_normal(rng);
    cr_assert_eq(nd_dims_count(y->rank, y->dims), n_y);
    scatter(c, x, graph->values[w].init->data, graph->values[b].init->data, want);
    OK(nd_exec_open(backend, graph, NULL, &exec));
    OK(nd_exec_run(exec, c->batch, (const float *[]){x}, (float *[]){got}));
    for (int64_t i = 0; i < n_y; i++)
        cr_assert(fabs((double)got[i] - want[i]) < 1e-4,
                  "%s: kernel %dx%d stride %dx%d dilation %dx%d pad %d,%d,%d,%d in %dx%d: [%d] %g, not %g",
                  backend->name, (int)c->window.kernel[0], (int)c->window.kernel[1], (int)c->window.stride[0],
                  (int)c->window.stride[1], (int)c->window.dilation[0], (int)c->window.dilation[1],
                  (int)c->window.pad[0], (int)c->window.pad[1], (int)c->window.pad[2], (int)c->window.pad[3],
                  (int)c->in[0], (int)c->in[1], (int)i, (double)got[i], want[i]);
    nd_exec_close(exec);
    nd_graph_free(graph);
    free(x);
    free(got);
    free(want);
}

Test(convolve, equals_the_sum_over_its_definition) {
    static const char *const names[] = {"ref", "cpu"};
    for (int k = 0; k < 2; k++) {
        nd_backend *backend;
        nd_rng rng = nd_rng_seed(17);
        if (nd_backend_open(names[k], &(nd_backend_settings){0}, &backend)) continue;
        for (int i = 0; i < 300; i++) {
            nd_case c;
            if (draw(&rng, &c)) expect_case(backend, &c, &rng);
        }
        nd_backend_close(backend);
    }
}
