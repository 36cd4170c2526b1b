/* Models whose data lie outside of them. */
#include "tests/unit/help/onnx_help.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static nd_message external(const char *location, const char *offset, const char *length) {
    const char *const entries[][2] = {{"location", location}, {"offset", offset}, {"length", length}};
    nd_message tensor = tensor_head("w", 1, 4);
    for (int i = 0; i < 3; i++) {
        nd_message entry = {.used = 0};
        if (!entries[i][1]) continue;
        put_text(&entry, 1, entries[i][0]);
        put_text(&entry, 2, entries[i][1]);
        put_message(&tensor, external_field, &entry);
    }
    put_int(&tensor, location_field, 1);
    return tensor;
}

Test(onnx, external_data) {
    char folder[32], path[96], other[96];
    static const float floats[] = {0, 2, 3, 5, 7};
    nd_graph *graph;
    temporary(folder);
    snprintf(path, sizeof path, "%s/sub", folder);
    cr_assert_eq(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/sub/data", folder);
    write_file(path, floats, sizeof floats);

    nd_message tensor = external("sub/data", "4", "16");
    cr_assert_eq(parse_with(&tensor, folder, &graph), nd_status_ok, "%s", nd_error());
    cr_assert_arr_eq(nd_graph_constant(graph, &graph->nodes[0], 1)->data, floats + 1, 16);
    nd_graph_free(graph);
    tensor = external("sub/data", NULL, NULL);
    cr_assert_eq(parse_with(&tensor, folder, &graph), nd_status_ok, "%s", nd_error());
    nd_graph_free(graph);

    snprintf(other, sizeof other, "%s/soft", folder);
    cr_assert_eq(symlink(path, other), 0);
    snprintf(other, sizeof other, "%s/folder", folder);
    cr_assert_eq(symlink("sub", other), 0);
    const struct {
        const char *location, *offset, *length;
        nd_status status;
    } refused[] = {
        {"sub/../sub/data", "4", "16", nd_status_input},
        {"../data", "0", "16", nd_status_input},
        {path, "4", "16", nd_status_input},
        {"soft", "4", "16", nd_status_input},
        {"folder/data", "4", "16", nd_status_input},
        {"sub", "0", "16", nd_status_input},
        {"absent", "0", "16", nd_status_input},
        {"", "0", "16", nd_status_format},
        {"sub/data", "8", "16", nd_status_format},
        {"sub/data", "-4", "16", nd_status_format},
        {"sub/data", "18446744073709551612", "16", nd_status_format},
        {"sub/data", "9223372036854775807", "16", nd_status_format},
        {"sub/data", "4", "12", nd_status_format},
        {"sub/data", "4x", "16", nd_status_format},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        tensor = external(refused[i].location, refused[i].offset, refused[i].length);
        expect_error(parse_with(&tensor, folder, &graph), refused[i].status, "'w'");
    }
    tensor = external("sub/data", "4", "16");
    expect_error(parse_with(&tensor, NULL, &graph), nd_status_format, "refused");
    snprintf(other, sizeof other, "%s/hard", folder);
    cr_assert_eq(link(path, other), 0);
    tensor = external("hard", "4", "16");
    expect_error(parse_with(&tensor, folder, &graph), nd_status_input, "hard");
    clear(folder);
}

/* In folder/old.onnx, whose data lie in folder/sub: y = Add(x, w), or the same within a branch of an If. */
static nd_graph *read_with_data(const char *folder, const char *location, bool nested) {
    char path[96];
    nd_graph *graph;
    nd_message body = {.used = 0}, choice = node("If", "x", NULL, "y"), branch = {.used = 0},
               attribute = {.used = 0};
    const nd_message tensor = external(location, NULL, NULL), add = node("Add", "x", "w", nested ? "z" : "y"),
                     z = value_info("z", 0, NULL);
    nd_message *around = nested ? &branch : &body;
    put_message(around, 1, &add);
    put_message(around, 5, &tensor);
    if (nested) {
        put_text(&branch, 2, "branch");
        put_message(&branch, 12, &z);
        put_text(&attribute, 1, "then_branch");
        put_message(&attribute, 6, &branch);
        put_text(&choice, 3, "choice");
        put_message(&choice, 5, &attribute);
        put_message(&body, 1, &choice);
    }
    const nd_message whole = model(body, 13);
    snprintf(path, sizeof path, "%s/old.onnx", folder);
    write_file(path, whole.bytes, whole.used);
    cr_assert_eq(nd_onnx_read(path, &graph), nd_status_ok, "%s", nd_error());
    return graph;
}

static void expect_file(const char *folder, const char *name, const void *bytes, size_t size) {
    char path[96];
    nd_buffer *found;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(nd_file_map(path, &found), nd_status_ok, "%s", nd_error());
    cr_assert(found->bytes == size && !memcmp(found->data, bytes, size), "%s", name);
    nd_buffer_unref(found);
}

/* Data that move to a new model go into a file that no other model has: not the original's, nor
 * a stranger's. */
Test(onnx, data_of_another_model_are_not_written_over) {
    char folder[32], path[96], beside[128];
    static const float floats[] = {2, 3, 5, 7}, others[] = {1, 1, 2, 3, 5};
    temporary(folder);
    snprintf(path, sizeof path, "%s/sub", folder);
    cr_assert_eq(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/sub/new.onnx.data", folder);
    write_file(path, floats, sizeof floats);
    snprintf(path, sizeof path, "%s/sub/new.onnx.1.data", folder);
    write_file(path, others, sizeof others);
    nd_graph *graph = read_with_data(folder, "sub/new.onnx.data", false), *again;
    snprintf(path, sizeof path, "%s/sub/new.onnx", folder);
    for (int pass = 0; pass < 4; pass++) { /* another name while the model that is replaced has data */
        cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_onnx_read(path, &again), nd_status_ok, "%s", nd_error());
        cr_assert_arr_eq(nd_graph_constant(again, &again->nodes[0], 1)->data, floats, sizeof floats);
        nd_graph_free(again);
        expect_file(folder, "sub/new.onnx.data", floats, sizeof floats);
        expect_file(folder, "sub/new.onnx.1.data", others, sizeof others);
        snprintf(beside, sizeof beside, "sub/new.onnx.%d.data", 2 + pass % 2);
        expect_file(folder, beside, floats, sizeof floats);
        snprintf(beside, sizeof beside, "%s.%d.data", path, 3 - pass % 2);
        cr_assert(access(beside, F_OK));
    }
    nd_graph_free(graph);
    clear(folder);
}

/* A model that is written where it was read from: as it was, and with an operand of its own in the place of
 * its data, which are let go. */
Test(onnx, data_of_a_model_in_its_own_place) {
    char folder[32], path[96], data[128];
    static const float floats[] = {2, 3, 5, 7};
    nd_graph *again;
    temporary(folder);
    snprintf(data, sizeof data, "%s/old.onnx.data", folder);
    write_file(data, floats, sizeof floats);
    nd_graph *graph = read_with_data(folder, "old.onnx.data", false);
    snprintf(path, sizeof path, "%s/old.onnx", folder);
    for (int pass = 0; pass < 2; pass++) {
        if (pass) graph->nodes[0].edited = 1 << 1;
        cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_onnx_read(path, &again), nd_status_ok, "%s", nd_error());
        cr_assert_arr_eq(nd_graph_constant(again, &again->nodes[0], 1)->data, floats, sizeof floats);
        nd_graph_free(again);
        cr_assert_eq(!access(data, F_OK), !pass);
    }
    nd_graph_free(graph);
    clear(folder);
}

