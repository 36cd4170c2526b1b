/* Convolutions by oneDNN, by one of three algorithms:
 *   direct    channels-last in and out, weights in whatever layout the library likes: no copies;
 *   blocked   the library chooses the layout of the activations too, reorders inside the kernel;
 *   winograd  the same with its Winograd algorithms (fp32 3x3 stride 1; gone from oneDNN 3 on x86). */
#include "run/cpu/onednn.h"
#include "run/quantized.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct conv_kernel {
    nd_kernel base;
    nd_onednn_op before[2]; /* reorders of x, and of the residual into the place of y */
    nd_onednn_op op;
    nd_onednn_op after; /* reorder to y */
} conv_kernel;

typedef struct conv_algorithm {
    dnnl_alg_kind_t algorithm;
    bool any_layout; /* of the activations */
    const char *label;
} conv_algorithm;

static bool conv_supports(const nd_work *work, nd_precision precision) {
    if (precision == nd_precision_fp16 || precision == nd_precision_tf32) return false;
    /* The residual of int8 is copied to where y will be: both are integers. */
    if (precision == nd_precision_int8 && (!nd_onednn_has_int8 || !nd_quantized_agrees(work, precision) ||
                                           (work->residual && !(work->y_quant.scale > 0)))) {
        return false;
    }
    return nd_view_is_channels_last(&work->x) && nd_view_is_channels_last(&work->y) &&
           (!work->residual || nd_view_is_channels_last(&work->x2)) &&
           nd_onednn_can_activate(work->activation);
}

bool nd_cpu_conv_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return conv_supports(work, precision);
}

bool nd_cpu_conv_blocked_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    (void)cpu;
    return conv_supports(work, precision);
}

bool nd_cpu_conv_winograd_supports(const nd_cpu *cpu, const nd_work *work, nd_precision precision) {
    const nd_window *g = &work->window;
    (void)cpu;
    return nd_onednn_has_winograd && precision == nd_precision_fp32 && conv_supports(work, precision) &&
           work->groups == 1 && g->kernel[0] == 3 && g->kernel[1] == 3 && g->stride[0] == 1 &&
           g->stride[1] == 1 && g->dilation[0] == 1 && g->dilation[1] == 1;
}

typedef struct conv_descs {
    nd_onednn_md x, x2, y, weights, bias;   /* as the caller holds them; weights and bias in fp32 */
    nd_onednn_md any_x, any_y, any_weights; /* for the library to choose the layout */
    nd_onednn_forward op;
} conv_descs;

static void conv_descs_free(conv_descs *d) {
    const nd_onednn_md all[] = {d->x, d->x2, d->y, d->weights, d->bias, d->any_x, d->any_y, d->any_weights};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) nd_onednn_md_free(all[i]);
}

/* Padding after the input as the output's size implies it; what a floor left over counts as none. */
static int64_t conv_pad_after(const nd_work *work, int axis) {
    const nd_window *g = &work->window;
    const int64_t reach =
        (work->y.dims[2 + axis] - 1) * g->stride[axis] + (g->kernel[axis] - 1) * g->dilation[axis];
    const int64_t pad = reach + 1 - work->x.dims[2 + axis] - g->pad[axis];
    return pad > 0 ? pad : 0;
}

/* int8 also has what the zero of a residual takes off. */
static bool conv_has_bias(const nd_work *work, nd_precision precision) {
    return work->bias || (precision == nd_precision_int8 && work->residual && work->x2_quant.zero);
}

static nd_status conv_describe(const nd_work *work, nd_precision precision, const conv_algorithm *algorithm,
                               conv_descs *d) {
    nd_status status = nd_status_ok;
    const nd_window *g = &work->window;
    const int64_t ni = work->x.dims[1], no = work->y.dims[1], groups = work->groups;
    const bool grouped = groups > 1;
    const nd_precision y_precision = nd_precision_stored(precision, work->y_quant);
    const dnnl_data_type_t type = nd_onednn_type(precision), y_type = nd_onednn_type(y_precision);
    const dnnl_data_type_t w_type = precision == nd_precision_int8 ? dnnl_s8 : type;
    ND_TRY_DONE(nd_onednn_view(&work->x, precision, &d->x));
    ND_TRY_DONE(nd_onednn_view(&work->y, y_precision, &d->y));
    if (work->residual) ND_TRY_DONE(nd_onednn_view(&work->x2, precision, &d->x2));
    if (algorithm->any_layout) {
        ND_DNNL_DONE(nd_onednn_md_by_tag(&d->any_x, 4, work->x.dims, type, dnnl_format_tag_any), "input");
        ND_DNNL_DONE(nd_onednn_md_by_tag(&d->any_y, 4, work->y.dims, y_type, dnnl_format_tag_any), "output");
    }
    const dnnl_dims_t dense = {no, ni, g->kernel[0], g->kernel[1]};
    const dnnl_dims_t split = {groups, no / groups, ni / groups, g->kernel[0], g->kernel[1]};
    const int rank = grouped ? 5 : 4;
    ND_DNNL_DONE(nd_onednn_md_by_tag(&d->weights, rank, grouped ? split : dense, dnnl_f32,
                                     grouped ? dnnl_goihw : dnnl_oihw),
                 "weights");
    ND_DNNL_DONE(
        nd_onednn_md_by_tag(&d->any_weights, rank, grouped ? split : dense, w_type, dnnl_format_tag_any),
        "weights");
    const dnnl_dims_t channels = {no};
    ND_DNNL_DONE(nd_onednn_md_by_tag(&d->bias, 1, channels, dnnl_f32, dnnl_a), "bias");
    d->op = (nd_onednn_forward){.algorithm = algorithm->algorithm,
                                .x = algorithm->any_layout ? d->any_x : d->x,
                                .weights = d->any_weights,
                                .bias = conv_has_bias(work, precision) ? d->bias : NULL,
                                .y = algorithm->any_layout ? d->any_y : d->y,
                                .strides = {g->stride[0], g->stride[1]},
                                .dilates = {g->dilation[0] - 1, g->dilation[1] - 1},
                                .before = {g->pad[0], g->pad[1]},
                                .after = {conv_pad_after(work, 0), conv_pad_after(work, 1)}};
done:
    return status;
}

