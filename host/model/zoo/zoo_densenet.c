#include "model/zoo/zoo_layers.h"

static void zoo_norm_relu_conv(nd_zoo_builder *builder, const char *prefix, const char *index,
                               int64_t channels, nd_zoo_window window) {
    nd_zoo_batchnorm(builder, nd_zoo_name(builder, "%s.norm%s", prefix, index));
    nd_zoo_relu(builder, nd_zoo_name(builder, "%s.relu%s", prefix, index));
    nd_zoo_conv(builder, nd_zoo_name(builder, "%s.conv%s", prefix, index), channels, window, false);
}

/* Every layer reads all that came before it in its block and adds `growth` channels. */
static void zoo_dense_block(nd_zoo_builder *builder, const char *prefix, int64_t layers, int64_t growth) {
    enum { bottleneck = 4 }; /* channels between the two convolutions, in growths */
    for (int64_t i = 1; i <= layers; i++) {
        const char *layer = nd_zoo_name(builder, "%s.denselayer%d", prefix, (int)i);
        const nd_zoo_place input = nd_zoo_here(builder);
        zoo_norm_relu_conv(builder, layer, "1", bottleneck * growth, (nd_zoo_window){1, 1, 0});
        zoo_norm_relu_conv(builder, layer, "2", growth, (nd_zoo_window){3, 1, 1});
        const nd_zoo_place parts[] = {input, nd_zoo_here(builder)};
        nd_zoo_concat(builder, nd_zoo_name(builder, "%s.concat", layer), parts, 2);
    }
}

void nd_zoo_densenet(nd_zoo_builder *builder, const nd_zoo_entry *entry) {
    const nd_zoo_plan *plan = entry->plan;
    nd_zoo_conv(builder, "features.conv0", plan->width, (nd_zoo_window){7, 2, 3}, false);
    nd_zoo_batchnorm(builder, "features.norm0");
    nd_zoo_relu(builder, "features.relu0");
    nd_zoo_max_pool(builder, "features.pool0", (nd_zoo_window){3, 2, 1});
    for (int i = 0; i < nd_zoo_stages_max && plan->stages[i]; i++) {
        zoo_dense_block(builder, nd_zoo_name(builder, "features.denseblock%d", i + 1), plan->stages[i],
                        plan->growth);
        if (i + 1 == nd_zoo_stages_max || !plan->stages[i + 1]) break;
        const char *transition = nd_zoo_name(builder, "features.transition%d", i + 1);
        zoo_norm_relu_conv(builder, transition, "", builder->channels / 2, (nd_zoo_window){1, 1, 0});
        nd_zoo_average_pool(builder, nd_zoo_name(builder, "%s.pool", transition), (nd_zoo_window){2, 2, 0});
    }
    nd_zoo_batchnorm(builder, "features.norm5");
    nd_zoo_relu(builder, "relu");
    nd_zoo_global_pool(builder, "avgpool");
    nd_zoo_linear(builder, "classifier", entry->classes);
}
