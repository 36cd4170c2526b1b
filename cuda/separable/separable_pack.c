#include "cuda/separable/separable_pack.h"

#include <stdlib.h>

/* Ends of the blocks: the index of the term after each one's last. */
static int64_t separable_cut(const nd_work *work, int64_t align, int64_t *ends) {
    int64_t blocks = 0;
    for (int64_t r = 0; r < work->terms;) {
        const int64_t base = work->channel[r] / align * align;
        int64_t end = r;
        while (end < work->terms && end - r < nd_separable_terms &&
               work->channel[end] - base < nd_separable_terms)
            end++;
        ends[blocks++] = end;
        r = end;
    }
    return blocks;
}

static void separable_fill(const nd_work *work, int64_t align, const int64_t *ends, nd_separable_pack *pack) {
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1], terms = nd_separable_terms;
    const int64_t no = work->y.dims[1], row = pack->blocks * terms, constants = pack->constants;
    for (int64_t b = 0; b < pack->blocks; b++) {
        const int64_t first = b ? ends[b - 1] : 0;
        const int64_t base = work->channel[first] / align * align;
        pack->base[2 * b] = (int32_t)base;
        for (int64_t r = first; r < ends[b]; r++) {
            const int64_t slot = b * terms + r - first, offset = work->channel[r] - base;
            pack->offset[slot] = (int32_t)offset;
            pack->base[2 * b + 1] = (int32_t)(offset / align + 1); /* channels never descend */
            if (offset / align + 1 > pack->chunks) pack->chunks = offset / align + 1;
            for (int64_t tap = 0; tap < taps; tap++)
                pack->filters[(b * constants + tap) * terms + r - first] = work->depthwise[r * taps + tap];
            for (int64_t o = 0; o < no; o++)
                pack->weights[o * row + slot] = work->weights[o * work->terms + r];
        }
    }
}

nd_status nd_separable_integers_make(const nd_work *work, int64_t rows, nd_separable_integers *integers) {
    *integers = (nd_separable_integers){
        .rows = rows,
        .start = nd_alloc_array((size_t)rows, sizeof *integers->start),
        .factor = nd_alloc_array((size_t)rows, sizeof *integers->factor),
        .shift = nd_alloc_array((size_t)rows, sizeof *integers->shift),
        .middle = nd_alloc_array((size_t)work->terms, sizeof *integers->middle),
    };
    if (!integers->start || !integers->factor || !integers->shift || !integers->middle) {
        nd_separable_integers_free(integers);
        return nd_fail(nd_status_memory, "no memory for the factors of %lld channels", (long long)rows);
    }
    integers->requant = nd_requant_of(work, integers->factor, integers->shift, integers->middle);
    for (int64_t o = 0; o < work->y.dims[1]; o++) {
        int64_t sum = 0;
        for (int64_t r = 0; r < work->terms; r++) sum += (int64_t)work->weights[o * work->terms + r];
        integers->start[o] = (int32_t)(-sum * work->middle_quant.zero);
    }
    return nd_status_ok;
}

void nd_separable_integers_free(nd_separable_integers *integers) {
    free(integers->start);
    free(integers->factor);
    free(integers->shift);
    free(integers->middle);
    *integers = (nd_separable_integers){0};
}

/* The last row of constants of every block of int8: the factors of what the others make. */
static nd_status separable_integers(const nd_work *work, const int64_t *ends, nd_separable_pack *pack) {
    ND_TRY(nd_separable_integers_make(work, pack->rows, &pack->integers));
    for (int64_t b = 0, r = 0; b < pack->blocks; b++)
        for (int64_t first = r; r < ends[b]; r++)
            pack->filters[((b + 1) * pack->constants - 1) * nd_separable_terms + r - first] =
                pack->integers.middle[r];
    return nd_status_ok;
}

nd_status nd_separable_pack_make(const nd_work *work, nd_dtype storage, int64_t tile,
                                 nd_separable_pack *pack) {
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1], terms = nd_separable_terms;
    const int64_t align = 16 / (int64_t)nd_dtype_bytes(storage);
    nd_status status = nd_status_ok;
    *pack = (nd_separable_pack){0};
    int64_t *ends = nd_alloc_array((size_t)work->terms, sizeof *ends);
    ND_REQUIRE_DONE(ends, nd_status_memory, "no memory for %lld terms", (long long)work->terms);
    pack->blocks = separable_cut(work, align, ends);
    pack->rows = nd_ceil_div(work->y.dims[1], tile) * tile;
    pack->constants = taps + (storage == nd_dtype_u8);
    const size_t slots = (size_t)(pack->blocks * terms);
    pack->weights = nd_alloc_array((size_t)pack->rows * slots, sizeof *pack->weights);
    pack->filters = nd_alloc_array((size_t)pack->constants * slots, sizeof *pack->filters);
    pack->base = nd_alloc_array((size_t)(2 * pack->blocks), sizeof *pack->base);
    pack->offset = nd_alloc_array(slots, sizeof *pack->offset);
    ND_REQUIRE_DONE(pack->weights && pack->filters && pack->base && pack->offset, nd_status_memory,
                    "no memory for %lld packed terms", (long long)slots);
    separable_fill(work, align, ends, pack);
    if (storage == nd_dtype_u8) ND_TRY_DONE(separable_integers(work, ends, pack));
