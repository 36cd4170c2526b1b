#include "cli/args/args.h"
#include "cli/args/rerun.h"
#include "cli/cli.h"
#include "cli/verbs/decouple_settings.h"
#include "cli/verbs/quantize_settings.h"
#include "cli/verbs/sweep/sweep_detect.h"
#include "cli/verbs/sweep/sweep_points.h"
#include "cli/verbs/sweep/sweep_rows.h"

#include "base/parallel.h"
#include "bench/bench.h"
#include "eval/accuracy.h"
#include "model/infer/infer.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { default_batch = 32 };

/* What the points of one dtype and batch share: reopened when a point asks for another. */
typedef struct stage {
    char backend_name[32], dtype[16], batch_text[16];
    char ranges[512]; /* in 8 bits: the images that the ranges are found on; else empty */
    nd_backend *backend;
    nd_precision precision;
    int64_t batch;        /* images asked for at once */
    int64_t together;     /* images that the original takes at once: one, where it mixes them */
    nd_batches *batches;  /* NULL without a data set */
    nd_graph *original;   /* folded, inferred for one image */
    nd_accuracy accuracy; /* of the original */
    nd_peaks peaks;       /* with --bench */
    float *expected;      /* the original's outputs for the image that is timed */
    bool measured;
} stage;

/* A network that was decoupled, as nd_decouple made it. */
typedef struct decoupled {
    char key[65];
    nd_graph *graph;
    nd_cost before, after;
    double seconds;
} decoupled;

typedef struct sweep {
    nd_args *args;
    nd_sweep_points points;
    size_t share, shares;
    size_t index;      /* of the point at hand */
    bool out_of_reach; /* the point at hand: this network cannot be decoupled so */
    size_t left_out;   /* such points */
    nd_graph *model;   /* folded, inferred for one image */
    char sha256[65];
    stage *stages; /* [n_stages] */
    size_t n_stages;
    stage *stage;     /* that of the point at hand */
    decoupled latest; /* for the points that follow and differ in how they run */
    nd_sweep_rows rows;
    nd_progress progress, quiet;
    nd_sweep_detector detector;
} sweep;

static const char *data_of(const sweep *s) {
    bool bundled = !strcmp(s->args->positional[0], "glyphs");
    return nd_args_text(s->args, "data", bundled ? "glyphs" : NULL);
}

static void stage_close(stage *st) {
    nd_accuracy_free(&st->accuracy);
    nd_batches_close(st->batches);
    nd_graph_free(st->original);
    nd_backend_close(st->backend);
    free(st->expected);
    *st = (stage){0};
}

static nd_status open_data(sweep *s, const nd_args *point) {
    stage *st = s->stage;
    nd_dataset_settings settings = {.spec = data_of(s), .batch = st->batch};
    if (!settings.spec) return nd_status_ok;
    ND_TRY(nd_args_int(point, "first", 0, 0, INT64_MAX, &settings.first));
    ND_TRY(nd_args_int(point, "limit", 0, 1, INT64_MAX, &settings.limit));
    return nd_cli_dataset(point, (const nd_graph *const *)&s->model, 1, settings, &st->batches);
}

static nd_status infer_for_data(const stage *st, nd_graph *graph) {
    nd_infer_settings infer = {.batch = 1};
    if (st->batches) {
        infer.height = st->batches->height;
        infer.width = st->batches->width;
    }
    return nd_graph_infer(graph, &infer);
}

static nd_status find_together(stage *st) {
    nd_exec_settings settings = {.batch = st->batch, .shrink = true, .precision = st->precision};
    nd_exec *exec;
    nd_status status = nd_exec_open(st->backend, st->original, &settings, &exec);
    if (status == nd_status_unsupported && st->batch > 1) { /* sizes that only the run knows */
        settings.batch = 1;
        status = nd_exec_open(st->backend, st->original, &settings, &exec);
    }
    ND_TRY(status);
    st->together = nd_exec_batch(exec);
    nd_exec_close(exec);
    return nd_status_ok;
}

