/* The calls of the CUDA runtime that kernels are started with, and where their shared memory comes from. The
 * emulator offers a header of the same name (tests/simt/emulator/include), and kernels do not see the
 * difference. */
#ifndef ND_CUDA_RUNTIME_CUH
#define ND_CUDA_RUNTIME_CUH

#include "cuda/check.h"
#include <cuda_runtime.h>
#define ND_UNROLL           _Pragma("unroll")
#define ND_PRAGMA(text)     _Pragma(#text)
#define ND_UNROLL_BY(count) ND_PRAGMA(unroll count)
#define ND_SHARED(type, name)                                                                                \
    extern __shared__ __align__(128) unsigned char nd_shared_bytes[];                                        \
    type *name = reinterpret_cast<type *>(nd_shared_bytes)

/* `cluster` neighbouring blocks along x run together and reach each other's shared memory. */
template <class... Parameters, class... Arguments>
nd_status nd_launch_clusters(void (*kernel)(Parameters...), dim3 grid, dim3 block, unsigned cluster,
                             size_t shared, cudaStream_t stream, Arguments... arguments) {
    if (shared > 48 * 1024)
        ND_CUDA_TRY(cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = cluster;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = cluster > 1 ? 1 : 0;
    ND_CUDA_TRY(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
    return nd_status_ok;
}

template <class... Parameters, class... Arguments>
nd_status nd_launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                    Arguments... arguments) {
    return nd_launch_clusters(kernel, grid, block, 1, shared, stream, arguments...);
}

#endif
