/* Depthwise convolution in NHWC, any number of filters per channel: the first half of a separable layer when
 * it is not fused, and grouped convolutions with one input channel per group.
 *
 * Kernel 1, nd_depthwise_any: any window, stride, dilation and any channel index.
 *   A thread makes 4 neighbouring columns of one row for one filter; a warp is 32 neighbouring filters, so
 * that the store is coalesced and the reads of x are neighbours or the same. kh*kw reads of x (cache),
 * kh*kw/4 of weights, 1 write and 2*kh*kw flops per output.
 *
 * Kernel 2, nd_depthwise_slide: 3x3 with 1 to 8 filters for every channel (T), 5x5 with 1 to 4; stride 1 or 2
 * on both axes, no dilation. A thread owns 2 channels, or 1 where the filters of two would not fit, keeps
 * their filters in registers and moves along a row with a window of k x k pixels of which k x stride are new:
 * for 3x3, stride 1, 3 reads of 2 channels make 2*T outputs. Each x is read from memory once for all T, and
 * from cache for the rows beside. Stores are the 2*T (or T) neighbours of one thread, in the widest pieces
 * that a power of two allows. Bytes per pixel and channel: (1 + T) elements; 18*T flops. At T = 3 in fp16
 * that is 8 bytes and 54 flops, 6.75 flops per byte: below the fp32 balance of every GPU of interest (H100:
 * 20), so memory decides. 5x5 at T = 4 is 20 flops per byte: there the two meet.
 */
#include "cuda/kernels/launch.cuh"

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
    const nd_window &g = p.window;
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

/* Channels of a thread, for windows of k x k and `per` filters a channel. */
constexpr int nd_slide_channels(int k, int per) {
    return k * k * per <= 36 ? 2 : 1;
}

/* Elements of one store: the widest power of two that divides a thread's outputs, at most 16 bytes. */
constexpr int nd_slide_piece(int outputs, int size) {
    return (outputs & -outputs) < 16 / size ? outputs & -outputs : 16 / size;
}

template <class T, int k, int per> struct nd_slide {
    static constexpr int channels = nd_slide_channels(k, per), outputs = channels * per;
    static constexpr int piece = nd_slide_piece(outputs, (int)sizeof(T));
    /* Filters, window and sums stay in registers beside addresses and what is unrolled: as many blocks as
     * that leaves. */
    static constexpr int registers = k * k * (outputs + channels) + outputs + 8 * k + 16;
    static constexpr int blocks = registers <= 128 ? 4 : registers <= 168 ? 3 : 2;
};

/* The k rows of x that a row of outputs reads, from a thread's first channel on; zero outside the image. */
template <class T, int k, int channels> struct nd_slide_rows {
    const T *row[k];
    bool live[k];
    int64_t width, pixel;

    __device__ void load(int64_t w, float (&column)[k][channels]) const {
        const bool inside = w >= 0 && w < width;
        for (int i = 0; i < k; i++) {
            nd_pack<T, channels> read = {};
            if (inside && live[i]) read = *reinterpret_cast<const nd_pack<T, channels> *>(row[i] + w * pixel);
            for (int c = 0; c < channels; c++) column[i][c] = nd_load(read.value[c]);
        }
    }
};

template <class T, int k, int stride, int per>
__global__ void __launch_bounds__(nd_depthwise_lanes *nd_depthwise_warps, nd_slide<T, k, per>::blocks)
    nd_depthwise_slide(nd_cuda_depthwise p, int run, const T *__restrict__ x, T *__restrict__ y) {
    using slide = nd_slide<T, k, per>;
    constexpr int channels = slide::channels, outputs = slide::outputs, piece = slide::piece;
    const int64_t channel = channels * ((int64_t)blockIdx.y * nd_depthwise_lanes + threadIdx.x);
    const nd_segment at = nd_segment_at(p, (int64_t)blockIdx.x * nd_depthwise_warps + threadIdx.y, run);
    if (channel >= p.channels || !at.live) return;

    float weight[k * k][outputs], bias[outputs];
    for (int tap = 0; tap < k * k; tap++)
        for (int i = 0; i < outputs; i++) weight[tap][i] = p.filters[tap * p.terms + channel * per + i];
    for (int i = 0; i < outputs; i++) bias[i] = p.bias ? p.bias[channel * per + i] : 0;

    nd_slide_rows<T, k, channels> rows;
    rows.width = p.width;
    rows.pixel = p.x_pixel;
    for (int i = 0; i < k; i++) {
        const int64_t h = at.row * stride - p.window.pad[0] + i;
        rows.live[i] = h >= 0 && h < p.height;
        rows.row[i] = x + (at.image * p.height + (rows.live[i] ? h : 0)) * p.width * p.x_pixel + channel;
    }
    const int64_t first = (int64_t)at.column * stride - p.window.pad[1];
    const int end = at.column + run < p.out_width ? run : (int)(p.out_width - at.column);
    float window[k][k][channels]; /* [column][row][channel] */
    for (int j = 0; j < k - stride; j++) rows.load(first + j, window[j]);
    y += ((at.image * p.out_height + at.row) * p.out_width + at.column) * p.y_pixel + channel * per;
    ND_UNROLL_BY(stride == 1 ? k : 1) /* so that the window moves by renaming; little of it moves by 2 */
    for (int o = 0; o < end; o++) {
        for (int j = k - stride; j < k; j++) rows.load(first + o * stride + j, window[j]);
        for (int part = 0; part < outputs / piece; part++) {
            nd_pack<T, piece> out;
            for (int i = 0; i < piece; i++) {
                const int output = part * piece + i, c = output / per;
                float sum = bias[output];
                for (int tap = 0; tap < k * k; tap++)
                    sum = fmaf(weight[tap][output], window[tap % k][tap / k][c], sum);
                nd_store(&out.value[i], nd_activate(p.activation, sum));
            }
            *reinterpret_cast<nd_pack<T, piece> *>(y + o * p.y_pixel + part * piece) = out;
        }
        for (int j = 0; j < k - stride; j++)
            for (int i = 0; i < k; i++)
                for (int c = 0; c < channels; c++) window[j][i][c] = window[j + stride][i][c];
    }
}

