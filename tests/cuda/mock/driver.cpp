/* What the plugin asks of the driver by name. */
#include "tests/cuda/mock/mock.h"
#include "tests/simt/emulator/tensor_map.h"

#include <string.h>

static CUresult nd_mock_encode_tiled(CUtensorMap *out, CUtensorMapDataType type, cuuint32_t rank, void *data,
                                     const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box,
                                     const cuuint32_t *steps, CUtensorMapInterleave interleave,
                                     CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                     CUtensorMapFloatOOBfill) {
    if (nd_mock_fails("cuTensorMapEncodeTiled")) return CUDA_ERROR_INVALID_VALUE;
    const nd_dtype types[] = {nd_dtype_f16, nd_dtype_f32, nd_dtype_bf16, nd_dtype_u8};
    const CUtensorMapDataType names[] = {CU_TENSOR_MAP_DATA_TYPE_FLOAT16, CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
                                         CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_DATA_TYPE_UINT8};
    nd_tensor_map map = {};
    int known = 0;
    while (known < 4 && names[known] != type) known++;
    if (known == 4 || rank > nd_tensor_map_rank_max || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE)
        return CUDA_ERROR_INVALID_VALUE;
    map.data = data;
    map.type = types[known];
    map.rank = (int)rank;
    map.swizzle = swizzle == CU_TENSOR_MAP_SWIZZLE_128B ? 128 : swizzle == CU_TENSOR_MAP_SWIZZLE_64B ? 64 : 0;
    for (cuuint32_t i = 0; i < rank; i++) {
        if (steps[i] != 1) return CUDA_ERROR_INVALID_VALUE;
        map.dims[i] = dims[i];
        map.box[i] = box[i];
        map.strides[i] = i ? strides[i - 1] : 0;
    }
    return nd_simt_tensor_map(&map, out) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

extern "C" cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                                        unsigned long long,
                                                        cudaDriverEntryPointQueryResult *found) {
    ND_MOCK_CALL(cudaErrorInvalidValue);
    const bool known = !strcmp(symbol, "cuTensorMapEncodeTiled") && version >= 12000;
    *function = known ? reinterpret_cast<void *>(nd_mock_encode_tiled) : nullptr;
    if (found) *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}
