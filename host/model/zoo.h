/* The architectures nd builds itself, with torchvision/timm parameter names. Table-driven: see zoo.c. */
#ifndef ND_MODEL_ZOO_H
#define ND_MODEL_ZOO_H

#include "model/graph.h"

typedef struct nd_zoo_entry {
    const char *name; /* "vgg16_bn" */
    int64_t channels, height, width, classes;
    const char *preprocess; /* named recipe of datasets/preprocess.h */
    const char *text;       /* one line: source paper, weights it goes with */
    const struct nd_zoo_plan *plan;
} nd_zoo_entry;

extern const nd_zoo_entry nd_zoo_table[];
extern const size_t nd_zoo_count;
const nd_zoo_entry *nd_zoo_find(const char *name); /* NULL when unknown */

/* Where parameters come from: called once per parameter with its state-dict name and shape; fills *out
 * (fp32). */
typedef nd_status nd_zoo_source(void *context, const char *name, int rank, const int64_t *dims,
                                nd_tensor *out);

nd_status nd_zoo_build(const nd_zoo_entry *entry, nd_zoo_source *source, void *context, nd_graph **out);

/* He-normal weights, BatchNorm near identity; `context` is a uint64_t seed. The value depends on seed and
 * name only. */
nd_status nd_zoo_random(void *context, const char *name, int rank, const int64_t *dims, nd_tensor *out);

#endif
