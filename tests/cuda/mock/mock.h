/* A GPU that is not there. The plugin's own host code and its kernels (on the emulator of tests/simt) are
 * built over this folder in place of the CUDA runtime, cuBLAS, cuSOLVER and cuDNN: the same calls, in host
 * memory, by plain loops. What it proves is how the plugin uses them: order between streams, captured graphs,
 * memory, errors, choices. It says nothing about the real libraries' results or speed.
 *
 * Work waits in its stream until something waits for it, and then runs in an order that the dependencies
 * allow and ND_MOCK_GPU chooses: a missing event shows as a wrong result. In a graph capture, what the driver
 * forbids fails. At the end of the process everything must have been given back, else it exits with 86 and
 * names it.
 *
 * The device's clock is simulated: it goes on by what runs, so that what is chosen by time is the same every
 * time.
 *
 * ND_MOCK_GPU=key=value,... : devices (1), driver (13000), capability (90), mib of memory (1024), l2kib
 * (64, so that small layers are cut into slices too), multiprocessors (2), cudnn (92000),
 * order (0: as called, 1: side streams first, 2: side streams last), engines (7: cuDNN offers engines
 * for bare convolutions, 1, for fused ones, 2, and for those of e4m3, 4), gemms (1; 0: cuBLASLt has no
 * algorithm for anything),
 * nchw (200: time of a convolution in NCHW, per cent of NHWC's), wrong=NAME:FAULT+NAME:FAULT... (NAME is
 * the fastest, and wrong: eng13, eng0 for cuDNN's legacy call, or cudnn for all of its engines, with FAULT
 * tap, the wrong pixels, epilogue, without the last step, nan or hole, the last element is NaN or not
 * written; gemm11 of cuBLASLt, and our kernels fused and wgmma, with FAULT bias, without it, or largest, of
 * integers those of 255 are left out), slow=NAME (our kernel fused or wgmma takes a millisecond more),
 * dry=1 (memory is addresses alone and nothing is computed: for networks too large to run here), lost=N
 * (the device is lost at the N-th operation that runs, and stays so; 0: never), fail=NAME:N (the N-th call
 * of that function fails, 0: every one; NAME launch: our kernels), count=1 (prints calls), compiled (0) and
 * ready (0: cuDNN's further engines for every problem, compiled when a plan is built or not), latency=1
 * (cuDNN's calls and copies take the host's time, on the clock that the plugin sees), time=1 (prints the
 * seconds that have passed on it), pedantic=0 (cuBLASLt has no pedantic algorithm with an epilogue). */
#ifndef ND_TESTS_CUDA_MOCK_H
#define ND_TESTS_CUDA_MOCK_H

#include <cuda_runtime_api.h>
#include <functional>
#include <string>

extern "C" {
#include "run/backend.h"
}

/* What goes with `key`, empty for nothing; as a number, or `otherwise`. */
std::string nd_mock_text(const char *key);
long nd_mock_setting(const char *key, long otherwise);

/* What is to be wrong with what has this name; empty for nothing. */
std::string nd_mock_fault(const std::string &name);

/* Counts a call; true when ND_MOCK_GPU says that it fails. */
bool nd_mock_fails(const char *function);

/* Puts work into a stream. A call that the driver would not take there (a second capture, ...) is the
 * caller's to refuse. Work that returns false is a kernel that failed: the device is lost from then on. */
void nd_mock_enqueue(cudaStream_t stream, std::function<bool()> work);
void nd_mock_spend(double ns); /* by work that runs, beside what everything takes */
void nd_mock_pass(double ns);  /* by a call that returns only then */
bool nd_mock_capturing();      /* any stream of this process */

/* What is alive, by kind: +1 when made, -1 when given back. */
void nd_mock_account(const char *what, int change);

/* Elements of storage types, as fp32. */
float nd_mock_load(const void *data, nd_dtype type, int64_t index);
void nd_mock_store(void *data, nd_dtype type, int64_t index, float value);

/* What the libraries' opaque handles point to: made and counted as `what`, given back, looked into. */
template <class T, class Handle> void nd_mock_make(const char *what, Handle *out, T made = T()) {
    nd_mock_account(what, 1);
    *out = static_cast<Handle>(static_cast<void *>(new T(made)));
}

template <class T> void nd_mock_give_back(const char *what, void *made) {
    nd_mock_account(what, -1);
    delete static_cast<T *>(made);
}

template <class T> T *nd_mock_as(void *made) {
    return static_cast<T *>(made);
}

/* A library's handle has nothing but the stream that its calls go to. */
struct nd_mock_handle {
    cudaStream_t stream = nullptr;
};

#define ND_MOCK_CALL(failure)                                                                                \
    do {                                                                                                     \
        if (nd_mock_fails(__func__)) return failure;                                                         \
    } while (0)

#endif
