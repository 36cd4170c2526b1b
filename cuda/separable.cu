#include "cuda/separable.cuh"

size_t nd_cuda_separable_shared(const nd_cuda_separable *call) {
    const bool wide = nd_dtype_bytes(nd_precision_storage(call->precision)) == 4;
    return (size_t)(wide ? nd_separable_shape_of<float>(*call) : nd_separable_shape_of<nd_f16>(*call)).total;
}

nd_status nd_cuda_separable_launch(const nd_cuda_separable *call) {
    static nd_status (*const starts[nd_precision_count])(const nd_cuda_separable *) = {
        nd_separable_start_fp32, /* nd_precision_fp32 */
        nd_separable_start_tf32, /* nd_precision_tf32 */
        nd_separable_start_f16,  /* nd_precision_fp16 */
        nd_separable_start_bf16, /* nd_precision_bf16 */
    };
    if (!call->images || !call->out_height || !call->out_width) return nd_status_ok;
    return starts[call->precision](call);
}

nd_status nd_separable_start_fp32(const nd_cuda_separable *p) {
    return p->tile == 64 ? nd_separable_start<nd_math_fp32, 64>(p) : nd_separable_start<nd_math_fp32, 128>(p);
}
