#include "run/cpu/separable/separable_terms.h"

#include <stdlib.h>

/* Whether the depthwise results of the work are sums of integers of three columns that fit, with their
 * factors. */
static bool terms_fit_words(const nd_work *work) {
    enum { largest = 1 << 30 };
    const nd_window *g = &work->window;
    if (!work->depthwise_scale || g->kernel[1] != 3) return false;
    for (int64_t t = 0; t < work->terms; t++) {
        const double factor = work->x_quant.scale * work->depthwise_scale[t] / work->middle_quant.scale;
        if (!(255. * 128 * (double)(g->kernel[0] * 3) * factor < largest)) return false;
    }
    return true;
}

static bool terms_fit_wide(const nd_work *work) {
    const nd_window *g = &work->window;
    const int64_t columns = (nd_sep_mr_max - 1) * g->stride[1] + 2 * g->dilation[1] + 1;
    return g->kernel[0] <= 4 && columns <= nd_sep_wide_columns && terms_fit_words(work);
}

/* `count` groups that read the same channels. */
static void terms_add_runs(nd_sep_terms *out, int64_t first, int parts, int part, int64_t count) {
    while (count > 0) {
        /* 4 go as 2 + 2 rather than 3 + 1: a single slot loads an input for every FMA. */
        const int64_t slots = count == 4 ? 2 : count < nd_sep_slots_max ? count : nd_sep_slots_max;
        out->runs[out->depthwise.n_runs++] = (nd_sep_run){.first = first,
                                                          .group = (int)out->groups,
                                                          .slots = (int)slots,
                                                          .quarter = part,
                                                          .half = parts == 2 ? part + 1 : 0};
        out->groups += slots;
        count -= slots;
    }
}

/* Whole blocks of channels give as many groups of each of their parts as the smallest rank in the block.
 * Marks the terms that went. */
static void terms_deal_blocks(const nd_work *work, int64_t block, nd_sep_terms *out) {
    const int64_t lanes = out->lanes, terms = work->terms, parts = block / lanes;
    for (int64_t first = 0, t = 0; first + block <= work->x.dims[1]; first += block) {
        int64_t start[nd_sep_wide], rank = terms;
        for (int64_t c = 0; c < block; c++) {
            while (t < terms && work->channel[t] == first + c && out->place[t] >= 0) t++;
            start[c] = t;
            while (t < terms && work->channel[t] == first + c) t++;
            if (t - start[c] < rank) rank = t - start[c];
        }
        for (int part = 0; part < parts; part++) {
            for (int64_t i = 0; i < rank * lanes; i++) {
                const int lane = (int)(i % lanes);
                const int64_t c = nd_sep_part_channel((int)parts, part, lane);
                out->place[start[c] + i / lanes] = (out->groups + i / lanes) * lanes + lane;
            }
            terms_add_runs(out, first, (int)parts, part, rank);
        }
    }
}

/* The terms that are left, in ascending order of channels, in permuted groups that span at most `lanes`
 * channels. */
static void terms_deal_rest(const nd_work *work, nd_sep_terms *out) {
    nd_sep_run *open = NULL;
    int64_t used = 0;
    for (int64_t t = 0; t < work->terms; t++) {
        if (out->place[t] >= 0) continue;
        const int64_t channel = work->channel[t];
        if (!open || used == out->lanes || channel - open->first >= out->lanes) {
            open = &out->runs[out->depthwise.n_runs++];
            *open = (nd_sep_run){.first = channel, .group = (int)out->groups++, .slots = 1, .permuted = true};
            used = 0;
        }
        open->source[used] = (int32_t)(channel - open->first);
        open->span = open->source[used] + 1;
        out->place[t] = open->group * out->lanes + used++;
    }
}

static void terms_describe(const nd_work *work, nd_sep_terms *out) {
    const nd_window *g = &work->window;
    nd_sep_depthwise *d = &out->depthwise;
    d->runs = out->runs;
    d->weights = out->weights;
    d->kh = (int)g->kernel[0];
    d->kw = (int)g->kernel[1];
    d->tap_row = g->dilation[0] * work->x.strides[2];
    d->tap_column = g->dilation[1] * work->x.strides[3];
    d->pixel = g->stride[1] * work->x.strides[3];
    d->stride = g->stride[1];
    d->dilation = g->dilation[1];
    d->x_width = work->x.dims[3];
}

