#include "run/cpu/cpu.h"

bool nd_cpu_view_channels(const nd_view *view) {
    return view->rank == 4 && (view->strides[1] == 1 || view->dims[1] == 1);
}

int64_t nd_cpu_view_pixel(const nd_view *view) {
    if (!nd_cpu_view_channels(view)) return 0;
    const int64_t height = view->dims[2], width = view->dims[3];
    const int64_t step = width > 1 ? view->strides[3] : height > 1 ? view->strides[2] : view->dims[1];
    if (height > 1 && view->strides[2] != width * step) return 0;
    return step > 0 ? step : 0;
}

size_t nd_cpu_round(size_t bytes) {
    return (bytes + nd_alignment - 1) / nd_alignment * nd_alignment;
}
