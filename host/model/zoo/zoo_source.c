#include "base/parallel.h"
#include "model/model.h"
#include "model/zoo/zoo_layers.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
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

/* --- a safetensors file */

typedef struct nd_zoo_key {
    const char *name; /* as the architecture says it, without "module." */
    const nd_tensor *tensor;
    bool used;
} nd_zoo_key;

enum { nd_zoo_named = 5 }; /* of each kind of complaint */

typedef struct nd_zoo_complaint {
    size_t count;
    char text[600];
} nd_zoo_complaint;

typedef struct nd_zoo_weights {
    const char *path;
    const nd_zoo_alias *aliases;
    nd_zoo_key *keys; /* sorted by name */
    size_t n_keys;
    nd_zoo_complaint missing, extra, wrong;
} nd_zoo_weights;

static void zoo_complain(nd_zoo_complaint *complaint, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void zoo_complain(nd_zoo_complaint *complaint, const char *format, ...) {
    if (complaint->count++ >= nd_zoo_named) return;
    size_t used = strlen(complaint->text);
    used += (size_t)snprintf(complaint->text + used, sizeof complaint->text - used, "%s", used ? ", " : "");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(complaint->text + used, sizeof complaint->text - used, format, arguments);
    va_end(arguments);
}

static int zoo_key_compare(const void *left, const void *right) {
    return strcmp(((const nd_zoo_key *)left)->name, ((const nd_zoo_key *)right)->name);
}

static nd_status zoo_keys(const nd_safetensors *file, nd_zoo_weights *weights) {
    static const char prefix[] = "module.", counter[] = "num_batches_tracked";
    weights->keys = nd_alloc_array(file->n_entries, sizeof *weights->keys);
    ND_REQUIRE(weights->keys, nd_status_memory, "%s: no memory", weights->path);
    for (size_t i = 0; i < file->n_entries; i++) {
        const char *name = file->entries[i].name;
        if (strncmp(name, prefix, sizeof prefix - 1) == 0) name += sizeof prefix - 1;
        const size_t length = strlen(name);
        if (length >= sizeof counter - 1 && strcmp(name + length - (sizeof counter - 1), counter) == 0)
            continue;
        weights->keys[weights->n_keys++] = (nd_zoo_key){.name = name, .tensor = &file->entries[i].tensor};
    }
    if (weights->n_keys) qsort(weights->keys, weights->n_keys, sizeof *weights->keys, zoo_key_compare);
    for (size_t i = 1; i < weights->n_keys; i++)
        ND_REQUIRE(strcmp(weights->keys[i - 1].name, weights->keys[i].name), nd_status_format,
                   "%s: tensor '%.200s': both with and without 'module.'", weights->path,
                   weights->keys[i].name);
    return nd_status_ok;
}

static nd_zoo_key *zoo_key_find(const nd_zoo_weights *weights, const char *name) {
    const nd_zoo_key key = {.name = name};
    if (!weights->n_keys) return NULL;
    return bsearch(&key, weights->keys, weights->n_keys, sizeof key, zoo_key_compare);
}

static nd_zoo_key *zoo_key_find_alias(const nd_zoo_weights *weights, const char *name) {
    for (const nd_zoo_alias *alias = weights->aliases; alias && alias->name; alias++) {
        const size_t length = strlen(alias->name);
        char other[128];
        if (strncmp(name, alias->name, length)) continue;
        snprintf(other, sizeof other, "%s%s", alias->alias, name + length);
        return zoo_key_find(weights, other);
    }
    return NULL;
}

/* A linear layer may be stored as the convolution over its whole input: the numbers lie in the same order. */
static bool zoo_shape_fits(const nd_tensor *tensor, int rank, const int64_t *dims) {
    if (tensor->rank == rank && memcmp(tensor->dims, dims, (size_t)rank * sizeof *dims) == 0) return true;
    return rank == 2 && tensor->rank == 4 && tensor->dims[0] == dims[0] &&
           nd_tensor_count(tensor) == nd_dims_count(rank, dims);
}

/* Complaints do not stop the building: the parameter stays blank, and the caller reports them all. */
static nd_status zoo_from_weights(void *context, const char *name, int rank, const int64_t *dims,
                                  nd_tensor *out) {
    nd_zoo_weights *weights = context;
    nd_zoo_key *key = zoo_key_find(weights, name);
    if (!key) key = zoo_key_find_alias(weights, name);
    if (!key) {
        zoo_complain(&weights->missing, "%s", name);
        return nd_zoo_blank(NULL, name, rank, dims, out);
    }
    key->used = true;
    const nd_tensor *tensor = key->tensor;
    char have[128], want[128];
    if (!zoo_shape_fits(tensor, rank, dims)) {
        zoo_complain(&weights->wrong, "%s is %s, not %s", name,
                     nd_dims_format(tensor->rank, tensor->dims, have, sizeof have),
                     nd_dims_format(rank, dims, want, sizeof want));
        return nd_zoo_blank(NULL, name, rank, dims, out);
    }
    if (tensor->dtype > nd_dtype_bf16) { /* the floating-point types come first */
        zoo_complain(&weights->wrong, "%s is %s, no floating-point type", name, nd_dtype_name(tensor->dtype));
        return nd_zoo_blank(NULL, name, rank, dims, out);
    }
    if (tensor->dtype == nd_dtype_f32) {
        *out = nd_tensor_share(tensor);
        out->rank = rank;
        memcpy(out->dims, dims, (size_t)rank * sizeof *dims);
        return nd_status_ok;
    }
    ND_TRY(nd_tensor_new(nd_dtype_f32, rank, dims, out));
    nd_tensor_to_f32(tensor, out->data);
    return nd_status_ok;
}

static void zoo_complaint_join(char *text, size_t size, const nd_zoo_complaint *complaint, const char *what) {
    if (!complaint->count) return;
    const size_t used = strlen(text);
    char more[48] = "";
    if (complaint->count > nd_zoo_named)
        snprintf(more, sizeof more, " and %zu more", complaint->count - nd_zoo_named);
    snprintf(text + used, size - used, "%s%s %s%s", used ? "; " : "", what, complaint->text, more);
}

static nd_status zoo_judge(nd_zoo_weights *weights, const nd_zoo_entry *entry, const nd_safetensors *file) {
    for (size_t i = 0; i < weights->n_keys; i++)
        if (!weights->keys[i].used) zoo_complain(&weights->extra, "%.120s", weights->keys[i].name);
    if (!weights->missing.count && !weights->extra.count && !weights->wrong.count) return nd_status_ok;
    char text[2400] = "";
    zoo_complaint_join(text, sizeof text, &weights->missing, "missing");
    zoo_complaint_join(text, sizeof text, &weights->extra, "unknown");
    zoo_complaint_join(text, sizeof text, &weights->wrong, "of another kind:");
    for (size_t i = 0; i < file->n_meta; i++)
        if (strncmp(file->meta[i].key, "nd.method", sizeof "nd.method") == 0)
            return nd_fail(nd_status_format,
                           "%s: decoupled by nd (%.40s), so no longer a plain %s: use the ONNX file (%s)",
                           weights->path, file->meta[i].text, entry->name, text);
    return nd_fail(nd_status_format, "%s: does not fit %s: %s", weights->path, entry->name, text);
}

nd_status nd_zoo_open(const char *arch, const char *path, nd_graph **out) {
    *out = NULL;
    const nd_zoo_entry *entry = nd_zoo_find(arch);
    ND_REQUIRE(entry, nd_status_usage, "no architecture '%.100s'; `nd zoo` lists those there are", arch);
    if (!path) {
        uint64_t seed = 1;
        return nd_zoo_build(entry, nd_zoo_random, &seed, out);
    }
    nd_status status;
    nd_safetensors file;
    nd_graph *graph = NULL;
    nd_zoo_weights weights = {.path = path, .aliases = entry->plan->aliases};
    ND_TRY(nd_safetensors_read(path, &file));
    ND_TRY_DONE(zoo_keys(&file, &weights));
    ND_TRY_DONE(nd_zoo_build(entry, zoo_from_weights, &weights, &graph));
    ND_TRY_DONE(zoo_judge(&weights, entry, &file));
    *out = graph;
    graph = NULL;
done:
    nd_graph_free(graph);
    free(weights.keys);
    nd_safetensors_free(&file);
    return status;
}
