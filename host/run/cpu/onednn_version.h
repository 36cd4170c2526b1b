/* What differs between oneDNN 2.6 and 3: memory descriptors are structures or objects, operations are
 * described before or while a primitive is looked for, post-ops have other parameters. Nothing else of nd
 * asks for the version. */
#ifndef ND_RUN_CPU_ONEDNN_VERSION_H
#define ND_RUN_CPU_ONEDNN_VERSION_H

#include "run/backend.h"

#include <dnnl.h>

/* A memory descriptor, owned, and one that is only read; both fit the library's own functions. NULL: none. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t nd_onednn_md;
typedef const_dnnl_memory_desc_t nd_onednn_const_md;
enum { nd_onednn_has_winograd = 0 }; /* on x86; 3 kept it for aarch64 alone */
enum { nd_onednn_has_int8 = 0 };     /* 3 takes scales at run time, which nd does not give it yet */
#else
typedef dnnl_memory_desc_t *nd_onednn_md;
typedef const dnnl_memory_desc_t *nd_onednn_const_md;
enum { nd_onednn_has_winograd = 1, nd_onednn_has_int8 = 1 };
#endif

dnnl_status_t nd_onednn_md_by_tag(nd_onednn_md *out, int rank, const int64_t *dims, dnnl_data_type_t type,
                                  dnnl_format_tag_t tag);
dnnl_status_t nd_onednn_md_by_strides(nd_onednn_md *out, int rank, const int64_t *dims, dnnl_data_type_t type,
                                      const int64_t *strides);
void nd_onednn_md_free(nd_onednn_md md); /* NULL is legal */

dnnl_status_t nd_onednn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t algorithm, float a, float b);
dnnl_status_t nd_onednn_append_sum(dnnl_post_ops_t ops);

/* int8, only with nd_onednn_has_int8: what sums are multiplied by, per channel; the zero of an argument; the
 * sum of unsigned integers times `scale`. */
dnnl_status_t nd_onednn_set_scales(dnnl_primitive_attr_t attr, int64_t count, const float *scales);
dnnl_status_t nd_onednn_set_zero(dnnl_primitive_attr_t attr, int argument, int32_t zero);
dnnl_status_t nd_onednn_append_sum_u8(dnnl_post_ops_t ops, float scale);

/* Forward convolution, or inner product (algorithm dnnl_alg_kind_undef, no window). `bias` may be NULL. */
typedef struct nd_onednn_forward {
    dnnl_alg_kind_t algorithm;
    nd_onednn_const_md x, weights, bias, y;
    dnnl_dims_t strides, dilates, before, after;
} nd_onednn_forward;

/* The first implementation whose name does not start with "ref" or "simple", and its name. *out is NULL when
 * there is none. */
dnnl_status_t nd_onednn_first_fast(dnnl_engine_t engine, const nd_onednn_forward *forward,
                                   dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out, char *name,
                                   size_t name_size);

#endif
