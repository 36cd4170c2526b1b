#include "decouple/plan/latency.h"

#include "base/files/json_cache.h"
#include "base/hash.h"
#include "decouple/chain.h"
#include "model/infer/infer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { most_ranks = 6, key_size = 1024 };

/* Times on disk: {what was timed together: [ns, ...]}. */
typedef struct times {
    const nd_clock *clock;
    nd_json_cache known;
} times;

static nd_status times_open(const nd_decouple_settings *settings, times *out) {
    char hex[nd_sha256_hex_size];
    out->clock = settings->clock;
    nd_sha256_text(settings->clock->identity, hex);
    return nd_json_cache_open(settings->cache, "times", hex, &out->known);
}

static bool times_get(const times *t, const char *key, int n, double *ns) {
    const json_t *list = json_object_get(t->known.object, key);
    if (json_array_size(list) != (size_t)n) return false;
    for (int i = 0; i < n; i++) {
        ns[i] = json_number_value(json_array_get(list, (size_t)i));
        if (!(ns[i] > 0)) return false;
    }
    return true;
}

static nd_status times_measure(times *t, const char *key, const nd_graph *const *graphs, int n, double *ns) {
    ND_TRY(t->clock->measure(t->clock->user, graphs, n, ns));
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        ND_REQUIRE(isfinite(ns[i]) && ns[i] > 0, nd_status_internal, "a time of %g ns", ns[i]);
        json_array_append_new(list, json_real(ns[i]));
    }
    if (!json_object_set_new(t->known.object, key, list)) nd_json_cache_write(&t->known);
    return nd_status_ok;
}

/* What is timed together for a layer: dense first, then each method at a few of its candidates' ranks. */
typedef struct subjects {
    int n;
    const nd_method *method[nd_clock_graphs_max]; /* NULL: dense */
    int64_t rank[nd_clock_graphs_max];
    double ns[nd_clock_graphs_max];
} subjects;

/* The candidates of one layer in one method lie together, ranks rising: takes the ends and some between. */
static void add_method(const nd_candidate *rows, size_t count, int most, subjects *s) {
    for (int i = 0; i < most; i++) {
        size_t at = most > 1 ? (count - 1) * (size_t)i / (size_t)(most - 1) : 0;
        const nd_candidate *row = &rows[at];
        if (s->n && s->method[s->n - 1] == row->method && s->rank[s->n - 1] == row->rank) continue;
        s->method[s->n] = row->method;
        s->rank[s->n++] = row->rank;
    }
}

static size_t run_length(const nd_candidates *candidates, size_t first) {
    const nd_candidate *rows = candidates->rows;
    size_t end = first + 1;
    while (end < candidates->count && rows[end].layer == rows[first].layer &&
           rows[end].method == rows[first].method)
        end++;
    return end - first;
}

static nd_status list_subjects(const nd_candidates *candidates, int layer, subjects *s) {
    int methods = 0;
    *s = (subjects){.n = 1};
    for (size_t c = 0; c < candidates->count; c += run_length(candidates, c))
        methods += candidates->rows[c].layer == layer && candidates->rows[c].method;
    int most = methods ? (nd_clock_graphs_max - 1) / methods : 0;
    ND_REQUIRE(!methods || most > 1, nd_status_usage, "%d methods are too many to time together", methods);
    if (most > most_ranks) most = most_ranks;
    for (size_t c = 0; c < candidates->count; c += run_length(candidates, c))
        if (candidates->rows[c].layer == layer && candidates->rows[c].method)
            add_method(&candidates->rows[c], run_length(candidates, c), most, s);
    return nd_status_ok;
}

/* Everything that a time depends on: shapes and ranks, not the values of weights. */
static nd_status name_subjects(const nd_conv *conv, nd_ranks ranks, const subjects *s, char key[key_size]) {
    const nd_window *w = &conv->window;
    int used = snprintf(key, key_size, "%lldx%lldx%lld g%lld", (long long)conv->ni, (long long)conv->in_h,
                        (long long)conv->in_w, (long long)conv->groups);
    used += snprintf(key + used, key_size - (size_t)used,
                     " to %lld by %lldx%lld s%lldx%lld d%lldx%lld p%lld,%lld,%lld,%lld b%d %s",
                     (long long)conv->no, (long long)w->kernel[0], (long long)w->kernel[1],
                     (long long)w->stride[0], (long long)w->stride[1], (long long)w->dilation[0],
                     (long long)w->dilation[1], (long long)w->pad[0], (long long)w->pad[1],
                     (long long)w->pad[2], (long long)w->pad[3], conv->bias != NULL,
                     ranks == nd_ranks_uniform ? "uniform" : "adaptive");
    for (int i = 1; i < s->n && used < key_size; i++)
        used += snprintf(key + used, key_size - (size_t)used, " %s:%lld", s->method[i]->name,
                         (long long)s->rank[i]);
    ND_REQUIRE(used < key_size, nd_status_internal, "conv %s: too many candidates to name", conv->name);
    return nd_status_ok;
}

