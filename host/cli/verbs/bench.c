#include "cli/args/rerun.h"
#include "cli/cli.h"
#include "cli/verbs/bench_networks.h"
#include "cli/verbs/bench_table.h"
#include "cli/verbs/quantize_settings.h"

#include "base/parallel.h"
#include "bench/bench.h"
#include "decouple/methods/method.h"
#include "model/zoo/zoo.h"
#include "run/plugins.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lists that multiply, and what stays the same throughout. */
typedef struct bench_verb {
    nd_args *args;
    const char *model;
    nd_graph *graph; /* NULL when a suite has no network to run end to end */
    char sha256[65];
    nd_bench_layer *graph_layers; /* of the graph, where no suite says which */
    const nd_bench_layer *layers; /* of either */
    size_t n_layers;
    int64_t *terms, *batches, *threads;
    size_t n_terms, n_batches, n_threads;
    char **dtypes, **backends, **caches;
    size_t n_dtypes, n_backends, n_caches;
    /* Made at the first need, on whichever backend comes first: as they are, and in int8. */
    nd_bench_list lists[nd_precision_count]; /* by what they are quantised to */
    nd_bench_settings settings;
    nd_progress progress;
    nd_output *output;
    nd_bench_table *table;
    bool noisy, quantises;
} bench_verb;

static nd_status parse_implementations(bench_verb *verb) {
    char **names;
    size_t count;
    ND_TRY(nd_args_words(verb->args, "impl", "dense,direct,winograd,unfused,fused,best", &names, &count));
    for (size_t i = 0; i < count; i++) {
        nd_implementation implementation;
        ND_REQUIRE(nd_implementation_find(names[i], &implementation), nd_status_usage,
                   "--impl %s: there are dense, direct, winograd, unfused, fused and best", names[i]);
        verb->settings.implementations[implementation] = true;
    }
    return nd_status_ok;
}

/* Single layers are timed as dwpw or pwdw; other methods make chains of networks only. */
static nd_status parse_forms(bench_verb *verb) {
    char **names;
    size_t count;
    ND_TRY(nd_args_words(verb->args, "method", "dwpw", &names, &count));
    for (size_t i = 0; i < count; i++) {
        ND_REQUIRE(!strcmp(names[i], "auto") || nd_method_find(names[i]), nd_status_usage,
                   "--method %s: no such method", names[i]);
        verb->settings.forms[nd_form_dwpw] |= !strcmp(names[i], "dwpw") || !strcmp(names[i], "auto");
        verb->settings.forms[nd_form_pwdw] |= !strcmp(names[i], "pwdw") || !strcmp(names[i], "auto");
    }
    return nd_status_ok;
}

static nd_status parse_lists(bench_verb *verb) {
    nd_args *args = verb->args;
    ND_TRY(nd_args_ints(args, "rank", 3, &verb->terms, &verb->n_terms));
    ND_TRY(nd_args_ints(args, "batch", 1, &verb->batches, &verb->n_batches));
    ND_TRY(nd_args_ints(args, "threads", 0, &verb->threads, &verb->n_threads));
    ND_TRY(nd_args_words(args, "dtype", "fp32", &verb->dtypes, &verb->n_dtypes));
    ND_TRY(nd_args_words(args, "backend", "auto", &verb->backends, &verb->n_backends));
    ND_TRY(nd_args_words(args, "cache", "cold,hot", &verb->caches, &verb->n_caches));
    for (size_t i = 0; i < verb->n_terms; i++)
        ND_REQUIRE(verb->terms[i] >= 1 && verb->terms[i] <= 64, nd_status_usage,
                   "--rank: must be from 1 to 64");
    for (size_t i = 0; i < verb->n_backends; i++) ND_TRY(nd_backend_known(verb->backends[i]));
    for (size_t i = 0; i < verb->n_dtypes; i++) {
        nd_precision precision, quantised;
        ND_TRY(nd_cli_precision(verb->dtypes[i], &precision));
        ND_TRY(nd_cli_quantizes(args, verb->dtypes[i], &quantised));
        verb->quantises = verb->quantises || quantised != nd_precision_fp32;
    }
    for (size_t i = 0; i < verb->n_batches; i++)
        ND_REQUIRE(verb->batches[i] >= 1, nd_status_usage, "--batch: must be at least 1");
    for (size_t i = 0; i < verb->n_threads; i++)
        ND_REQUIRE(verb->threads[i] >= 0 && verb->threads[i] <= 1024, nd_status_usage,
                   "--threads: must be from 0 to 1024");
    for (size_t i = 0; i < verb->n_caches; i++)
        ND_REQUIRE(!strcmp(verb->caches[i], "cold") || !strcmp(verb->caches[i], "hot"), nd_status_usage,
                   "--cache %s: there are cold and hot", verb->caches[i]);
    verb->settings.timing = nd_timing_defaults();
    ND_TRY(nd_args_real(args, "time-limit", verb->settings.timing.limit_seconds, 0.01, 3600,
                        &verb->settings.timing.limit_seconds));
    ND_TRY(nd_args_int(args, "sessions", verb->settings.timing.sessions, 1, 1000,
                       &verb->settings.timing.sessions));
    verb->settings.terms = verb->terms;
    verb->settings.n_terms = verb->n_terms;
    ND_TRY(parse_forms(verb));
    return parse_implementations(verb);
}

