#include "decouple/calib/match_scores.h"

#include "base/rng.h"
#include "decouple/calib/calibrate.h"
#include "decouple/calib/gradient.h"
#include "run/captures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { most_images = 256, fewest_images = 8, most_classes = 16, random_draws = 8, one_held_of = 4 };
enum { block_bytes = 256 << 20, jacobian_bytes = 512 << 20 };
/* Ridges that are tried, relative to the mean diagonal of the rows' Gram matrix; and parts of the step. */
static const double ridges[] = {.01, .03, .1, .3, 1, 3, 10, 30}, steps[] = {1, .5, .25};
/* What a step must lower the error by to be worth taking: a part of it, and what is left of rounding. */
static const double least_gain = .01, rounding = 1e-8;
enum { n_ridges = sizeof ridges / sizeof *ridges, n_steps = sizeof steps / sizeof *steps };

/* A layer whose outputs get gains and biases: output o has number first + o among all. */
typedef struct matched {
    int layer, value;
    int64_t no, size, first; /* size: numbers of one image */
    bool last;               /* channels come last, as in products */
} matched;

/* The change of the scores in one direction for one image is a row; the parameters, a gain and a bias an
 * output, are in units of the spread of that output, so that one ridge suits all. */
typedef struct match {
    nd_backend *backend;
    const nd_graph *original, *current;
    const nd_decouple_settings *settings;
    int scores;
    int64_t classes, draws, block, images, rows; /* images so far; rows there is room for */
    matched *layers;
    int n_layers;
    int *layer_of; /* [values]: number in `layers`, or -1 */
    int64_t outputs;
    float *jacobian;    /* [2 outputs][rows]: gains, then biases */
    double *residual;   /* [rows] */
    double *sum, *sum2; /* [outputs], then mean and standard deviation */
    nd_captures image, wanted, now;
    nd_gradient *gradient;
    float *seed; /* [block][classes] */
    int draw;
    double change[2], spread[2]; /* squared: of the scores, of images [held out] */
    double *mean;                /* [2][classes] of the original scores */
    float *target;               /* [images][classes]: the original scores, of the first look */
    double count[2];
} match;

static bool is_held(int64_t image) {
    return image % one_held_of == one_held_of - 1;
}

/* --- rows --- */

static void fill_seed(match *m, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float *v = m->seed + i * m->classes;
        nd_rng rng = nd_rng_seed((uint64_t)((m->images + i) * m->draws + m->draw + 1));
        for (int64_t c = 0; c < m->classes; c++)
            v[c] = m->draws == m->classes ? (float)(c == m->draw)
                                          : (float)(nd_rng_normal(&rng) / sqrt((double)m->draws));
    }
}

static nd_status add_rows(void *context, int value, int64_t n, const float *gradient) {
    match *m = context;
    if (m->layer_of[value] < 0) return nd_status_ok;
    const matched *at = &m->layers[m->layer_of[value]];
    const float *u = m->now.data[m->layer_of[value]];
    const int64_t area = at->size / at->no;
    for (int64_t i = 0; i < n; i++)
        for (int64_t o = 0; o < at->no; o++) {
            const int64_t start = i * at->size + (at->last ? o : o * area), step = at->last ? at->no : 1;
            double gain = 0, bias = 0;
            for (int64_t p = 0; p < area; p++) {
                const double g = gradient[start + p * step];
                gain += g * u[start + p * step];
                bias += g;
            }
            const int64_t row = (m->images + i) * m->draws + m->draw;
            m->jacobian[(at->first + o) * m->rows + row] = (float)gain;
            m->jacobian[(m->outputs + at->first + o) * m->rows + row] = (float)bias;
        }
    return nd_status_ok;
}

static void add_sums(match *m, int64_t n) {
    for (int k = 0; k < m->n_layers; k++) {
        const matched *at = &m->layers[k];
        const int64_t area = at->size / at->no;
        for (int64_t e = 0; e < n * at->size; e++) {
            const double u = m->now.data[k][e];
            const int64_t o = at->first + (at->last ? e % at->no : e / area % at->no);
            m->sum[o] += u;
            m->sum2[o] += u * u;
        }
    }
}

static void add_residuals(match *m, int64_t n) {
    const float *wanted = m->target + m->images * m->classes, *now = m->now.data[m->n_layers];
    for (int64_t i = 0; i < n; i++) {
        const float *v = m->seed + i * m->classes;
        double rest = 0;
        for (int64_t c = 0; c < m->classes; c++)
            rest += (double)v[c] * ((double)wanted[i * m->classes + c] - now[i * m->classes + c]);
        m->residual[(m->images + i) * m->draws + m->draw] = rest;
    }
}

