#include "base/window.h"

int64_t nd_window_output(const nd_window *window, int axis, int64_t input, bool ceil_mode) {
    const int64_t stride = window->stride[axis];
    const int64_t lead = window->pad[axis], trail = window->pad[axis + 2];
    const int64_t span = window->dilation[axis] * (window->kernel[axis] - 1) + 1;
    const int64_t room = input + lead + trail - span;
    if (room < 0) return 0;
    if (!ceil_mode) return room / stride + 1;
    int64_t count = (room + stride - 1) / stride + 1;
    if ((count - 1) * stride >= input + lead) count--;
    return count;
}

void nd_window_patch(const nd_window *window, int64_t channels, int64_t height, int64_t width, const float *x,
                     int64_t top, int64_t left, float *patch) {
    for (int64_t c = 0; c < channels; c++, x += height * width)
        for (int64_t ky = 0; ky < window->kernel[0]; ky++) {
            const int64_t row = top + ky * window->dilation[0];
            const bool inside = row >= 0 && row < height;
            for (int64_t kx = 0; kx < window->kernel[1]; kx++) {
                const int64_t column = left + kx * window->dilation[1];
                *patch++ = inside && column >= 0 && column < width ? x[row * width + column] : 0;
            }
        }
}
