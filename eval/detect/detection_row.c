#include "eval/detect/detection.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const nd_field nd_measure_fields[nd_measure_count] = {
    [nd_measure_ap] = nd_field_ap,
    [nd_measure_ap50] = nd_field_ap50,
    [nd_measure_ap75] = nd_field_ap75,
    [nd_measure_ap_small] = nd_field_ap_small,
    [nd_measure_ap_medium] = nd_field_ap_medium,
    [nd_measure_ap_large] = nd_field_ap_large,
    [nd_measure_ar1] = nd_field_ar1,
    [nd_measure_ar10] = nd_field_ar10,
    [nd_measure_ar100] = nd_field_ar100,
    [nd_measure_ar_small] = nd_field_ar_small,
    [nd_measure_ar_medium] = nd_field_ar_medium,
    [nd_measure_ar_large] = nd_field_ar_large,
    [nd_measure_voc2007] = nd_field_voc2007,
    [nd_measure_voc2010] = nd_field_voc2010,
};

static const struct {
    nd_measure measure;
    nd_field points, lo, hi;
} nd_measure_drops[] = {
    {nd_measure_ap, nd_field_drop_ap, nd_field_drop_ap_lo, nd_field_drop_ap_hi},
    {nd_measure_ap50, nd_field_drop_ap50, nd_field_drop_ap50_lo, nd_field_drop_ap50_hi},
    {nd_measure_voc2007, nd_field_drop_voc2007, nd_field_drop_voc2007_lo, nd_field_drop_voc2007_hi},
};

enum { nd_detection_seed = 1 };

nd_status nd_detection_match(const nd_found *found, const nd_truth *truth, nd_match_rule rule,
                             nd_matches *out) {
    ND_REQUIRE(found->n == truth->n, nd_status_usage, "%lld images against %lld", (long long)found->n,
               (long long)truth->n);
    nd_detected *images = nd_alloc_array((size_t)found->n, sizeof *images);
    ND_REQUIRE(images, nd_status_memory, "no memory for %lld images", (long long)found->n);
    for (int64_t i = 0; i < found->n; i++)
        images[i] = (nd_detected){truth->of[i], truth->counts[i], found->of[i].items, found->of[i].count};
    const int32_t classes = found->decode.classes > truth->classes ? found->decode.classes : truth->classes;
    const nd_status status = nd_matches_find(rule, images, found->n, classes, out);
    free(images);
    return status;
}

double nd_detection_overlap(const nd_matches *matches, double score, int64_t *count) {
    double sum = 0;
    *count = 0;
    for (int32_t label = 0; label < matches->classes; label++)
        for (size_t i = 0; i < matches->of[label].n_matches; i++) {
            const nd_match *match = &matches->of[label].matches[i];
            if (match->score < score || !(match->matched[0] & 1)) continue;
            sum += match->overlap;
            (*count)++;
        }
    return *count ? sum / (double)*count : NAN;
}

/* --- against annotations */

static nd_status row_measures(const nd_matches matches[2], nd_row *row) {
    for (int m = 0; m < nd_measure_count; m++) {
        double value;
        ND_TRY(nd_measure_all(&matches[nd_measure_rule((nd_measure)m)], (nd_measure)m, &value));
        nd_row_set_real(row, nd_measure_fields[m], 100 * value);
    }
    return nd_status_ok;
}

/* original - new, in points, on the same draws of images. */
static nd_status row_drops(const nd_matches original[2], const nd_matches changed[2], int draws,
                           nd_row *row) {
    double *values = nd_alloc_array((size_t)draws, 2 * sizeof *values);
    ND_REQUIRE(values, nd_status_memory, "no memory for %d draws", draws);
    nd_status status = nd_status_ok;
    for (size_t d = 0; d < sizeof nd_measure_drops / sizeof *nd_measure_drops; d++) {
        const nd_measure measure = nd_measure_drops[d].measure;
        const int rule = (int)nd_measure_rule(measure);
        const nd_matches *both[] = {&original[rule], &changed[rule]};
        double before, after, lo, hi;
        ND_TRY_DONE(nd_measure_all(both[0], measure, &before));
        ND_TRY_DONE(nd_measure_all(both[1], measure, &after));
        ND_TRY_DONE(nd_measure_resample(both, 2, measure, draws, nd_detection_seed, values));
        for (int i = 0; i < draws; i++) values[i] -= values[draws + i];
        nd_measure_interval(values, draws, &lo, &hi);
        nd_row_set_real(row, nd_measure_drops[d].points, 100 * (before - after));
        nd_row_set_real(row, nd_measure_drops[d].lo, 100 * lo);
        nd_row_set_real(row, nd_measure_drops[d].hi, 100 * hi);
    }
done:
    free(values);
    return status;
}

