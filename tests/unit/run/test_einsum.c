/* Einsum against its definition: a sum over all axes of both operands. */
#include "model/onnx/onnx_parts.h"
#include "run/executor.h"
#include "run/plugins.h"
#include "tests/unit/help/graph_help.h"

#include <math.h>

enum { letters = 128 };

/* The place of an element in an operand, given the index of every letter. */
static int64_t place_of(const int64_t *names, int64_t n, const int64_t *sizes, const int64_t *index) {
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) at = at * sizes[names[i]] + index[names[i]];
    return at;
}

static void expect_einsum(nd_backend *backend, const char *equation) {
    nd_graph *graph = new_graph("einsum");
    nd_node *node;
    nd_attr attr = {.groups = 1};
    int64_t sizes[letters] = {0}, dims[2][nd_rank_max], total = 1;
    float x[2][400], got[400];
    double want[400] = {0};
    nd_rng rng = nd_rng_seed(3);
    cr_assert(nd_onnx_einsum(equation, &attr), "%s", equation);
    for (int c = 'a'; c <= 'z'; c++) total *= sizes[c] = strchr(equation, c) ? 2 + c % 3 : 1;
    const int64_t *const names[] = {attr.list, attr.ends}, ranks[] = {attr.n, attr.size};
    int in[2];
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < ranks[k]; i++) dims[k][i] = sizes[names[k][i]];
        in[k] = add_input(graph, k ? "b" : "a", (int)ranks[k], dims[k]);
        for (int i = 0; i < 400; i++) x[k][i] = (float)nd_rng_normal(&rng);
    }
    const int y = add_node(graph, nd_op_einsum, NULL, in, 2, &node);
    node->attr = attr;
    finish(graph, y, dims[0][0]);
    for (int64_t i = 0; i < total; i++) {
        int64_t index[letters] = {0}, rest = i;
        for (int c = 'a'; c <= 'z'; c++) {
            index[c] = rest % sizes[c];
            rest /= sizes[c];
        }
        want[place_of(attr.axes, attr.groups, sizes, index)] +=
            (double)x[0][place_of(attr.list, attr.n, sizes, index)] *
            (double)x[1][place_of(attr.ends, attr.size, sizes, index)];
    }
    nd_exec *exec;
    OK(nd_exec_open(backend, graph, NULL, &exec));
    OK(nd_exec_run(exec, dims[0][0], (const float *[]){x[0], x[1]}, (float *[]){got}));
    const int64_t count = nd_dims_count(graph->values[y].rank, graph->values[y].dims);
    for (int64_t i = 0; i < count; i++)
        cr_assert(fabs((double)got[i] - want[i]) < 1e-5, "%s: [%d] %g, not %g", equation, (int)i,
                  (double)got[i], want[i]);
    nd_exec_close(exec);
    nd_graph_free(graph);
}

Test(einsum, equals_the_sum_over_its_definition) {
    static const char *const equations[] = {"bij,bjk->bik", "bihd,bjhd->bhij", "bhij,bjhd->bihd",
                                            "bi,bj->bji",   "bij,bji->b",      "bij,bij->bij",
                                            "bij,jk",       "bcd, bde -> bec", "bihd,bhdj->bjih"};
    nd_backend *backend;
    OK(nd_backend_open("ref", NULL, &backend));
    for (size_t i = 0; i < sizeof equations / sizeof *equations; i++) expect_einsum(backend, equations[i]);
    nd_backend_close(backend);
}

Test(einsum, what_is_no_product_of_two_is_left_alone) {
    static const char *const refused[] = {"bij->bji",     "...ij,jk->...ik", "bii,bi->b", "bij,bk->bk",
                                          "bij,bjk->biz", "bij,bjk-bik",     "",          "a,b->,"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        nd_attr attr = {.groups = 1};
        cr_expect_not(nd_onnx_einsum(refused[i], &attr), "%s", refused[i]);
    }
}
