#include "check/cases.h"

#include <math.h>
#include <stdlib.h>

/* One image and group as patches[channels * kh * kw][oh * ow], in double. */
static void check_patches(const nd_problem *problem, int64_t n, int64_t first, int64_t channels,
                          double *patches) {
    const nd_work *work = &problem->work;
    const nd_window *g = &work->window;
    const int64_t ni = work->x.dims[1], height = work->x.dims[2], width = work->x.dims[3];
    const int64_t oh = work->y.dims[2], ow = work->y.dims[3];
    for (int64_t row = 0; row < channels * g->kernel[0] * g->kernel[1]; row++) {
        const int64_t j = row % g->kernel[1], i = row / g->kernel[1] % g->kernel[0];
        const float *plane =
            problem->x + (n * ni + first + row / g->kernel[1] / g->kernel[0]) * height * width;
        for (int64_t p = 0; p < oh; p++)
            for (int64_t q = 0; q < ow; q++) {
                const int64_t h = p * g->stride[0] + i * g->dilation[0] - g->pad[0];
                const int64_t w = q * g->stride[1] + j * g->dilation[1] - g->pad[1];
                const bool inside = h >= 0 && h < height && w >= 0 && w < width;
                *patches++ = inside ? plane[h * width + w] : 0;
            }
    }
}

nd_status nd_check_convolve(nd_problem *problem, const double *kernel, const double *absolute) {
    const nd_work *work = &problem->work;
    const int64_t groups = work->operation == nd_operation_conv ? work->groups : 1;
    const int64_t channels = work->x.dims[1] / groups, outputs = work->y.dims[1] / groups;
    const int64_t length = channels * work->window.kernel[0] * work->window.kernel[1];
    const int64_t pixels = work->y.dims[2] * work->y.dims[3];
    double *patches = nd_alloc_array((size_t)(length * pixels), sizeof *patches);
    ND_REQUIRE(patches, nd_status_memory, "no memory for the patches of a check");
    for (int64_t n = 0; n < work->x.dims[0]; n++)
        for (int64_t g = 0; g < groups; g++) {
            check_patches(problem, n, g * channels, channels, patches);
            for (int64_t o = g * outputs; o < (g + 1) * outputs; o++) {
                double *sum = problem->expected + (n * work->y.dims[1] + o) * pixels;
                double *magnitude = problem->slack + (n * work->y.dims[1] + o) * pixels;
                for (int64_t k = 0; k < length; k++)
                    for (int64_t p = 0; p < pixels; p++) {
                        const double x = patches[k * pixels + p];
                        sum[p] += kernel[o * length + k] * x;
                        magnitude[p] += absolute[o * length + k] * fabs(x);
                    }
            }
        }
    free(patches);
    return nd_status_ok;
}
