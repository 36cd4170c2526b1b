#include "decouple/fit/moments.h"

#include "base/parallel.h"
#include "base/rng.h"
#include "decouple/fit/found.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double enough_per_unknown = 200; /* pixels */
static const double enough_images = 128;      /* where those have more pixels than enough */

void nd_moments_free(nd_moments *moments) {
    if (!moments) return;
    free(moments->g);
    free(moments->h);
    free(moments->mean_p);
    free(moments->mean_y);
    free(moments->squares);
    free(moments->ridge);
    nd_patches_close(&moments->waiting);
    nd_shifts_free(moments->shifts);
    nd_finds_free(moments->finds);
    free(moments);
}

static nd_status moments_new(const nd_conv *conv, bool gram, nd_moments **out) {
    nd_moments *m = calloc(1, sizeof *m);
    ND_REQUIRE(m, nd_status_memory, "conv %s: no memory for its moments", conv->name);
    m->groups = conv->groups;
    m->k = conv->ni / conv->groups * nd_conv_taps(conv);
    m->no = conv->no;
    m->unbiased = conv->product == nd_product_matmul;
    m->limit.share = 1;
    if (gram) m->g = nd_alloc_array((size_t)(m->groups * m->k), (size_t)m->k * sizeof *m->g);
    /* One more row a group while adding: the sums of p, as products with a column of ones. */
    m->h = nd_alloc_array((size_t)((m->no + m->groups) * m->k), sizeof *m->h);
    m->mean_p = nd_alloc_array((size_t)(m->groups * m->k), sizeof *m->mean_p);
    m->mean_y = nd_alloc_array((size_t)m->no, sizeof *m->mean_y);
    m->squares = nd_alloc_array((size_t)m->no, sizeof *m->squares);
    m->ridge = nd_alloc_array((size_t)m->groups, sizeof *m->ridge);
    if ((gram && (!m->g || nd_finds_new(&m->finds))) || !m->h || !m->mean_p || !m->mean_y || !m->squares ||
        !m->ridge) {
        nd_status status = nd_fail(nd_status_memory, "conv %s: no memory for %lldx%lld moments", conv->name,
                                   (long long)m->k, (long long)m->k);
        nd_moments_free(m);
        return status;
    }
    *out = m;
    return nd_status_ok;
}

nd_status nd_moments_new(const nd_conv *conv, nd_moments **out) {
    return moments_new(conv, true, out);
}

nd_status nd_moments_new_targets(const nd_conv *conv, nd_moments **out) {
    return moments_new(conv, false, out);
}

/* The sums of p, a row below those of the outputs of each group, until nd_moments_finish. */
static double *sums_of_patches(const nd_moments *m, int64_t group) {
    const int64_t rows = m->no / m->groups;
    return m->h + (group * (rows + 1) + rows) * m->k;
}

typedef struct target_sums {
    int64_t n, targets;
    const float *y; /* [n][targets + 1] */
    double *sum, *squares;
} target_sums;

static void sum_targets(void *context, int64_t begin, int64_t end, int worker) {
    const target_sums *s = context;
    (void)worker;
    for (int64_t r = 0; r < s->n; r++)
        for (int64_t o = begin; o < end; o++) {
            const double value = s->y[r * (s->targets + 1) + o];
            s->sum[o] += value;
            s->squares[o] += value * value;
        }
}

/* The rows that wait go into the sums. */
static nd_status add_waiting(nd_moments *m, nd_backend *backend) {
    const nd_linalg *linalg = &backend->table->linalg;
    const int64_t k = m->k, targets = m->waiting.targets, n = m->waiting.n;
    if (!n) return nd_status_ok;
    for (int64_t g = 0; g < m->groups; g++) {
        const float *x = m->waiting.x + g * m->waiting.most * k;
        const float *y = m->waiting.y + g * m->waiting.most * (targets + 1);
        if (m->g && !m->shifts) ND_TRY(linalg->accumulate(backend, n, k, x, k, x, m->g + g * k * k));
        ND_TRY(linalg->accumulate(backend, n, targets + 1, y, k, x, sums_of_patches(m, g) - targets * k));
        target_sums sums = {n, targets, y, m->mean_y + g * targets, m->squares + g * targets};
        nd_parallel_for(targets, n, sum_targets, &sums);
    }
    m->pixels += (double)n;
    m->waiting.n = 0;
    return nd_status_ok;
}

/* Multiply-adds of a pixel, summed by patches or by maps. */
static int64_t patch_work(const nd_moments *m) {
    return m->groups * m->k * (m->k / 2 + m->no / m->groups);
}

static int64_t map_work(const nd_moments *m, const nd_conv *conv) {
    const int64_t channels = conv->ni / conv->groups;
    return m->groups * (25 * channels * channels / 2 + m->no / m->groups * m->k);
}

