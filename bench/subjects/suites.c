#include "bench/subjects/suites.h"

#include <string.h>

/* Name, channels in and out, kernel, stride, height and width of the input, how often, whether it stays
 * dense, groups; padding keeps the size. */
#define SQUARE(layer, in, out, kernel_size, step, side, count, stays_dense, n_groups)                        \
    {                                                                                                        \
        .conv = {.name = (layer),                                                                            \
                 .no = (out),                                                                                \
                 .ni = (in),                                                                                 \
                 .groups = (n_groups),                                                                       \
                 .window = {.kernel = {(kernel_size), (kernel_size)},                                        \
                            .stride = {(step), (step)},                                                      \
                            .dilation = {1, 1},                                                              \
                            .pad = {(kernel_size) / 2, (kernel_size) / 2, (kernel_size) / 2,                 \
                                    (kernel_size) / 2}},                                                     \
                 .in_h = (side),                                                                             \
                 .in_w = (side)},                                                                            \
        .layers = (count), .dense = (stays_dense),                                                           \
    }

static const nd_bench_layer vgg16[] = {
    SQUARE("features.0", 3, 64, 3, 1, 224, 1, true, 1),
    SQUARE("features.2", 64, 64, 3, 1, 224, 1, false, 1),
    SQUARE("features.5", 64, 128, 3, 1, 112, 1, false, 1),
    SQUARE("features.7", 128, 128, 3, 1, 112, 1, false, 1),
    SQUARE("features.10", 128, 256, 3, 1, 56, 1, false, 1),
    SQUARE("features.12", 256, 256, 3, 1, 56, 2, false, 1),
    SQUARE("features.17", 256, 512, 3, 1, 28, 1, false, 1),
    SQUARE("features.19", 512, 512, 3, 1, 28, 2, false, 1),
    SQUARE("features.24", 512, 512, 3, 1, 14, 3, false, 1),
};

static const nd_bench_layer resnet18[] = {
    SQUARE("conv1", 3, 64, 7, 2, 224, 1, true, 1),
    SQUARE("layer1.0.conv1", 64, 64, 3, 1, 56, 4, false, 1),
    SQUARE("layer2.0.conv1", 64, 128, 3, 2, 56, 1, false, 1),
    SQUARE("layer2.0.conv2", 128, 128, 3, 1, 28, 3, false, 1),
    SQUARE("layer2.0.downsample.0", 64, 128, 1, 2, 56, 1, true, 1),
    SQUARE("layer3.0.conv1", 128, 256, 3, 2, 28, 1, false, 1),
    SQUARE("layer3.0.conv2", 256, 256, 3, 1, 14, 3, false, 1),
    SQUARE("layer3.0.downsample.0", 128, 256, 1, 2, 28, 1, true, 1),
    SQUARE("layer4.0.conv1", 256, 512, 3, 2, 14, 1, false, 1),
    SQUARE("layer4.0.conv2", 512, 512, 3, 1, 7, 3, false, 1),
    SQUARE("layer4.0.downsample.0", 256, 512, 1, 2, 14, 1, true, 1),
};

