/* The four questions every method answers, so that allocation, sweeps and combinations never name a method.
 */
#ifndef ND_DECOUPLE_METHOD_H
#define ND_DECOUPLE_METHOD_H

#include "decouple/chain.h"
#include "run/backend.h"

/* Second moments of a layer's input patches and of its target (recipe, 1.1): K = ni/groups * kh * kw per
 * group. NULL where a method works from the weights alone. Layout in decouple/moments.h. */
typedef struct nd_moments nd_moments;

typedef enum nd_ranks { nd_ranks_uniform, nd_ranks_adaptive } nd_ranks;

/* A rank is a number of terms R of the layer (T * channels when uniform), or the width of the bottleneck. */
typedef struct nd_method {
    const char *name;
    const char *text;
    bool (*applies)(const nd_conv *conv);
    int64_t (*max_rank)(const nd_conv *conv);
    int64_t (*step)(const nd_conv *conv,
                    nd_ranks ranks); /* smallest useful change of rank: ni for uniform dwpw, 1 for adaptive */
    int64_t (*macs)(const nd_conv *conv, int64_t rank); /* one image, without decomposing */
    int64_t (*params)(const nd_conv *conv, int64_t rank);
    /* error2[r] = squared Frobenius error of the kernel at rank r*step, r = 0..max_rank/step; error2[0] =
     * |W|^2. */
    nd_status (*spectrum)(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, const nd_moments *moments,
                          double **error2, size_t *count);
    nd_status (*decompose)(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                           const nd_moments *moments, nd_chain *out);
} nd_method;

extern const nd_method *const nd_method_table[];   /* NULL-ended: dwpw, pwdw, spatial, channel, ... */
const nd_method *nd_method_find(const char *name); /* NULL when unknown */

#endif
