#include "decouple/curves/curves.h"

#include "base/parallel.h"
#include "decouple/calib/activation_cache.h"
#include "decouple/curves/curves_cache.h"
#include "decouple/curves/score_loss.h"
#include "decouple/fit/refit.h"
#include "decouple/fit/split.h"
#include "model/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Measured ranks, as shares of the dense layer's cost (method.md, "Measured curves"). */
static const double measured_shares[] = {.06, .09, .125, .185, .25, .31, .37, .5, .62, .8},
                    quick_shares[] = {.06, .09, .125, .185, .25, .37, .62, .8};
/* Where the ridge is chosen, and by how much more images lose that a fit has not seen: whatever the target
 * and the methods are, so that what was measured for others is what would be measured now. */
static const double ridge_share = .25, optimism_shares[] = {.06, .185, .37};
enum {
    n_shares = sizeof measured_shares / sizeof *measured_shares,
    n_quick_shares = sizeof quick_shares / sizeof *quick_shares,
    n_optimism_shares = sizeof optimism_shares / sizeof *optimism_shares,
    quick_images = 128 /* that a quick survey takes its moments of */
};
/* A layer that keeps more than this many times the share that the network keeps is rare, and high ranks are
 * slow to fit. */
static const double most_of_mean = 2.5;
static const double interpolated_share = 1.0 / 72; /* step of the candidates between them */
static const double least_loss = 1e-12;
/* Shares at which it is measured what errors do to the scores (method.md, "Quick"). */
static const double scale_shares[nd_scale_points] = {.06, .125, .25};

/* Images that losses at the scores are measured on: as many as take so many multiply-accumulates through the
 * network. */
typedef struct images_within {
    double macs;
    int least, most;
} images_within;
static const images_within measured_within = {7.5e11, 32, 128}, scale_within = {2.6e11, 16, 32};

/* The network, its images at the layer that is measured, and what is asked of the fits. */
typedef struct pass {
    const nd_graph *graph;
    nd_backend *backend;
    const nd_decouple_settings *settings;
    nd_activation_cache *activations;
    nd_known_heads *heads; /* on the images that are measured on */
    nd_score_tail *tail;   /* opened once something is measured at the scores */
    int last;              /* node of the last layer that is measured */
    bool scales;           /* wanted: what an error in a layer does to the scores */
    int next;              /* node of the next layer that is measured, or 0 */
} pass;

typedef struct moments_job {
    nd_backend *backend;
    const nd_conv *conv;
    nd_split split;
    nd_captures captures;
} moments_job;

static nd_status moments_block(void *context, int64_t n) {
    moments_job *job = context;
    return nd_split_add(&job->split, job->backend, job->conv, n, job->captures.data[0], NULL);
}

/* Images that layers are fitted to. */
static int64_t fitted_images(const nd_decouple_settings *settings) {
    const int64_t images = nd_sample_count(settings->calib, settings->calib_images);
    return settings->quick && images > quick_images ? quick_images : images;
}

static nd_status own_moments(const pass *at, const nd_layer *layer, nd_split *out) {
    nd_status status = nd_status_ok;
    moments_job job = {.backend = at->backend, .conv = &layer->conv};
    const nd_node *node = &at->graph->nodes[layer->node];
    const int x = node->in[0];
    ND_TRY_DONE(nd_split_open(&layer->conv, fitted_images(at->settings), &job.split));
    nd_activation_cache_ahead(at->activations, at->next, false);
    ND_TRY_DONE(nd_activation_cache_captures(at->activations, at->backend, at->graph, &x, 1, &job.captures));
    ND_TRY_DONE(nd_activation_cache_sample(at->activations, 0, &job.captures, NULL, moments_block, &job));
    ND_TRY_DONE(nd_split_finish(&job.split, at->backend, &layer->conv, at->settings->ridge));
    job.split.fit->metric = layer->metric;
done:
    nd_captures_close(&job.captures);
    if (status)
        nd_split_close(&job.split);
    else
        *out = job.split;
    return status;
}

static double most_share(const nd_decouple_settings *settings) {
    return settings->rule == nd_rule_macs_ratio ? most_of_mean / settings->target : 1;
}

/* The largest rank within a share of the dense cost, the least there is where none is; 0 where that costs no
 * less than the layer. */
