#include "model/cost.h"
#include "tests/unit/help/zoo_help.h"

#include <math.h>

Test(zoo, every_architecture_infers_to_its_classes) {
    for (size_t i = 0; i < nd_zoo_count; i++) {
        const nd_zoo_entry *entry = &nd_zoo_table[i];
        cr_expect_eq(nd_zoo_find(entry->name), entry);
        nd_graph *graph = blank(entry->name);
        cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 2}), nd_status_ok, "%s: %s",
                     entry->name, nd_error());
        const nd_value *out = &graph->values[graph->outputs[0]];
        const bool detector = strstr(entry->name, "ssd") != NULL; /* scores of every box, and boxes */
        cr_expect(graph->n_outputs == 1 + detector && out->rank == 2 + detector && out->dims[0] == 2 &&
                      out->dims[out->rank - 1] == entry->classes,
                  "%s", entry->name);
        nd_graph_free(graph);
    }
}

/* Parameters of the networks as their publishers count them (torchvision's model pages; the CIFAR networks'
 * table 6 rounds these). */
Test(zoo, has_the_known_number_of_parameters) {
    static const struct {
        const char *arch;
        int64_t parameters, tensors;
    } known[] = {
        {"alexnet", 61100840, 16},
        {"vgg11", 132863336, 22},
        {"vgg13_bn", 133053736, 66},
        {"vgg16", 138357544, 32},
        {"vgg16_bn", 138365992, 84},
        {"vgg19", 143667240, 38},
        {"resnet18", 11689512, 102},
        {"resnet34", 21797672, 182},
        {"resnet50", 25557032, 267},
        {"resnet101", 44549160, 522},
        {"resnet152", 60192808, 777},
        {"resnet20", 269722, 97},
        {"resnet56", 853018, 277},
        {"resnet110", 1727962, 547},
        {"resnext50_32x4d", 25028904, 267},
        {"resnext101_32x8d", 88791336, 522},
        {"resnext101_64x4d", 83455272, 522},
        {"densenet121", 7978856, 606},
        {"densenet161", 28681000, 806},
        {"densenet169", 14149480, 846},
        {"densenet201", 20013928, 1006},
        {"googlenet", 6624904, 287},
        {"mobilenet_v2", 3504872, 262},
        {"ssd300_vgg16", 35641826, 71},
        {"ssd300", 26285486, 71},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        nd_graph *graph = blank(known[i].arch);
        int64_t parameters = 0, tensors = 0;
        for (int j = 0; j < graph->n_values; j++) {
            const nd_value *value = &graph->values[j];
            if (!value->init) continue;
            tensors++;
            /* Running statistics are no parameters. */
            if (!strstr(value->name, ".running_")) parameters += nd_tensor_count(value->init);
        }
        cr_expect_eq(parameters, known[i].parameters, "%s: %lld", known[i].arch, (long long)parameters);
        cr_expect_eq(tensors, known[i].tensors, "%s: %lld tensors", known[i].arch, (long long)tensors);
        nd_graph_free(graph);
    }
}

/* The definition of SSD300 (Liu et al., ECCV 2016, figure 2 and section 3) in numbers of its own: input
 * channels, output channels, kernel, side of the output. */
Test(zoo, ssd300_costs_what_its_layers_do) {
    static const int64_t layers[][4] = {
        {3, 64, 3, 300},    {64, 64, 3, 300},  {64, 128, 3, 150}, {128, 128, 3, 150}, {128, 256, 3, 75},
        {256, 256, 3, 75},  {256, 256, 3, 75}, {256, 512, 3, 38}, {512, 512, 3, 38},  {512, 512, 3, 38},
        {512, 512, 3, 19},  {512, 512, 3, 19}, {512, 512, 3, 19}, {512, 1024, 3, 19}, {1024, 1024, 1, 19},
        {1024, 256, 1, 19}, {256, 512, 3, 10}, {512, 128, 1, 10}, {128, 256, 3, 5},   {256, 128, 1, 5},
        {128, 256, 3, 3},   {256, 128, 1, 3},  {128, 256, 3, 1},
    };
    static const int64_t maps[][3] = {{512, 38, 4}, {1024, 19, 6}, {512, 10, 6},
                                      {256, 5, 6},  {256, 3, 4},   {256, 1, 4}};
    static const struct {
        const char *arch;
        int64_t classes; /* and background */
    } cases[] = {{"ssd300", 21}, {"ssd300_vgg16", 91}};
    for (int c = 0; c < 2; c++) {
        int64_t macs = 0, boxes = 0;
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
            macs += layers[i][0] * layers[i][1] * layers[i][2] * layers[i][2] * layers[i][3] * layers[i][3];
        for (int i = 0; i < 6; i++) {
            const int64_t here = maps[i][1] * maps[i][1] * maps[i][2];
            macs += here * (cases[c].classes + 4) * maps[i][0] * 9;
            boxes += here;
        }
        nd_graph *graph = blank(cases[c].arch);
        cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}), nd_status_ok);
        cr_expect_eq(nd_cost_graph(graph).conv_macs, macs);
        cr_expect_eq(nd_cost_graph(graph).total_macs, macs);
        const nd_value *scores = &graph->values[graph->outputs[0]],
                       *offsets = &graph->values[graph->outputs[1]];
        cr_expect(boxes == 8732 && scores->dims[1] == boxes && scores->dims[2] == cases[c].classes);
        cr_expect(offsets->rank == 3 && offsets->dims[1] == boxes && offsets->dims[2] == 4);
        nd_graph_free(graph);
    }
}

