#include "model/infer/infer.h"
#include "model/model.h"
#include "model/zoo/zoo.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static nd_graph *blank(const char *arch) {
    nd_graph *graph;
    cr_assert_eq(nd_zoo_build(nd_zoo_find(arch), nd_zoo_blank, NULL, &graph), nd_status_ok, "%s", nd_error());
    return graph;
}

Test(zoo, every_architecture_infers_to_its_classes) {
    for (size_t i = 0; i < nd_zoo_count; i++) {
        const nd_zoo_entry *entry = &nd_zoo_table[i];
        cr_expect_eq(nd_zoo_find(entry->name), entry);
        nd_graph *graph = blank(entry->name);
        cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 2}), nd_status_ok, "%s: %s",
                     entry->name, nd_error());
        const nd_value *out = &graph->values[graph->outputs[0]];
        cr_expect(graph->n_outputs == 1 && out->rank == 2 && out->dims[0] == 2 &&
                      out->dims[1] == entry->classes,
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
        {"alexnet", 61100840, 16},    {"vgg11", 132863336, 22},     {"vgg13_bn", 133053736, 66},
        {"vgg16", 138357544, 32},     {"vgg16_bn", 138365992, 84},  {"vgg19", 143667240, 38},
        {"resnet18", 11689512, 102},  {"resnet34", 21797672, 182},  {"resnet50", 25557032, 267},
        {"resnet101", 44549160, 522}, {"resnet152", 60192808, 777}, {"resnet20", 269722, 97},
        {"resnet56", 853018, 277},    {"resnet110", 1727962, 547},
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

/* --- files */

static void in_tmp(char path[64], const char *what) {
    snprintf(path, 64, P_tmpdir "/nd_zoo_%d_%s.safetensors", (int)getpid(), what);
}

/* Hash of the graph that `arch` makes of the initializers of `graph`, saved to a file first. */
static nd_status through_file(const nd_graph *graph, const char *arch, char sha[65]) {
    char path[64];
    in_tmp(path, "trip");
    cr_assert_eq(nd_safetensors_write(graph, path), nd_status_ok, "%s", nd_error());
    nd_graph *again;
    nd_status status = nd_zoo_open(arch, path, &again);
    if (!status) nd_graph_sha256(again, sha);
    nd_graph_free(again);
    unlink(path);
    return status;
}

enum { name_size = 200 };

/* A copy whose initializers went through `change`, which edits name and tensor and returns false to leave it
 * out. */
static nd_graph *changed(const nd_graph *graph, bool (*change)(char *name, nd_tensor *tensor)) {
    nd_graph *copy;
    cr_assert_eq(nd_graph_new("copy", &copy), nd_status_ok);
    for (int i = 0; i < graph->n_values; i++) {
        if (!graph->values[i].init) continue;
        char name[name_size];
        snprintf(name, sizeof name, "%s", graph->values[i].name);
        nd_tensor tensor = nd_tensor_share(graph->values[i].init);
        int value;
        if (change(name, &tensor)) cr_assert_eq(nd_graph_add_init(copy, name, &tensor, &value), nd_status_ok);
        nd_tensor_free(&tensor);
    }
    return copy;
}

static bool with_module(char *name, nd_tensor *tensor) {
    (void)tensor;
    char plain[name_size];
    strcpy(plain, name);
    snprintf(name, name_size, "module.%.180s", plain);
    return true;
}

static bool as_double(char *name, nd_tensor *tensor) {
    (void)name;
    nd_tensor wide;
    cr_assert_eq(nd_tensor_new(nd_dtype_f64, tensor->rank, tensor->dims, &wide), nd_status_ok);
    for (int64_t i = 0; i < nd_tensor_count(tensor); i++)
        ((double *)wide.data)[i] = ((float *)tensor->data)[i];
    nd_tensor_free(tensor);
    *tensor = wide;
    return true;
}

static bool as_fc(char *name, nd_tensor *tensor) {
    (void)tensor;
    if (!strcmp(name, "linear.weight")) strcpy(name, "fc.weight");
    if (!strcmp(name, "linear.bias")) strcpy(name, "fc.bias");
    return true;
}

Test(zoo, reads_its_own_weights_back_in_every_accepted_dress) {
    static bool (*const dresses[])(char *, nd_tensor *) = {with_module, as_double, as_fc};
    nd_graph *graph;
    cr_assert_eq(nd_zoo_open("resnet20", NULL, &graph), nd_status_ok);
    char want[65], got[65];
    nd_graph_sha256(graph, want);
    cr_assert_eq(through_file(graph, "resnet20", got), nd_status_ok, "%s", nd_error());
    cr_expect_str_eq(got, want);
    for (size_t i = 0; i < sizeof dresses / sizeof *dresses; i++) {
        nd_graph *dressed = changed(graph, dresses[i]);
        cr_expect_eq(through_file(dressed, "resnet20", got), nd_status_ok, "%s", nd_error());
        cr_expect_str_eq(got, want, "dress %zu", i);
        nd_graph_free(dressed);
    }
    nd_graph_free(graph);
}

static bool mistreat(char *name, nd_tensor *tensor) {
    if (!strcmp(name, "layer1.0.conv1.weight")) return false;
    if (!strcmp(name, "layer2.0.bn1.bias")) strcpy(name, "layer2.0.bn1.offset");
    if (!strcmp(name, "conv1.weight")) tensor->dims[2] = 9, tensor->dims[3] = 1;
    return true;
}

Test(zoo, names_everything_that_does_not_fit_in_one_error) {
    nd_graph *graph;
    char sha[65];
    cr_assert_eq(nd_zoo_open("resnet20", NULL, &graph), nd_status_ok);
    nd_graph *bad = changed(graph, mistreat);
    cr_expect_eq(through_file(bad, "resnet20", sha), nd_status_format);
    static const char *const says[] = {"resnet20", "layer1.0.conv1.weight", "layer2.0.bn1.bias",
                                       "layer2.0.bn1.offset", "conv1.weight is 16x3x9x1, not 16x3x3x3"};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        cr_expect(strstr(nd_error(), says[i]), "'%s' is not in: %s", says[i], nd_error());
    nd_graph_free(bad);

    /* Too many to name: the first five, and how many more. */
    cr_expect_eq(through_file(graph, "resnet56", sha), nd_status_format);
    cr_expect(strstr(nd_error(), "more"), "%s", nd_error());
    nd_graph_set_meta(graph, "nd.method", "pwdw");
    cr_expect_eq(through_file(graph, "resnet56", sha), nd_status_format);
    cr_expect(strstr(nd_error(), "decoupled by nd (pwdw)"), "%s", nd_error());
    nd_graph_free(graph);
}

Test(zoo, refuses_unknown_architectures) {
    nd_graph *graph;
    cr_expect_eq(nd_zoo_open("vgg17", NULL, &graph), nd_status_usage);
    cr_expect_null(graph);
    cr_expect_eq(nd_zoo_open("vgg16", "/nonexistent", &graph), nd_status_input);
}

/* The classifier of timm's VGG is stored as convolutions under other names. Small stand-ins for the 4096-wide
 * layers would be another architecture, so the blank file is sparse: its zeros are never touched. */
Test(zoo, takes_timm_vgg_names) {
    static const struct {
        const char *from, *to;
    } names[] = {{"classifier.0.", "pre_logits.fc1."},
                 {"classifier.3.", "pre_logits.fc2."},
                 {"classifier.6.", "head.fc."}};
    nd_graph *graph = blank("vgg11");
    char path[64];
    in_tmp(path, "timm");
    char *header = NULL;
    size_t length;
    FILE *text = open_memstream(&header, &length);
    long long at = 0;
    for (int i = 0; i < graph->n_values; i++) {
        const nd_tensor *tensor = graph->values[i].init;
        if (!tensor) continue;
        char name[100], shape[100];
        snprintf(name, sizeof name, "%s", graph->values[i].name);
        nd_dims_format(tensor->rank, tensor->dims, shape, sizeof shape);
        for (size_t j = 0; j < 3; j++) {
            if (strncmp(name, names[j].from, strlen(names[j].from))) continue;
            snprintf(name, sizeof name, "%s%s", names[j].to, graph->values[i].name + strlen(names[j].from));
            if (tensor->rank == 2 && j < 2)
                snprintf(shape, sizeof shape, "%lldx%dx%dx%d", (long long)tensor->dims[0], j ? 4096 : 512,
                         j ? 1 : 7, j ? 1 : 7);
        }
        for (char *c = shape; *c; c++)
            if (*c == 'x') *c = ',';
        const long long end = at + (long long)nd_tensor_bytes(tensor);
        fprintf(text, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%lld,%lld]}",
                at ? "," : "{", name, shape, at, end);
        at = end;
    }
    fputs("}", text);
    fclose(text);
    FILE *file = fopen(path, "wb");
    for (int i = 0; i < 8; i++) putc((int)(length >> 8 * i & 0xff), file);
    fwrite(header, 1, length, file);
    fflush(file);
    cr_assert_eq(ftruncate(fileno(file), (off_t)(8 + (off_t)length + at)), 0);
    fclose(file);
    free(header);
    nd_graph_free(graph);
    cr_expect_eq(nd_zoo_open("vgg11", path, &graph), nd_status_ok, "%s", nd_error());
    nd_graph_free(graph);
    unlink(path);
}

Test(zoo, reads_the_real_cifar_networks) {
    const char *root = getenv("ND_DATA");
    static const char *const archs[] = {"resnet20", "resnet56"};
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/models/%s-cifar10.safetensors",
                 root ? root : ND_SOURCE_DIR "/../shared/data", archs[i]);
        if (access(path, R_OK)) cr_skip_test("%s is not there", path);
        nd_graph *graph;
        cr_expect_eq(nd_zoo_open(archs[i], path, &graph), nd_status_ok, "%s", nd_error());
        nd_graph_free(graph);
        cr_expect_eq(nd_zoo_open(archs[!i], path, &graph), nd_status_format);
    }
}
