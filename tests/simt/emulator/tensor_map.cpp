/* In place of cuda/libs/tensor_map.c, which asks a driver. */
#include "tests/simt/emulator/tensor_map.h"

nd_status nd_tensor_map_encode(const nd_tensor_map *maps, int count, CUtensorMap *out) {
    for (int i = 0; i < count; i++)
        ND_REQUIRE(nd_simt_tensor_map(&maps[i], &out[i]), nd_status_unsupported, "%s is no tensor map",
                   maps[i].name);
    return nd_status_ok;
}
