#include "base/parallel.h"
#include "model/zoo/zoo_layers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* --- mapped memory */

static void zoo_unmap(nd_buffer *buffer) {
    munmap(buffer->data, buffer->bytes);
}

/* Pages that are zero and take no memory until they are touched: cheaper for blank tensors, which never are,
 * and for random ones, whose pages the filling threads then bring in side by side. */
static nd_status zoo_map(const char *name, int rank, const int64_t *dims, bool write, nd_tensor *out) {
    *out = (nd_tensor){.dtype = nd_dtype_f32, .rank = rank};
    memcpy(out->dims, dims, (size_t)rank * sizeof *dims);
    nd_buffer *buffer = malloc(sizeof *buffer);
    ND_REQUIRE(buffer, nd_status_memory, "%s: no memory", name);
    *buffer = (nd_buffer){.bytes = nd_tensor_bytes(out), .release = zoo_unmap, .references = 1};
    buffer->data = mmap(NULL, buffer->bytes, write ? PROT_READ | PROT_WRITE : PROT_READ,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (buffer->data == MAP_FAILED) {
        free(buffer);
        return nd_fail(nd_status_memory, "%s: no address space", name);
    }
    if (write) madvise(buffer->data, buffer->bytes, MADV_HUGEPAGE); /* a wish: its failure costs time only */
    out->buffer = buffer;
    out->data = buffer->data;
    return nd_status_ok;
}

nd_status nd_zoo_blank(void *context, const char *name, int rank, const int64_t *dims, nd_tensor *out) {
    (void)context;
    return zoo_map(name, rank, dims, false, out);
}

/* --- random */

/* splitmix64 (Steele, Lea and Flood 2014) as a hash: its n-th number without those before it. */
static uint64_t zoo_hash(uint64_t key, uint64_t n) {
    uint64_t z = key + (n + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

typedef struct nd_zoo_fill {
    uint64_t key;
    float mean, scale; /* of one unit of the sum below */
    float *out;
} nd_zoo_fill;

/* The sum of four uniform 16-bit numbers: near normal out to 3.4 standard deviations, and several times as
 * fast as a logarithm and a cosine. */
static void zoo_fill_range(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    const nd_zoo_fill *fill = context;
    for (int64_t i = begin; i < end; i++) {
        const uint64_t bits = zoo_hash(fill->key, (uint64_t)i);
        const int32_t sum =
            (int32_t)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48)) -
            2 * 0xffff;
        fill->out[i] = fill->mean + fill->scale * (float)sum;
    }
}

typedef struct nd_zoo_law {
    const char *suffix;
    float mean, deviation;
} nd_zoo_law;

static nd_zoo_law zoo_law_of(const char *name, int rank, const int64_t *dims) {
    static const nd_zoo_law laws[] = {
        {".running_var", 1.0f, 0.1f},
        {".running_mean", 0.0f, 0.1f},
        {".bias", 0.0f, 0.1f},
        {".weight", 0.7f, 0.05f},
    };
    if (rank > 1) return (nd_zoo_law){"", 0.0f, sqrtf(2.0f / (float)nd_dims_count(rank - 1, dims + 1))};
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++) {
        const size_t suffix = strlen(laws[i].suffix);
        if (length >= suffix && strcmp(name + length - suffix, laws[i].suffix) == 0) return laws[i];
    }
    return (nd_zoo_law){"", 0.0f, 1.0f};
}

nd_status nd_zoo_random(void *context, const char *name, int rank, const int64_t *dims, nd_tensor *out) {
    ND_TRY(zoo_map(name, rank, dims, true, out));
    const nd_zoo_law law = zoo_law_of(name, rank, dims);
    nd_zoo_fill fill = {.key = *(const uint64_t *)context, .mean = law.mean, .out = out->data};
    for (const char *c = name; *c; c++) fill.key = zoo_hash(fill.key, (unsigned char)*c);
    /* Four uniform variables on [0, 65536) have variance 4 * 65536^2 / 12. */
    fill.scale = law.deviation * 1.7320508f / 65536.0f;
    nd_parallel_for(nd_tensor_count(out), 8, zoo_fill_range, &fill);
    return nd_status_ok;
}
