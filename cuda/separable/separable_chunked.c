/* Depthwise, then the pointwise GEMM, slice by slice so that the intermediate stays in L2: two slices are
 * alive at any time and together take half of it. The depthwise kernel of a slice runs on the side stream
 * while the GEMM of the one before runs on the main stream; the events that order them are captured with the
 * rest into one graph.
 *
 *   side:  fork -> D0 -> D1 -> (after G0) D2 -> (after G1) D3 ...
 *   main:          (after D0) G0 -> (after D1) G1 -> (after D2) G2 ...
 *
 * A slice is a number of whole images, or of rows of one image where even one image is too large. */
#include "cuda/libs/blas.h"
#include "cuda/separable/separable.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct nd_chunked {
    nd_cuda_depthwise depthwise; /* of the whole layer */
    int64_t per_slice;           /* images, or rows when `by_rows` */
    bool by_rows;
    int64_t pixels,
        last_pixels;           /* output pixels of a full slice, and of the last one of the batch or image */
    nd_gemm_plan *plan, *last; /* `last` is NULL when the last slice is full */
    const void *weights, *bias_stored;
    size_t slice_bytes; /* of one intermediate */
    int64_t x2_pixel, y_pixel;
    bool followed; /* by an activation that is no epilogue of the GEMM */
} nd_chunked;

/* The part of the layer that one slice makes. */
typedef struct nd_slice {
    nd_cuda_depthwise depthwise;
    nd_gemm_plan *plan;
    int64_t first_pixel; /* of y and x2 */
} nd_slice;

static int64_t chunked_slices(const nd_chunked *c) {
    const int64_t units = c->by_rows ? c->depthwise.out_height : c->depthwise.images;
    const int64_t slices = (units + c->per_slice - 1) / c->per_slice;
    return c->by_rows ? slices * c->depthwise.images : slices;
}

/* Rows are cut out by moving the padding: output row 0 of the slice reads where row `first` of the image
 * would. */
static nd_slice chunked_slice(const nd_chunked *c, int64_t index, const char *x, size_t size) {
    const nd_cuda_depthwise *whole = &c->depthwise;
    const int64_t units = c->by_rows ? whole->out_height : whole->images;
    const int64_t per_image = (units + c->per_slice - 1) / c->per_slice;
    const int64_t image = c->by_rows ? index / per_image : 0;
    const int64_t first = (c->by_rows ? index % per_image : index) * c->per_slice;
    const int64_t count = units - first < c->per_slice ? units - first : c->per_slice;
    const int64_t first_image = c->by_rows ? image : first;
    nd_slice slice = {.depthwise = *whole, .plan = count == c->per_slice ? c->plan : c->last};
    slice.depthwise.x = x + (size_t)(first_image * whole->height * whole->width * whole->x_pixel) * size;
    slice.first_pixel = first_image * whole->out_height * whole->out_width;
    slice.depthwise.images = c->by_rows ? 1 : count;
    if (c->by_rows) {
        slice.depthwise.out_height = count;
        slice.depthwise.window.pad[0] -= first * whole->window.stride[0];
        slice.first_pixel += first * whole->out_width;
    }
    return slice;
}

