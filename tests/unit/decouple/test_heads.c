#include "decouple/calib/calibrate.h"
#include "tests/unit/help/graph_help.h"

/* What changes of a whole network are measured at. */

static int flatten(nd_graph *graph, int x) {
    nd_node *node;
    const int y = add_node(graph, nd_op_flatten, NULL, &x, 1, &node);
    node->attr.axis = 1;
    return y;
}

static int concat(nd_graph *graph, int a, int b) {
    nd_node *node;
    const int y = add_node(graph, nd_op_concat, NULL, (int[]){a, b}, 2, &node);
    node->attr.axis = 1;
    return y;
}

static int image(nd_graph *graph) {
    return add_input(graph, "x", 4, (int64_t[]){-1, 3, 4, 4});
}

Test(heads, of_a_classifier_are_its_scores_before_the_softmax) {
    nd_graph *graph = new_graph("classifier");
    nd_node *node;
    int heads[nd_heads_max];
    const int scores = flatten(graph, image(graph));
    const int y = add_node(graph, nd_op_softmax, NULL, &scores, 1, &node);
    node->attr.axis = 1;
    finish(graph, y, 1);
    cr_assert_eq(nd_graph_heads(graph, heads), 1);
    cr_expect_eq(heads[0], scores);
    nd_graph_free(graph);
}

Test(heads, of_a_detector_are_its_outputs_or_the_parts_of_the_only_one) {
    nd_graph *graph = new_graph("detector");
    int heads[nd_heads_max];
    const int x = image(graph), boxes = add_node(graph, nd_op_relu, NULL, &x, 1, NULL),
              scores = add_node(graph, nd_op_sigmoid, NULL, &x, 1, NULL);
    finish(graph, concat(graph, boxes, scores), 1);
    cr_assert_eq(nd_graph_heads(graph, heads), 2);
    cr_expect(heads[0] == boxes && heads[1] == scores);
    nd_graph_free(graph);

    graph = new_graph("two outputs");
    const int y = image(graph), one = add_node(graph, nd_op_relu, NULL, &y, 1, NULL),
              other = concat(graph, one, y);
    OK(nd_graph_add_output(graph, one));
    finish(graph, other, 1);
    cr_assert_eq(nd_graph_heads(graph, heads), 2);
    cr_expect(heads[0] == one && heads[1] == other);
    nd_graph_free(graph);
}
