/* The architectures nd builds itself, with torchvision/timm parameter names. Table-driven: see zoo.c. */
#ifndef ND_MODEL_ZOO_H
#define ND_MODEL_ZOO_H

#include "model/graph.h"

#pragma GCC visibility push(default)

typedef struct nd_zoo_entry {
    const char *name; /* "vgg16_bn" */
    int64_t channels, height, width, classes;
    const char *preprocess; /* named recipe of datasets/image/preprocess.h */
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

/* Close to He-normal weights, BatchNorm scales near 0.7 (so that deep residual networks keep their range);
 * `context` is a uint64_t seed. A value depends on seed, name and place only, in integer arithmetic: it is
 * the same on every machine and for every number of threads. */
nd_status nd_zoo_random(void *context, const char *name, int rank, const int64_t *dims, nd_tensor *out);

/* Zeros that take no memory until they are read, for questions of shape and cost; `context` is unused. */
nd_status nd_zoo_blank(void *context, const char *name, int rank, const int64_t *dims, nd_tensor *out);

/* An architecture with the weights of a file (nd_state_dict_read), or with random ones (seed 1) for a NULL
 * path. Names may stand behind "module.", "_orig_mod." and "model." in any nesting, num_batches_tracked is
 * ignored, f16, bf16 and f64 become f32, and timm's VGG classifier, stored as convolutions, is taken. The
 * network has as many classes as the head in the file. What is missing, of another shape, or a layer more in
 * a module of the architecture is named in one error; anything else that is not used, and tensors under two
 * names, in one warning. */
nd_status nd_zoo_open(const char *arch, const char *path, nd_graph **out);

#pragma GCC visibility pop

#endif
