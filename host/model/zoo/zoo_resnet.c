#include "model/zoo/zoo_layers.h"

/* One convolution with its BatchNorm, "PREFIX.convN" and "PREFIX.bnN". */
static void zoo_unit(nd_zoo_builder *builder, const char *prefix, int index, int64_t channels,
                     nd_zoo_window window, int64_t groups) {
    nd_zoo_grouped_conv(builder, nd_zoo_name(builder, "%s.conv%d", prefix, index), channels, window, groups,
                        false);
    nd_zoo_batchnorm(builder, nd_zoo_name(builder, "%s.bn%d", prefix, index));
}

typedef struct nd_zoo_block {
    int64_t width, stride;
    int64_t groups, inner; /* of a bottleneck's 3x3, and its channels */
    bool bottleneck, option_a;
} nd_zoo_block;

/* The stride is on the 3x3 of a bottleneck, as in torchvision and timm, not on its first 1x1. */
static void zoo_branch(nd_zoo_builder *builder, const char *prefix, const nd_zoo_block *block) {
    const nd_zoo_window point = {1, 1, 0}, same = {3, 1, 1}, first = {3, block->stride, 1};
    zoo_unit(builder, prefix, 1, block->inner, block->bottleneck ? point : first, 1);
    nd_zoo_relu(builder, nd_zoo_name(builder, "%s.relu1", prefix));
    zoo_unit(builder, prefix, 2, block->inner, block->bottleneck ? first : same, block->groups);
    if (!block->bottleneck) return;
    nd_zoo_relu(builder, nd_zoo_name(builder, "%s.relu2", prefix));
    zoo_unit(builder, prefix, 3, 4 * block->width, point, 1);
}

static void zoo_residual(nd_zoo_builder *builder, const char *prefix, const nd_zoo_block *block) {
    const int input = builder->x;
    const int64_t ni = builder->channels, no = block->bottleneck ? 4 * block->width : block->width;
    zoo_branch(builder, prefix, block);
    const int branch = builder->x;
    builder->x = input;
    builder->channels = ni;
    if ((ni != no || block->stride != 1) && block->option_a) {
        nd_zoo_option_a(builder, nd_zoo_name(builder, "%s.shortcut", prefix), no);
    } else if (ni != no || block->stride != 1) {
        nd_zoo_conv(builder, nd_zoo_name(builder, "%s.downsample.0", prefix), no,
                    (nd_zoo_window){1, block->stride, 0}, false);
        nd_zoo_batchnorm(builder, nd_zoo_name(builder, "%s.downsample.1", prefix));
    }
    const int shortcut = builder->x;
    builder->x = branch;
    nd_zoo_add(builder, nd_zoo_name(builder, "%s.add", prefix), shortcut);
    nd_zoo_relu(builder, nd_zoo_name(builder, "%s.relu", prefix));
}

/* Stages of residual blocks, "layer1.0" on, each twice as wide and half as high as the one before. */
static void zoo_stages(nd_zoo_builder *builder, const nd_zoo_plan *plan, int64_t width, bool option_a) {
    const int64_t groups = plan->groups ? plan->groups : 1;
    for (int stage = 0; stage < nd_zoo_stages_max && plan->stages[stage]; stage++) {
        for (int64_t i = 0; i < plan->stages[stage]; i++) {
            const nd_zoo_block block = {
                .width = width << stage,
                .groups = groups,
                .inner = (width << stage) * groups * (plan->group_width ? plan->group_width : 64) / 64,
                .stride = stage > 0 && i == 0 ? 2 : 1,
                .bottleneck = plan->bottleneck,
                .option_a = option_a,
            };
            zoo_residual(builder, nd_zoo_name(builder, "layer%d.%d", stage + 1, (int)i), &block);
        }
    }
}

void nd_zoo_resnet(nd_zoo_builder *builder, const nd_zoo_entry *entry) {
    nd_zoo_conv(builder, "conv1", 64, (nd_zoo_window){7, 2, 3}, false);
    nd_zoo_batchnorm(builder, "bn1");
    nd_zoo_relu(builder, "relu");
    nd_zoo_max_pool(builder, "maxpool", (nd_zoo_window){3, 2, 1});
    zoo_stages(builder, entry->plan, 64, false);
    nd_zoo_global_pool(builder, "avgpool");
    nd_zoo_linear(builder, "fc", entry->classes);
}

void nd_zoo_resnet_cifar(nd_zoo_builder *builder, const nd_zoo_entry *entry) {
    nd_zoo_conv(builder, "conv1", 16, (nd_zoo_window){3, 1, 1}, false);
    nd_zoo_batchnorm(builder, "bn1");
    nd_zoo_relu(builder, "relu");
    zoo_stages(builder, entry->plan, 16, true);
    nd_zoo_global_pool(builder, "avgpool");
    nd_zoo_linear(builder, "linear", entry->classes);
}