nd_status nd_sep_terms_build(const nd_work *work, int lanes, nd_sep_deal deal, nd_sep_terms *out) {
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1], terms = work->terms;
    *out = (nd_sep_terms){.lanes = lanes,
                          .window = work->window,
                          .x = work->x,
                          .height = work->y.dims[2],
                          .width = work->y.dims[3]};
    out->runs = nd_alloc_array((size_t)terms, sizeof *out->runs);
    out->place = nd_alloc_array((size_t)terms, sizeof *out->place);
    if (out->runs && out->place) {
        for (int64_t t = 0; t < terms; t++) out->place[t] = -1;
        if (deal == nd_sep_wide_blocks && terms_fit_wide(work)) terms_deal_blocks(work, nd_sep_wide, out);
        out->depthwise.wide_runs = out->depthwise.n_runs;
        if (deal == nd_sep_half_blocks) terms_deal_blocks(work, nd_sep_halves, out);
        if (deal != nd_sep_in_order) terms_deal_blocks(work, lanes, out);
        terms_deal_rest(work, out);
        out->weights = nd_alloc_array((size_t)(out->groups * lanes), (size_t)taps * sizeof(float));
    }
    if (!out->weights) {
        nd_sep_terms_free(out);
        return nd_fail(nd_status_memory, "separable: no memory for %lld terms", (long long)terms);
    }
    for (int64_t t = 0; t < terms; t++) {
        float *group = out->weights + out->place[t] / lanes * taps * lanes;
        for (int64_t tap = 0; tap < taps; tap++) {
            group[tap * lanes + out->place[t] % lanes] = work->depthwise[t * taps + tap];
        }
    }
    terms_describe(work, out);
    return nd_status_ok;
}

/* Of one term: a word of each row, the last three of four adjacent columns, and one of each column. */
static void terms_store_words(const nd_sep_terms *terms, const float *filter, int64_t place, int32_t *words,
                              int32_t *starts, int32_t *columns, int32_t *column_starts) {
    enum { width = 3 };
    const nd_sep_depthwise *d = &terms->depthwise;
    const int64_t lanes = terms->lanes, group = place / lanes, lane = place % lanes;
    for (int ky = 0; ky < d->kh; ky++) {
        for (int kx = 0; kx < width; kx++) {
            const int8_t w = (int8_t)filter[ky * width + kx];
            const int64_t row = (group * d->kh + ky) * lanes + lane,
                          column = (group * width + kx) * lanes + lane;
            words[row] = (int32_t)((uint32_t)words[row] | (uint32_t)(uint8_t)w << 8 * (kx + 1));
            starts[row] -= d->x_zero * w;
            if (ky < 4)
                columns[column] = (int32_t)((uint32_t)columns[column] | (uint32_t)(uint8_t)w << 8 * ky);
            column_starts[group * lanes + lane] -= d->x_zero * w;
        }
    }
}

static nd_status terms_words(const nd_work *work, nd_sep_terms *terms) {
    nd_sep_depthwise *d = &terms->depthwise;
    if (!terms_fit_words(work)) return nd_status_ok;
    const int64_t lanes = terms->groups * terms->lanes, rows = lanes * d->kh;
    int32_t *words = nd_alloc_array((size_t)(2 * rows + 4 * lanes), sizeof *words);
    ND_REQUIRE(words, nd_status_memory, "separable: no memory for %lld terms", (long long)work->terms);
    int32_t *starts = words + rows, *columns = starts + rows, *column_starts = columns + 3 * lanes;
    terms->words = words;
    for (int64_t t = 0; t < work->terms; t++)
        terms_store_words(terms, work->depthwise + t * d->kh * d->kw, terms->place[t], words, starts, columns,
                          column_starts);
    d->words = words;
    d->starts = starts;
    d->columns = columns;
    d->column_starts = column_starts;
    return nd_status_ok;
}

nd_status nd_sep_terms_quantize(const nd_work *work, const float *middle_factor, nd_sep_terms *terms) {
    nd_sep_depthwise *d = &terms->depthwise;
    float *factors = nd_alloc_array((size_t)(terms->groups * terms->lanes), sizeof *factors);
    ND_REQUIRE(factors, nd_status_memory, "separable: no memory for %lld terms", (long long)work->terms);
    for (int64_t t = 0; t < work->terms; t++) factors[terms->place[t]] = middle_factor[t];
    d->middle_factor = terms->middle_factor = factors;
    d->middle_zero = (float)work->middle_quant.zero;
    d->x_zero = work->x_quant.zero;
    return terms_words(work, terms);
}

void nd_sep_terms_free(nd_sep_terms *terms) {
    free(terms->runs);
    free(terms->weights);
    free(terms->middle_factor);
    free(terms->words);
    free(terms->place);
    *terms = (nd_sep_terms){0};
}

int nd_sep_segments(const nd_sep_terms *terms, int64_t begin, int64_t end, nd_sep_segment *segments) {
    const nd_window *g = &terms->window;
    int n = 0;
    for (int64_t at = begin; at < end; n++) {
        const int64_t oy = at / terms->width, ox = at % terms->width;
        const int64_t row = oy * g->stride[0] - g->pad[0], column = ox * g->stride[1] - g->pad[1];
        nd_sep_segment *s = &segments[n];
        s->origin = (ptrdiff_t)(row * terms->x.strides[2] + column * terms->x.strides[3]);
        s->column = column;
        s->pixels = (int)(terms->width - ox < end - at ? terms->width - ox : end - at);
        s->ky_begin = 0;
        s->ky_end = (int)g->kernel[0];
        while (s->ky_begin < s->ky_end && row + s->ky_begin * g->dilation[0] < 0) s->ky_begin++;
        while (s->ky_end > s->ky_begin && row + (s->ky_end - 1) * g->dilation[0] >= terms->x.dims[2])
            s->ky_end--;
        at += s->pixels;
    }
    return n;
}
