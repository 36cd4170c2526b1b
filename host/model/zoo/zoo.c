#include "model/zoo/zoo_layers.h"

#include <string.h>

static const nd_zoo_alias nd_zoo_timm_vgg[] = {
    {"classifier.0.", "pre_logits.fc1."},
    {"classifier.3.", "pre_logits.fc2."},
    {"classifier.6.", "head.fc."},
    {NULL, NULL},
};
static const nd_zoo_alias nd_zoo_cifar_fc[] = {{"linear.", "fc."}, {NULL, NULL}};

/* DenseNet as torchvision's files of 2017 name it, and RepVGG as timm does. */
static const nd_zoo_alias nd_zoo_densenet_old[] = {
    {"norm1.", "norm.1."}, {"norm2.", "norm.2."}, {"conv1.", "conv.1."}, {"conv2.", "conv.2."}, {NULL, NULL}};
static const nd_zoo_alias nd_zoo_timm_repvgg[] = {{"stage0.", "stem."},
                                                  {"stage1.", "stages.0."},
                                                  {"stage2.", "stages.1."},
                                                  {"stage3.", "stages.2."},
                                                  {"stage4.", "stages.3."},
                                                  {"rbr_dense.", "conv_kxk."},
                                                  {"rbr_1x1.", "conv_1x1."},
                                                  {"rbr_identity.", "identity."},
                                                  {"rbr_reparam.", "reparam_conv."},
                                                  {"linear.", "head.fc."},
                                                  {NULL, NULL}};
/* lufficc/SSD over ssd.pytorch's names. */
static const nd_zoo_alias nd_zoo_ssd_headers[] = {{"vgg.", "backbone.vgg."},
                                                  {"extras.", "backbone.extras."},
                                                  {"L2Norm.", "backbone.l2_norm."},
                                                  {"conf.", "box_head.predictor.cls_headers."},
                                                  {"loc.", "box_head.predictor.reg_headers."},
                                                  {NULL, NULL}};
static const char *const nd_zoo_googlenet_training[] = {"aux1.", "aux2.", NULL};

/* The rows of a table: what differs in a family, over what does not. */
#define PLAN(...)                                                                                            \
    &(const nd_zoo_plan) {                                                                                   \
        __VA_ARGS__                                                                                          \
    }
#define VGG(norm, ...)                                                                                       \
    PLAN(.build = nd_zoo_vgg, .stages = {__VA_ARGS__}, .batchnorm = norm, .aliases = nd_zoo_timm_vgg,        \
         .head = "classifier.6")
#define RESNET(deep, ...)                                                                                    \
    PLAN(.build = nd_zoo_resnet, .stages = {__VA_ARGS__}, .bottleneck = deep, .head = "fc")
#define RESNEXT(number, each, ...)                                                                           \
    PLAN(.build = nd_zoo_resnet, .stages = {__VA_ARGS__}, .bottleneck = true, .groups = number,              \
         .group_width = each, .head = "fc")
#define CIFAR(blocks)                                                                                        \
    PLAN(.build = nd_zoo_resnet_cifar, .stages = {blocks, blocks, blocks}, .aliases = nd_zoo_cifar_fc,       \
         .head = "linear")
#define DENSENET(first, more, ...)                                                                           \
    PLAN(.build = nd_zoo_densenet, .stages = {__VA_ARGS__}, .width = first, .growth = more,                  \
         .aliases = nd_zoo_densenet_old, .head = "classifier")
#define REPVGG_PLAN(shape, number, ...)                                                                      \
    PLAN(.build = nd_zoo_repvgg, .stages = shape, .widths = {__VA_ARGS__}, .groups = number,                 \
         .aliases = nd_zoo_timm_repvgg, .head = "linear", .make = nd_zoo_repvgg_make)
#define REPVGG_A(...)         REPVGG_PLAN(BLOCKS(1, 2, 4, 14, 1), 0, __VA_ARGS__)
#define REPVGG_B(number, ...) REPVGG_PLAN(BLOCKS(1, 4, 6, 16, 1), number, __VA_ARGS__)
#define BLOCKS(...)                                                                                          \
    { __VA_ARGS__ }
#define SSD_ANCHORS(scales) "steps=8:16:32:64:100:300;scales=" scales ";ratios=2:2,3:2,3:2,3:2:2"
#define IMAGENET            3, 224, 224, 1000, "torchvision-224"
#define CIFAR10             3, 32, 32, 10, "cifar10"

