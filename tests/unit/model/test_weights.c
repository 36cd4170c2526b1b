#include "model/infer/infer.h"
#include "model/model.h"
#include "tests/unit/help/small_net.h"

#include <math.h>

static float *weight_of(nd_graph *graph, const char *name) {
    return (float *)graph->values[nd_graph_find_value(graph, name)].init->data;
}

/* Every weight of every layer that has some, by file and by hand. */
Test(weights, what_is_no_number_is_named_with_its_layer_and_place) {
    static const struct {
        float value;
        const char *text;
    } bad[] = {{NAN, "NaN"}, {INFINITY, "infinity"}, {-INFINITY, "infinity"}, {3e38f, "too large"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nd_graph *graph = small_net();
        OK(nd_model_check_weights(graph));
        weight_of(graph, "block.b.weight")[75] = bad[i].value;
        cr_assert_eq(nd_model_check_weights(graph), nd_status_format);
        cr_expect(strstr(nd_error(), "block.b") && strstr(nd_error(), bad[i].text) &&
                      strstr(nd_error(), "[1,0,1,0]"),
                  "%s", nd_error());
        nd_graph_free(graph);
    }
}

/* What folding makes is looked at as well: a variance of less than nothing. */
Test(weights, what_folding_makes_is_judged_too) {
    nd_graph *graph = small_net();
    int in[5] = {graph->outputs[0]}, y;
    const int64_t channels = 5;
    for (int k = 0; k < 4; k++) {
        nd_tensor tensor;
        OK(nd_tensor_new(nd_dtype_f32, 1, &channels, &tensor));
        for (int c = 0; c < 5; c++) ((float *)tensor.data)[c] = k == 3 ? -1 : 1;
        OK(nd_graph_add_init(graph, NULL, &tensor, &in[1 + k]));
        nd_tensor_free(&tensor);
    }
    in[0] = graph->nodes[graph->values[graph->outputs[0]].producer].in[0]; /* what the score layer writes */
    OK(nd_graph_add_value(graph, "normal", &y));
    OK(nd_graph_add_node(graph, nd_op_batchnorm, "norm", in, 5, &y, 1, NULL));
    nd_graph_replace_value(graph, in[0], y);
    graph->nodes[nd_graph_find_node(graph, "norm")].in[0] = in[0];
    OK(nd_graph_sort(graph));
    OK(nd_model_check_weights(graph));
    cr_assert_eq(nd_graph_fold(graph), nd_status_format);
    cr_assert(strstr(nd_error(), "score") && strstr(nd_error(), "NaN"), "%s", nd_error());
    nd_graph_free(graph);
}
