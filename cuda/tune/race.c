#include "cuda/tune/race.h"
#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { nd_race_quick = 3, nd_race_rounds = 9 };

static nd_status race_flush(nd_cuda *cuda) {
    if (!cuda->flush) ND_TRY(nd_cuda_allocate(2 * cuda->base.last_cache_bytes, &cuda->flush));
    ND_CUDA_TRY(cudaMemsetAsync(cuda->flush, 0, 2 * cuda->base.last_cache_bytes, cuda->stream));
    return nd_status_ok;
}

/* The flush keeps the device busy while the host starts what is timed, so that launching it does not count.
 */
static nd_status race_lap(nd_race *race, void *way, double *ns) {
    cudaEvent_t start = NULL, end = NULL;
    float milliseconds;
    nd_status status = nd_status_ok;
    ND_CUDA_TRY_DONE(cudaEventCreate(&start));
    ND_CUDA_TRY_DONE(cudaEventCreate(&end));
    ND_TRY_DONE(race_flush(race->cuda));
    ND_CUDA_TRY_DONE(cudaEventRecord(start, race->cuda->stream));
    ND_TRY_DONE(race->run(way, race->user));
    ND_CUDA_TRY_DONE(cudaEventRecord(end, race->cuda->stream));
    ND_CUDA_TRY_DONE(cudaEventSynchronize(end));
    ND_CUDA_TRY_DONE(cudaEventElapsedTime(&milliseconds, start, end));
    *ns = 1e6 * milliseconds;
done:
    if (start) (void)cudaEventDestroy(start);
    if (end) (void)cudaEventDestroy(end);
    return status;
}

static double race_median(double *times, int count) {
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && times[j - 1] > times[j]; j--) {
            const double swapped = times[j];
            times[j] = times[j - 1];
            times[j - 1] = swapped;
        }
    return times[count / 2];
}

/* Medians of `rounds` laps each, all ways in turn; a first lap of each loads code and does not count. */
static nd_status race_time(nd_race *race, void *const *ways, int count, int rounds, double *ns) {
    double times[nd_race_finalists][nd_race_rounds], warm;
    for (int i = 0; i < count; i++) ND_TRY(race_lap(race, ways[i], &warm));
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < count; i++) ND_TRY(race_lap(race, ways[i], &times[i][round]));
    for (int i = 0; i < count; i++) ns[i] = race_median(times[i], rounds);
    return nd_status_ok;
}

static void race_drop(nd_race *race, void *way) {
    if (race->drop) race->drop(way);
}

/* One run on a y of NaN. A way whose run takes the room of the reference is as good as one without a
 * reference. */
static nd_status race_check(nd_race *race, void *way, bool *agrees) {
    char text[160];
    nd_race_facts facts;
    double times = 0;
    *agrees = true;
    ND_TRY(nd_scratch_spoil(race->scratch));
    ND_TRY(race->run(way, race->user));
    if (!race->scratch->expected) return nd_status_ok;
    race->facts(way, &facts);
    ND_TRY(nd_scratch_compare(race->scratch, facts.transformed, &times));
    if (times <= 1) return nd_status_ok;
    *agrees = false;
    race->wrong++;
    (void)nd_scratch_text(race->scratch, text, sizeof text);
    if (isinf(times))
        nd_log(nd_log_warn, "%s: %s is wrong, with elements that are NaN or left out; it is not used", text,
               facts.name);
    else
        nd_log(nd_log_warn, "%s: %s is wrong, by %.3g times what rounding explains; it is not used", text,
               facts.name, times);
    return nd_status_ok;
}

static bool race_agrees(nd_race *race, void *way) {
    bool agrees = true;
    if (!race->scratch || !race->scratch->expected) return true;
    return !race_check(race, way, &agrees) && agrees;
}

void nd_race_enter(nd_race *race, void *way) {
    double ns;
    int at = race->count;
    const bool ran = race_agrees(race, way) && !race_time(race, &way, 1, nd_race_quick, &ns);
    while (ran && at > 0 && race->ns[at - 1] > ns) at--;
    if (!ran || at == nd_race_finalists) {
        race_drop(race, way);
        return;
    }
    if (race->count == nd_race_finalists) race_drop(race, race->ways[--race->count]);
    for (int i = race->count++; i > at; i--) {
        race->ways[i] = race->ways[i - 1];
        race->ns[i] = race->ns[i - 1];
    }
    race->ways[at] = way;
    race->ns[at] = ns;
}

/* Finalists have run before; should one fail now, the first times decide. */
void *nd_race_finish(nd_race *race) {
    double ns[nd_race_finalists];
    int winner = 0;
    if (race->count > 1 && !race_time(race, race->ways, race->count, nd_race_rounds, ns))
        for (int i = 1; i < race->count; i++)
            if (ns[i] < ns[winner]) winner = i;
    void *won = race->count ? race->ways[winner] : NULL;
    for (int i = 0; i < race->count; i++)
        if (i != winner) race_drop(race, race->ways[i]);
    race->count = 0;
    return won;
}

bool nd_race_recall(const nd_cuda *cuda, const char *key, int *way) {
    for (size_t i = 0; i < cuda->n_choices; i++) {
        if (strcmp(cuda->choices[i].key, key)) continue;
        *way = cuda->choices[i].way;
        return true;
    }
    return false;
}

void nd_race_remember(nd_cuda *cuda, const char *key, int way) {
    if (cuda->n_choices == cuda->choices_capacity) {
        nd_cuda_choice *grown =
            nd_array_grow(cuda->choices, cuda->n_choices, &cuda->choices_capacity, sizeof *grown);
        if (!grown) return;
        cuda->choices = grown;
    }
    nd_cuda_choice *choice = &cuda->choices[cuda->n_choices++];
    snprintf(choice->key, sizeof choice->key, "%s", key);
    choice->way = way;
}

typedef struct nd_race_single {
    nd_status (*run)(void *context);
    void *context;
} nd_race_single;

static nd_status race_run_single(void *way, void *user) {
    (void)user;
    const nd_race_single *single = way;
    return single->run(single->context);
}

nd_status nd_cuda_time(nd_cuda *cuda, nd_status (*run)(void *context), void *context, double *ns) {
    nd_race_single single = {run, context};
    nd_race race = {.cuda = cuda, .run = race_run_single};
    void *const way = &single;
    return race_time(&race, &way, 1, nd_race_rounds, ns);
}
