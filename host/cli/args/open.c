#include "cli/cli.h"

#include "base/parallel.h"
#include "base/text/text.h"
#include "model/images.h"
#include "model/infer/infer.h"
#include "model/model.h"
#include "run/plugins.h"

#include <string.h>

/* "224x192", or "224" for a square. */
static nd_status read_size(const char *text, int64_t size[2]) {
    if (!text) return nd_status_ok;
    char first[32];
    const char *cross = strchr(text, 'x');
    const size_t length = cross ? (size_t)(cross - text) : strlen(text);
    ND_REQUIRE(length < sizeof first, nd_status_usage, "--input %s: expected HxW", text);
    memcpy(first, text, length);
    first[length] = '\0';
    const bool read = nd_text_int(first, &size[0]) && nd_text_int(cross ? cross + 1 : first, &size[1]);
    ND_REQUIRE(read && size[0] > 0 && size[1] > 0, nd_status_usage, "--input %s: expected HxW", text);
    return nd_status_ok;
}

nd_status nd_cli_input(const nd_args *args, const char *spec, nd_graph *graph) {
    const char *text = nd_args_text(args, "input", NULL), *images = NULL;
    int64_t given[2] = {0};
    char size[64];
    bool taken = false;
    ND_TRY(read_size(text, given));
    for (int i = 0; text && i < graph->n_inputs; i++) {
        int64_t *own = nd_image_size(&graph->values[graph->inputs[i]]);
        if (!own) continue;
        for (int k = 0; k < 2; k++)
            if (own[k] < 0) own[k] = given[k];
        taken = taken || (own[0] == given[0] && own[1] == given[1]);
        if (!images) images = nd_dims_format(2, own, size, sizeof size);
    }
    if (!text || taken) return nd_status_ok;
    ND_REQUIRE(images, nd_status_usage, "%s: --input %s does nothing: the network takes no images", spec,
               text);
    return nd_fail(nd_status_usage, "%s: --input %s does nothing: the network takes images of %s", spec, text,
                   images);
}

nd_status nd_cli_graph(const nd_args *args, const char *spec, int64_t batch, nd_graph **out) {
    nd_status status = nd_status_ok;
    nd_graph *graph;
    *out = NULL;
    ND_TRY(nd_model_open(spec, &graph));
    ND_TRY_DONE(nd_cli_input(args, spec, graph));
    status = nd_graph_infer(graph, &(nd_infer_settings){.batch = batch, .allow_opaque = true});
    if (status) nd_fail_in(status, "%s", spec);
done:
    if (status)
        nd_graph_free(graph);
    else
        *out = graph;
    return status;
}

nd_status nd_cli_folded(const nd_args *args, const char *spec, nd_graph **out, char sha256[65]) {
    nd_status status = nd_status_ok;
    ND_TRY(nd_cli_graph(args, spec, 1, out));
    nd_graph *graph = *out;
    const nd_infer_settings infer = nd_infer_image(graph);
    nd_graph_sha256(graph, sha256);
    ND_TRY_DONE(nd_graph_fold(graph));
    ND_TRY_DONE(nd_graph_infer(graph, &infer));
done:
    if (!status) return nd_status_ok;
    nd_graph_free(graph);
    *out = NULL;
    return nd_fail_in(status, "%s", spec);
}

nd_status nd_cli_precision(const char *dtype, nd_precision *out) {
    ND_REQUIRE(nd_precision_find(dtype, out), nd_status_usage,
               "--dtype %s: there are fp32, tf32, fp16, bf16, int8 and e4m3", dtype);
    return nd_status_ok;
}

nd_status nd_cli_backend(const nd_args *args, nd_backend **out) {
    *out = NULL;
    nd_backend_settings settings = {.isa = nd_args_text(args, "isa", NULL),
                                    .tune = nd_args_has(args, "tune")};
    int64_t device, threads;
    ND_TRY(nd_args_int(args, "device", 0, 0, 1023, &device));
    ND_TRY(nd_args_int(args, "threads", 0, 0, 1024, &threads));
    settings.device = (int)device;
    settings.threads = (int)threads;
    nd_threads_set(settings.threads);
    nd_threads_adapt(true);
    return nd_cli_backend_named(args, nd_args_text(args, "backend", "auto"), &settings, out);
}

nd_status nd_cli_backend_named(const nd_args *args, const char *name, const nd_backend_settings *settings,
                               nd_backend **out) {
    nd_auto *automatic = args->automatic;
    if (strcmp(name, "auto")) {
        ND_TRY(nd_backend_open(name, settings, out));
    } else {
        ND_TRY(nd_backend_open_after(automatic->failed, settings, out));
        automatic->device = *(*out)->gpu ? (*out)->name : NULL;
    }
    if (!settings->isa || !strcmp((*out)->name, "cpu")) return nd_status_ok;
    nd_fail(nd_status_usage, "--isa %s does nothing on backend %s: add --backend cpu", settings->isa,
            (*out)->name);
    nd_backend_close(*out);
    *out = NULL;
    return nd_status_usage;
}

bool nd_cli_elsewhere(const nd_args *args, nd_status status) {
    nd_auto *automatic = args->automatic;
    const bool unusable = status == nd_status_device || status == nd_status_memory;
    if (!unusable || !automatic->device || automatic->finished) return false;
    nd_log(nd_log_warn, "%s; going on without %s", nd_error(), automatic->device);
    automatic->failed = automatic->device;
    automatic->device = NULL;
    return true;
}