/* What the scores are off by, and how they vary. */
static void add_errors(match *m, int64_t n) {
    const float *target = m->target + m->images * m->classes, *now = m->now.data[m->now.n - 1];
    for (int64_t e = 0; e < n * m->classes; e++) {
        const int held = is_held(m->images + e / m->classes);
        const double wanted = target[e], rest = wanted - now[e];
        m->change[held] += rest * rest;
        m->spread[held] += wanted * wanted;
        m->mean[held * m->classes + e % m->classes] += wanted;
        m->count[held] += e % m->classes == 0;
    }
}

static nd_status rows_of_block(match *m, int64_t n, const float *images) {
    float *target = m->target + m->images * m->classes;
    ND_TRY(nd_captures_run(&m->now, n, &images));
    if (!m->gradient) {
        add_errors(m, n);
        return nd_status_ok;
    }
    ND_TRY(nd_captures_run(&m->wanted, n, &images));
    memcpy(target, m->wanted.data[0], (size_t)(n * m->classes) * sizeof *target);
    add_errors(m, n);
    add_sums(m, n);
    ND_TRY(nd_gradient_forward(m->gradient, n, images));
    for (m->draw = 0; m->draw < m->draws; m->draw++) {
        fill_seed(m, n);
        add_residuals(m, n);
        ND_TRY(nd_gradient_backward(m->gradient, (const float *const[]){m->seed}, add_rows, m));
    }
    return nd_status_ok;
}

static nd_status sample_block(void *context, int64_t n) {
    match *m = context;
    const int64_t size = nd_value_size(m->original, m->original->inputs[0]);
    for (int64_t first = 0; first < n; first += m->block) {
        const int64_t left = n - first, count = left < m->block ? left : m->block;
        ND_TRY(rows_of_block(m, count, m->image.data[0] + first * size));
        m->images += count;
    }
    return nd_status_ok;
}

/* One pass over the images: the errors of the scores; the first, with `rows`, keeps the original's scores and
 * makes the rows. */
static nd_status look(match *m, bool rows, int64_t images) {
    nd_status status = nd_status_ok;
    int *values = nd_alloc_array((size_t)m->n_layers + 1, sizeof *values);
    nd_captures *captures = &m->image;
    m->images = 0;
    for (int held = 0; held < 2; held++) m->change[held] = m->spread[held] = m->count[held] = 0;
    memset(m->mean, 0, (size_t)(2 * m->classes) * sizeof *m->mean);
    ND_REQUIRE_DONE(values, nd_status_memory, "no memory for matching scores");
    for (int k = 0; rows && k < m->n_layers; k++) values[k] = m->layers[k].value;
    const int n_values = rows ? m->n_layers : 0;
    values[n_values] = m->scores;
    ND_TRY_DONE(nd_captures_open(m->backend, m->current, m->block, NULL, 0, values, n_values + 1, &m->now));
    if (rows) {
        ND_TRY_DONE(nd_captures_open(m->backend, m->original, m->block, NULL, 0, &m->scores, 1, &m->wanted));
        ND_TRY_DONE(nd_gradient_open(m->backend, m->current, m->block, &m->scores, 1, &m->gradient));
    }
    ND_TRY_DONE(nd_captures_open(m->backend, m->original, m->settings->calib->batch, NULL, 0,
                                 m->original->inputs, 1, &m->image));
    ND_TRY_DONE(nd_sample(m->settings->calib, images, &captures, 1, sample_block, m));
done:
    nd_captures_close(&m->image);
    nd_captures_close(&m->wanted);
    nd_captures_close(&m->now);
    nd_gradient_close(m->gradient);
    m->gradient = NULL;
    free(values);
    return status;
}

/* Relative squared error of the scores of the images held out, by the last look. */
static double held_error(const match *m) {
    double spread = m->spread[1];
    for (int64_t c = 0; c < m->classes; c++)
        spread -= m->mean[m->classes + c] * m->mean[m->classes + c] / m->count[1];
    return spread > 0 ? m->change[1] / spread : 0;
}

