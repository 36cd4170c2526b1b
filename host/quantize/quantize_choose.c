/* Which layers run in integers, by a bound on the loss. */
#include "quantize/quantizing.h"

#include "model/cost.h"
#include "model/infer/infer.h"
#include "quantize/balance.h"
#include "run/captures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Scores of one network over the calibration images, kept or held against those kept. */
typedef struct nd_scores {
    float *expected; /* [images][classes], of fp32 */
    int64_t images, classes, seen;
    bool keep;
    double squares; /* of the distance */
    int64_t moved;  /* images with another best class */
    nd_captures captures;
} nd_scores;

typedef struct nd_choosing {
    nd_quantizing *q;
    nd_quantize_report *report;
    int *owner;        /* by node: its layer, -1: none */
    bool *in_integers; /* by node */
    nd_scores scores;
    double spread; /* sum |s - mean s|^2 in fp32 */
    double error, points;
    nd_graph *all; /* all in integers */
} nd_choosing;

/* Part of the network's time that counts as faster: what measuring it leaves to chance. */
static const double choosing_margin = .01;

static int64_t best_of(const float *scores, int64_t classes) {
    int64_t best = 0;
    for (int64_t c = 1; c < classes; c++)
        if (scores[c] > scores[best]) best = c;
    return best;
}

static nd_status scores_block(void *context, int64_t n) {
    nd_scores *s = context;
    const float *got = s->captures.data[0];
    ND_REQUIRE(s->seen + n <= s->images, nd_status_internal, "more images than there were");
    float *expected = s->expected + s->seen * s->classes;
    s->seen += n;
    if (s->keep) {
        memcpy(expected, got, (size_t)(n * s->classes) * sizeof *got);
        return nd_status_ok;
    }
    for (int64_t i = 0; i < n; i++, expected += s->classes, got += s->classes) {
        for (int64_t c = 0; c < s->classes; c++) {
            const double off = (double)got[c] - (double)expected[c];
            s->squares += off * off;
        }
        s->moved += best_of(got, s->classes) != best_of(expected, s->classes);
    }
    return nd_status_ok;
}

/* Runs the calibration images through a graph. */
static nd_status scores_run(nd_choosing *c, const nd_graph *graph, bool keep) {
    nd_scores *s = &c->scores;
    nd_batches *calib = c->q->settings->calib;
    nd_captures *captures = &s->captures;
    int64_t classes;
    const int scores = nd_graph_class_scores(graph, &classes);
    s->seen = s->moved = 0;
    s->squares = 0;
    s->keep = keep;
    ND_TRY(nd_captures_open(c->q->backend, graph, calib->batch, NULL, 0, &scores, 1, captures));
    const nd_status status = nd_sample(calib, c->q->settings->images, &captures, 1, scores_block, s);
    nd_captures_close(captures);
    return status;
}

/* What the network in fp32 says, and how much its scores vary from image to image. */
static nd_status scores_open(nd_choosing *c) {
    nd_scores *s = &c->scores;
    const nd_graph *graph = c->q->graph;
    ND_REQUIRE(nd_graph_class_scores(graph, &s->classes) >= 0, nd_status_unsupported,
               "%s: none of its outputs is a list of scores, by which layers are chosen", graph->name);
    s->images = nd_sample_count(c->q->settings->calib, c->q->settings->images);
    s->expected = nd_alloc_array((size_t)s->images, (size_t)s->classes * sizeof *s->expected);
    ND_REQUIRE(s->expected, nd_status_memory, "no memory for scores");
    ND_TRY(scores_run(c, graph, true));
    s->images = s->seen; /* some could not be read */
    for (int64_t k = 0; k < s->classes; k++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < s->images; i++) {
            const double x = (double)s->expected[i * s->classes + k];
            sum += x;
            squares += x * x;
        }
        c->spread += squares - sum * sum / (double)s->images;
    }
    return nd_status_ok;
}

/* The network as in_integers[] has it: folded, inferred for one image. */
static nd_status make_graph(nd_choosing *c, nd_graph **out) {
    const nd_infer_settings infer = nd_infer_image(c->q->graph);
    nd_status status = nd_status_ok;
    ND_TRY(nd_graph_clone(c->q->graph, out));
    ND_TRY_DONE(nd_quantizing_write(c->q, c->in_integers, *out));
    ND_TRY_DONE(nd_graph_fold(*out));
    ND_TRY_DONE(nd_graph_infer(*out, &infer));
    return nd_status_ok;
done:
    nd_graph_free(*out);
    *out = NULL;
    return status;
}

/* Measures the error and, where asked for, the loss of the network as in_integers[] has it. */
static nd_status measure_graph(nd_choosing *c, const nd_graph *graph, bool loss) {
    const nd_quantize_judge *judge = c->q->settings->judge;
    ND_TRY(scores_run(c, graph, false));
    c->report->runs++;
    const double error = c->scores.squares / c->spread;
    c->error = isfinite(error) ? error : c->spread > 0 ? INFINITY : 0;
    c->points = 100 * (double)c->scores.moved / (double)c->scores.images;
    return judge && loss ? judge->loss(judge->user, graph, &c->points) : nd_status_ok;
}

