/* Networks that went through a file before and after they were decoupled. */
#include "model/model.h"
#include "tests/unit/help/net_help.h"

#include <stdio.h>
#include <unistd.h>

static void write_net(const char *path, const int64_t *picked, int64_t count) {
    nd_graph *graph = new_graph("picks");
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    const int a = add_conv(graph, "a", x, 6, 3, 3, 1, 1);
    const int b = add_conv(graph, "b", add_gather(graph, a, picked, count), 4, count, 3, 1, 3);
    OK(nd_graph_add_output(graph, b));
    OK(nd_onnx_write(graph, path));
    nd_graph_free(graph);
}

static nd_graph *read_net(const char *path) {
    nd_graph *graph = NULL;
    OK(nd_model_open(path, &graph));
    OK(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1, .allow_opaque = true}));
    return graph;
}

/* Channels that a Gather of the file passes over go from the convolution before it: the indices in the file
 * count those that are left, also where they have become all of them in their order. */
Test(written, a_gather_of_the_file_counts_the_channels_that_are_left) {
    static const int64_t picks[][3] = {{1, 3, 5}, {5, 1, 3}, {0, 1, 2}, {2, 2, 4}};
    char folder[] = "/tmp/nd-written-XXXXXX", in[64], out[64];
    nd_backend *backend;
    OK(nd_backend_open("cpu", &(nd_backend_settings){0}, &backend));
    cr_assert(mkdtemp(folder));
    snprintf(in, sizeof in, "%s/in.onnx", folder);
    snprintf(out, sizeof out, "%s/out.onnx", folder);
    for (size_t p = 0; p < sizeof picks / sizeof *picks; p++) {
        write_net(in, picks[p], 3);
        nd_graph *graph = read_net(in), *original = read_net(in);
        nd_decouple_settings settings = nd_decouple_defaults();
        settings.method = "dwpw";
        settings.target = 9; /* nothing is lost */
        nd_decouple_report report = decouple_net(graph, backend, &settings);
        OK(nd_model_save(graph, out));
        nd_graph *again = read_net(out);
        cr_expect_lt(nd_cost_graph(again).total_macs, report.after.total_macs + 1);
        cr_expect_lt(logit_distance(backend, original, again, 2, 7), 1e-5, "picks %d", (int)p);
        nd_decouple_report_free(&report);
        nd_graph_free(graph);
        nd_graph_free(original);
        nd_graph_free(again);
        cr_expect(!unlink(in) && !unlink(out));
    }
    cr_expect(!rmdir(folder));
    nd_backend_close(backend);
}
