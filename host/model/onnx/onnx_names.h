/* The values of a file's graph by name: who writes them, and how many read them. Private to onnx_names.c and
 * onnx_edit.c. */
#ifndef ND_MODEL_ONNX_NAMES_H
#define ND_MODEL_ONNX_NAMES_H

#include "model/onnx/onnx_parts.h"

typedef struct nd_file_name {
    nd_span text;
    int producer;  /* node of the file, or -1 */
    int reads;     /* by nodes, subgraphs and outputs that are still there */
    bool constant; /* an initializer */
    bool gone;     /* what wrote it is left out */
    bool taken;    /* the name is given to a new value */
    bool narrowed; /* it has fewer channels than before */
} nd_file_name;

typedef struct nd_file_names {
    nd_file_name *items;
    size_t count, capacity;
    size_t *slots; /* item + 1, or 0 */
    size_t n_slots;
} nd_file_names;

nd_file_name *nd_file_names_find(const nd_file_names *names, nd_span text); /* NULL when absent */
/* Made when it is new; the pointer is good until the next one is made. `text` is borrowed. */
nd_status nd_file_names_get(nd_file_names *names, nd_span text, nd_file_name **out);
void nd_file_names_free(nd_file_names *names);

#endif