/* Where its direct kernels refuse (maps smaller than the padding), oneDNN 2.6.3 multiplies patches, and reads
 * the operand of a binary post-op as if every image and group were the first. */
static bool conv_misreads_residual(const char *name) {
    return strstr(name, "gemm") != NULL;
}

/* The residual is a binary post-op where the library's fast kernels take one, else (`copies`) it is copied to
 * where y will be and summed there. *sum says which. *out is NULL when there is no fast kernel at all. */
static nd_status conv_find(nd_cpu *cpu, const nd_work *work, nd_precision precision, conv_descs *d,
                           bool copies, dnnl_primitive_desc_t *out, bool *sum, char *name, size_t name_size) {
    *out = NULL;
    for (int attempt = copies ? 1 : 0; attempt < 2 && !*out; attempt++) {
        dnnl_primitive_attr_t attr;
        *sum = attempt == 1;
        ND_TRY(precision == nd_precision_int8 ? nd_onednn_attr_int8(work, &attr)
                                              : nd_onednn_attr(work, *sum, d->x2, &attr));
        nd_status status = nd_onednn_find(cpu, &d->op, attr, out, name, name_size);
        dnnl_primitive_attr_destroy(attr);
        if (status) return status;
        if (!work->residual) break;
        if (*out && !*sum && conv_misreads_residual(name)) {
            dnnl_primitive_desc_destroy(*out);
            *out = NULL;
        }
    }
    return nd_status_ok;
}

static nd_status conv_run(nd_kernel *kernel, const nd_cpu_buffers *buffers) {
    conv_kernel *k = (conv_kernel *)kernel;
    for (int i = 0; i < 2; i++) {
        if (k->before[i].primitive) ND_TRY(nd_onednn_execute(kernel->cpu, &k->before[i], buffers));
    }
    ND_TRY(nd_onednn_execute(kernel->cpu, &k->op, buffers));
    if (k->after.primitive) ND_TRY(nd_onednn_execute(kernel->cpu, &k->after, buffers));
    return nd_status_ok;
}

static void conv_release(nd_kernel *kernel) {
    conv_kernel *k = (conv_kernel *)kernel;
    for (int i = 0; i < 2; i++) nd_onednn_op_free(&k->before[i]);
    nd_onednn_op_free(&k->op);
    nd_onednn_op_free(&k->after);
    free(k);
}

