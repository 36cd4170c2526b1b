#include "eval/detect/measures.h"

#include "base/parallel.h"
#include "base/rng.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum nd_curve { nd_curve_coco, nd_curve_recall, nd_curve_eleven, nd_curve_area } nd_curve;

/* A measure is the mean over `overlaps` overlaps from `first` on. */
static const struct {
    const char *name;
    nd_curve curve;
    int first, overlaps, area;
    int32_t detections; /* of an image and class at most */
} nd_measures[nd_measure_count] = {
    [nd_measure_ap] = {"AP", nd_curve_coco, 0, nd_match_overlaps, 0, 100},
    [nd_measure_ap50] = {"AP50", nd_curve_coco, 0, 1, 0, 100},
    [nd_measure_ap75] = {"AP75", nd_curve_coco, 5, 1, 0, 100},
    [nd_measure_ap_small] = {"APs", nd_curve_coco, 0, nd_match_overlaps, 1, 100},
    [nd_measure_ap_medium] = {"APm", nd_curve_coco, 0, nd_match_overlaps, 2, 100},
    [nd_measure_ap_large] = {"APl", nd_curve_coco, 0, nd_match_overlaps, 3, 100},
    [nd_measure_ar1] = {"AR1", nd_curve_recall, 0, nd_match_overlaps, 0, 1},
    [nd_measure_ar10] = {"AR10", nd_curve_recall, 0, nd_match_overlaps, 0, 10},
    [nd_measure_ar100] = {"AR100", nd_curve_recall, 0, nd_match_overlaps, 0, 100},
    [nd_measure_ar_small] = {"ARs", nd_curve_recall, 0, nd_match_overlaps, 1, 100},
    [nd_measure_ar_medium] = {"ARm", nd_curve_recall, 0, nd_match_overlaps, 2, 100},
    [nd_measure_ar_large] = {"ARl", nd_curve_recall, 0, nd_match_overlaps, 3, 100},
    [nd_measure_voc2007] = {"mAP (VOC 2007, 11 points)", nd_curve_eleven, 0, 1, 0, INT32_MAX},
    [nd_measure_voc2010] = {"mAP (VOC 2010, all points)", nd_curve_area, 0, 1, 0, INT32_MAX},
};

const char *nd_measure_name(nd_measure measure) {
    return nd_measures[measure].name;
}

nd_match_rule nd_measure_rule(nd_measure measure) {
    return nd_measures[measure].curve >= nd_curve_eleven ? nd_match_voc : nd_match_coco;
}

/* --- curves. What was found and wrong after each detection that is not ignored: integers, so that recall is
 * compared with its points exactly where the definition is not tied to floating point. */

typedef struct nd_curve_points {
    int64_t *found;    /* [n] */
    double *precision; /* [n]: the best from here on */
    int64_t n, objects;
} nd_curve_points;

static int64_t curve_weight(const int32_t *weights, int64_t image) {
    return weights ? weights[image] : 1;
}

static void curve_walk(const nd_match_class *of, nd_measure measure, int overlap, const int32_t *weights,
                       nd_curve_points *points) {
    const int area = nd_measures[measure].area;
    const bool coco = nd_measure_rule(measure) == nd_match_coco;
    int64_t found = 0, wrong = 0;
    points->n = points->objects = 0;
    for (size_t i = 0; i < of->n_objects; i++)
        if (of->objects[i].counts[area]) points->objects += curve_weight(weights, of->objects[i].image);
    for (size_t i = 0; i < of->n_matches; i++) {
        const nd_match *match = &of->matches[i];
        const int64_t weight = curve_weight(weights, match->image);
        if (!weight || match->place >= nd_measures[measure].detections) continue;
        if (match->ignored[area] >> overlap & 1) continue;
        *(match->matched[area] >> overlap & 1 ? &found : &wrong) += weight;
        points->found[points->n] = found;
        /* pycocotools adds the spacing of 1 below the line. */
        points->precision[points->n++] = (double)found / ((double)(found + wrong) + (coco ? DBL_EPSILON : 0));
    }
    for (int64_t i = points->n - 1; i > 0; i--)
        points->precision[i - 1] = fmax(points->precision[i - 1], points->precision[i]);
}

