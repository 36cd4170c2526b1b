/* nd: Network Decoupling (Guo et al., BMVC 2018) as a library. This is the header for programs that link
 * libnd; it gathers the public headers of the rooms, where every function is described.
 *
 *     #include <nd/nd.h>
 *     #include <stdio.h>
 *
 *     static nd_status halve(nd_graph *graph, nd_backend *backend) {
 *         nd_decouple_settings settings = nd_decouple_defaults();
 *         nd_decouple_report report;
 *         settings.rule = nd_rule_macs_ratio;
 *         settings.target = 2;
 *         ND_TRY(nd_decouple(graph, backend, &settings, &report));
 *         printf("%.2f times fewer MACs\n",
 *                (double)report.before.total_macs / (double)report.after.total_macs);
 *         nd_decouple_report_free(&report);
 *         return nd_model_save(graph, "decoupled.onnx");
 *     }
 *
 *     int main(int argc, char **argv) {
 *         nd_graph *graph = NULL;
 *         nd_backend *backend = NULL;
 *         nd_status status = nd_model_open(argc > 1 ? argv[1] : "glyphs", &graph);
 *         if (!status) status = nd_graph_infer(graph, &(nd_infer_settings){.batch = 1});
 *         if (!status) status = nd_backend_open("auto", NULL, &backend);
 *         if (!status) status = halve(graph, backend);
 *         if (status) fprintf(stderr, "%s\n", nd_error());
 *         nd_backend_close(backend);
 *         nd_graph_free(graph);
 *         return nd_status_exit_code(status);
 *     }
 *
 *     cc -o halve halve.c $(pkg-config --cflags --libs nd)
 *
 * Every function that can fail returns nd_status, and nd_error() then has the text (base/status.h). Objects
 * are freed by the function named after them. One thread drives one backend; separate backends may run in
 * separate threads. */
#ifndef ND_H
#define ND_H

#include "base/batches.h"
#include "base/boxes.h"
#include "base/log.h"
#include "base/rows/row.h"
#include "base/rows/row_write.h"
#include "base/status.h"
#include "base/tensor.h"
#include "datasets/dataset.h"
#include "decouple/decouple.h"
#include "model/cost.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "model/zoo/zoo.h"
#include "run/executor.h"
#include "run/plugins.h"

#endif