static const nd_bench_layer resnet50[] = {
    SQUARE("conv1", 3, 64, 7, 2, 224, 1, true, 1),
    SQUARE("layer1.0.conv1", 64, 64, 1, 1, 56, 1, true, 1),
    SQUARE("layer1.0.conv2", 64, 64, 3, 1, 56, 3, false, 1),
    SQUARE("layer1.0.conv3", 64, 256, 1, 1, 56, 4, true, 1),
    SQUARE("layer1.1.conv1", 256, 64, 1, 1, 56, 2, true, 1),
    SQUARE("layer2.0.conv1", 256, 128, 1, 1, 56, 1, true, 1),
    SQUARE("layer2.0.conv2", 128, 128, 3, 2, 56, 1, false, 1),
    SQUARE("layer2.0.conv3", 128, 512, 1, 1, 28, 4, true, 1),
    SQUARE("layer2.0.downsample.0", 256, 512, 1, 2, 56, 1, true, 1),
    SQUARE("layer2.1.conv1", 512, 128, 1, 1, 28, 3, true, 1),
    SQUARE("layer2.1.conv2", 128, 128, 3, 1, 28, 3, false, 1),
    SQUARE("layer3.0.conv1", 512, 256, 1, 1, 28, 1, true, 1),
    SQUARE("layer3.0.conv2", 256, 256, 3, 2, 28, 1, false, 1),
    SQUARE("layer3.0.conv3", 256, 1024, 1, 1, 14, 6, true, 1),
    SQUARE("layer3.0.downsample.0", 512, 1024, 1, 2, 28, 1, true, 1),
    SQUARE("layer3.1.conv1", 1024, 256, 1, 1, 14, 5, true, 1),
    SQUARE("layer3.1.conv2", 256, 256, 3, 1, 14, 5, false, 1),
    SQUARE("layer4.0.conv1", 1024, 512, 1, 1, 14, 1, true, 1),
    SQUARE("layer4.0.conv2", 512, 512, 3, 2, 14, 1, false, 1),
    SQUARE("layer4.0.conv3", 512, 2048, 1, 1, 7, 3, true, 1),
    SQUARE("layer4.0.downsample.0", 1024, 2048, 1, 2, 14, 1, true, 1),
    SQUARE("layer4.1.conv1", 2048, 512, 1, 1, 7, 2, true, 1),
    SQUARE("layer4.1.conv2", 512, 512, 3, 1, 7, 2, false, 1),
};

/* ResNet-20 for 32 x 32 images (He et al. 2016, section 4.2); its shortcuts have no parameters. */
static const nd_bench_layer cifar[] = {
    SQUARE("conv1", 3, 16, 3, 1, 32, 1, true, 1),
    SQUARE("layer1.0.conv1", 16, 16, 3, 1, 32, 6, false, 1),
    SQUARE("layer2.0.conv1", 16, 32, 3, 2, 32, 1, false, 1),
    SQUARE("layer2.0.conv2", 32, 32, 3, 1, 16, 5, false, 1),
    SQUARE("layer3.0.conv1", 32, 64, 3, 2, 16, 1, false, 1),
    SQUARE("layer3.0.conv2", 64, 64, 3, 1, 8, 5, false, 1),
};

/* The depthwise halves of VGG16's decoupled layers at T = 1 and 3: as near to copying as a
 * convolution comes. */
static const nd_bench_layer depthwise[] = {
    SQUARE("features.2 T=1", 64, 64, 3, 1, 224, 1, true, 64),
    SQUARE("features.2 T=3", 64, 192, 3, 1, 224, 1, true, 64),
    SQUARE("features.7 T=1", 128, 128, 3, 1, 112, 1, true, 128),
    SQUARE("features.7 T=3", 128, 384, 3, 1, 112, 1, true, 128),
    SQUARE("features.12 T=1", 256, 256, 3, 1, 56, 2, true, 256),
    SQUARE("features.12 T=3", 256, 768, 3, 1, 56, 2, true, 256),
    SQUARE("features.19 T=1", 512, 512, 3, 1, 28, 2, true, 512),
    SQUARE("features.19 T=3", 512, 1536, 3, 1, 28, 2, true, 512),
};

#define LAYERS(table) table, sizeof table / sizeof *table

static const nd_suite suites[] = {
    {"vgg16", "VGG16, 224 x 224", LAYERS(vgg16)},
    {"resnet18", "ResNet-18, 224 x 224", LAYERS(resnet18)},
    {"resnet50", "ResNet-50, 224 x 224, stride on the 3 x 3", LAYERS(resnet50)},
    {"cifar", "ResNet-20, 32 x 32", LAYERS(cifar)},
    {"depthwise", "depthwise convolutions of VGG16's shapes, 224 x 224", LAYERS(depthwise)},
};

const nd_suite *nd_suite_find(const char *name) {
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++)
        if (!strcmp(suites[i].name, name)) return &suites[i];
    return NULL;
}

int64_t nd_suite_macs(const nd_suite *suite) {
    int64_t macs = 0;
    for (size_t i = 0; i < suite->n_layers; i++)
        macs += suite->layers[i].layers * nd_conv_macs(&suite->layers[i].conv);
    return macs;
}
