/* Depthwise convolution in NHWC, any number of filters per channel: the first half of a separable layer
 * when it is not fused, and grouped convolutions with one input channel per group.
 *
 * Kernel 1, nd_depthwise_any: any window, stride, dilation and any channel index.
 *   A thread makes 4 neighbouring columns of one row for one filter; a warp is 32 neighbouring filters, so
 * that the store is coalesced and the reads of x are neighbours or the same. kh*kw reads of x (cache),
 * kh*kw/4 of weights, 1 write and 2*kh*kw flops per output.
 *
 * Kernel 2, nd_depthwise_slide: 3x3 with 1 to 8 filters for every channel (T), 5x5 with 1 to 4; stride 1 or
 * 2 on both axes, no dilation. A warp makes a run of one row for 64 channels, or for 32 where the filters
 * of two channels a thread would not fit: it keeps their filters in registers and moves along the row with
 * a window of k x k pixels of which k x stride are new. The four warps of a block make neighbouring rows.
 * What they read of x comes through shared memory in background copies of 16 bytes, some columns at a time
 * (a stage), one or two stages ahead: of 3x3, stride 1, six rows for four, so that L2 is asked for each x
 * 1.5 times instead of three. Stores are the 2*T (or T) neighbours of one thread, in the widest pieces that
 * a power of two allows.
 *   Memory answers after some 600 ns, and 3 TB/s on 132 multiprocessors then need 14 KB on their way to
 * each. Of 16 bits a stage of 3x3 is 4.6 KB and two of each of 4 blocks or more are under way: 37 KB, two
 * thirds of them not there twice. tests/simt/roofline.cpp has the figures by kernel.
 *   Bytes per pixel and channel: (1 + T) elements; 18*T flops. At T = 3 in fp16 that is 8 bytes and 54
 * flops, 6.75 flops per byte: below the fp32 balance of every GPU of interest (H100: 20), so memory
 * decides. 5x5 at T = 4 is 20 flops per byte: there the two meet. */
#include "cuda/kernels/launch.cuh"

enum { nd_depthwise_lanes = 32, nd_depthwise_warps = 4, nd_depthwise_columns = 4 };

/* One row segment of outputs: `nd_depthwise_columns` from `column`. */
struct nd_segment {
    int64_t image;
    int row, column;
    bool live;
};