done:
    free(ends);
    if (status) nd_separable_pack_free(pack);
    return status;
}

void nd_separable_pack_free(nd_separable_pack *pack) {
    free(pack->weights);
    free(pack->filters);
    free(pack->base);
    free(pack->offset);
    nd_separable_integers_free(&pack->integers);
    *pack = (nd_separable_pack){0};
}

static int64_t separable_patches(const nd_cuda_separable *call) {
    return nd_ceil_div(call->images, call->patch[0]) * nd_ceil_div(call->out_height, call->patch[1]) *
           nd_ceil_div(call->out_width, call->patch[2]);
}

int64_t nd_separable_tiles(const nd_cuda_separable *call) {
    return separable_patches(call) * nd_ceil_div(call->out_channels, call->tile);
}

void nd_separable_split_choose(nd_cuda_separable *call, int64_t resident) {
    /* In steps of one block of terms: filling and emptying a tile, and the second launch. */
    enum { ends = 2, join = 6, most = 32 };
    const int64_t tiles = nd_separable_tiles(call);
    int64_t least = call->blocks + ends;
    call->split = 1;
    for (int64_t split = 2; split <= call->blocks && split <= most && split * tiles <= resident; split++) {
        const int64_t steps = nd_ceil_div(call->blocks, split) + ends + join;
        if (steps >= least) continue;
        least = steps;
        call->split = split;
    }
}

bool nd_separable_patch_choose(nd_cuda_separable *call, size_t shared_limit, nd_separable_shared *shared) {
    const nd_window *g = &call->window;
    double least = -1;
    int64_t best[3] = {0};
    for (int64_t columns = 1; columns <= call->out_width && columns <= nd_separable_pixels; columns++) {
        int64_t rows = nd_separable_pixels / columns;
        if (rows > call->out_height) rows = call->out_height;
        int64_t images = 1;
        if (rows == call->out_height && columns == call->out_width)
            images = nd_separable_pixels / (rows * columns);
        if (images > call->images) images = call->images;
        call->patch[0] = images;
        call->patch[1] = rows;
        call->patch[2] = columns;
        if (shared(call) > shared_limit) continue;
        const int64_t tiles = separable_patches(call);
        const int64_t height = (rows - 1) * g->stride[0] + (g->kernel[0] - 1) * g->dilation[0] + 1;
        const int64_t width = (columns - 1) * g->stride[1] + (g->kernel[1] - 1) * g->dilation[1] + 1;
        /* A tile costs its 128 pixels of arithmetic and its patch of loads. */
        const double cost = (double)tiles * (double)(2 * nd_separable_pixels + images * height * width);
        if (least >= 0 && cost >= least) continue;
        least = cost;
        for (int i = 0; i < 3; i++) best[i] = call->patch[i];
    }
    for (int i = 0; i < 3; i++) call->patch[i] = best[i];
    return least >= 0;
}

int64_t nd_separable_slice_channels(const nd_separable_slices *s) {
    return !s->strict && s->out_channels > 128 ? 256 : 128;
}

int64_t nd_separable_slice_waves(const nd_separable_slices *s, int64_t rows) {
    const int64_t tiles = nd_ceil_div(rows * s->width, nd_separable_slice_pixels) *
                          nd_ceil_div(s->out_channels, nd_separable_slice_channels(s));
    return nd_ceil_div(tiles, s->multiprocessors);
}

int64_t nd_separable_slice_choose(const nd_separable_slices *s) {
    /* Starting a slice costs about as much as this part of a wave. */
    const double start = 0.125;
    const int64_t most = s->most < s->rows ? s->most : s->rows;
    int64_t best = 1;
    double least = -1;
    for (int64_t rows = 1; rows <= most; rows++) {
        const int64_t full = s->rows / rows, last = s->rows % rows;
        const int64_t waves =
            full * nd_separable_slice_waves(s, rows) + (last ? nd_separable_slice_waves(s, last) : 0);
        const double cost = (double)waves + start * (double)(full + (last > 0));
        if (least >= 0 && cost > least) continue;
        least = cost;
        best = rows;
    }
    return best;
}
