/* How a separable layer is laid out for the kernel of sm_90a. Plain host code. */
#include "cuda/separable/separable_pack.h"
#include "cuda/separable/separable_sm90a.h"

#include <stdlib.h>
#include <string.h>

static int64_t hopper_channels(nd_precision precision) {
    return nd_hopper_row / (int64_t)nd_dtype_bytes(nd_precision_storage(precision));
}

/* Words of constants of a channel and term; see nd_hopper_pack. */
static int64_t hopper_words(nd_precision precision) {
    return precision == nd_precision_int8 ? nd_hopper_integer_words : nd_hopper_taps;
}

/* What is defined for it, with a result in 8 bits too; of int8 with filters that are integers, as sums of
 * real ones are of another order. */
static bool hopper_takes_quantised(const nd_work *work, nd_precision precision) {
    return (work->depthwise_scale || precision == nd_precision_e4m3) && work->y_quant.scale > 0 &&
           nd_quantized_agrees(work, precision);
}

bool nd_cuda_hopper_takes(const nd_work *work, nd_precision precision) {
    const nd_window *g = &work->window;
    const nd_act act = work->activation.act;
    const bool ends = nd_precision_is_quantised(precision)
                          ? hopper_takes_quantised(work, precision)
                          : act == nd_act_none || act == nd_act_relu || act == nd_act_clip;
    return precision != nd_precision_fp32 && ends && g->kernel[0] == 3 && g->kernel[1] == 3 &&
           g->dilation[0] == 1 && g->dilation[1] == 1 && g->stride[0] <= 2 && g->stride[1] <= 2 &&
           work->x.dims[1] < 1 << 24;
}

/* The terms in the order of rounds: slot[(block * most + t) * channels + c] is the term t of channel c of
 * that block of channels, or -1. */
typedef struct hopper_slots {
    int64_t blocks, most, channels;
    int64_t *terms; /* of the channel with most of them, block by block */
    int64_t *slot;
} hopper_slots;

static void hopper_slots_free(hopper_slots *slots) {
    free(slots->terms);
    free(slots->slot);
}

static nd_status hopper_slots_make(const nd_work *work, int64_t channels, hopper_slots *slots) {
    const int64_t ni = work->x.dims[1];
    *slots = (hopper_slots){.blocks = nd_ceil_div(ni, channels), .most = 1, .channels = channels};
    int64_t *count = nd_alloc_array((size_t)ni, sizeof *count);
    slots->terms = nd_alloc_array((size_t)slots->blocks, sizeof *slots->terms);
    for (int64_t r = 0; count && r < work->terms; r++)
        if (++count[work->channel[r]] > slots->most) slots->most = count[work->channel[r]];
    const size_t size = (size_t)(slots->blocks * slots->most * channels);
    slots->slot = nd_alloc_array(size, sizeof *slots->slot);
    if (!count || !slots->terms || !slots->slot) {
        free(count);
        hopper_slots_free(slots);
        return nd_fail(nd_status_memory, "no memory for %lld terms", (long long)work->terms);
    }
    for (size_t i = 0; i < size; i++) slots->slot[i] = -1;
    memset(count, 0, (size_t)ni * sizeof *count);
    for (int64_t r = 0; r < work->terms; r++) {
        const int64_t c = work->channel[r], block = c / channels, t = count[c]++;
        slots->slot[(block * slots->most + t) * channels + c % channels] = r;
        if (t >= slots->terms[block]) slots->terms[block] = t + 1;
    }
    free(count);
    return nd_status_ok;
}

/* tf32 keeps 10 bits of the mantissa; the tensor cores would cut the rest off, so it is rounded here, ties
 * away from zero as cvt.rna does. */
static void hopper_store(nd_precision precision, float value, unsigned char *to) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (precision == nd_precision_tf32) {
        if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & ~0x1fffu;
        memcpy(to, &bits, sizeof bits);
        return;
    }
    if (nd_precision_is_quantised(precision)) {
        *to = precision == nd_precision_e4m3 ? nd_f32_to_e4m3(value) : (uint8_t)(int8_t)value;
        return;
    }
    const uint16_t half = precision == nd_precision_fp16 ? nd_f32_to_f16(value) : nd_f32_to_bf16(value);
    memcpy(to, &half, sizeof half);
}

