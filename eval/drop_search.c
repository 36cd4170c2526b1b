#include "eval/drop_search.h"

#include "eval/overlap.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Images to calibrate on that may also be measured on: data sets have a few pictures twice, one in ten is no
 * accident. */
static const double nd_drop_shared = .1;

nd_status nd_drop_bisect(double finest, nd_drop_try *attempt, void *user) {
    double low = 0, high = 1;
    while (high - low > finest) {
        const double turn = (low + high) / 2;
        bool within = false;
        ND_TRY(attempt(user, turn, &within));
        *(within ? &low : &high) = turn;
    }
    return nd_status_ok;
}

nd_status nd_drop_measure(const nd_graph *graph, nd_batches *data, const nd_accuracy_settings *settings,
                          const nd_accuracy *original, nd_drop_counts *top1, nd_drop_counts *top5) {
    nd_accuracy accuracy = {0};
    nd_status status;
    ND_TRY_DONE(nd_accuracy_measure(graph, data, settings, &accuracy));
    ND_REQUIRE_DONE(accuracy.n == original->n, nd_status_internal, "%s: %lld images, then %lld", data->name,
                    (long long)original->n, (long long)accuracy.n);
    *top1 = nd_drop_count(original->hit1, accuracy.hit1, nd_accuracy_labelled(original));
    *top5 = nd_drop_count(original->hit5, accuracy.hit5, nd_accuracy_labelled(original));
done:
    nd_accuracy_free(&accuracy);
    return status;
}

nd_status nd_drop_disjoint(nd_batches *calib, int64_t images, nd_batches *data) {
    ND_REQUIRE(!data->synthetic, nd_status_usage, "%s: made-up pictures have no labels to lose", data->name);
    if (!calib) return nd_status_ok;
    if (strcmp(calib->preprocess, data->preprocess)) {
        nd_log(nd_log_warn,
               "the images calibrated on and those of %s are preprocessed differently: whether they share "
               "any is not checked",
               data->name);
        return nd_status_ok;
    }
    int64_t shared = 0;
    const int64_t count = images > 0 && images < calib->count ? images : calib->count;
    ND_TRY(nd_overlap_count(calib, images, data, &shared));
    ND_REQUIRE(
        (double)shared < nd_drop_shared * (double)count, nd_status_usage,
        "%lld of the %lld images calibrated on are also in %s: a drop on images that were fitted to is "
        "flattered; measure on others",
        (long long)shared, (long long)count, data->name);
    if (shared)
        nd_log(nd_log_warn, "%lld of the %lld images calibrated on are also in %s", (long long)shared,
               (long long)count, data->name);
    return nd_status_ok;
}

nd_status nd_drop_original(const nd_graph *graph, nd_batches *data, const nd_accuracy_settings *settings,
                           nd_accuracy *out) {
    ND_TRY(nd_accuracy_measure(graph, data, settings, out));
    ND_REQUIRE(!out->unlabelled, nd_status_usage,
               "%s: %lld of %lld images have no label; a drop is measured on labelled ones", data->name,
               (long long)out->unlabelled, (long long)out->n);
    return nd_status_ok;
}

void nd_drop_probe_row(const nd_drop_probe *probe, const nd_batches *data, nd_row *row) {
    nd_row_set_name(row, nd_field_search_dataset, data->name);
    nd_row_set_text(row, nd_field_search_sha256, data->sha256);
    nd_row_set_int(row, nd_field_search_n, probe->n);
    nd_accuracy_drop_row(&probe->top1, &probe->top5, row);
}

double nd_drop_judged(const nd_drop_bound *bound, const nd_drop_probe *probe) {
    const nd_drop *drop = bound->top5 ? &probe->top5 : &probe->top1;
    return bound->confident ? drop->hi : drop->points;
}

nd_status nd_drop_write(nd_graph *graph, const nd_batches *data, const nd_drop_bound *bound,
                        const nd_drop_probe *probe) {
    const nd_drop *judged = bound->top5 ? &probe->top5 : &probe->top1;
    json_t *json = json_pack("{ss ss sI si sf sb sf sf sf sf}", "dataset", data->name, "sha256", data->sha256,
                             "n", (json_int_t)probe->n, "top", bound->top5 ? 5 : 1, "points", bound->points,
                             "confident", bound->confident, "ratio", probe->setting, "drop", judged->points,
                             "lo", judged->lo, "hi", judged->hi);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    ND_REQUIRE(text, nd_status_memory, "no memory for the settings of a model");
    const nd_status status = nd_graph_set_meta(graph, "nd.search", text);
    free(text);
    return status;
}