/* Each dtype and batch has one, so that the original is measured once for all points of either. */
static nd_status stage_find(sweep *s, const char *dtype, const char *batch) {
    for (size_t i = 0; i < s->n_stages; i++) {
        s->stage = &s->stages[i];
        if (!strcmp(s->stage->dtype, dtype) && !strcmp(s->stage->batch_text, batch)) return nd_status_ok;
    }
    stage *grown = realloc(s->stages, (s->n_stages + 1) * sizeof *grown);
    ND_REQUIRE(grown, nd_status_memory, "no memory for a sweep");
    s->stages = grown;
    s->stage = &grown[s->n_stages++];
    *s->stage = (stage){0};
    return nd_status_ok;
}

/* Opens what this point needs, unless it is open already. */
static nd_status stage_open(sweep *s, const nd_args *point) {
    const char *backend = nd_args_text(point, "backend", "auto"),
               *dtype = nd_args_text(point, "dtype", "fp32");
    const char *batch = nd_args_text(point, "batch", "");
    ND_TRY(stage_find(s, dtype, batch));
    stage *st = s->stage;
    char ranges[sizeof st->ranges] = "";
    if (!strcmp(dtype, "int8") || !strcmp(dtype, "e4m3"))
        snprintf(ranges, sizeof ranges, "%s %s %s %s %s", nd_args_text(point, "calib", ""),
                 nd_args_text(point, "calib-images", ""), nd_args_text(point, "calib-preprocess", ""),
                 nd_args_text(point, "quantize", ""), nd_args_text(point, "max-drop", ""));
    if (st->backend && !strcmp(st->backend_name, backend) && !strcmp(st->ranges, ranges)) return nd_status_ok;
    stage_close(st);
    snprintf(st->backend_name, sizeof st->backend_name, "%s", backend);
    snprintf(st->dtype, sizeof st->dtype, "%s", dtype);
    snprintf(st->batch_text, sizeof st->batch_text, "%s", batch);
    memcpy(st->ranges, ranges, sizeof ranges);
    ND_TRY(nd_cli_precision(dtype, &st->precision));
    ND_TRY(nd_args_int(point, "batch", default_batch, 1, 65536, &st->batch));
    ND_TRY(nd_cli_backend(point, &st->backend));
    ND_TRY(open_data(s, point));
    ND_REQUIRE(!st->batches || !st->batches->objects || s->detector.decode, nd_status_usage,
               "%s: boxes to be found; how are the heads of the network read? Give --decode",
               st->batches->name);
    /* A batch is never larger than the set, unless it is also timed. */
    const bool timed = nd_args_has(point, "bench") || nd_args_has(point, "latency-ratio");
    if (st->batches && !timed) st->batch = st->batches->batch;
    ND_TRY(nd_graph_clone(s->model, &st->original));
    if (nd_precision_is_quantised(st->precision))
        ND_TRY(nd_cli_quantize(point, st->precision, st->original, st->backend));
    ND_TRY(infer_for_data(st, st->original));
    return find_together(st);
}

static nd_accuracy_settings accuracy_settings(const sweep *s) {
    /* Scores are kept for logit_rel_mse, as long as that is a reasonable amount of memory. */
    const stage *st = s->stage;
    return (nd_accuracy_settings){.backend = st->backend,
                                  .precision = st->precision,
                                  .batch = st->batch,
                                  .keep_logits = st->batches->count <= 50000,
                                  .progress = &s->quiet};
}

/* All fields that are known before any work, and the name under which the point is found again. */
static void start_row(const sweep *s, const nd_args *point, const char *what, nd_row *row) {
    const stage *st = s->stage;
    char hex[65], identity[1024], threads[32] = "";
    nd_row_provenance(row, s->args->argc, s->args->argv);
    nd_row_set_text(row, nd_field_verb, "sweep");
    nd_row_set_name(row, nd_field_model, s->args->positional[0]);
    nd_row_set_text(row, nd_field_weights_sha256, s->sha256);
    nd_row_set_text(row, nd_field_backend, st->backend->name);
    nd_row_set_text(row, nd_field_device, st->backend->device);
    nd_row_set_text(row, nd_field_libraries, st->backend->libraries);
    if (*st->backend->driver) nd_row_set_text(row, nd_field_driver, st->backend->driver);
    nd_row_set_text(row, nd_field_dtype, nd_precision_name(st->precision));
    nd_row_set_int(row, nd_field_batch, st->together);
    nd_row_threads(row);
    if (nd_sweep_is_timed(point))
        snprintf(threads, sizeof threads, " %" PRId64 " threads", row->values[nd_field_threads].i);
    snprintf(identity, sizeof identity, "%s %s %s%s %s %s", what, s->sha256, st->backend->device, threads,
             st->batches ? st->batches->sha256 : "", st->batches ? st->batches->preprocess : "");
    nd_sweep_point_sha256(point, identity, hex);
    nd_row_set_text(row, nd_field_point, hex);
}