/* What shapes networks only is neither dropped without a word where single layers are timed, nor possible
 * where there is no network: the suite `cifar` has none. */
static nd_status check_options(const bench_verb *verb, bool layers, bool suite_alone) {
    static const char *const network_options[] = {"input", "layer", "skip",  "calib",
                                                  "ranks", "round", "nodes", "original"};
    ND_REQUIRE(!(nd_args_has(verb->args, "original") && nd_args_has(verb->args, "calib")) || verb->quantises,
               nd_status_usage, "--calib does nothing beside --original but for the ranges of --dtype int8");
    for (size_t i = 0; i < sizeof network_options / sizeof *network_options; i++) {
        const char *option = network_options[i];
        if (!nd_args_has(verb->args, option)) continue;
        ND_REQUIRE(!suite_alone, nd_status_usage,
                   "--%s is about networks, and suite %s is single layers: add --whole or name a model",
                   option, verb->model);
        if (layers && strcmp(option, "input"))
            nd_log(nd_log_warn, "--%s shapes the networks timed end to end, not the single layers", option);
    }
    return nd_status_ok;
}

/* A suite is layers alone, unless its network with random weights is asked for; a model is both. */
static nd_status open_subject(bench_verb *verb) {
    const nd_args *args = verb->args;
    const char *original = nd_args_text(args, "original", verb->model);
    const bool *forms = verb->settings.forms;
    bool rule = nd_bench_has_rule(args), form = forms[nd_form_dwpw] || forms[nd_form_pwdw];
    bool layers = !nd_args_has(args, "no-layers") && !nd_args_has(args, "original") && form &&
                  (!rule || nd_args_has(args, "rank"));
    ND_REQUIRE(layers || !nd_args_has(args, "svd"), nd_status_usage,
               "--svd times the layers of a suite or a model by method dwpw or pwdw");
    const nd_suite *suite = layers ? nd_suite_find(verb->model) : NULL;
    bool suite_alone = suite && !rule && !nd_args_has(args, "whole");
    ND_REQUIRE(!nd_args_has(args, "whole") || nd_suite_find(verb->model), nd_status_usage,
               "--whole needs a suite: a model such as %s is timed end to end as it is", verb->model);
    ND_REQUIRE(!layers || !verb->quantises, nd_status_usage,
               "in 8 bits networks are timed end to end: give --no-layers");
    ND_TRY(check_options(verb, layers, suite_alone));
    if (!suite_alone) ND_TRY(nd_bench_list_check(verb->args));
    if (suite) {
        verb->layers = suite->layers;
        verb->n_layers = suite->n_layers;
    }
    if (suite_alone) return nd_status_ok;
    ND_REQUIRE(
        strcmp(verb->model, original) || !nd_suite_find(original) || nd_zoo_find(original), nd_status_usage,
        "suite %s is single layers of dwpw or pwdw at a --rank; all else needs a network, such as resnet20",
        verb->model);
    ND_TRY(nd_cli_folded(args, original, &verb->graph, verb->sha256));
    ND_REQUIRE(
        nd_args_has(args, "original") || !nd_graph_is_quantised(verb->graph), nd_status_usage,
        "%s is in 8 bits, and what it is decoupled into would run in fp32: name the network it was made "
        "of, with --dtype int8, or a decoupled and quantised file and --original %s",
        verb->model, verb->model);
    if (!layers || suite) return nd_status_ok;
    ND_TRY(nd_bench_layers_of_graph(verb->graph, &verb->graph_layers, &verb->n_layers));
    verb->layers = verb->graph_layers;
    return nd_status_ok;
}

