/* cifar10:PATH, a batch file or a folder of them. CIFAR-10 comes in two forms, told apart by the first byte:
 *   binary   records of 1 byte label and 3 x 32 x 32 bytes (red, green, blue plane)
 *   python   a pickled dict with "labels" and "data", an N x 3072 array of the same planes
 * A batch that is cut short gives its complete images. */
#include "datasets/source.h"

#include "base/files/file.h"
#include "base/format/pickle.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { nd_cifar_side = 32, nd_cifar_pixels = 3 * 32 * 32, nd_cifar_classes = 10, nd_cifar_batches_max = 5 };

typedef struct nd_cifar_batch {
    nd_buffer *file;
    const uint8_t *pixels; /* of image i at i * stride */
    size_t stride;
    int32_t *labels;
    int64_t count;
} nd_cifar_batch;

typedef struct nd_cifar {
    nd_source source;
    nd_cifar_batch batches[nd_cifar_batches_max];
    int n_batches;
} nd_cifar;

/* The batch that holds image *index, which becomes the place in it. */
static const nd_cifar_batch *cifar_find(const nd_source *source, int64_t *index) {
    const nd_cifar *cifar = (const nd_cifar *)source;
    const nd_cifar_batch *batch = cifar->batches;
    for (; *index >= batch->count; batch++) *index -= batch->count;
    return batch;
}

static int32_t cifar_label(const nd_source *source, int64_t index) {
    const nd_cifar_batch *batch = cifar_find(source, &index);
    return batch->labels[index];
}

static nd_status cifar_load(const nd_source *source, int64_t index, nd_image *out) {
    const int64_t place = index;
    const nd_cifar_batch *batch = cifar_find(source, &index);
    *out = (nd_image){0};
    ND_REQUIRE(batch->labels[index] >= 0 && batch->labels[index] < nd_cifar_classes, nd_status_format,
               "cifar10: image %lld has label %d", (long long)place, (int)batch->labels[index]);
    ND_TRY(nd_image_new(nd_cifar_side, nd_cifar_side, "cifar10", out));
    const uint8_t *planes = batch->pixels + (size_t)index * batch->stride;
    for (int i = 0; i < nd_cifar_side * nd_cifar_side; i++)
        for (int c = 0; c < 3; c++) out->rgb[3 * i + c] = planes[c * nd_cifar_side * nd_cifar_side + i];
    return nd_status_ok;
}

static void cifar_identify(const nd_source *source, int64_t index, nd_sha256 *hash) {
    const nd_cifar_batch *batch = cifar_find(source, &index);
    const uint8_t label = (uint8_t)batch->labels[index];
    nd_sha256_add(hash, &label, 1);
    nd_sha256_add(hash, batch->pixels + (size_t)index * batch->stride, nd_cifar_pixels);
}

static void cifar_close(nd_source *source) {
    nd_cifar *cifar = (nd_cifar *)source;
    for (int i = 0; i < cifar->n_batches; i++) {
        nd_buffer_unref(cifar->batches[i].file);
        free(cifar->batches[i].labels);
    }
    free(cifar);
}

static nd_status cifar_labels_new(nd_cifar_batch *batch, const char *path) {
    ND_REQUIRE(batch->count > 0, nd_status_format, "%s: not one complete image", path);
    batch->labels = nd_alloc_array((size_t)batch->count, sizeof *batch->labels);
    ND_REQUIRE(batch->labels, nd_status_memory, "%s: no memory", path);
    return nd_status_ok;
}

static nd_status cifar_read_binary(nd_cifar_batch *batch, const char *path) {
    const uint8_t *data = batch->file->data;
    batch->stride = 1 + nd_cifar_pixels;
    batch->pixels = data + 1;
    batch->count = (int64_t)(batch->file->bytes / batch->stride);
    ND_TRY(cifar_labels_new(batch, path));
    for (int64_t i = 0; i < batch->count; i++) batch->labels[i] = data[(size_t)i * batch->stride];
    if (batch->file->bytes % batch->stride)
        nd_log(nd_log_warn, "%s: cut short: %zu bytes after %lld complete images", path,
               batch->file->bytes % batch->stride, (long long)batch->count);
    return nd_status_ok;
}

/* The bytes of a C-ordered numpy array of uint8, as its __reduce__ and __setstate__ tell them. */
static const nd_pickle *cifar_array_bytes(const nd_pickle *array) {
    if (!array || array->kind != nd_pickle_object || array->length != 3) return NULL;
    const nd_pickle *call = array->items[0], *state = array->items[2];
    const bool numpy = !strncmp(call->text, "numpy.", 6) && strstr(call->text, " _reconstruct");
    if (!numpy || state->kind != nd_pickle_tuple || state->length != 5) return NULL;
    const nd_pickle *dtype = state->items[2], *fortran = state->items[3], *bytes = state->items[4];
    if (dtype->kind != nd_pickle_object || dtype->items[1]->length < 1 ||
        !nd_pickle_is_text(dtype->items[1]->items[0], "u1"))
        return NULL;
    return fortran->kind == nd_pickle_bool && !fortran->integer && bytes->kind == nd_pickle_text ? bytes
                                                                                                 : NULL;
}

