/* How kernels are launched, and how a storage type is chosen at run time. */
#ifndef ND_CUDA_LAUNCH_CUH
#define ND_CUDA_LAUNCH_CUH

#include "cuda/kernels/kernels.h"
#include "cuda/kernels/runtime.cuh"

/* Calls body(T()) with the storage type that goes with a dtype. */
template <class Body> nd_status nd_with_storage(nd_dtype storage, Body body);

#include "cuda/kernels/number.cuh"

template <class Body> nd_status nd_with_storage(nd_dtype storage, Body body) {
    switch (storage) {
    case nd_dtype_f32:
        return body(float());
    case nd_dtype_f16:
        return body(nd_f16());
    case nd_dtype_bf16:
        return body(nd_bf16());
    default:
        return nd_fail(nd_status_internal, "no kernels for elements of type %s", nd_dtype_name(storage));
    }
}

/* The same for what chooses among elements, and so takes 8-bit integers too. */
template <class Body> nd_status nd_with_chosen(nd_dtype storage, Body body) {
    return storage == nd_dtype_u8 ? body(nd_u8()) : nd_with_storage(storage, body);
}

/* And for what only moves them, of any kind. */
template <class Body> nd_status nd_with_moved(nd_dtype storage, Body body) {
    return storage == nd_dtype_e4m3 ? body(nd_e4m3()) : nd_with_chosen(storage, body);
}

#endif
