/* The little of oneDNN's C API that conv, gemm and pool share; 2.6 and later, 3.x
 * (onednn_version.h). */
#ifndef ND_RUN_CPU_ONEDNN_H
#define ND_RUN_CPU_ONEDNN_H

#include "run/cpu/cpu.h"
#include "run/cpu/onednn_version.h"

enum { nd_onednn_args_max = 8 };

/* One primitive with its arguments. Each argument is either fixed (packed weights, owned) or takes its
 * address at run time. A zeroed struct is empty. */
typedef enum nd_onednn_slot {
    nd_onednn_slot_fixed,
    nd_onednn_slot_x,
    nd_onednn_slot_x2,
    nd_onednn_slot_y,
    nd_onednn_slot_workspace,
} nd_onednn_slot;

typedef struct nd_onednn_arg {
    int index; /* DNNL_ARG_* */
    nd_onednn_slot slot;
    size_t offset; /* bytes from the slot's address */
    dnnl_memory_t memory;
    void *packed; /* owned data of a fixed argument */
} nd_onednn_arg;

typedef struct nd_onednn_op {
    dnnl_primitive_t primitive;
    nd_onednn_arg args[nd_onednn_args_max];
    int n_args;
} nd_onednn_op;

nd_status nd_onednn_failed(dnnl_status_t status, const char *what);
#define ND_DNNL_DONE(call, what)                                                                             \
    do {                                                                                                     \
        dnnl_status_t nd_dnnl_status_ = (call);                                                              \
        if (nd_dnnl_status_ != dnnl_success) {                                                               \
            status = nd_onednn_failed(nd_dnnl_status_, what);                                                \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

dnnl_data_type_t nd_onednn_type(nd_precision precision);
/* A rank-4 or rank-2 view in its physical order, to be freed. */
nd_status nd_onednn_view(const nd_view *view, nd_precision precision, nd_onednn_md *out);

/* Attributes with a user-owned scratchpad and post-ops: residual (by `sum`, or by a binary add of `x2`), then
 * the activation. False when the activation has no post-op. */
bool nd_onednn_can_activate(nd_activation activation);
nd_status nd_onednn_attr(const nd_work *work, bool sum, nd_onednn_const_md x2, dnnl_primitive_attr_t *out);

/* The same for int8: output scales, zeros, residual by `sum` (already where y will be), activation. The bias
 * in units of the sums, with what the zero of the residual takes off; *out is malloc'd. */
nd_status nd_onednn_attr_int8(const nd_work *work, dnnl_primitive_attr_t *out);
nd_status nd_onednn_bias_int8(const nd_work *work, float **out);

/* nd_onednn_first_fast with our errors. */
nd_status nd_onednn_find(nd_cpu *cpu, const nd_onednn_forward *forward, dnnl_primitive_attr_t attr,
                         dnnl_primitive_desc_t *out, char *name, size_t name_size);

nd_onednn_const_md nd_onednn_query(dnnl_primitive_desc_t pd, dnnl_query_t what, int index);

nd_status nd_onednn_arg_add(nd_cpu *cpu, nd_onednn_op *op, int index, nd_onednn_slot slot, size_t offset,
                            nd_onednn_const_md desc);
/* Adds a fixed argument: fp32 `data` in layout `from`, reordered (and rounded) to `desc`. */
nd_status nd_onednn_arg_pack(nd_cpu *cpu, nd_onednn_op *op, int index, nd_onednn_const_md from,
                             const void *data, nd_onednn_const_md desc);
/* Adds the scratchpad of `pd` at the end of a workspace of *bytes, which grows. */
nd_status nd_onednn_scratchpad(nd_cpu *cpu, nd_onednn_op *op, dnnl_primitive_desc_t pd, size_t *bytes);

/* A reorder between two slots. */
nd_status nd_onednn_reorder(nd_cpu *cpu, nd_onednn_op *op, nd_onednn_const_md from, nd_onednn_slot from_slot,
                            size_t from_offset, nd_onednn_const_md to, nd_onednn_slot to_slot,
                            size_t to_offset);

nd_status nd_onednn_execute(nd_cpu *cpu, nd_onednn_op *op, const nd_cpu_buffers *buffers);
void nd_onednn_op_free(nd_onednn_op *op);

#endif
