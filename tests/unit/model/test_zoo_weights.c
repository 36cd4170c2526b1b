/* Architectures with the weights of a file, by name. */
#include "base/log.h"
#include "model/model.h"
#include "tests/unit/help/zoo_help.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

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

static bool nested(char *name, nd_tensor *tensor) {
    (void)tensor;
    char plain[name_size];
    strcpy(plain, name);
    snprintf(name, name_size, "model.module._orig_mod.model.%.160s", plain);
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
    static bool (*const dresses[])(char *, nd_tensor *) = {with_module, nested, as_double, as_fc};
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

/* --- warnings */

static char warning[2000];

static void hear(void *user, nd_log_level level, const char *message) {
    (void)user;
    if (level == nd_log_warn) snprintf(warning, sizeof warning, "%s", message);
}

/* What stands beside the network is left with a warning; a layer more within it is another network. */
Test(zoo, warns_of_what_is_not_used) {
    nd_graph *graph;
    char want[65], got[65];
    cr_assert_eq(nd_zoo_open("resnet20", NULL, &graph), nd_status_ok);
    nd_graph_sha256(graph, want);
    nd_log_set(hear, NULL);
    add_floats(graph, "layer1.0.total_ops", 1, (int64_t[]){1}, NULL);
    add_floats(graph, "criterion.weight", 2, (int64_t[]){4, 4}, NULL);
    cr_expect_eq(through_file(graph, "resnet20", got), nd_status_ok, "%s", nd_error());
    cr_expect_str_eq(got, want);
    cr_expect(strstr(warning, "not used: criterion.weight, layer1.0.total_ops"), "%s", warning);
    add_floats(graph, "layer1.3.conv1.weight", 4, (int64_t[]){16, 16, 3, 3}, NULL);
    cr_expect_eq(through_file(graph, "resnet20", got), nd_status_format);
    cr_expect(strstr(nd_error(), "unknown layer1.3.conv1.weight"), "%s", nd_error());
    nd_graph_free(graph);
}

static bool few_classes(char *name, nd_tensor *tensor) {
    if (!strncmp(name, "linear.", 7)) tensor->dims[0] = 7;
    return true;
}

Test(zoo, has_as_many_classes_as_the_head_of_the_file) {
    nd_graph *graph, *again;
    char path[64];
    cr_assert_eq(nd_zoo_open("resnet20", NULL, &graph), nd_status_ok);
    nd_graph *other = changed(graph, few_classes);
    in_tmp(path, "head");
    cr_assert_eq(nd_safetensors_write(other, path), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_zoo_open("resnet20", path, &again), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_graph_infer(again, &(nd_infer_settings){.batch = 2}), nd_status_ok, "%s", nd_error());
    cr_expect_eq(again->values[again->outputs[0]].dims[1], 7);
    nd_graph_free(again);
    nd_graph_free(other);
    nd_graph_free(graph);
    unlink(path);
}

/* --- RepVGG of training: three branches that become one convolution */

static void add_random(nd_graph *graph, nd_rng *rng, const char *name, int rank, const int64_t *dims,
                       bool positive) {
    nd_tensor tensor;
    cr_assert_eq(nd_tensor_new(nd_dtype_f32, rank, dims, &tensor), nd_status_ok);
    for (int64_t i = 0; i < nd_tensor_count(&tensor); i++) {
        const float x = (float)nd_rng_normal(rng);
        ((float *)tensor.data)[i] = positive ? 0.5f + fabsf(x) : x;
    }
    add_tensor(graph, name, &tensor);
}

static void add_norm(nd_graph *graph, nd_rng *rng, const char *prefix, int64_t channels) {
    static const char *const names[] = {"weight", "bias", "running_mean", "running_var"};
    for (int i = 0; i < 4; i++) {
        char name[200];
        snprintf(name, sizeof name, "%s.%s", prefix, names[i]);
        add_random(graph, rng, name, 1, &channels, i == 3);
    }
}

/* The training form of an architecture, under the names of RepVGG's authors or of timm. */
static nd_graph *training_form(const nd_graph *graph, bool timm) {
    static const char *const parts[][3] = {{"rbr_dense", "rbr_1x1", "rbr_identity"},
                                           {"conv_kxk", "conv_1x1", "identity"}};
    nd_graph *out;
    nd_rng rng = nd_rng_seed(3);
    cr_assert_eq(nd_graph_new("training", &out), nd_status_ok);
    for (int i = 0; i < graph->n_nodes; i++) {
        const nd_node *node = &graph->nodes[i];
        const char *end = strstr(node->name, ".rbr_reparam");
        if (!end) continue;
        const nd_tensor *weight = nd_graph_constant(graph, node, 1);
        char block[64], name[160];
        const int stage = node->name[5] - '0';
        if (!timm)
            snprintf(block, sizeof block, "%.*s", (int)(end - node->name), node->name);
        else if (!stage)
            strcpy(block, "stem");
        else
            snprintf(block, sizeof block, "stages.%d%.*s", stage - 1, (int)(end - node->name - 6),
                     node->name + 6);
        for (int part = 0; part < 2; part++) {
            const int64_t side = part ? 1 : 3;
            const int64_t dims[] = {weight->dims[0], weight->dims[1], side, side};
            snprintf(name, sizeof name, "%s.%s.conv.weight", block, parts[timm][part]);
            add_random(out, &rng, name, 4, dims, false);
            snprintf(name, sizeof name, "%s.%s.bn", block, parts[timm][part]);
            add_norm(out, &rng, name, weight->dims[0]);
        }
        snprintf(name, sizeof name, "%s.%s", block, parts[timm][2]);
        if (node->attr.window.stride[0] == 1) add_norm(out, &rng, name, weight->dims[0]);
    }
    const nd_tensor *head = graph->values[nd_graph_find_value(graph, "linear.weight")].init;
    add_random(out, &rng, timm ? "head.fc.weight" : "linear.weight", 2, head->dims, false);
    add_random(out, &rng, timm ? "head.fc.bias" : "linear.bias", 1, head->dims, false);
    return out;
}

static const float *numbers(const nd_graph *graph, const char *block, const char *rest) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", block, rest);
    const int value = nd_graph_find_value(graph, name);
    cr_assert(value >= 0, "%s", name);
    return graph->values[value].init->data;
}

