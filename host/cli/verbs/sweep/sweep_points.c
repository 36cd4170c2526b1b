#include "cli/verbs/sweep/sweep_points.h"

#include "base/hash.h"
#include "base/text/text.h"
#include "cli/args/args.h"
#include "cli/verbs/decouple_settings.h"
#include "cli/verbs/quantize_settings.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Options that are axes when given as lists; whole numbers also take ranges. `run` says where and how a
 * network runs, not what it is; the `last` ones change fastest: a network is decoupled once for them. */
static const struct {
    const char *name;
    bool whole, run, last;
} axis_options[] = {
    {.name = "backend", .run = true},
    {.name = "calib"},
    {.name = "method"},
    {.name = "ranks"},
    {.name = "ridge"},
    {.name = "round", .whole = true},
    {.name = "calib-images", .whole = true},
    {.name = "dtype", .run = true, .last = true},
    {.name = "batch", .whole = true, .run = true, .last = true},
};

static const struct {
    const char *name;
    bool whole;
} rule_options[] = {
    {"rank", true}, {"energy", false}, {"frobenius", false}, {"macs-ratio", false}, {"latency-ratio", false}};

static const nd_option *option_named(const char *name) {
    for (size_t i = 0; i < nd_option_count; i++)
        if (!strcmp(nd_option_table[i].name, name)) return &nd_option_table[i];
    return NULL;
}

static nd_status grow_axis(nd_arena *arena, struct nd_sweep_axis *axis, size_t more) {
    nd_sweep_value *values = nd_arena_alloc(arena, (axis->n + more) * sizeof *values);
    ND_REQUIRE(values, nd_status_memory, "no memory for a sweep");
    if (axis->n) memcpy(values, axis->values, axis->n * sizeof *values);
    axis->values = values;
    return nd_status_ok;
}

static nd_status add_whole(nd_arena *arena, const nd_option *option, const char *text,
                           struct nd_sweep_axis *axis) {
    int64_t *numbers;
    size_t n;
    nd_status status = nd_text_ints(text, &numbers, &n);
    if (status) return nd_fail_in(status, "--%s", option->name);
    status = grow_axis(arena, axis, n);
    for (size_t i = 0; i < n && !status; i++) {
        const char *copy = nd_arena_printf(arena, "%" PRId64, numbers[i]);
        if (!copy) status = nd_fail(nd_status_memory, "no memory for a sweep");
        axis->values[axis->n++] = (nd_sweep_value){option, copy};
    }
    free(numbers);
    return status;
}

/* A point's methods, of which the better one is taken in each layer, are a list themselves: dwpw/spatial. */
static void split_methods(char *methods) {
    for (char *at = methods; (at = strchr(at, '/')); at++) *at = ',';
}

static nd_status add_words(nd_arena *arena, const nd_option *option, const char *text,
                           struct nd_sweep_axis *axis) {
    char **words;
    size_t n;
    ND_TRY(nd_text_split(arena, text, ',', &words, &n));
    ND_TRY(grow_axis(arena, axis, n));
    for (size_t i = 0; i < n; i++) {
        const bool none = !strcmp(option->name, "calib") && !strcmp(words[i], "none");
        if (!strcmp(option->name, "method")) split_methods(words[i]);
        axis->values[axis->n++] = (nd_sweep_value){option, none ? NULL : words[i]};
    }
    return nd_status_ok;
}

static nd_status add_values(nd_arena *arena, const char *name, bool whole, const char *text,
                            struct nd_sweep_axis *axis) {
    const nd_option *option = option_named(name);
    ND_REQUIRE(option, nd_status_internal, "no option --%s", name);
    return whole ? add_whole(arena, option, text, axis) : add_words(arena, option, text, axis);
}

static nd_status add_axes(nd_args *args, const nd_sweep_settings *settings, bool last, nd_sweep_points *out) {
    for (size_t i = 0; i < sizeof axis_options / sizeof *axis_options; i++) {
        const char *text = nd_args_text(args, axis_options[i].name, NULL);
        if (!text && !strcmp(axis_options[i].name, "method")) text = settings->method;
        if (!text || axis_options[i].last != last || (axis_options[i].run && !settings->run)) continue;
        ND_TRY(add_values(&args->arena, axis_options[i].name, axis_options[i].whole, text,
                          &out->axes[out->n_axes++]));
    }
    return nd_status_ok;
}

