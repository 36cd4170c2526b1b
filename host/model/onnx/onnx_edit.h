/* What of a model's file goes when nd has edited its graph. Private to onnx_edit.c, which writes the new
 * file, and onnx_marks.c, which marks what is left out. */
#ifndef ND_MODEL_ONNX_EDIT_H
#define ND_MODEL_ONNX_EDIT_H

#include "model/onnx/onnx_names.h"
#include "model/onnx/onnx_out.h"

#include <string.h>

/* A node of the file. `first` is the first node of the graph that was edited in its place, -1 for none. */
typedef struct nd_file_node {
    nd_span raw;
    int first;
    bool gone; /* left out; the chain in its place is written all the same */
} nd_file_node;

typedef struct nd_edit {
    nd_onnx_writer *writer;
    const nd_graph *graph;
    const char *path;
    nd_span body;
    nd_file_node *nodes;
    size_t n_nodes, cap_nodes;
    nd_file_names names;
    int *pending; /* nodes that are gone, whose inputs are to be let go */
    size_t n_pending, cap_pending;
    char **given; /* by value of the graph: the name it has in the file, where nd gave it one */
    uint64_t ir_version;
    nd_onnx_files files;
    bool moved; /* the data of tensors outside of the model come along */
} nd_edit;

/* Lists the nodes and names of the file, and marks those that go: what nd replaced, what fed those alone, and
 * what the file says of values that are no longer as they were. */
nd_status nd_edit_mark(nd_edit *edit);

/* Whether a chain stands in the place of this node, rather than the same operation with other constants. */
bool nd_edit_is_group(const nd_edit *edit, const nd_file_node *node);

/* The name that the chain in place of a convolution writes: that of the BatchNormalization which was folded
 * into it. */
nd_span nd_edit_group_output(const nd_edit *edit, const nd_file_node *node);

/* The last node of the graph in the place of one of the file. */
const nd_node *nd_edit_group_last(const nd_edit *edit, const nd_file_node *node);

/* The k-th input or output of a node. */
nd_span nd_edit_name_at(nd_span raw, uint32_t number, int k);

static inline nd_span nd_edit_text(const char *text) {
    return (nd_span){(const uint8_t *)text, strlen(text)};
}

#endif