static int64_t rank_within(const nd_decouple_settings *settings, const nd_method *method,
                           const nd_layer *layer, double share) {
    const nd_conv *conv = &layer->conv;
    const int64_t step = nd_plan_step(settings, method, conv), most = method->max_rank(conv) / step * step;
    const double budget = share * (double)layer->dense_macs;
    int64_t low = step, high = most;
    while (low < high) {
        int64_t middle = (low + high + step) / 2 / step * step;
        if ((double)nd_method_macs(method, conv, settings->ranks, middle) <= budget)
            low = middle;
        else
            high = middle - step;
    }
    const bool costlier = nd_method_macs(method, conv, settings->ranks, low) >= layer->dense_macs;
    return low > most || costlier ? 0 : low;
}

/* Ranks at shares of the cost, each once; returns how many. */
static int ranks_at(const nd_decouple_settings *settings, const nd_method *method, const nd_layer *layer,
                    const double *shares, int count, int64_t *ranks) {
    int n = 0;
    for (int s = 0; s < count; s++) {
        const int64_t rank = rank_within(settings, method, layer, shares[s]);
        if (rank > (n ? ranks[n - 1] : 0)) ranks[n++] = rank;
    }
    return n;
}

/* Ranks worth measuring: at the shares of cost above, below dense and within reach of the target. */
static int grid_of(const nd_decouple_settings *settings, const nd_method *method, const nd_layer *layer,
                   int64_t *ranks) {
    const double *shares = settings->quick ? quick_shares : measured_shares;
    const int all = settings->quick ? n_quick_shares : n_shares;
    int most = 1;
    while (most < all && shares[most] <= most_share(settings)) most++;
    return ranks_at(settings, method, layer, shares, most, ranks);
}

/* The first method that there is for such a layer. */
static const nd_method *first_method(const nd_layer *layer) {
    const nd_method *const *m = nd_method_table;
    while (*m && ((*m)->pointwise == layer->spatial || !(*m)->applies(&layer->conv))) m++;
    return *m;
}

/* One ridge for all ranks and methods: that which suits the refit of one of them at a middle rank, its
 * other stages from the weights alone, since what would choose them from data is found with a ridge. */
static nd_status choose_ridge(const pass *at, const nd_layer *layer, nd_split *split) {
    const nd_method *method = first_method(layer);
    const int64_t rank = method ? rank_within(at->settings, method, layer, ridge_share) : 0;
    nd_chain chain = {0};
    nd_status status = nd_status_ok;
    if (rank && split->held && at->settings->ridge <= 0) {
        status = method->decompose(at->backend, &layer->conv, at->settings->ranks, rank, NULL, &chain);
        if (!status) status = nd_split_ridge(split, at->backend, &layer->conv, &chain);
        nd_log(nd_log_debug, "%s: ridge %g", layer->name, split->lambda);
    }
    nd_chain_free(&chain);
    return status;
}

typedef nd_status judge(const nd_split *split, nd_backend *backend, const nd_conv *conv,
                        const nd_chain *chain, double *result);

/* Fits of one layer. They need nothing of each other. */
typedef struct fits {
    const pass *at;
    const nd_layer *layer;
    const nd_split *split;
    struct fit {
        const nd_method *method;
        int64_t rank, cost;
        judge *judge; /* what the images held out say of it, to *result; or NULL */
        double *result;
        nd_chain *kept; /* gets the chain; or NULL */
    } list[nd_methods_max * nd_curve_points];
    int n;
} fits;

static void fits_add(fits *to, struct fit fit) {
    fit.cost = nd_method_macs(fit.method, &to->layer->conv, to->at->settings->ranks, fit.rank);
    to->list[to->n++] = fit;
}

static int costlier_first(const void *a, const void *b) {
    const struct fit *p = a, *q = b;
    return (p->cost < q->cost) - (p->cost > q->cost);
}

static nd_status fits_one(void *context, int64_t i) {
    const fits *in = context;
    const struct fit *fit = &in->list[i];
    nd_backend *backend = in->at->backend;
    const nd_conv *conv = &in->layer->conv;
    nd_chain chain = {0};
    nd_status status =
        fit->method->decompose(backend, conv, in->at->settings->ranks, fit->rank, in->split->fit, &chain);
    if (!status && fit->judge) status = fit->judge(in->split, backend, conv, &chain, fit->result);
    if (fit->kept)
        *fit->kept = chain;
    else
        nd_chain_free(&chain);
    return status;
}

