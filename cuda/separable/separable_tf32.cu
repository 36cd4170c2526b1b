#include "cuda/separable/separable.cuh"

nd_status nd_separable_start_tf32(const nd_cuda_separable *p) {
    return p->tile == 64 ? nd_separable_start<nd_math_tf32, 64>(p) : nd_separable_start<nd_math_tf32, 128>(p);
}
