#include "run/cpu/onednn_version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name of an implementation; false when it is one of the slow ones that only exist to be right. */
static bool fast_name(dnnl_primitive_desc_t pd, char *name, size_t name_size) {
    const char *text = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&text);
    if (!strncmp(text, "ref", 3) || !strncmp(text, "simple", 6)) return false;
    snprintf(name, name_size, "%s", text);
    return true;
}

#if DNNL_VERSION_MAJOR >= 3

dnnl_status_t nd_onednn_md_by_tag(nd_onednn_md *out, int rank, const int64_t *dims, dnnl_data_type_t type,
                                  dnnl_format_tag_t tag) {
    return dnnl_memory_desc_create_with_tag(out, rank, dims, type, tag);
}

dnnl_status_t nd_onednn_md_by_strides(nd_onednn_md *out, int rank, const int64_t *dims, dnnl_data_type_t type,
                                      const int64_t *strides) {
    return dnnl_memory_desc_create_with_strides(out, rank, dims, type, strides);
}

void nd_onednn_md_free(nd_onednn_md md) {
    if (md) dnnl_memory_desc_destroy(md);
}

/* Hard swish was x * relu6(x + 3) / 6 and nothing else; now its line has parameters. */
dnnl_status_t nd_onednn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t algorithm, float a, float b) {
    const bool swish = algorithm == dnnl_eltwise_hardswish;
    return dnnl_post_ops_append_eltwise(ops, algorithm, swish ? 1.0f / 6 : a, swish ? 0.5f : b);
}

dnnl_status_t nd_onednn_append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef);
}

dnnl_status_t nd_onednn_set_scales(dnnl_primitive_attr_t attr, int64_t count, const float *scales) {
    (void)attr, (void)count, (void)scales;
    return dnnl_unimplemented;
}

dnnl_status_t nd_onednn_set_zero(dnnl_primitive_attr_t attr, int argument, int32_t zero) {
    (void)attr, (void)argument, (void)zero;
    return dnnl_unimplemented;
}

dnnl_status_t nd_onednn_append_sum_u8(dnnl_post_ops_t ops, float scale) {
    return dnnl_post_ops_append_sum(ops, scale, 0, dnnl_u8);
}

static dnnl_status_t first_any(dnnl_engine_t engine, const nd_onednn_forward *f, dnnl_primitive_attr_t attr,
                               dnnl_primitive_desc_t *out) {
    if (f->algorithm == dnnl_alg_kind_undef)
        return dnnl_inner_product_forward_primitive_desc_create(out, engine, dnnl_forward_inference, f->x,
                                                                f->weights, f->bias, f->y, attr);
    return dnnl_convolution_forward_primitive_desc_create(out, engine, dnnl_forward_inference, f->algorithm,
                                                          f->x, f->weights, f->bias, f->y, f->strides,
                                                          f->dilates, f->before, f->after, attr);
}

dnnl_status_t nd_onednn_first_fast(dnnl_engine_t engine, const nd_onednn_forward *forward,
                                   dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out, char *name,
                                   size_t name_size) {
    *out = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t found = first_any(engine, forward, attr, &pd);
    while (found == dnnl_success && !fast_name(pd, name, name_size))
        found = dnnl_primitive_desc_next_impl(pd);
    if (found == dnnl_success)
        *out = pd;
    else if (pd)
        dnnl_primitive_desc_destroy(pd);
    return found == dnnl_out_of_memory ? found : dnnl_success;
}

#else

dnnl_status_t nd_onednn_md_by_tag(nd_onednn_md *out, int rank, const int64_t *dims, dnnl_data_type_t type,
                                  dnnl_format_tag_t tag) {
    *out = malloc(sizeof **out);
    return *out ? dnnl_memory_desc_init_by_tag(*out, rank, dims, type, tag) : dnnl_out_of_memory;
}

dnnl_status_t nd_onednn_md_by_strides(nd_onednn_md *out, int rank, const int64_t *dims, dnnl_data_type_t type,
                                      const int64_t *strides) {
    *out = malloc(sizeof **out);
    return *out ? dnnl_memory_desc_init_by_strides(*out, rank, dims, type, strides) : dnnl_out_of_memory;
}

void nd_onednn_md_free(nd_onednn_md md) {
    free(md);
}

dnnl_status_t nd_onednn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t algorithm, float a, float b) {
    return dnnl_post_ops_append_eltwise(ops, 1, algorithm, a, b);
}

dnnl_status_t nd_onednn_append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1);
}

dnnl_status_t nd_onednn_set_scales(dnnl_primitive_attr_t attr, int64_t count, const float *scales) {
    return dnnl_primitive_attr_set_output_scales(attr, count, 1 << 1, scales);
}

dnnl_status_t nd_onednn_set_zero(dnnl_primitive_attr_t attr, int argument, int32_t zero) {
    return dnnl_primitive_attr_set_zero_points(attr, argument, 1, 0, &zero);
}

dnnl_status_t nd_onednn_append_sum_u8(dnnl_post_ops_t ops, float scale) {
    return dnnl_post_ops_append_sum_v2(ops, scale, dnnl_u8);
}

typedef union operation {
    dnnl_convolution_desc_t convolution;
    dnnl_inner_product_desc_t product;
} operation;

static dnnl_status_t describe(const nd_onednn_forward *f, operation *out) {
    if (f->algorithm == dnnl_alg_kind_undef)
        return dnnl_inner_product_forward_desc_init(&out->product, dnnl_forward_inference, f->x, f->weights,
                                                    f->bias, f->y);
    return dnnl_dilated_convolution_forward_desc_init(&out->convolution, dnnl_forward_inference, f->algorithm,
                                                      f->x, f->weights, f->bias, f->y, f->strides, f->dilates,
                                                      f->before, f->after);
}

dnnl_status_t nd_onednn_first_fast(dnnl_engine_t engine, const nd_onednn_forward *forward,
                                   dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out, char *name,
                                   size_t name_size) {
    operation operation;
    dnnl_primitive_desc_iterator_t iterator = NULL;
    *out = NULL;
    dnnl_status_t found = describe(forward, &operation);
    if (found != dnnl_success) return found;
    found = dnnl_primitive_desc_iterator_create(&iterator, &operation, attr, engine, NULL);
    while (found == dnnl_success && !*out) {
        dnnl_primitive_desc_t pd = dnnl_primitive_desc_iterator_fetch(iterator);
        if (fast_name(pd, name, name_size)) {
            *out = pd;
        } else {
            dnnl_primitive_desc_destroy(pd);
            found = dnnl_primitive_desc_iterator_next(iterator);
        }
    }
    if (iterator) dnnl_primitive_desc_iterator_destroy(iterator);
    return found == dnnl_out_of_memory ? found : dnnl_success;
}

#endif
