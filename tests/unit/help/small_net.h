/* A small residual network with random weights, and a stream of pictures for it, for tests of
 * whole networks. */
#ifndef ND_TESTS_SMALL_NET_H
#define ND_TESTS_SMALL_NET_H

#include "base/batches.h"
#include "decouple_help.h"

#include <stdio.h>

static inline int add_conv(nd_graph *graph, const char *name, int x, int64_t no, int64_t ni, int64_t kernel,
                           int64_t stride, uint64_t seed) {
    char weight[64], bias[64];
    nd_node *node = NULL;
    nd_rng weights = nd_rng_seed(seed), biases = nd_rng_seed(seed + 1);
    const int64_t dims[4] = {no, ni, kernel, kernel}, pad = kernel / 2;
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    const int in[] = {
        x, add_normals(graph, weight, 4, dims, &weights, sqrtf(2.0f / (float)(ni * kernel * kernel))),
        add_normals(graph, bias, 1, &no, &biases, 0.1f)};
    const int y = add_node(graph, nd_op_conv, name, in, 3, &node);
    node->attr.window = (nd_window){{kernel, kernel}, {stride, stride}, {1, 1}, {pad, pad, pad, pad}};
    return y;
}

static inline int add_plain(nd_graph *graph, nd_op op, int a, int b) {
    return add_node(graph, op, NULL, (int[]){a, b}, b < 0 ? 1 : 2, NULL);
}

/* first 3x3, a residual block, a strided 3x3, a 1x1 to 5 classes, global pooling. */
static inline nd_graph *small_net(void) {
    nd_graph *graph = new_graph("small");
    const int x = add_input(graph, "image", 4, (int64_t[]){1, 3, 8, 8});
    int a = add_plain(graph, nd_op_relu, add_conv(graph, "first", x, 8, 3, 3, 1, 1), -1);
    int b = add_plain(graph, nd_op_relu, add_conv(graph, "block.a", a, 8, 8, 3, 1, 3), -1);
    int c = add_plain(graph, nd_op_add, add_conv(graph, "block.b", b, 8, 8, 3, 1, 5), a);
    int d = add_plain(graph, nd_op_relu, c, -1);
    int e = add_plain(graph, nd_op_relu, add_conv(graph, "down", d, 12, 8, 3, 2, 7), -1);
    int f = add_plain(graph, nd_op_global_average_pool, add_conv(graph, "score", e, 5, 12, 1, 1, 9), -1);
    finish(graph, f, 1);
    return graph;
}

typedef struct pictures {
    nd_batches base;
    float *images;
    int32_t *labels; /* NULL: none are known; a test may set them */
    int64_t at;
} pictures;

static inline nd_status pictures_next(nd_batches *self, nd_batch *out) {
    pictures *p = (pictures *)self;
    int64_t size = self->channels * self->height * self->width, left = self->count - p->at;
    *out = (nd_batch){.n = left < self->batch ? left : self->batch,
                      .images = p->images + p->at * size,
                      .labels = p->labels ? p->labels + p->at : NULL};
    p->at += out->n;
    return nd_status_ok;
}

static inline nd_status pictures_rewind(nd_batches *self) {
    ((pictures *)self)->at = 0;
    return nd_status_ok;
}

static inline void pictures_close(nd_batches *self) {
    free(((pictures *)self)->images);
    free(((pictures *)self)->labels);
    free(self);
}

static inline nd_batches *open_pictures(int64_t count, uint64_t seed) {
    pictures *p = calloc(1, sizeof *p);
    int64_t size = 3 * 8 * 8;
    p->base = (nd_batches){.channels = 3,
                           .height = 8,
                           .width = 8,
                           .count = count,
                           .batch = 7,
                           .next = pictures_next,
                           .rewind = pictures_rewind,
                           .close = pictures_close,
                           .name = "pictures",
                           .sha256 = "0",
                           .preprocess = "none"};
    p->images = help_normals(count * size, seed);
    for (int64_t e = 1; e < count * size; e++) p->images[e] = 0.6f * p->images[e - 1] + 0.5f * p->images[e];
    return &p->base;
}

#endif