/* The convolution alone, dense or as its chain. */
static nd_status build_graph(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t batch,
                             const nd_method *method, int64_t rank, nd_graph **out) {
    nd_chain chain = {0};
    nd_status status = nd_status_ok;
    ND_TRY(nd_conv_graph(conv, batch, out));
    if (!method) return nd_status_ok;
    ND_TRY_DONE(method->decompose(backend, conv, ranks, rank, NULL, &chain));
    ND_TRY_DONE(nd_chain_rewrite(*out, 0, &chain));
    ND_TRY_DONE(nd_graph_sort(*out));
    ND_TRY_DONE(nd_graph_infer(*out, &(nd_infer_settings){.batch = batch}));
done:
    nd_chain_free(&chain);
    return status;
}

static nd_status time_subjects(nd_backend *backend, const nd_decouple_settings *settings, const nd_conv *conv,
                               times *t, subjects *s) {
    char key[key_size];
    nd_graph *graphs[nd_clock_graphs_max] = {0};
    ND_TRY(name_subjects(conv, settings->ranks, s, key));
    if (times_get(t, key, s->n, s->ns)) return nd_status_ok;
    nd_status status = nd_status_ok;
    for (int i = 0; !status && i < s->n; i++)
        status = build_graph(backend, conv, settings->ranks, t->clock->batch, s->method[i], s->rank[i],
                             &graphs[i]);
    if (!status) status = times_measure(t, key, (const nd_graph *const *)graphs, s->n, s->ns);
    for (int i = 0; i < s->n; i++) nd_graph_free(graphs[i]);
    return status;
}

/* Linear in the rank between the measured ones, which include the ends. */
static double time_of(const subjects *s, const nd_candidate *row) {
    int below = -1, above = -1;
    for (int i = 0; i < s->n; i++) {
        if (s->method[i] != row->method) continue;
        if (s->rank[i] <= row->rank) below = i;
        if (s->rank[i] >= row->rank && above < 0) above = i;
    }
    if (below < 0 || above < 0 || below == above) return s->ns[below < 0 ? above : below];
    double share = (double)(row->rank - s->rank[below]) / (double)(s->rank[above] - s->rank[below]);
    return s->ns[below] * (1 - share) + s->ns[above] * share;
}

nd_status nd_latency_price(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                           const nd_plan *plan, nd_candidates *candidates) {
    times t = {0};
    char key[key_size] = "network ";
    double whole = 0, dense = 0;
    nd_status status = nd_status_ok;
    ND_TRY_DONE(times_open(settings, &t));
    nd_graph_sha256(graph, key + strlen(key));
    if (!times_get(&t, key, 1, &whole)) ND_TRY_DONE(times_measure(&t, key, &graph, 1, &whole));
    for (int l = 0; l < plan->n_layers; l++) {
        subjects s;
        nd_progress_report(settings->progress, "timing layers", l, plan->n_layers);
        if (plan->layers[l].why) continue;
        ND_TRY_DONE(list_subjects(candidates, l, &s));
        ND_TRY_DONE(time_subjects(backend, settings, &plan->layers[l].conv, &t, &s));
        dense += s.ns[0];
        for (size_t c = 0; c < candidates->count; c++)
            if (candidates->rows[c].layer == l)
                candidates->rows[c].cost = (int64_t)ceil(time_of(&s, &candidates->rows[c]));
    }
    nd_progress_report(settings->progress, "timing layers", plan->n_layers, plan->n_layers);
    candidates->fixed = whole > dense ? (int64_t)(whole - dense) : 0;
    candidates->total = candidates->fixed + (int64_t)dense;
    nd_log(nd_log_info, "the network takes %.0f ns, its layers alone %.0f ns", whole, dense);
done:
    nd_json_cache_close(&t.known);
    return status;
}
