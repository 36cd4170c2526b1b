/* RoiAlign: the mean of a map over a grid of cells in each region, between its pixels by interpolation (He
 * et al., Mask R-CNN, 2017, section 3). */
#include "run/dynamic/dynamic_parts.h"

#include "base/parallel.h"

#include <math.h>

typedef struct nd_regions {
    const nd_tensor *x, *rois, *images; /* [n][c][h][w], [r][4], [r] */
    nd_tensor *y;                       /* [r][c][cells][cells] */
    const nd_attr *attr;
} nd_regions;

/* Where cells of a region begin along an axis, how long they are, and how many points of each are looked
 * at. */
typedef struct nd_cells {
    float first, length;
    int64_t points;
} nd_cells;

static nd_cells region_cells(const nd_regions *regions, const float *roi, int axis) {
    const nd_attr *attr = regions->attr;
    const float offset = attr->center ? 0.5f : 0; /* of a pixel's centre */
    const float first = roi[1 - axis] * attr->alpha - offset, last = roi[3 - axis] * attr->alpha - offset;
    float whole = last - first;
    if (!attr->center && !(whole >= 1)) whole = 1;
    nd_cells cells = {first, whole / (float)attr->window.kernel[axis], attr->size};
    if (!cells.points) cells.points = cells.length > 0 ? (int64_t)ceilf(cells.length) : 0;
    return cells;
}

/* The two pixels that a point lies between, and the weight of the second; false outside of the map. */
static bool point_pixels(float at, int64_t size, int64_t pixels[2], float *weight) {
    if (!(at >= -1 && at <= (float)size)) return false;
    if (at < 0) at = 0;
    pixels[0] = (int64_t)at;
    pixels[1] = pixels[0] + 1;
    if (pixels[0] >= size - 1) {
        pixels[0] = pixels[1] = size - 1;
        at = (float)pixels[0];
    }
    *weight = at - (float)pixels[0];
    return true;
}

static float cell_mean(const float *map, int64_t height, int64_t width, const nd_cells *rows, int64_t row,
                       const nd_cells *columns, int64_t column) {
    float sum = 0;
    for (int64_t i = 0; i < rows->points; i++) {
        int64_t ys[2], xs[2];
        float down, right;
        const float part = ((float)i + 0.5f) / (float)rows->points;
        if (!point_pixels(rows->first + ((float)row + part) * rows->length, height, ys, &down)) continue;
        for (int64_t j = 0; j < columns->points; j++) {
            const float along = ((float)j + 0.5f) / (float)columns->points;
            if (!point_pixels(columns->first + ((float)column + along) * columns->length, width, xs, &right))
                continue;
            const float *const upper = map + ys[0] * width, *const lower = map + ys[1] * width;
            sum += (1 - down) * ((1 - right) * upper[xs[0]] + right * upper[xs[1]]) +
                   down * ((1 - right) * lower[xs[0]] + right * lower[xs[1]]);
        }
    }
    const int64_t points = rows->points * columns->points;
    return points ? sum / (float)points : 0;
}

static void region_align(const nd_regions *regions, int64_t r) {
    const nd_tensor *x = regions->x;
    const float *roi = (const float *)regions->rois->data + 4 * r;
    const nd_cells rows = region_cells(regions, roi, 0), columns = region_cells(regions, roi, 1);
    const int64_t image = ((const int64_t *)regions->images->data)[r];
    const int64_t channels = x->dims[1], height = x->dims[2], width = x->dims[3];
    const int64_t down = regions->attr->window.kernel[0], across = regions->attr->window.kernel[1];
    float *y = (float *)regions->y->data + r * channels * down * across;
    for (int64_t c = 0; c < channels; c++) {
        const float *map = (const float *)x->data + (image * channels + c) * height * width;
        for (int64_t i = 0; i < down; i++)
            for (int64_t j = 0; j < across; j++) *y++ = cell_mean(map, height, width, &rows, i, &columns, j);
    }
}

static void regions_part(void *context, int64_t first, int64_t last, int worker) {
    (void)worker;
    for (int64_t r = first; r < last; r++) region_align(context, r);
}

nd_status nd_call_roi_align(nd_call *call) {
    enum { most_points = 1 << 12 };
    nd_regions regions = {.y = &call->out[0], .attr = &call->node->attr};
    ND_TRY(nd_call_input(call, 0, &regions.x));
    ND_TRY(nd_call_input(call, 1, &regions.rois));
    ND_TRY(nd_call_input(call, 2, &regions.images));
    const int64_t n = regions.rois->rank ? regions.rois->dims[0] : 0, *images = regions.images->data;
    const bool fits = regions.x->rank == 4 && regions.rois->rank == 2 && regions.rois->dims[1] == 4 &&
                      regions.images->rank == 1 && regions.images->dims[0] == n &&
                      regions.x->dtype == nd_dtype_f32 && regions.rois->dtype == nd_dtype_f32 &&
                      regions.images->dtype == nd_dtype_i64;
    ND_REQUIRE(fits, nd_status_format, "a map, regions and images that do not fit each other");
    for (int64_t r = 0; r < n; r++) {
        ND_REQUIRE(images[r] >= 0 && images[r] < regions.x->dims[0], nd_status_format,
                   "region %lld is of image %lld", (long long)r, (long long)images[r]);
        for (int axis = 0; axis < 2; axis++) {
            const nd_cells cells = region_cells(&regions, (const float *)regions.rois->data + 4 * r, axis);
            ND_REQUIRE(isfinite(cells.length) && cells.points <= most_points, nd_status_format,
                       "region %lld is larger than any map", (long long)r);
        }
    }
    const int64_t *cells = regions.attr->window.kernel;
    const int64_t dims[] = {n, regions.x->dims[1], cells[0], cells[1]};
    ND_TRY(nd_call_new(nd_dtype_f32, 4, dims, regions.y));
    if (nd_tensor_count(regions.y) > 0 && nd_tensor_count(regions.x) > 0)
        nd_parallel_for(n, 16 * nd_tensor_count(regions.y) / n, regions_part, &regions);
    return nd_status_ok;
}