/* Where a byte of a row is in the 64-byte swizzle (PTX ISA, "Swizzling modes"). */
static int64_t hopper_swizzled(int64_t row, int64_t byte) {
    return row * nd_hopper_row + (byte ^ (row >> 1 & 3) << 4);
}

/* The filter of `term` times `factor`, in place t of `count`, for channel c of `channels`. */
static void hopper_fill_filter(const nd_work *work, int64_t term, float factor, int64_t t, int64_t count,
                               int64_t c, int64_t channels, float *filters) {
    const int64_t together = t / 2 * 2 + 1 < count ? 2 : 1;
    float *group = filters + t / 2 * 2 * nd_hopper_taps * channels;
    for (int64_t tap = 0; tap < nd_hopper_taps; tap++)
        group[((tap * channels / 2 + c / 2) * together + t % 2) * 2 + c % 2] =
            work->depthwise[term * nd_hopper_taps + tap] * factor;
}

/* The same of int8. */
static void hopper_fill_words(const nd_work *work, int64_t term, float factor, int64_t t, int64_t c,
                              int64_t channels, uint32_t *words) {
    const float *filter = work->depthwise + term * nd_hopper_taps;
    uint32_t *own = words + t * nd_hopper_integer_words * channels + c;
    int32_t sum = 0;
    for (int64_t tap = 0; tap < nd_hopper_taps; tap++) {
        own[tap / 3 * channels] |= (uint32_t)(uint8_t)(int8_t)filter[tap] << 8 * (tap % 3);
        sum += (int32_t)filter[tap];
    }
    own[3 * channels] = (uint32_t)(nd_hopper_integer_start - sum * work->x_quant.zero);
    memcpy(&own[4 * channels], &factor, sizeof factor);
}

/* The constants of `count` terms from slot[0] on, for output channels from `first` on; middle: of int8 and
 * e4m3, the factors of depthwise results. */
static void hopper_fill(const nd_work *work, nd_precision precision, int64_t tile, int64_t first,
                        const hopper_slots *slots, const int64_t *slot, int64_t count, const float *middle,
                        unsigned char *to) {
    const int64_t size = nd_hopper_row / slots->channels, no = work->y.dims[1];
    void *filters = to + count * tile * nd_hopper_row;
    for (int64_t t = 0; t < count; t++)
        for (int64_t c = 0; c < slots->channels; c++) {
            const int64_t term = slot[t * slots->channels + c];
            if (term < 0) continue;
            for (int64_t o = 0; o < tile && first + o < no; o++)
                hopper_store(precision, work->weights[(first + o) * work->terms + term],
                             to + t * tile * nd_hopper_row + hopper_swizzled(o, c * size));
            if (precision == nd_precision_int8)
                hopper_fill_words(work, term, middle[term], t, c, slots->channels, filters);
            else
                hopper_fill_filter(work, term, middle ? middle[term] : 1, t, count, c, slots->channels,
                                   filters);
        }
}

/* Rounds of a block of so many terms, and the terms of the one that begins at t: alike, the longer first. */
static int64_t hopper_rounds_of(int64_t terms) {
    return nd_ceil_div(terms, nd_hopper_terms);
}

static int64_t hopper_round_terms(int64_t terms, int64_t t) {
    const int64_t left = terms - t;
    return nd_ceil_div(left, hopper_rounds_of(left));
}

static int64_t hopper_rounds(const hopper_slots *slots) {
    int64_t rounds = 0;
    for (int64_t b = 0; b < slots->blocks; b++) rounds += hopper_rounds_of(slots->terms[b]);
    return rounds ? rounds : 1; /* a layer without terms is a bias */
}

/* Constants of one term of a round. */
static int64_t hopper_term_bytes(nd_precision precision, int64_t tile) {
    return tile * nd_hopper_row +
           hopper_words(precision) * hopper_channels(precision) * (int64_t)sizeof(float);
}

