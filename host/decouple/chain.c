#include "decouple/chain.h"

#include "base/parallel.h"
#include "decouple/fit/combine_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t nd_conv_out_h(const nd_conv *conv) {
    return nd_window_output(&conv->window, 0, conv->in_h, false);
}

int64_t nd_conv_out_w(const nd_conv *conv) {
    return nd_window_output(&conv->window, 1, conv->in_w, false);
}

int64_t nd_conv_taps(const nd_conv *conv) {
    return conv->window.kernel[0] * conv->window.kernel[1];
}

int64_t nd_conv_macs(const nd_conv *conv) {
    return nd_conv_out_h(conv) * nd_conv_out_w(conv) * conv->no * (conv->ni / conv->groups) *
           nd_conv_taps(conv);
}

nd_window nd_window_pointwise(void) {
    return (nd_window){.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
}

static int64_t stage_weight_count(const nd_stage *stage) {
    return stage->no * (stage->ni / stage->groups) * stage->window.kernel[0] * stage->window.kernel[1];
}

static void stage_free(nd_stage *stage) {
    free(stage->channel);
    free(stage->weights);
    free(stage->bias);
    *stage = (nd_stage){0};
}

void nd_chain_free(nd_chain *chain) {
    for (int s = 0; s < chain->n; s++) stage_free(&chain->stages[s]);
    chain->n = 0;
}

void nd_shape_add(nd_chain *shape, const char *suffix, const nd_window *window, int64_t no, int64_t ni,
                  int64_t groups) {
    nd_stage *stage = &shape->stages[shape->n++];
    *stage = (nd_stage){.window = *window, .no = no, .ni = ni, .groups = groups};
    snprintf(stage->suffix, sizeof stage->suffix, "%s", suffix);
}

static nd_status stage_allocate(nd_stage *stage, bool gathered) {
    stage->weights = nd_alloc_array((size_t)stage_weight_count(stage), sizeof *stage->weights);
    if (gathered) stage->channel = nd_alloc_array((size_t)stage->ni, sizeof *stage->channel);
    ND_REQUIRE(stage->weights && (stage->channel || !gathered), nd_status_memory,
               "no memory for the weights of a %s stage", stage->suffix);
    return nd_status_ok;
}

nd_status nd_chain_add(nd_chain *chain, const char *suffix, const nd_window *window, int64_t no, int64_t ni,
                       int64_t groups, bool gathered, nd_stage **out) {
    ND_REQUIRE(chain->n < nd_chain_max, nd_status_usage, "a chain has at most %d stages", nd_chain_max);
    ND_REQUIRE(no > 0 && ni > 0 && groups > 0 && no % groups == 0 && ni % groups == 0, nd_status_internal,
               "stage %s: %lld to %lld channels in %lld groups", suffix, (long long)ni, (long long)no,
               (long long)groups);
    nd_shape_add(chain, suffix, window, no, ni, groups);
    *out = &chain->stages[chain->n - 1];
    return stage_allocate(*out, gathered);
}

nd_status nd_chain_allocate(nd_chain *shape, const nd_conv *conv) {
    for (int s = 0; s < shape->n; s++) {
        int64_t given = s ? shape->stages[s - 1].no : conv->ni;
        ND_TRY(stage_allocate(&shape->stages[s], shape->stages[s].ni != given));
    }
    return nd_chain_set_bias(shape, conv->bias);
}

nd_status nd_chain_set_bias(nd_chain *chain, const float *bias) {
    nd_stage *last = &chain->stages[chain->n - 1];
    free(last->bias);
    last->bias = NULL;
    if (!bias) return nd_status_ok;
    last->bias = nd_alloc_array((size_t)last->no, sizeof *last->bias);
    ND_REQUIRE(last->bias, nd_status_memory, "no memory for a bias");
    memcpy(last->bias, bias, (size_t)last->no * sizeof *last->bias);
    return nd_status_ok;
}

nd_conv nd_chain_stage_conv(const nd_chain *chain, const nd_conv *conv, int index) {
    int64_t h = conv->in_h, w = conv->in_w;
    for (int s = 0; s < index; s++) {
        h = nd_window_output(&chain->stages[s].window, 0, h, false);
        w = nd_window_output(&chain->stages[s].window, 1, w, false);
    }
    const nd_stage *stage = &chain->stages[index];
    return (nd_conv){
        .name = conv->name,
        .no = stage->no,
        .ni = stage->ni,
        .groups = stage->groups,
        .window = stage->window,
        .in_h = h,
        .in_w = w,
        .weights = stage->weights,
        .bias = stage->bias,
    };
}

int64_t nd_chain_macs(const nd_chain *chain, const nd_conv *conv) {
    int64_t macs = 0;
    for (int s = 0; s < chain->n; s++) {
        nd_conv stage = nd_chain_stage_conv(chain, conv, s);
        macs += nd_conv_macs(&stage);
    }
    return macs;
}

int64_t nd_chain_params(const nd_chain *chain) {
    int64_t params = 0;
    for (int s = 0; s < chain->n; s++) {
        const nd_stage *stage = &chain->stages[s];
        params += stage_weight_count(stage) + (stage->bias ? stage->no : 0);
    }
    return params;
}

nd_status nd_chain_splice(nd_chain *chain, int index, nd_chain *inner) {
    nd_status status = nd_status_ok;
    nd_stage *outer = &chain->stages[index];
    ND_REQUIRE_DONE(chain->n - 1 + inner->n <= nd_chain_max, nd_status_usage,
                    "a chain has at most %d stages, and this combination needs %d", nd_chain_max,
                    chain->n - 1 + inner->n);
    for (int s = 0; s < inner->n; s++) {
        char joined[2 * sizeof outer->suffix];
        snprintf(joined, sizeof joined, "%s%s", outer->suffix, inner->stages[s].suffix);
        ND_REQUIRE_DONE(strlen(joined) < sizeof outer->suffix, nd_status_internal,
                        "stage name %s is too long", joined);
        memcpy(inner->stages[s].suffix, joined, strlen(joined) + 1);
    }

    nd_stage *first = &inner->stages[0];
    if (outer->channel && !first->channel) {
        first->channel = outer->channel;
        outer->channel = NULL;
    } else if (outer->channel) {
        for (int64_t c = 0; c < first->ni; c++) first->channel[c] = outer->channel[first->channel[c]];
    }
    stage_free(outer);
    memmove(&chain->stages[index + inner->n], &chain->stages[index + 1],
            (size_t)(chain->n - index - 1) * sizeof *chain->stages);
    memcpy(&chain->stages[index], inner->stages, (size_t)inner->n * sizeof *chain->stages);
    chain->n += inner->n - 1;
    inner->n = 0;
done:
    nd_chain_free(inner);
    return status;
}

/* --- composition -------------------------------------------------------------------------------------- */

void nd_functionals_free(nd_functionals *functionals) {
    free(functionals->start);
    free(functionals->index);
    free(functionals->value);
    *functionals = (nd_functionals){0};
}

static nd_status functionals_reserve(nd_functionals *f, int64_t *capacity, int64_t wanted) {
    if (wanted <= *capacity) return nd_status_ok;
    int64_t grown = wanted > 2 * *capacity ? wanted : 2 * *capacity;
    int32_t *index = realloc(f->index, (size_t)grown * sizeof *index);
    if (index) f->index = index;
    double *value = realloc(f->value, (size_t)grown * sizeof *value);
    if (value) f->value = value;
    ND_REQUIRE(index && value, nd_status_memory, "no memory for composing a chain");
    *capacity = grown;
    return nd_status_ok;
}

static nd_status functionals_identity(const nd_conv *conv, nd_functionals *out) {
    *out = (nd_functionals){.rows = conv->ni};
    out->start = nd_alloc_array((size_t)conv->ni + 1, sizeof *out->start);
    out->index = malloc((size_t)conv->ni * sizeof *out->index);
    out->value = malloc((size_t)conv->ni * sizeof *out->value);
    ND_REQUIRE(out->start && out->index && out->value, nd_status_memory, "no memory for composing a chain");
    for (int64_t c = 0; c < conv->ni; c++) {
        out->start[c] = c;
        out->index[c] = (int32_t)(c * nd_conv_taps(conv));
        out->value[c] = 1.0;
    }
    out->start[conv->ni] = conv->ni;
    return nd_status_ok;
}

/* Which rows have entries one next to the other, as those of wide stages have: they are summed as vectors. */
static bool *find_runs(const nd_functionals *in) {
    bool *run = nd_alloc_array((size_t)in->rows, sizeof *run);
    for (int64_t row = 0; run && row < in->rows; row++) {
        int64_t e = in->start[row] + 1;
        while (e < in->start[row + 1] && in->index[e] == in->index[e - 1] + 1) e++;
        run[row] = e == in->start[row + 1];
    }
    return run;
}

/* Entries that became non-zero structurally: mark[] of those in [first, end). */
typedef struct touched {
    bool *mark;
    int64_t first, end;
} touched;

static void touch(touched *to, const nd_functionals *in, int64_t row, int64_t shift, bool run) {
    const int32_t *index = in->index + in->start[row];
    const int64_t n = in->start[row + 1] - in->start[row];
    if (!n) return;
    const int64_t first = index[0] + shift, end = index[n - 1] + shift + 1;
    if (first < to->first) to->first = first;
    if (end > to->end) to->end = end;
    if (run)
        memset(to->mark + first, true, (size_t)n);
    else
        for (int64_t e = 0; e < n; e++) to->mark[index[e] + shift] = true;
}

/* Whether all rows have the same entries, as those of a dense stage with part of the window have. */
static bool rows_alike(const nd_functionals *in) {
    const int64_t n = in->start[1];
    for (int64_t row = 1; row < in->rows; row++)
        if (in->start[row + 1] - in->start[row] != n ||
            memcmp(in->index + in->start[row], in->index, (size_t)n * sizeof *in->index) != 0)
            return false;
    return true;
}

/* As stage_row, of rows that are alike: one after the other in compact[entries], and spread once for every
 * place of the window. */
static void stage_row_alike(const nd_stage *stage, int64_t o, const nd_functionals *in, int64_t conv_kw,
                            double *dense, double *compact, touched *to) {
    const int64_t kw = stage->window.kernel[1], taps = stage->window.kernel[0] * kw, n = in->start[1];
    const int64_t per_group = stage->ni / stage->groups;
    const int64_t first = o / (stage->no / stage->groups) * per_group;
    const float *weights = stage->weights + o * per_group * taps;
    for (int64_t t = 0; t < taps; t++) {
        const int64_t shift = t / kw * conv_kw + t % kw;
        memset(compact, 0, (size_t)n * sizeof *compact);
        for (int64_t c = 0; c < per_group; c++) {
            const int64_t row = stage->channel ? stage->channel[first + c] : first + c;
            nd_add_scaled(compact, in->value + in->start[row], (double)weights[c * taps + t], n);
        }
        if (to) touch(to, in, 0, shift, false);
        for (int64_t e = 0; e < n; e++) dense[in->index[e] + shift] += compact[e];
    }
}

/* dense[...] += the functional of output `o` of a stage that takes in `in`, whose rows are in rising order.
 * `compact` is memory for a row of `in` where those are alike, else NULL; `to` is NULL where the caller does
 * not need to know which entries. */
static void stage_row(const nd_stage *stage, int64_t o, const nd_functionals *in, const bool *runs,
                      int64_t conv_kw, double *dense, double *compact, touched *to) {
    if (compact) {
        stage_row_alike(stage, o, in, conv_kw, dense, compact, to);
        return;
    }
    int64_t kh = stage->window.kernel[0], kw = stage->window.kernel[1];
    int64_t per_group = stage->ni / stage->groups;
    int64_t first = o / (stage->no / stage->groups) * per_group;
    const float *weight = stage->weights + o * per_group * kh * kw;
    for (int64_t c = 0; c < per_group; c++) {
        const int64_t row = stage->channel ? stage->channel[first + c] : first + c;
        const int64_t begin = in->start[row], n = in->start[row + 1] - begin;
        const int32_t *index = in->index + begin;
        const double *value = in->value + begin;
        for (int64_t t = 0; t < kh * kw; t++, weight++) {
            const int64_t shift = t / kw * conv_kw + t % kw;
            if (to) touch(to, in, row, shift, runs[row]);
            if (runs[row] && n)
                nd_add_scaled(dense + index[0] + shift, value, *weight, n);
            else
                for (int64_t e = 0; e < n; e++) dense[index[e] + shift] += *weight * value[e];
        }
    }
}

/* Takes the entries out of dense[] and mark[], in rising order. */
static nd_status take_row(double *dense, const touched *from, int64_t *capacity, int64_t *used,
                          nd_functionals *out) {
    if (from->end > from->first) ND_TRY(functionals_reserve(out, capacity, *used + from->end - from->first));
    for (int64_t at = from->first; at < from->end; at++) {
        if (!from->mark[at]) continue;
        out->index[*used] = (int32_t)at;
        out->value[(*used)++] = dense[at];
        dense[at] = 0;
        from->mark[at] = false;
    }
    return nd_status_ok;
}

static nd_status functionals_apply(const nd_stage *stage, const nd_conv *conv, const nd_functionals *in,
                                   nd_functionals *out) {
    nd_status status = nd_status_ok;
    const int64_t size = conv->ni * nd_conv_taps(conv);
    double *dense = nd_alloc_array(2 * (size_t)size, sizeof *dense);
    bool *mark = nd_alloc_array((size_t)size, sizeof *mark), *runs = find_runs(in);
    const bool alike = rows_alike(in);
    int64_t capacity = 0, used = 0;
    *out = (nd_functionals){.rows = stage->no};
    out->start = nd_alloc_array((size_t)stage->no + 1, sizeof *out->start);
    ND_REQUIRE_DONE(dense && mark && runs && out->start, nd_status_memory, "no memory for composing a chain");
    for (int64_t o = 0; o < stage->no; o++) {
        touched to = {mark, size, 0};
        stage_row(stage, o, in, runs, conv->window.kernel[1], dense, alike ? dense + size : NULL, &to);
        ND_TRY_DONE(take_row(dense, &to, &capacity, &used, out));
        out->start[o + 1] = used;
    }
done:
    free(dense);
    free(mark);
    free(runs);
    return status;
}

nd_status nd_chain_functionals(const nd_chain *chain, const nd_conv *conv, int index, nd_functionals *out) {
    nd_functionals current = {0}, next = {0};
    nd_status status = functionals_identity(conv, &current);
    for (int s = 0; !status && s < index; s++) {
        status = functionals_apply(&chain->stages[s], conv, &current, &next);
        nd_functionals_free(&current);
        current = next;
    }
    if (status) nd_functionals_free(&current);
    *out = current;
    return status;
}

typedef struct composition {
    const nd_stage *last;
    const nd_functionals *in; /* what it takes in */
    const bool *runs;
    int64_t k, per_group, conv_kw;
    double *compact; /* [workers][k], or NULL */
    double *weights;
} composition;

static void compose_rows(void *context, int64_t begin, int64_t end, int worker) {
    const composition *c = context;
    for (int64_t o = begin; o < end; o++) {
        double *row = c->weights + o * c->k;
        memset(row, 0, (size_t)c->k * sizeof *row);
        /* Functionals count through the inputs of all groups, and a row has those of its own. */
        stage_row(c->last, o, c->in, c->runs, c->conv_kw, row - o / c->per_group * c->k,
                  c->compact ? c->compact + worker * c->k : NULL, NULL);
    }
}

nd_status nd_chain_compose(const nd_chain *chain, const nd_conv *conv, double *weights) {
    nd_status status = nd_status_ok;
    nd_functionals in = {0};
    bool *runs = NULL;
    double *compact = NULL;
    ND_TRY_DONE(nd_chain_functionals(chain, conv, chain->n - 1, &in));
    runs = find_runs(&in);
    const int64_t k = conv->ni / conv->groups * nd_conv_taps(conv);
    const bool alike = conv->groups == 1 && rows_alike(&in);
    if (alike) compact = nd_alloc_array((size_t)nd_threads(), (size_t)k * sizeof *compact);
    ND_REQUIRE_DONE(runs && (compact || !alike), nd_status_memory, "no memory for composing a chain");
    composition c = {.last = &chain->stages[chain->n - 1],
                     .in = &in,
                     .runs = runs,
                     .k = k,
                     .per_group = conv->no / conv->groups,
                     .conv_kw = conv->window.kernel[1],
                     .compact = compact,
                     .weights = weights};
    nd_parallel_for(conv->no, c.k, compose_rows, &c);
done:
    nd_functionals_free(&in);
    free(runs);
    free(compact);
    return status;
}
