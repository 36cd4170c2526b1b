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