nd_status nd_sweep_points_make(nd_args *args, const nd_sweep_settings *settings, nd_sweep_points *out) {
    *out = (nd_sweep_points){.args = args, .run = settings->run, .count = 1};
    ND_TRY(add_axes(args, settings, false, out));
    struct nd_sweep_axis *rules = &out->axes[out->n_axes++];
    for (size_t i = 0; i < sizeof rule_options / sizeof *rule_options; i++) {
        const char *text = nd_args_text(args, rule_options[i].name, NULL);
        if (text) ND_TRY(add_values(&args->arena, rule_options[i].name, rule_options[i].whole, text, rules));
    }
    if (!rules->n) ND_TRY(add_values(&args->arena, "rank", true, settings->rank, rules));
    ND_TRY(add_axes(args, settings, true, out));
    for (size_t a = 0; a < out->n_axes; a++) {
        ND_REQUIRE(out->axes[a].n && out->count <= 1000000 / out->axes[a].n, nd_status_usage,
                   "a sweep of more than a million points, or of none");
        out->count *= out->axes[a].n;
    }
    return nd_status_ok;
}

static bool is_swept(const nd_sweep_points *points, const nd_option *option) {
    for (size_t a = 0; a < points->n_axes; a++)
        for (size_t v = 0; v < points->axes[a].n; v++)
            if (points->axes[a].values[v].option == option) return true;
    return false;
}

nd_status nd_sweep_point(const nd_sweep_points *points, size_t index, nd_args *out) {
    const nd_args *args = points->args;
    *out = *args;
    out->arena = (nd_arena){0};
    out->n_values = 0;
    out->values = nd_arena_alloc(&out->arena, (args->n_values + nd_sweep_axes_max) * sizeof *out->values);
    ND_REQUIRE(out->values, nd_status_memory, "no memory for a sweep");
    for (size_t i = 0; i < args->n_values; i++)
        if (!is_swept(points, args->values[i].option)) out->values[out->n_values++] = args->values[i];
    for (size_t a = points->n_axes; a-- > 0; index /= points->axes[a].n) {
        const nd_sweep_value *value = &points->axes[a].values[index % points->axes[a].n];
        if (value->text) out->values[out->n_values++] = (struct nd_args_value){value->option, value->text};
    }
    return nd_status_ok;
}

static nd_status check_run(const nd_args *point) {
    nd_precision precision;
    int64_t batch;
    const char *dtype = nd_args_text(point, "dtype", "fp32");
    ND_TRY(nd_cli_precision(dtype, &precision));
    ND_REQUIRE(!nd_precision_is_quantised(precision) || nd_args_has(point, "calib"), nd_status_usage,
               "--dtype %s: ranges on which images? Give --calib DATASET", dtype);
    nd_precision quantised;
    ND_TRY(nd_cli_quantizes(point, nd_precision_is_quantised(precision) ? dtype : "int8", &quantised));
    ND_TRY(nd_args_int(point, "batch", 1, 1, 65536, &batch));
    return nd_backend_known(nd_args_text(point, "backend", "auto"));
}

nd_status nd_sweep_points_check(const nd_sweep_points *points) {
    size_t stride = points->count;
    for (size_t a = 0; a < points->n_axes; a++) {
        stride /= points->axes[a].n;
        for (size_t v = 0; v < points->axes[a].n; v++) {
            nd_args point;
            nd_status status = nd_sweep_point(points, v * stride, &point);
            nd_decouple_settings settings;
            if (!status && points->run) status = check_run(&point);
            if (!status) status = nd_cli_decouple_read(&point, &settings);
            nd_args_free(&point);
            ND_TRY(status);
        }
    }
    return nd_status_ok;
}

/* How many values an option has, 1 where it is no axis, and how far apart they lie in the order of points. */
static size_t find_axis(const nd_sweep_points *points, const char *name, size_t *stride) {
    *stride = points->count;
    for (size_t a = 0; a < points->n_axes; a++) {
        *stride /= points->axes[a].n;
        if (!strcmp(points->axes[a].values[0].option->name, name)) return points->axes[a].n;
    }
    *stride = 0;
    return 1;
}

nd_status nd_sweep_points_backends(const nd_sweep_points *points, nd_sweep_check *check, void *user) {
    size_t next_backend, next_dtype;
    const size_t backends = find_axis(points, "backend", &next_backend);
    const size_t dtypes = find_axis(points, "dtype", &next_dtype);
    if (backends * dtypes == 1) return nd_status_ok; /* the first point says it as early */
    for (size_t i = 0; i < backends * dtypes; i++) {
        nd_args point;
        ND_TRY(nd_sweep_point(points, i / dtypes * next_backend + i % dtypes * next_dtype, &point));
        const nd_status status = check(user, &point);
        nd_args_free(&point);
        ND_TRY(status);
    }
    return nd_status_ok;
}

