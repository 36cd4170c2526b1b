/* Values between the host (packed fp32, NCHW) and where the device keeps them. Values whose channels lie
 * together are transposed in square tiles: a plane at a time would read a cache line for each of its values.
 */
#include "run/cpu/cpu.h"
#include "run/quantized.h"

#include <string.h>

/* `n` values, `step` apart on the device and one after the other in fp32. */
typedef struct codec {
    size_t size; /* bytes on the device */
    void (*read)(const void *device, int64_t step, int64_t n, float *out);
    void (*write)(void *device, int64_t step, int64_t n, const float *in, nd_quant quant);
    /* Pictures: n values of each of three planes, `area` apart. */
    void (*interleave)(const float *planes, int64_t area, int64_t n, void *device, nd_quant quant);
} codec;

static const nd_quant plain = {.scale = 1}, plain_e4m3 = {.scale = 1, .e4m3 = true};

static void read_f32(const void *device, int64_t step, int64_t n, float *out) {
    const float *from = device;
    if (step == 1)
        memcpy(out, from, (size_t)n * sizeof *out);
    else
        for (int64_t i = 0; i < n; i++) out[i] = from[i * step];
}

static void write_f32(void *device, int64_t step, int64_t n, const float *in, nd_quant quant) {
    float *to = device;
    (void)quant;
    if (step == 1)
        memcpy(to, in, (size_t)n * sizeof *in);
    else
        for (int64_t i = 0; i < n; i++) to[i * step] = in[i];
}

static void read_bf16(const void *device, int64_t step, int64_t n, float *out) {
    const uint16_t *from = device;
    for (int64_t i = 0; i < n; i++) out[i] = nd_bf16_to_f32(from[i * step]);
}

static void write_bf16(void *device, int64_t step, int64_t n, const float *in, nd_quant quant) {
    uint16_t *to = device;
    (void)quant;
    for (int64_t i = 0; i < n; i++) to[i * step] = nd_f32_to_bf16(in[i]);
}

static void read_u8(const void *device, int64_t step, int64_t n, float *out) {
    const uint8_t *from = device;
    for (int64_t i = 0; i < n; i++) out[i] = from[i * step];
}

static void write_u8(void *device, int64_t step, int64_t n, const float *in, nd_quant quant) {
    uint8_t *to = device;
    if (step == 1)
        nd_cpu_quantize(quant, n, in, to);
    else
        for (int64_t i = 0; i < n; i++) to[i * step] = nd_quantize(quant, in[i]);
}

static void read_e4m3(const void *device, int64_t step, int64_t n, float *out) {
    const uint8_t *from = device;
    for (int64_t i = 0; i < n; i++) out[i] = nd_e4m3_to_f32(from[i * step]);
}

/* A call for the three values of every pixel takes as long as a layer in int8. */
ND_CLONES static void interleave(const float *planes, int64_t area, int64_t n, float *restrict to) {
    for (int64_t i = 0; i < n; i++) {
        to[3 * i] = planes[i];
        to[3 * i + 1] = planes[i + area];
        to[3 * i + 2] = planes[i + 2 * area];
    }
}

static void interleave_f32(const float *planes, int64_t area, int64_t n, void *device, nd_quant quant) {
    (void)quant;
    interleave(planes, area, n, device);
}

enum { interleave_some = 256 };

static void interleave_bf16(const float *planes, int64_t area, int64_t n, void *device, nd_quant quant) {
    float values[3 * interleave_some];
    (void)quant;
    for (int64_t i = 0; i < n; i += interleave_some) {
        const int64_t count = n - i < interleave_some ? n - i : interleave_some;
        interleave(planes + i, area, count, values);
        nd_cpu_narrow(3 * count, values, (uint16_t *)device + 3 * i);
    }
}

static void interleave_u8(const float *planes, int64_t area, int64_t n, void *device, nd_quant quant) {
    float values[3 * interleave_some];
    for (int64_t i = 0; i < n; i += interleave_some) {
        const int64_t count = n - i < interleave_some ? n - i : interleave_some;
        interleave(planes + i, area, count, values);
        nd_cpu_quantize(quant, 3 * count, values, (uint8_t *)device + 3 * i);
    }
}

static const codec codecs[] = {
    [nd_dtype_f32] = {sizeof(float), read_f32, write_f32, interleave_f32},
    [nd_dtype_bf16] = {sizeof(uint16_t), read_bf16, write_bf16, interleave_bf16},
    [nd_dtype_u8] = {sizeof(uint8_t), read_u8, write_u8, interleave_u8},
    [nd_dtype_e4m3] = {sizeof(uint8_t), read_e4m3, write_u8, interleave_u8},
};

typedef struct transfer {
    nd_view view;
    const codec *codec;
    nd_quant quant; /* of 8 bits that are uploaded */
    bool up;
    char *device;
    float *host;
    int64_t pixel; /* step from a pixel to the next, in values: tiles; 0: rows */
} transfer;

enum {
    tile = 16, /* values: a cache line of fp32 */
    piece = 1024,
    picture_channels = 3,
};