static nd_status measure_accuracy(sweep *s, nd_row *row) {
    stage *st = s->stage;
    if (s->detector.decode) return nd_sweep_detect(&s->detector, NULL, st->original, st->batches, row);
    nd_accuracy_settings settings = accuracy_settings(s);
    ND_TRY(nd_accuracy_measure(st->original, st->batches, &settings, &st->accuracy));
    nd_row_set_real(row, nd_field_seconds, st->accuracy.seconds);
    return nd_accuracy_row(&st->accuracy, NULL, st->batches, row);
}

/* The original's accuracy is needed for every drop, its row only once, in one of all shares. */
static nd_status measure_original(sweep *s, const nd_args *point) {
    stage *st = s->stage;
    if (st->measured) return nd_status_ok;
    nd_args options;
    nd_row row = {0};
    size_t first;
    nd_status status = nd_status_ok;
    ND_TRY(nd_sweep_first(&s->points, s->index, &first));
    ND_TRY(nd_sweep_original(point, &options));
    start_row(s, &options, "original", &row);
    nd_row_set_text(&row, nd_field_method, "none");
    nd_row_set_text(&row, nd_field_form, "none");
    nd_row_set_text(&row, nd_field_ranks, "dense");
    nd_cost cost = nd_cost_graph(s->model);
    nd_cli_cost_row(&cost, &cost, &row);
    if (st->batches) ND_TRY_DONE(measure_accuracy(s, &row));
    if (nd_args_has(s->args, "bench")) ND_TRY_DONE(nd_peaks_measure(st->backend, st->precision, &st->peaks));
    st->measured = true;
    if (first % s->shares == s->share && !nd_sweep_rows_has(&s->rows, row.values[nd_field_point].text))
        status = nd_sweep_rows_add(&s->rows, &row);
done:
    nd_row_free(&row);
    nd_args_free(&options);
    return status;
}

/* Takes the times of the decoupled network (the second) into its row. */
static nd_status take_time(void *user, const nd_row *timed) {
    nd_row *row = user;
    if (!strcmp(timed->values[nd_field_implementation].text, "dense")) return nd_status_ok;
    nd_row_copy(row, timed);
    return nd_status_ok;
}

static nd_status measure_time(sweep *s, const nd_graph *graph, const nd_cost *before, nd_row *row) {
    stage *st = s->stage;
    nd_bench_network networks[2] = {{.graph = st->original, .expected = st->expected}, {.graph = graph}};
    nd_row common = {0};
    nd_bench_settings settings = {.backend = st->backend,
                                  .precision = st->precision,
                                  .batch = st->together,
                                  .implementations = {[nd_implementation_best] = true},
                                  .timing = nd_timing_defaults(),
                                  .peaks = st->peaks,
                                  .common = &common,
                                  .row = take_time,
                                  .user = row};
    ND_TRY(nd_args_real(s->args, "time-limit", 5, 0.01, 3600, &settings.timing.limit_seconds));
    nd_row_set_int(&networks[0].row, nd_field_total_macs, before->total_macs);
    nd_status status = nd_bench_networks(networks, 2, &settings);
    st->expected = networks[0].expected;
    networks[0].expected = NULL;
    for (int i = 0; i < 2; i++) nd_bench_network_free(&networks[i]);
    return status;
}

static nd_status measure_decoupled(sweep *s, nd_graph *graph, const nd_cost *before, nd_row *row) {
    stage *st = s->stage;
    nd_accuracy accuracy = {0};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(infer_for_data(st, graph));
    if (st->batches && s->detector.decode) {
        ND_TRY_DONE(nd_sweep_detect(&s->detector, st->original, graph, st->batches, row));
    } else if (st->batches) {
        nd_accuracy_settings settings = accuracy_settings(s);
        ND_TRY_DONE(nd_accuracy_measure(graph, st->batches, &settings, &accuracy));
        ND_TRY_DONE(nd_accuracy_row(&accuracy, &st->accuracy, st->batches, row));
    }
    if (nd_args_has(s->args, "bench")) ND_TRY_DONE(measure_time(s, graph, before, row));
done:
    nd_accuracy_free(&accuracy);
    return status;
}