static nd_status take_row(void *user, const nd_row *row) {
    bench_verb *verb = user;
    verb->noisy = verb->noisy || row->values[nd_field_noisy].i;
    nd_bench_table_add(verb->table, row);
    return nd_output_row(verb->output, row);
}

/* SIGTERM, as `timeout` and batch systems send it, ends the measuring and not at once the program: it is held
 * back until the rows of what was measured are written. */
static void hold_termination(int how) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(how, &signals, NULL);
}

static bool was_terminated(void *user) {
    sigset_t pending;
    (void)user;
    return !sigpending(&pending) && sigismember(&pending, SIGTERM) == 1;
}

static nd_status bench_whole(bench_verb *verb) {
    const bool is = nd_precision_is_quantised(verb->settings.precision);
    const nd_precision quantised = is ? verb->settings.precision : nd_precision_fp32;
    nd_bench_list *list = &verb->lists[quantised];
    if (was_terminated(verb)) return nd_status_ok;
    if (!list->n)
        ND_TRY(nd_bench_list_open(verb->args, verb->graph, verb->sha256, verb->settings.backend, quantised,
                                  &verb->progress, list));
    return nd_bench_networks(list->networks, list->n, &verb->settings);
}

/* All that rows of one backend and thread count share. */
static void fill_common(const bench_verb *verb, nd_row *row) {
    const nd_backend *backend = verb->settings.backend;
    nd_row_provenance(row, verb->args->argc, verb->args->argv);
    nd_row_set_text(row, nd_field_verb, "bench");
    nd_row_set_name(row, nd_field_model, nd_args_text(verb->args, "original", verb->model));
    if (verb->graph) nd_row_set_text(row, nd_field_weights_sha256, verb->sha256);
    nd_row_set_text(row, nd_field_backend, backend->name);
    nd_row_set_text(row, nd_field_device, backend->device);
    nd_row_set_text(row, nd_field_libraries, backend->libraries);
    if (*backend->driver) nd_row_set_text(row, nd_field_driver, backend->driver);
    if (*backend->gpu) nd_row_set_text(row, nd_field_gpu, backend->gpu);
    if (backend->table->conditions) {
        char now[256];
        backend->table->conditions(verb->settings.backend, now, sizeof now);
        nd_row_set_text(row, nd_field_clocks, now);
    }
    nd_row_threads(row);
    if (verb->settings.layouts) nd_row_set_flag(row, nd_field_tuned, true);
}

static nd_status bench_precision(bench_verb *verb, const char *dtype) {
    nd_precision quantised;
    (void)nd_precision_find(dtype, &verb->settings.precision); /* parse_lists judged it */
    ND_TRY(nd_cli_quantizes(verb->args, dtype, &quantised));
    if (quantised != nd_precision_fp32) verb->settings.precision = quantised;
    ND_TRY(nd_peaks_measure(verb->settings.backend, verb->settings.precision, &verb->settings.peaks));
    for (size_t b = 0; b < verb->n_batches; b++) {
        verb->settings.batch = verb->batches[b];
        for (size_t c = 0; c < verb->n_caches && verb->n_layers; c++) {
            verb->settings.cold = !strcmp(verb->caches[c], "cold");
            ND_TRY(nd_bench_layers(verb->layers, verb->n_layers, &verb->settings));
        }
        if (verb->graph) ND_TRY(bench_whole(verb));
    }
    return nd_status_ok;
}

