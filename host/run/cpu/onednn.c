#include "run/cpu/onednn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

nd_status nd_onednn_failed(dnnl_status_t status, const char *what) {
    static const struct {
        dnnl_status_t status;
        nd_status ours;
        const char *text;
    } table[] = {
        {dnnl_out_of_memory, nd_status_memory, "out of memory"},
        {dnnl_invalid_arguments, nd_status_internal, "invalid arguments"},
        {dnnl_unimplemented, nd_status_unsupported, "not implemented"},
        {dnnl_runtime_error, nd_status_backend, "runtime error"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].status == status) return nd_fail(table[i].ours, "oneDNN: %s: %s", what, table[i].text);
    }
    return nd_fail(nd_status_backend, "oneDNN: %s: status %d", what, (int)status);
}

dnnl_data_type_t nd_onednn_type(nd_precision precision) {
    if (precision == nd_precision_int8) return dnnl_u8;
    return precision == nd_precision_bf16 ? dnnl_bf16 : dnnl_f32;
}

nd_status nd_onednn_view(const nd_view *view, nd_precision precision, nd_onednn_md *out) {
    dnnl_dims_t dims = {0}, strides = {0};
    for (int i = 0; i < view->rank; i++) {
        dims[i] = view->dims[i];
        strides[i] = view->strides[i];
    }
    /* Strides of axes of one element may be anything: give the library the ones it would choose. */
    if (view->rank == 4 && nd_view_is_channels_last(view)) {
        const nd_view dense = nd_view_channels_last(4, view->dims);
        for (int i = 0; i < 4; i++) strides[i] = dense.strides[i];
    }
    dnnl_status_t made = nd_onednn_md_by_strides(out, view->rank, dims, nd_onednn_type(precision), strides);
    return made == dnnl_success ? nd_status_ok : nd_onednn_failed(made, "memory descriptor");
}

static const dnnl_alg_kind_t onednn_acts[nd_act_count] = {
    [nd_act_relu] = dnnl_eltwise_relu,
    [nd_act_clip] = dnnl_eltwise_clip,
    [nd_act_leaky_relu] = dnnl_eltwise_relu,
    [nd_act_sigmoid] = dnnl_eltwise_logistic,
    [nd_act_hard_swish] = dnnl_eltwise_hardswish,
    [nd_act_swish] = dnnl_eltwise_swish,
};

bool nd_onednn_can_activate(nd_activation activation) {
    return activation.act == nd_act_none || activation.act == nd_act_hard_sigmoid ||
           onednn_acts[activation.act] != dnnl_alg_kind_undef;
}

static nd_status onednn_activate(dnnl_post_ops_t ops, nd_activation activation) {
    nd_status status = nd_status_ok;
    const char *what = "activation";
    switch (activation.act) {
    case nd_act_none:
        break;
    case nd_act_relu:
        ND_DNNL_DONE(nd_onednn_append_eltwise(ops, dnnl_eltwise_relu, 0, 0), what);
        break;
    case nd_act_hard_sigmoid:
        ND_DNNL_DONE(nd_onednn_append_eltwise(ops, dnnl_eltwise_linear, activation.a, activation.b), what);
        ND_DNNL_DONE(nd_onednn_append_eltwise(ops, dnnl_eltwise_clip, 0, 1), what);
        break;
    default:
        ND_DNNL_DONE(nd_onednn_append_eltwise(ops, onednn_acts[activation.act], activation.a, activation.b),
                     what);
    }
done:
    return status;
}

nd_status nd_onednn_attr(const nd_work *work, bool sum, nd_onednn_const_md x2, dnnl_primitive_attr_t *out) {
    nd_status status = nd_status_ok;
    dnnl_post_ops_t ops = NULL;
    *out = NULL;
    ND_DNNL_DONE(dnnl_primitive_attr_create(out), "attributes");
    ND_DNNL_DONE(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user), "scratchpad mode");
    ND_DNNL_DONE(dnnl_post_ops_create(&ops), "post-ops");
    if (work->residual && sum) ND_DNNL_DONE(nd_onednn_append_sum(ops), "sum");
    if (work->residual && !sum) {
        ND_DNNL_DONE(dnnl_post_ops_append_binary(ops, dnnl_binary_add, x2), "residual");
    }
    ND_TRY_DONE(onednn_activate(ops, work->activation));
    ND_DNNL_DONE(dnnl_primitive_attr_set_post_ops(*out, ops), "post-ops");
