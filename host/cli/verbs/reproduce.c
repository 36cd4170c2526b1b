#include "cli/cli.h"

#include "base/files/file.h"
#include "datasets/dataset.h"
#include "eval/reproduce.h"
#include "model/infer/infer.h"
#include "model/zoo/zoo.h"
#include "run/plugins.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void reproduce_list(void) {
    static const char *const headings[] = {"table", "what it holds", NULL};
    nd_table *table = nd_table_new(headings);
    for (const nd_paper_title *title = nd_paper_titles; title->name; title++) {
        nd_table_cell(table, "%s", title->name);
        nd_table_cell(table, "%s", title->text);
    }
    nd_table_print(table, stdout);
}

/* What the measured rows need, as far as it was given. */
typedef struct nd_reproduce_inputs {
    nd_graph *graph;
    nd_backend *backend;
    nd_batches *data, *calib;
    nd_progress progress;
    char sha256[65]; /* of the graph as read; empty without one */
    char cache[4096];
} nd_reproduce_inputs;

static nd_status reproduce_open(const nd_args *args, nd_reproduce_inputs *inputs,
                                nd_reproduce_settings *settings) {
    const char *model = args->n_positional > 1 ? args->positional[1] : NULL;
    const char *data = nd_args_text(args, "data", NULL), *calib = nd_args_text(args, "calib", NULL);
    ND_TRY(nd_args_int(args, "batch", settings->batch, 1, 65536, &settings->batch));
    ND_TRY(nd_args_int(args, "calib-images", settings->calib_images, 1, 1000000, &settings->calib_images));
    ND_REQUIRE(model || !(data || calib), nd_status_usage,
               "--data and --calib need trained weights: nd reproduce TABLE MODEL");
    if (!model) return nd_status_ok;
    if (nd_zoo_find(model))
        nd_log(nd_log_warn,
               "%s has random weights: what is measured with them says nothing about a trained network",
               model);
    nd_dataset_settings set = {.spec = data, .batch = settings->batch};
    ND_TRY(nd_args_int(args, "limit", 0, 1, INT64_MAX, &set.limit));
    ND_TRY(nd_cli_graph(args, model, settings->batch, &inputs->graph));
    nd_graph_sha256(inputs->graph, inputs->sha256);
    const nd_graph *models[] = {inputs->graph};
    ND_TRY(nd_graph_fold(inputs->graph));
    ND_TRY(nd_graph_infer(inputs->graph, &(nd_infer_settings){.batch = settings->batch}));
    ND_TRY(nd_cli_backend(args, &inputs->backend));
    if (data) ND_TRY(nd_cli_dataset(args, models, 1, set, &inputs->data));
    set.spec = calib;
    set.calibration = true;
    set.limit = settings->calib_images;
    if (calib) ND_TRY(nd_cli_dataset(args, models, 1, set, &inputs->calib));
    settings->graph = inputs->graph;
    settings->backend = inputs->backend;
    if (!nd_file_cache(inputs->cache, sizeof inputs->cache)) settings->cache = inputs->cache;
    settings->data = inputs->data;
    settings->calib = inputs->calib;
    inputs->progress = nd_cli_progress();
    settings->progress = &inputs->progress;
    return nd_status_ok;
}

static void reproduce_close(nd_reproduce_inputs *inputs) {
    nd_batches_close(inputs->data);
    nd_batches_close(inputs->calib);
    nd_graph_free(inputs->graph);
    nd_backend_close(inputs->backend);
}

/* What a value that needed weights or images was measured with. */
static void reproduce_set_inputs(const nd_reproduce_inputs *inputs, const nd_paper_value *value,
                                 nd_row *row) {
    if (!*value->needs || !inputs->graph) return;
    nd_row_set_text(row, nd_field_weights_sha256, inputs->sha256);
    nd_row_set_text(row, nd_field_backend, inputs->backend->name);
    nd_row_set_text(row, nd_field_device, inputs->backend->device);
    if (!strstr(value->needs, "drop") || !inputs->data) return;
    nd_row_set_name(row, nd_field_dataset, inputs->data->name);
    nd_row_set_text(row, nd_field_dataset_sha256, inputs->data->sha256);
    nd_row_set_text(row, nd_field_preprocess, inputs->data->preprocess);
}