/* Rows of gains to gains about the mean, and all to units of the outputs' spread. */
static void scale_rows(match *m) {
    for (int k = 0; k < m->n_layers; k++) {
        const matched *at = &m->layers[k];
        const int64_t area = at->size / at->no;
        const double pixels = (double)(m->images * area);
        for (int64_t o = at->first; o < at->first + at->no; o++) {
            const double mean = m->sum[o] / pixels, variance = m->sum2[o] / pixels - mean * mean;
            m->sum[o] = mean;
            m->sum2[o] = sqrt(fmax(variance, 0));
            float *gain = m->jacobian + o * m->rows, *bias = m->jacobian + (m->outputs + o) * m->rows;
            for (int64_t r = 0; r < m->rows; r++) {
                gain[r] -= (float)mean * bias[r];
                bias[r] *= (float)m->sum2[o];
            }
        }
    }
}

/* --- least squares --- */

typedef struct rows {
    int64_t n;
    int64_t *row; /* [n] */
} rows;

/* weights[n] of the rows, whose combination is the step: (gram + ridge) weights = residual. */
static nd_status solve(const match *m, const double *gram, rows of, double ridge, double *a,
                       double *weights) {
    double trace = 0;
    for (int64_t i = 0; i < of.n; i++) {
        trace += gram[of.row[i] * m->rows + of.row[i]];
        weights[i] = m->residual[of.row[i]];
        for (int64_t j = 0; j < of.n; j++) a[i * of.n + j] = gram[of.row[i] * m->rows + of.row[j]];
    }
    for (int64_t i = 0; i < of.n; i++) a[i * of.n + i] += ridge * trace / (double)of.n + 1e-30;
    return m->backend->table->linalg.solve(m->backend, of.n, a, false, 1, weights);
}

/* Squared residual of `held` that the step of `fit` leaves, as far as the scores are linear. */
static double left_of(const match *m, const double *gram, rows fit, const double *weights, rows held) {
    double left = 0;
    for (int64_t i = 0; i < held.n; i++) {
        double rest = m->residual[held.row[i]];
        for (int64_t j = 0; j < fit.n; j++) rest -= gram[held.row[i] * m->rows + fit.row[j]] * weights[j];
        left += rest * rest;
    }
    return left;
}

/* step[2 outputs] = J^T weights. */
static void step_of(const match *m, rows of, const double *weights, double *step) {
    for (int64_t p = 0; p < 2 * m->outputs; p++) {
        const float *row = m->jacobian + p * m->rows;
        step[p] = 0;
        for (int64_t i = 0; i < of.n; i++) step[p] += weights[i] * row[of.row[i]];
    }
}

/* The step on three images in four by the ridge whose step leaves least on the fourth, and the step on all by
 * the same ridge. */
static nd_status find_steps(const match *m, double *part, double *all) {
    nd_status status = nd_status_ok;
    const size_t n = (size_t)m->rows;
    double *gram = nd_alloc_array(n, n * sizeof *gram), *a = nd_alloc_array(n, n * sizeof *a);
    double *weights = nd_alloc_array(n, sizeof *weights), least = INFINITY, best = 0;
    rows fit = {0, nd_alloc_array(n, sizeof *fit.row)}, held = {0, nd_alloc_array(n, sizeof *held.row)};
    rows every = {m->rows, nd_alloc_array(n, sizeof *every.row)};
    ND_REQUIRE_DONE(gram && a && weights && fit.row && held.row && every.row, nd_status_memory,
                    "no memory for matching scores");
    for (int64_t r = 0; r < m->rows; r++) {
        rows *of = is_held(r / m->draws) ? &held : &fit;
        of->row[of->n++] = every.row[r] = r;
    }
    ND_TRY_DONE(m->backend->table->linalg.accumulate(m->backend, 2 * m->outputs, m->rows, m->jacobian,
                                                     m->rows, m->jacobian, gram));
    for (int i = 0; i < n_ridges; i++) {
        ND_TRY_DONE(solve(m, gram, fit, ridges[i], a, weights));
        const double left = left_of(m, gram, fit, weights, held);
        nd_log(nd_log_debug, "matching scores: ridge %g leaves %.4g on images held out", ridges[i], left);
        if (left >= least) continue;
        least = left;
        best = ridges[i];
        step_of(m, fit, weights, part);
    }
    ND_REQUIRE_DONE(best > 0, nd_status_failed, "matching scores: no finite step");
    ND_TRY_DONE(solve(m, gram, every, best, a, weights));
    step_of(m, every, weights, all);
done:
    free(gram);
    free(a);
    free(weights);
    free(fit.row);
    free(held.row);
    free(every.row);
    return status;
}

/* --- the network --- */

