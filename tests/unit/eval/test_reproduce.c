#include "eval/reproduce.h"
#include "model/zoo/zoo.h"
#include "run/plugins.h"
#include "tests/unit/help/graph_help.h"

#include <stdio.h>
#include <stdlib.h>

/* --- the tables */

#define HEADER "table,row,model,method,rank,layers,dense,extra_macs,quantity,value,unit,kind,needs,source\n"

Test(paper, reads_a_line_into_its_setting) {
    const char *text =
        HEADER "t,a row,vgg16,pwdw,5,features.19=4 features.2=dense,first features.28,7,conv_macs,"
               "8.610,G,derived,drop calib,somewhere\n";
    nd_paper_table table;
    cr_assert_eq(nd_paper_parse(text, strlen(text), "t.csv", &table), nd_status_ok, "%s", nd_error());
    cr_assert_eq(table.n_values, 1);
    const nd_paper_value *value = &table.values[0];
    cr_expect_str_eq(value->row, "a row");
    cr_expect(value->rank == 5 && value->extra_macs == 7 && value->digits == 3 && !value->first_conv);
    cr_expect_float_eq(value->value, 8.61, 1e-12);
    cr_assert(value->n_layers == 2 && value->n_skip == 1);
    cr_expect_str_eq(value->layers[1].pattern, "features.2");
    cr_expect_str_eq(value->layers[1].setting, "dense");
    cr_expect_str_eq(value->skip[0], "features.28");
    nd_paper_free(&table);
}

Test(paper, names_the_line_and_field_that_is_wrong) {
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "t.csv:1"},
        {"row,value\n", "t.csv:1"},
        {HEADER "a,b\n", "t.csv:2: 2 columns"},
        {HEADER "t,r,m,pwdw,,,,,conv_macs,x,G,derived,,s\n", "t.csv:2: value"},
        {HEADER "t,r,m,pwdw,x,,,,conv_macs,1,G,derived,,s\n", "t.csv:2: rank"},
        {HEADER "t,r,m,pwdw,-1,,,,conv_macs,1,G,derived,,s\n", "t.csv:2: rank"},
        {HEADER "t,r,m,pwdw,,,,x,conv_macs,1,G,derived,,s\n", "t.csv:2: extra_macs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_paper_table table;
        cr_expect_eq(nd_paper_parse(cases[i].text, strlen(cases[i].text), "t.csv", &table), nd_status_format);
        cr_expect(strstr(nd_error(), cases[i].says), "%s", nd_error());
    }
    nd_paper_table table;
    cr_expect_eq(nd_paper_read("table9", &table), nd_status_usage);
}

/* Every bundled table: what follows from an architecture is equal to the printed digits, and the rest says
 * what it needs. What a user's counter printed includes operations that no multiply-accumulate is in. */
Test(reproduce, everything_that_needs_no_weights_agrees) {
    const nd_reproduce_settings settings = nd_reproduce_defaults();
    size_t computed = 0, missing = 0;
    for (const nd_paper_title *title = nd_paper_titles; title->name; title++) {
        nd_paper_table table;
        cr_assert_eq(nd_paper_read(title->name, &table), nd_status_ok, "%s", nd_error());
        cr_assert_gt(table.n_values, 0, "%s", title->name);
        nd_reproduced results[64];
        cr_assert_leq(table.n_values, 64);
        cr_assert_eq(nd_reproduce(&table, &settings, results), nd_status_ok, "%s", nd_error());
        for (size_t i = 0; i < table.n_values; i++) {
            const nd_paper_value *value = &table.values[i];
            cr_expect(strlen(value->source) > 0, "%s: %s", title->name, value->row);
            cr_expect_eq(*value->needs != '\0', results[i].missing != NULL, "%s: %s", title->name,
                         value->row);
            missing += results[i].missing != NULL;
            computed += !results[i].missing;
            if (results[i].missing) continue;
            if (!strcmp(value->kind, "reported"))
                cr_expect_float_eq(results[i].ours, value->value, 0.04, "%s: %s", title->name, value->row);
            else
                cr_expect(results[i].same, "%s: %s: %s is %g, printed %g", title->name, value->row,
                          value->quantity, results[i].ours, value->value);
        }
        nd_paper_free(&table);
    }
    cr_expect_geq(computed, 70);
    cr_expect_geq(missing, 40);
}