static nd_status cifar_take_pickle(nd_cifar_batch *batch, const char *path, const nd_pickle *dict, bool cut) {
    const nd_pickle *labels = nd_pickle_get(dict, "labels");
    const nd_pickle *bytes = cifar_array_bytes(nd_pickle_get(dict, "data"));
    ND_REQUIRE(labels && labels->kind == nd_pickle_list, nd_status_format, "%s: no list \"labels\"", path);
    ND_REQUIRE(bytes, nd_status_format, "%s: no array of bytes \"data\"", path);
    const size_t images = bytes->length / nd_cifar_pixels;
    batch->stride = nd_cifar_pixels;
    batch->pixels = (const uint8_t *)bytes->text;
    batch->count = (int64_t)(images < labels->length ? images : labels->length);
    ND_TRY(cifar_labels_new(batch, path));
    for (int64_t i = 0; i < batch->count; i++) {
        const nd_pickle *label = labels->items[i];
        const bool valid =
            label->kind == nd_pickle_int && label->integer >= 0 && label->integer < nd_cifar_classes;
        batch->labels[i] = valid ? (int32_t)label->integer : -1;
    }
    if (cut || images != labels->length)
        nd_log(nd_log_warn, "%s: cut short: %lld of %zu images complete", path, (long long)batch->count,
               labels->length);
    return nd_status_ok;
}

static nd_status cifar_read_python(nd_cifar_batch *batch, const char *path) {
    nd_arena arena = {0};
    const nd_pickle_source source = {.data = batch->file->data, .bytes = batch->file->bytes, .name = path};
    nd_pickle_result result;
    nd_status status = nd_pickle_parse(&source, &arena, &result);
    if (!status) status = cifar_take_pickle(batch, path, result.value, result.cut);
    nd_arena_free(&arena);
    return status;
}

static nd_status cifar_add(nd_cifar *cifar, const char *path) {
    nd_cifar_batch *batch = &cifar->batches[cifar->n_batches];
    ND_TRY(nd_file_map(path, &batch->file));
    cifar->n_batches++;
    ND_REQUIRE(batch->file->bytes, nd_status_format, "%s: empty", path);
    const bool pickled = *(const uint8_t *)batch->file->data == 0x80;
    ND_TRY(pickled ? cifar_read_python(batch, path) : cifar_read_binary(batch, path));
    cifar->source.count += batch->count;
    return nd_status_ok;
}

/* Where a batch may lie below the folder that was named. */
static const char *const nd_cifar_places[] = {"", "cifar-10-batches-bin/", "cifar-10-batches-py/"};
static const char *const nd_cifar_endings[] = {".bin", ""};

static nd_status cifar_add_named(nd_cifar *cifar, const char *folder, const char *name) {
    for (size_t i = 0; i < sizeof nd_cifar_places / sizeof *nd_cifar_places; i++) {
        for (size_t j = 0; j < sizeof nd_cifar_endings / sizeof *nd_cifar_endings; j++) {
            char path[4096];
            const int length = snprintf(path, sizeof path, "%s/%s%s%s", folder, nd_cifar_places[i], name,
                                        nd_cifar_endings[j]);
            if (length > 0 && (size_t)length < sizeof path && !access(path, R_OK))
                return cifar_add(cifar, path);
        }
    }
    return nd_status_ok;
}

static nd_status cifar_add_folder(nd_cifar *cifar, const char *folder, nd_split split) {
    if (split == nd_split_test) {
        ND_TRY(cifar_add_named(cifar, folder, "test_batch"));
        ND_REQUIRE(cifar->n_batches, nd_status_input, "%s: no test_batch.bin or test_batch in it", folder);
        return nd_status_ok;
    }
    for (int i = 1; i <= nd_cifar_batches_max; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d", i);
        ND_TRY(cifar_add_named(cifar, folder, name));
    }
    ND_REQUIRE(cifar->n_batches, nd_status_input, "%s: no data_batch_1.bin or data_batch_1 in it", folder);
    return nd_status_ok;
}

nd_status nd_source_open_cifar10(const char *path, nd_split asked, nd_split otherwise, nd_source **out) {
    *out = NULL;
    nd_cifar *cifar = calloc(1, sizeof *cifar);
    ND_REQUIRE(cifar, nd_status_memory, "%s: no memory", path);
    cifar->source = (nd_source){.height = nd_cifar_side,
                                .width = nd_cifar_side,
                                .preprocess = "cifar10",
                                .label = cifar_label,
                                .load = cifar_load,
                                .identify = cifar_identify,
                                .close = cifar_close};
    nd_status status;
    if (nd_file_is_folder(path)) {
        status = cifar_add_folder(cifar, path, asked == nd_split_none ? otherwise : asked);
    } else {
        status = nd_source_refuse_split(path, asked);
        if (!status) status = cifar_add(cifar, path);
    }
    if (status)
        cifar_close(&cifar->source);
    else
        *out = &cifar->source;
    return status;
}