static nd_status chunked_start(nd_kernel *kernel, const nd_cuda_operands *operands, int64_t index) {
    const nd_chunked *c = kernel->state;
    const nd_work *work = &kernel->work;
    nd_cuda *cuda = kernel->cuda;
    const size_t size = nd_dtype_bytes(nd_precision_storage(kernel->precision));
    char *workspace = operands->workspace, *between = workspace + (size_t)(index % 2) * c->slice_bytes;
    nd_slice slice = chunked_slice(c, index, nd_cuda_at(operands->x, &work->x, kernel->precision), size);
    slice.depthwise.y = between;
    slice.depthwise.stream = cuda->side;
    if (index >= 2) ND_CUDA_TRY(cudaStreamWaitEvent(cuda->side, cuda->done[index % 2], 0));
    ND_TRY(nd_cuda_depthwise_launch(&slice.depthwise));
    ND_CUDA_TRY(cudaEventRecord(cuda->ready[index % 2], cuda->side));
    ND_CUDA_TRY(cudaStreamWaitEvent(cuda->stream, cuda->ready[index % 2], 0));
    char *y = nd_cuda_at(operands->y, &work->y, kernel->precision);
    const char *x2 = work->residual ? nd_cuda_at(operands->x2, &work->x2, kernel->precision) : NULL;
    y += (size_t)(slice.first_pixel * c->y_pixel) * size;
    if (x2) x2 += (size_t)(slice.first_pixel * c->x2_pixel) * size;
    ND_TRY(nd_gemm_plan_run(slice.plan, between, c->weights, c->bias_stored, x2, y,
                            workspace + 2 * c->slice_bytes, cuda->stream));
    ND_CUDA_TRY(cudaEventRecord(cuda->done[index % 2], cuda->stream));
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

static void chunked_cut(nd_chunked *c, size_t cache_bytes, size_t pixel_bytes) {
    const nd_cuda_depthwise *d = &c->depthwise;
    const size_t budget = cache_bytes / 4 > pixel_bytes ? cache_bytes / 4 : pixel_bytes;
    const int64_t pixels = (int64_t)(budget / pixel_bytes), per_image = d->out_height * d->out_width;
    c->by_rows = pixels < per_image;
    const int64_t unit = c->by_rows ? d->out_width : per_image,
                  units = c->by_rows ? d->out_height : d->images;
    c->per_slice = pixels / unit > 0 ? pixels / unit : 1;
    if (c->per_slice > units) c->per_slice = units;
    c->pixels = c->per_slice * unit;
    c->last_pixels = units % c->per_slice * unit;
    c->slice_bytes = ((size_t)c->pixels * pixel_bytes + 255) / 256 * 256;
}

bool nd_separable_is_pixels(const nd_work *work) {
    int64_t distance;
    return nd_cuda_view_is_pixels(&work->x, &distance) && nd_cuda_view_is_pixels(&work->y, &distance) &&
           (!work->residual || nd_cuda_view_is_pixels(&work->x2, &distance));
}

nd_status nd_separable_filters(nd_kernel *kernel, const nd_work *work, nd_cuda_depthwise *call) {
    const int64_t taps = work->window.kernel[0] * work->window.kernel[1], terms = work->terms;
    const void *constant;
    nd_status status = nd_status_ok;
    float *filters = nd_alloc_array((size_t)(taps * terms), sizeof *filters);
    ND_REQUIRE(filters, nd_status_memory, "no memory for %lld filters", (long long)terms);
    for (int64_t r = 0; r < terms; r++)
        for (int64_t t = 0; t < taps; t++) filters[t * terms + r] = work->depthwise[r * taps + t];
    ND_TRY_DONE(nd_cuda_constant(kernel, filters, (size_t)(taps * terms) * sizeof *filters, &constant));
    call->filters = constant;
    ND_TRY_DONE(nd_cuda_constant(kernel, work->channel, (size_t)terms * sizeof *work->channel, &constant));
    call->channel = constant;
    call->terms = terms;
    call->uniform = terms % work->x.dims[1] ? 0 : terms / work->x.dims[1];
    for (int64_t r = 0; r < terms && call->uniform; r++)
        if (work->channel[r] != r / call->uniform) call->uniform = 0;
done:
    free(filters);
    return status;
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
    const int64_t image = c->depthwise.out_height * c->depthwise.out_width;
    if (chunked_slices(c) == 1) return nd_gemm_alignment(view->offset * size, 0);
    return nd_gemm_alignment(view->offset * size,
                             (c->by_rows ? c->pixels | image : c->pixels) * pixel * size);
}

static nd_status chunked_plans(nd_kernel *kernel, const nd_work *work, nd_chunked *c) {
    const nd_act act = work->activation.act;
    nd_gemm_problem problem = {
        .m = c->pixels,
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
    if (c->last_pixels) {
        problem.m = c->last_pixels;
        ND_TRY(nd_gemm_plan_make(kernel->cuda, &problem, &c->last));
        if (nd_gemm_plan_workspace(c->last) > workspace) workspace = nd_gemm_plan_workspace(c->last);
    }
    kernel->workspace = 2 * c->slice_bytes + workspace;
    return nd_status_ok;
}

static nd_status chunked_prepare(nd_kernel *kernel, const nd_work *work) {
    const nd_dtype storage = nd_precision_storage(kernel->precision);
    nd_chunked *c = kernel->state = nd_alloc_array(1, sizeof *c);
    ND_REQUIRE(c, nd_status_memory, "no memory for a separable layer");
    kernel->functions = &nd_chunked_functions;
    c->depthwise = (nd_cuda_depthwise){
        .window = work->window,
        .storage = storage,
        .images = work->x.dims[0],
        .channels = work->x.dims[1],
        .height = work->x.dims[2],
        .width = work->x.dims[3],
        .out_height = work->y.dims[2],
        .out_width = work->y.dims[3],
        .y_pixel = chunked_row(work->terms),
    };
    (void)nd_cuda_view_is_pixels(&work->x, &c->depthwise.x_pixel);
    (void)nd_cuda_view_is_pixels(&work->y, &c->y_pixel);
    if (work->residual) (void)nd_cuda_view_is_pixels(&work->x2, &c->x2_pixel);
    ND_TRY(nd_separable_filters(kernel, work, &c->depthwise));
    chunked_cut(c, kernel->cuda->base.last_cache_bytes,
                (size_t)c->depthwise.y_pixel * nd_dtype_bytes(storage));
    ND_TRY(chunked_weights(kernel, work, c));
    ND_TRY(chunked_plans(kernel, work, c));
    snprintf(kernel->engine, sizeof kernel->engine, "nd:separable:chunked_%lldx%lldpx,%s",
             (long long)chunked_slices(c), (long long)c->pixels, nd_gemm_plan_name(c->plan));
    return nd_status_ok;
}

static bool chunked_supports(const nd_cuda *cuda, const nd_work *work, nd_precision precision) {
    (void)cuda;
    (void)precision;
    return nd_separable_is_pixels(work);
}

const nd_cuda_implementation nd_separable_chunked_implementation = {chunked_supports, chunked_prepare};