/* --- measured drops, on a small network whose labels are its own best classes */

enum { side = 6, channels = 3, classes = 60, count = 40, width = 12 };

static int weights(nd_graph *graph, uint64_t seed, const char *name, int rank, const int64_t *dims) {
    nd_tensor tensor;
    OK(nd_zoo_random(&seed, name, rank, dims, &tensor));
    return add_tensor(graph, name, &tensor);
}

static nd_graph *small_network(void) {
    nd_graph *graph = new_graph("small");
    nd_node *node;
    int x = add_input(graph, "x", 4, (int64_t[]){-1, channels, side, side});
    for (int i = 0; i < 3; i++) {
        char name[16], weight[32];
        snprintf(name, sizeof name, "conv%d", i + 1);
        snprintf(weight, sizeof weight, "%s.weight", name);
        const int w = weights(graph, 3, weight, 4, (int64_t[]){width, i ? width : channels, 3, 3});
        x = add_node(graph, nd_op_conv, name, (int[]){x, w}, 2, &node);
        node->attr.window = (nd_window){{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
        snprintf(name, sizeof name, "relu%d", i + 1);
        x = add_node(graph, nd_op_relu, name, &x, 1, NULL);
    }
    x = add_node(graph, nd_op_flatten, "flatten", &x, 1, &node);
    node->attr.axis = 1;
    const int w = weights(graph, 3, "fc.weight", 2, (int64_t[]){classes, width * side * side});
    x = add_node(graph, nd_op_gemm, "fc", (int[]){x, w}, 2, &node);
    node->attr.trans_b = true;
    node->attr.alpha = node->attr.beta = 1;
    finish(graph, x, count);
    return graph;
}

typedef struct noise {
    nd_batches batches;
    float images[count * channels * side * side];
    int32_t labels[count];
    int64_t index[count];
    bool done;
    int passes;
} noise;

static nd_status noise_next(nd_batches *self, nd_batch *out) {
    noise *set = (noise *)self;
    *out = (nd_batch){
        .n = set->done ? 0 : count, .images = set->images, .labels = set->labels, .index = set->index};
    set->passes += !set->done;
    set->done = true;
    return nd_status_ok;
}

static nd_status noise_rewind(nd_batches *self) {
    ((noise *)self)->done = false;
    return nd_status_ok;
}

static void noise_close(nd_batches *self) {
    (void)self;
}

static void noise_fill(noise *set) {
    *set = (noise){.batches = {.channels = channels, .height = side, .width = side, .count = count}};
    set->batches.batch = count;
    set->batches.next = noise_next;
    set->batches.rewind = noise_rewind;
    set->batches.close = noise_close;
    nd_rng rng = nd_rng_seed(5);
    for (size_t i = 0; i < sizeof set->images / sizeof *set->images; i++)
        set->images[i] = (float)nd_rng_normal(&rng);
    for (int64_t i = 0; i < count; i++) set->index[i] = i;
}

Test(reproduce, turns_the_knob_to_the_wanted_drop) {
    static const struct {
        const char *name;
        double harshest; /* where 15/16 of the knob's way is: a threshold, or a ratio of at most 16 */
    } methods[] = {{"pwdw", 1.0 / 16}, {"dwpw", 1.0 / 16}, {"spatial", 13.4543}, {"channel", 13.4543}};
    static noise set;
    noise_fill(&set);
    nd_graph *graph = small_network();
    nd_reproduce_settings settings = nd_reproduce_defaults();
    cr_assert_eq(nd_backend_open("ref", &(nd_backend_settings){0}, &settings.backend), nd_status_ok);
    settings.graph = graph;
    settings.data = &set.batches;
    settings.batch = count;
    settings.steps = 4;
    const nd_accuracy_settings measure = {.backend = settings.backend, .batch = count};
    nd_accuracy original;
    cr_assert_eq(nd_accuracy_measure(graph, settings.data, &measure, &original), nd_status_ok, "%s",
                 nd_error());
    memcpy(set.labels, original.best, sizeof set.labels);
    nd_accuracy_free(&original);
    cr_assert_eq(nd_accuracy_measure(graph, settings.data, &measure, &original), nd_status_ok);
    cr_assert_eq(original.top1_correct, count);

    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const nd_paper_value value = {.method = methods[i].name, .needs = "drop"};
        nd_drop_probe point;
        settings.points = -1; /* nothing gains so much: the original stays */
        cr_assert_eq(nd_reproduce_drop(&value, &settings, &original, &point), nd_status_ok, "%s", nd_error());
        cr_expect_eq(point.after.conv_macs, point.before.conv_macs);
        settings.points = 100; /* anything goes: the harshest setting tried */
        cr_assert_eq(nd_reproduce_drop(&value, &settings, &original, &point), nd_status_ok, "%s", nd_error());
        const int64_t harshest = point.after.conv_macs;
        cr_expect_float_eq(point.setting, methods[i].harshest, 1e-4);
        cr_expect_lt(harshest, point.before.conv_macs / 3);
        const double worst = point.top5.points;
        cr_expect_gt(worst, 5, "the harshest setting loses: %g", worst);
        settings.steps = 9; /* below a rank of one term a knob can be turned without an effect */
        settings.points = 100;
        set.passes = 0;
        cr_assert_eq(nd_reproduce_drop(&value, &settings, &original, &point), nd_status_ok, "%s", nd_error());
        cr_expect_leq(set.passes, 6, "%s: %d of 9 settings were measured", value.method, set.passes);
        cr_expect_leq(point.after.conv_macs, harshest);
        settings.steps = 4;
        settings.points = worst / 2;
        cr_assert_eq(nd_reproduce_drop(&value, &settings, &original, &point), nd_status_ok, "%s", nd_error());
        cr_expect_leq(point.top5.points, settings.points);
        cr_expect_gt(point.after.conv_macs, harshest);
        cr_expect_eq(point.n, count);
    }
    nd_accuracy_free(&original);
    nd_graph_free(graph);
    nd_backend_close(settings.backend);
}

/* A run that was killed, or has another bound, goes on from what was measured; on other images nothing is
 * known. */
Test(reproduce, what_was_measured_is_kept) {
    static noise set;
    char folder[] = "/tmp/nd_test_reproduce_XXXXXX";
    noise_fill(&set);
    nd_graph *graph = small_network();
    nd_reproduce_settings settings = nd_reproduce_defaults();
    settings.graph = graph;
    settings.data = &set.batches;
    settings.batch = count;
    settings.steps = 4;
    cr_assert(mkdtemp(folder));
    settings.cache = folder;
    cr_assert_eq(nd_backend_open("ref", &(nd_backend_settings){0}, &settings.backend), nd_status_ok);
    const nd_accuracy_settings measure = {.backend = settings.backend, .batch = count};
    const char *const methods[] = {"pwdw", "spatial"};
    nd_accuracy original;
    cr_assert_eq(nd_accuracy_measure(graph, settings.data, &measure, &original), nd_status_ok);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const nd_paper_value value = {.method = methods[i], .needs = "drop"};
        nd_drop_probe first, again;
        set.passes = 0;
        OK(nd_reproduce_drop(&value, &settings, &original, &first));
        cr_expect_gt(set.passes, 0);
        set.passes = 0;
        OK(nd_reproduce_drop(&value, &settings, &original, &again));
        cr_expect_eq(set.passes, 0);
        cr_expect(again.reused && again.after.conv_macs == first.after.conv_macs &&
                  again.setting == first.setting && again.top5.points == first.top5.points);
        snprintf(set.batches.sha256, sizeof set.batches.sha256, "other images %zu", i);
        OK(nd_reproduce_drop(&value, &settings, &original, &again));
        cr_expect_gt(set.passes, 0);
    }
    nd_accuracy_free(&original);
    nd_graph_free(graph);
    nd_backend_close(settings.backend);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_expect_eq(system(command), 0);
}

