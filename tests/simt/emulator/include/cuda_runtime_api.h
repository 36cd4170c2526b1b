/* All that the launch interface of the kernels needs of the real header. */
#ifndef ND_SIMT_CUDA_RUNTIME_API_H
#define ND_SIMT_CUDA_RUNTIME_API_H

typedef struct CUstream_st *cudaStream_t;

#endif
