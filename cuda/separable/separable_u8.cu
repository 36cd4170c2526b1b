#include "cuda/separable/separable.cuh"

nd_status nd_separable_start_u8(const nd_cuda_separable *p) {
    if (p->tile == 64) return nd_separable_start<nd_math_u8, 64>(p);
    if (p->tile == 128) return nd_separable_start<nd_math_u8, 128>(p);
    return nd_separable_start<nd_math_u8, 256>(p);
}