static double normed(const nd_graph *graph, const char *block, const char *norm, int64_t c, double x) {
    char name[64];
    const float *of[4];
    static const char *const names[] = {"weight", "bias", "running_mean", "running_var"};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s", norm, names[i]);
        of[i] = numbers(graph, block, name);
    }
    return (x - of[2][c]) / sqrt(of[3][c] + 1e-5) * of[0][c] + of[1][c];
}

/* One pixel of a block by its three branches, against the one convolution. */
static void expect_same_pixel(const nd_graph *training, const nd_graph *graph, const char *block, int64_t no,
                              int64_t ni) {
    nd_rng rng = nd_rng_seed(9);
    float *patch = nd_alloc_array((size_t)(9 * no), sizeof *patch); /* of all channels */
    for (int64_t i = 0; i < 9 * no; i++) patch[i] = (float)nd_rng_normal(&rng);
    const float *w3 = numbers(training, block, "rbr_dense.conv.weight");
    const float *w1 = numbers(training, block, "rbr_1x1.conv.weight");
    const float *w = numbers(graph, block, "rbr_reparam.weight"),
                *b = numbers(graph, block, "rbr_reparam.bias");
    for (int64_t o = 0; o < no; o++) {
        const float *in = patch + 9 * (o / ni * ni); /* groups are as wide in as out */
        double dense = 0, point = 0, one = b[o];
        for (int64_t i = 0; i < ni; i++) {
            point += (double)w1[o * ni + i] * in[9 * i + 4];
            for (int k = 0; k < 9; k++) {
                dense += (double)w3[9 * (o * ni + i) + k] * in[9 * i + k];
                one += (double)w[9 * (o * ni + i) + k] * in[9 * i + k];
            }
        }
        const double want = normed(training, block, "rbr_dense.bn", o, dense) +
                            normed(training, block, "rbr_1x1.bn", o, point) +
                            normed(training, block, "rbr_identity", o, patch[9 * o + 4]);
        cr_assert_float_eq(one, want, 1e-3, "%s, channel %lld: %g, %g", block, (long long)o, one, want);
    }
    free(patch);
}

