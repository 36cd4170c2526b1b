/* Runs one operation on the cpu backend and on ref's loops and compares them. Shared by test_cpu_*.c. */
#ifndef ND_TESTS_CPU_CASE_H
#define ND_TESTS_CPU_CASE_H

#include "base/rng.h"
#include "run/plugins.h"

typedef struct cpu_case {
    nd_work work; /* weights, bias, ... point at seeded numbers owned by the case */
    float *x, *x2, *y, *expected;
    size_t x_count, x2_count, y_count; /* elements of the buffers */
    double scale;                      /* largest |output| before the activation */
    nd_arena arena;
} cpu_case;

/* Fills x, x2 and the outputs of a work whose views are set; y is pre-filled with a pattern that must survive
 * wherever the view does not reach. */
void cpu_case_fill(cpu_case *c, nd_rng *rng);
float *cpu_case_numbers(cpu_case *c, nd_rng *rng, int64_t count);
void cpu_case_free(cpu_case *c);

/* NULL where the processor lacks the isa. */
nd_backend *cpu_case_open(const char *isa, int threads, const char *prefer);

/* Prepares, runs (twice, with the same result), and returns the largest |difference| from ref over the
 * scale. The engine that ran is copied to `engine`. The output stays in c->y. */
double cpu_case_error(cpu_case *c, nd_backend *backend, nd_precision precision, char engine[64]);

/* A separable work over channels-last images. rank[i] terms for channel i, cycled over `rank_period`. */
typedef struct cpu_separable {
    int n, ni, h, w, no, kernel_h, kernel_w, stride, pad, dilation;
    int ranks[4], rank_period;
    nd_act act;
    bool bias, residual;
} cpu_separable;
void cpu_case_separable(cpu_case *c, const cpu_separable *s, uint64_t seed);

#endif
