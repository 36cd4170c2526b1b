#include "cuda/kernels/grid.cuh"
#include "cuda/separable/separable.cuh"

size_t nd_cuda_separable_shared(const nd_cuda_separable *call) {
    switch (nd_dtype_bytes(nd_precision_storage(call->precision))) {
    case 1:
        return (size_t)nd_separable_shape_of<nd_u8>(*call).total;
    case 2:
        return (size_t)nd_separable_shape_of<nd_f16>(*call).total;
    default:
        return (size_t)nd_separable_shape_of<float>(*call).total;
    }
}

nd_status nd_cuda_separable_launch(const nd_cuda_separable *call) {
    static nd_status (*const starts[nd_precision_count])(const nd_cuda_separable *) = {
        nd_separable_start_fp32, /* nd_precision_fp32 */
        nd_separable_start_tf32, /* nd_precision_tf32 */
        nd_separable_start_f16,  /* nd_precision_fp16 */
        nd_separable_start_bf16, /* nd_precision_bf16 */
        nd_separable_start_u8,   /* nd_precision_int8 */
    };
    if (!call->images || !call->out_height || !call->out_width) return nd_status_ok;
    ND_TRY(starts[call->precision](call));
    return call->split > 1 ? nd_separable_join(call) : nd_status_ok;
}

size_t nd_cuda_separable_partial(const nd_cuda_separable *call) {
    return call->split > 1 ? nd_separable_partial_of(call) : 0;
}

size_t nd_separable_partial_of(const nd_cuda_separable *call) {
    return (size_t)(call->split * call->images * call->out_height * call->out_width *
                    nd_separable_part_row(*call)) *
           sizeof(float);
}

/* One thread for two channels of a pixel: `split` reads of 8 bytes, in L2, that follow each other in
 * a warp. */
template <class T>
__global__ void __launch_bounds__(nd_grid_threads)
    nd_separable_join_kernel(nd_cuda_separable p, int64_t count, bool paired) {
    const int64_t row = nd_separable_part_row(p) / 2;
    for (int64_t item = nd_grid_first(); item < count; item += nd_grid_step()) {
        const int64_t pixel = item / row, n = item % row * 2;
        using Sum = typename nd_separable_sums<T>::type;
        Sum sums[2] = {};
        for (int64_t part = 0; part < p.split; part++) {
            const nd_pack<Sum, 2> sum = *nd_separable_part<Sum>(p, part, pixel, n);
            for (int i = 0; i < 2; i++) sums[i] += sum.value[i];
        }
        nd_separable_finish<T>(p, sums, pixel, n, paired);
    }
}

nd_status nd_separable_join(const nd_cuda_separable *p) {
    const int64_t count = p->images * p->out_height * p->out_width * nd_separable_part_row(*p) / 2;
    return nd_with_moved(nd_precision_storage(p->precision), [&](auto element) {
        using T = decltype(element);
        return nd_launch(nd_separable_join_kernel<T>, nd_grid_blocks(count), dim3(nd_grid_threads), 0,
                         p->stream, *p, count, nd_separable_access_of<T>(p).paired);
    });
}

nd_status nd_separable_start_fp32(const nd_cuda_separable *p) {
    return p->tile == 64 ? nd_separable_start<nd_math_fp32, 64>(p) : nd_separable_start<nd_math_fp32, 128>(p);
}
