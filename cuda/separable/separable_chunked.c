/* Depthwise, then the pointwise GEMM, slice by slice so that the intermediate stays in L2. On tensor cores
 * two slices are alive at any time and together take half of it: the depthwise kernel of a slice runs on the
 * side stream while the GEMM of the one before runs on the main stream. In strict fp32 both halves are bound
 * by the same multipliers and gain nothing from each other: one slice at a time, twice as large, so that its
 * GEMM fills the device. The events that order them are captured with the rest into one graph.
 *
 *   side:  fork -> D0 -> D1 -> (after G0) D2 -> (after G1) D3 ...
 *   main:          (after D0) G0 -> (after D1) G1 -> (after D2) G2 ...
 *
 * A slice is a number of rows, those of all images one after the other, so that its size can follow what the
 * GEMM does best; its depthwise part may be three launches: rows of a first image, whole ones, rows of a
 * last. */
#include "cuda/libs/blas.h"
#include "cuda/separable/separable.h"
#include "cuda/separable/separable_pack.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct nd_chunked {
    nd_cuda_depthwise depthwise; /* of the whole layer */
    int64_t alive;               /* slices whose intermediate is kept: 1 or 2 */
    int64_t per_slice;           /* rows */
    nd_gemm_plan *plan, *last;   /* of a full slice; of the last one, NULL when it is full */
    const void *weights, *bias_stored;
    size_t slice_bytes; /* of one intermediate */
    int64_t x2_pixel, y_pixel;
    bool followed; /* by an activation that is no epilogue of the GEMM */
} nd_chunked;

static int64_t chunked_rows(const nd_chunked *c) {
    return c->depthwise.images * c->depthwise.out_height;
}

static int64_t chunked_slices(const nd_chunked *c) {
    return nd_ceil_div(chunked_rows(c), c->per_slice);
}

/* Rows of an image are cut out by moving the padding: output row 0 of the piece reads where row `row` of the
 * image would. */
static nd_cuda_depthwise chunked_piece(const nd_cuda_depthwise *whole, size_t size, int64_t image,
                                       int64_t images, int64_t row, int64_t rows) {
    nd_cuda_depthwise piece = *whole;
    piece.x = (const char *)whole->x + (size_t)(image * whole->height * whole->width * whole->x_pixel) * size;
    piece.images = images;
    piece.out_height = rows;
    piece.window.pad[0] -= row * whole->window.stride[0];
    return piece;
}

/* The depthwise half of rows `first` to `end`, one after the other at `to`. `whole` has x and the stream. */
static nd_status chunked_depthwise(const nd_cuda_depthwise *whole, size_t size, int64_t first, int64_t end,
                                   char *to) {
    while (first < end) {
        const int64_t height = whole->out_height, row = first % height, left = end - first;
        const int64_t images = row == 0 && left >= height ? left / height : 1;
        const int64_t rows = left < height - row ? left : height - row;
        nd_cuda_depthwise piece = chunked_piece(whole, size, first / height, images, row, rows);
        piece.y = to;
        ND_TRY(nd_cuda_depthwise_launch(&piece));
        to += (size_t)(images * rows * whole->out_width * whole->y_pixel) * size;
        first += images * rows;
    }
    return nd_status_ok;
}