/* The mean of the best precision at recalls 0, 0.01 ... 1 (numpy.linspace). */
static double curve_coco(const nd_curve_points *points) {
    enum { steps = 100 };
    double sum = 0;
    int64_t at = 0;
    for (int i = 0; i <= steps; i++) {
        const double recall = i == steps ? 1.0 : i * 0.01;
        while (at < points->n && (double)points->found[at] / (double)points->objects < recall) at++;
        if (at == points->n) break;
        sum += points->precision[at];
    }
    return sum / (steps + 1);
}

static double curve_recall(const nd_curve_points *points) {
    return points->n ? (double)points->found[points->n - 1] / (double)points->objects : 0;
}

static double curve_eleven(const nd_curve_points *points) {
    double sum = 0;
    int64_t at = 0;
    for (int i = 0; i <= 10; i++) {
        while (at < points->n && 10 * points->found[at] < i * points->objects) at++;
        if (at == points->n) break;
        sum += points->precision[at];
    }
    return sum / 11;
}

static double curve_area(const nd_curve_points *points) {
    double sum = 0;
    int64_t before = 0;
    for (int64_t i = 0; i < points->n; i++) {
        sum += (double)(points->found[i] - before) * points->precision[i];
        before = points->found[i];
    }
    return sum / (double)points->objects;
}

static double measure_class(const nd_match_class *of, nd_measure measure, const int32_t *weights,
                            nd_curve_points *points) {
    static double (*const curves[])(const nd_curve_points *) = {
        [nd_curve_coco] = curve_coco,
        [nd_curve_recall] = curve_recall,
        [nd_curve_eleven] = curve_eleven,
        [nd_curve_area] = curve_area,
    };
    double sum = 0;
    for (int t = 0; t < nd_measures[measure].overlaps; t++) {
        curve_walk(of, measure, nd_measures[measure].first + t, weights, points);
        if (!points->objects) return NAN;
        sum += curves[nd_measures[measure].curve](points);
    }
    return sum / nd_measures[measure].overlaps;
}

static double measure_mean(const nd_matches *matches, nd_measure measure, const int32_t *weights,
                           nd_curve_points *points) {
    double sum = 0;
    int32_t classes = 0;
    for (int32_t label = 0; label < matches->classes; label++) {
        const double value = measure_class(&matches->of[label], measure, weights, points);
        if (isnan(value)) continue;
        sum += value;
        classes++;
    }
    return classes ? sum / classes : NAN;
}

static nd_status points_open(const nd_matches *matches, nd_curve_points *points) {
    size_t most = 0;
    for (int32_t label = 0; label < matches->classes; label++)
        if (most < matches->of[label].n_matches) most = matches->of[label].n_matches;
    *points = (nd_curve_points){.found = nd_alloc_array(most, sizeof *points->found),
                                .precision = nd_alloc_array(most, sizeof *points->precision)};
    ND_REQUIRE(points->found && points->precision, nd_status_memory, "no memory for a curve of %zu points",
               most);
    return nd_status_ok;
}

static void points_close(nd_curve_points *points) {
    free(points->found);
    free(points->precision);
}

static nd_status measure_fits(const nd_matches *matches, nd_measure measure) {
    ND_REQUIRE(matches->rule == nd_measure_rule(measure), nd_status_internal,
               "%s of matches by the rule of another", nd_measure_name(measure));
    return nd_status_ok;
}

nd_status nd_measure_classes(const nd_matches *matches, nd_measure measure, double *out) {
    nd_curve_points points;
    ND_TRY(measure_fits(matches, measure));
    const nd_status status = points_open(matches, &points);
    for (int32_t label = 0; !status && label < matches->classes; label++)
        out[label] = measure_class(&matches->of[label], measure, NULL, &points);
    points_close(&points);
    return status;
}