#define VGG_TEXT      "arXiv 1409.1556; torchvision or timm (tv_in1k) weights"
#define RESNET_TEXT   "arXiv 1512.03385; torchvision or timm weights"
#define RESNEXT_TEXT  "arXiv 1611.05431; torchvision or timm weights"
#define DENSENET_TEXT "arXiv 1608.06993; torchvision or timm weights"
#define REPVGG_TEXT   "arXiv 2101.03697, as it runs; RepVGG's own or timm weights, of training or inference"
#define CIFAR_TEXT    "arXiv 1512.03385, option-A shortcuts; akamaster/pytorch_resnet_cifar10 weights"

const nd_zoo_entry nd_zoo_table[] = {
    {"alexnet", IMAGENET, "arXiv 1404.5997; torchvision weights",
     PLAN(.build = nd_zoo_alexnet, .head = "classifier.6")},
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
    {"resnext50_32x4d", IMAGENET, RESNEXT_TEXT, RESNEXT(32, 4, 3, 4, 6, 3)},
    {"resnext101_32x8d", IMAGENET, RESNEXT_TEXT, RESNEXT(32, 8, 3, 4, 23, 3)},
    {"resnext101_64x4d", 3, 224, 224, 1000, "torchvision-232", RESNEXT_TEXT, RESNEXT(64, 4, 3, 4, 23, 3)},
    {"densenet121", IMAGENET, DENSENET_TEXT, DENSENET(64, 32, 6, 12, 24, 16)},
    {"densenet161", IMAGENET, DENSENET_TEXT, DENSENET(96, 48, 6, 12, 36, 24)},
    {"densenet169", IMAGENET, DENSENET_TEXT, DENSENET(64, 32, 6, 12, 32, 32)},
    {"densenet201", IMAGENET, DENSENET_TEXT, DENSENET(64, 32, 6, 12, 48, 32)},
    {"googlenet", 3, 224, 224, 1000, "torchvision-224-half", "arXiv 1409.4842; torchvision weights",
     PLAN(.build = nd_zoo_googlenet, .head = "fc", .training = nd_zoo_googlenet_training)},
    {"mobilenet_v2", IMAGENET, "arXiv 1801.04381; torchvision weights",
     PLAN(.build = nd_zoo_mobilenet_v2, .head = "classifier.1")},
    {"repvgg_a0", IMAGENET, REPVGG_TEXT, REPVGG_A(48, 48, 96, 192, 1280)},
    {"repvgg_a1", IMAGENET, REPVGG_TEXT, REPVGG_A(64, 64, 128, 256, 1280)},
    {"repvgg_a2", IMAGENET, REPVGG_TEXT, REPVGG_A(64, 96, 192, 384, 1408)},
    {"repvgg_b0", IMAGENET, REPVGG_TEXT, REPVGG_B(0, 64, 64, 128, 256, 1280)},
    {"repvgg_b1", IMAGENET, REPVGG_TEXT, REPVGG_B(0, 64, 128, 256, 512, 2048)},
    {"repvgg_b1g4", IMAGENET, REPVGG_TEXT, REPVGG_B(4, 64, 128, 256, 512, 2048)},
    {"repvgg_b2", IMAGENET, REPVGG_TEXT, REPVGG_B(0, 64, 160, 320, 640, 2560)},
    {"repvgg_b3", IMAGENET, REPVGG_TEXT, REPVGG_B(0, 64, 192, 384, 768, 2560)},
    {"ssd300", 3, 300, 300, 21, "ssd-300",
     "arXiv 1512.02325, VOC; ssd.pytorch or lufficc/SSD weights; raw heads",
     PLAN(.build = nd_zoo_ssd300, .ssd = &nd_zoo_ssd_caffe,
          .anchors = SSD_ANCHORS("0.1:0.2:0.37:0.54:0.71:0.88:1.05"), .aliases = nd_zoo_ssd_headers,
          .head = "conf.0", .head_boxes = 4)},
    {"ssd300_vgg16", 3, 300, 300, 91, "torchvision-ssd-300",
     "arXiv 1512.02325, COCO; torchvision weights; raw heads",
     PLAN(.build = nd_zoo_ssd300, .ssd = &nd_zoo_ssd_torchvision,
          .anchors = SSD_ANCHORS("0.07:0.15:0.33:0.51:0.69:0.87:1.05"),
          .head = "head.classification_head.module_list.0", .head_boxes = 4)},
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
    if (entry->plan->anchors) ND_TRY_DONE(nd_graph_set_meta(graph, "nd.anchors", entry->plan->anchors));
    ND_TRY_DONE(nd_graph_sort(graph));
    *out = graph;
done:
    if (status) nd_graph_free(graph);
    return status;
}
