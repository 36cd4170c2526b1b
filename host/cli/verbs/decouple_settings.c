#include "cli/verbs/decouple_settings.h"

#include "base/files/file.h"
#include "datasets/dataset.h"
#include "decouple/methods/method.h"
#include "model/images.h"

#include <string.h>

/* Images at once when calibrating: enough to keep the cores busy, few enough for one block of activations of
 * a 224x224 network to stay under a gigabyte. */
enum { small_image = 128 * 128, small_batch = 32, large_batch = 8 };

static const struct rule {
    const char *option;
    nd_rule rule;
    double low, high;
} rules[] = {
    {"rank", nd_rule_rank, 1, 65536},
    {"energy", nd_rule_energy, 0, 1},
    {"frobenius", nd_rule_frobenius, 0, 1},
    {"macs-ratio", nd_rule_macs_ratio, 1, 1e6},
    {"latency-ratio", nd_rule_latency_ratio, 1, 1e6},
    {"max-drop", nd_rule_macs_ratio, 0, 100}, /* the target is then searched for (eval/max_drop.h) */
};

static nd_status read_methods(nd_args *args, nd_decouple_settings *settings) {
    char **names;
    size_t count;
    settings->method = nd_args_text(args, "method", settings->method);
    if (!strcmp(settings->method, "auto")) return nd_status_ok;
    ND_TRY(nd_args_words(args, "method", settings->method, &names, &count));
    for (size_t i = 0; i < count; i++)
        ND_REQUIRE(nd_method_find(names[i]), nd_status_usage, "--method %s: no such method", names[i]);
    return nd_status_ok;
}

static nd_status read_rule(const nd_args *args, nd_decouple_settings *settings) {
    const struct rule *given = NULL;
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        if (!nd_args_has(args, rules[r].option)) continue;
        if (!strcmp(rules[r].option, "max-drop") && nd_args_has(args, "quantize"))
            continue; /* of precision */
        ND_REQUIRE(!given, nd_status_usage, "--%s and --%s are two rules for the same ranks", given->option,
                   rules[r].option);
        given = &rules[r];
        settings->rule = given->rule;
        ND_TRY(nd_args_real(args, given->option, 0, given->low, given->high, &settings->target));
    }
    return nd_status_ok;
}

static nd_status read_layers(nd_args *args, nd_decouple_settings *settings) {
    size_t n = 0;
    while (nd_args_nth(args, "layer", n)) n++;
    nd_layer_rule *rows = nd_arena_alloc(&args->arena, (n + 1) * sizeof *rows);
    ND_REQUIRE(rows, nd_status_memory, "no memory for the settings of layers");
    for (size_t r = 0; r < n; r++) {
        const char *text = nd_args_nth(args, "layer", r), *equals = strrchr(text, '=');
        ND_REQUIRE(equals && equals > text, nd_status_usage, "--layer %s: expected PATTERN=SETTING", text);
        rows[r].pattern = nd_arena_strndup(&args->arena, text, (size_t)(equals - text));
        rows[r].setting = equals + 1;
        ND_REQUIRE(rows[r].pattern, nd_status_memory, "no memory for the settings of layers");
    }
    settings->layers = rows;
    settings->n_layers = n;
    return nd_status_ok;
}

nd_status nd_cli_skips(nd_args *args, nd_decouple_settings *settings) {
    size_t n = 0;
    while (nd_args_nth(args, "skip", n)) n++;
    const char **skip = nd_arena_alloc(&args->arena, (n + 1) * sizeof *skip);
    ND_REQUIRE(skip, nd_status_memory, "no memory for --skip");
    for (size_t s = 0; s < n; s++) {
        const char *pattern = nd_args_nth(args, "skip", s);
        if (strcmp(pattern, "none"))
            skip[settings->n_skip++] = pattern;
        else
            settings->first_conv = true;
    }
    settings->skip = skip;
    return nd_status_ok;
}