nd_status nd_measure_all(const nd_matches *matches, nd_measure measure, double *out) {
    nd_curve_points points;
    ND_TRY(measure_fits(matches, measure));
    const nd_status status = points_open(matches, &points);
    if (!status) *out = measure_mean(matches, measure, NULL, &points);
    points_close(&points);
    return status;
}

/* --- resampling */

typedef struct nd_resample {
    const nd_matches *const *matches;
    size_t count;
    nd_measure measure;
    int draws;
    uint64_t seed;
    double *out;
    nd_curve_points *points; /* [threads] */
    int32_t *weights;        /* [threads][images]: how often each was drawn */
} nd_resample;

static void resample_range(void *context, int64_t begin, int64_t end, int worker) {
    const nd_resample *self = context;
    const int64_t images = self->matches[0]->images;
    int32_t *weights = self->weights + worker * images;
    for (int64_t draw = begin; draw < end; draw++) {
        nd_rng rng = nd_rng_seed(self->seed + (uint64_t)draw);
        memset(weights, 0, (size_t)images * sizeof *weights);
        for (int64_t i = 0; i < images; i++) weights[nd_rng_below(&rng, images)]++;
        for (size_t k = 0; k < self->count; k++)
            self->out[(int64_t)k * self->draws + draw] =
                measure_mean(self->matches[k], self->measure, weights, &self->points[worker]);
    }
}

/* Points for the largest of the matches. */
static nd_status resample_open(nd_resample *self, int threads) {
    size_t largest = 0, most = 0;
    for (size_t k = 0; k < self->count; k++) {
        ND_TRY(measure_fits(self->matches[k], self->measure));
        ND_REQUIRE(self->matches[k]->images == self->matches[0]->images, nd_status_usage,
                   "detections on %lld and on %lld images", (long long)self->matches[0]->images,
                   (long long)self->matches[k]->images);
        for (int32_t label = 0; label < self->matches[k]->classes; label++) {
            if (self->matches[k]->of[label].n_matches <= most) continue;
            most = self->matches[k]->of[label].n_matches;
            largest = k;
        }
    }
    self->points = nd_alloc_array((size_t)threads, sizeof *self->points);
    self->weights = nd_alloc_array((size_t)threads, (size_t)self->matches[0]->images * sizeof *self->weights);
    ND_REQUIRE(self->points && self->weights, nd_status_memory, "no memory for %lld images",
               (long long)self->matches[0]->images);
    for (int i = 0; i < threads; i++) ND_TRY(points_open(self->matches[largest], &self->points[i]));
    return nd_status_ok;
}

nd_status nd_measure_resample(const nd_matches *const *matches, size_t count, nd_measure measure, int draws,
                              uint64_t seed, double *out) {
    const int threads = nd_threads();
    nd_resample self = {
        .matches = matches, .count = count, .measure = measure, .draws = draws, .seed = seed, .out = out};
    const nd_status status = resample_open(&self, threads);
    if (!status) nd_parallel_for(draws, nd_parallel_worth, resample_range, &self);
    for (int i = 0; self.points && i < threads; i++) points_close(&self.points[i]);
    free(self.points);
    free(self.weights);
    return status;
}

static int interval_compare(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

/* Between the two values nearest to a share of the way. */
static double interval_at(const double *sorted, int count, double share) {
    const double place = share * (count - 1);
    const int below = (int)place;
    const double above = below + 1 < count ? sorted[below + 1] : sorted[below];
    return sorted[below] + (place - below) * (above - sorted[below]);
}

void nd_measure_interval(double *values, int count, double *lo, double *hi) {
    int known = 0;
    for (int i = 0; i < count; i++)
        if (!isnan(values[i])) values[known++] = values[i];
    *lo = *hi = NAN;
    if (!known) return;
    qsort(values, (size_t)known, sizeof *values, interval_compare);
    *lo = interval_at(values, known, 0.025);
    *hi = interval_at(values, known, 0.975);
}