Test(reproduce, refuses_another_network) {
    nd_graph *graph = small_network();
    nd_reproduce_settings settings = nd_reproduce_defaults();
    settings.graph = graph;
    nd_paper_table table;
    cr_assert_eq(nd_paper_read("vgg16-uniform", &table), nd_status_ok);
    nd_reproduced results[64];
    cr_expect_eq(nd_reproduce(&table, &settings, results), nd_status_usage);
    cr_expect(strstr(nd_error(), "about vgg16"), "%s", nd_error());
    nd_paper_free(&table);
    nd_graph_free(graph);
}

/* The convolutions of the table's network before another head, for smaller images: its ratios are those of
 * the table's own sizes, and ten classes are compared by top-1. */
static nd_graph *vgg_with_another_head(int64_t outputs, int64_t last_width) {
    static const int64_t widths[] = {64, 64,  0,   128, 128, 0,   256, 256, 256,
                                     0,  512, 512, 512, 0,   512, 512, 512};
    nd_graph *graph = new_graph("headless");
    nd_node *node;
    int64_t ni = 3;
    int x = add_input(graph, "x", 4, (int64_t[]){-1, 3, 32, 32});
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        const bool last = i + 1 == sizeof widths / sizeof *widths;
        if (!widths[i]) {
            x = add_node(graph, nd_op_max_pool, NULL, &x, 1, &node);
            node->attr.window = (nd_window){{2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}};
            continue;
        }
        const int64_t no = last ? last_width : widths[i];
        const int w = add_floats(graph, NULL, 4, (int64_t[]){no, ni, 3, 3}, NULL);
        x = add_node(graph, nd_op_conv, NULL, (int[]){x, w}, 2, &node);
        node->attr.window = (nd_window){{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
        ni = no;
    }
    x = add_node(graph, nd_op_global_average_pool, NULL, &x, 1, NULL);
    x = add_node(graph, nd_op_flatten, NULL, &x, 1, &node);
    node->attr.axis = 1;
    const int w = add_floats(graph, NULL, 2, (int64_t[]){outputs, ni}, NULL);
    x = add_node(graph, nd_op_gemm, NULL, (int[]){x, w}, 2, &node);
    node->attr.trans_b = true;
    node->attr.alpha = node->attr.beta = 1;
    finish(graph, x, 1);
    return graph;
}

Test(reproduce, the_same_convolutions_are_enough) {
    static const char text[] = HEADER "t,base,vgg16,none,,,,,conv_macs,15.35,G,published,,s\n";
    for (int64_t width = 512; width >= 504; width -= 8) {
        nd_graph *graph = vgg_with_another_head(10, width);
        nd_reproduce_settings settings = nd_reproduce_defaults();
        nd_paper_table table;
        nd_reproduced result;
        settings.graph = graph;
        OK(nd_paper_parse(text, strlen(text), "t.csv", &table));
        cr_expect_eq(nd_reproduce(&table, &settings, &result), width == 512 ? nd_status_ok : nd_status_usage);
        nd_paper_free(&table);
        nd_graph_free(graph);
    }
    nd_graph *few = vgg_with_another_head(10, 512), *many = vgg_with_another_head(1000, 512);
    cr_expect(nd_reproduce_by_top1(few));
    cr_expect_not(nd_reproduce_by_top1(many));
    nd_graph_free(few);
    nd_graph_free(many);
}