/* Arguments of the convolution and, where its layouts differ from the caller's, the reorders around it. */
static nd_status conv_bind(conv_kernel *k, const nd_work *work, nd_precision precision, const conv_descs *d,
                           dnnl_primitive_desc_t pd, bool sum) {
    nd_status status = nd_status_ok;
    nd_cpu *cpu = k->base.cpu;
    float *scaled = NULL;
    const size_t element = nd_dtype_bytes(nd_precision_storage(precision));
    const nd_dtype y_type = nd_precision_storage(nd_precision_stored(precision, work->y_quant));
    const size_t at_x = (size_t)work->x.offset * element;
    const size_t at_y = (size_t)work->y.offset * nd_dtype_bytes(y_type);
    const size_t at_x2 = (size_t)work->x2.offset * element;
    size_t *bytes = &k->base.workspace_bytes;
    nd_onednn_const_md x = nd_onednn_query(pd, dnnl_query_src_md, 0);
    nd_onednn_const_md y = nd_onednn_query(pd, dnnl_query_dst_md, 0);

    if (dnnl_memory_desc_equal(x, d->x)) {
        ND_TRY_DONE(nd_onednn_arg_add(cpu, &k->op, DNNL_ARG_SRC, nd_onednn_slot_x, at_x, x));
    } else {
        ND_TRY_DONE(nd_onednn_reorder(cpu, &k->before[0], d->x, nd_onednn_slot_x, at_x, x,
                                      nd_onednn_slot_workspace, *bytes));
        ND_TRY_DONE(nd_onednn_arg_add(cpu, &k->op, DNNL_ARG_SRC, nd_onednn_slot_workspace, *bytes, x));
        *bytes += nd_cpu_round(dnnl_memory_desc_get_size(x));
    }
    const bool own_y = !dnnl_memory_desc_equal(y, d->y);
    const nd_onednn_slot slot_y = own_y ? nd_onednn_slot_workspace : nd_onednn_slot_y;
    const size_t place_y = own_y ? *bytes : at_y;
    if (own_y) {
        ND_TRY_DONE(nd_onednn_reorder(cpu, &k->after, y, slot_y, place_y, d->y, nd_onednn_slot_y, at_y));
        *bytes += nd_cpu_round(dnnl_memory_desc_get_size(y));
    }
    ND_TRY_DONE(nd_onednn_arg_add(cpu, &k->op, DNNL_ARG_DST, slot_y, place_y, y));
    if (work->residual && sum) {
        ND_TRY_DONE(
            nd_onednn_reorder(cpu, &k->before[1], d->x2, nd_onednn_slot_x2, at_x2, y, slot_y, place_y));
    } else if (work->residual) {
        ND_TRY_DONE(nd_onednn_arg_add(cpu, &k->op, DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
                                      nd_onednn_slot_x2, at_x2, d->x2));
    }
    ND_TRY_DONE(nd_onednn_arg_pack(cpu, &k->op, DNNL_ARG_WEIGHTS, d->weights, work->weights,
                                   nd_onednn_query(pd, dnnl_query_weights_md, 0)));
    if (conv_has_bias(work, precision)) {
        if (precision == nd_precision_int8) ND_TRY_DONE(nd_onednn_bias_int8(work, &scaled));
        const float *bias = scaled ? scaled : work->bias;
        ND_TRY_DONE(nd_onednn_arg_pack(cpu, &k->op, DNNL_ARG_BIAS, d->bias, bias, d->bias));
    }
    ND_TRY_DONE(nd_onednn_scratchpad(cpu, &k->op, pd, bytes));
done:
    free(scaled);
    return status;
}

static nd_status conv_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                              const conv_algorithm *algorithm, nd_kernel **out) {
    nd_status status = nd_status_ok;
    conv_descs descs = {0};
    dnnl_primitive_desc_t pd = NULL;
    char name[48];
    bool sum = false;
    conv_kernel *k = nd_alloc_array(1, sizeof *k);
    ND_REQUIRE(k, nd_status_memory, "conv: no memory for the kernel");
    k->base = (nd_kernel){.cpu = cpu, .run = conv_run, .release = conv_release};
    ND_TRY_DONE(conv_describe(work, precision, algorithm, &descs));
    /* With a binary post-op the bf16 AMX kernels of oneDNN 2.6.3 write past the output. */
    const bool copies = algorithm->any_layout || precision != nd_precision_fp32;
    ND_TRY_DONE(conv_find(cpu, work, precision, &descs, copies, &pd, &sum, name, sizeof name));
    ND_REQUIRE_DONE(pd, nd_status_unsupported, "oneDNN: no fast kernel for this convolution");
    ND_TRY_DONE(conv_bind(k, work, precision, &descs, pd, sum));
    ND_REQUIRE_DONE(k->base.workspace_bytes <= cpu->workspace_limit, nd_status_unsupported,
                    "oneDNN: the convolution needs %zu bytes of workspace", k->base.workspace_bytes);
    ND_DNNL_DONE(dnnl_primitive_create(&k->op.primitive, pd), "convolution");
    snprintf(k->base.engine, sizeof k->base.engine, "%s%s", algorithm->label, name);
    *out = &k->base;
done:
    conv_descs_free(&descs);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (status) conv_release(&k->base);
    return status;
}

nd_status nd_cpu_conv_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    static const conv_algorithm algorithm = {dnnl_convolution_direct, false, ""};
    return conv_prepare(cpu, work, precision, &algorithm, out);
}

nd_status nd_cpu_conv_blocked_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                      nd_kernel **out) {
    static const conv_algorithm algorithm = {dnnl_convolution_direct, true, "blocked:"};
    return conv_prepare(cpu, work, precision, &algorithm, out);
}

nd_status nd_cpu_conv_winograd_prepare(nd_cpu *cpu, const nd_work *work, nd_precision precision,
                                       nd_kernel **out) {
    static const conv_algorithm algorithm = {dnnl_convolution_winograd, true, "winograd:"};
    return conv_prepare(cpu, work, precision, &algorithm, out);
}
