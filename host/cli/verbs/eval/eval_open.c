#include "cli/verbs/eval/eval.h"

#include "eval/max_drop.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <stdlib.h>

/* Images a run, and in the runs of all networks: they are open at once, and sixteen of VGG16 would take
 * 14 GiB. */
enum { nd_eval_batch = 32, nd_eval_images = 128 };

static int64_t usual_batch(size_t networks) {
    const int64_t share = nd_eval_images / (int64_t)networks;
    return share < 1 ? 1 : share < nd_eval_batch ? share : nd_eval_batch;
}

static nd_status eval_open_models(nd_eval *eval) {
    const nd_args *args = eval->args;
    const char *original = nd_args_text(args, "original", NULL);
    eval->original = original != NULL;
    eval->count = args->n_positional + (original ? 1 : 0);
    eval->models = calloc(eval->count, sizeof *eval->models);
    eval->graphs = calloc(eval->count, sizeof *eval->graphs);
    ND_REQUIRE(eval->models && eval->graphs, nd_status_memory, "no memory for %zu models", eval->count);
    for (size_t i = 0; i < eval->count; i++) {
        nd_eval_model *model = &eval->models[i];
        model->spec = original ? (i ? args->positional[i - 1] : original) : args->positional[i];
        ND_TRY(nd_model_open(model->spec, &eval->graphs[i]));
        ND_TRY(nd_cli_input(args, model->spec, eval->graphs[i]));
        nd_graph_sha256(eval->graphs[i], model->sha256);
        nd_status status = nd_graph_fold(eval->graphs[i]);
        if (status) return nd_fail_in(status, "%s", model->spec);
    }
    return nd_status_ok;
}

static nd_status eval_open_data(nd_eval *eval) {
    const nd_args *args = eval->args;
    nd_dataset_settings settings = {.spec = nd_args_text(args, "data", NULL)};
    ND_REQUIRE(settings.spec, nd_status_usage, "on which images? Give --data DATASET");
    ND_TRY(nd_args_int(args, "batch", usual_batch(eval->count), 1, 65536, &settings.batch));
    ND_TRY(nd_args_int(args, "first", 0, 0, INT64_MAX, &settings.first));
    ND_TRY(nd_args_int(args, "limit", 0, 1, INT64_MAX, &settings.limit));
    ND_TRY(
        nd_cli_dataset(args, (const nd_graph *const *)eval->graphs, eval->count, settings, &eval->batches));
    ND_REQUIRE(eval->original || !eval->batches->synthetic, nd_status_usage,
               "%s: made-up pictures have no labels to be right about; give --original MODEL for the "
               "agreement with it",
               settings.spec);
    return nd_status_ok;
}

/* A network whose image size is open still takes that of the data. For one image: what was exported for one
 * is then run image by image. */
static nd_status eval_infer(nd_eval *eval) {
    const nd_infer_settings infer = {
        .batch = 1, .height = eval->batches->height, .width = eval->batches->width};
    for (size_t i = 0; i < eval->count; i++) {
        nd_status status = nd_graph_infer(eval->graphs[i], &infer);
        if (status) return nd_fail_in(status, "%s", eval->models[i].spec);
        eval->models[i].cost = nd_cost_graph(eval->graphs[i]);
    }
    return nd_status_ok;
}

/* A drop on the images that chose the ranks is no test result. */
static void eval_warn(const nd_eval *eval) {
    for (size_t i = 0; i < eval->count; i++) {
        bool exactly;
        if (!nd_max_drop_met(eval->graphs[i], eval->batches, &exactly)) continue;
        nd_log(nd_log_warn,
               "%s: its ranks or precisions were chosen by the accuracy on %s %s; this is no test of it",
               eval->models[i].spec, exactly ? "these very images of" : "images of", eval->batches->name);
    }
}

static nd_status eval_open_backend(nd_eval *eval) {
    ND_TRY(nd_cli_precision(nd_args_text(eval->args, "dtype", "fp32"), &eval->precision));
    return nd_cli_backend(eval->args, &eval->backend);
}

