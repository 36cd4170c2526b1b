#include "cuda/libs/tensor_map.h"
#include "cuda/check.h"

#include <cuda_runtime_api.h>

typedef CUresult nd_tensor_map_encoder(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                                       const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                       const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                       CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* From the driver by name, so that the plugin does not link it. */
static nd_status tensor_map_find(nd_tensor_map_encoder **out) {
    void *function = NULL;
    enum cudaDriverEntryPointQueryResult found;
    ND_CUDA_TRY(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                 cudaEnableDefault, &found));
    ND_REQUIRE(found == cudaDriverEntryPointSuccess && function, nd_status_backend,
               "the driver has no cuTensorMapEncodeTiled");
    *out = (nd_tensor_map_encoder *)(uintptr_t)function;
    return nd_status_ok;
}

static CUtensorMapDataType tensor_map_type(nd_dtype type) {
    static const CUtensorMapDataType types[nd_dtype_count] = {
        [nd_dtype_f32] = CU_TENSOR_MAP_DATA_TYPE_FLOAT32,   [nd_dtype_f16] = CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        [nd_dtype_bf16] = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, [nd_dtype_u8] = CU_TENSOR_MAP_DATA_TYPE_UINT8,
        [nd_dtype_e4m3] = CU_TENSOR_MAP_DATA_TYPE_UINT8,
    };
    return types[type];
}

static CUtensorMapSwizzle tensor_map_swizzle(int bytes) {
    if (bytes == 128) return CU_TENSOR_MAP_SWIZZLE_128B;
    return bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_NONE;
}

static nd_status tensor_map_encode_one(nd_tensor_map_encoder *encode, const nd_tensor_map *map,
                                       CUtensorMap *out) {
    static const cuuint32_t ones[nd_tensor_map_rank_max] = {1, 1, 1, 1, 1};
    cuuint64_t dims[nd_tensor_map_rank_max], strides[nd_tensor_map_rank_max];
    for (int i = 0; i < map->rank; i++) dims[i] = map->dims[i];
    for (int i = 1; i < map->rank; i++) strides[i - 1] = map->strides[i];
    const CUresult error =
        encode(out, tensor_map_type(map->type), (cuuint32_t)map->rank, (void *)(uintptr_t)map->data, dims,
               strides, map->box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, tensor_map_swizzle(map->swizzle),
               CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    ND_REQUIRE(error == CUDA_SUCCESS, nd_status_unsupported, "%s is no tensor map (driver error %d)",
               map->name, (int)error);
    return nd_status_ok;
}

nd_status nd_tensor_map_encode(const nd_tensor_map *maps, int count, CUtensorMap *out) {
    nd_tensor_map_encoder *encode = NULL;
    ND_TRY(tensor_map_find(&encode));
    for (int i = 0; i < count; i++) ND_TRY(tensor_map_encode_one(encode, &maps[i], &out[i]));
    return nd_status_ok;
}
