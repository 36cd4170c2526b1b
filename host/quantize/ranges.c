#include "quantize/ranges.h"
#include "run/captures.h"

#include <math.h>
#include <stdlib.h>

enum { bins = 4096, levels = 255 };

typedef struct nd_histogram {
    float least, most;
    double *counts; /* [bins], of what is not 0: that is represented exactly */
} nd_histogram;

/* Images going through, and what is done with a block of one value: `item` is its number. */
typedef struct nd_watch {
    const nd_graph *graph;
    const int *values;
    int n;
    void (*see)(struct nd_watch *watch, int item, const float *data, int64_t count, int64_t images);
    nd_histogram *histograms;
    double *const *channels;
    const nd_range *ranges;
    float *const *real, *const *stored;
    float share; /* of an image */
    nd_captures captures;
} nd_watch;

static nd_status watch_block(void *context, int64_t n) {
    nd_watch *watch = context;
    for (int i = 0; i < watch->n; i++)
        watch->see(watch, i, watch->captures.data[i], n * nd_value_size(watch->graph, watch->values[i]), n);
    return nd_status_ok;
}

static nd_status watch_run(nd_watch *watch, nd_backend *backend, nd_batches *batches, int64_t images) {
    nd_captures *captures = &watch->captures;
    ND_TRY(
        nd_captures_open(backend, watch->graph, batches->batch, NULL, 0, watch->values, watch->n, captures));
    const nd_status status = nd_sample(batches, images, &captures, 1, watch_block, watch);
    nd_captures_close(captures);
    return status;
}

static void see_extremes(nd_watch *watch, int item, const float *data, int64_t count, int64_t images) {
    nd_histogram *h = &watch->histograms[item];
    (void)images;
    for (int64_t i = 0; i < count; i++) {
        h->least = fminf(h->least, data[i]);
        h->most = fmaxf(h->most, data[i]);
    }
}

static void see_counts(nd_watch *watch, int item, const float *data, int64_t count, int64_t images) {
    nd_histogram *h = &watch->histograms[item];
    const float span = h->most - h->least;
    (void)images;
    for (int64_t i = 0; span > 0 && i < count; i++) {
        const int bin = (int)((data[i] - h->least) / span * bins);
        if (data[i] != 0) h->counts[bin < 0 ? 0 : bin < bins ? bin : bins - 1]++;
    }
}

static void see_channels(nd_watch *watch, int item, const float *data, int64_t count, int64_t images) {
    const int64_t channels = watch->graph->values[watch->values[item]].dims[1];
    const int64_t area = count / images / channels;
    const double share = (double)watch->share / (double)area;
    for (int64_t i = 0; i < count; i++) {
        const double square = (double)data[i] * (double)data[i], fourth = square * square,
                     eighth = fourth * fourth;
        watch->channels[item][i / area % channels] += eighth * eighth * share;
    }
}

static const float e4m3_most = 448;

nd_quant nd_range_quant(const nd_range *range) {
    if (range->e4m3) return (nd_quant){.scale = range->hi > 0 ? range->hi / e4m3_most : 1, .e4m3 = true};
    const float span = (range->hi - range->lo) / levels, scale = span > 0 ? span : 1;
    return (nd_quant){.scale = scale, .zero = (int32_t)fminf(fmaxf(roundf(-range->lo / scale), 0), levels)};
}

static void see_means(nd_watch *watch, int item, const float *data, int64_t count, int64_t images) {
    const nd_quant quant = nd_range_quant(&watch->ranges[item]);
    const int64_t size = count / images;
    const float zero = (float)quant.zero, share = watch->share;
    float *real = watch->real[item], *stored = watch->stored[item];
    for (int64_t image = 0; image < images; image++, data += size) {
        for (int64_t i = 0; i < size && quant.e4m3; i++) {
            real[i] += data[i] * share;
            stored[i] += nd_dequantize(quant, nd_quantize(quant, data[i])) * share;
        }
        for (int64_t i = 0; i < size && !quant.e4m3; i++) {
            const float q = rintf(data[i] / quant.scale + zero), in = q < levels ? q : levels;
            real[i] += data[i] * share;
            stored[i] += ((in > 0 ? in : 0) - zero) * quant.scale * share;
        }
    }
}

/* From one number to the next about x: of e4m3 8 to an octave, below 2^-6 as many as there. */
static double range_step(const nd_range *range, double x) {
    if (!range->e4m3) return ((double)range->hi - (double)range->lo) / levels;
    const double scale = (double)nd_range_quant(range).scale;
    const int octave = x != 0 ? ilogb(x / scale) : -6;
    return ldexp(scale, (octave < -6 ? -6 : octave) - 3);
}