static void hopper_fill_all(const nd_work *work, nd_precision precision, int64_t tile, int64_t first,
                            const hopper_slots *slots, nd_hopper_pack *pack, unsigned char *to) {
    const int64_t a_term = hopper_term_bytes(precision, tile);
    int64_t round = 0, at = 0;
    for (int64_t b = 0; b < slots->blocks; b++) {
        /* a layer without terms has one round of zeros */
        const int64_t terms = slots->terms[b] || round || b + 1 < slots->blocks ? slots->terms[b] : 1;
        for (int64_t t = 0, count; t < terms; t += count, round++) {
            count = hopper_round_terms(terms, t);
            if (count > pack->terms) pack->terms = count;
            pack->table[2 * round] = (int32_t)(b * slots->channels | count << 24);
            pack->table[2 * round + 1] = (int32_t)(at / 16);
            hopper_fill(work, precision, tile, first, slots,
                        slots->slot + (b * slots->most + t) * slots->channels, count, pack->integers.middle,
                        to + at);
            at += count * a_term;
        }
    }
    pack->tile_bytes = (size_t)at;
}

nd_status nd_hopper_pack_make(const nd_work *work, nd_precision precision, int64_t tile,
                              nd_hopper_pack *pack) {
    const int64_t channels = hopper_channels(precision), tiles = nd_ceil_div(work->y.dims[1], tile);
    const int64_t a_term = hopper_term_bytes(precision, tile);
    hopper_slots slots;
    nd_status status = nd_status_ok;
    *pack = (nd_hopper_pack){0};
    ND_TRY(hopper_slots_make(work, channels, &slots));
    pack->rounds = hopper_rounds(&slots);
    const size_t most = (size_t)(nd_hopper_terms * pack->rounds * a_term);
    pack->table = nd_alloc_array((size_t)(2 * pack->rounds), sizeof *pack->table);
    pack->constants = nd_alloc_array((size_t)tiles, most);
    ND_REQUIRE_DONE(pack->table && pack->constants, nd_status_memory, "no memory for %lld rounds of terms",
                    (long long)pack->rounds);
    if (nd_precision_is_quantised(precision))
        ND_TRY_DONE(nd_separable_integers_make(work, tiles * tile, &pack->integers));
    for (int64_t i = 0; i < tiles; i++)
        hopper_fill_all(work, precision, tile, i * tile, &slots, pack,
                        pack->constants + (size_t)i * pack->tile_bytes);
    pack->bytes = (size_t)tiles * pack->tile_bytes;
done:
    hopper_slots_free(&slots);
    if (status) nd_hopper_pack_free(pack);
    return status;
}

void nd_hopper_pack_free(nd_hopper_pack *pack) {
    free(pack->table);
    free(pack->constants);
    nd_separable_integers_free(&pack->integers);
    *pack = (nd_hopper_pack){0};
}

static int64_t hopper_tiles(const nd_cuda_hopper *call) {
    const nd_cuda_separable *l = &call->layer;
    return nd_ceil_div(nd_ceil_div(l->images, l->patch[0]) * nd_ceil_div(l->out_height, l->patch[1]) *
                           nd_ceil_div(l->out_width, l->patch[2]),
                       2);
}

static int64_t hopper_abreast(const nd_cuda_hopper *call) {
    const nd_precision precision = call->layer.precision;
    return nd_hopper_columns((int64_t)nd_dtype_bytes(nd_precision_storage(precision)),
                             nd_hopper_lane(precision == nd_precision_int8));
}

/* What a round of a tile costs: the products of its pixels, its patches, and the pixels that the busiest warp
 * of a half makes with the two rows that a run of them begins with, four warps at once; see
 * nd_hopper_shape_of. */
static double hopper_cost(const nd_cuda_hopper *call) {
    const nd_window *g = &call->layer.window;
    const int64_t *half = call->layer.patch, abreast = hopper_abreast(call);
    const int64_t rows = half[0] * nd_ceil_div(half[2], abreast) * (half[1] + 2);
    const int64_t loads = half[0] * ((half[1] - 1) * g->stride[0] + 3) * ((half[2] - 1) * g->stride[1] + 3);
    return (double)hopper_tiles(call) *
           (double)(4 * nd_hopper_half(call->layer.tile) + 2 * loads + rows * abreast / 2);
}