void nd_moments_limit(nd_moments *m, const nd_conv *conv, int64_t images) {
    const double area = (double)(nd_conv_out_h(conv) * nd_conv_out_w(conv)), all = (double)images;
    const double enough = enough_per_unknown * (double)m->k;
    const double per_image = fmax(ceil(enough / all), 1), whole = fmax(ceil(enough / area), enough_images);
    const double by_patches = all * per_image * (double)patch_work(m);
    const double by_maps = fmin(whole, all) * area * (double)map_work(m, conv);
    const bool maps = per_image >= area || (nd_shifts_suit(conv) && by_maps <= by_patches);
    if (!maps)
        m->limit.per_image = (int64_t)per_image;
    else if (per_image < area && whole < all)
        m->limit.share = (whole - enough_images) / (all - enough_images);
}

/* The first ones, since there may be fewer than were said to come; of the others the share that counts, in
 * any part of them, and so of those that are held out. */
static bool is_taken(const nd_moments *m, int64_t image) {
    return (double)image < enough_images || nd_rng_even(image) < m->limit.share;
}

/* One pixel of each of per_image parts of the output, drawn by the number of the image. */
static int32_t *draw_pixels(const nd_moments *m, int64_t first, int64_t n, int64_t area) {
    int32_t *pixel = nd_alloc_array((size_t)n, (size_t)m->limit.per_image * sizeof *pixel);
    for (int64_t i = 0; pixel && i < n; i++) {
        nd_rng rng = nd_rng_seed((uint64_t)(first + i));
        for (int64_t j = 0; j < m->limit.per_image; j++) {
            int64_t begin = j * area / m->limit.per_image, end = (j + 1) * area / m->limit.per_image;
            pixel[i * m->limit.per_image + j] = (int32_t)(begin + nd_rng_below(&rng, end - begin));
        }
    }
    return pixel;
}

/* Patches go to the sums by blocks. */
static nd_status add_patches(nd_moments *m, nd_backend *backend, const nd_conv *conv, const nd_pixels *from,
                             int64_t pixels) {
    for (int64_t at = 0, count; at < pixels; at += count) {
        const int64_t left = pixels - at, room = m->waiting.most - m->waiting.n;
        count = left < room ? left : room;
        nd_patches_gather(&m->waiting, conv, from, at, count);
        if (m->waiting.n == m->waiting.most) ND_TRY(add_waiting(m, backend));
    }
    return nd_status_ok;
}

static nd_status add_images(nd_moments *m, nd_backend *backend, const nd_conv *conv, int64_t first, int64_t n,
                            const float *x, const float *y) {
    nd_status status = nd_status_ok;
    const int64_t area = nd_conv_out_h(conv) * nd_conv_out_w(conv);
    int32_t *pixel = m->limit.per_image ? draw_pixels(m, first, n, area) : NULL;
    const nd_pixels from = {x, y, m->limit.per_image ? m->limit.per_image : area, pixel};
    ND_REQUIRE_DONE(pixel || !m->limit.per_image, nd_status_memory, "conv %s: no memory for places",
                    conv->name);
    if (m->shifts) ND_TRY_DONE(nd_shifts_add(m->shifts, backend, conv, n, x));
    if (m->own && m->shifts)
        m->pixels += (double)(n * area);
    else
        ND_TRY_DONE(add_patches(m, backend, conv, &from, n * from.per_image));
done:
    free(pixel);
    return status;
}

nd_status nd_moments_add(nd_moments *m, nd_backend *backend, const nd_conv *conv, int64_t first, int64_t n,
                         const float *x, const float *y) {
    const int64_t in = conv->ni * conv->in_h * conv->in_w;
    const int64_t out = conv->no * nd_conv_out_h(conv) * nd_conv_out_w(conv);
    m->own = !y;
    if (!m->waiting.most && !m->shifts) {
        if (m->g && !m->limit.per_image && nd_shifts_suit(conv)) ND_TRY(nd_shifts_new(conv, &m->shifts));
        if (!m->own || !m->shifts) ND_TRY(nd_patches_open(conv, !m->own, &m->waiting));
    }
    for (int64_t i = 0, count; i < n; i += count) {
        const bool taken = is_taken(m, first + i);
        for (count = 1; i + count < n && is_taken(m, first + i + count) == taken;) count++;
        if (taken) ND_TRY(add_images(m, backend, conv, first + i, count, x + i * in, y ? y + i * out : NULL));
    }
    return nd_status_ok;
}

