/* Runs one operation twice, by nd_ref_run and by a kernel under the emulator, and compares.
 *
 * Data are small integers wherever the operation is a sum of products, so that every intermediate is exact in
 * every storage type and the two must agree to the last bit after one rounding of the output: no tolerance
 * can hide a missing term. Buffers are exactly as large as the views reach; what lies between a view's
 * elements is NaN in inputs and must come back untouched in outputs. Each case runs in every order of fibers
 * the emulator has, and once with its elements so far apart that their offsets do not fit 32 bits. */
#ifndef ND_SIMT_COMPARE_H
#define ND_SIMT_COMPARE_H

#include "cuda/kernels/kernels.h"
#include "tests/simt/emulator/simt.h"

#include <functional>
#include <string>
#include <vector>

/* A view and its data: fp32 values (for ref) and the same in the storage type (for the kernel). */
struct nd_test_buffer {
    std::vector<float> values;
    std::vector<unsigned char> stored;
};

struct nd_test_case {
    std::string name;
    nd_work work = {};
    nd_dtype storage = nd_dtype_f32;
    float low = -2, high = 2;          /* range of x and x2 */
    bool real = false;                 /* any numbers in the range, not integers alone */
    double absolute = 0, relative = 0; /* allowed difference; 0: equal after rounding to the storage type */
    std::vector<float> weights, bias, depthwise;
    std::vector<int32_t> channel;
    std::function<nd_status(const nd_test_case &, const void *x, const void *x2, void *y)> launch;
};

/* `spread` leaves that many unused elements after every pixel (NHWC) of the view. */
nd_view nd_test_view(int64_t n, int64_t c, int64_t h, int64_t w, int64_t spread = 0);
std::vector<float> nd_test_integers(size_t count, int low, int high, uint64_t seed);
std::vector<float> nd_test_reals(size_t count, float low, float high, uint64_t seed);

/* Runs and compares; prints what differed. Counts into the totals below. */
void nd_test_run(nd_test_case &test);
/* Runs it with each of the synchronisations `first` to `end` - 1 of one kind left out: every one must be
 * needed, that is, some order of fibers must come out wrong. */
void nd_test_races(nd_test_case &test, nd_simt_sync sync, int first, int end);
/* The same of whatever says whether it comes out wrong; seed 0: that of the orders. */
void nd_test_missed(const std::string &name, nd_simt_sync sync, int first, int end,
                    const std::function<bool(nd_simt_order, uint64_t seed)> &wrong);
/* A launch function from kernels.h, with the case's constants as they are. */
void nd_test_operation(nd_test_case &test, nd_cuda_launch *launch);

/* Where a view's elements lie in its buffer, row-major over dims. */
std::vector<int64_t> nd_test_positions(const nd_view &view);

int nd_test_result(); /* prints the totals; the exit code of the program */

/* The files of this folder, each a list of cases. */
void nd_test_operations();
void nd_test_in_place();
void nd_test_depthwise();
void nd_test_quantized();
void nd_test_separable();
void nd_test_separable_u8();
void nd_test_separable_sm90a();
void nd_test_machine();
void nd_test_svd();
void nd_test_verify();
void nd_test_sample();
/* Prints the table of roofline.cpp by the registers in a file like results/golden/cuda_resources.csv; the
 * exit code. */
int nd_test_roofline(const char *resources);
void nd_test_expect(bool truth, const char *what);

#endif
