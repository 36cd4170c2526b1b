#include "run/cpu/separable/separable_terms.h"

#include <stdlib.h>

/* Whole blocks of `lanes` channels give as many plain groups as the smallest rank in the block. Marks the
 * terms that went. */
static void terms_deal_plain(const nd_work *work, nd_sep_terms *out) {
    const int64_t lanes = out->lanes, terms = work->terms;
    for (int64_t first = 0, t = 0; first + lanes <= work->x.dims[1]; first += lanes) {
        int64_t start[nd_sep_lanes_max], rank = terms;
        for (int64_t lane = 0; lane < lanes; lane++) {
            start[lane] = t;
            while (t < terms && work->channel[t] == first + lane) t++;
            if (t - start[lane] < rank) rank = t - start[lane];
        }
        for (int64_t slot = 0; slot < rank; slot++) {
            for (int64_t lane = 0; lane < lanes; lane++) {
                out->place[start[lane] + slot] = (out->groups + slot) * lanes + lane;
            }
        }
        for (int64_t left = rank; left > 0;) {
            /* 4 go as 2 + 2 rather than 3 + 1: a single slot loads an input for every FMA. */
            const int64_t slots = left == 4 ? 2 : left < nd_sep_slots_max ? left : nd_sep_slots_max;
            out->runs[out->depthwise.n_runs++] =
                (nd_sep_run){.first = first, .group = (int)out->groups, .slots = (int)slots};
            out->groups += slots;
            left -= slots;
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

nd_status nd_sep_terms_build(const nd_work *work, int lanes, bool in_order, nd_sep_terms *out) {
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
        if (!in_order) terms_deal_plain(work, out);
        out->depthwise.plain_runs = out->depthwise.n_runs;
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

/* A word of a filter's row: the last three of four adjacent columns. */
static nd_status terms_words(const nd_work *work, const float *middle_factor, nd_sep_terms *terms) {
    enum { columns = 3, largest = 1 << 30 };
    nd_sep_depthwise *d = &terms->depthwise;
    const int64_t lanes = terms->lanes, taps = (int64_t)d->kh * columns;
    if (!work->depthwise_scale || d->kw != columns) return nd_status_ok;
    for (int64_t t = 0; t < work->terms; t++) {
        if (!(255.F * 128 * (float)taps * middle_factor[t] < (float)largest)) return nd_status_ok;
    }
    const size_t count = (size_t)(terms->groups * d->kh * lanes);
    terms->words = nd_alloc_array(2 * count, sizeof *terms->words);
    ND_REQUIRE(terms->words, nd_status_memory, "separable: no memory for %lld terms", (long long)work->terms);
    for (int64_t t = 0; t < work->terms; t++) {
        const int64_t group = terms->place[t] / lanes, lane = terms->place[t] % lanes;
        for (int64_t ky = 0; ky < d->kh; ky++) {
            const float *row = work->depthwise + t * taps + ky * columns;
            const int64_t at = (group * d->kh + ky) * lanes + lane;
            uint32_t word = 0;
            int32_t sum = 0;
            for (int kx = 0; kx < columns; kx++) {
                word |= (uint32_t)(uint8_t)(int8_t)row[kx] << 8 * (kx + 1);
                sum += (int32_t)row[kx];
            }
            terms->words[at] = (int32_t)word;
            terms->words[(int64_t)count + at] = -d->x_zero * sum;
        }
    }
    d->words = terms->words;
    d->starts = terms->words + count;
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
    return terms_words(work, middle_factor, terms);
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