/* What W x + b has to do with x follows from x alone. */
static nd_status find_own(nd_moments *m, nd_backend *backend, const nd_conv *conv) {
    const int64_t k = m->k, rows = m->no / m->groups, part = rows * k;
    double *w = nd_alloc_array((size_t)part, sizeof *w);
    ND_REQUIRE(w, nd_status_memory, "conv %s: no memory for its moments", conv->name);
    nd_status status = nd_status_ok;
    m->vy = 0;
    for (int64_t g = 0; !status && g < m->groups; g++) {
        double *h = m->h + g * part;
        const double *mean = m->mean_p + g * k;
        for (int64_t e = 0; e < part; e++) w[e] = conv->weights[g * part + e];
        status = backend->table->linalg.gemm(backend, false, false, rows, k, k, 1, w, k, m->g + g * k * k, k,
                                             0, h, k);
        for (int64_t o = 0; !status && o < rows; o++) {
            double *mean_y = &m->mean_y[g * rows + o];
            *mean_y = conv->bias && !m->unbiased ? conv->bias[g * rows + o] : 0;
            for (int64_t i = 0; i < k; i++) {
                *mean_y += w[o * k + i] * mean[i];
                m->vy += w[o * k + i] * h[o * k + i];
            }
        }
    }
    m->vy = fmax(m->vy, 0);
    free(w);
    return status;
}

nd_status nd_moments_finish(nd_moments *m, nd_backend *backend, const nd_conv *conv) {
    ND_TRY(add_waiting(m, backend));
    nd_patches_close(&m->waiting);
    if (m->shifts) ND_TRY(nd_shifts_finish(m->shifts, backend, m->g, m->mean_p));
    for (int64_t g = 0; !m->shifts && g < m->groups; g++)
        memcpy(m->mean_p + g * m->k, sums_of_patches(m, g), (size_t)m->k * sizeof *m->mean_p);
    nd_shifts_free(m->shifts);
    m->shifts = NULL;
    ND_REQUIRE(m->pixels > 0, nd_status_usage, "calibration saw no image");
    int64_t k = m->k, rows = m->no / m->groups;
    double scale = 1 / m->pixels;
    for (int64_t o = 0; o < m->no; o++) {
        m->mean_y[o] *= m->unbiased ? 0 : scale;
        m->vy += m->squares[o] * scale - m->mean_y[o] * m->mean_y[o];
    }
    m->vy = fmax(m->vy, 0);
    for (int64_t g = 0; g < m->groups; g++) {
        double *mean = m->mean_p + g * k, *gram = m->g ? m->g + g * k * k : NULL;
        for (int64_t i = 0; i < k; i++) mean[i] *= m->unbiased ? 0 : scale;
        for (int64_t i = 0; gram && i < k; i++)
            for (int64_t j = 0; j < k; j++) gram[i * k + j] = gram[i * k + j] * scale - mean[i] * mean[j];
        /* Close the gap that the row of ones leaves; rows only ever move down to lower addresses. */
        for (int64_t o = 0; o < rows; o++) {
            const double *from = m->h + (g * (rows + 1) + o) * k;
            double *to = m->h + (g * rows + o) * k, my = m->mean_y[g * rows + o];
            for (int64_t i = 0; i < k; i++) to[i] = from[i] * scale - my * mean[i];
        }
    }
    return m->own ? find_own(m, backend, conv) : nd_status_ok;
}

void nd_moments_pool(nd_moments *m, const nd_moments *more) {
    int64_t k = m->k, rows = m->no / m->groups;
    double pixels = m->pixels + more->pixels, a = m->pixels / pixels, b = more->pixels / pixels;
    m->vy = a * m->vy + b * more->vy;
    for (int64_t o = 0; o < m->no; o++) {
        const double *from = more->h + o * k, *other = more->mean_p + o / rows * k;
        double *to = m->h + o * k, *mean = m->mean_p + o / rows * k;
        double apart = a * b * (m->mean_y[o] - more->mean_y[o]);
        for (int64_t i = 0; i < k; i++) to[i] = a * to[i] + b * from[i] + apart * (mean[i] - other[i]);
        m->vy += apart * (m->mean_y[o] - more->mean_y[o]);
        m->mean_y[o] = a * m->mean_y[o] + b * more->mean_y[o];
    }
    for (int64_t g = 0; g < m->groups; g++) {
        double *mean = m->mean_p + g * k;
        const double *other = more->mean_p + g * k;
        for (int64_t i = 0; i < k; i++) {
            double *to = m->g + (g * k + i) * k, apart = a * b * (mean[i] - other[i]);
            const double *from = more->g + (g * k + i) * k;
            for (int64_t j = 0; j < k; j++) to[j] = a * to[j] + b * from[j] + apart * (mean[j] - other[j]);
        }
        for (int64_t i = 0; i < k; i++) mean[i] = a * mean[i] + b * other[i];
    }
    m->pixels = pixels;
    nd_finds_clear(m->finds);
}

