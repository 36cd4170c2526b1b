/* The planner of separable layers: dense, chunked or fused. With `tune` every way is timed and the fastest kept, so a
 * layer is never slower than its dense form; ND_CUDA_SEPARABLE forces one, for the raw ratio. Without measurements
 * the choice follows the roofline: strict fp32 is bound by FFMA either way and the library's GEMM is the better
 * half, everything else wants the fused kernel. */
#include "cuda/separable.h"

#include <stdlib.h>

bool nd_separable_is_pixels(const nd_work *work) {
    int64_t distance;
    return nd_cuda_view_is_pixels(&work->x, &distance) && nd_cuda_view_is_pixels(&work->y, &distance) &&
           (!work->residual || nd_cuda_view_is_pixels(&work->x2, &distance));
}

typedef struct nd_separable_way {
    nd_cuda_route route;
    const nd_cuda_kind *kind;
} nd_separable_way;

static const nd_separable_way nd_separable_ways[] = {
    {nd_cuda_route_fused, &nd_separable_fused_kinds[2]}, {nd_cuda_route_fused, &nd_separable_fused_kinds[1]},
    {nd_cuda_route_fused, &nd_separable_fused_kinds[0]}, {nd_cuda_route_chunked, &nd_separable_chunked_kind},
    {nd_cuda_route_dense, &nd_separable_dense_kind},     {nd_cuda_route_wgmma, &nd_separable_wgmma_kind},
};

enum { nd_separable_n_ways = sizeof nd_separable_ways / sizeof *nd_separable_ways };

static bool nd_separable_wanted(const nd_cuda *cuda, const nd_separable_way *way) {
    if (cuda->route == nd_cuda_route_auto) return way->route != nd_cuda_route_wgmma;
    return way->route == cuda->route;
}

/* Without a measurement: tiles as wide as the outputs fill, and strict fp32 in two steps. */
static bool nd_separable_guess(const nd_cuda *cuda, const nd_work *work, nd_precision precision,
                               const nd_separable_way *way) {
    const int64_t no = work->y.dims[1];
    if (way->route != nd_cuda_route_fused) return true;
    if (precision == nd_precision_fp32 && cuda->route != nd_cuda_route_fused) return false;
    if (way->kind == &nd_separable_fused_kinds[2]) return no > 128;
    if (way->kind == &nd_separable_fused_kinds[1]) return no > 64;
    return true;
}

/* The winner's contents become the kernel's; the shell it came in goes. */
static void nd_separable_adopt(nd_kernel *kernel, nd_kernel *winner) {
    *kernel = *winner;
    free(winner);
}

static nd_status nd_separable_measure(nd_kernel *kernel, const nd_work *work) {
    nd_cuda *cuda = kernel->cuda;
    nd_kernel *best = NULL, *other;
    double best_ns = 0, ns;
    for (int i = 0; i < nd_separable_n_ways; i++) {
        const nd_separable_way *way = &nd_separable_ways[i];
        if (!nd_separable_wanted(cuda, way)) continue;
        if (!way->kind->supports(cuda, work, kernel->precision)) continue;
        if (nd_cuda_kernel_make(cuda, way->kind, work, kernel->precision, &other)) continue;
        const bool timed = !nd_cuda_kernel_time(other, &ns);
        if (!timed || (best && ns >= best_ns)) {
            nd_cuda_kernel_release(other);
            continue;
        }
        nd_cuda_kernel_release(best);
        best = other;
        best_ns = ns;
    }
    ND_REQUIRE(best, nd_status_unsupported, "no way to run this separable layer: %s", nd_error());
    nd_separable_adopt(kernel, best);
    return nd_status_ok;
}

static nd_status nd_separable_prepare(nd_kernel *kernel, const nd_work *work) {
    nd_cuda *cuda = kernel->cuda;
    nd_kernel *made;
    if (cuda->tune) return nd_separable_measure(kernel, work);
    nd_status status = nd_fail(nd_status_unsupported, "no way to run this separable layer");
    for (int i = 0; i < nd_separable_n_ways; i++) {
        const nd_separable_way *way = &nd_separable_ways[i];
        if (!nd_separable_wanted(cuda, way)) continue;
        if (!way->kind->supports(cuda, work, kernel->precision)) continue;
        if (!nd_separable_guess(cuda, work, kernel->precision, way)) continue;
        status = nd_cuda_kernel_make(cuda, way->kind, work, kernel->precision, &made);
        if (status == nd_status_unsupported) continue;
        if (!status) nd_separable_adopt(kernel, made);
        return status;
    }
    return status;
}

static bool nd_separable_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    (void)cuda;
    (void)precision;
    return nd_separable_is_pixels(work);
}

const nd_cuda_kind nd_cuda_separable_kind = {nd_separable_supports, nd_separable_prepare};

/* W[o][c] = sum over the terms r of channel c of P[o][r] D[r]: the convolution that the layer stands for. */
static nd_status nd_separable_dense_prepare(nd_kernel *kernel, const nd_work *work) {
    const int64_t no = work->y.dims[1], ni = work->x.dims[1];
    const int64_t taps = work->geometry.kernel[0] * work->geometry.kernel[1];
    float *weights = nd_alloc_array((size_t)(no * ni * taps), sizeof *weights);
    ND_REQUIRE(weights, nd_status_memory, "no memory for %lldx%lld filters", (long long)no, (long long)ni);
    for (int64_t o = 0; o < no; o++)
        for (int64_t r = 0; r < work->terms; r++) {
            float *filter = weights + (o * ni + work->channel[r]) * taps;
            const float scale = work->weights[o * work->terms + r];
            for (int64_t t = 0; t < taps; t++) filter[t] += scale * work->depthwise[r * taps + t];
        }
    nd_work dense = *work;
    dense.kind = nd_kind_conv;
    dense.groups = 1;
    dense.weights = weights;
    nd_kernel *made;
    nd_status status =
        nd_cuda_kernel_make(kernel->cuda, &nd_cuda_conv_kind, &dense, kernel->precision, &made);
    free(weights);
    ND_TRY(status);
    nd_separable_adopt(kernel, made);
    return nd_status_ok;
}

static bool nd_separable_dense_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    return nd_cuda_conv_kind.supports(cuda, work, precision);
}

const nd_cuda_kind nd_separable_dense_kind = {nd_separable_dense_supports, nd_separable_dense_prepare};