/* Several at once where the backend allows that and a quarter of the memory that is left holds what each
 * allocates: three matrices of its features, which are at most as many as its patch has numbers, and some
 * kernels. Threads within a fit gain less: its channels come one after the other. */
static nd_status fits_run(fits *list) {
    if (!list->n) return nd_status_ok;
    const nd_moments *m = list->split->fit;
    nd_backend *backend = list->at->backend;
    const double each = 8 * (3 * (double)m->k * (double)m->k + 6 * (double)m->no * (double)m->k);
    const double room = (double)nd_memory_find().left / 4 / each;
    const int64_t most = !backend->table->linalg.concurrent ? 1 : room < list->n ? (int64_t)room : list->n;
    const double *w = NULL; /* the least-squares kernel that all begin with stays with the moments */
    ND_TRY(nd_refit_kernel(backend, &list->layer->conv, m, &w));
    qsort(list->list, (size_t)list->n, sizeof *list->list, costlier_first);
    return nd_parallel_tasks(list->n, most, fits_one, list);
}

/* Linear between the ranks, constant outside. */
static double between(int n, const int64_t *ranks, const double *values, int64_t rank) {
    int p = 0;
    while (p + 2 < n && rank > ranks[p + 1]) p++;
    if (n < 2 || rank <= ranks[p]) return values[p];
    if (rank >= ranks[p + 1]) return values[p + 1];
    const double share = (double)(rank - ranks[p]) / (double)(ranks[p + 1] - ranks[p]);
    return values[p] * (1 - share) + values[p + 1] * share;
}

/* By how much more the loss of each point would be on images that the fit has not seen, in place of the
 * loss. */
static nd_status find_optimism(const pass *at, const nd_layer *layer, const nd_method *method,
                               const nd_split *split, nd_curve *curve) {
    int64_t ranks[n_optimism_shares];
    double factors[n_optimism_shares] = {1, 1, 1};
    const int n = curve->n && split->held
                      ? ranks_at(at->settings, method, layer, optimism_shares, n_optimism_shares, ranks)
                      : 0;
    fits list = {.at = at, .layer = layer, .split = split};
    for (int i = 0; i < n; i++)
        fits_add(&list,
                 (struct fit){
                     .method = method, .rank = ranks[i], .judge = nd_split_optimism, .result = &factors[i]});
    ND_TRY(fits_run(&list));
    for (int p = 0; p < curve->n; p++) curve->loss[p] = n ? between(n, ranks, factors, curve->rank[p]) : 1;
    return nd_status_ok;
}

static int64_t images_of(const images_within *within, const nd_graph *graph) {
    const double images = within->macs / (double)(nd_cost_graph(graph).total_macs + 1);
    return (int64_t)fmin(fmax(images, within->least), within->most);
}

static nd_status open_scores(const pass *at, const nd_layer *layer, int n_trials, int64_t images,
                             nd_score_loss **out) {
    const int64_t batch = at->settings->calib->batch;
    ND_TRY(nd_score_tail_open(at->backend, at->graph, at->graph->nodes[at->last].out[0], batch, at->tail));
    return nd_score_loss_open(at->activations, at->backend, at->graph, layer, batch, n_trials, images,
                              at->heads, at->tail, out);
}

/* At the scores: fits to all images, whose losses count times their optimism. */
static nd_status measure_at_scores(const pass *at, const nd_layer *layer, const nd_method *const *methods,
                                   int n_methods, nd_split *split, nd_curve *curves) {
    nd_score_loss *scores = NULL;
    double loss[nd_methods_max * nd_curve_points];
    nd_chain chains[nd_methods_max * nd_curve_points] = {{0}};
    for (int c = 0; c < n_methods; c++) ND_TRY(find_optimism(at, layer, methods[c], split, &curves[c]));
    nd_split_pool(split, &layer->conv);
    ND_TRY(
        open_scores(at, layer, n_methods * nd_curve_points, images_of(&measured_within, at->graph), &scores));
    fits list = {.at = at, .layer = layer, .split = split};
    for (int c = 0; c < n_methods; c++)
        for (int p = 0; p < curves[c].n; p++)
            fits_add(&list,
                     (struct fit){.method = methods[c], .rank = curves[c].rank[p], .kept = &chains[list.n]});
    nd_status status = fits_run(&list);
    for (int i = 0; i < list.n; i++) {
        if (!status) status = nd_score_loss_add(scores, &chains[i]);
        nd_chain_free(&chains[i]);
    }
    if (!status) status = nd_score_loss_measure(scores, at->activations, loss);
    for (int c = 0, t = 0; !status && c < n_methods; c++)
        for (int p = 0; p < curves[c].n; p++) curves[c].loss[p] *= loss[t++];
    nd_score_loss_close(scores);
    return status;
}

