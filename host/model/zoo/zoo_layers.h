/* What the architectures of the zoo are written in: layers that append to a graph, with parameters under
 * their state-dict names. Private to zoo*.c. */
#ifndef ND_MODEL_ZOO_LAYERS_H
#define ND_MODEL_ZOO_LAYERS_H

#include "model/zoo/zoo.h"
#include "model/zoo/zoo_weights.h"

/* Under way: `x` is the value the next layer reads, and is replaced by what that layer writes; `channels` are
 * its channels (features after a flatten). The first failure sticks in `status` and makes the layers after it
 * do nothing, so that an architecture reads as a list of layers. */
typedef struct nd_zoo_builder {
    nd_graph *graph;
    nd_zoo_source *source;
    void *context;
    int x;
    int64_t channels;
    float epsilon; /* of BatchNorms; 0 is torch's 1e-5 */
    nd_status status;
} nd_zoo_builder;

/* Other state-dict names for the same parameters: where a name has `name`, it may have `alias` instead. A
 * table ends with a NULL name. */
typedef struct nd_zoo_alias {
    const char *name, *alias;
} nd_zoo_alias;

enum { nd_zoo_stages_max = 5 };

typedef struct nd_zoo_ssd_names nd_zoo_ssd_names;
extern const nd_zoo_ssd_names nd_zoo_ssd_caffe, nd_zoo_ssd_torchvision;

typedef struct nd_zoo_plan {
    void (*build)(nd_zoo_builder *builder, const nd_zoo_entry *entry);
    int64_t stages[nd_zoo_stages_max]; /* convolutions (VGG), blocks or layers of each stage */
    bool batchnorm;                    /* VGG */
    bool bottleneck;                   /* ResNet */
    int64_t groups, group_width;       /* ResNet: 3x3 of a bottleneck, channels a group at width 64; RepVGG */
    int64_t width, growth;             /* DenseNet: channels of the first layer, and those a layer adds */
    int64_t widths[nd_zoo_stages_max]; /* RepVGG */
    const nd_zoo_alias *aliases;       /* or NULL */
    const char *head;                  /* the layer whose features are the classes */
    int64_t head_boxes;                /* detectors: boxes at each place, each with all classes in the head */
    const nd_zoo_ssd_names *ssd;
    const char *anchors;         /* detectors: metadata nd.anchors */
    nd_zoo_make *make;           /* or NULL: parameters that files hold in parts */
    const char *const *training; /* or NULL: prefixes of what only training uses, NULL-ended */
} nd_zoo_plan;

void nd_zoo_vgg(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_alexnet(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_resnet(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_resnet_cifar(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_densenet(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_googlenet(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_mobilenet_v2(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_ssd300(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_repvgg(nd_zoo_builder *builder, const nd_zoo_entry *entry);

/* A square window, equal on both axes. */
typedef struct nd_zoo_window {
    int64_t kernel, stride, pad;
} nd_zoo_window;

/* A value to come back to: where branches begin and end. */
typedef struct nd_zoo_place {
    int value;
    int64_t channels;
} nd_zoo_place;

nd_zoo_place nd_zoo_here(const nd_zoo_builder *builder);
void nd_zoo_go(nd_zoo_builder *builder, nd_zoo_place place);

/* Lives in the graph's arena; "" after a failure, never NULL. */
const char *nd_zoo_name(nd_zoo_builder *builder, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void nd_zoo_conv(nd_zoo_builder *builder, const char *name, int64_t channels, nd_zoo_window window,
                 bool bias);
void nd_zoo_grouped_conv(nd_zoo_builder *builder, const char *name, int64_t channels, nd_zoo_window window,
                         int64_t groups, bool bias);
/* With a bias; `pad` of the window is that of the dilated kernel. */
void nd_zoo_dilated_conv(nd_zoo_builder *builder, const char *name, int64_t channels, nd_zoo_window window,
                         int64_t dilation);
void nd_zoo_batchnorm(nd_zoo_builder *builder, const char *name);
void nd_zoo_relu(nd_zoo_builder *builder, const char *name);
void nd_zoo_relu6(nd_zoo_builder *builder, const char *name);
void nd_zoo_max_pool(nd_zoo_builder *builder, const char *name, nd_zoo_window window);
void nd_zoo_max_pool_ceil(nd_zoo_builder *builder, const char *name, nd_zoo_window window); /* sizes up */
void nd_zoo_average_pool(nd_zoo_builder *builder, const char *name, nd_zoo_window window);
void nd_zoo_global_pool(nd_zoo_builder *builder, const char *name); /* and flattens */
void nd_zoo_flatten(nd_zoo_builder *builder, const char *name, int64_t features);
void nd_zoo_linear(nd_zoo_builder *builder, const char *name, int64_t features);
/* Channels divided by their Euclidean length at each place, at least 1e-12, and multiplied by the
 * parameter `weight` (ParseNet, Liu et al. 2015, section 3.3). */
void nd_zoo_l2norm(nd_zoo_builder *builder, const char *name, const char *weight);
/* [n][c][h][w] to [n][h * w * c / numbers][numbers]. */
void nd_zoo_rows(nd_zoo_builder *builder, const char *name, int64_t numbers);
void nd_zoo_output(nd_zoo_builder *builder); /* x is an output; the last x is one anyway */
void nd_zoo_add(nd_zoo_builder *builder, const char *name, int other);
/* At most nd_zoo_branches_max, along the channels. */
enum { nd_zoo_branches_max = 6 };
void nd_zoo_concat(nd_zoo_builder *builder, const char *name, const nd_zoo_place *parts, int count);
/* Every second row and column, and zero channels put evenly before and after up to `channels`. */
void nd_zoo_option_a(nd_zoo_builder *builder, const char *name, int64_t channels);

#endif
