#include "model/zoo/zoo_layers.h"

/* Two hidden layers of 4096. The numbers of the linear layers count the dropouts between them, which are left
 * out. */
static void zoo_classifier(nd_zoo_builder *builder, const nd_zoo_entry *entry, const int index[3]) {
    for (int i = 0; i < 2; i++) {
        nd_zoo_linear(builder, nd_zoo_name(builder, "classifier.%d", index[i]), 4096);
        nd_zoo_relu(builder, nd_zoo_name(builder, "classifier.%d", index[i] + 1));
    }
    nd_zoo_linear(builder, nd_zoo_name(builder, "classifier.%d", index[2]), entry->classes);
}

/* The adaptive 7x7 pool after the features is the identity at 224x224 and is left out. */
void nd_zoo_vgg(nd_zoo_builder *builder, const nd_zoo_entry *entry) {
    static const int64_t widths[nd_zoo_stages_max] = {64, 128, 256, 512, 512};
    const nd_zoo_plan *plan = entry->plan;
    int index = 0;
    for (int stage = 0; stage < nd_zoo_stages_max; stage++) {
        for (int64_t i = 0; i < plan->stages[stage]; i++) {
            nd_zoo_conv(builder, nd_zoo_name(builder, "features.%d", index++), widths[stage],
                        (nd_zoo_window){3, 1, 1}, true);
            if (plan->batchnorm) nd_zoo_batchnorm(builder, nd_zoo_name(builder, "features.%d", index++));
            nd_zoo_relu(builder, nd_zoo_name(builder, "features.%d", index++));
        }
        nd_zoo_max_pool(builder, nd_zoo_name(builder, "features.%d", index++), (nd_zoo_window){2, 2, 0});
    }
    nd_zoo_flatten(builder, "flatten", builder->channels * 7 * 7);
    zoo_classifier(builder, entry, (const int[]){0, 3, 6});
}

/* The single-column AlexNet. The adaptive 6x6 pool is the identity at 224x224 and is left out. */
void nd_zoo_alexnet(nd_zoo_builder *builder, const nd_zoo_entry *entry) {
    static const struct {
        int64_t channels;
        nd_zoo_window window;
        bool pool;
    } layers[] = {
        {64, {11, 4, 2}, true},  {192, {5, 1, 2}, true}, {384, {3, 1, 1}, false},
        {256, {3, 1, 1}, false}, {256, {3, 1, 1}, true},
    };
    int index = 0;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        nd_zoo_conv(builder, nd_zoo_name(builder, "features.%d", index++), layers[i].channels,
                    layers[i].window, true);
        nd_zoo_relu(builder, nd_zoo_name(builder, "features.%d", index++));
        if (layers[i].pool)
            nd_zoo_max_pool(builder, nd_zoo_name(builder, "features.%d", index++), (nd_zoo_window){3, 2, 0});
    }
    nd_zoo_flatten(builder, "flatten", builder->channels * 6 * 6);
    zoo_classifier(builder, entry, (const int[]){1, 4, 6});
}