static nd_status read_ranks(const nd_args *args, nd_decouple_settings *settings) {
    /* Where a rule spreads a budget, it may as well spread it within a layer. */
    bool spread = settings->rule == nd_rule_macs_ratio || settings->rule == nd_rule_latency_ratio ||
                  nd_args_has(args, "calib");
    const char *kind = nd_args_text(args, "ranks", spread ? "adaptive" : "uniform");
    bool adaptive = !strcmp(kind, "adaptive");
    ND_REQUIRE(adaptive || !strcmp(kind, "uniform"), nd_status_usage, "--ranks %s: uniform or adaptive",
               kind);
    settings->ranks = adaptive ? nd_ranks_adaptive : nd_ranks_uniform;
    return nd_args_int(args, "round", 0, 0, 4096, &settings->round);
}

/* Without a folder for it, nothing is kept. */
static nd_status read_cache(nd_args *args, nd_decouple_settings *settings) {
    enum { path_size = 4096 };
    char *cache = nd_arena_alloc(&args->arena, path_size);
    ND_REQUIRE(cache, nd_status_memory, "no memory for a path");
    if (!nd_file_cache(cache, path_size)) settings->cache = cache;
    return nd_status_ok;
}

static nd_status read_calibration(const nd_args *args, nd_decouple_settings *settings) {
    if (!nd_args_has(args, "calib")) return nd_status_ok;
    ND_TRY(nd_args_int(args, "calib-images", 256, 1, 1 << 30, &settings->calib_images));
    ND_TRY(nd_args_real(args, "ridge", 0, 1e-9, 1e6, &settings->ridge));
    settings->quick = nd_args_has(args, "quick");
    settings->light = nd_args_has(args, "light");
    settings->output_metric = nd_args_has(args, "output-metric");
    settings->relu_aware = nd_args_has(args, "relu-aware");
    settings->match_scores = nd_args_has(args, "match-scores");
    return nd_status_ok;
}

static nd_status open_calibration(const nd_args *args, const nd_graph *graph,
                                  nd_decouple_settings *settings) {
    const char *spec = nd_args_text(args, "calib", NULL);
    if (!spec) return nd_status_ok;
    const nd_image_input image = nd_image_input_of(&graph->values[graph->inputs[0]]);
    bool small = image.channels > 0 && image.height * image.width <= small_image;
    nd_dataset_settings dataset = {
        .spec = spec,
        .calibration = true,
        .batch = small ? small_batch : large_batch,
        .limit = settings->calib_images,
        .mirror = nd_args_has(args, "calib-mirror"),
    };
    if (dataset.mirror) settings->calib_images *= 2; /* two of each picture */
    return nd_cli_dataset(args, &graph, 1, dataset, &settings->calib);
}

nd_status nd_cli_decouple_read(nd_args *args, nd_decouple_settings *out) {
    nd_decouple_settings settings = nd_decouple_defaults();
    ND_TRY(read_methods(args, &settings));
    ND_TRY(read_rule(args, &settings));
    /* In a sweep the points of other rules are without it. */
    settings.conv_only = settings.rule == nd_rule_macs_ratio && nd_args_has(args, "conv-only");
    ND_TRY(read_ranks(args, &settings));
    ND_TRY(read_layers(args, &settings));
    ND_TRY(nd_cli_skips(args, &settings));
    ND_TRY(read_cache(args, &settings));
    ND_TRY(read_calibration(args, &settings));
    *out = settings;
    return nd_status_ok;
}

nd_status nd_cli_decouple_settings(nd_args *args, const nd_graph *graph, const nd_progress *progress,
                                   nd_decouple_settings *out) {
    nd_decouple_settings settings;
    ND_TRY(nd_cli_decouple_read(args, &settings));
    settings.progress = progress;
    ND_TRY(open_calibration(args, graph, &settings));
    *out = settings;
    return nd_status_ok;
}

nd_status nd_cli_clock(const nd_args *args, nd_backend *backend, nd_precision precision, int64_t batch,
                       nd_graph_clock *clock, nd_decouple_settings *settings) {
    double limit;
    if (settings->rule != nd_rule_latency_ratio) return nd_status_ok;
    ND_TRY(nd_args_real(args, "time-limit", 5, 0.01, 3600, &limit));
    nd_graph_clock_init(clock, backend, precision, batch, limit);
    settings->clock = &clock->clock;
    return nd_status_ok;
}

void nd_cli_decouple_settings_close(nd_decouple_settings *settings) {
    nd_batches_close(settings->calib);
    settings->calib = NULL;
}
