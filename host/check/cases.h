/* What the files of host/check share. */
#ifndef ND_CHECK_CASES_H
#define ND_CHECK_CASES_H

#include "base/rng.h"
#include "check/check.h"

/* For tables of cases: strides and dilations of 1, and the window of a 3x3 that keeps the size. */
#define ND_ONE                                                                                               \
    { 1, 1 }
#define ND_3X3                                                                                               \
    {                                                                                                        \
        {3, 3}, ND_ONE, ND_ONE, {                                                                            \
            1, 1, 1, 1                                                                                       \
        }                                                                                                    \
    }

/* Rounding of a precision, as relative errors. */
typedef struct nd_rounding {
    double sum;     /* of one accumulation */
    double product; /* of a product, from rounding its operands */
    double store;   /* of a stored value */
} nd_rounding;

/* One case. `make` fills work (dims as row-major views), its weights, x and x2; `expect` fills expected and
 * slack. Everything lives in the arena. Values are representable in the precision. */
typedef struct nd_problem {
    nd_work work;
    nd_rounding rounding;
    nd_dtype storage;
    nd_rng rng;
    nd_arena arena;
    const struct nd_check_epilogue *epilogue; /* of operations that have `epilogues`; else NULL */
    bool repeat[nd_rank_max];                 /* axes on which x2 has one element, read everywhere */
    float *x, *x2;                            /* row-major; x2 over its own dims */
    double *expected;                         /* row-major over y */
    double *slack;                            /* error allowed before the result is stored */
    bool quantised; /* x, x2 and expected are in 8 bits, but what the work says is fp32 */
    bool e4m3;      /* those are in this, else integers */
} nd_problem;

/* What may follow an operation within its kernel. */
typedef struct nd_check_epilogue {
    const char *suffix; /* of the case's title */
    bool residual;
    nd_activation act;
} nd_check_epilogue;

typedef struct nd_check_operation {
    const char *name; /* the stem of the file */
    int count;
    const char *(*title)(int index); /* of a case: "3x3_s2" */
    nd_status (*make)(nd_problem *problem, int index);
    nd_status (*expect)(nd_problem *problem);
    bool epilogues; /* every case with every epilogue of nd_problem.epilogue; else once */
} nd_check_operation;

extern const nd_check_operation nd_check_conv, nd_check_conv_small, nd_check_separable,
    nd_check_separable_small, nd_check_gemm, nd_check_pool, nd_check_binary, nd_check_activation,
    nd_check_affine, nd_check_softmax, nd_check_lrn, nd_check_reduce, nd_check_normalize, nd_check_product,
    nd_check_resample, nd_check_gather, nd_check_copy, nd_check_fill, nd_check_quantize, nd_check_dequantize;

/* An identity: of transfers, or of linear algebra. error <= bound passes; `detail` says which identity was
 * worst. */
typedef struct nd_identity {
    nd_backend *backend;
    nd_precision precision; /* of what is moved; linear algebra has its own */
    nd_rng rng;
    nd_arena arena;
    double error, bound;
    char detail[256];
} nd_identity;

typedef struct nd_check_identities {
    const char *name;
    int count;
    const char *(*title)(int index);
    nd_status (*run)(nd_identity *identity, int index);
} nd_check_identities;

extern const nd_check_identities nd_check_transfer, nd_check_svd, nd_check_eigen, nd_check_solve,
    nd_check_accumulate, nd_check_matmul;

/* Keeps the worst of several comparisons, by error / bound. A NaN is worse than anything. */
void nd_identity_note(nd_identity *identity, double error, double bound, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Numbers that find bugs: normal ones times `scale`, with zeros, some far larger and some far smaller, all
 * representable in the problem's storage type. NULL when out of memory. */
float *nd_problem_numbers(nd_problem *problem, int64_t count, double scale);

/* x from work.x, x2 where the work has a residual, expected and slack from work.y. */
nd_status nd_problem_operands(nd_problem *problem);
nd_status nd_problem_results(nd_problem *problem);

/* Adds bias[channel], residual and activation to what `expected` holds, and turns slack, which holds the sum
 * of magnitudes of each element, into an error: `length` additions of such sums. Channel = axis 1. */
void nd_problem_finish(nd_problem *problem, double length);

/* The same in double; and how much it can stretch an error. */
double nd_check_activate(nd_activation activation, double x);

/* A problem made and expected in fp32 becomes one of 8-bit integers: scales by the ranges of its numbers,
 * zeros by turns, and expected by the definition in run/quantized.h, to the bit; or of e4m3, expected before
 * it is stored, with what rounding of sums may do. False for kinds and activations that have no such form. */
nd_status nd_problem_quantize(nd_problem *problem, bool *done);

/* expected = dense convolution of x with kernel[no][ni/groups][kh][kw], as patches times kernel; slack = the
 * same of magnitudes, with `absolute` for |kernel| (which for a product of kernels is not its |.|). */
nd_status nd_check_convolve(nd_problem *problem, const double *kernel, const double *absolute);

#endif
