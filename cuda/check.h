/* One macro for every library: a failed call becomes an nd_status whose message has the expression, the place
 * and the library's own words. Nothing in this plugin prints or exits. */
#ifndef ND_CUDA_CHECK_H
#define ND_CUDA_CHECK_H

#ifdef __cplusplus
extern "C" {
#endif

#include "base/status.h"

/* The library's number -> status and message. */
nd_status nd_cuda_failed(int error, const char *expression, const char *file, int line);
nd_status nd_cublas_failed(int error, const char *expression, const char *file, int line);
nd_status nd_cusolver_failed(int error, const char *expression, const char *file, int line);
nd_status nd_cudnn_failed(int error, const char *expression, const char *file, int line);

#ifdef __cplusplus
}
#endif

#define ND_LIBRARY_TRY(failed, call)                                                                         \
    do {                                                                                                     \
        int nd_try_error_ = (int)(call);                                                                     \
        if (nd_try_error_) return failed(nd_try_error_, #call, __FILE__, __LINE__);                          \
    } while (0)

#define ND_CUDA_TRY(call)     ND_LIBRARY_TRY(nd_cuda_failed, call)
#define ND_CUBLAS_TRY(call)   ND_LIBRARY_TRY(nd_cublas_failed, call)
#define ND_CUSOLVER_TRY(call) ND_LIBRARY_TRY(nd_cusolver_failed, call)
#define ND_CUDNN_TRY(call)    ND_LIBRARY_TRY(nd_cudnn_failed, call)

/* In functions that own something: needs a local `nd_status status` and a label `done`. */
#define ND_LIBRARY_TRY_DONE(failed, call)                                                                    \
    do {                                                                                                     \
        int nd_try_error_ = (int)(call);                                                                     \
        if (nd_try_error_) {                                                                                 \
            status = failed(nd_try_error_, #call, __FILE__, __LINE__);                                       \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

#define ND_CUDA_TRY_DONE(call)     ND_LIBRARY_TRY_DONE(nd_cuda_failed, call)
#define ND_CUBLAS_TRY_DONE(call)   ND_LIBRARY_TRY_DONE(nd_cublas_failed, call)
#define ND_CUSOLVER_TRY_DONE(call) ND_LIBRARY_TRY_DONE(nd_cusolver_failed, call)
#define ND_CUDNN_TRY_DONE(call)    ND_LIBRARY_TRY_DONE(nd_cudnn_failed, call)

#endif