/* y' = (1 + a) (y - mean) + mean + b deviation, of the chain as it was. */
static nd_status scale_chain(const match *m, const matched *at, const double *step, double part,
                             nd_chain *chain) {
    nd_stage *last = &chain->stages[chain->n - 1];
    const int64_t row = last->ni / last->groups * last->window.kernel[0] * last->window.kernel[1];
    float *bias = nd_alloc_array((size_t)at->no, sizeof *bias);
    ND_REQUIRE(bias, nd_status_memory, "no memory for matching scores");
    for (int64_t o = 0; o < at->no; o++) {
        const int64_t output = at->first + o;
        const double gain = 1 + part * step[output];
        const double shift =
            part * (m->sum2[output] * step[m->outputs + output] - step[output] * m->sum[output]);
        for (int64_t e = 0; e < row; e++) last->weights[o * row + e] *= (float)gain;
        bias[o] = (float)((last->bias ? gain * last->bias[o] : 0) + shift);
    }
    nd_status status = nd_chain_set_bias(chain, bias);
    free(bias);
    return status;
}

/* Weights of a last stage and its bias, to go back to. */
typedef struct kept {
    float *weights, *bias;
    size_t n;
} kept;

static nd_status keep_stages(const match *m, const nd_chain *chains, kept *old) {
    for (int k = 0; k < m->n_layers; k++) {
        const nd_chain *chain = &chains[m->layers[k].layer];
        const nd_stage *last = &chain->stages[chain->n - 1];
        old[k].n =
            (size_t)(last->no * (last->ni / last->groups) * last->window.kernel[0] * last->window.kernel[1]);
        old[k].weights = nd_alloc_array(old[k].n, sizeof *old[k].weights);
        ND_REQUIRE(old[k].weights, nd_status_memory, "no memory for matching scores");
        memcpy(old[k].weights, last->weights, old[k].n * sizeof *old[k].weights);
        if (!last->bias) continue;
        old[k].bias = nd_alloc_array((size_t)last->no, sizeof *old[k].bias);
        ND_REQUIRE(old[k].bias, nd_status_memory, "no memory for matching scores");
        memcpy(old[k].bias, last->bias, (size_t)last->no * sizeof *old[k].bias);
    }
    return nd_status_ok;
}

/* From the chains as they were, a part of a step; 0 is none. */
static nd_status put_step(const match *m, const nd_plan *plan, const kept *old, const double *step,
                          double part, nd_graph *current, nd_chain *chains) {
    for (int k = 0; k < m->n_layers; k++) {
        const matched *at = &m->layers[k];
        nd_chain *chain = &chains[at->layer];
        memcpy(chain->stages[chain->n - 1].weights, old[k].weights, old[k].n * sizeof *old[k].weights);
        ND_TRY(nd_chain_set_bias(chain, old[k].bias));
        if (part > 0) ND_TRY(scale_chain(m, at, step, part, chain));
        ND_TRY(nd_layer_put(current, &plan->layers[at->layer], chain));
    }
    return nd_status_ok;
}

/* How much of the step on a part of the images lowers the error of the scores of the others, measured; then
 * so much of the step on all of them. */
static nd_status take_step(match *m, const nd_plan *plan, int64_t images, nd_graph *current,
                           nd_chain *chains) {
    nd_status status = nd_status_ok;
    const size_t n = (size_t)(2 * m->outputs);
    double *part = nd_alloc_array(n, sizeof *part), *all = nd_alloc_array(n, sizeof *all), best = 0;
    kept *old = nd_alloc_array((size_t)m->n_layers, sizeof *old);
    ND_REQUIRE_DONE(part && all && old, nd_status_memory, "no memory for matching scores");
    ND_TRY_DONE(keep_stages(m, chains, old));
    ND_TRY_DONE(find_steps(m, part, all));
    const double before = held_error(m);
    double least = (1 - least_gain) * before - rounding;
    for (int s = 0; s < n_steps; s++) {
        ND_TRY_DONE(put_step(m, plan, old, part, steps[s], current, chains));
        ND_TRY_DONE(look(m, false, images));
        const double error = held_error(m);
        nd_log(nd_log_debug, "matching scores: %g of the step has error %.4f", steps[s], error);
        if (error >= least) continue;
        least = error;
        best = steps[s];
    }
    ND_TRY_DONE(put_step(m, plan, old, all, best, current, chains));
    nd_log(nd_log_info, "matched scores: squared error on images held out %.4f, was %.4f",
           best > 0 ? least : before, before);
done:
    for (int k = 0; old && k < m->n_layers; k++) {
        free(old[k].weights);
        free(old[k].bias);
    }
    free(old);
    free(part);
    free(all);
    return status;
}

