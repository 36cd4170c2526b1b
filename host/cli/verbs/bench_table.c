#include "cli/verbs/bench_table.h"

#include "base/parallel.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct nd_bench_table {
    nd_table *table;
    nd_table *kernels; /* NULL until there is one */
    bool noisy;
    int64_t rows, discarded;
};

nd_bench_table *nd_bench_table_new(void) {
    static const char *const headings[] = {"layer", "x",      "batch",  "method", "T",      "implementation",
                                           "cache", "MACs x", "time x", "95 %",   "us",     "GF/s eff",
                                           "GF/s",  "GB/s",   "roof %", "",       "engine", NULL};
    nd_bench_table *table = calloc(1, sizeof *table);
    if (table) table->table = nd_table_new(headings);
    return table;
}

static double real_of(const nd_row *row, nd_field field) {
    return row->values[field].set ? row->values[field].r : 0;
}

static const char *text_of(const nd_row *row, nd_field field, const char *otherwise) {
    return row->values[field].set ? row->values[field].text : otherwise;
}

/* Not every row has every figure. */
static void add_known(nd_table *t, const nd_row *row, nd_field field, const char *format) {
    if (row->values[field].set)
        nd_table_cell(t, format, row->values[field].r);
    else
        nd_table_cell(t, "-");
}

static void add_rates(nd_table *t, const nd_row *row) {
    double ns = real_of(row, nd_field_ns_median), roof = real_of(row, nd_field_roofline_ns);
    nd_table_cell(t, "%.1f", 1e-3 * ns);
    add_known(t, row, nd_field_gflops_effective, "%.1f");
    add_known(t, row, nd_field_gflops, "%.1f");
    add_known(t, row, nd_field_gbps, "%.1f");
    nd_table_cell(t, roof > 0 ? "%.0f" : "-", 100 * roof / ns);
}

/* T, or the rule that chose the ranks: "macs-ratio 2". */
static void add_rank(nd_table *t, const nd_row *row) {
    const nd_row_value *rank = &row->values[nd_field_rank], *rule = &row->values[nd_field_rule];
    if (rank->set)
        nd_table_cell(t, "%" PRId64, rank->i);
    else if (rule->set)
        nd_table_cell(t, "%s %g", rule->text, real_of(row, nd_field_target));
    else
        nd_table_cell(t, "-");
}

static void add_kernel(nd_bench_table *table, const nd_row *row) {
    static const char *const headings[] = {
        "method", "T",  "implementation", "batch", "kernel", "operation", "us",
        "q1",     "q3", "MMACs",          "GF/s",  "engine", NULL};
    const nd_row_value *macs = &row->values[nd_field_total_macs];
    if (!table->kernels) table->kernels = nd_table_new(headings);
    nd_table *t = table->kernels;
    nd_table_cell(t, "%s", text_of(row, nd_field_method, ""));
    add_rank(t, row);
    nd_table_cell(t, "%s", text_of(row, nd_field_implementation, ""));
    nd_table_cell(t, row->values[nd_field_batch].set ? "%" PRId64 : "-", row->values[nd_field_batch].i);
    nd_table_cell(t, "%s", text_of(row, nd_field_layer, ""));
    nd_table_cell(t, "%s", text_of(row, nd_field_operation, ""));
    nd_table_cell(t, "%.1f", 1e-3 * real_of(row, nd_field_ns_median));
    nd_table_cell(t, row->values[nd_field_ns_q1].set ? "%.1f" : "-", 1e-3 * real_of(row, nd_field_ns_q1));
    nd_table_cell(t, row->values[nd_field_ns_q3].set ? "%.1f" : "-", 1e-3 * real_of(row, nd_field_ns_q3));
    nd_table_cell(t, macs->set ? "%.2f" : "-", 1e-6 * (double)macs->i);
    nd_table_cell(t, macs->set ? "%.1f" : "-", real_of(row, nd_field_gflops));
    nd_table_cell(t, "%s", text_of(row, nd_field_engine, ""));
}

void nd_bench_table_add(nd_bench_table *table, const nd_row *row) {
    if (!table) return;
    if (row->values[nd_field_operation].set) {
        add_kernel(table, row);
        return;
    }
    table->rows++;
    nd_table *t = table->table;
    const nd_row_value *layers = &row->values[nd_field_layers];
    const char *method = text_of(row, nd_field_method, "none");
    bool noisy = row->values[nd_field_noisy].i;
    nd_table_cell(t, "%s", text_of(row, nd_field_layer, "end to end"));
    nd_table_cell(t, layers->set ? "%" PRId64 : "-", layers->i);
    nd_table_cell(t, "%" PRId64, row->values[nd_field_batch].i);
    nd_table_cell(t, "%s", strcmp(method, "none") ? method : "-");
    add_rank(t, row);
    nd_table_cell(t, "%s", text_of(row, nd_field_implementation, ""));
    nd_table_cell(t, "%s", row->values[nd_field_cold].i ? "cold" : "hot");
    add_known(t, row, nd_field_conv_macs_ratio, "%.2f");
    add_known(t, row, nd_field_ratio, "%.2f");
    nd_table_cell(t, "%.2f..%.2f", real_of(row, nd_field_ratio_lo), real_of(row, nd_field_ratio_hi));
    add_rates(t, row);
    nd_table_cell(t, "%s", noisy ? "noisy" : "");
    nd_table_cell(t, "%s", text_of(row, nd_field_engine, ""));
    table->noisy = table->noisy || noisy;
    table->discarded += row->values[nd_field_discarded].i;
}

static void print_notes(const nd_bench_table *table, FILE *file, const nd_bench_settings *settings) {
    const nd_backend *backend = settings->backend;
    const int threads = nd_threads();
    double mib = 1.0 / (1 << 20);
    char arithmetic[64] = ""; /* of 8-bit types none is measured */
    if (settings->peaks.gflops > 0)
        snprintf(arithmetic, sizeof arithmetic, "%.0f GFLOP/s and ", settings->peaks.gflops);
    fprintf(file,
            "\n%s, %s, %d thread%s: peaks measured now %s%.1f GB/s; cold buffers rotate "
            "through up to %.0f MiB"
            " (last cache %.0f MiB).\n"
            "MACs x and time x: dense / this, MACs and measured time; blocks interleaved, medians, bootstrap "
            "interval.\n",
            backend->name, nd_precision_name(settings->precision), threads, threads == 1 ? "" : "s",
            arithmetic, settings->peaks.gbps, mib * (double)nd_peaks_rotation(backend),
            mib * (double)backend->last_cache_bytes);
    if (table->discarded)
        fprintf(file, "%" PRId64 " blocks were interrupted and discarded.\n", table->discarded);
    if (table->noisy) fputs("noisy: the interval was still wide at the time limit (--time-limit).\n", file);
    if (table->kernels) fputc('\n', file);
}

void nd_bench_table_print(nd_bench_table *table, FILE *file, const nd_bench_settings *settings) {
    if (!table) return;
    nd_table_print(table->table, table->rows ? file : NULL);
    if (file && table->rows) print_notes(table, file, settings);
    nd_table_print(table->kernels, file);
    free(table);
}
