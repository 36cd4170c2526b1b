/* SSD300 (Liu et al., ECCV 2016): VGG16 with fc6 and fc7 as convolutions, fc6 dilated, eight more layers,
 * and heads over six sizes of features. Outputs are what the heads say of each default box, undecoded:
 * scores [n][8732][classes], background first, and offsets [n][8732][4]. */
#include "model/zoo/zoo_layers.h"

enum { nd_ssd_maps = 6, nd_ssd_backbone = 13, nd_ssd_extras = 8 };

/* Parameters as two programs call them. */
struct nd_zoo_ssd_names {
    const char *backbone[nd_ssd_backbone]; /* conv1_1 to conv5_3 */
    const char *fc6, *fc7, *norm;
    const char *extras[nd_ssd_extras];
    const char *classes, *boxes; /* of the heads, which are numbered */
};

const nd_zoo_ssd_names nd_zoo_ssd_caffe = {
    .backbone = {"vgg.0", "vgg.2", "vgg.5", "vgg.7", "vgg.10", "vgg.12", "vgg.14", "vgg.17", "vgg.19",
                 "vgg.21", "vgg.24", "vgg.26", "vgg.28"},
    .fc6 = "vgg.31",
    .fc7 = "vgg.33",
    .norm = "L2Norm.weight",
    .extras = {"extras.0", "extras.1", "extras.2", "extras.3", "extras.4", "extras.5", "extras.6",
               "extras.7"},
    .classes = "conf",
    .boxes = "loc",
};

#define FEATURES "backbone.features."
#define EXTRA    "backbone.extra."
const nd_zoo_ssd_names nd_zoo_ssd_torchvision = {
    .backbone = {FEATURES "0", FEATURES "2", FEATURES "5", FEATURES "7", FEATURES "10", FEATURES "12",
                 FEATURES "14", FEATURES "17", FEATURES "19", FEATURES "21", EXTRA "0.1", EXTRA "0.3",
                 EXTRA "0.5"},
    .fc6 = EXTRA "0.7.1",
    .fc7 = EXTRA "0.7.3",
    .norm = "backbone.scale_weight",
    .extras = {EXTRA "1.0", EXTRA "1.2", EXTRA "2.0", EXTRA "2.2", EXTRA "3.0", EXTRA "3.2", EXTRA "4.0",
               EXTRA "4.2"},
    .classes = "head.classification_head.module_list",
    .boxes = "head.regression_head.module_list",
};

static void ssd_conv(nd_zoo_builder *builder, const char *name, int64_t channels, nd_zoo_window window,
                     int64_t dilation) {
    nd_zoo_dilated_conv(builder, name, channels, window, dilation);
    nd_zoo_relu(builder, nd_zoo_name(builder, "%s.relu", name));
}

/* Stages of VGG16 between pools; the third rounds sizes up, 75 to 38, as Caffe does. */
static nd_zoo_place ssd_backbone(nd_zoo_builder *builder, const nd_zoo_ssd_names *names) {
    static const struct {
        int layers;
        int64_t channels;
    } stages[] = {{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}};
    const nd_zoo_window half = {2, 2, 0};
    nd_zoo_place conv4_3 = {0};
    const char *const *name = names->backbone;
    for (int stage = 0; stage < 5; stage++) {
        for (int i = 0; i < stages[stage].layers; i++)
            ssd_conv(builder, *name++, stages[stage].channels, (nd_zoo_window){3, 1, 1}, 1);
        if (stage == 3) conv4_3 = nd_zoo_here(builder);
        if (stage == 2)
            nd_zoo_max_pool_ceil(builder, "pool3", half);
        else if (stage < 4)
            nd_zoo_max_pool(builder, nd_zoo_name(builder, "pool%d", stage + 1), half);
    }
    nd_zoo_max_pool(builder, "pool5", (nd_zoo_window){3, 1, 1});
    ssd_conv(builder, names->fc6, 1024, (nd_zoo_window){3, 1, 6}, 6);
    ssd_conv(builder, names->fc7, 1024, (nd_zoo_window){1, 1, 0}, 1);
    return conv4_3;
}

/* What one head says of every default box: [n][boxes of all maps][numbers]. */
static void ssd_head(nd_zoo_builder *builder, const nd_zoo_place *maps, const char *name, int64_t numbers) {
    static const int64_t boxes[nd_ssd_maps] = {4, 6, 6, 6, 4, 4}; /* default boxes at each place */
    nd_zoo_place parts[nd_ssd_maps];
    for (int i = 0; i < nd_ssd_maps; i++) {
        nd_zoo_go(builder, maps[i]);
        nd_zoo_conv(builder, nd_zoo_name(builder, "%s.%d", name, i), boxes[i] * numbers,
                    (nd_zoo_window){3, 1, 1}, true);
        nd_zoo_rows(builder, nd_zoo_name(builder, "%s.%d", name, i), numbers);
        parts[i] = nd_zoo_here(builder);
    }
    nd_zoo_concat(builder, name, parts, nd_ssd_maps);
}

void nd_zoo_ssd300(nd_zoo_builder *builder, const nd_zoo_entry *entry) {
    static const struct {
        int64_t channels;
        nd_zoo_window window;
    } extras[nd_ssd_extras] = {
        {256, {1, 1, 0}}, {512, {3, 2, 1}}, {128, {1, 1, 0}}, {256, {3, 2, 1}},
        {128, {1, 1, 0}}, {256, {3, 1, 0}}, {128, {1, 1, 0}}, {256, {3, 1, 0}},
    };
    const nd_zoo_ssd_names *names = entry->plan->ssd;
    nd_zoo_place maps[nd_ssd_maps];
    maps[0] = ssd_backbone(builder, names);
    maps[1] = nd_zoo_here(builder);
    for (int i = 0; i < nd_ssd_extras; i++) {
        ssd_conv(builder, names->extras[i], extras[i].channels, extras[i].window, 1);
        if (i % 2) maps[2 + i / 2] = nd_zoo_here(builder);
    }
    nd_zoo_go(builder, maps[0]);
    nd_zoo_l2norm(builder, "conv4_3_norm", names->norm);
    maps[0] = nd_zoo_here(builder);
    ssd_head(builder, maps, names->classes, entry->classes);
    nd_zoo_output(builder);
    ssd_head(builder, maps, names->boxes, 4);
}