nd_status nd_eval_open(const nd_args *args, nd_eval *eval) {
    *eval = (nd_eval){.args = args};
    ND_TRY(nd_output_open(args, &eval->output));
    ND_TRY(eval_open_models(eval));
    ND_TRY(eval_open_data(eval));
    ND_TRY(eval_infer(eval));
    ND_TRY(eval_open_backend(eval));
    eval_warn(eval);
    return nd_status_ok;
}

nd_status nd_eval_close(nd_eval *eval, nd_status status) {
    for (size_t i = 0; eval->graphs && i < eval->count; i++) nd_graph_free(eval->graphs[i]);
    free(eval->graphs);
    free(eval->models);
    nd_batches_close(eval->batches);
    nd_backend_close(eval->backend);
    return nd_output_close(eval->output, status);
}

/* --- output */

static double eval_ratio(int64_t original, int64_t changed) {
    return changed > 0 ? (double)original / (double)changed : 0;
}

static void eval_row_cost(const nd_eval *eval, size_t i, nd_row *row) {
    const nd_cost *cost = &eval->models[i].cost, *original = &eval->models[0].cost;
    nd_row_set_int(row, nd_field_conv_macs, cost->conv_macs);
    nd_row_set_int(row, nd_field_total_macs, cost->total_macs);
    nd_row_set_int(row, nd_field_params, cost->params);
    if (!eval->original || i == 0) return;
    nd_row_set_real(row, nd_field_conv_macs_ratio, eval_ratio(original->conv_macs, cost->conv_macs));
    nd_row_set_real(row, nd_field_total_macs_ratio, eval_ratio(original->total_macs, cost->total_macs));
    nd_row_set_real(row, nd_field_params_ratio, eval_ratio(original->params, cost->params));
}

nd_status nd_eval_row(const nd_eval *eval, size_t model, nd_row *row) {
    nd_row_provenance(row, eval->args->argc, eval->args->argv);
    nd_row_set_text(row, nd_field_verb, "eval");
    ND_TRY(nd_cli_model_row(eval->graphs[model], eval->models[model].spec, eval->models[model].sha256, row));
    nd_row_set_text(row, nd_field_backend, eval->backend->name);
    nd_row_set_text(row, nd_field_device, eval->backend->device);
    nd_row_set_text(row, nd_field_libraries, eval->backend->libraries);
    nd_row_set_text(row, nd_field_driver, *eval->backend->driver ? eval->backend->driver : NULL);
    nd_row_set_text(row, nd_field_dtype, nd_precision_name(eval->precision));
    nd_row_set_int(row, nd_field_batch, eval->models[model].batch);
    nd_row_threads(row);
    nd_row_set_real(row, nd_field_seconds, eval->models[model].seconds);
    eval_row_cost(eval, model, row);
    return nd_status_ok;
}

void nd_eval_cell(nd_table *table, const nd_row *row, nd_field field, const char *format) {
    const nd_row_value *value = &row->values[field];
    char text[64] = "-";
    if (value->set) snprintf(text, sizeof text, format, value->r);
    nd_table_cell(table, "%s", text);
}

void nd_eval_interval(nd_table *table, const nd_row *row, nd_field lo, nd_field hi) {
    if (row->values[lo].set)
        nd_table_cell(table, "[%.2f, %.2f]", row->values[lo].r, row->values[hi].r);
    else
        nd_table_cell(table, "-");
}

void nd_eval_print_setting(const nd_eval *eval, int64_t n, int64_t skipped) {
    nd_cli_print("\n%" PRId64 " images of %s, %" PRId64
                 " left out as broken\nprepared by %s\n%s (%s), %s, batch %" PRId64 "\n",
                 n, eval->batches->name, skipped, eval->batches->preprocess, eval->backend->name,
                 eval->backend->device, nd_precision_name(eval->precision), eval->models[0].batch);
}
