/* The window of a convolution or a pool. */
#ifndef ND_BASE_WINDOW_H
#define ND_BASE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(default)

/* A sliding window over the two spatial axes, 0 = height, 1 = width. pad is top, left, bottom, right, in
 * pixels. Where the size of the output is given as well, as in nd_work, the bottom and right padding follow
 * from it and may be larger than declared (ceil mode). */
typedef struct nd_window {
    int64_t kernel[2], stride[2], dilation[2], pad[4];
} nd_window;

/* floor((in + pad - dilation*(kernel-1) - 1) / stride) + 1, or ceil with the rule that the last window must
 * start inside the input or its leading padding; < 1 when the window does not fit. */
int64_t nd_window_output(const nd_window *window, int axis, int64_t input, bool ceil_mode);

/* What the window sees of x[channels][height][width] from row `top` and column `left` on, which may be
 * negative: patch[channels][kernel rows][kernel columns], zeros beyond the border. */
void nd_window_patch(const nd_window *window, int64_t channels, int64_t height, int64_t width, const float *x,
                     int64_t top, int64_t left, float *patch);

#pragma GCC visibility pop

#endif
