/* Outputs as they are: boxes of a detector with its post-processing in the graph, as torchvision's are
 * exported, or raw numbers that are compared and not read. */
#include "eval/detect/decoder.h"

#include "run/captures.h"

#include <string.h>

enum { none_boxes, none_scores, none_labels, none_count, none_classes_most = 1 << 16 };

/* Its size is known to the run alone. */
static bool none_is_open(const nd_value *value) {
    for (int i = 0; i < value->rank; i++)
        if (value->dims[i] < 0) return true;
    return value->rank < 0;
}

static bool none_is_ready(const nd_graph *graph) {
    if (graph->n_outputs != none_count) return false;
    for (int i = 0; i < none_count; i++)
        if (!none_is_open(&graph->values[graph->outputs[i]])) return false;
    return true;
}

/* All outputs, or the parts that the only one is joined of. */
static nd_status none_heads(const nd_graph *graph, nd_decode *out) {
    const int n = graph->n_outputs;
    ND_REQUIRE(n <= nd_decode_outputs_max, nd_status_usage, "%s: %d outputs; up to %d are compared",
               graph->name, n, (int)nd_decode_outputs_max);
    out->n_outputs = out->n_groups = n > 1 ? n : nd_graph_heads(graph, out->outputs);
    if (n > 1) memcpy(out->outputs, graph->outputs, (size_t)n * sizeof *graph->outputs);
    for (int i = 0; i < out->n_outputs; i++) {
        const nd_value *value = &graph->values[out->outputs[i]];
        out->sizes[i] = nd_value_size(graph, out->outputs[i]);
        ND_REQUIRE(
            out->sizes[i] > 0 && !none_is_open(value) && value->dtype <= nd_dtype_bf16, nd_status_usage,
            "%s: output %s is neither boxes, scores and labels, as post-processing in the graph leaves "
            "them, nor numbers of a size that is known",
            graph->name, value->name);
        out->groups[i] = (nd_decode_group){value->name, i, 0, 1, 0, out->sizes[i]};
    }
    return nd_status_ok;
}

static nd_status none_open(const nd_graph *graph, nd_decode *out) {
    out->ready = none_is_ready(graph);
    if (!out->ready) return none_heads(graph, out);
    out->n_outputs = none_count;
    memcpy(out->outputs, graph->outputs, none_count * sizeof *graph->outputs);
    out->classes = none_classes_most;
    return nd_status_ok;
}

/* In any order: of the three only the boxes have a second axis, and only the labels are integers. */
static bool none_sort(const nd_tensor *const *outputs, const nd_tensor *sorted[none_count]) {
    for (int i = 0; i < none_count; i++) sorted[i] = NULL;
    for (int i = 0; i < none_count; i++) {
        const nd_tensor *of = outputs[i];
        if (!of || (of->dtype != nd_dtype_f32 && of->dtype != nd_dtype_i64)) return false;
        const bool boxes = of->rank == 2 && of->dims[1] == 4;
        if (!boxes && of->rank != 1) return false;
        sorted[of->dtype == nd_dtype_i64 ? none_labels : boxes ? none_boxes : none_scores] = of;
    }
    return sorted[none_boxes] && sorted[none_scores] && sorted[none_labels] &&
           sorted[none_boxes]->dims[0] == sorted[none_scores]->dims[0] &&
           sorted[none_labels]->dims[0] == sorted[none_scores]->dims[0];
}

nd_status nd_decode_ready(const nd_decode *decode, const nd_tensor *const *outputs, const nd_frame *frame,
                          nd_detections *out) {
    const nd_tensor *of[none_count];
    ND_REQUIRE(none_sort(outputs, of), nd_status_format,
               "the outputs are no boxes, scores and labels, one of each for every object");
    const int64_t count = of[none_scores]->dims[0];
    for (int64_t i = 0; i < count; i++) {
        const float *box = (const float *)of[none_boxes]->data + 4 * i;
        const int64_t label = ((const int64_t *)of[none_labels]->data)[i];
        ND_REQUIRE(label >= 0 && label < decode->classes, nd_status_format, "an object of class %lld",
                   (long long)label);
        const nd_box found = {box[0], box[1], (double)box[2] - box[0], (double)box[3] - box[1]};
        const nd_detection detection = {nd_box_out(frame, found), ((const float *)of[none_scores]->data)[i],
                                        (int32_t)label};
        ND_TRY(nd_detections_add(out, &detection));
    }
    return nd_status_ok;
}

const nd_decoder nd_decoder_none = {
    .name = "none",
    .open = none_open,
};
