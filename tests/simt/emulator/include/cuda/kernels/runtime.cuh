/* Stands in for cuda/kernels/runtime.cuh in the emulator. */
#ifndef ND_SIMT_RUNTIME_CUH
#define ND_SIMT_RUNTIME_CUH

#include "tests/simt/emulator/simt.h"

#define ND_UNROLL
#define ND_UNROLL_BY(count)
#define ND_SHARED(type, name) type *name = reinterpret_cast<type *>(nd_simt_shared())

#endif
