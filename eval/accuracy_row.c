#include "eval/accuracy.h"

#include <math.h>
#include <stdio.h>

static double accuracy_percent(int64_t part, int64_t whole) {
    return 100.0 * (double)part / (double)whole;
}

void nd_accuracy_drop_row(const nd_drop *top1, const nd_drop *top5, nd_row *row) {
    nd_row_set_real(row, nd_field_drop_top1, top1->points);
    nd_row_set_real(row, nd_field_drop_top1_lo, top1->lo);
    nd_row_set_real(row, nd_field_drop_top1_hi, top1->hi);
    nd_row_set_real(row, nd_field_drop_top5, top5->points);
    nd_row_set_real(row, nd_field_drop_top5_lo, top5->lo);
    nd_row_set_real(row, nd_field_drop_top5_hi, top5->hi);
}

static double accuracy_agreement(const nd_accuracy *accuracy, const nd_accuracy *original) {
    int64_t same = 0;
    for (int64_t i = 0; i < accuracy->n; i++)
        same += accuracy->best[i] >= 0 && accuracy->best[i] == original->best[i];
    return accuracy_percent(same, accuracy->n);
}

/* From kept logits: sum |l' - l|^2 / sum |l - mean l|^2, the mean being that of the class over the images. */
static double accuracy_logit_rel_mse(const nd_accuracy *accuracy, const nd_accuracy *original) {
    const int64_t n = accuracy->n, classes = accuracy->classes;
    if (!accuracy->logits || !original->logits || classes != original->classes) return NAN;
    double distance = 0, spread = 0;
    for (int64_t c = 0; c < classes; c++) {
        double mean = 0;
        for (int64_t i = 0; i < n; i++) mean += original->logits[i * classes + c] / (double)n;
        for (int64_t i = 0; i < n; i++) {
            const double l = original->logits[i * classes + c], changed = accuracy->logits[i * classes + c];
            distance += (changed - l) * (changed - l);
            spread += (l - mean) * (l - mean);
        }
    }
    return distance / spread;
}

nd_status nd_accuracy_row(const nd_accuracy *accuracy, const nd_accuracy *original, const nd_batches *batches,
                          nd_row *row) {
    ND_REQUIRE(!original || original->n == accuracy->n, nd_status_usage,
               "%s: %lld images against %lld of the original", batches->name, (long long)accuracy->n,
               original ? (long long)original->n : 0);
    const int64_t labelled = nd_accuracy_labelled(accuracy);
    nd_row_set_name(row, nd_field_dataset, batches->name);
    nd_row_set_text(row, nd_field_dataset_sha256, batches->sha256);
    nd_row_set_text(row, nd_field_preprocess, batches->preprocess);
    nd_row_set_int(row, nd_field_n, accuracy->n);
    nd_row_set_int(row, nd_field_skipped, accuracy->skipped);
    if (accuracy->unlabelled) nd_row_set_int(row, nd_field_unlabelled, accuracy->unlabelled);
    if (accuracy->nan_images) nd_row_set_int(row, nd_field_nan_images, accuracy->nan_images);
    if (labelled) {
        nd_row_set_int(row, nd_field_top1_correct, accuracy->top1_correct);
        nd_row_set_int(row, nd_field_top5_correct, accuracy->top5_correct);
        nd_row_set_real(row, nd_field_top1, accuracy_percent(accuracy->top1_correct, labelled));
        nd_row_set_real(row, nd_field_top5, accuracy_percent(accuracy->top5_correct, labelled));
    }
    if (!original) return nd_status_ok;
    if (labelled) {
        const nd_drop_counts counts1 = nd_drop_count(original->hit1, accuracy->hit1, labelled);
        const nd_drop_counts counts5 = nd_drop_count(original->hit5, accuracy->hit5, labelled);
        const nd_drop top1 = nd_drop_of(&counts1), top5 = nd_drop_of(&counts5);
        nd_accuracy_drop_row(&top1, &top5, row);
    }
    nd_row_set_real(row, nd_field_agreement, accuracy_agreement(accuracy, original));
    const double measured = accuracy->logit_rel_mse;
    nd_row_set_real(row, nd_field_logit_rel_mse,
                    isnan(measured) ? accuracy_logit_rel_mse(accuracy, original) : measured);
    return nd_status_ok;
}

enum { nd_chance_images = 50 }; /* fewer prove nothing */

bool nd_accuracy_at_chance(const nd_accuracy *accuracy, char *text, size_t size) {
    const double n = (double)nd_accuracy_labelled(accuracy), chance = 1 / (double)accuracy->classes;
    const double limit = n * chance + 3 * sqrt(n * chance * (1 - chance));
    if (n < nd_chance_images || accuracy->classes < 2 || (double)accuracy->top1_correct > limit) return false;
    const bool above = accuracy->one_above > accuracy->one_below;
    const int64_t shifted = above ? accuracy->one_above : accuracy->one_below;
    if ((double)shifted > limit)
        snprintf(text, size,
                 "the best output is mostly one %s the label (%lld of %lld): try --label-offset %d",
                 above ? "above" : "below", (long long)shifted, (long long)n, above ? 1 : -1);
    else
        snprintf(
            text, size,
            "are the classes numbered as the network's outputs (--classes), and the images prepared as it "
            "expects (--preprocess)?");
    return true;
}