static nd_status try_choice(nd_choosing *c, bool loss) {
    nd_graph *graph = NULL;
    ND_TRY(make_graph(c, &graph));
    const nd_status status = measure_graph(c, graph, loss);
    nd_graph_free(graph);
    return status;
}

static bool is_within(const nd_choosing *c) {
    return c->points <= c->q->settings->points;
}

static void set_layer(nd_choosing *c, int layer, bool in_integers) {
    c->report->of[layer].in_integers = in_integers;
    for (size_t i = 0; i < c->q->n_nodes; i++)
        if (c->owner[i] == layer) c->in_integers[i] = in_integers;
}

/* Layers of the graph, in its order; the halves of a pair are one. */
static nd_status find_layers(nd_choosing *c) {
    const nd_graph *graph = c->q->graph;
    const bool *chosen = c->q->chosen;
    c->report->of = nd_alloc_array(c->q->n_nodes + 1, sizeof *c->report->of);
    ND_REQUIRE(c->report->of, nd_status_memory, "no memory for layers");
    for (size_t i = 0; i < c->q->n_nodes; i++) c->owner[i] = -1;
    for (int i = 0; i < graph->n_nodes; i++) {
        if (!chosen[i] || c->owner[i] >= 0) continue;
        const int partner = nd_balance_partner(graph, chosen, i), layer = c->report->n++;
        c->report->of[layer] =
            (nd_quantize_layer){.name = graph->nodes[i].name, .pair = partner >= 0, .in_integers = true};
        c->owner[i] = layer;
        if (partner >= 0) c->owner[partner] = layer;
    }
    for (int i = 0; i < graph->n_nodes; i++)
        if (c->owner[i] >= 0)
            c->report->of[c->owner[i]].macs += nd_cost_node(graph, &graph->nodes[i]).total_macs;
    return nd_status_ok;
}

/* Measures the network with one layer in fp32. */
static nd_status judge_layer(nd_choosing *c, nd_quantize_layer *layer) {
    nd_graph *graph = NULL;
    double ns[2];
    nd_status status = nd_status_ok;
    ND_TRY_DONE(make_graph(c, &graph));
    ND_TRY_DONE(measure_graph(c, graph, false));
    layer->error = c->report->all_error - c->error;
    if (!c->report->all_ns) goto done;
    ND_TRY_DONE(nd_quantizing_time(c->q, (const nd_graph *[]){c->all, graph}, 2, ns));
    layer->cost_ns = ns[1] - ns[0];
done:
    nd_graph_free(graph);
    return status;
}

static nd_status judge_layers(nd_choosing *c) {
    const nd_quantize_report *report = c->report;
    for (int l = 0; l < report->n; l++) {
        nd_progress_report(c->q->settings->progress, "layers in fp32", l, report->n);
        set_layer(c, l, false);
        ND_TRY(judge_layer(c, &report->of[l]));
        set_layer(c, l, true);
    }
    nd_progress_report(c->q->settings->progress, "layers in fp32", report->n, report->n);
    return nd_status_ok;
}

static double cost_of(const nd_quantize_report *report, const nd_quantize_layer *layer) {
    return report->all_ns > 0 ? layer->cost_ns : (double)layer->macs;
}

/* Into fp32 what is faster there, unless that is all there is, or together it is no faster. */
static nd_status take_faster(nd_choosing *c) {
    nd_quantize_report *report = c->report;
    nd_graph *graph = NULL;
    double ns[2] = {0};
    int count = 0;
    nd_status status = nd_status_ok;
    for (int l = 0; l < report->n; l++) count += report->of[l].cost_ns < -choosing_margin * report->all_ns;
    if (!count || count == report->n) return nd_status_ok;
    for (int l = 0; l < report->n; l++) {
        nd_quantize_layer *layer = &report->of[l];
        layer->faster = layer->cost_ns < -choosing_margin * report->all_ns;
        if (layer->faster) set_layer(c, l, false);
    }
    ND_TRY_DONE(make_graph(c, &graph));
    ND_TRY_DONE(nd_quantizing_time(c->q, (const nd_graph *[]){c->all, graph}, 2, ns));
    if (ns[1] < ns[0]) {
        status = measure_graph(c, graph, true);
        goto done;
    }
    for (int l = 0; l < report->n; l++) {
        if (report->of[l].faster) set_layer(c, l, true);
        report->of[l].faster = false;
    }
done:
    nd_graph_free(graph);
    return status;
}

/* Whether layer a goes into fp32 before b: what takes off error for nothing, then most for its cost, in the
 * end what takes off none. */
