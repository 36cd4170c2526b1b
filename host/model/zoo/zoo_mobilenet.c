#include "model/zoo/zoo_layers.h"

/* A convolution, "PREFIX.0", with its BatchNorm, "PREFIX.1", and ReLU6. */
static void zoo_conv_bn_relu6(nd_zoo_builder *builder, const char *prefix, int64_t channels,
                              nd_zoo_window window, int64_t groups) {
    nd_zoo_grouped_conv(builder, nd_zoo_name(builder, "%s.0", prefix), channels, window, groups, false);
    nd_zoo_batchnorm(builder, nd_zoo_name(builder, "%s.1", prefix));
    nd_zoo_relu6(builder, nd_zoo_name(builder, "%s.2", prefix));
}

/* Expansion, depthwise, and projection without an activation; a residual where the shape stays. */
static void zoo_inverted(nd_zoo_builder *builder, const char *prefix, int64_t expansion, int64_t channels,
                         int64_t stride) {
    const nd_zoo_place input = nd_zoo_here(builder);
    const int64_t hidden = expansion * builder->channels;
    int part = 0;
    if (expansion != 1)
        zoo_conv_bn_relu6(builder, nd_zoo_name(builder, "%s.conv.%d", prefix, part++), hidden,
                          (nd_zoo_window){1, 1, 0}, 1);
    zoo_conv_bn_relu6(builder, nd_zoo_name(builder, "%s.conv.%d", prefix, part++), hidden,
                      (nd_zoo_window){3, stride, 1}, hidden);
    nd_zoo_conv(builder, nd_zoo_name(builder, "%s.conv.%d", prefix, part), channels, (nd_zoo_window){1, 1, 0},
                false);
    nd_zoo_batchnorm(builder, nd_zoo_name(builder, "%s.conv.%d", prefix, part + 1));
    if (stride == 1 && input.channels == channels)
        nd_zoo_add(builder, nd_zoo_name(builder, "%s.add", prefix), input.value);
}

void nd_zoo_mobilenet_v2(nd_zoo_builder *builder, const nd_zoo_entry *entry) {
    static const struct {
        int64_t expansion, channels, blocks, stride;
    } stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                  {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    int index = 1;
    zoo_conv_bn_relu6(builder, "features.0", 32, (nd_zoo_window){3, 2, 1}, 1);
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        for (int64_t block = 0; block < stages[i].blocks; block++)
            zoo_inverted(builder, nd_zoo_name(builder, "features.%d", index++), stages[i].expansion,
                         stages[i].channels, block ? 1 : stages[i].stride);
    zoo_conv_bn_relu6(builder, nd_zoo_name(builder, "features.%d", index), 1280, (nd_zoo_window){1, 1, 0}, 1);
    nd_zoo_global_pool(builder, "avgpool");
    nd_zoo_linear(builder, "classifier.1", entry->classes);
}