static nd_status chunked_start(nd_kernel *kernel, const nd_cuda_operands *operands, int64_t index) {
    const nd_chunked *c = kernel->state;
    const nd_work *work = &kernel->work;
    nd_cuda *cuda = kernel->cuda;
    const size_t size = nd_dtype_bytes(nd_precision_storage(kernel->precision));
    const int64_t first = index * c->per_slice, pixel = first * c->depthwise.out_width;
    const int64_t end = first + c->per_slice < chunked_rows(c) ? first + c->per_slice : chunked_rows(c);
    const int64_t turn = index % c->alive;
    char *workspace = operands->workspace, *between = workspace + (size_t)turn * c->slice_bytes;
    nd_cuda_depthwise depthwise = c->depthwise;
    depthwise.x = nd_cuda_at(operands->x, &work->x, kernel->precision);
    depthwise.stream = cuda->side;
    if (index >= c->alive) ND_CUDA_TRY(cudaStreamWaitEvent(cuda->side, cuda->done[turn], 0));
    ND_TRY(chunked_depthwise(&depthwise, size, first, end, between));
    ND_CUDA_TRY(cudaEventRecord(cuda->ready[turn], cuda->side));
    ND_CUDA_TRY(cudaStreamWaitEvent(cuda->stream, cuda->ready[turn], 0));
    char *y = nd_cuda_at(operands->y, &work->y, kernel->precision);
    const char *x2 = work->residual ? nd_cuda_at(operands->x2, &work->x2, kernel->precision) : NULL;
    y += (size_t)(pixel * c->y_pixel) * size;
    if (x2) x2 += (size_t)(pixel * c->x2_pixel) * size;
    ND_TRY(nd_gemm_plan_run(end - first == c->per_slice ? c->plan : c->last, between, c->weights,
                            c->bias_stored, x2, y, workspace + (size_t)c->alive * c->slice_bytes,
                            cuda->stream));
    ND_CUDA_TRY(cudaEventRecord(cuda->done[turn], cuda->stream));
    return nd_status_ok;
}

static nd_status chunked_run(nd_kernel *kernel, const nd_cuda_operands *operands) {
    const nd_chunked *c = kernel->state;
    nd_cuda *cuda = kernel->cuda;
    const int64_t slices = chunked_slices(c);
    ND_CUDA_TRY(cudaEventRecord(cuda->fork, cuda->stream));
    ND_CUDA_TRY(cudaStreamWaitEvent(cuda->side, cuda->fork, 0));
    for (int64_t i = 0; i < slices; i++) ND_TRY(chunked_start(kernel, operands, i));
    if (!c->followed) return nd_status_ok;
    nd_work activation = kernel->work;
    activation.x = activation.y;
    const nd_cuda_call call = {
        .work = &activation,
        .storage = nd_precision_storage(kernel->precision),
        .x = operands->y,
        .y = operands->y,
        .stream = cuda->stream,
    };
    return nd_cuda_activation_launch(&call);
}

static void chunked_release(nd_kernel *kernel) {
    nd_chunked *c = kernel->state;
    if (!c) return;
    nd_gemm_plan_free(c->plan);
    nd_gemm_plan_free(c->last);
    free(c);
}

static const nd_cuda_functions nd_chunked_functions = {chunked_run, chunked_release};

static void chunked_cut(const nd_kernel *kernel, nd_chunked *c) {
    const nd_cuda_depthwise *d = &c->depthwise;
    const bool strict = kernel->precision == nd_precision_fp32;
    const size_t row_bytes = (size_t)(d->out_width * d->y_pixel) * nd_dtype_bytes(d->storage);
    c->alive = strict ? 1 : 2;
    const size_t budget = kernel->cuda->base.last_cache_bytes / (strict ? 2 : 4);
    c->per_slice = nd_separable_slice_choose(&(nd_separable_slices){
        .rows = chunked_rows(c),
        .width = d->out_width,
        .most = (int64_t)(budget / row_bytes),
        .out_channels = kernel->work.y.dims[1],
        .strict = strict,
        .multiprocessors = kernel->cuda->multiprocessors,
    });
    c->slice_bytes = ((size_t)c->per_slice * row_bytes + 255) / 256 * 256;
    if (chunked_slices(c) == 1) c->alive = 1;
}

bool nd_separable_is_pixels(const nd_work *work) {
    int64_t distance;
    return nd_cuda_view_is_pixels(&work->x, &distance) && nd_cuda_view_is_pixels(&work->y, &distance) &&
           (!work->residual || nd_cuda_view_is_pixels(&work->x2, &distance));
}

/* Rows of the intermediate and of the weights begin on 16 bytes, which the GEMM likes and a narrower R may
 * not give. */
static int64_t chunked_row(int64_t terms) {
    return (terms + 7) / 8 * 8;
}