nd_status nd_sweep_shard(const nd_args *args, size_t *share, size_t *shares) {
    const char *text = nd_args_text(args, "shard", NULL);
    *share = 0;
    *shares = 1;
    if (!text) return nd_status_ok;
    const char *slash = strchr(text, '/');
    char first[24] = "";
    int64_t i = 0, n = 0;
    if (slash && (size_t)(slash - text) < sizeof first) memcpy(first, text, (size_t)(slash - text));
    ND_REQUIRE(slash && nd_text_int(first, &i) && nd_text_int(slash + 1, &n) && n >= 1 && i >= 1 && i <= n,
               nd_status_usage, "--shard %s: expected I/N with I from 1 to N", text);
    *share = (size_t)i - 1;
    *shares = (size_t)n;
    return nd_status_ok;
}

bool nd_sweep_is_timed(const nd_args *point) {
    nd_precision precision;
    const bool quantised = nd_precision_find(nd_args_text(point, "dtype", "fp32"), &precision) &&
                           nd_precision_is_quantised(precision);
    return nd_args_has(point, "bench") || nd_args_has(point, "latency-ratio") ||
           (quantised && nd_cli_quantizes_auto(point));
}

/* Where rows go, how much is said and who does it: no part of the result. How long a time is measured for is,
 * where there is one. */
static bool shapes_result(const nd_option *option, bool timed) {
    static const char *const others[] = {"json",  "csv",     "md",      "sql",    "quiet", "verbose",
                                         "shard", "threads", "workers", "output", "help"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcmp(option->name, others[i])) return false;
    return timed || strcmp(option->name, "time-limit") != 0;
}

static void hash_text(nd_sha256 *hash, const char *text) {
    nd_sha256_add(hash, text, strlen(text) + 1);
}

void nd_sweep_point_sha256(const nd_args *point, const char *identity, char hex[65]) {
    const bool timed = nd_sweep_is_timed(point);
    nd_sha256 hash;
    nd_sha256_init(&hash);
    hash_text(&hash, identity);
    /* In the order of the table, so that the order on the command line does not matter. */
    for (size_t o = 0; o < nd_option_count; o++) {
        if (!shapes_result(&nd_option_table[o], timed)) continue;
        for (size_t i = 0; i < point->n_values; i++) {
            if (point->values[i].option != &nd_option_table[o]) continue;
            hash_text(&hash, nd_option_table[o].name);
            hash_text(&hash, point->values[i].text ? point->values[i].text : "");
        }
    }
    nd_sha256_hex(&hash, hex);
}

/* The last five are those of the ranges. */
nd_status nd_sweep_original(const nd_args *point, nd_args *out) {
    static const char *const kept[] = {
        "backend",          "dtype",    "batch",   "data",  "first",  "limit", "device", "isa",
        "preprocess",       "input",    "tune",    "bench", "decode", "score", "calib",  "calib-images",
        "calib-preprocess", "quantize", "max-drop"};
    nd_precision precision;
    ND_TRY(nd_cli_precision(nd_args_text(point, "dtype", "fp32"), &precision));
    const size_t n_kept = sizeof kept / sizeof *kept - (nd_precision_is_quantised(precision) ? 0 : 5);
    *out = *point;
    out->arena = (nd_arena){0};
    out->n_values = 0;
    out->values = nd_arena_alloc(&out->arena, (point->n_values + 1) * sizeof *out->values);
    ND_REQUIRE(out->values, nd_status_memory, "no memory for a sweep");
    for (size_t i = 0; i < point->n_values; i++)
        for (size_t k = 0; k < n_kept; k++)
            if (!strcmp(point->values[i].option->name, kept[k]))
                out->values[out->n_values++] = point->values[i];
    return nd_status_ok;
}

static nd_status original_sha256(const nd_sweep_points *points, size_t index, char hex[65]) {
    nd_args point, original;
    ND_TRY(nd_sweep_point(points, index, &point));
    const nd_status status = nd_sweep_original(&point, &original);
    if (!status) {
        nd_sweep_point_sha256(&original, "", hex);
        nd_args_free(&original);
    }
    nd_args_free(&point);
    return status;
}

nd_status nd_sweep_first(const nd_sweep_points *points, size_t index, size_t *first) {
    char wanted[65], hex[65] = "";
    ND_TRY(original_sha256(points, index, wanted));
    for (*first = 0; *first < index; (*first)++) {
        ND_TRY(original_sha256(points, *first, hex));
        if (!strcmp(hex, wanted)) break;
    }
    return nd_status_ok;
}

const char *nd_sweep_rule(const nd_args *point, double *target) {
    *target = NAN;
    for (size_t i = 0; i < sizeof rule_options / sizeof *rule_options; i++) {
        const char *text = nd_args_text(point, rule_options[i].name, NULL);
        if (text && nd_text_real(text, target)) return rule_options[i].name;
    }
    return NULL;
}