/* Where a network runs on one backend, only a time to be reached tells one dtype or batch from another. */
static nd_status decouple_key(const sweep *s, const nd_args *point, char key[65]) {
    nd_args shape = *point;
    shape.arena = (nd_arena){0};
    shape.values = nd_arena_alloc(&shape.arena, (point->n_values + 1) * sizeof *shape.values);
    ND_REQUIRE(shape.values, nd_status_memory, "no memory for a sweep");
    shape.n_values = 0;
    for (size_t i = 0; i < point->n_values; i++) {
        const char *name = point->values[i].option->name;
        const bool runs = !strcmp(name, "dtype") || !strcmp(name, "batch");
        if (!runs || nd_args_has(point, "latency-ratio")) shape.values[shape.n_values++] = point->values[i];
    }
    nd_sweep_point_sha256(&shape, s->sha256, key);
    nd_args_free(&shape);
    return nd_status_ok;
}

static void decoupled_free(decoupled *d) {
    nd_graph_free(d->graph);
    *d = (decoupled){0};
}

/* Decouples for this point, unless that was done for the one before. */
static nd_status decouple_latest(sweep *s, nd_args *point) {
    nd_decouple_settings settings;
    nd_graph_clock clock;
    nd_decouple_report report = {0};
    char key[65];
    nd_status status = nd_status_ok;
    ND_TRY(decouple_key(s, point, key));
    if (s->latest.graph && !strcmp(s->latest.key, key)) return nd_status_ok;
    decoupled_free(&s->latest);
    ND_TRY(nd_graph_clone(s->model, &s->latest.graph));
    ND_TRY_DONE(nd_cli_decouple_settings(point, s->latest.graph, &s->quiet, &settings));
    status =
        nd_cli_clock(s->args, s->stage->backend, s->stage->precision, s->stage->together, &clock, &settings);
    if (!status) {
        status = nd_decouple(s->latest.graph, s->stage->backend, &settings, &report);
        s->out_of_reach = status == nd_status_usage;
    }
    nd_cli_decouple_settings_close(&settings);
    memcpy(s->latest.key, key, sizeof key);
    s->latest.before = report.before;
    s->latest.after = report.after;
    s->latest.seconds = report.seconds;
    nd_decouple_report_free(&report);
done:
    if (status) decoupled_free(&s->latest);
    return status;
}

static nd_status decouple_point(sweep *s, nd_args *point, nd_row *row) {
    nd_graph *graph = NULL;
    double target;
    nd_status status = nd_status_ok;
    ND_TRY(decouple_latest(s, point));
    ND_TRY(nd_graph_clone(s->latest.graph, &graph));
    ND_TRY_DONE(nd_cli_model_row(graph, s->args->positional[0], s->sha256, row));
    if (nd_precision_is_quantised(s->stage->precision))
        ND_TRY_DONE(nd_cli_quantize(point, s->stage->precision, graph, s->stage->backend));
    nd_row_set_text(row, nd_field_rule, nd_sweep_rule(point, &target));
    nd_row_set_real(row, nd_field_target, target);
    nd_row_set_name(row, nd_field_calib, nd_args_text(point, "calib", NULL));
    nd_cli_cost_row(&s->latest.after, &s->latest.before, row);
    nd_row_set_real(row, nd_field_seconds, s->latest.seconds);
    status = measure_decoupled(s, graph, &s->latest.before, row);
done:
    nd_graph_free(graph);
    return status;
}

static nd_status do_point(sweep *s, nd_args *point) {
    nd_row row = {0};
    nd_status status = nd_status_ok;
    ND_TRY_DONE(stage_open(s, point));
    s->detector.backend = s->stage->backend;
    s->detector.precision = s->stage->precision;
    s->detector.progress = &s->quiet;
    start_row(s, point, "decoupled", &row);
    if (nd_sweep_rows_has(&s->rows, row.values[nd_field_point].text)) goto done;
    ND_TRY_DONE(measure_original(s, point));
    ND_TRY_DONE(decouple_point(s, point, &row));
    status = nd_sweep_rows_add(&s->rows, &row);
done:
    nd_row_free(&row);
    return status;
}

