/* Sizes of the fused kernel of sm_90a that follow from a call: what lies where in shared memory, how a half
 * of a tile is cut into runs, and how much work there is. Host code; the kernel has them in its
 * constants. */
#ifndef ND_CUDA_SEPARABLE_SM90A_SHAPE_CUH
#define ND_CUDA_SEPARABLE_SM90A_SHAPE_CUH

#include "cuda/separable/separable.cuh"
#include "cuda/separable/separable_sm90a.h"

enum {
    nd_hopper_stages_max = 4,
    nd_hopper_align = 1024,
    nd_hopper_units_max = 64,
    nd_hopper_slab_bytes = nd_hopper_slab * nd_hopper_row,
};

/* Sizes that follow from a call. */
struct nd_hopper_shape {
    int height, width;                    /* of a patch, in input pixels */
    int patch_bytes, patch_next, weights; /* bytes of a patch, from one to the other; of a term's weights */
    int patch_at, stage, stages; /* bytes from a stage's begin to its patches, to the next stage; how many */
    int groups, segments, length,
        units; /* groups of columns of a half; runs of a column, rows of one; runs in all */
    int across, columns, rows, clusters; /* tiles of channels; halves along both axes; clusters of tiles */
    int whole;                           /* of the clusters and their items: made by one block each */
    int64_t left_first, left_pixels;     /* of y: those of the other clusters */
    int64_t items;                       /* of work: tiles of a cluster, parts of their rounds */
    int round_bytes;                     /* of the rows of A of a round */
    int stages_at, barriers_at, tables_at, total;
};

template <class T> constexpr int nd_hopper_channels = nd_hopper_row / (int)sizeof(T);
template <class T> constexpr int nd_hopper_each = nd_hopper_lane(false);
template <> constexpr int nd_hopper_each<nd_u8> = nd_hopper_lane(true);
template <class T> constexpr int nd_hopper_abreast = nd_hopper_columns(sizeof(T), nd_hopper_each<T>);
template <class T> /* words of constants for each channel and term */
constexpr int nd_hopper_constants = nd_hopper_taps;
template <> constexpr int nd_hopper_constants<nd_u8> = nd_hopper_integer_words;

inline int nd_hopper_ceil(int64_t a, int64_t b) {
    return (int)nd_ceil_div(a, b);
}

/* Runs of a column that keep four warps busy, and alike: a run begins with two rows of its own. */
template <class T> inline void nd_hopper_runs(const int64_t *half, nd_hopper_shape *s) {
    int64_t least = INT64_MAX;
    s->groups = nd_hopper_ceil(half[2], nd_hopper_abreast<T>);
    for (int segments = 1; segments <= half[1]; segments++) {
        const int length = nd_hopper_ceil(half[1], segments), used = nd_hopper_ceil(half[1], length);
        const int units = (int)half[0] * s->groups * used;
        const int64_t cost = (int64_t)nd_hopper_ceil(units, 4) * (length + 2);
        if (units > nd_hopper_units_max || cost >= least) continue;
        least = cost;
        s->segments = used;
        s->length = length;
        s->units = units;
    }
}

/* Whether 16 bytes of channels of y, or eight, move at once, and two of the residual; else the sums are left
 * to the kernel that joins parts. */
inline bool nd_hopper_is_aligned(const nd_cuda_separable &p) {
    const int64_t size = (int64_t)nd_dtype_bytes(nd_precision_storage(p.precision));
    const auto aligned = [&](const void *pointer, int64_t pixel) {
        return (uintptr_t)pointer % 16 == 0 && pixel * size % 16 == 0;
    };
    return p.out_channels % (size == 1 ? 16 : 8) == 0 && aligned(p.y, p.y_pixel) &&
           aligned(p.x2, p.x2_pixel); /* of no residual: 0 */
}

template <class T> inline nd_hopper_shape nd_hopper_shape_of(const nd_cuda_hopper &call) {
    const nd_cuda_separable &p = call.layer;
    const nd_window &g = p.window;
    const int limit = 227 * 1024 - nd_hopper_align, half = (int)nd_hopper_half(p.tile);
    nd_hopper_shape s = {};
    s.height = (int)((p.patch[1] - 1) * g.stride[0] + 3);
    s.width = (int)((p.patch[2] - 1) * g.stride[1] + 3);
    s.patch_bytes = (int)p.patch[0] * s.height * s.width * nd_hopper_row;
    s.patch_next = (s.patch_bytes + 127) / 128 * 128;
    s.weights = (int)p.tile * nd_hopper_row;
    s.patch_at = (int)call.terms * (s.weights + nd_hopper_constants<T> * nd_hopper_channels<T> * 4);
    s.patch_at = (s.patch_at + 127) / 128 * 128;
    s.stage = (s.patch_at + 2 * s.patch_next + 511) / 512 * 512;
    nd_hopper_runs<T>(p.patch, &s);
    s.across = nd_hopper_ceil(p.out_channels, p.tile);
    s.columns = nd_hopper_ceil(p.out_width, p.patch[2]);
    s.rows = nd_hopper_ceil(p.out_height, p.patch[1]);
    s.clusters =
        nd_hopper_ceil((int64_t)nd_hopper_ceil(p.images, p.patch[0]) * s.rows * s.columns, 2 * call.cluster);
    s.whole = !nd_hopper_is_aligned(p) ? 0 : call.whole < s.clusters ? (int)call.whole : s.clusters;
    s.items = (int64_t)s.across * (s.whole + (s.clusters - s.whole) * p.split);
    const int64_t plane = p.out_height * p.out_width, line = 2 * call.cluster * s.whole / s.columns,
                  pixels = p.images * plane;
    s.left_first = line / s.rows * p.patch[0] * plane + line % s.rows * p.patch[1] * p.out_width;
    if (s.left_first > pixels || s.whole == s.clusters) s.left_first = pixels;
    s.left_pixels = pixels - s.left_first;
    s.round_bytes = (int)call.terms * 2 * half * nd_hopper_row;
    s.stages_at = 2 * s.round_bytes;
    const int tables = 2 * nd_hopper_stages_max * 8 + (2 * nd_hopper_units_max + half) * 4;
    for (s.stages = 2; s.stages < nd_hopper_stages_max; s.stages++)
        if (s.stages_at + (s.stages + 1) * s.stage + tables > limit) break;
    s.barriers_at = s.stages_at + s.stages * s.stage;
    s.tables_at = s.barriers_at + 2 * nd_hopper_stages_max * 8;
    s.total = s.barriers_at + tables + nd_hopper_align;
    return s;
}

#endif
