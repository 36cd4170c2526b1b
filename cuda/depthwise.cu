/* Depthwise convolution in NHWC, any number of filters per channel: the first half of a separable layer when
 * it is not fused, and grouped convolutions with one input channel per group.
 *
 * Kernel 1, nd_depthwise_any: any window, stride, dilation and any channel index.
 *   A thread makes 4 neighbouring columns of one row for one filter; a warp is 32 neighbouring filters, so that
 *   the store is coalesced and the reads of x are neighbours or the same. kh*kw reads of x (cache), kh*kw/4
 *   of weights, 1 write and 2*kh*kw flops per output.
 *
 * Kernel 2, nd_depthwise_3x3: 3x3, stride 1, no dilation, 1 to 4 filters for every channel (T).
 *   A thread owns 2 channels, keeps their 18*T weights in registers and walks along a row with a window of 3x3
 *   columns of which 3 are new: 3 reads of 2 channels make 2*T outputs, each x is read from memory once for all T
 *   and from cache for the two other rows. Stores are 2*T neighbours of one thread, 64*T of a warp.
 *   Bytes per pixel and channel: (1 + T) elements; 18*T flops. At T = 3 in fp16 that is 8 bytes and 54 flops,
 *   6.75 flops per byte: below the fp32 balance of every GPU of interest (H100: 20), so memory decides.
 */
#include "cuda/launch.cuh"

enum { nd_depthwise_lanes = 32, nd_depthwise_warps = 4, nd_depthwise_columns = 4 };

/* One row segment of outputs: `run` columns from `column`. */
struct nd_segment {
    int64_t image;
    int row, column;
    bool live;
};

__device__ static nd_segment nd_segment_at(const nd_cuda_depthwise &p, int64_t segment, int run) {
    const int64_t per_row = (p.out_width + run - 1) / run;
    nd_segment at;
    at.column = (int)(segment % per_row) * run;
    segment /= per_row;
    at.row = (int)(segment % p.out_height);
    at.image = segment / p.out_height;
    at.live = at.image < p.images;
    return at;
}

template <class T>
__global__ void __launch_bounds__(nd_depthwise_lanes *nd_depthwise_warps, 4)
    nd_depthwise_any(nd_cuda_depthwise p, const T *__restrict__ x, T *__restrict__ y) {
    constexpr int columns = nd_depthwise_columns;
    const int64_t term = (int64_t)blockIdx.y * nd_depthwise_lanes + threadIdx.x;
    const nd_segment at = nd_segment_at(p, (int64_t)blockIdx.x * nd_depthwise_warps + threadIdx.y, columns);
    if (term >= p.terms || !at.live) return;
    const nd_geometry &g = p.geometry;
    const int64_t first = at.column * g.stride[1] - g.pad[1];
    float sum[columns] = {};
    x += at.image * p.height * p.width * p.x_pixel + p.channel[term];
    for (int64_t i = 0; i < g.kernel[0]; i++) {
        const int64_t h = at.row * g.stride[0] - g.pad[0] + i * g.dilation[0];
        if (h < 0 || h >= p.height) continue;
        const T *row = x + h * p.width * p.x_pixel;
        for (int64_t j = 0; j < g.kernel[1]; j++) {
            const float weight = p.filters[(i * g.kernel[1] + j) * p.terms + term];
            for (int o = 0; o < columns; o++) {
                const int64_t w = first + o * g.stride[1] + j * g.dilation[1];
                if (w >= 0 && w < p.width) sum[o] = fmaf(weight, nd_load(row[w * p.x_pixel]), sum[o]);
            }
        }
    }
    const float bias = p.bias ? p.bias[term] : 0;
    y += ((at.image * p.out_height + at.row) * p.out_width + at.column) * p.y_pixel + term;
    for (int o = 0; o < columns; o++)
        if (at.column + o < p.out_width)
            nd_store(&y[o * p.y_pixel], nd_activate(p.activation, sum[o] + bias));
}

/* Elements of one store: 2 * per outputs, in the widest pieces that a power of two allows. */
template <class T, int per> struct nd_depthwise_piece {
    static constexpr int count = per % 2 ? 2 : per == 4 && sizeof(T) == 2 ? 8 : 4;
};

/* Two channels of the three rows above, at and below the output, at column w; zero outside the image. */
template <class T> struct nd_depthwise_rows {
    const T *row[3];
    bool live[3];
    int64_t width, pixel;

    __device__ void load(int64_t w, float (&column)[3][2]) const {
        const bool inside = w >= 0 && w < width;
        for (int i = 0; i < 3; i++) {
            column[i][0] = column[i][1] = 0;
            if (!inside || !live[i]) continue;
            const nd_pack<T, 2> pair = *reinterpret_cast<const nd_pack<T, 2> *>(row[i] + w * pixel);
            column[i][0] = nd_load(pair.value[0]);
            column[i][1] = nd_load(pair.value[1]);
        }
    }
};