static nd_status row_annotated(const nd_detection_rows *rows, const nd_found *found, nd_row *row) {
    nd_status status = nd_status_ok;
    nd_matches changed[2] = {0}, original[2] = {0};
    nd_row_set_int(row, nd_field_objects, rows->truth->objects);
    for (int rule = 0; rule < 2; rule++) {
        ND_TRY_DONE(nd_detection_match(found, rows->truth, (nd_match_rule)rule, &changed[rule]));
        if (rows->original)
            ND_TRY_DONE(
                nd_detection_match(rows->original, rows->truth, (nd_match_rule)rule, &original[rule]));
    }
    ND_TRY_DONE(row_measures(changed, row));
    if (rows->original) ND_TRY_DONE(row_drops(original, changed, rows->draws, row));
done:
    for (int rule = 0; rule < 2; rule++) {
        nd_matches_free(&changed[rule]);
        nd_matches_free(&original[rule]);
    }
    return status;
}

/* --- against the original */

static nd_status row_interval(const nd_matches *matches, int draws, nd_row *row) {
    double lo, hi, *values = nd_alloc_array((size_t)draws, sizeof *values);
    ND_REQUIRE(values, nd_status_memory, "no memory for %d draws", draws);
    const nd_status status =
        nd_measure_resample(&matches, 1, nd_measure_ap50, draws, nd_detection_seed, values);
    if (!status) {
        nd_measure_interval(values, draws, &lo, &hi);
        nd_row_set_real(row, nd_field_agree_ap50_lo, 100 * lo);
        nd_row_set_real(row, nd_field_agree_ap50_hi, 100 * hi);
    }
    free(values);
    return status;
}

static nd_status row_agreement(const nd_detection_rows *rows, const nd_found *found, nd_row *row) {
    nd_status status;
    nd_truth truth = {0};
    nd_matches matches = {0};
    double ap, ap50;
    int64_t matched;
    ND_TRY_DONE(nd_truth_of(rows->original, rows->score, &truth));
    nd_row_set_int(row, nd_field_agree_objects, truth.objects);
    nd_row_set_real(row, nd_field_agree_score, rows->score);
    if (!truth.objects) goto done;
    ND_TRY_DONE(nd_detection_match(found, &truth, nd_match_coco, &matches));
    ND_TRY_DONE(nd_measure_all(&matches, nd_measure_ap, &ap));
    ND_TRY_DONE(nd_measure_all(&matches, nd_measure_ap50, &ap50));
    nd_row_set_real(row, nd_field_agree_ap, 100 * ap);
    nd_row_set_real(row, nd_field_agree_ap50, 100 * ap50);
    nd_row_set_real(row, nd_field_agree_iou, nd_detection_overlap(&matches, rows->score, &matched));
    nd_row_set_int(row, nd_field_agree_matched, matched);
    ND_TRY_DONE(row_interval(&matches, rows->draws, row));
done:
    nd_matches_free(&matches);
    nd_truth_free(&truth);
    return status;
}

/* The mean over the heads, which weigh the same, and each of them. */
static void row_raw(const nd_found *found, nd_row *row) {
    const int heads = found->decode.n_groups;
    double sum = 0;
    for (int h = 0; h < heads; h++) sum += found->rel_mse[h];
    nd_row_set_real(row, nd_field_raw_rel_mse, heads ? sum / heads : NAN);
    if (!nd_decode_finds(&found->decode)) {
        nd_row_set_reals(row, nd_field_heads_rel_mse, found->rel_mse, heads);
    } else if (heads) { /* those of all decoders: boxes, then scores */
        nd_row_set_real(row, nd_field_boxes_rel_mse, found->rel_mse[0]);
        nd_row_set_real(row, nd_field_scores_rel_mse, found->rel_mse[1]);
    }
}