__device__ static nd_segment nd_segment_at(const nd_cuda_depthwise &p, int64_t segment) {
    const int64_t per_row = (p.out_width + nd_depthwise_columns - 1) / nd_depthwise_columns;
    nd_segment at;
    at.column = (int)(segment % per_row) * nd_depthwise_columns;
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
    const nd_segment at = nd_segment_at(p, (int64_t)blockIdx.x * nd_depthwise_warps + threadIdx.y);
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

template <class T, int k, int stride, int per> struct nd_slide {
    static constexpr int channels = nd_slide_channels(k, per), outputs = channels * per;
    static constexpr int piece = nd_slide_piece(outputs, (int)sizeof(T));
    /* Of a stage: outputs of every row, the columns and rows of x that they read anew, its elements. */
    static constexpr int made = stride == 1 ? (k == 3 ? 6 : 5) : k == 3 && sizeof(T) == 2 ? 4 : 2;
    static constexpr int columns = made * stride, rows = (nd_depthwise_warps - 1) * stride + k;
    static constexpr int pixel = nd_depthwise_lanes * channels, stage = rows * columns * pixel;
    static constexpr int stages = sizeof(T) == 2 ? 3 : 2, shared = stages * stage * (int)sizeof(T);
    /* Filters, window and sums stay in registers beside addresses: as many blocks as that leaves. */
    static constexpr int registers = k * k * (outputs + channels) + outputs + 40;
    static constexpr int blocks = registers <= 80 ? 6 : registers <= 128 ? 4 : registers <= 168 ? 3 : 2;
};

/* How a layer is cut: outputs of a run, runs of a row, groups of nd_depthwise_warps rows of an image, groups
 * of channels of a warp; and bytes of a copy of x (nd_chunk_copy). */
struct nd_slide_cut {
    int run, runs, rows, across, unit;
};

/* What a block makes: `end` outputs from `column` on of nd_depthwise_warps rows from `row` on. */
struct nd_slide_place {
    int64_t image;
    int row, column, end, channel;
};

/* Neighbouring blocks are of the same pixels. */
__device__ static nd_slide_place nd_slide_place_of(const nd_cuda_depthwise &p, const nd_slide_cut &cut,
                                                   int pixel) {
    const unsigned strip = blockIdx.x / (unsigned)cut.across, rows = strip / (unsigned)cut.runs;
    nd_slide_place at;
    at.channel = (int)(blockIdx.x - strip * (unsigned)cut.across) * pixel;
    at.column = (int)(strip - rows * (unsigned)cut.runs) * cut.run;
    at.row = (int)(rows % (unsigned)cut.rows) * nd_depthwise_warps;
    at.image = rows / (unsigned)cut.rows;
    at.end = (int)p.out_width - at.column < cut.run ? (int)p.out_width - at.column : cut.run;
    return at;
}

template <class T, int k, int stride, int per> struct nd_slide_block {
    using slide = nd_slide<T, k, stride, per>;
    static constexpr int channels = slide::channels, outputs = slide::outputs, piece = slide::piece,
                         kept = k - stride;
    static constexpr int chunk = 16 / (int)sizeof(T), chunks = slide::pixel / chunk,
                         threads = nd_depthwise_lanes * nd_depthwise_warps;

    const nd_cuda_depthwise &p; /* in the constants of the launch, not in registers */
    const T *x;                 /* first element of the image */
    int unit, channel;          /* of copies of x; the first one of the block */
    int top, left, reach;       /* of x: first row and column, the column after the last */

    __device__ nd_slide_block(const nd_cuda_depthwise &call, const nd_slide_place &at, int unit_,
                              const T *first)
        : p(call), x(first + at.image * p.height * p.width * p.x_pixel), unit(unit_), channel(at.channel),
          top(at.row * stride - (int)p.window.pad[0]), left(at.column * stride - (int)p.window.pad[1]) {
        reach = left + (at.end - 1) * stride + k;
        if (reach > p.width) reach = (int)p.width;
    }

    __device__ const T *pixel(int h, int w) const {
        return x + ((int64_t)h * p.width + w) * p.x_pixel;
    }

    __device__ bool has(int h, int w) const {
        return h >= 0 && h < p.height && w >= 0 && w < reach;
    }

    /* Asks for what outputs `first` and on of `end` read anew of their rows, zeros where there is none; one
     * group of copies, of nothing past the end. */
    __device__ void ask(T *to, int first, int end) const {
        const int thread = (int)(threadIdx.y * nd_depthwise_lanes + threadIdx.x), part = thread % chunks;
        const int c = channel + part * chunk, rest = (int)p.channels - c;
        for (int i = thread / chunks; first < end && i < slide::rows * slide::columns;
             i += threads / chunks) {
            const int h = top + i / slide::columns, w = left + kept + first * stride + i % slide::columns;
            const int live = has(h, w) ? rest : 0;
            nd_chunk_copy(unit, to + (i * chunks + part) * chunk, live > 0 ? pixel(h, w) + c : x, live);
        }
        nd_ptx_copy_commit();
    }

    /* What is in a window before its first output: [column][row][channel], of channels from `own` on. */
    __device__ void open(float (&window)[k][k][channels], int own) const {
        for (int j = 0; j < kept; j++)
            for (int i = 0; i < k; i++) {
                const int h = top + (int)threadIdx.y * stride + i, w = left + j;
                nd_pack<T, channels> read = {};
                if (has(h, w)) read = *reinterpret_cast<const nd_pack<T, channels> *>(pixel(h, w) + own);
                for (int c = 0; c < channels; c++) window[j][i][c] = nd_load(read.value[c]);
            }
    }

    /* The columns of output `o` of a stage; `row` is the thread's first of them. */
    __device__ static void load(float (&window)[k][k][channels], const T *row, int o) {
        for (int j = kept; j < k; j++)
            for (int i = 0; i < k; i++) {
                const T *at = row + (i * slide::columns + o * stride + j - kept) * slide::pixel;
                const auto read = *reinterpret_cast<const nd_pack<T, channels> *>(at);
                for (int c = 0; c < channels; c++) window[j][i][c] = nd_load(read.value[c]);
            }
    }

    __device__ void make(const float (&window)[k][k][channels], const float (&weight)[k * k][outputs],
                         const float (&bias)[outputs], T *y) const {
        float sum[outputs];
        for (int i = 0; i < outputs; i++) {
            sum[i] = bias[i];
            for (int tap = 0; tap < k * k; tap++)
                sum[i] = fmaf(weight[tap][i], window[tap % k][tap / k][i / per], sum[i]);
        }
        nd_activate(p.activation, sum);
        for (int part = 0; part < outputs / piece; part++) {
            nd_pack<T, piece> out;
            for (int i = 0; i < piece; i++) nd_store(&out.value[i], sum[part * piece + i]);
            *reinterpret_cast<nd_pack<T, piece> *>(y + part * piece) = out;
        }
    }

    __device__ static void move(float (&window)[k][k][channels]) {
        for (int j = 0; j < kept; j++)
            for (int i = 0; i < k; i++)
                for (int c = 0; c < channels; c++) window[j][i][c] = window[j + stride][i][c];
    }
};

template <class T, int k, int stride, int per>
__global__ void __launch_bounds__(nd_depthwise_lanes *nd_depthwise_warps, nd_slide<T, k, stride, per>::blocks)
    nd_depthwise_slide(const __grid_constant__ nd_cuda_depthwise p, const __grid_constant__ nd_slide_cut cut,
                       const T *__restrict__ x, T *__restrict__ y) {
    using slide = nd_slide<T, k, stride, per>;
    constexpr int outputs = slide::outputs, made = slide::made, ahead = slide::stages - 1;
    ND_SHARED(T, stages);
    const nd_slide_place at = nd_slide_place_of(p, cut, slide::pixel);
    const nd_slide_block<T, k, stride, per> block(p, at, cut.unit, x);
    for (int s = 0; s < ahead; s++) block.ask(stages + s * slide::stage, s * made, at.end);
    const int mine = slide::channels * (int)threadIdx.x, row = at.row + (int)threadIdx.y;
    const bool live = at.channel + mine < p.channels && row < p.out_height;
    const int channel = live ? at.channel + mine : 0;
    float weight[k * k][outputs], bias[outputs], window[k][k][slide::channels];
    for (int tap = 0; tap < k * k; tap++)
        for (int i = 0; i < outputs; i++) weight[tap][i] = p.filters[tap * p.terms + channel * per + i];
    for (int i = 0; i < outputs; i++) bias[i] = p.bias ? p.bias[channel * per + i] : 0;
    block.open(window, channel);
    y += ((at.image * p.out_height + row) * p.out_width + at.column) * p.y_pixel + channel * per;

    int now = 0, next = ahead; /* the stage that is read, and the one that is asked for */
    for (int first = 0; first < at.end; first += made) {
        nd_ptx_copy_wait<ahead - 1>();
        __syncthreads(); /* the stage is there for all, and nobody reads the one before any more */
        block.ask(stages + next * slide::stage, first + ahead * made, at.end);
        const T *here =
            stages + now * slide::stage + (int)threadIdx.y * stride * slide::columns * slide::pixel;
        next = now;
        now = now < ahead ? now + 1 : 0;
        if (!live) continue;
        const int count = at.end - first < made ? at.end - first : made;
        ND_UNROLL_BY(stride == 1 ? k : 1) /* the window moves by renaming; little of it moves by 2 */
        for (int o = 0; o < count; o++) {
            block.load(window, here + mine, o);
            block.make(window, weight, bias, y);
            block.move(window);
            y += p.y_pixel;
        }
    }
}

/* Outputs of a run, whole stages of `made`. A long one reads its weights once for many outputs, but a small
 * image needs every thread it can get. */
static int nd_depthwise_run(const nd_cuda_depthwise *call, int channels, int made) {
    const int64_t rows = call->images * call->out_height * (call->channels / channels),
                  stages = nd_ceil_div(call->out_width, made);
    int64_t runs = 1;
    while (rows * runs < call->threads && nd_ceil_div(stages, runs) * made > 6) runs++;
    return (int)nd_ceil_div(stages, runs) * made;
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

template <class T> struct nd_slide_kernel {
    void (*start)(nd_cuda_depthwise, nd_slide_cut, const T *, T *);
    int shared, channels, made; /* bytes; see nd_slide */
};

template <class T> static nd_slide_kernel<T> nd_slide_kernel_of(int64_t k, int64_t stride, int64_t per) {
#define ND_KERNEL(k, stride, per)                                                                            \
    {                                                                                                        \
        nd_depthwise_slide<T, k, stride, per>, nd_slide<T, k, stride, per>::shared,                          \
            nd_slide<T, k, stride, per>::channels, nd_slide<T, k, stride, per>::made                         \
    }
    static const nd_slide_kernel<T> threes[2][8] = {{ND_EIGHT(ND_KERNEL, 3, 1)}, {ND_EIGHT(ND_KERNEL, 3, 2)}};
    static const nd_slide_kernel<T> fives[2][4] = {{ND_FOUR(ND_KERNEL, 5, 1)}, {ND_FOUR(ND_KERNEL, 5, 2)}};
#undef ND_KERNEL
    return k == 3 ? threes[stride - 1][per - 1] : fives[stride - 1][per - 1];
}

template <class T> static nd_status nd_depthwise_slide_launch(const nd_cuda_depthwise *call) {
    const nd_slide_kernel<T> kernel =
        nd_slide_kernel_of<T>(call->window.kernel[0], call->window.stride[0], call->uniform);
    const auto divides = [&](int64_t bytes) {
        const int64_t size = (int64_t)sizeof(T);
        return call->x_pixel * size % bytes == 0 && call->channels * size % bytes == 0 &&
               (uintptr_t)call->x % (uintptr_t)bytes == 0;
    };
    nd_slide_cut cut;
    cut.run = nd_depthwise_run(call, kernel.channels, kernel.made);
    cut.runs = (int)nd_ceil_div(call->out_width, cut.run);
    cut.rows = (int)nd_ceil_div(call->out_height, nd_depthwise_warps);
    cut.across = (int)nd_ceil_div(call->channels, kernel.channels * nd_depthwise_lanes);
    cut.unit = divides(16) ? 16 : divides(4) ? 4 : 0;
    const int64_t blocks = call->images * cut.rows * cut.runs * cut.across;
    ND_REQUIRE(blocks <= INT32_MAX, nd_status_unsupported, "a depthwise layer of too many blocks");
    return nd_launch(kernel.start, dim3((unsigned)blocks), dim3(nd_depthwise_lanes, nd_depthwise_warps),
                     (size_t)kernel.shared, call->stream, *call, cut, static_cast<const T *>(call->x),
                     static_cast<T *>(call->y));
}

template <class T> static nd_status nd_depthwise_any_launch(const nd_cuda_depthwise *call) {
    const int64_t segments =
        call->images * call->out_height * nd_ceil_div(call->out_width, nd_depthwise_columns);
    const dim3 grid((unsigned)nd_ceil_div(segments, nd_depthwise_warps),
                    (unsigned)nd_ceil_div(call->terms, nd_depthwise_lanes));
    return nd_launch(nd_depthwise_any<T>, grid, dim3(nd_depthwise_lanes, nd_depthwise_warps), 0, call->stream,
                     *call, static_cast<const T *>(call->x), static_cast<T *>(call->y));
}

size_t nd_cuda_depthwise_shared(const nd_cuda_depthwise *call) {
    if (!nd_depthwise_slides(call)) return 0;
    const int64_t k = call->window.kernel[0], stride = call->window.stride[0], per = call->uniform;
    return (size_t)(call->storage == nd_dtype_f32 ? nd_slide_kernel_of<float>(k, stride, per).shared
                                                  : nd_slide_kernel_of<nd_f16>(k, stride, per).shared);
}

nd_status nd_cuda_depthwise_launch(const nd_cuda_depthwise *call) {
    if (!call->images || !call->out_height || !call->out_width || !call->terms) return nd_status_ok;
    return nd_with_storage(call->storage, [&](auto element) {
        using T = decltype(element);
        return nd_depthwise_slides(call) ? nd_depthwise_slide_launch<T>(call)
                                         : nd_depthwise_any_launch<T>(call);
    });
}
