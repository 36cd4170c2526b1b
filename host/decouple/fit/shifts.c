#include "decouple/fit/shifts.h"

#include "base/parallel.h"

#include <stdlib.h>
#include <string.h>

enum {
    taps = 3, /* an axis */
    n_shifts = 13,
    n_edges = 4,
    n_sums = n_shifts + n_edges,
    least_channels = 64,  /* of a group: products of fewer rows and columns are no faster than patches */
    usual_rows = 4096,    /* pixels at once */
    most_floats = 1 << 24 /* of one image */
};

/* Half of the shifts between two taps: those that go forward in memory. The unlike ones first, which cost
 * twice as much. */
static const struct {
    int y, x;
} shift[n_shifts] = {{0, 1},  {0, 2},  {1, -2}, {1, -1}, {1, 0}, {1, 1}, {1, 2},
                     {2, -2}, {2, -1}, {2, 0},  {2, 1},  {2, 2}, {0, 0}};

/* Windows centred outside, by the one row or column of taps that is within the image. */
static const struct {
    bool column; /* left or right; corners belong to the rows above and below */
    bool far;    /* below or right of the image */
    int tap;     /* the row or column */
} edge[n_edges] = {{false, false, taps - 1}, {false, true, 0}, {true, false, taps - 1}, {true, true, 0}};

struct nd_shifts {
    int64_t groups, channels; /* of a group */
    int64_t h, w;
    int64_t n, most; /* images that wait, and that there is room for */
    float *maps;     /* [groups][most (h + 2) (w + 2) + 2][channels]: zeros below and right of an image */
    float *lines[n_edges];  /* [groups][most * length][channels][taps] */
    double *sums[n_shifts]; /* [groups][channels][channels] */
    double *edges[n_edges]; /* [groups][channels * taps][channels * taps] */
    double *means;          /* [groups][channels][taps * taps]: sums of patches */
};

bool nd_shifts_suit(const nd_conv *conv) {
    const nd_window *window = &conv->window;
    if (conv->product || conv->ni / conv->groups < least_channels) return false;
    for (int axis = 0; axis < 2; axis++)
        if (window->kernel[axis] != taps || window->stride[axis] != 1 || window->dilation[axis] != 1)
            return false;
    for (int side = 0; side < 4; side++)
        if (window->pad[side] != 1) return false;
    return (conv->in_h + 2) * (conv->in_w + 2) <= most_floats / conv->ni;
}

static int64_t map_rows(const nd_shifts *s, int64_t images) {
    return images * (s->h + 2) * (s->w + 2);
}

/* Pixels that the last shift reaches past the last image. */
static int64_t map_size(const nd_shifts *s) {
    return (map_rows(s, s->most) + 2) * s->channels;
}

static int64_t line_length(const nd_shifts *s, int e) {
    return edge[e].column ? s->h : s->w + 2;
}

nd_status nd_shifts_new(const nd_conv *conv, nd_shifts **out) {
    nd_shifts *s = calloc(1, sizeof *s);
    ND_REQUIRE(s, nd_status_memory, "conv %s: no memory for its moments", conv->name);
    *s = (nd_shifts){
        .groups = conv->groups, .channels = conv->ni / conv->groups, .h = conv->in_h, .w = conv->in_w};
    s->most = usual_rows / map_rows(s, 1);
    if (s->most < 1) s->most = 1;
    const size_t groups = (size_t)s->groups, channels = (size_t)s->channels;
    s->maps = nd_alloc_array(groups, (size_t)map_size(s) * sizeof *s->maps);
    s->means = nd_alloc_array(groups, channels * taps * taps * sizeof *s->means);
    bool memory = s->maps && s->means;
    for (int i = 0; i < n_shifts; i++) {
        s->sums[i] = nd_alloc_array(groups, channels * channels * sizeof **s->sums);
        memory = memory && s->sums[i];
    }
    for (int e = 0; e < n_edges; e++) {
        s->lines[e] = nd_alloc_array(groups * (size_t)(s->most * line_length(s, e)),
                                     channels * taps * sizeof **s->lines);
        s->edges[e] = nd_alloc_array(groups, channels * taps * channels * taps * sizeof **s->edges);
        memory = memory && s->lines[e] && s->edges[e];
    }
    if (!memory) {
        nd_shifts_free(s);
        return nd_fail(nd_status_memory, "conv %s: no memory for its moments", conv->name);
    }
    *out = s;
    return nd_status_ok;
}