/* --- opening --- */

static nd_status find_layers(match *m, const nd_plan *plan, const nd_chain *chains) {
    int64_t floats = 0;
    nd_gradient *gradient = NULL;
    m->layers = nd_alloc_array((size_t)plan->n_layers + 1, sizeof *m->layers);
    m->layer_of = nd_alloc_array((size_t)m->current->n_values, sizeof *m->layer_of);
    ND_REQUIRE(m->layers && m->layer_of, nd_status_memory, "no memory for matching scores");
    for (int v = 0; v < m->current->n_values; v++) m->layer_of[v] = -1;
    ND_TRY(nd_gradient_open(m->backend, m->current, 1, &m->scores, 1, &gradient));
    for (int l = 0; l < plan->n_layers; l++) {
        const nd_conv *conv = &plan->layers[l].conv;
        const int value = m->current->nodes[plan->layers[l].node].out[0];
        if (!chains[l].n || conv->product == nd_product_matmul || !nd_gradient_known(gradient, value))
            continue;
        m->layer_of[value] = m->n_layers;
        m->layers[m->n_layers++] = (matched){.layer = l,
                                             .value = value,
                                             .no = conv->no,
                                             .size = nd_value_size(m->current, value),
                                             .first = m->outputs,
                                             .last = conv->product != nd_product_none};
        m->outputs += conv->no;
        floats += nd_value_size(m->current, value);
    }
    nd_gradient_close(gradient);
    const int64_t image = nd_gradient_kept_bytes(m->current, 1) + floats * (int64_t)sizeof(float);
    const int64_t block = block_bytes / (image + 1);
    m->block = block < 1 ? 1 : block < m->settings->calib->batch ? block : m->settings->calib->batch;
    return nd_status_ok;
}

static nd_status give_room(match *m, int64_t images) {
    m->draws = m->classes <= most_classes ? m->classes : random_draws;
    const int64_t row = 2 * m->outputs * (int64_t)sizeof *m->jacobian;
    while (m->draws > 1 && images * m->draws * row > jacobian_bytes) m->draws /= 2;
    m->rows = images * m->draws;
    m->jacobian = nd_alloc_array((size_t)(2 * m->outputs), (size_t)m->rows * sizeof *m->jacobian);
    m->residual = nd_alloc_array((size_t)m->rows, sizeof *m->residual);
    m->sum = nd_alloc_array((size_t)m->outputs, sizeof *m->sum);
    m->sum2 = nd_alloc_array((size_t)m->outputs, sizeof *m->sum2);
    m->seed = nd_alloc_array((size_t)m->block, (size_t)m->classes * sizeof *m->seed);
    m->mean = nd_alloc_array(2, (size_t)m->classes * sizeof *m->mean);
    m->target = nd_alloc_array((size_t)images, (size_t)m->classes * sizeof *m->target);
    ND_REQUIRE(m->jacobian && m->residual && m->sum && m->sum2 && m->seed && m->mean && m->target,
               nd_status_memory, "no memory for matching scores");
    return nd_status_ok;
}

nd_status nd_match_scores(const nd_graph *original, nd_graph *current, nd_backend *backend,
                          const nd_decouple_settings *settings, const nd_plan *plan, nd_chain *chains) {
    int64_t classes = 0, images = nd_sample_count(settings->calib, settings->calib_images);
    match m = {.backend = backend, .original = original, .current = current, .settings = settings};
    nd_status status = nd_status_ok;
    if (nd_graph_class_scores(original, &classes) < 0 || images < fewest_images) {
        nd_log(nd_log_warn, "no scores are matched: that needs class scores, and %d images", fewest_images);
        return nd_status_ok;
    }
    if (images > most_images) images = most_images;
    m.scores = nd_graph_scores(original);
    m.classes = nd_value_size(original, m.scores);
    ND_TRY_DONE(find_layers(&m, plan, chains));
    if (!m.outputs) goto done;
    ND_TRY_DONE(give_room(&m, images));
    ND_TRY_DONE(look(&m, true, images));
    scale_rows(&m);
    ND_TRY_DONE(take_step(&m, plan, images, current, chains));
done:
    free(m.layers);
    free(m.layer_of);
    free(m.jacobian);
    free(m.residual);
    free(m.sum);
    free(m.sum2);
    free(m.seed);
    free(m.mean);
    free(m.target);
    return status;
}