static nd_status chunked_weights(nd_kernel *kernel, const nd_work *work, nd_chunked *c) {
    const int64_t no = work->y.dims[1], row = chunked_row(work->terms);
    float *padded = nd_alloc_array((size_t)(no * row), sizeof *padded);
    ND_REQUIRE(padded, nd_status_memory, "no memory for %lld weights", (long long)(no * row));
    for (int64_t o = 0; o < no; o++)
        for (int64_t r = 0; r < work->terms; r++) padded[o * row + r] = work->weights[o * work->terms + r];
    nd_status status = nd_cuda_constant_stored(kernel, padded, (size_t)(no * row), &c->weights);
    free(padded);
    ND_TRY(status);
    return nd_cuda_constant_bias_stored(kernel, work, &c->bias_stored);
}

/* Of y or x2, wherever a slice begins. */
static uint32_t chunked_alignment(const nd_kernel *kernel, const nd_chunked *c, const nd_view *view,
                                  int64_t pixel) {
    const int64_t size = (int64_t)nd_dtype_bytes(nd_precision_storage(kernel->precision));
    const int64_t step = c->per_slice * c->depthwise.out_width * pixel * size;
    return nd_gemm_alignment(view->offset * size, chunked_slices(c) == 1 ? 0 : step);
}

static nd_status chunked_plans(nd_kernel *kernel, const nd_work *work, nd_chunked *c) {
    const nd_act act = work->activation.act;
    nd_gemm_problem problem = {
        .m = c->per_slice * c->depthwise.out_width,
        .n = work->y.dims[1],
        .k = work->terms,
        .ldx = chunked_row(work->terms),
        .ldw = chunked_row(work->terms),
        .ldx2 = c->x2_pixel,
        .ldy = c->y_pixel,
        .align_x = 256,
        .align_x2 = chunked_alignment(kernel, c, &work->x2, c->x2_pixel),
        .align_y = chunked_alignment(kernel, c, &work->y, c->y_pixel),
        .precision = kernel->precision,
        .bias = work->bias != NULL,
        .residual = work->residual,
        .relu = act == nd_act_relu,
    };
    c->followed = act != nd_act_none && act != nd_act_relu;
    ND_TRY(nd_gemm_plan_make(kernel->cuda, &problem, &c->plan));
    size_t workspace = nd_gemm_plan_workspace(c->plan);
    const int64_t last = chunked_rows(c) % c->per_slice;
    if (last) {
        problem.m = last * c->depthwise.out_width;
        ND_TRY(nd_gemm_plan_make(kernel->cuda, &problem, &c->last));
        if (nd_gemm_plan_workspace(c->last) > workspace) workspace = nd_gemm_plan_workspace(c->last);
    }
    kernel->workspace = (size_t)c->alive * c->slice_bytes + workspace;
    return nd_status_ok;
}

static nd_status chunked_prepare(nd_kernel *kernel, const nd_work *work) {
    nd_chunked *c = kernel->state = nd_alloc_array(1, sizeof *c);
    ND_REQUIRE(c, nd_status_memory, "no memory for a separable layer");
    kernel->functions = &nd_chunked_functions;
    ND_TRY(nd_cuda_depthwise_make(kernel, work, work->depthwise, work->channel, work->terms, &c->depthwise));
    c->depthwise.y_pixel = chunked_row(work->terms);
    (void)nd_cuda_view_is_pixels(&work->y, &c->y_pixel);
    if (work->residual) (void)nd_cuda_view_is_pixels(&work->x2, &c->x2_pixel);
    chunked_cut(kernel, c);
    ND_TRY(chunked_weights(kernel, work, c));
    ND_TRY(chunked_plans(kernel, work, c));
    snprintf(kernel->engine, sizeof kernel->engine, "nd:separable:chunked_%lldx%lldpx,%s",
             (long long)chunked_slices(c), (long long)(c->per_slice * c->depthwise.out_width),
             nd_gemm_plan_name(c->plan));
    return nd_status_ok;
}

static bool chunked_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    (void)cuda;
    return !nd_precision_is_quantised(precision) && nd_separable_is_pixels(work);
}

const nd_cuda_implementation nd_separable_chunked_implementation = {chunked_supports, chunked_prepare};
