/* Cases of 8-bit integers: a work, what it points to, and how the kernel is launched. */
#ifndef ND_SIMT_QUANTIZED_CASE_H
#define ND_SIMT_QUANTIZED_CASE_H

#include "tests/simt/compare.h"

struct nd_quantized_case {
    std::string name;
    nd_work work = {};
    std::vector<float> weights, bias, scales, depthwise, depthwise_scales;
    std::vector<int32_t> channel;
    std::function<nd_status(const nd_work &, const void *x, const void *x2, void *y)> launch;

    void own(); /* the work points to the vectors */
};

/* Runs by ref and in every order of fibers; all bytes must be equal, those outside the views untouched. */
void nd_test_integers_alike(const nd_quantized_case &test);
/* As nd_test_races. */
void nd_test_integers_races(const nd_quantized_case &test, nd_simt_sync sync, int first, int end);

#endif