done:
    if (ops) dnnl_post_ops_destroy(ops);
    if (status && *out) {
        dnnl_primitive_attr_destroy(*out);
        *out = NULL;
    }
    return status;
}

nd_status nd_onednn_attr_int8(const nd_work *work, dnnl_primitive_attr_t *out) {
    nd_status status = nd_status_ok;
    const int64_t no = work->y.dims[1];
    const double unit = work->y_quant.scale > 0 ? work->y_quant.scale : 1;
    const int32_t x_zero = work->x_quant.zero, y_zero = work->y_quant.zero;
    nd_activation activation = work->activation;
    dnnl_post_ops_t ops = NULL;
    float *scales = nd_alloc_array((size_t)no, sizeof *scales);
    *out = NULL;
    ND_REQUIRE_DONE(scales, nd_status_memory, "oneDNN: no memory for %lld scales", (long long)no);
    for (int64_t o = 0; o < no; o++) {
        scales[o] = (float)(work->x_quant.scale * (double)work->weights_scale[o] / unit);
    }
    ND_DNNL_DONE(dnnl_primitive_attr_create(out), "attributes");
    ND_DNNL_DONE(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user), "scratchpad mode");
    ND_DNNL_DONE(nd_onednn_set_scales(*out, no, scales), "scales");
    if (x_zero) ND_DNNL_DONE(nd_onednn_set_zero(*out, DNNL_ARG_SRC, x_zero), "zero of the input");
    if (y_zero) ND_DNNL_DONE(nd_onednn_set_zero(*out, DNNL_ARG_DST, y_zero), "zero of the output");
    ND_DNNL_DONE(dnnl_post_ops_create(&ops), "post-ops");
    /* The zero of a residual is in the bias: the sum takes the integers as they are. */
    if (work->residual) {
        ND_DNNL_DONE(nd_onednn_append_sum_u8(ops, (float)(work->x2_quant.scale / unit)), "sum");
    }
    if (activation.act == nd_act_clip) { /* in units of y */
        activation.a = (float)(activation.a / unit);
        activation.b = (float)(activation.b / unit);
    }
    ND_TRY_DONE(onednn_activate(ops, activation));
    ND_DNNL_DONE(dnnl_primitive_attr_set_post_ops(*out, ops), "post-ops");
done:
    free(scales);
    if (ops) dnnl_post_ops_destroy(ops);
    if (status && *out) {
        dnnl_primitive_attr_destroy(*out);
        *out = NULL;
    }
    return status;
}

nd_status nd_onednn_bias_int8(const nd_work *work, float **out) {
    const int64_t no = work->y.dims[1];
    float *bias = nd_alloc_array((size_t)no, sizeof *bias);
    *out = bias;
    ND_REQUIRE(bias, nd_status_memory, "oneDNN: no memory for a bias");
    const double residual = work->residual ? work->x2_quant.scale * (double)work->x2_quant.zero : 0;
    for (int64_t o = 0; o < no; o++) {
        const double scale = work->x_quant.scale * (double)work->weights_scale[o];
        bias[o] = (float)(((work->bias ? work->bias[o] : 0) - residual) / scale);
    }
    return nd_status_ok;
}

nd_status nd_onednn_find(nd_cpu *cpu, const nd_onednn_forward *forward, dnnl_primitive_attr_t attr,
                         dnnl_primitive_desc_t *out, char *name, size_t name_size) {
    const dnnl_status_t found = nd_onednn_first_fast(cpu->engine, forward, attr, out, name, name_size);
    return found == dnnl_success ? nd_status_ok : nd_onednn_failed(found, "primitive");
}

nd_onednn_const_md nd_onednn_query(dnnl_primitive_desc_t pd, dnnl_query_t what, int index) {
    return dnnl_primitive_desc_query_md(pd, what, index);
}

nd_status nd_onednn_arg_add(nd_cpu *cpu, nd_onednn_op *op, int index, nd_onednn_slot slot, size_t offset,
                            nd_onednn_const_md desc) {
    nd_onednn_arg *arg = &op->args[op->n_args];
    ND_REQUIRE(op->n_args < nd_onednn_args_max, nd_status_internal, "oneDNN: too many arguments");
    dnnl_status_t made = dnnl_memory_create(&arg->memory, desc, cpu->engine, DNNL_MEMORY_NONE);
    if (made != dnnl_success) return nd_onednn_failed(made, "memory");
    arg->index = index;
    arg->slot = slot;
    arg->offset = offset;
    op->n_args++;
    return nd_status_ok;
}