double nd_range_error(const double *counts, int n, float from, float to, const nd_range *range) {
    const double lo = (double)range->lo, hi = (double)range->hi, width = ((double)to - (double)from) / n;
    double error = 0;
    for (int b = 0; b < n; b++) {
        if (!(counts[b] > 0)) continue;
        const double x = (double)from + (b + 0.5) * width, step = range_step(range, x);
        const double out = x < lo ? lo - x : x > hi ? x - hi : 0;
        error += counts[b] * (out > 0 ? out * out : step * step / 12);
    }
    return error;
}

static void range_try(const nd_histogram *h, float lo, float hi, nd_range *best) {
    lo = fminf(lo, 0), hi = fmaxf(hi, 0);
    if (best->e4m3) hi = fmaxf(hi, -lo), lo = -hi;
    nd_range range = {lo, hi, 0, best->e4m3};
    range.error = nd_range_error(h->counts, bins, h->least, h->most, &range);
    if (hi > lo && range.error < best->error) *best = range;
}

/* Where `tail` of the counts lie below (from the left) or above. */
static float range_percentile(const nd_histogram *h, double tail, bool left) {
    double total = 0, seen = 0;
    int b = 0;
    for (int i = 0; i < bins; i++) total += h->counts[i];
    for (; b < bins - 1; b++) {
        seen += h->counts[left ? b : bins - 1 - b];
        if (seen > tail * total) break;
    }
    const float width = (h->most - h->least) / bins;
    return left ? h->least + (float)b * width : h->most - (float)b * width;
}

static nd_range range_choose(const nd_histogram *h, bool e4m3) {
    static const double tails[] = {0, 1e-5, 1e-4, 1e-3, 5e-3};
    nd_range best = {fminf(h->least, 0), fmaxf(h->most, 0), INFINITY, e4m3};
    double power = 0;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        range_try(h, range_percentile(h, tails[i], true), range_percentile(h, tails[i], false), &best);
    for (int part = 100; part >= 30; part -= 2)
        range_try(h, h->least * (float)part / 100, h->most * (float)part / 100, &best);
    for (int part = 100; part >= 30; part -= 2) range_try(h, h->least, h->most * (float)part / 100, &best);
    for (int b = 0; b < bins; b++) {
        const double x = (double)h->least + (b + 0.5) * (double)(h->most - h->least) / bins;
        power += h->counts[b] * x * x;
    }
    best.error = power > 0 ? sqrt(best.error / power) : 0;
    return best;
}

nd_status nd_ranges_find(const nd_graph *graph, nd_backend *backend, nd_batches *batches, int64_t images,
                         const int *values, int n, bool e4m3, nd_range *out) {
    nd_status status = nd_status_ok;
    nd_watch watch = {.graph = graph, .values = values, .n = n, .see = see_extremes};
    watch.histograms = nd_alloc_array((size_t)n + 1, sizeof *watch.histograms);
    ND_REQUIRE(watch.histograms, nd_status_memory, "no memory for histograms");
    for (int i = 0; i < n; i++) {
        watch.histograms[i] = (nd_histogram){0, 0, nd_alloc_array(bins, sizeof(double))};
        ND_REQUIRE_DONE(watch.histograms[i].counts, nd_status_memory, "no memory for histograms");
    }
    ND_TRY_DONE(watch_run(&watch, backend, batches, images));
    for (int i = 0; i < n; i++)
        ND_REQUIRE_DONE(isfinite(watch.histograms[i].least) && isfinite(watch.histograms[i].most),
                        nd_status_input, "%s: infinite on the calibration images",
                        graph->values[values[i]].name);
    watch.see = see_counts;
    ND_TRY_DONE(watch_run(&watch, backend, batches, images));
    for (int i = 0; i < n; i++) out[i] = range_choose(&watch.histograms[i], e4m3);
done:
    for (int i = 0; i < n; i++) free(watch.histograms[i].counts);
    free(watch.histograms);
    return status;
}

nd_status nd_ranges_channels(const nd_graph *graph, nd_backend *backend, nd_batches *batches, int64_t images,
                             const int *values, int n, double *const *magnitudes) {
    nd_watch watch = {.graph = graph,
                      .values = values,
                      .n = n,
                      .see = see_channels,
                      .channels = magnitudes,
                      .share = 1 / (float)nd_sample_count(batches, images)};
    if (n) ND_TRY(watch_run(&watch, backend, batches, images));
    for (int i = 0; i < n; i++)
        for (int64_t c = 0; c < graph->values[values[i]].dims[1]; c++)
            magnitudes[i][c] = pow(magnitudes[i][c], 1.0 / 16);
    return nd_status_ok;
}

nd_status nd_ranges_means(const nd_graph *graph, nd_backend *backend, nd_batches *batches, int64_t images,
                          const int *values, int n, const nd_range *ranges, float *const *real,
                          float *const *stored) {
    nd_watch watch = {.graph = graph,
                      .values = values,
                      .n = n,
                      .see = see_means,
                      .ranges = ranges,
                      .real = real,
                      .stored = stored,
                      .share = 1 / (float)nd_sample_count(batches, images)};
    return n ? watch_run(&watch, backend, batches, images) : nd_status_ok;
}