/* What errors of this layer do to the scores, by fits of one method at so many ranks, on the first images.
 * Part of those were seen by the fits. chains[n]: those that are there already; the others are filled. */
static nd_status measure_scale(const pass *at, const nd_layer *layer, const nd_method *method,
                               const nd_split *split, int n, const int64_t *ranks, nd_chain *chains,
                               nd_scale *scale) {
    const int64_t images = images_of(&scale_within, at->graph);
    const double unseen = split->held ? (double)nd_split_held(0, images) / (double)images : 0;
    nd_score_loss *scores = NULL;
    nd_status status = nd_status_ok;
    *scale = (nd_scale){.n = n};
    ND_TRY(open_scores(at, layer, n, images, &scores));
    for (int i = 0; i < n; i++) {
        double held = 0, optimism = 1;
        if (!chains[i].n)
            ND_TRY_DONE(method->decompose(at->backend, &layer->conv, at->settings->ranks, ranks[i],
                                          split->fit, &chains[i]));
        ND_TRY_DONE(nd_split_error(split, at->backend, &layer->conv, &chains[i], &held));
        ND_TRY_DONE(nd_split_optimism(split, at->backend, &layer->conv, &chains[i], &optimism));
        scale->error[i] = optimism > 0 ? held * (unseen + (1 - unseen) / optimism) : held;
        ND_TRY_DONE(nd_score_loss_add(scores, &chains[i]));
    }
    ND_TRY_DONE(nd_score_loss_measure(scores, at->activations, scale->loss));
done:
    nd_score_loss_close(scores);
    return status;
}

/* Of `by` the chains at the ranks[n] are kept. */
static nd_status judge_curves(const pass *at, const nd_layer *layer, const nd_method *const *methods,
                              int n_methods, const nd_split *split, const nd_method *by, int n,
                              const int64_t *ranks, nd_chain *chains, nd_curve *curves) {
    fits list = {.at = at, .layer = layer, .split = split};
    for (int c = 0; c < n_methods; c++)
        for (int p = 0; p < curves[c].n; p++) {
            struct fit fit = {.method = methods[c],
                              .rank = curves[c].rank[p],
                              .judge = nd_split_error,
                              .result = &curves[c].loss[p]};
            for (int i = 0; methods[c] == by && i < n; i++)
                if (ranks[i] == fit.rank) fit.kept = &chains[i];
            fits_add(&list, fit);
        }
    return fits_run(&list);
}

/* The curves of one layer in several methods at once, so that the images pass the network once. `by` is the
 * method that the scale is wanted of, or NULL. */
static nd_status measure_layer(const pass *at, const nd_layer *layer, const nd_method *const *methods,
                               int n_methods, nd_curve *curves, const nd_method *by, nd_scale *scale) {
    nd_split split = {0};
    nd_chain chains[nd_scale_points] = {{0}};
    int64_t ranks[nd_scale_points];
    const int n = by ? ranks_at(at->settings, by, layer, scale_shares, nd_scale_points, ranks) : 0;
    nd_status status = nd_activation_cache_move(at->activations, at->backend, at->graph, NULL, layer->node);
    if (!status) status = own_moments(at, layer, &split);
    if (!status) status = choose_ridge(at, layer, &split);
    for (int c = 0; c < n_methods; c++)
        curves[c].n = grid_of(at->settings, methods[c], layer, curves[c].rank);
    if (!status && at->settings->quick)
        status = judge_curves(at, layer, methods, n_methods, &split, by, n, ranks, chains, curves);
    if (!status && n) status = measure_scale(at, layer, by, &split, n, ranks, chains, scale);
    if (!status && !at->settings->quick)
        status = measure_at_scores(at, layer, methods, n_methods, &split, curves);
    for (int i = 0; i < nd_scale_points; i++) nd_chain_free(&chains[i]);
    nd_split_close(&split);
    return status;
}

