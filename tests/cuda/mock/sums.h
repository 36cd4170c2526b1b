/* Sums of products of 8 bits, as tensor cores have them. */
#ifndef ND_TESTS_CUDA_MOCK_SUMS_H
#define ND_TESTS_CUDA_MOCK_SUMS_H

#include <math.h>
#include <stdint.h>

/* What tensor cores of sm_90 keep of fp8: of a sum and 32 products more, nothing below 2^-13 of the
 * largest. */
inline float nd_mock_joined(float sum, const float *products, int count) {
    float most = fabsf(sum);
    for (int i = 0; i < count; i++) most = fmaxf(most, fabsf(products[i]));
    if (!(most > 0)) return 0;
    const int unit = ilogbf(most) - 13;
    double all = trunc(ldexp((double)sum, -unit));
    for (int i = 0; i < count; i++) all += trunc(ldexp((double)products[i], -unit));
    return (float)ldexp(all, unit);
}

/* The sum of one output, of products as they come. */
struct nd_mock_integers {
    int64_t sum = 0;
    void add(float left, float right) {
        sum += (int64_t)left * (int64_t)right;
    }
    void store(void *y, int64_t at) {
        static_cast<int32_t *>(y)[at] = (int32_t)sum;
    }
};

struct nd_mock_e4m3 {
    float sum = 0, products[32];
    int count = 0;
    void add(float left, float right) {
        products[count++] = left * right;
        if (count < 32) return;
        sum = nd_mock_joined(sum, products, count);
        count = 0;
    }
    void store(void *y, int64_t at) {
        static_cast<float *>(y)[at] = nd_mock_joined(sum, products, count);
    }
};

#endif
