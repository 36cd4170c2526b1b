#include "model/zoo/zoo_layers.h"

#include <string.h>

static const nd_zoo_alias nd_zoo_timm_vgg[] = {
    {"classifier.0.", "pre_logits.fc1."},
    {"classifier.3.", "pre_logits.fc2."},
    {"classifier.6.", "head.fc."},
    {NULL, NULL},
};
static const nd_zoo_alias nd_zoo_cifar_fc[] = {{"linear.", "fc."}, {NULL, NULL}};

#define VGG(batchnorm, ...)                                                                                  \
    &(const nd_zoo_plan) {                                                                                   \
        nd_zoo_vgg, {__VA_ARGS__}, batchnorm, false, nd_zoo_timm_vgg                                         \
    }
#define RESNET(bottleneck, ...)                                                                              \
    &(const nd_zoo_plan) {                                                                                   \
        nd_zoo_resnet, {__VA_ARGS__}, true, bottleneck, NULL                                                 \
    }
#define CIFAR(blocks)                                                                                        \
    &(const nd_zoo_plan) {                                                                                   \
        nd_zoo_resnet_cifar, {blocks, blocks, blocks}, true, false, nd_zoo_cifar_fc                          \
    }
#define IMAGENET 3, 224, 224, 1000, "torchvision-224"
#define CIFAR10  3, 32, 32, 10, "cifar10"

#define VGG_TEXT    "arXiv 1409.1556; torchvision or timm (tv_in1k) weights"
#define RESNET_TEXT "arXiv 1512.03385; torchvision or timm weights"
#define CIFAR_TEXT  "arXiv 1512.03385, option-A shortcuts; akamaster/pytorch_resnet_cifar10 weights"

const nd_zoo_entry nd_zoo_table[] = {
    {"alexnet", IMAGENET, "arXiv 1404.5997; torchvision weights",
     &(const nd_zoo_plan){.build = nd_zoo_alexnet}},
    {"vgg11", IMAGENET, VGG_TEXT, VGG(false, 1, 1, 2, 2, 2)},
    {"vgg11_bn", IMAGENET, VGG_TEXT, VGG(true, 1, 1, 2, 2, 2)},
    {"vgg13", IMAGENET, VGG_TEXT, VGG(false, 2, 2, 2, 2, 2)},
    {"vgg13_bn", IMAGENET, VGG_TEXT, VGG(true, 2, 2, 2, 2, 2)},
    {"vgg16", IMAGENET, VGG_TEXT, VGG(false, 2, 2, 3, 3, 3)},
    {"vgg16_bn", IMAGENET, VGG_TEXT, VGG(true, 2, 2, 3, 3, 3)},
    {"vgg19", IMAGENET, VGG_TEXT, VGG(false, 2, 2, 4, 4, 4)},
    {"vgg19_bn", IMAGENET, VGG_TEXT, VGG(true, 2, 2, 4, 4, 4)},
    {"resnet18", IMAGENET, RESNET_TEXT, RESNET(false, 2, 2, 2, 2)},
    {"resnet34", IMAGENET, RESNET_TEXT, RESNET(false, 3, 4, 6, 3)},
    {"resnet50", IMAGENET, RESNET_TEXT, RESNET(true, 3, 4, 6, 3)},
    {"resnet101", IMAGENET, RESNET_TEXT, RESNET(true, 3, 4, 23, 3)},
    {"resnet152", IMAGENET, RESNET_TEXT, RESNET(true, 3, 8, 36, 3)},
    {"resnet20", CIFAR10, CIFAR_TEXT, CIFAR(3)},
    {"resnet32", CIFAR10, CIFAR_TEXT, CIFAR(5)},
    {"resnet44", CIFAR10, CIFAR_TEXT, CIFAR(7)},
    {"resnet56", CIFAR10, CIFAR_TEXT, CIFAR(9)},
    {"resnet110", CIFAR10, CIFAR_TEXT, CIFAR(18)},
};
const size_t nd_zoo_count = sizeof nd_zoo_table / sizeof *nd_zoo_table;

const nd_zoo_entry *nd_zoo_find(const char *name) {
    for (size_t i = 0; i < nd_zoo_count; i++)
        if (strcmp(nd_zoo_table[i].name, name) == 0) return &nd_zoo_table[i];
    return NULL;
}

nd_status nd_zoo_build(const nd_zoo_entry *entry, nd_zoo_source *source, void *context, nd_graph **out) {
    nd_zoo_builder builder = {.source = source, .context = context, .channels = entry->channels};
    *out = NULL;
    ND_TRY(nd_graph_new(entry->name, &builder.graph));
    nd_graph *graph = builder.graph;
    const int64_t dims[] = {-1, entry->channels, entry->height, entry->width};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(nd_graph_add_input(graph, "input", 4, dims, &builder.x));
    entry->plan->build(&builder, entry);
    ND_TRY_DONE(builder.status);
    ND_TRY_DONE(nd_graph_add_output(graph, builder.x));
    ND_TRY_DONE(nd_graph_set_meta(graph, "nd.architecture", entry->name));
    ND_TRY_DONE(nd_graph_set_meta(graph, "nd.preprocess", entry->preprocess));
    ND_TRY_DONE(nd_graph_sort(graph));
    *out = graph;
done:
    if (status) nd_graph_free(graph);
    return status;
}
