#include "eval/drop_search.h"

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