Test(zoo, sums_up_the_branches_of_repvgg) {
    char path[64];
    in_tmp(path, "branches");
    nd_graph *plain = blank("repvgg_a0");
    nd_graph *training[] = {training_form(plain, false), training_form(plain, true)};
    char sha[2][65];
    for (int timm = 0; timm < 2; timm++) {
        nd_graph *graph;
        cr_assert_eq(nd_safetensors_write(training[timm], path), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_zoo_open("repvgg_a0", path, &graph), nd_status_ok, "%s", nd_error());
        nd_graph_sha256(graph, sha[timm]);
        if (!timm) expect_same_pixel(training[0], graph, "stage1.1", 48, 48);
        nd_graph_free(graph);
    }
    cr_expect_str_eq(sha[0], sha[1]);
    nd_graph *other;
    cr_expect_eq(nd_zoo_open("repvgg_a1", path, &other), nd_status_format);
    nd_graph_free(plain);
    nd_graph_free(training[0]);
    nd_graph_free(training[1]);
    unlink(path);
}

static bool as_of_2017(char *name, nd_tensor *tensor) {
    (void)tensor;
    for (int i = 1; i <= 2; i++) {
        for (int norm = 0; norm < 2; norm++) {
            char now[32], plain[name_size];
            snprintf(now, sizeof now, ".%s%d.", norm ? "norm" : "conv", i);
            char *at = strstr(name, "denselayer") ? strstr(name, now) : NULL;
            if (!at) continue;
            strcpy(plain, at + strlen(now));
            sprintf(at, ".%s.%d.%s", norm ? "norm" : "conv", i, plain);
        }
    }
    return true;
}

Test(zoo, takes_the_first_names_of_densenet) {
    nd_graph *graph;
    char want[65], got[65];
    cr_assert_eq(nd_zoo_open("densenet121", NULL, &graph), nd_status_ok);
    nd_graph_sha256(graph, want);
    nd_graph *old = changed(graph, as_of_2017);
    cr_expect(nd_graph_find_value(old, "features.denseblock4.denselayer16.norm.2.running_var") >= 0);
    cr_assert_eq(through_file(old, "densenet121", got), nd_status_ok, "%s", nd_error());
    cr_expect_str_eq(got, want);
    nd_graph_free(old);
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
        if (access(path, R_OK))
            cr_skip_test("no real networks in %s; set ND_DATA", root ? root : ND_SOURCE_DIR);
        nd_graph *graph;
        cr_expect_eq(nd_zoo_open(archs[i], path, &graph), nd_status_ok, "%s", nd_error());
        nd_graph_free(graph);
        cr_expect_eq(nd_zoo_open(archs[!i], path, &graph), nd_status_format);
    }
}

/* The checkpoints of PyTorch that the safetensors files were made of. */
Test(zoo, reads_the_published_checkpoints) {
    const char *root = getenv("ND_DATA") ? getenv("ND_DATA") : ND_SOURCE_DIR "/../shared/data";
    static const struct {
        const char *arch, *file;
    } published[] = {{"resnet20", "resnet20-12fca82f.th"}, {"resnet56", "resnet56-4bfd9763.th"}};
    for (size_t i = 0; i < 2; i++) {
        char checkpoint[512], plain[512], want[65], got[65];
        snprintf(checkpoint, sizeof checkpoint, "%s/cifar10-resnet/%s", root, published[i].file);
        snprintf(plain, sizeof plain, "%s/models/%s-cifar10.safetensors", root, published[i].arch);
        if (access(checkpoint, R_OK) || access(plain, R_OK)) cr_skip_test("%s is not there", checkpoint);
        nd_graph *graph;
        cr_assert_eq(nd_zoo_open(published[i].arch, plain, &graph), nd_status_ok, "%s", nd_error());
        nd_graph_sha256(graph, want);
        nd_graph_free(graph);
        cr_assert_eq(nd_zoo_open(published[i].arch, checkpoint, &graph), nd_status_ok, "%s", nd_error());
        nd_graph_sha256(graph, got);
        cr_expect_str_eq(got, want, "%s", checkpoint);
        nd_graph_free(graph);
    }
}