static void leave_out(nd_args *point, const char *option) {
    size_t n = 0;
    for (size_t i = 0; i < point->n_values; i++)
        if (strcmp(point->values[i].option->name, option) != 0) point->values[n++] = point->values[i];
    point->n_values = n;
}

/* Whether there is such a backend, with such kernels for the original: told before any work. In 8 bits what a
 * backend lacks runs in fp32. All else that may fail is told by the point that it fails in. */
static nd_status check_backend(void *user, nd_args *point) {
    const sweep *s = user;
    const char *name = nd_args_text(point, "backend", "auto"), *dtype = nd_args_text(point, "dtype", "fp32");
    nd_exec_settings settings = {.batch = 1, .shrink = true};
    nd_backend *backend;
    nd_exec *exec = NULL;
    leave_out(point, "tune"); /* nothing is timed */
    ND_TRY(nd_cli_precision(dtype, &settings.precision));
    nd_status status = nd_cli_backend(point, &backend);
    if (status) return nd_fail_in(status, "--backend %s", name);
    if (!nd_precision_is_quantised(settings.precision))
        status = nd_exec_open(backend, s->model, &settings, &exec);
    nd_exec_close(exec);
    nd_backend_close(backend);
    return status == nd_status_backend ? nd_fail_in(status, "--backend %s, --dtype %s", name, dtype)
                                       : nd_status_ok;
}

static nd_status do_all(sweep *s) {
    size_t made = 0;
    for (size_t i = 0; i < s->points.count; i++) {
        nd_progress_report(&s->progress, "sweep", (int64_t)i, (int64_t)s->points.count);
        if (i % s->shares != s->share) continue;
        nd_args point;
        s->index = i;
        s->out_of_reach = false;
        ND_TRY(nd_sweep_point(&s->points, i, &point));
        nd_status status = do_point(s, &point);
        if (status) nd_fail_in(status, "point %zu of %zu", i + 1, s->points.count);
        nd_args_free(&point);
        if (status && s->out_of_reach) { /* takes nothing from the other points */
            s->left_out++;
            nd_log(nd_log_warn, "left out: %s", nd_error());
            continue;
        }
        if (status) return status;
        made++;
    }
    nd_progress_report(&s->progress, "sweep", (int64_t)s->points.count, (int64_t)s->points.count);
    return made || !s->left_out ? nd_status_ok : nd_status_usage;
}

nd_status nd_verb_sweep(nd_args *args) {
    sweep s = {.args = args, .progress = nd_cli_progress()};
    nd_status status = nd_status_ok;
    nd_sweep_settings sweeping = {.run = true, .rank = "1..9"};
    if (nd_args_has(args, "bench")) nd_cli_fix_addresses(args);
    ND_TRY_DONE(nd_sweep_points_make(args, &sweeping, &s.points));
    ND_TRY_DONE(nd_sweep_points_check(&s.points));
    ND_TRY_DONE(nd_sweep_detector_open(args, &s.detector));
    ND_TRY_DONE(nd_sweep_shard(args, &s.share, &s.shares));
    ND_TRY_DONE(nd_cli_folded(args, args->positional[0], &s.model, s.sha256));
    ND_TRY_DONE(nd_sweep_points_backends(&s.points, check_backend, &s));
    ND_TRY_DONE(nd_sweep_rows_open(args, &s.rows));
    status = do_all(&s);
    /* What was done before something failed is shown too. */
    const bool some = !status || s.rows.count > s.rows.resumed;
    const nd_status finished = some ? nd_sweep_rows_finish(&s.rows) : nd_status_ok;
    if (finished) status = finished;
done:
    for (size_t i = 0; i < s.n_stages; i++) stage_close(&s.stages[i]);
    free(s.stages);
    decoupled_free(&s.latest);
    nd_graph_free(s.model);
    ND_TRY(nd_sweep_rows_close(&s.rows, status));
    ND_REQUIRE(!s.left_out, nd_status_usage, "%zu of %zu points were left out, as the warnings say",
               s.left_out, s.points.count);
    return nd_status_ok;
}