/* A long run reads its weights once for many outputs, but a small image needs every thread it can get. */
static int nd_depthwise_run(const nd_cuda_depthwise *call, int channels) {
    const int64_t threads_wanted = 256 * 1024;
    const int64_t rows = call->images * call->out_height * (call->channels / channels);
    int64_t pieces = 1;
    while (rows * pieces < threads_wanted && call->out_width / pieces > 4) pieces++;
    return (int)((call->out_width + pieces - 1) / pieces);
}

/* Whether kernel 2 serves a call: its window and stride, and addresses that its accesses divide. */
static bool nd_depthwise_slides(const nd_cuda_depthwise *call) {
    const nd_window *g = &call->window;
    const int64_t k = g->kernel[0], stride = g->stride[0], per = call->uniform;
    if (g->kernel[1] != k || g->stride[1] != stride || g->dilation[0] != 1 || g->dilation[1] != 1)
        return false;
    if ((k != 3 && k != 5) || stride > 2) return false;
    if (per < 1 || per > (k == 3 ? 8 : 4) || call->terms != call->channels * per) return false;
    const int size = (int)nd_dtype_bytes(call->storage);
    const int channels = nd_slide_channels((int)k, (int)per),
              piece = nd_slide_piece(channels * (int)per, size);
    return call->channels % channels == 0 && call->x_pixel % channels == 0 && call->y_pixel % piece == 0 &&
           (uintptr_t)call->x % (unsigned)(channels * size) == 0 &&
           (uintptr_t)call->y % (unsigned)(piece * size) == 0;
}

#define ND_FOUR(what, ...)                                                                                   \
    what(__VA_ARGS__, 1), what(__VA_ARGS__, 2), what(__VA_ARGS__, 3), what(__VA_ARGS__, 4)
#define ND_EIGHT(what, ...)                                                                                  \
    ND_FOUR(what, __VA_ARGS__), what(__VA_ARGS__, 5), what(__VA_ARGS__, 6), what(__VA_ARGS__, 7),            \
        what(__VA_ARGS__, 8)

const char *nd_cuda_depthwise_name(const nd_cuda_depthwise *call) {
#define ND_NAME(window, per) "nd:depthwise:" window "_t" #per
    static const char *const threes[2][8] = {{ND_EIGHT(ND_NAME, "3x3")}, {ND_EIGHT(ND_NAME, "3x3/2")}};
    static const char *const fives[2][4] = {{ND_FOUR(ND_NAME, "5x5")}, {ND_FOUR(ND_NAME, "5x5/2")}};
#undef ND_NAME
    if (!nd_depthwise_slides(call)) return "nd:depthwise:any";
    const int64_t stride = call->window.stride[0], per = call->uniform;
    return call->window.kernel[0] == 3 ? threes[stride - 1][per - 1] : fives[stride - 1][per - 1];
}

template <class T> using nd_slide_kernel = void(nd_cuda_depthwise, int, const T *, T *);

template <class T> static nd_slide_kernel<T> *nd_slide_kernel_of(int64_t k, int64_t stride, int64_t per) {
#define ND_KERNEL(k, stride, per) nd_depthwise_slide<T, k, stride, per>
    static nd_slide_kernel<T> *const threes[2][8] = {{ND_EIGHT(ND_KERNEL, 3, 1)},
                                                     {ND_EIGHT(ND_KERNEL, 3, 2)}};
    static nd_slide_kernel<T> *const fives[2][4] = {{ND_FOUR(ND_KERNEL, 5, 1)}, {ND_FOUR(ND_KERNEL, 5, 2)}};
#undef ND_KERNEL
    return k == 3 ? threes[stride - 1][per - 1] : fives[stride - 1][per - 1];
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
        if (!nd_depthwise_slides(call))
            return nd_launch(nd_depthwise_any<T>, nd_depthwise_grid(call, nd_depthwise_columns, call->terms),
                             block, 0, call->stream, *call, x, y);
        const int64_t k = call->window.kernel[0];
        const int channels = nd_slide_channels((int)k, (int)call->uniform),
                  run = nd_depthwise_run(call, channels);
        return nd_launch(nd_slide_kernel_of<T>(k, call->window.stride[0], call->uniform),
                         nd_depthwise_grid(call, run, call->channels / channels), block, 0, call->stream,
                         *call, run, x, y);
    });
}
