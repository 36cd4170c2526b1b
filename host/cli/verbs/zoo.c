#include "cli/cli.h"

#include "datasets/image/preprocess.h"
#include "model/cost.h"
#include "model/infer/infer.h"
#include "model/zoo/zoo.h"

#include <inttypes.h>

static nd_status zoo_cost(const nd_zoo_entry *entry, nd_cost *out) {
    nd_graph *graph;
    ND_TRY(nd_zoo_build(entry, nd_zoo_blank, NULL, &graph));
    nd_status status = nd_graph_infer(graph, &(nd_infer_settings){.batch = 1});
    if (!status) *out = nd_cost_graph(graph);
    nd_graph_free(graph);
    return status;
}

static void zoo_row(const nd_zoo_entry *entry, const nd_cost *cost, nd_row *row) {
    nd_row_set_text(row, nd_field_verb, "zoo");
    nd_row_set_text(row, nd_field_model, entry->name);
    nd_row_set_text(row, nd_field_preprocess, entry->preprocess);
    nd_row_set_int(row, nd_field_h, entry->height);
    nd_row_set_int(row, nd_field_w, entry->width);
    nd_row_set_int(row, nd_field_conv_macs, cost->conv_macs);
    nd_row_set_int(row, nd_field_total_macs, cost->total_macs);
    nd_row_set_int(row, nd_field_params, cost->params);
}

static void zoo_print_recipes(void) {
    static const char *const headings[] = {"preprocess", "for", "settings", NULL};
    nd_table *table = nd_table_new(headings);
    for (const nd_preprocess_recipe *recipe = nd_preprocess_recipes; recipe->name; recipe++) {
        nd_table_cell(table, "%s", recipe->name);
        nd_table_cell(table, "%s", recipe->text);
        nd_table_cell(table, "%s", recipe->settings);
    }
    puts("");
    nd_table_print(table, stdout);
}

nd_status nd_verb_zoo(nd_args *args) {
    static const char *const headings[] = {"architecture", "input",       "classes",
                                           "conv GMACs",   "total GMACs", "M params",
                                           "preprocess",   "from",        NULL};
    nd_status status = nd_status_ok;
    nd_output *output;
    ND_TRY(nd_output_open(args, &output));
    nd_table *table = nd_table_new(headings);
    for (size_t i = 0; i < nd_zoo_count; i++) {
        const nd_zoo_entry *entry = &nd_zoo_table[i];
        nd_cost cost;
        ND_TRY_DONE(zoo_cost(entry, &cost));
        nd_table_cell(table, "%s", entry->name);
        nd_table_cell(table, "%" PRId64 "x%" PRId64 "x%" PRId64, entry->channels, entry->height,
                      entry->width);
        nd_table_cell(table, "%" PRId64, entry->classes);
        nd_table_cell(table, "%.3f", (double)cost.conv_macs * 1e-9);
        nd_table_cell(table, "%.3f", (double)cost.total_macs * 1e-9);
        nd_table_cell(table, "%.2f", (double)cost.params * 1e-6);
        nd_table_cell(table, "%s", entry->preprocess);
        nd_table_cell(table, "%s", entry->text);
        nd_row row = {0};
        nd_row_provenance(&row, args->argc, args->argv);
        zoo_row(entry, &cost, &row);
        status = nd_output_row(output, &row);
        nd_row_free(&row);
        if (status) goto done;
    }
done:;
    const bool show = !status && !nd_output_quiet(output);
    nd_table_print(table, show ? stdout : NULL);
    if (show) {
        puts("\nARCH:FILE takes weights from a safetensors file or a PyTorch checkpoint (.pth, .pt, .th) "
             "under their\n"
             "usual names, with a head of any size; ARCH alone has random weights.");
        zoo_print_recipes();
    }
    return nd_output_close(output, status);
}
