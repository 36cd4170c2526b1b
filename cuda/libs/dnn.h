/* cuDNN 9 through its C backend API: the dense convolution that everything else is measured against.
 *
 * A problem becomes an operation graph (convolution, then residual, bias and ReLU where wanted). Candidates
 * are the union of heuristics modes A, B and FALLBACK; those whose numerical notes break the declared
 * precision are dropped: strict fp32 takes no tensor cores and no down-conversion, nothing may accumulate
 * below fp32. With `tune` every remaining plan under the workspace limit is checked against our direct kernel
 * and timed, the legacy non-fused Winograd too, and the winner is kept on disk under (shape, layout,
 * precision, device, driver, libraries); otherwise the first that builds is taken. Engines that cuDNN
 * compiles when a plan is built come last, two of them, and no engine is begun when ND_CUDA_TUNE_SECONDS (2)
 * are over: how many were not tried is logged. A plan is built once a process and shared by all kernels of
 * its problem. Activations other than ReLU follow in a kernel of ours. If no engine runs the whole graph, the
 * bare convolution does and our epilogue kernel follows.
 *
 * Of int8 and e4m3 a problem is the sums alone: signed integers and y of int32, or e4m3 and y of fp32, no
 * epilogue (cuda/quantized makes and takes them). They are not tuned, as what is verified here are real
 * numbers: the first on tensor cores that builds is taken, which cuDNN compiles, in a second or two a
 * problem. */
#ifndef ND_CUDA_DNN_H
#define ND_CUDA_DNN_H

#include "cuda/device.h"

nd_status nd_dnn_open(nd_cuda *cuda, nd_dnn **out);
void nd_dnn_close(nd_dnn *dnn); /* NULL is legal */
const char *nd_dnn_version(char *text, size_t size);

/* Layouts are those of the work's views: both channels-last or both row-major. The filter follows: with
 * channels_last [no][kh][kw][ni/groups], else [no][ni/groups][kh][kw]. */
typedef struct nd_dnn_problem {
    nd_work work; /* views, window, groups, residual, activation; pointers are not followed */
    nd_precision precision;
    bool bias, channels_last;
} nd_dnn_problem;

typedef struct nd_dnn_operands {
    const void *x, *w, *bias_stored, *x2;
    const float *bias; /* the same as bias_stored in fp32, for the epilogue */
    void *y, *workspace;
} nd_dnn_operands;

typedef struct nd_dnn_plan nd_dnn_plan;

/* nd_status_unsupported when cuDNN has nothing for it. */
nd_status nd_dnn_plan_make(nd_cuda *cuda, const nd_dnn_problem *problem, nd_dnn_plan **out);
/* Whether it would have, untuned: that plan is built, and kept for the kernels to come. */
bool nd_dnn_has(const nd_cuda *cuda, const nd_dnn_problem *problem);
void nd_dnn_plan_free(nd_dnn_plan *plan); /* NULL is legal */
size_t nd_dnn_plan_workspace(const nd_dnn_plan *plan);
bool nd_dnn_plan_transformed(const nd_dnn_plan *plan); /* by Winograd or Fourier: see bound.h */
const char *
nd_dnn_plan_name(const nd_dnn_plan *plan); /* "cudnn:eng62,k2=1,k5=3" and "+epilogue" where ours follows */
nd_status nd_dnn_plan_run(nd_dnn_plan *plan, const nd_dnn_operands *operands);

/* What the heuristics of a device propose that need not be here: `properties` is cuDNN's JSON of the device.
 * Visits every distinct candidate in order of preference; usable says whether its notes keep the precision,
 * workspace is -1 where its plan does not build. */
typedef struct nd_dnn_engine {
    const char *name, *notes; /* notes: "tensor_core winograd", ... */
    bool usable;
    int64_t workspace;
} nd_dnn_engine;

typedef nd_status nd_dnn_visit(void *context, const nd_dnn_engine *engine);
nd_status nd_dnn_engines(const nd_dnn_problem *problem, const char *properties, nd_dnn_visit *visit,
                         void *context);

#endif