nd_status nd_onednn_arg_pack(nd_cpu *cpu, nd_onednn_op *op, int index, nd_onednn_const_md from,
                             const void *data, nd_onednn_const_md desc) {
    nd_status status = nd_status_ok;
    nd_onednn_op reorder = {0};
    void *packed = nd_cpu_alloc(dnnl_memory_desc_get_size(desc), 1);
    ND_REQUIRE(packed, nd_status_memory, "oneDNN: no memory for packed weights");
    const nd_cpu_buffers buffers = {.x = data, .y = packed};
    ND_TRY_DONE(nd_onednn_reorder(cpu, &reorder, from, nd_onednn_slot_x, 0, desc, nd_onednn_slot_y, 0));
    ND_TRY_DONE(nd_onednn_execute(cpu, &reorder, &buffers));
    ND_TRY_DONE(nd_onednn_arg_add(cpu, op, index, nd_onednn_slot_fixed, 0, desc));
    nd_onednn_arg *arg = &op->args[op->n_args - 1];
    arg->packed = packed;
    packed = NULL;
    ND_DNNL_DONE(dnnl_memory_set_data_handle(arg->memory, arg->packed), "packed weights");
done:
    nd_onednn_op_free(&reorder);
    free(packed);
    return status;
}

nd_status nd_onednn_scratchpad(nd_cpu *cpu, nd_onednn_op *op, dnnl_primitive_desc_t pd, size_t *bytes) {
    nd_onednn_const_md desc = nd_onednn_query(pd, dnnl_query_scratchpad_md, 0);
    const size_t size = desc ? dnnl_memory_desc_get_size(desc) : 0;
    if (!size) return nd_status_ok;
    ND_TRY(nd_onednn_arg_add(cpu, op, DNNL_ARG_SCRATCHPAD, nd_onednn_slot_workspace, *bytes, desc));
    *bytes += nd_cpu_round(size);
    return nd_status_ok;
}

nd_status nd_onednn_reorder(nd_cpu *cpu, nd_onednn_op *op, nd_onednn_const_md from, nd_onednn_slot from_slot,
                            size_t from_offset, nd_onednn_const_md to, nd_onednn_slot to_slot,
                            size_t to_offset) {
    nd_status status = nd_status_ok;
    dnnl_primitive_desc_t pd = NULL;
    ND_DNNL_DONE(dnnl_reorder_primitive_desc_create(&pd, from, cpu->engine, to, cpu->engine, NULL),
                 "reorder");
    ND_DNNL_DONE(dnnl_primitive_create(&op->primitive, pd), "reorder");
    ND_TRY_DONE(nd_onednn_arg_add(cpu, op, DNNL_ARG_FROM, from_slot, from_offset, from));
    ND_TRY_DONE(nd_onednn_arg_add(cpu, op, DNNL_ARG_TO, to_slot, to_offset, to));
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    return status;
}

nd_status nd_onednn_execute(nd_cpu *cpu, nd_onednn_op *op, const nd_cpu_buffers *buffers) {
    nd_status status = nd_status_ok;
    dnnl_exec_arg_t args[nd_onednn_args_max];
    char *const slots[] = {[nd_onednn_slot_x] = (char *)buffers->x,
                           [nd_onednn_slot_x2] = (char *)buffers->x2,
                           [nd_onednn_slot_y] = buffers->y,
                           [nd_onednn_slot_workspace] = buffers->workspace};
    for (int i = 0; i < op->n_args; i++) {
        nd_onednn_arg *arg = &op->args[i];
        if (arg->slot != nd_onednn_slot_fixed) {
            ND_DNNL_DONE(dnnl_memory_set_data_handle(arg->memory, slots[arg->slot] + arg->offset),
                         "argument");
        }
        args[i] = (dnnl_exec_arg_t){arg->index, arg->memory};
    }
    ND_DNNL_DONE(dnnl_primitive_execute(op->primitive, cpu->stream, op->n_args, args), "execution");
    ND_DNNL_DONE(dnnl_stream_wait(cpu->stream), "execution");
done:
    return status;
}

void nd_onednn_op_free(nd_onednn_op *op) {
    for (int i = 0; i < op->n_args; i++) {
        dnnl_memory_destroy(op->args[i].memory);
        free(op->args[i].packed);
    }
    if (op->primitive) dnnl_primitive_destroy(op->primitive);
    *op = (nd_onednn_op){0};
}