/* Each says by its metadata which data are its own. */
static void write_for_ever(nd_graph *const graphs[2], int first, const char *path) {
    for (int i = first;; i = !i)
        if (nd_onnx_write(graphs[i], path)) _exit(1);
}

/* Killed at any moment: a model and its own data. */
Test(onnx, model_and_data_stay_a_pair, .timeout = 60) {
    enum { kills = 60, floats = 4 };
    float numbers[2][floats];
    char folder[32], path[96], name[2];
    nd_graph *graphs[2], *found;
    int seen[2] = {0};
    temporary(folder);
    snprintf(path, sizeof path, "%s/new", folder);
    cr_assert_eq(mkdir(path, 0777), 0);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < floats; k++) numbers[i][k] = (float)(i + 1);
        snprintf(path, sizeof path, "%s/sub%d", folder, i);
        write_file(path, numbers[i], sizeof numbers[i]);
        snprintf(path, sizeof path, "sub%d", i);
        graphs[i] = read_with_data(folder, path, false);
        snprintf(name, sizeof name, "%d", i);
        cr_assert_eq(nd_graph_set_meta(graphs[i], "own", name), nd_status_ok);
        snprintf(path, sizeof path, "%s/old.onnx", folder);
        cr_assert_eq(unlink(path), 0, "its bytes are the graph's");
    }
    snprintf(path, sizeof path, "%s/new/m.onnx", folder);
    cr_assert_eq(nd_onnx_write(graphs[0], path), nd_status_ok, "%s", nd_error());
    for (int i = 0; i < kills; i++) {
        int how;
        const pid_t child = fork();
        cr_assert_geq(child, 0);
        if (!child) write_for_ever(graphs, i % 2, path);
        usleep((useconds_t)(1000 + i * 7919 % 60000)); /* some are written in that time */
        cr_assert_eq(kill(child, SIGKILL), 0);
        cr_assert_eq(waitpid(child, &how, 0), child);
        cr_assert(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL, "it ended by itself");
        cr_assert_eq(nd_onnx_read(path, &found), nd_status_ok, "%s", nd_error());
        const int own = atoi(nd_graph_meta(found, "own"));
        const float *data = nd_graph_constant(found, &found->nodes[0], 1)->data;
        cr_assert_eq(data[0], (float)(own + 1), "the model with the data of the other");
        seen[own]++;
        nd_graph_free(found);
    }
    cr_assert(seen[0] && seen[1], "one of them was never written");
    nd_graph_free(graphs[0]);
    nd_graph_free(graphs[1]);
    clear(folder);
}

/* Tensors within nodes do not move: the file is written where it finds their data, or not at all. */
Test(onnx, data_of_subgraphs_stay_in_reach) {
    char folder[32], path[96];
    static const float floats[] = {2, 3, 5, 7};
    temporary(folder);
    snprintf(path, sizeof path, "%s/sub", folder);
    cr_assert_eq(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/old.data", folder);
    write_file(path, floats, sizeof floats);
    nd_graph *graph = read_with_data(folder, "old.data", true);
    snprintf(path, sizeof path, "%s/sub/m.onnx", folder);
    expect_error(nd_onnx_write(graph, path), nd_status_unsupported, "node 'choice' holds tensors whose data");
    cr_assert(access(path, F_OK), "nothing is written");
    snprintf(path, sizeof path, "%s/m.onnx", folder);
    cr_assert_eq(nd_onnx_write(graph, path), nd_status_ok, "%s", nd_error());
    nd_graph_free(graph);
    clear(folder);
}
