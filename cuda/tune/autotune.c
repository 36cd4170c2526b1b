#include "cuda/tune/autotune.h"
#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    nd_autotune_quick = 3,
    nd_autotune_rounds = 9,
    nd_autotune_version = 3, /* of keys: raised when kernels of ours change that were chosen among */
};

const char nd_autotune_file[] = "autotuned.txt";

static nd_status autotune_flush(nd_cuda *cuda) {
    if (!cuda->flush) ND_TRY(nd_cuda_allocate(2 * cuda->base.last_cache_bytes, &cuda->flush));
    ND_CUDA_TRY(cudaMemsetAsync(cuda->flush, 0, 2 * cuda->base.last_cache_bytes, cuda->stream));
    return nd_status_ok;
}

/* A candidate as a capture; NULL where it cannot be one. */
static cudaGraphExec_t autotune_capture(nd_autotune *tuning, void *candidate) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    if (cudaStreamBeginCapture(tuning->cuda->stream, cudaStreamCaptureModeThreadLocal)) return NULL;
    const nd_status ran = tuning->run(candidate, tuning->user);
    const bool ended = !cudaStreamEndCapture(tuning->cuda->stream, &graph);
    if (!ended || ran || cudaGraphInstantiate(&ready, graph, 0)) ready = NULL;
    if (graph) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError(); /* then it is timed as it is */
    return ready;
}

static nd_status autotune_start(nd_autotune *tuning, void *candidate, cudaGraphExec_t capture) {
    if (!capture) return tuning->run(candidate, tuning->user);
    ND_CUDA_TRY(cudaGraphLaunch(capture, tuning->cuda->stream));
    return nd_status_ok;
}

/* The flush keeps the device busy while the host starts what is timed, so that launching it does
 * not count. */
static nd_status autotune_measure(nd_autotune *tuning, void *candidate, cudaGraphExec_t capture, double *ns) {
    cudaEvent_t start = NULL, end = NULL;
    float milliseconds;
    nd_status status = nd_status_ok;
    ND_CUDA_TRY_DONE(cudaEventCreate(&start));
    ND_CUDA_TRY_DONE(cudaEventCreate(&end));
    ND_TRY_DONE(autotune_flush(tuning->cuda));
    ND_CUDA_TRY_DONE(cudaEventRecord(start, tuning->cuda->stream));
    ND_TRY_DONE(autotune_start(tuning, candidate, capture));
    ND_CUDA_TRY_DONE(cudaEventRecord(end, tuning->cuda->stream));
    ND_CUDA_TRY_DONE(cudaEventSynchronize(end));
    ND_CUDA_TRY_DONE(cudaEventElapsedTime(&milliseconds, start, end));
    *ns = 1e6 * milliseconds;
done:
    if (start) (void)cudaEventDestroy(start);
    if (end) (void)cudaEventDestroy(end);
    return status;
}

static double autotune_median(double *times, int count) {
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && times[j - 1] > times[j]; j--) {
            const double swapped = times[j];
            times[j] = times[j - 1];
            times[j - 1] = swapped;
        }
    return times[count / 2];
}

/* Medians of `rounds` laps each, all candidates in turn; a first lap of each loads code and allocates, and
 * does not count. */
static nd_status autotune_time(nd_autotune *tuning, void *const *candidates, int count, int rounds,
                               double *ns) {
    double times[nd_autotune_finalists][nd_autotune_rounds], warm;
    cudaGraphExec_t captures[nd_autotune_finalists] = {NULL};
    nd_status status = nd_status_ok;
    for (int i = 0; i < count; i++) {
        ND_TRY_DONE(autotune_measure(tuning, candidates[i], NULL, &warm));
        if (tuning->recorded) captures[i] = autotune_capture(tuning, candidates[i]);
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < count; i++)
            ND_TRY_DONE(autotune_measure(tuning, candidates[i], captures[i], &times[i][round]));
    for (int i = 0; i < count; i++) ns[i] = autotune_median(times[i], rounds);
done:
    for (int i = 0; i < count; i++)
        if (captures[i]) (void)cudaGraphExecDestroy(captures[i]);
    return status;
}

double nd_autotune_until(const nd_cuda *cuda) {
    return nd_cuda_seconds() + cuda->tune_seconds;
}

bool nd_autotune_is_late(nd_autotune *tuning) {
    if (!tuning->count || !tuning->until || nd_cuda_seconds() <= tuning->until) return false;
    tuning->left++;
    return true;
}

static void autotune_drop(nd_autotune *tuning, void *candidate) {
    if (tuning->drop) tuning->drop(candidate);
}

/* How many times its bound a candidate is off, by a run on a y of each poison. One whose run takes the room
 * of the reference is as good as one without a reference. */
