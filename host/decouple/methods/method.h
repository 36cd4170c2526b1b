/* The four questions every method answers, so that allocation, sweeps and combinations never name a method.
 */
#ifndef ND_DECOUPLE_METHOD_H
#define ND_DECOUPLE_METHOD_H

#include "decouple/chain.h"
#include "decouple/methods/ranks.h"
#include "run/backend.h"

/* Second moments of a layer's input patches and of its target (decouple/fit/moments.h). NULL where a layer is
 * decoupled from its weights alone. */
typedef struct nd_moments nd_moments;

/* A rank is a number of terms R of the layer (T * channels when uniform), or the width of the bottleneck; in
 * combinations see combine.c. Valid ranks are multiples of step, from step to max_rank. */
typedef struct nd_method {
    const char *name;
    const char *text;
    bool (*applies)(const nd_conv *conv);
    int64_t (*max_rank)(const nd_conv *conv);
    /* Smallest useful change of rank: ni for uniform dwpw, the number of groups for adaptive. */
    int64_t (*step)(const nd_conv *conv, nd_ranks ranks);
    int64_t (*channels)(const nd_conv *conv); /* ranks in one "T": R = T * channels */
    /* The chain at a rank without its weights, into an empty one: what it costs follows. Where ranks are
     * adaptive the weights may come to need less. */
    void (*shape)(const nd_conv *conv, nd_ranks ranks, int64_t rank, nd_chain *out);
    /* From the weights alone: error2[r] = squared Frobenius error of the kernel at rank r*step,
     * r = 0..max_rank/step, error2[0] = |W|^2; energy[r] = unweighted mean over the slices with energy of
     * the share their kept singular values have (method.md, "Ranks"). Both malloc'd. With data the error by
     * rank is measured after the refit instead (decouple/curves/curves.c): a spectrum knows nothing of what
     * refitting wins back. */
    nd_status (*spectrum)(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, double **error2,
                          double **energy, size_t *count);
    /* With moments: also chosen and refitted on data (method.md, "Choosing filters" and "Refit"). */
    nd_status (*decompose)(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                           const nd_moments *moments, nd_chain *out);
    /* A chain that was fitted to the moments of a part of the images, fitted to those of all of them: from
     * where it is, which takes less than decompose does. NULL where decompose is to begin anew. */
    nd_status (*refine)(nd_backend *backend, const nd_conv *conv, const nd_moments *moments, nd_chain *chain);
    /* A fit through the activation that follows derives all stages anew from every new target, by decompose
     * on its moments (method.md, "Through the activation"), instead of the last stage alone. */
    bool redone;
    bool pointwise; /* for layers without a spatial kernel, which no other method is for */
} nd_method;

extern const nd_method *const nd_method_table[];   /* NULL-ended: dwpw, pwdw, spatial, channel, ... */
const nd_method *nd_method_find(const char *name); /* NULL when unknown */

/* Cost at a rank; MACs of one image. */
int64_t nd_method_macs(const nd_method *method, const nd_conv *conv, nd_ranks ranks, int64_t rank);
int64_t nd_method_params(const nd_method *method, const nd_conv *conv, nd_ranks ranks, int64_t rank);

extern const nd_method nd_method_dwpw, nd_method_pwdw, nd_method_spatial, nd_method_channel;
extern const nd_method nd_method_dwpw_lowrank, nd_method_prune, nd_method_lowrank;
extern const nd_method nd_method_spatial_dwpw, nd_method_channel_dwpw, nd_method_channel_pwdw;
extern const nd_method nd_method_spatial_channel, nd_method_spatial_channel_pwdw;
extern const nd_method nd_method_prune_dwpw, nd_method_prune_pwdw, nd_method_prune_channel;
extern const nd_method nd_method_prune_channel_pwdw, nd_method_prune_spatial_channel;
extern const nd_method nd_method_prune_spatial_channel_pwdw;

#endif