/* What was lost where the knob of the method came to stand. */
static void reproduce_set_drop(const nd_drop_probe *drop, nd_row *row) {
    if (!drop->n) return;
    nd_row_set_int(row, nd_field_n, drop->n);
    nd_accuracy_drop_row(&drop->top1, &drop->top5, row);
}

static nd_status reproduce_row(const nd_args *args, const char *name, const nd_paper_value *value,
                               const nd_reproduced *result, const nd_reproduce_inputs *inputs,
                               nd_output *output) {
    nd_row row = {0};
    nd_row_provenance(&row, args->argc, args->argv);
    nd_row_set_text(&row, nd_field_verb, "reproduce");
    nd_row_set_name(&row, nd_field_model, args->n_positional > 1 ? args->positional[1] : value->model);
    nd_row_set_text(&row, nd_field_method, value->method);
    if (value->rank) nd_row_set_int(&row, nd_field_rank, value->rank);
    nd_row_set_text(&row, nd_field_paper_table, name);
    nd_row_set_text(&row, nd_field_item, value->row);
    nd_row_set_text(&row, nd_field_quantity, value->quantity);
    if (*value->unit) nd_row_set_text(&row, nd_field_unit, value->unit);
    nd_row_set_real(&row, nd_field_published, value->value);
    nd_row_set_text(&row, nd_field_kind, value->kind);
    nd_row_set_text(&row, nd_field_source, value->source);
    nd_row_set_text(&row, nd_field_missing, result->missing);
    reproduce_set_inputs(inputs, value, &row);
    if (!result->missing) {
        nd_row_set_real(&row, nd_field_ours, result->ours);
        nd_row_set_real(&row, nd_field_difference, result->ours - value->value);
        reproduce_set_drop(&result->drop, &row);
    }
    nd_status status = nd_output_row(output, &row);
    nd_row_free(&row);
    return status;
}

/* Each source once, in the order of the rows. */
static void reproduce_print_sources(const nd_paper_table *table) {
    puts("\nPublished values and where they stand:");
    for (size_t i = 0; i < table->n_values; i++) {
        const nd_paper_value *value = &table->values[i];
        size_t earlier = 0;
        while (earlier < i && strcmp(table->values[earlier].source, value->source)) earlier++;
        if (earlier == i) nd_cli_print("  %s: %s\n", value->kind, value->source);
    }
}

/* Each measured row once: how much it lost, and how sure that is of so many images. */
static void reproduce_print_drops(const nd_paper_table *table, const nd_reproduced *results,
                                  const nd_reproduce_settings *settings) {
    const nd_batches *data = settings->data;
    const bool top1 = nd_reproduce_by_top1(settings->graph);
    nd_cli_print("\nMeasured on %" PRId64 " images of %s, at a drop of at most %.1f point%s of top-%d:\n",
                 data->count, data->name, settings->points, settings->points == 1 ? "" : "s", top1 ? 1 : 5);
    for (size_t i = 0; i < table->n_values; i++) {
        const nd_drop_probe *drop = &results[i].drop;
        const nd_drop *lost = top1 ? &drop->top1 : &drop->top5;
        if (!results[i].drop.n || (i && strcmp(table->values[i].row, table->values[i - 1].row) == 0))
            continue;
        nd_cli_print("  %s: %s at %.4g loses %.2f [%.2f, %.2f]\n", table->values[i].row,
                     table->values[i].method, drop->setting, lost->points, lost->lo, lost->hi);
    }
    if (top1)
        nd_cli_print(
            "%s knows few classes, an easier task than the table's: its drops are not the table's, and "
            "only methods on the same images compare. MACs are those at the table's size of image.\n",
            settings->graph->name);
}