/* As torchvision's model pages round them (in 10^9), and RepVGG's paper (table 1). */
Test(zoo, has_the_known_cost) {
    static const struct {
        const char *arch;
        double macs, parameters, step; /* 10^9, 10^6; 0 is none; of the last digit of the MACs */
    } known[] = {
        {"alexnet", 0.714, 0, 1e-3},
        {"vgg11", 7.609, 0, 1e-3},
        {"vgg16", 15.47, 0, 1e-2},
        {"resnet18", 1.814, 0, 1e-3},
        {"resnet50", 4.089, 0, 1e-3},
        {"resnet152", 11.514, 0, 1e-3},
        {"resnext50_32x4d", 4.23, 0, 1e-2},
        {"resnext101_32x8d", 16.414, 0, 1e-3},
        {"resnext101_64x4d", 15.46, 0, 1e-2},
        {"densenet121", 2.834, 0, 1e-3},
        {"densenet161", 7.728, 0, 1e-3},
        {"densenet169", 3.36, 0, 1e-2},
        {"densenet201", 4.291, 0, 1e-3},
        {"googlenet", 1.498, 0, 1e-3},
        {"mobilenet_v2", 0.301, 0, 1e-3},
        {"ssd300_vgg16", 34.858, 0, 1e-3},
        {"repvgg_a0", 1.4, 8.30, 0.1},
        {"repvgg_a1", 2.4, 12.78, 0.1},
        {"repvgg_a2", 5.1, 25.49, 0.1},
        {"repvgg_b0", 3.1, 14.33, 0.1},
        {"repvgg_b1", 11.8, 51.82, 0.1},
        {"repvgg_b1g4", 7.3, 36.12, 0.1},
        {"repvgg_b2", 18.4, 80.31, 0.1},
        {"repvgg_b3", 26.2, 110.96, 0.1},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        nd_graph *graph = blank(known[i].arch);
        cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}), nd_status_ok);
        const nd_cost cost = nd_cost_graph(graph);
        const double macs = (double)cost.total_macs * 1e-9, parameters = (double)cost.params * 1e-6;
        cr_expect_lt(fabs(macs - known[i].macs), 0.51 * known[i].step, "%s: %.5f", known[i].arch, macs);
        if (known[i].parameters > 0)
            cr_expect_lt(fabs(parameters - known[i].parameters), 0.01, "%s: %.4f", known[i].arch, parameters);
        nd_graph_free(graph);
    }
}

Test(zoo, random_weights_depend_on_seed_and_name_alone) {
    const int64_t dims[] = {64, 32, 3, 3};
    uint64_t seed = 7, other = 8;
    nd_tensor a, b, c, d;
    cr_assert_eq(nd_zoo_random(&seed, "x.weight", 4, dims, &a), nd_status_ok);
    cr_assert_eq(nd_zoo_random(&seed, "y.weight", 4, dims, &b), nd_status_ok);
    cr_assert_eq(nd_zoo_random(&other, "x.weight", 4, dims, &c), nd_status_ok);
    cr_assert_eq(nd_zoo_random(&seed, "x.weight", 4, dims, &d), nd_status_ok);
    const size_t bytes = nd_tensor_bytes(&a);
    cr_expect_arr_eq(a.data, d.data, bytes);
    cr_expect(memcmp(a.data, b.data, bytes) && memcmp(a.data, c.data, bytes));
    double sum = 0, squares = 0;
    const int64_t count = nd_tensor_count(&a);
    for (int64_t i = 0; i < count; i++) {
        const double x = ((float *)a.data)[i];
        sum += x;
        squares += x * x;
    }
    const double variance = 2.0 / (32 * 9);
    cr_expect_float_eq(sum / (double)count, 0, 5 * 0.09 / 136); /* 5 sigma of the mean of 18432 */
    cr_expect_float_eq(squares / (double)count / variance, 1, 5 * 1.4 / 136); /* and of the mean square */
    nd_tensor_free(&a);
    nd_tensor_free(&b);
    nd_tensor_free(&c);
    nd_tensor_free(&d);
}
