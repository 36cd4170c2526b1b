/* How kernels are launched and where their shared memory comes from. Compiled by nvcc these are the runtime's
 * own calls; compiled by a host compiler (ND_SIMT) they go to the emulator, and kernels do not see the
 * difference. */
#ifndef ND_CUDA_LAUNCH_CUH
#define ND_CUDA_LAUNCH_CUH

#include "cuda/kernels/kernels.h"

#ifdef ND_SIMT
#    include "tests/simt/simt.h"
#    define ND_UNROLL
#    define ND_UNROLL_BY(count)
#    define ND_SHARED(type, name) type *name = reinterpret_cast<type *>(nd_simt_shared())
#else
#    include "cuda/check.h"
#    include <cuda_runtime.h>
#    define ND_UNROLL           _Pragma("unroll")
#    define ND_PRAGMA(text)     _Pragma(#    text)
#    define ND_UNROLL_BY(count) ND_PRAGMA(unroll count)
#    define ND_SHARED(type, name)                                                                            \
        extern __shared__ __align__(128) unsigned char nd_shared_bytes[];                                    \
        type *name = reinterpret_cast<type *>(nd_shared_bytes)

template <class... Parameters, class... Arguments>
nd_status nd_launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                    Arguments... arguments) {
    if (shared > 48 * 1024)
        ND_CUDA_TRY(cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    ND_CUDA_TRY(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
    return nd_status_ok;
}
#endif

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

#endif
