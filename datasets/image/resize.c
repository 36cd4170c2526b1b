#include "datasets/image/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double filter_bilinear_at(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double filter_bicubic_at(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static const struct {
    const char *name;
    double radius;
    double (*at)(double x);
} nd_filter_table[nd_filter_count] = {
    [nd_filter_bilinear] = {"bilinear", 1, filter_bilinear_at},
    [nd_filter_bicubic] = {"bicubic", 2, filter_bicubic_at},
};

const char *nd_filter_name(nd_filter filter) {
    return nd_filter_table[filter].name;
}

bool nd_filter_find(const char *name, nd_filter *out) {
    for (int i = 0; i < nd_filter_count; i++) {
        if (strcmp(nd_filter_table[i].name, name) != 0) continue;
        *out = (nd_filter)i;
        return true;
    }
    return false;
}

/* 8 bits of pixel, 22 of fraction and 2 spare ones for the overshoot of bicubic fill 32 bits. */
enum { nd_resize_bits = 32 - 8 - 2 };

/* One axis: output i is the sum of weights[i * taps + k] * input[first[i] + k] over k < count[i]. */
typedef struct nd_resize_axis {
    int64_t taps;
    int64_t *first, *count;
    int32_t *weights;
} nd_resize_axis;

static void resize_axis_free(nd_resize_axis *axis) {
    free(axis->first);
    free(axis->count);
    free(axis->weights);
}

static int32_t resize_fixed(double weight) {
    return (int32_t)(weight * (1 << nd_resize_bits) + (weight < 0 ? -0.5 : 0.5));
}

/* `real` has room for one window. */
static void resize_window(nd_resize_axis *axis, int64_t i, int64_t in, double scale, nd_filter filter,
                          double *real) {
    const double stretch = scale < 1 ? 1 : scale; /* enlarging interpolates, it does not average */
    const double radius = nd_filter_table[filter].radius * stretch;
    const double centre = ((double)i + 0.5) * scale;
    int64_t begin = (int64_t)(centre - radius + 0.5), end = (int64_t)(centre + radius + 0.5);
    if (begin < 0) begin = 0;
    if (end > in) end = in;
    double sum = 0;
    for (int64_t k = 0; k < end - begin; k++) {
        real[k] = nd_filter_table[filter].at(((double)(begin + k) - centre + 0.5) * (1 / stretch));
        sum += real[k];
    }
    for (int64_t k = 0; k < end - begin; k++)
        axis->weights[i * axis->taps + k] = resize_fixed(sum != 0 ? real[k] / sum : real[k]);
    axis->first[i] = begin;
    axis->count[i] = end - begin;
}

static nd_status resize_axis_new(int64_t in, int64_t out, nd_filter filter, nd_resize_axis *axis) {
    const double scale = (double)in / (double)out;
    const double radius = nd_filter_table[filter].radius * (scale < 1 ? 1 : scale);
    *axis = (nd_resize_axis){.taps = (int64_t)ceil(radius) * 2 + 1};
    axis->first = nd_alloc_array((size_t)out, sizeof *axis->first);
    axis->count = nd_alloc_array((size_t)out, sizeof *axis->count);
    axis->weights = nd_alloc_array((size_t)out, (size_t)axis->taps * sizeof *axis->weights);
    double *real = nd_alloc_array((size_t)axis->taps, sizeof *real);
    const bool enough = axis->first && axis->count && axis->weights && real;
    for (int64_t i = 0; enough && i < out; i++) resize_window(axis, i, in, scale, filter, real);
    free(real);
    return enough
               ? nd_status_ok
               : nd_fail(nd_status_memory, "no memory to resize %lld to %lld", (long long)in, (long long)out);
}

static uint8_t resize_round(int32_t sum) {
    const int32_t value = sum >> nd_resize_bits;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* One output pixel from a window of input pixels that lie `step` bytes apart. */
static void resize_pixel(const uint8_t *in, int64_t step, const int32_t *weights, int64_t count,
                         uint8_t *out) {
    int32_t red = 1 << (nd_resize_bits - 1), green = red, blue = red;
    for (int64_t k = 0; k < count; k++, in += step) {
        red += weights[k] * in[0];
        green += weights[k] * in[1];
        blue += weights[k] * in[2];
    }
    out[0] = resize_round(red);
    out[1] = resize_round(green);
    out[2] = resize_round(blue);
}

static void resize_rows(const nd_image *in, const nd_resize_axis *axis, nd_image *out) {
    for (int64_t y = 0; y < out->height; y++)
        for (int64_t x = 0; x < out->width; x++)
            resize_pixel(in->rgb + (y * in->width + axis->first[x]) * 3, 3, axis->weights + x * axis->taps,
                         axis->count[x], out->rgb + (y * out->width + x) * 3);
}

static void resize_columns(const nd_image *in, const nd_resize_axis *axis, nd_image *out) {
    for (int64_t y = 0; y < out->height; y++)
        for (int64_t x = 0; x < out->width; x++)
            resize_pixel(in->rgb + (axis->first[y] * in->width + x) * 3, in->width * 3,
                         axis->weights + y * axis->taps, axis->count[y], out->rgb + (y * out->width + x) * 3);
}

typedef void nd_resize_pass(const nd_image *in, const nd_resize_axis *axis, nd_image *out);

/* A pass that changes nothing is a copy: Pillow leaves it out as well. */
static nd_status resize_along(const nd_image *in, int64_t width, int64_t height, nd_filter filter,
                              nd_image *out) {
    ND_TRY(nd_image_new(width, height, "resized", out));
    if (width == in->width && height == in->height) {
        memcpy(out->rgb, in->rgb, (size_t)(width * height) * 3);
        return nd_status_ok;
    }
    const bool rows = height == in->height;
    nd_resize_axis axis;
    nd_status status = rows ? resize_axis_new(in->width, width, filter, &axis)
                            : resize_axis_new(in->height, height, filter, &axis);
    nd_resize_pass *pass = rows ? resize_rows : resize_columns;
    if (!status) pass(in, &axis, out);
    resize_axis_free(&axis);
    return status;
}

nd_status nd_image_resize(const nd_image *image, int64_t width, int64_t height, nd_filter filter,
                          nd_image *out) {
    nd_image between = {0};
    *out = (nd_image){0};
    nd_status status = resize_along(image, width, image->height, filter, &between);
    if (!status) status = resize_along(&between, width, height, filter, out);
    nd_image_free(&between);
    if (status) nd_image_free(out);
    return status;
}