/* Rows of the last axis [begin, end), counted over all leading axes. */
static void transfer_rows(void *context, int64_t begin, int64_t end, int worker) {
    const transfer *t = context;
    const nd_view *view = &t->view;
    const int last = view->rank - 1;
    const int64_t width = view->rank ? view->dims[last] : 1, step = view->rank ? view->strides[last] : 1;
    (void)worker;
    for (int64_t row = begin; row < end; row++) {
        int64_t position = view->offset, rest = row;
        for (int axis = last - 1; axis >= 0; axis--) {
            position += rest % view->dims[axis] * view->strides[axis];
            rest /= view->dims[axis];
        }
        char *device = t->device + position * (int64_t)t->codec->size;
        if (t->up)
            t->codec->write(device, step, width, t->host + row * width, t->quant);
        else
            t->codec->read(device, step, width, t->host + row * width);
    }
}

/* `channels` of `pixels`, at most a tile of each. `host` has planes of `area` values. */
static void download_tile(const transfer *t, const char *device, int channels, int pixels, float *host,
                          int64_t area) {
    float values[tile][tile];
    const int64_t pixel = t->pixel * (int64_t)t->codec->size;
    for (int p = 0; p < pixels; p++) t->codec->read(device + p * pixel, 1, channels, values[p]);
    for (int c = 0; c < channels; c++)
        for (int p = 0; p < pixels; p++) host[c * area + p] = values[p][c];
}

static void upload_tile(const transfer *t, char *device, int channels, int pixels, const float *host,
                        int64_t area) {
    float values[tile][tile];
    const int64_t pixel = t->pixel * (int64_t)t->codec->size;
    for (int c = 0; c < channels; c++)
        for (int p = 0; p < pixels; p++) values[p][c] = host[c * area + p];
    for (int p = 0; p < pixels; p++) t->codec->write(device + p * pixel, 1, channels, values[p], t->quant);
}

/* Tiles of pixels [begin, end), counted over the images. */
static void transfer_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const transfer *t = context;
    const nd_view *view = &t->view;
    const int64_t area = view->dims[2] * view->dims[3], tiles = (area + tile - 1) / tile;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / tiles, first = i % tiles * tile;
        const int pixels = (int)(first + tile < area ? tile : area - first);
        const int64_t at = view->offset + image * view->strides[0] + first * t->pixel;
        for (int64_t c = 0; c < view->dims[1]; c += tile) {
            const int channels = (int)(c + tile < view->dims[1] ? tile : view->dims[1] - c);
            char *device = t->device + (at + c) * (int64_t)t->codec->size;
            float *host = t->host + (image * view->dims[1] + c) * area + first;
            if (t->up)
                upload_tile(t, device, channels, pixels, host, area);
            else
                download_tile(t, device, channels, pixels, host, area);
        }
    }
}

/* Pieces [begin, end) of the pictures' pixels, counted over the images. */
static void upload_pieces(void *context, int64_t begin, int64_t end, int worker) {
    const transfer *t = context;
    const nd_view *view = &t->view;
    const int64_t area = view->dims[2] * view->dims[3], pieces = (area + piece - 1) / piece;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / pieces, first = i % pieces * piece;
        const int64_t count = first + piece < area ? piece : area - first;
        const int64_t at = view->offset + image * view->strides[0] + first * picture_channels;
        t->codec->interleave(t->host + image * picture_channels * area + first, area, count,
                             t->device + at * (int64_t)t->codec->size, t->quant);
    }
}

static void transfer_all(nd_backend *backend, transfer *t, const nd_view *view, nd_precision precision) {
    const int64_t values = nd_view_count(view);
    nd_cpu_enter((nd_cpu *)backend);
    if (!values) return;
    t->view = *view;
    t->codec = &codecs[nd_precision_storage(precision)];
    t->pixel = nd_cpu_view_pixel(view);
    if (t->up && t->pixel == picture_channels && view->dims[1] == picture_channels) {
        const int64_t pieces = (view->dims[2] * view->dims[3] + piece - 1) / piece;
        nd_parallel_for(view->dims[0] * pieces, piece * picture_channels, upload_pieces, t);
    } else if (t->pixel && view->dims[1] > 1) {
        const int64_t tiles = (view->dims[2] * view->dims[3] + tile - 1) / tile;
        nd_parallel_for(view->dims[0] * tiles, view->dims[1] * tile, transfer_tiles, t);
    } else {
        const int64_t width = view->rank ? view->dims[view->rank - 1] : 1;
        nd_parallel_for(values / width, width, transfer_rows, t);
    }
}

nd_status nd_cpu_upload(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_precision precision,
                        const float *src) {
    transfer t = {.up = true,
                  .device = dst->data,
                  .host = (float *)src,
                  .quant = precision == nd_precision_e4m3 ? plain_e4m3 : plain};
    transfer_all(backend, &t, view, precision);
    return nd_status_ok;
}

nd_status nd_cpu_upload_quantized(nd_backend *backend, nd_memory *dst, const nd_view *view, nd_quant quant,
                                  const float *src) {
    transfer t = {.up = true, .device = dst->data, .host = (float *)src, .quant = quant};
    transfer_all(backend, &t, view, quant.e4m3 ? nd_precision_e4m3 : nd_precision_int8);
    return nd_status_ok;
}

nd_status nd_cpu_download(nd_backend *backend, const nd_memory *src, const nd_view *view,
                          nd_precision precision, float *dst) {
    transfer t = {.device = src->data, .host = dst};
    transfer_all(backend, &t, view, precision);
    return nd_status_ok;
}
