#include "decouple/fit/patches.h"

#include "base/parallel.h"

#include <stdlib.h>
#include <string.h>

enum { most_rows = 4096, least_rows = 256, most_floats = 1 << 24 }; /* of x: 64 MiB */

nd_status nd_patches_open(const nd_conv *conv, bool targets, nd_patches *out) {
    const int64_t k = conv->ni * nd_conv_taps(conv); /* of all groups */
    int64_t most = most_floats / k;
    if (most > most_rows) most = most_rows;
    if (most < least_rows) most = least_rows;
    *out = (nd_patches){.most = most, .targets = targets ? conv->no / conv->groups : 0};
    out->x = nd_alloc_array((size_t)most, (size_t)k * sizeof *out->x);
    out->y = nd_alloc_array((size_t)most, (size_t)(conv->groups * (out->targets + 1)) * sizeof *out->y);
    ND_REQUIRE(out->x && out->y, nd_status_memory, "conv %s: no memory for a block of patches", conv->name);
    return nd_status_ok;
}

void nd_patches_close(nd_patches *patches) {
    free(patches->x);
    free(patches->y);
    *patches = (nd_patches){0};
}

typedef struct gathering {
    const nd_conv *conv;
    const nd_pixels *pixels;
    nd_patches *to;
    int64_t group, first;
} gathering;

static void patch_row(const gathering *g, int64_t image, int64_t oy, int64_t ox, float *row) {
    const nd_conv *conv = g->conv;
    const nd_window *window = &conv->window;
    const int64_t channels = conv->ni / conv->groups, area = conv->in_h * conv->in_w;
    if (conv->product)
        memcpy(row, g->pixels->x + (image * conv->in_h + oy) * conv->ni, (size_t)conv->ni * sizeof *row);
    else
        nd_window_patch(window, channels, conv->in_h, conv->in_w,
                        g->pixels->x + (image * conv->ni + g->group * channels) * area,
                        oy * window->stride[0] - window->pad[0], ox * window->stride[1] - window->pad[1],
                        row);
}

static void gather_rows(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const gathering *g = context;
    const nd_conv *conv = g->conv;
    const nd_pixels *from = g->pixels;
    const int64_t k = conv->ni / conv->groups * nd_conv_taps(conv), rows = conv->no / conv->groups;
    const int64_t out_w = nd_conv_out_w(conv), area = nd_conv_out_h(conv) * out_w;
    for (int64_t r = begin; r < end; r++) {
        int64_t image = (g->first + r) / from->per_image, pixel = (g->first + r) % from->per_image;
        if (from->pixel) pixel = from->pixel[g->first + r];
        const int64_t at = g->group * g->to->most + g->to->n + r;
        patch_row(g, image, pixel / out_w, pixel % out_w, g->to->x + at * k);
        const int64_t apart = conv->product ? 1 : area;
        const float *y = !from->y        ? NULL
                         : conv->product ? from->y + (image * area + pixel) * rows
                                         : from->y + (image * conv->no + g->group * rows) * area + pixel;
        float *target = g->to->y + at * (g->to->targets + 1);
        for (int64_t o = 0; o < g->to->targets; o++) target[o] = y[o * apart];
        target[g->to->targets] = 1;
    }
}

void nd_patches_gather(nd_patches *patches, const nd_conv *conv, const nd_pixels *pixels, int64_t first,
                       int64_t count) {
    gathering g = {.conv = conv, .pixels = pixels, .to = patches, .first = first};
    const int64_t cost = conv->ni / conv->groups * nd_conv_taps(conv) + conv->no / conv->groups;
    for (g.group = 0; g.group < conv->groups; g.group++) nd_parallel_for(count, cost, gather_rows, &g);
    patches->n += count;
}
