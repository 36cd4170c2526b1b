#include "bench/timing/nodes.h"

#include <stdlib.h>

enum { warm_runs = 3, timed_runs = 15 };

/* What names the network, without what was measured of all of it. */
static void copy_keys(nd_row *dst, const nd_row *src) {
    nd_row keys = {0};
    for (int f = 0; f < nd_field_count; f++)
        if (nd_field_table[f].role == nd_field_role_key) keys.values[f] = src->values[f];
    nd_row_copy(dst, &keys);
}

/* All that the rows of one plan share. */
static void describe_plan(const nd_bench_network *network, nd_implementation implementation,
                          const nd_exec_settings *plan, const nd_bench_settings *settings, nd_row *row) {
    const bool channels_last = settings->backend->channels_last != plan->turned;
    nd_row_copy(row, settings->common);
    nd_bench_row_clocks(row, settings);
    copy_keys(row, &network->row);
    nd_row_set_int(row, nd_field_batch, settings->batch);
    nd_row_set_text(row, nd_field_dtype, nd_precision_name(settings->precision));
    nd_row_set_text(row, nd_field_implementation, nd_implementation_name(implementation));
    nd_row_set_text(row, nd_field_layout, channels_last ? "NHWC" : "NCHW");
    nd_row_set_flag(row, nd_field_cold, false);
}

static nd_status emit_node(const nd_row *plan, const nd_exec_node *node, const char *operation,
                           double ns[timed_runs], const nd_bench_settings *settings) {
    nd_summary summary;
    ND_TRY(nd_stats_summary(ns, timed_runs, &summary));
    nd_row row = {0};
    nd_row_copy(&row, plan);
    nd_row_set_text(&row, nd_field_layer, node->name);
    nd_row_set_text(&row, nd_field_operation, operation);
    if (node->engine) nd_row_set_text(&row, nd_field_engine, node->engine);
    nd_row_set_real(&row, nd_field_ns_median, summary.median);
    nd_row_set_real(&row, nd_field_ns_q1, summary.q1);
    nd_row_set_real(&row, nd_field_ns_q3, summary.q3);
    nd_row_set_real(&row, nd_field_ns_min, summary.min);
    if (node->macs) {
        nd_row_set_int(&row, nd_field_total_macs, node->macs);
        nd_row_set_real(&row, nd_field_gflops,
                        2 * (double)node->macs * (double)settings->batch / summary.median);
    }
    nd_status status = settings->row(settings->user, &row);
    nd_row_free(&row);
    return status;
}

/* ns[node * timed_runs + run] */
static nd_status time_nodes(nd_exec *exec, double *ns) {
    size_t count = nd_exec_node_count(exec);
    for (int run = -warm_runs; run < timed_runs; run++) {
        ND_TRY(nd_exec_start(exec));
        ND_TRY(nd_exec_wait(exec));
        for (size_t i = 0; i < count && run >= 0; i++)
            ns[i * timed_runs + (size_t)run] = nd_exec_node_at(exec, i).ns;
    }
    return nd_status_ok;
}

nd_status nd_bench_nodes(const nd_bench_network *network, nd_implementation implementation,
                         const nd_exec_settings *plan, const float *images,
                         const nd_bench_settings *settings) {
    nd_exec_settings timed = *plan;
    timed.time_nodes = true;
    nd_exec *exec;
    nd_row row = {0};
    nd_exec_node all = {.name = "all kernels"};
    double *ns = NULL, sums[timed_runs] = {0};
    nd_status status = nd_exec_open(settings->backend, network->graph, &timed, &exec);
    if (status == nd_status_unsupported) {
        nd_log(nd_log_warn, "%s: its kernels cannot be timed one by one: %s", network->graph->name,
               nd_error());
        return nd_status_ok;
    }
    ND_TRY(status);
    ns = nd_alloc_array(nd_exec_node_count(exec) + 1, timed_runs * sizeof *ns);
    ND_REQUIRE_DONE(ns, nd_status_memory, "bench: out of memory");
    ND_TRY_DONE(nd_exec_upload(exec, settings->batch, &images));
    ND_TRY_DONE(time_nodes(exec, ns));
    describe_plan(network, implementation, &timed, settings, &row);
    for (size_t i = 0; i < nd_exec_node_count(exec); i++) {
        nd_exec_node node = nd_exec_node_at(exec, i);
        all.macs += node.macs;
        for (int run = 0; run < timed_runs; run++) sums[run] += ns[i * timed_runs + (size_t)run];
        ND_TRY_DONE(emit_node(&row, &node, nd_operation_name(node.operation), &ns[i * timed_runs], settings));
    }
    ND_TRY_DONE(emit_node(&row, &all, "sum", sums, settings));
done:
    nd_row_free(&row);
    free(ns);
    nd_exec_close(exec);
    return status;
}