/* More rank never loses more; what measures otherwise is noise. */
static void make_monotone(nd_curve *curve) {
    for (int p = curve->n - 1; p >= 0; p--) {
        curve->loss[p] = fmax(curve->loss[p], least_loss);
        if (p + 1 < curve->n) curve->loss[p] = fmax(curve->loss[p], curve->loss[p + 1]);
    }
}

static double interpolate(const nd_curve *curve, int64_t rank) {
    int p = 0;
    while (p + 2 < curve->n && rank > curve->rank[p + 1]) p++;
    if (curve->n == 1 || curve->loss[p] == curve->loss[p + 1]) return curve->loss[p]; /* not an ulp apart */
    double x0 = log((double)curve->rank[p]), x1 = log((double)curve->rank[p + 1]);
    double share = (log((double)rank) - x0) / (x1 - x0);
    return exp(log(curve->loss[p]) * (1 - share) + log(curve->loss[p + 1]) * share);
}

/* The loss of an output error: both logarithms linear between the measured points, in proportion outside. */
static double at_scores(const nd_scale *scale, double error) {
    int p = scale->n - 2; /* from the largest error to the least */
    if (!scale->n) return error;
    if (error >= scale->error[0]) return scale->loss[0] * error / scale->error[0];
    if (error <= scale->error[scale->n - 1])
        return scale->loss[scale->n - 1] * error / scale->error[scale->n - 1];
    while (p > 0 && error > scale->error[p]) p--;
    const double x0 = log(scale->error[p]), x1 = log(scale->error[p + 1]);
    const double share = (log(error) - x0) / (x1 - x0);
    return exp(log(scale->loss[p]) * (1 - share) + log(scale->loss[p + 1]) * share);
}

/* Points in falling order, without those that say nothing. */
static void tidy_scale(nd_scale *scale) {
    int n = 0;
    for (int p = 0; p < scale->n; p++) {
        const double error = fmax(scale->error[p], least_loss), loss = fmax(scale->loss[p], least_loss);
        if (n && (error >= scale->error[n - 1] || loss >= scale->loss[n - 1])) continue;
        scale->error[n] = error;
        scale->loss[n++] = loss;
    }
    scale->n = n;
}

/* Halfway, by logarithms, between what the layer loses and what that does to the scores of the original
 * network: there nothing after it makes up for it, as later layers' fits will (method.md, "Quick"). */
static double quick_loss(const nd_scale *scale, double error) {
    return sqrt(error * at_scores(scale, error));
}

static nd_status add_curve(const nd_decouple_settings *settings, const nd_layer *layer, int number,
                           const nd_method *method, nd_curve *curve, const nd_scale *scale,
                           nd_candidate_list *t) {
    if (!curve->n) return nd_status_ok;
    make_monotone(curve);
    int64_t step = nd_plan_step(settings, method, &layer->conv), last = curve->rank[curve->n - 1];
    double per_rank = (double)nd_method_macs(method, &layer->conv, settings->ranks, last) / (double)last;
    int64_t stride = (int64_t)(interpolated_share * (double)layer->dense_macs / per_rank) / step * step;
    if (stride < step) stride = step;
    for (int64_t rank = curve->rank[0]; rank <= last; rank += stride) {
        nd_candidate candidate = {
            .layer = number,
            .cost = nd_method_macs(method, &layer->conv, settings->ranks, rank),
            .error = quick_loss(scale, interpolate(curve, rank)),
            .method = method,
            .rank = rank,
        };
        ND_TRY(nd_candidate_list_add(t, &candidate));
    }
    return nd_status_ok;
}

/* A layer whose T is set has no choice but between methods, and takes the cheapest. */
static nd_status add_fixed(const nd_decouple_settings *settings, const nd_plan *plan, int number,
                           nd_candidate_list *t) {
    const nd_layer *layer = &plan->layers[number];
    const nd_method *methods[nd_methods_max];
    int n = nd_plan_methods(plan, layer, methods);
    for (int m = 0; m < n; m++) {
        nd_candidate candidate = {.layer = number, .method = methods[m]};
        candidate.rank = nd_plan_rank(settings, methods[m], &layer->conv, layer->terms);
        candidate.cost = nd_method_macs(methods[m], &layer->conv, settings->ranks, candidate.rank);
        ND_TRY(nd_candidate_list_add(t, &candidate));
    }
    return nd_status_ok;
}