static bool comes_first(const nd_quantize_report *report, int l, int than) {
    const nd_quantize_layer *a = &report->of[l], *b = &report->of[than];
    const double x = cost_of(report, a), y = cost_of(report, b);
    if ((a->error > 0) != (b->error > 0)) return a->error > 0;
    if (a->error <= 0 || (x <= 0 && y <= 0)) return a->error > b->error;
    if (x <= 0 || y <= 0) return x <= 0;
    return a->error * y > b->error * x;
}

/* Into fp32, one by one, until the bound is kept: with the last one it is the network in fp32, which loses
 * nothing. */
static nd_status walk_out(nd_choosing *c) {
    const nd_quantize_report *report = c->report;
    for (int turn = 1; !is_within(c); turn++) {
        int next = -1, left = 0;
        for (int l = 0; l < report->n; l++) {
            const nd_quantize_layer *layer = &report->of[l];
            left += layer->in_integers;
            if (layer->in_integers && (next < 0 || comes_first(report, l, next))) next = l;
        }
        nd_progress_report(c->q->settings->progress, "walk", turn, report->n);
        set_layer(c, next, false);
        report->of[next].turn = turn;
        if (left > 1) ND_TRY(try_choice(c, true));
        if (left == 1) c->points = c->error = 0;
    }
    return nd_status_ok;
}

static bool has_integers(const nd_quantize_report *report) {
    for (int l = 0; l < report->n; l++)
        if (report->of[l].in_integers) return true;
    return false;
}

/* Back into integers, the dearest first, what the bound does not need in fp32; what is faster there only
 * where nothing else is left. */
static nd_status walk_back(nd_choosing *c) {
    const nd_quantize_report *report = c->report;
    bool *tried = nd_alloc_array((size_t)report->n + 1, sizeof *tried);
    nd_status status = nd_status_ok;
    ND_REQUIRE(tried, nd_status_memory, "no memory for layers");
    for (;;) {
        const bool any = has_integers(report);
        int next = -1;
        for (int l = 0; l < report->n; l++) {
            const nd_quantize_layer *layer = &report->of[l];
            if (layer->in_integers || tried[l] || (layer->faster && any)) continue;
            if (next < 0 || cost_of(report, layer) > cost_of(report, &report->of[next])) next = l;
        }
        if (next < 0) break;
        const double error = c->error, points = c->points;
        tried[next] = true;
        set_layer(c, next, true);
        ND_TRY_DONE(try_choice(c, true));
        if (is_within(c)) continue;
        set_layer(c, next, false);
        c->error = error;
        c->points = points;
    }
done:
    free(tried);
    return status;
}

/* Times of the network in fp32, all in integers and, where it is another one, as it was chosen. */
static nd_status time_choice(nd_choosing *c, const nd_graph *chosen) {
    nd_quantize_report *report = c->report;
    double ns[nd_quantizing_timed] = {0};
    const int n = chosen ? 3 : 2;
    if (!c->q->settings->timed) return nd_status_ok;
    ND_TRY(nd_quantizing_time(c->q, (const nd_graph *[]){c->q->graph, c->all, chosen}, n, ns));
    report->real_ns = ns[0];
    report->all_ns = ns[1];
    report->ns = ns[n - 1];
    return nd_status_ok;
}

static nd_status choose(nd_choosing *c) {
    nd_quantize_report *report = c->report;
    nd_graph *chosen = NULL;
    nd_status status = nd_status_ok;
    ND_TRY(find_layers(c));
    ND_TRY(scores_open(c));
    ND_TRY(make_graph(c, &c->all));
    ND_TRY(measure_graph(c, c->all, true));
    report->all_error = c->error;
    report->all_points = c->points;
    ND_TRY(time_choice(c, NULL));
    ND_TRY(judge_layers(c));
    c->error = report->all_error;
    c->points = report->all_points;
    ND_TRY(take_faster(c));
    ND_TRY(walk_out(c));
    ND_TRY(walk_back(c));
    ND_REQUIRE(has_integers(report), nd_status_failed, "no layer can run in int8 within %g points",
               c->q->settings->points);
    report->error = c->error;
    report->points = c->points;
    ND_TRY(make_graph(c, &chosen));
    status = time_choice(c, chosen);
    nd_graph_free(chosen);
    return status;
}

nd_status nd_quantizing_choose(nd_quantizing *q, bool *in_integers, nd_quantize_report *report) {
    nd_choosing c = {.q = q, .report = report, .in_integers = in_integers};
    nd_status status = nd_status_ok;
    c.owner = nd_alloc_array(q->n_nodes + 1, sizeof *c.owner);
    ND_REQUIRE(c.owner, nd_status_memory, "no memory for layers");
    memcpy(in_integers, q->chosen, q->n_nodes * sizeof *in_integers);
    status = choose(&c);
    nd_graph_free(c.all);
    free(c.owner);
    free(c.scores.expected);
    return status;
}
