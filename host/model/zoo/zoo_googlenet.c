#include "model/zoo/zoo_layers.h"

/* torchvision's BasicConv2d: PREFIX.conv, PREFIX.bn and a ReLU. */
static void zoo_basic(nd_zoo_builder *builder, const char *prefix, int64_t channels, nd_zoo_window window) {
    nd_zoo_conv(builder, nd_zoo_name(builder, "%s.conv", prefix), channels, window, false);
    nd_zoo_batchnorm(builder, nd_zoo_name(builder, "%s.bn", prefix));
    nd_zoo_relu(builder, nd_zoo_name(builder, "%s.relu", prefix));
}

typedef struct nd_zoo_inception {
    const char *name;
    int64_t point, reduce3, conv3, reduce5, conv5, pool;
} nd_zoo_inception;

/* The branch of the paper's 5x5 is a 3x3 in torchvision, whose weights these are. */
static void zoo_inception(nd_zoo_builder *builder, const nd_zoo_inception *block) {
    const nd_zoo_window point = {1, 1, 0}, same = {3, 1, 1}, pool = {3, 1, 1};
    const nd_zoo_place input = nd_zoo_here(builder);
    nd_zoo_place branches[4];
    zoo_basic(builder, nd_zoo_name(builder, "%s.branch1", block->name), block->point, point);
    branches[0] = nd_zoo_here(builder);
    nd_zoo_go(builder, input);
    zoo_basic(builder, nd_zoo_name(builder, "%s.branch2.0", block->name), block->reduce3, point);
    zoo_basic(builder, nd_zoo_name(builder, "%s.branch2.1", block->name), block->conv3, same);
    branches[1] = nd_zoo_here(builder);
    nd_zoo_go(builder, input);
    zoo_basic(builder, nd_zoo_name(builder, "%s.branch3.0", block->name), block->reduce5, point);
    zoo_basic(builder, nd_zoo_name(builder, "%s.branch3.1", block->name), block->conv5, same);
    branches[2] = nd_zoo_here(builder);
    nd_zoo_go(builder, input);
    nd_zoo_max_pool_ceil(builder, nd_zoo_name(builder, "%s.branch4.0", block->name), pool);
    zoo_basic(builder, nd_zoo_name(builder, "%s.branch4.1", block->name), block->pool, point);
    branches[3] = nd_zoo_here(builder);
    nd_zoo_concat(builder, nd_zoo_name(builder, "%s.concat", block->name), branches, 4);
}

/* At inference, so without the two classifiers that help its training. */
void nd_zoo_googlenet(nd_zoo_builder *builder, const nd_zoo_entry *entry) {
    static const nd_zoo_inception blocks[] = {
        {"inception3a", 64, 96, 128, 16, 32, 32},     {"inception3b", 128, 128, 192, 32, 96, 64},
        {"inception4a", 192, 96, 208, 16, 48, 64},    {"inception4b", 160, 112, 224, 24, 64, 64},
        {"inception4c", 128, 128, 256, 24, 64, 64},   {"inception4d", 112, 144, 288, 32, 64, 64},
        {"inception4e", 256, 160, 320, 32, 128, 128}, {"inception5a", 256, 160, 320, 32, 128, 128},
        {"inception5b", 384, 192, 384, 48, 128, 128},
    };
    const nd_zoo_window half = {3, 2, 0};
    builder->epsilon = 1e-3f;
    zoo_basic(builder, "conv1", 64, (nd_zoo_window){7, 2, 3});
    nd_zoo_max_pool_ceil(builder, "maxpool1", half);
    zoo_basic(builder, "conv2", 64, (nd_zoo_window){1, 1, 0});
    zoo_basic(builder, "conv3", 192, (nd_zoo_window){3, 1, 1});
    nd_zoo_max_pool_ceil(builder, "maxpool2", half);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (i == 2) nd_zoo_max_pool_ceil(builder, "maxpool3", half);
        if (i == 7) nd_zoo_max_pool_ceil(builder, "maxpool4", (nd_zoo_window){2, 2, 0});
        zoo_inception(builder, &blocks[i]);
    }
    nd_zoo_global_pool(builder, "avgpool");
    nd_zoo_linear(builder, "fc", entry->classes);
}
