/* What the architectures of the zoo are written in: layers that append to a graph, with parameters under
 * their state-dict names. Private to zoo*.c. */
#ifndef ND_MODEL_ZOO_LAYERS_H
#define ND_MODEL_ZOO_LAYERS_H

#include "model/zoo/zoo.h"

/* Under way: `x` is the value the next layer reads, and is replaced by what that layer writes; `channels` are
 * its channels (features after a flatten). The first failure sticks in `status` and makes the layers after it
 * do nothing, so that an architecture reads as a list of layers. */
typedef struct nd_zoo_builder {
    nd_graph *graph;
    nd_zoo_source *source;
    void *context;
    int x;
    int64_t channels;
    nd_status status;
} nd_zoo_builder;

/* Other state-dict names for the same parameters: a name that starts with `name` may start with `alias`
 * instead. A table ends with a NULL name. */
typedef struct nd_zoo_alias {
    const char *name, *alias;
} nd_zoo_alias;

enum { nd_zoo_stages_max = 5 };

typedef struct nd_zoo_plan {
    void (*build)(nd_zoo_builder *builder, const nd_zoo_entry *entry);
    int64_t stages[nd_zoo_stages_max]; /* convolutions (VGG) or blocks (ResNet) of each stage */
    bool batchnorm;                    /* VGG */
    bool bottleneck;                   /* ResNet */
    const nd_zoo_alias *aliases;       /* or NULL */
} nd_zoo_plan;

void nd_zoo_vgg(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_alexnet(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_resnet(nd_zoo_builder *builder, const nd_zoo_entry *entry);
void nd_zoo_resnet_cifar(nd_zoo_builder *builder, const nd_zoo_entry *entry);

/* A square window, equal on both axes. */
typedef struct nd_zoo_window {
    int64_t kernel, stride, pad;
} nd_zoo_window;

/* Lives in the graph's arena; "" after a failure, never NULL. */
const char *nd_zoo_name(nd_zoo_builder *builder, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void nd_zoo_conv(nd_zoo_builder *builder, const char *name, int64_t channels, nd_zoo_window window,
                 bool bias);
void nd_zoo_batchnorm(nd_zoo_builder *builder, const char *name);
void nd_zoo_relu(nd_zoo_builder *builder, const char *name);
void nd_zoo_max_pool(nd_zoo_builder *builder, const char *name, nd_zoo_window window);
void nd_zoo_global_pool(nd_zoo_builder *builder, const char *name); /* and flattens */
void nd_zoo_flatten(nd_zoo_builder *builder, const char *name, int64_t features);
void nd_zoo_linear(nd_zoo_builder *builder, const char *name, int64_t features);
void nd_zoo_add(nd_zoo_builder *builder, const char *name, int other);
/* Every second row and column, and zero channels put evenly before and after up to `channels`. */
void nd_zoo_option_a(nd_zoo_builder *builder, const char *name, int64_t channels);

#endif