/* Four blocks on a multiprocessor while 128 registers hold the weights; with T = 4 they need more. */
template <class T, int per>
__global__ void __launch_bounds__(nd_depthwise_lanes *nd_depthwise_warps, per <= 3 ? 4 : 3)
    nd_depthwise_3x3(nd_cuda_depthwise p, int run, const T *__restrict__ x, T *__restrict__ y) {
    constexpr int piece = nd_depthwise_piece<T, per>::count;
    const int64_t channel = 2 * ((int64_t)blockIdx.y * nd_depthwise_lanes + threadIdx.x);
    const nd_segment at = nd_segment_at(p, (int64_t)blockIdx.x * nd_depthwise_warps + threadIdx.y, run);
    if (channel >= p.channels || !at.live) return;

    float weight[9][2 * per], bias[2 * per];
    for (int tap = 0; tap < 9; tap++)
        for (int i = 0; i < 2 * per; i++) weight[tap][i] = p.filters[tap * p.terms + channel * per + i];
    for (int i = 0; i < 2 * per; i++) bias[i] = p.bias ? p.bias[channel * per + i] : 0;

    nd_depthwise_rows<T> rows;
    rows.width = p.width;
    rows.pixel = p.x_pixel;
    for (int i = 0; i < 3; i++) {
        const int64_t h = at.row - p.geometry.pad[0] + i;
        rows.live[i] = h >= 0 && h < p.height;
        rows.row[i] = x + (at.image * p.height + (rows.live[i] ? h : 0)) * p.width * p.x_pixel + channel;
    }
    const int64_t first = at.column - p.geometry.pad[1];
    const int end = at.column + run < p.out_width ? run : (int)(p.out_width - at.column);
    float window[3][3][2]; /* [column][row][channel] */
    rows.load(first, window[0]);
    rows.load(first + 1, window[1]);
    y += ((at.image * p.out_height + at.row) * p.out_width + at.column) * p.y_pixel + channel * per;
    ND_UNROLL_BY(3)
    for (int o = 0; o < end; o++) {
        rows.load(first + o + 2, window[2]);
        for (int part = 0; part < 2 * per / piece; part++) {
            nd_pack<T, piece> out;
            for (int i = 0; i < piece; i++) {
                const int output = part * piece + i, c = output / per;
                float sum = bias[output];
                for (int tap = 0; tap < 9; tap++)
                    sum = fmaf(weight[tap][output], window[tap % 3][tap / 3][c], sum);
                nd_store(&out.value[i], nd_activate(p.activation, sum));
            }
            *reinterpret_cast<nd_pack<T, piece> *>(y + o * p.y_pixel + part * piece) = out;
        }
        for (int i = 0; i < 3; i++)
            for (int c = 0; c < 2; c++) {
                window[0][i][c] = window[1][i][c];
                window[1][i][c] = window[2][i][c];
            }
    }
}

/* A long run reads its weights once for many outputs, but a small image needs every thread it can get. */
static int nd_depthwise_run(const nd_cuda_depthwise *call) {
    const int64_t threads_wanted = 256 * 1024;
    const int64_t rows = call->images * call->out_height * ((call->channels + 1) / 2);
    int64_t pieces = 1;
    while (rows * pieces < threads_wanted && call->out_width / pieces > 4) pieces++;
    return (int)((call->out_width + pieces - 1) / pieces);
}

static bool nd_depthwise_is_3x3(const nd_cuda_depthwise *call) {
    const nd_geometry *g = &call->geometry;
    for (int i = 0; i < 2; i++)
        if (g->kernel[i] != 3 || g->stride[i] != 1 || g->dilation[i] != 1) return false;
    if (call->uniform < 1 || call->uniform > 4 || call->terms != call->channels * call->uniform) return false;
    const int64_t size = (int64_t)nd_dtype_bytes(call->storage);
    const int64_t piece = call->uniform % 2 ? 2 : call->uniform == 4 && size == 2 ? 8 : 4;
    return call->channels % 2 == 0 && call->x_pixel % 2 == 0 && call->y_pixel % piece == 0 &&
           (uintptr_t)call->x % (uintptr_t)(2 * size) == 0 &&
           (uintptr_t)call->y % (uintptr_t)(piece * size) == 0;
}

const char *nd_cuda_depthwise_name(const nd_cuda_depthwise *call) {
    static const char *const names[] = {"nd:depthwise:any", "nd:depthwise:3x3_t1", "nd:depthwise:3x3_t2",
                                        "nd:depthwise:3x3_t3", "nd:depthwise:3x3_t4"};
    return names[nd_depthwise_is_3x3(call) ? call->uniform : 0];
}

static dim3 nd_depthwise_grid(const nd_cuda_depthwise *call, int run, int64_t across) {
    const int64_t segments = call->images * call->out_height * ((call->out_width + run - 1) / run);
    return dim3((unsigned)((segments + nd_depthwise_warps - 1) / nd_depthwise_warps),
                (unsigned)((across + nd_depthwise_lanes - 1) / nd_depthwise_lanes));
}

nd_status nd_cuda_depthwise_launch(const nd_cuda_depthwise *call) {
    if (!call->images || !call->out_height || !call->out_width || !call->terms) return nd_status_ok;
    const dim3 block(nd_depthwise_lanes, nd_depthwise_warps);
    return nd_with_storage(call->storage, [&](auto element) {
        using T = decltype(element);
        const T *x = static_cast<const T *>(call->x);
        T *y = static_cast<T *>(call->y);
        if (!nd_depthwise_is_3x3(call))
            return nd_launch(nd_depthwise_any<T>, nd_depthwise_grid(call, nd_depthwise_columns, call->terms),
                             block, 0, call->stream, *call, x, y);
        void (*const kernels[])(nd_cuda_depthwise, int, const T *, T *) = {
            nd_depthwise_3x3<T, 1>, nd_depthwise_3x3<T, 2>, nd_depthwise_3x3<T, 3>, nd_depthwise_3x3<T, 4>};
        const int run = nd_depthwise_run(call);
        return nd_launch(kernels[call->uniform - 1], nd_depthwise_grid(call, run, call->channels / 2), block,
                         0, call->stream, *call, run, x, y);
    });
}