nd_status nd_moments_retarget(nd_moments *m, nd_backend *backend, const nd_conv *conv, nd_moments *targets) {
    ND_TRY(nd_moments_finish(targets, backend, conv));
    int64_t per_group = m->no / m->groups * m->k;
    for (int64_t e = 0; e < m->no * m->k; e++)
        m->h[e] = targets->h[e] + m->ridge[e / per_group] * conv->weights[e];
    memcpy(m->mean_y, targets->mean_y, (size_t)m->no * sizeof *m->mean_y);
    m->vy = targets->vy;
    nd_finds_clear(m->finds);
    return nd_status_ok;
}

static void set_ridge(nd_moments *m, const nd_conv *conv, int64_t group, double ridge) {
    int64_t k = m->k, rows = m->no / m->groups;
    double *gram = m->g + group * k * k, add = ridge - m->ridge[group];
    for (int64_t i = 0; i < k; i++) gram[i * k + i] += add;
    for (int64_t e = group * rows * k; e < (group + 1) * rows * k; e++) m->h[e] += add * conv->weights[e];
    m->ridge[group] = ridge;
}

void nd_moments_unridge(nd_moments *m, const nd_conv *conv) {
    for (int64_t g = 0; g < m->groups; g++) set_ridge(m, conv, g, 0);
}

double nd_moments_usual_ridge(double per_unknown) {
    return per_unknown >= 25 ? 0.01 : per_unknown >= 10 ? 0.1 : 1;
}

double nd_moments_ridge(nd_moments *m, const nd_conv *conv, double lambda) {
    int64_t k = m->k;
    if (lambda <= 0) lambda = nd_moments_usual_ridge(m->pixels / (double)k);
    for (int64_t g = 0; g < m->groups; g++) {
        const double *gram = m->g + g * k * k;
        double trace = 0;
        for (int64_t i = 0; i < k; i++) trace += gram[i * (k + 1)] - m->ridge[g];
        set_ridge(m, conv, g, trace > 0 ? lambda * trace / (double)k : 1);
    }
    return lambda;
}

nd_status nd_moments_weigh(const nd_moments *m, nd_backend *backend, int64_t columns, const double *x,
                           double *out) {
    int64_t rows = m->no / m->groups, part = rows * columns;
    if (!m->metric) {
        memcpy(out, x, (size_t)(m->no * columns) * sizeof *out);
        return nd_status_ok;
    }
    for (int64_t g = 0; g < m->groups; g++)
        ND_TRY(backend->table->linalg.gemm(backend, false, false, rows, columns, rows, 1,
                                           m->metric + g * rows * rows, rows, x + g * part, columns, 0,
                                           out + g * part, columns));
    return nd_status_ok;
}

/* |mean_y - w mean_p - bias|^2 */
static double bias_error(const nd_moments *m, const double *w, const float *bias) {
    int64_t k = m->k, rows = m->no / m->groups;
    double sum = 0;
    for (int64_t o = 0; o < m->no; o++) {
        const double *mean = m->mean_p + o / rows * k;
        double rest = m->mean_y[o] - bias[o];
        for (int64_t i = 0; i < k; i++) rest -= w[o * k + i] * mean[i];
        sum += rest * rest;
    }
    return sum;
}

double nd_moments_error_of(const nd_moments *m, const nd_conv *conv, const double *w, const float *bias,
                           double wgw) {
    const int64_t part = m->no / m->groups * m->k;
    double sum = m->vy + wgw + (bias ? bias_error(m, w, bias) : 0);
    for (int64_t e = 0; e < m->groups * part; e++)
        sum -= w[e] * (2 * m->h[e] + m->ridge[e / part] * (w[e] - 2 * conv->weights[e]));
    return m->vy > 0 ? fmax(sum, 0) / m->vy : 0;
}

nd_status nd_moments_error(const nd_moments *m, nd_backend *backend, const nd_conv *conv, const double *w,
                           const float *bias, double *error) {
    int64_t k = m->k, rows = m->no / m->groups;
    double wgw = 0;
    double *wg = nd_alloc_array((size_t)(rows * k), sizeof *wg);
    ND_REQUIRE(wg, nd_status_memory, "conv %s: no memory for its error", conv->name);
    nd_status status = nd_status_ok;
    for (int64_t g = 0; !status && g < m->groups; g++) {
        const double *part = w + g * rows * k;
        status = backend->table->linalg.gemm(backend, false, false, rows, k, k, 1, part, k, m->g + g * k * k,
                                             k, 0, wg, k);
        for (int64_t e = 0; !status && e < rows * k; e++) wgw += part[e] * wg[e];
    }
    free(wg);
    *error = nd_moments_error_of(m, conv, w, bias, wgw);
    return status;
}