static nd_status curves_of_layer(const pass *at, const nd_plan *plan, int number, nd_json_cache *cache,
                                 nd_candidate_list *t) {
    const nd_layer *layer = &plan->layers[number];
    const nd_method *methods[nd_methods_max], *missing[nd_methods_max], *by = NULL;
    nd_curve curves[nd_methods_max], measured[nd_methods_max];
    nd_scale scale = {0};
    bool known[nd_methods_max];
    int n = nd_plan_methods(plan, layer, methods), n_missing = 0;
    for (int m = 0; m < n; m++) {
        int64_t grid[nd_curve_points];
        const int points = grid_of(at->settings, methods[m], layer, grid);
        known[m] = nd_curves_cache_get(cache, layer->name, methods[m]->name, &curves[m]) &&
                   points <= curves[m].n && (!points || curves[m].rank[points - 1] == grid[points - 1]);
        if (known[m]) curves[m].n = points; /* a smaller target has measured more */
        if (!known[m]) missing[n_missing++] = methods[m];
        if (at->scales && points && !by) by = methods[m];
    }
    if (by && nd_scale_cache_get(cache, layer->name, by->name, &scale)) by = NULL;
    if (n_missing || by) ND_TRY(measure_layer(at, layer, missing, n_missing, measured, by, &scale));
    if (by) nd_scale_cache_put(cache, layer->name, by->name, &scale);
    tidy_scale(&scale);
    for (int m = 0, next = 0; m < n; m++) {
        if (!known[m]) {
            curves[m] = measured[next++];
            nd_curves_cache_put(cache, layer->name, methods[m]->name, &curves[m]);
        }
        ND_TRY(add_curve(at->settings, layer, number, methods[m], &curves[m], &scale, t));
    }
    return nd_status_ok;
}

/* Whether the rest of the network can be run after every layer that is open. */
static bool reaches_scores(const nd_graph *graph, const nd_plan *plan) {
    for (int l = 0; l < plan->n_layers; l++)
        if (!plan->layers[l].why && !nd_score_loss_possible(graph, &plan->layers[l])) return false;
    return true;
}

static bool is_measured(const nd_layer *layer) {
    return !layer->why && layer->terms <= 0;
}

/* The node of the layer that is measured after layer l, or 0. */
static int measured_next(const nd_plan *plan, int l) {
    while (++l < plan->n_layers)
        if (is_measured(&plan->layers[l])) return plan->layers[l].node;
    return 0;
}

nd_status nd_curves(const nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                    const nd_plan *plan, nd_candidate **out, size_t *count) {
    nd_json_cache cache;
    nd_candidate_list t = {0};
    nd_known_heads heads = {0};
    nd_score_tail tail = {0};
    pass at = {.graph = graph,
               .backend = backend,
               .settings = settings,
               .heads = &heads,
               .tail = &tail,
               .scales = settings->quick && reaches_scores(graph, plan)};
    for (int l = 0; l < plan->n_layers; l++)
        if (is_measured(&plan->layers[l])) at.last = plan->layers[l].node;
    ND_TRY(nd_curves_cache_open(graph, settings, &cache));
    nd_status status = nd_activation_cache_new(settings->calib, fitted_images(settings),
                                               nd_activation_cache_bytes, &at.activations);
    for (int l = 0; !status && l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        nd_progress_report(settings->progress, "measuring curves", l, plan->n_layers);
        if (layer->why) continue;
        nd_candidate dense = {.layer = l, .cost = layer->dense_macs};
        if (layer->terms > 0) {
            status = add_fixed(settings, plan, l, &t);
            continue;
        }
        status = nd_candidate_list_add(&t, &dense);
        at.next = measured_next(plan, l);
        if (!status) status = curves_of_layer(&at, plan, l, &cache, &t);
    }
    nd_progress_report(settings->progress, "measuring curves", plan->n_layers, plan->n_layers);
    nd_activation_cache_free(at.activations);
    nd_known_heads_free(&heads);
    nd_score_tail_close(&tail);
    nd_json_cache_close(&cache);
    if (status) {
        free(t.rows);
        return status;
    }
    *out = t.rows;
    *count = t.count;
    return nd_status_ok;
}