/* The CPU's library has more than one algorithm for a dense convolution: all are baselines. */
static nd_status open_forced(bench_verb *verb, nd_backend_settings settings) {
    static const struct {
        nd_implementation implementation;
        const char *prefer;
    } algorithms[] = {{nd_implementation_direct, "dense-direct"},
                      {nd_implementation_winograd, "dense-winograd"}};
    if (strcmp(verb->settings.backend->name, "cpu")) return nd_status_ok;
    for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++) {
        nd_implementation implementation = algorithms[i].implementation;
        settings.prefer = algorithms[i].prefer;
        if (verb->settings.implementations[implementation])
            ND_TRY(nd_backend_open("cpu", &settings, &verb->settings.forced[implementation]));
    }
    return nd_status_ok;
}

static nd_status bench_dtypes(bench_verb *verb) {
    nd_status status = nd_status_ok;
    for (size_t d = 0; d < verb->n_dtypes && !status; d++) {
        verb->table = nd_output_quiet(verb->output) ? NULL : nd_bench_table_new();
        status = bench_precision(verb, verb->dtypes[d]);
        nd_bench_table_print(verb->table, stdout, &verb->settings);
        verb->table = NULL;
    }
    return status;
}

static nd_status bench_svd(bench_verb *verb) {
    verb->table = nd_output_quiet(verb->output) ? NULL : nd_bench_table_new();
    const nd_status status = nd_bench_svd(verb->layers, verb->n_layers, &verb->settings);
    nd_bench_table_print(verb->table, stdout, &verb->settings);
    verb->table = NULL;
    return status;
}

static nd_status bench_backend(bench_verb *verb, const char *name, int64_t threads) {
    int64_t device;
    ND_TRY(nd_args_int(verb->args, "device", 0, 0, 1023, &device));
    nd_backend_settings settings = {.device = (int)device,
                                    .threads = (int)threads,
                                    .isa = nd_args_text(verb->args, "isa", NULL),
                                    .tune = nd_args_has(verb->args, "tune")};
    nd_threads_set((int)threads);
    ND_TRY(nd_cli_backend_named(verb->args, name, &settings, &verb->settings.backend));
    ND_TRY(open_forced(verb, settings));
    nd_row common = {0};
    fill_common(verb, &common);
    verb->settings.common = &common;
    const nd_status status = nd_args_has(verb->args, "svd") ? bench_svd(verb) : bench_dtypes(verb);
    nd_row_free(&common);
    for (int implementation = 0; implementation < nd_implementation_count; implementation++) {
        nd_backend_close(verb->settings.forced[implementation]);
        verb->settings.forced[implementation] = NULL;
    }
    nd_backend_close(verb->settings.backend);
    return status;
}

nd_status nd_verb_bench(nd_args *args) {
    bench_verb verb = {.args = args, .model = args->positional[0], .progress = nd_cli_progress()};
    verb.settings.row = take_row;
    verb.settings.stop = was_terminated;
    verb.settings.user = &verb;
    verb.settings.progress = &verb.progress;
    verb.settings.nodes = nd_args_has(args, "nodes");
    verb.settings.layouts = nd_args_has(args, "tune");
    nd_status status = nd_status_ok;
    nd_cli_fix_addresses(args);
    hold_termination(SIG_BLOCK);
    ND_TRY_DONE(parse_lists(&verb));
    ND_TRY_DONE(open_subject(&verb));
    ND_TRY_DONE(nd_output_open(args, &verb.output));
    for (size_t b = 0; b < verb.n_backends; b++)
        for (size_t t = 0; t < verb.n_threads; t++)
            ND_TRY_DONE(bench_backend(&verb, verb.backends[b], verb.threads[t]));
    if (verb.noisy && nd_args_has(args, "strict"))
        status = nd_fail(nd_status_inconclusive, "bench: some ratios are still noisy at the time limit");
done:
    status = nd_output_close(verb.output, status);
    free(verb.graph_layers);
    free(verb.terms);
    free(verb.batches);
    free(verb.threads);
    for (int p = 0; p < nd_precision_count; p++) nd_bench_list_close(&verb.lists[p]);
    nd_graph_free(verb.graph);
    (void)fflush(NULL);
    hold_termination(SIG_UNBLOCK); /* ends the program if there was one */
    return status;
}