static nd_status autotune_compare(nd_autotune *tuning, void *candidate, bool transformed, double *times) {
    *times = 0;
    for (int i = 0; i < nd_inputs_poisons(tuning->inputs) && *times <= 1; i++) {
        ND_TRY(nd_inputs_poison(tuning->inputs, i));
        ND_TRY(tuning->run(candidate, tuning->user));
        if (!tuning->inputs->expected) return nd_status_ok;
        ND_TRY(nd_inputs_verify(tuning->inputs, i, transformed, times));
    }
    return nd_status_ok;
}

static void autotune_blame(const nd_autotune *tuning, const char *name, double times) {
    char text[160];
    (void)nd_inputs_text(tuning->inputs, text, sizeof text);
    if (isinf(times))
        nd_log(nd_log_warn, "%s: %s is wrong, with elements that are NaN or left out; it is not used", text,
               name);
    else
        nd_log(nd_log_warn, "%s: %s is wrong, by %.3g times what rounding explains; it is not used", text,
               name, times);
}

static bool autotune_verify(nd_autotune *tuning, void *candidate) {
    nd_autotune_facts facts;
    double times;
    if (!tuning->inputs || !tuning->inputs->expected) return true;
    tuning->facts(candidate, &facts);
    if (autotune_compare(tuning, candidate, facts.transformed, &times)) return false;
    if (times <= 1) return true;
    tuning->wrong++;
    autotune_blame(tuning, facts.name, times);
    return false;
}

void nd_autotune_add(nd_autotune *tuning, void *candidate) {
    double ns;
    int at = tuning->count;
    const bool ran =
        autotune_verify(tuning, candidate) && !autotune_time(tuning, &candidate, 1, nd_autotune_quick, &ns);
    while (ran && at > 0 && tuning->ns[at - 1] > ns) at--;
    if (!ran || at == nd_autotune_finalists) {
        autotune_drop(tuning, candidate);
        return;
    }
    if (tuning->count == nd_autotune_finalists) autotune_drop(tuning, tuning->candidates[--tuning->count]);
    for (int i = tuning->count++; i > at; i--) {
        tuning->candidates[i] = tuning->candidates[i - 1];
        tuning->ns[i] = tuning->ns[i - 1];
    }
    tuning->candidates[at] = candidate;
    tuning->ns[at] = ns;
}

/* Finalists have run before; should one fail now, the first times decide. */
void *nd_autotune_finish(nd_autotune *tuning) {
    double ns[nd_autotune_finalists];
    int winner = 0;
    if (tuning->count > 1 &&
        !autotune_time(tuning, tuning->candidates, tuning->count, nd_autotune_rounds, ns))
        for (int i = 1; i < tuning->count; i++)
            if (ns[i] < ns[winner]) winner = i;
    void *won = tuning->count ? tuning->candidates[winner] : NULL;
    for (int i = 0; i < tuning->count; i++)
        if (i != winner) autotune_drop(tuning, tuning->candidates[i]);
    tuning->count = 0;
    return won;
}

bool nd_autotune_recall(const nd_cuda *cuda, const char *key, int *candidate) {
    for (size_t i = 0; i < cuda->n_choices; i++) {
        if (strcmp(cuda->choices[i].key, key)) continue;
        *candidate = cuda->choices[i].candidate;
        return true;
    }
    return false;
}

void nd_autotune_remember(nd_cuda *cuda, const char *key, int candidate) {
    if (cuda->n_choices == cuda->choices_capacity) {
        nd_cuda_choice *grown =
            nd_array_grow(cuda->choices, cuda->n_choices, &cuda->choices_capacity, sizeof *grown);
        if (!grown) return;
        cuda->choices = grown;
    }
    nd_cuda_choice *choice = &cuda->choices[cuda->n_choices++];
    snprintf(choice->key, sizeof choice->key, "%s", key);
    choice->candidate = candidate;
}

void nd_autotune_key(const nd_cuda *cuda, nd_sha256 *hash) {
    const int version = nd_autotune_version;
    nd_sha256_init(hash);
    nd_sha256_add(hash, &version, sizeof version);
    nd_sha256_add(hash, cuda->base.device, strlen(cuda->base.device));
    nd_sha256_add(hash, cuda->base.driver, strlen(cuda->base.driver));
    nd_sha256_add(hash, cuda->base.libraries, strlen(cuda->base.libraries));
}

typedef struct nd_autotune_single {
    nd_status (*run)(void *context);
    void *context;
} nd_autotune_single;

static nd_status autotune_run_single(void *candidate, void *user) {
    (void)user;
    const nd_autotune_single *single = candidate;
    return single->run(single->context);
}

nd_status nd_cuda_time(nd_cuda *cuda, nd_status (*run)(void *context), void *context, double *ns) {
    nd_autotune_single single = {run, context};
    nd_autotune tuning = {.cuda = cuda, .run = autotune_run_single};
    void *const candidate = &single;
    return autotune_time(&tuning, &candidate, 1, nd_autotune_rounds, ns);
}
