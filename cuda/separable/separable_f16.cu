#include "cuda/separable/separable.cuh"

nd_status nd_separable_start_f16(const nd_cuda_separable *p) {
    if (p->tile == 64) return nd_separable_start<nd_math_f16, 64>(p);
    if (p->tile == 128) return nd_separable_start<nd_math_f16, 128>(p);
    return nd_separable_start<nd_math_f16, 256>(p);
}
