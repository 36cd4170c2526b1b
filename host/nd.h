/* nd: Network Decoupling (Guo et al., BMVC 2018) as a library. This is the header for programs that link
 * libnd; it gathers the public headers of the rooms, where every function is described.
 *
 *     nd_graph *graph;
 *     nd_backend *backend;
 *     nd_decouple_report report;
 *     if (nd_model_open("model.onnx", &graph)) return fail(nd_error());
 *     nd_graph_infer(graph, &(nd_infer_settings){.batch = 1});
 *     nd_backend_open("auto", &(nd_backend_settings){0}, &backend);
 *     nd_decouple_settings settings = nd_decouple_defaults();
 *     settings.rule = nd_rule_macs_ratio;
 *     settings.target = 2;
 *     nd_decouple(graph, backend, &settings, &report);
 *     nd_model_save(graph, "decoupled.onnx");
 *
 * Every function that can fail returns nd_status, and nd_error() then has the text (base/status.h). Objects
 * are freed by the function named after them. One thread drives one backend; separate backends may run in
 * separate threads. */
#ifndef ND_H
#define ND_H

#include "base/batches.h"
#include "base/log.h"
#include "base/rows/row.h"
#include "base/rows/row_write.h"
#include "base/status.h"
#include "base/tensor.h"
#include "decouple/decouple.h"
#include "model/cost.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "model/zoo/zoo.h"
#include "run/executor.h"
#include "run/plugins.h"

#endif