void nd_shifts_free(nd_shifts *s) {
    if (!s) return;
    free(s->maps);
    free(s->means);
    for (int i = 0; i < n_shifts; i++) free(s->sums[i]);
    for (int e = 0; e < n_edges; e++) {
        free(s->lines[e]);
        free(s->edges[e]);
    }
    free(s);
}

typedef struct filling {
    nd_shifts *to;
    const float *x; /* one image */
} filling;

/* One row of the image, with channels last. */
static void fill_rows(void *context, int64_t begin, int64_t end, int worker) {
    const filling *f = context;
    nd_shifts *s = f->to;
    (void)worker;
    for (int64_t r = begin; r < end; r++) {
        const int64_t group = r / s->h, y = r % s->h;
        const float *from = f->x + (group * s->channels * s->h + y) * s->w;
        float *to = s->maps + group * map_size(s) + (map_rows(s, s->n) + y * (s->w + 2)) * s->channels;
        for (int64_t x = 0; x < s->w; x++)
            for (int64_t c = 0; c < s->channels; c++) to[x * s->channels + c] = from[c * s->h * s->w + x];
    }
}

/* Number `at` along an edge, corners being -1 and w, or out of the image. */
static void fill_window(const nd_shifts *s, int e, const float *x, int64_t at, float *to) {
    const int64_t line = !edge[e].far ? 0 : (edge[e].column ? s->w : s->h) - 1;
    const int64_t length = edge[e].column ? s->h : s->w;
    for (int64_t c = 0; c < s->channels; c++, x += s->h * s->w)
        for (int64_t t = 0; t < taps; t++) {
            const int64_t along = at + t - 1;
            const bool inside = along >= 0 && along < length;
            const int64_t pixel = edge[e].column ? along * s->w + line : line * s->w + along;
            *to++ = inside ? x[pixel] : 0;
        }
}

static void fill_edges(const nd_shifts *s, const float *x) {
    for (int e = 0; e < n_edges; e++) {
        const int64_t length = line_length(s, e), window = s->channels * taps;
        for (int64_t g = 0; g < s->groups; g++) {
            float *to = s->lines[e] + (g * s->most + s->n) * length * window;
            for (int64_t i = 0; i < length; i++)
                fill_window(s, e, x + g * s->channels * s->h * s->w, edge[e].column ? i : i - 1,
                            to + i * window);
        }
    }
}

static double sum_of(const float *x, int64_t n, int64_t step) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i * step];
    return sum;
}

/* Windows that overlap the border miss nothing of a map but, by their tap, its first or last row and
 * column. */
static void sum_channels(void *context, int64_t begin, int64_t end, int worker) {
    const filling *f = context;
    const nd_shifts *s = f->to;
    const int64_t h = s->h, w = s->w;
    (void)worker;
    for (int64_t c = begin; c < end; c++) {
        const float *x = f->x + c * h * w, *last = x + (h - 1) * w;
        const double all = sum_of(x, h * w, 1);
        const double rows[taps] = {sum_of(last, w, 1), 0, sum_of(x, w, 1)};
        const double columns[taps] = {sum_of(x + w - 1, h, w), 0, sum_of(x, h, w)};
        for (int ty = 0; ty < taps; ty++)
            for (int tx = 0; tx < taps; tx++) {
                const double corner = ty == 1 || tx == 1 ? 0 : (ty ? x : last)[tx ? 0 : w - 1];
                s->means[(c * taps + ty) * taps + tx] += all - rows[ty] - columns[tx] + corner;
            }
    }
}

typedef struct summing {
    nd_shifts *s;
    nd_backend *backend;
} summing;