/* Half tiles of all rows and columns that fit. */
static bool hopper_patch(nd_cuda_hopper *call, size_t shared_limit) {
    const nd_cuda_separable *l = &call->layer;
    const int64_t sizes[3] = {l->images, l->out_height, l->out_width};
    const int64_t abreast = hopper_abreast(call), most = nd_hopper_half(l->tile);
    nd_cuda_hopper best = *call, now = *call;
    double least = -1;
    for (int64_t w = 1; w <= sizes[2] && w <= most; w++) {
        const int64_t across = nd_ceil_div(w, abreast) * abreast;
        for (int64_t h = 1; h <= sizes[1] && h * across <= most; h++) {
            int64_t images = w == sizes[2] && h == sizes[1] ? most / (h * across) : 1;
            if (images > sizes[0]) images = sizes[0];
            const int64_t half[3] = {images, h, w};
            memcpy(now.layer.patch, half, sizeof half);
            if (nd_cuda_hopper_shared(&now) > shared_limit) continue;
            const double cost = hopper_cost(&now);
            if (least >= 0 && cost >= least) continue;
            least = cost;
            best = now;
        }
    }
    *call = best;
    return least >= 0;
}

static int64_t hopper_clusters(const nd_cuda_hopper *call) {
    return nd_ceil_div(hopper_tiles(call), call->cluster);
}

int64_t nd_hopper_whole(const nd_cuda_hopper *call, int64_t most) {
    const int64_t columns = nd_ceil_div(call->layer.out_width, call->layer.patch[2]);
    if (most >= hopper_clusters(call)) return hopper_clusters(call);
    while (2 * call->cluster * most % columns) most--;
    return most;
}

/* What the busiest cluster of blocks does, in rounds; they take all items in turn, whole ones first. */
static int64_t hopper_rounds_taken(const nd_cuda_hopper *call) {
    /* In rounds: emptying a tile; leaving its sums to another kernel instead; the start of that, and its
     * reads of as many sums as the blocks leave at once. */
    enum { ends = 1, leave = 4, join = 3, joined = 4 };
    const nd_cuda_separable *l = &call->layer;
    const int64_t at_once = call->resident / call->cluster, across = nd_ceil_div(l->out_channels, l->tile);
    const int64_t whole = call->whole * across,
                  all = whole + (hopper_clusters(call) - call->whole) * across * l->split;
    int64_t most = 0;
    for (int64_t first = 0; first < at_once && first < all; first++) {
        const int64_t made = first < whole ? nd_ceil_div(whole - first, at_once) : 0;
        const int64_t parts = nd_ceil_div(all - first, at_once) - made;
        const int64_t rounds = made * (l->blocks + ends) + parts * (nd_ceil_div(l->blocks, l->split) + leave);
        if (rounds > most) most = rounds;
    }
    return most + (all > whole ? join + nd_ceil_div(joined * (all - whole), at_once) : 0);
}

bool nd_hopper_plan(nd_cuda_hopper *call, size_t shared_limit) {
    enum { most = 32 };
    nd_cuda_separable *l = &call->layer;
    call->cluster = 2;
    l->split = 1;
    if (!hopper_patch(call, shared_limit)) return false;
    if (hopper_tiles(call) < 2 || call->resident < 2) call->cluster = 1;
    const int64_t at_once = call->resident / call->cluster, across = nd_ceil_div(l->out_channels, l->tile);
    const int64_t clusters = hopper_clusters(call), full = clusters * across / at_once * at_once / across;
    call->whole = clusters;
    nd_cuda_hopper trial = *call;
    trial.whole = nd_hopper_whole(call, full);
    int64_t least = hopper_rounds_taken(call);
    for (trial.layer.split = 2; trial.layer.split <= l->blocks && trial.layer.split <= most;
         trial.layer.split++) {
        const int64_t rounds = hopper_rounds_taken(&trial);
        if (trial.whole == clusters || rounds >= least) continue;
        least = rounds;
        call->whole = trial.whole;
        l->split = trial.layer.split;
    }
    return true;
}