static void reproduce_print(const char *name, const nd_paper_table *table, const nd_reproduced *results,
                            const nd_reproduce_settings *settings) {
    static const char *const headings[] = {"row",  "quantity",   "unit",    "published",
                                           "ours", "difference", "verdict", NULL};
    bool missing = false;
    nd_table *text = nd_table_new(headings);
    for (size_t i = 0; i < table->n_values; i++) {
        const nd_paper_value *value = &table->values[i];
        const nd_reproduced *result = &results[i];
        /* One digit more than was printed shows on which side of it ours lies. */
        const int digits = value->digits + (value->digits > 0);
        nd_table_cell(text, "%s", value->row);
        nd_table_cell(text, "%s", value->quantity);
        nd_table_cell(text, "%s", value->unit);
        nd_table_cell(text, "%.*f", value->digits, value->value);
        if (result->missing) {
            nd_table_cell(text, "%s", "");
            nd_table_cell(text, "%s", "");
            nd_table_cell(text, "needs %s", result->missing);
            missing = missing || !strstr(value->needs, "map"); /* those this verb does not measure */
            continue;
        }
        nd_table_cell(text, "%.*f", digits, result->ours);
        nd_table_cell(text, "%+.*f", digits, result->ours - value->value);
        nd_table_cell(text, "%s", result->same ? "same" : *value->needs ? "measured" : "differs");
    }
    nd_cli_print("%s\n\n", name);
    nd_table_print(text, stdout);
    reproduce_print_sources(table);
    if (settings->data) reproduce_print_drops(table, results, settings);
    if (missing)
        nd_cli_print(
            "\nWith weights and images: nd reproduce %s vgg16:WEIGHTS.safetensors --data imagefolder:VAL "
            "[--calib imagefolder:TRAIN]\ndatasets/README.md says where they come from.\n",
            name);
    puts("");
}

static nd_status reproduce_table(const nd_args *args, const char *name, const nd_reproduce_inputs *inputs,
                                 const nd_reproduce_settings *settings, nd_output *output) {
    nd_paper_table table;
    nd_status status;
    ND_TRY(nd_paper_read(name, &table));
    nd_reproduced *results = nd_alloc_array(table.n_values, sizeof *results);
    ND_REQUIRE_DONE(results, nd_status_memory, "no memory for %s", name);
    ND_TRY_DONE(nd_reproduce(&table, settings, results));
    for (size_t i = 0; i < table.n_values; i++)
        ND_TRY_DONE(reproduce_row(args, name, &table.values[i], &results[i], inputs, output));
    if (!nd_output_quiet(output)) reproduce_print(name, &table, results, settings);
done:
    free(results);
    nd_paper_free(&table);
    return status;
}

nd_status nd_verb_reproduce(nd_args *args) {
    if (!args->n_positional) {
        reproduce_list();
        return nd_status_ok;
    }
    const char *wanted = args->positional[0];
    const bool all = strcmp(wanted, "all") == 0;
    nd_reproduce_inputs inputs = {0};
    nd_reproduce_settings settings = nd_reproduce_defaults();
    nd_output *output;
    nd_status status;
    ND_TRY(nd_output_open(args, &output));
    ND_REQUIRE_DONE(!all || args->n_positional == 1, nd_status_usage,
                    "the tables are about several networks: name one table with MODEL");
    ND_TRY_DONE(reproduce_open(args, &inputs, &settings));
    if (!all) ND_TRY_DONE(reproduce_table(args, wanted, &inputs, &settings, output));
    for (const nd_paper_title *title = nd_paper_titles; all && title->name; title++)
        ND_TRY_DONE(reproduce_table(args, title->name, &inputs, &settings, output));
done:
    reproduce_close(&inputs);
    return nd_output_close(output, status);
}