nd_status nd_detection_row(const nd_detection_rows *rows, const nd_found *found, nd_row *row) {
    nd_row_set_name(row, nd_field_dataset, rows->batches->name);
    nd_row_set_text(row, nd_field_dataset_sha256, rows->batches->sha256);
    nd_row_set_text(row, nd_field_preprocess, rows->batches->preprocess);
    nd_row_set_int(row, nd_field_n, found->n);
    nd_row_set_int(row, nd_field_skipped, found->skipped);
    if (nd_decode_finds(&found->decode)) nd_row_set_int(row, nd_field_detections, found->detections);
    if (rows->truth->n) ND_TRY(row_annotated(rows, found, row));
    if (!rows->original) return nd_status_ok;
    row_raw(found, row);
    return nd_decode_finds(&found->decode) ? row_agreement(rows, found, row) : nd_status_ok;
}

bool nd_detection_blind(const nd_detection_rows *rows, const nd_found *found, const nd_row *row, char *text,
                        size_t size) {
    const nd_row_value *ap50 = &row->values[nd_field_ap50];
    const double next_to_none = 0.5; /* points */
    double best = 0;
    int used;
    for (int64_t i = 0; i < found->n; i++)
        for (size_t k = 0; k < found->of[i].count; k++) best = fmax(best, found->of[i].items[k].score);
    if (!nd_decode_finds(&found->decode)) return false;
    if (best < rows->score)
        used = snprintf(text, size, "it finds nothing with a score of at least %g, the best has %.2g",
                        rows->score, best);
    else if (ap50->set && ap50->r < next_to_none)
        used = snprintf(text, size, "it finds next to none of the annotated objects, AP50 is %.2f", ap50->r);
    else
        return false;
    snprintf(text + used, size - (size_t)used,
             ". Are the pictures as it wants them? They are prepared by %s (scale=1 gives 0 to 255, "
             "scale=1/255 gives 0 to 1, order=bgr another order of colours)%s",
             rows->batches->preprocess,
             ap50->set ? ", and --classes and --label-offset say which class is which" : "");
    return true;
}

/* --- by class */

nd_status nd_detection_by_class(const nd_found *found, const nd_truth *truth, nd_detection_classes *out) {
    nd_status status;
    nd_matches coco = {0}, voc = {0};
    *out = (nd_detection_classes){0};
    ND_TRY_DONE(nd_detection_match(found, truth, nd_match_coco, &coco));
    ND_TRY_DONE(nd_detection_match(found, truth, nd_match_voc, &voc));
    const size_t classes = (size_t)coco.classes;
    out->classes = coco.classes;
    out->ap = nd_alloc_array(classes, sizeof *out->ap);
    out->ap50 = nd_alloc_array(classes, sizeof *out->ap50);
    out->voc2007 = nd_alloc_array(classes, sizeof *out->voc2007);
    out->objects = nd_alloc_array(classes, sizeof *out->objects);
    ND_REQUIRE_DONE(out->ap && out->ap50 && out->voc2007 && out->objects, nd_status_memory,
                    "no memory for %zu classes", classes);
    ND_TRY_DONE(nd_measure_classes(&coco, nd_measure_ap, out->ap));
    ND_TRY_DONE(nd_measure_classes(&coco, nd_measure_ap50, out->ap50));
    ND_TRY_DONE(nd_measure_classes(&voc, nd_measure_voc2007, out->voc2007));
    for (size_t c = 0; c < classes; c++)
        for (size_t i = 0; i < voc.of[c].n_objects; i++) out->objects[c] += voc.of[c].objects[i].counts[0];
done:
    nd_matches_free(&coco);
    nd_matches_free(&voc);
    if (status) nd_detection_classes_free(out);
    return status;
}

void nd_detection_classes_free(nd_detection_classes *classes) {
    free(classes->ap);
    free(classes->ap50);
    free(classes->voc2007);
    free(classes->objects);
    *classes = (nd_detection_classes){0};
}