static nd_status sum_one(void *context, int64_t i) {
    const summing *job = context;
    nd_shifts *s = job->s;
    const int64_t sum = i / s->groups, g = i % s->groups, c = s->channels;
    const nd_linalg *linalg = &job->backend->table->linalg;
    if (sum < n_shifts) {
        const float *a = s->maps + g * map_size(s);
        const float *b = a + (shift[sum].y * (s->w + 2) + shift[sum].x) * c;
        return linalg->accumulate(job->backend, map_rows(s, s->n) - 2 * (s->w + 2), c, a, c, b,
                                  s->sums[sum] + g * c * c);
    }
    const int e = (int)(sum - n_shifts);
    const float *lines = s->lines[e] + g * s->most * line_length(s, e) * c * taps;
    return linalg->accumulate(job->backend, s->n * line_length(s, e), c * taps, lines, c * taps, lines,
                              s->edges[e] + g * c * taps * c * taps);
}

static nd_status sum_waiting(nd_shifts *s, nd_backend *backend) {
    if (!s->n) return nd_status_ok;
    summing job = {s, backend};
    const int64_t count = n_sums * s->groups;
    ND_TRY(nd_parallel_tasks(count, backend->table->linalg.concurrent ? count : 1, sum_one, &job));
    s->n = 0;
    return nd_status_ok;
}

nd_status nd_shifts_add(nd_shifts *s, nd_backend *backend, const nd_conv *conv, int64_t n, const float *x) {
    for (int64_t i = 0; i < n; i++, x += conv->ni * s->h * s->w) {
        filling f = {s, x};
        nd_parallel_for(s->groups * s->h, s->w * s->channels, fill_rows, &f);
        fill_edges(s, x);
        nd_parallel_for(s->groups * s->channels, s->h * s->w, sum_channels, &f);
        if (++s->n == s->most) ND_TRY(sum_waiting(s, backend));
    }
    return nd_status_ok;
}

/* The sum of a shift, of which half is the transpose of the other, and how far apart its columns are. */
static const double *shift_sum(const nd_shifts *s, int64_t g, int y, int x, int64_t *row, int64_t *column) {
    const bool back = y < 0 || (y == 0 && x < 0);
    *row = back ? 1 : s->channels;
    *column = back ? s->channels : 1;
    for (int i = 0; i < n_shifts; i++)
        if (shift[i].y == (back ? -y : y) && shift[i].x == (back ? -x : x))
            return s->sums[i] + g * s->channels * s->channels;
    return NULL; /* there is none such */
}

typedef struct spreading {
    const nd_shifts *s;
    double *g;
} spreading;

/* Rows of g of one channel: all taps of it with all others. */
static void spread_channels(void *context, int64_t begin, int64_t end, int worker) {
    const spreading *job = context;
    const nd_shifts *s = job->s;
    const int64_t c = s->channels, all = taps * taps, k = c * all;
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        for (int t = 0; t < all; t++)
            for (int u = 0; u < all; u++) {
                const int64_t group = i / c, channel = i % c;
                double *to = job->g + (group * k + channel * all + t) * k + u;
                const int ty = t / taps, tx = t % taps, uy = u / taps, ux = u % taps;
                int64_t row, column;
                const double *sum = shift_sum(s, group, uy - ty, ux - tx, &row, &column);
                for (int64_t j = 0; j < c; j++) to[j * all] = sum[channel * row + j * column];
                for (int e = 0; e < n_edges; e++) {
                    const int along_t = edge[e].column ? ty : tx, along_u = edge[e].column ? uy : ux;
                    if ((edge[e].column ? tx : ty) != edge[e].tap) continue;
                    if ((edge[e].column ? ux : uy) != edge[e].tap) continue;
                    const double *from =
                        s->edges[e] + (group * c + channel) * taps * c * taps + along_t * c * taps + along_u;
                    for (int64_t j = 0; j < c; j++) to[j * all] -= from[j * taps];
                }
            }
}

nd_status nd_shifts_finish(nd_shifts *s, nd_backend *backend, double *g, double *p) {
    ND_TRY(sum_waiting(s, backend));
    spreading job = {s, g};
    const int64_t all = taps * taps;
    nd_parallel_for(s->groups * s->channels, all * all * s->channels, spread_channels, &job);
    memcpy(p, s->means, (size_t)(s->groups * s->channels * all) * sizeof *p);
    return nd_status_ok;
}
