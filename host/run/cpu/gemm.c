/* Fully connected layers: oneDNN's inner product, weights packed once. */
#include "run/cpu/onednn.h"
#include "run/quantized.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct gemm_kernel {
    nd_kernel base;
    nd_onednn_op op;
} gemm_kernel;

bool nd_cpu_gemm_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    if (precision == nd_precision_fp16 || precision == nd_precision_tf32) return false;
    if (precision == nd_precision_int8 && (!nd_onednn_has_int8 || !nd_quantized_agrees(work, precision)))
        return false;
    return work->x.rank == 2 && nd_view_is_row_major(&work->x) && nd_view_is_row_major(&work->y) &&
           !work->residual && nd_onednn_can_activate(work->activation);
}

static nd_status gemm_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    return nd_onednn_execute(kernel->cpu, &((gemm_kernel *)kernel)->op, buffers);
}

static void gemm_release(nd_kernel *kernel) {
    nd_onednn_op_free(&((gemm_kernel *)kernel)->op);
    free(kernel);
}

nd_status nd_cpu_gemm_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    nd_status status = nd_status_ok;
    const dnnl_dims_t shape = {work->y.dims[1], work->x.dims[1]}, columns = {work->y.dims[1]};
    const bool integers = precision == nd_precision_int8;
    const nd_precision stored = nd_precision_stored(precision, work->y_quant);
    const size_t at_x = (size_t)work->x.offset * nd_dtype_bytes(nd_precision_storage(precision));
    const size_t at_y = (size_t)work->y.offset * nd_dtype_bytes(nd_precision_storage(stored));
    const dnnl_data_type_t w_type = integers ? dnnl_s8 : nd_onednn_type(precision);
    float *scaled = NULL;
    nd_onednn_md x = NULL, y = NULL, given = NULL, weights = NULL, bias = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    gemm_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "gemm: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = gemm_run, .release = gemm_release};
    ND_TRY_DONE(nd_onednn_view(&work->x, precision, &x));
    ND_TRY_DONE(nd_onednn_view(&work->y, stored, &y));
    ND_DNNL_DONE(nd_onednn_md_by_tag(&given, 2, shape, dnnl_f32, dnnl_ab), "weights");
    ND_DNNL_DONE(nd_onednn_md_by_tag(&weights, 2, shape, w_type, dnnl_format_tag_any), "weights");
    ND_DNNL_DONE(nd_onednn_md_by_tag(&bias, 1, columns, dnnl_f32, dnnl_a), "bias");
    const nd_onednn_forward forward = {.x = x, .weights = weights, .bias = work->bias ? bias : NULL, .y = y};
    ND_TRY_DONE(integers ? nd_onednn_attr_int8(work, &attr) : nd_onednn_attr(work, false, NULL, &attr));
    ND_TRY_DONE(nd_onednn_find(cpu, &forward, attr, &pd, k->base.engine, sizeof k->base.engine));
    ND_REQUIRE_DONE(pd, nd_status_unsupported, "oneDNN: no fast kernel for this inner product");
    ND_TRY_DONE(nd_onednn_arg_add(cpu, &k->op, DNNL_ARG_SRC, nd_onednn_slot_x, at_x, x));
    ND_TRY_DONE(nd_onednn_arg_add(cpu, &k->op, DNNL_ARG_DST, nd_onednn_slot_y, at_y, y));
    ND_TRY_DONE(nd_onednn_arg_pack(cpu, &k->op, DNNL_ARG_WEIGHTS, given, work->weights,
                                   nd_onednn_query(pd, dnnl_query_weights_md, 0)));
    if (work->bias) {
        if (integers) ND_TRY_DONE(nd_onednn_bias_int8(work, &scaled));
        ND_TRY_DONE(nd_onednn_arg_pack(cpu, &k->op, DNNL_ARG_BIAS, bias, scaled ? scaled : work->bias, bias));
    }
    ND_TRY_DONE(nd_onednn_scratchpad(cpu, &k->op, pd, &k->base.workspace_bytes));
    ND_DNNL_DONE(dnnl_primitive_create(&k->op.primitive, pd), "inner product");
    *out = &k->base;
done:
    free(scaled);
    nd_onednn_md_free(x);
    nd_onednn_md_free(y);
    nd_onednn_md_free(given);
    nd_onednn_md_free(weights);
    nd_onednn_md_free(bias);
    if (attr) dnnl_primitive_attr_destroy(attr);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (status) gemm_release(&k->base);
    return status;
}
