/* The container of torch.save before PyTorch 1.6, still written on request. A row of pickles: a magic number,
 * the version 1001, a dict about the system, the object, the list of its storage keys; then for each key, in
 * that order, the count of its numbers (8 bytes, little-endian) and the numbers. */
#include "model/weights/checkpoint.h"

#include <stdlib.h>
#include <string.h>

enum { nd_legacy_version = 1001, nd_legacy_count_bytes = 8 };

/* A stored storage. */
typedef struct nd_legacy_record {
    nd_storage storage;
    const unsigned char *data; /* in the file, wherever it begins; NULL until its key has come */
    nd_buffer *aligned;        /* a copy, where the type needs one and somebody asked */
} nd_legacy_record;

typedef struct nd_legacy {
    size_t at;                 /* in the file */
    nd_legacy_record *records; /* sorted by key */
    size_t n_records;
} nd_legacy;

static int key_compare(const char *a, size_t a_length, const char *b, size_t b_length) {
    const size_t shorter = a_length < b_length ? a_length : b_length;
    const int order = shorter ? memcmp(a, b, shorter) : 0;
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int record_compare(const void *left, const void *right) {
    const nd_storage *a = &((const nd_legacy_record *)left)->storage;
    const nd_storage *b = &((const nd_legacy_record *)right)->storage;
    return key_compare(a->key, a->length, b->key, b->length);
}

static nd_status legacy_pickle(nd_checkpoint *checkpoint, nd_legacy *legacy, nd_pickle_result *out) {
    const nd_pickle_source source = {.data = (const char *)checkpoint->bytes->data + legacy->at,
                                     .bytes = checkpoint->bytes->bytes - legacy->at,
                                     .name = checkpoint->file,
                                     .globals = nd_checkpoint_globals,
                                     .whole = true};
    ND_TRY(nd_pickle_parse(&source, &checkpoint->arena, out));
    legacy->at += out->used;
    return nd_status_ok;
}

static nd_status legacy_head(nd_checkpoint *checkpoint, nd_legacy *legacy) {
    static const char magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    nd_pickle_result number, version, system;
    ND_TRY(legacy_pickle(checkpoint, legacy, &number));
    ND_REQUIRE(number.value->kind == nd_pickle_big && number.value->length == sizeof magic - 1 &&
                   !memcmp(number.value->text, magic, sizeof magic - 1),
               nd_status_format, "%s: a pickle, but no PyTorch checkpoint", checkpoint->file);
    ND_TRY(legacy_pickle(checkpoint, legacy, &version));
    ND_REQUIRE(version.value->kind == nd_pickle_int && version.value->integer == nd_legacy_version,
               nd_status_unsupported, "%s: a checkpoint of another version than %d", checkpoint->file,
               nd_legacy_version);
    ND_TRY(legacy_pickle(checkpoint, legacy, &system));
    const nd_pickle *little = nd_pickle_get(system.value, "little_endian");
    ND_REQUIRE(!little || little->integer, nd_status_unsupported, "%s: saved on a big-endian machine",
               checkpoint->file);
    return nd_status_ok;
}

/* Every storage that the object mentions, once. */
static nd_status legacy_records(nd_checkpoint *checkpoint, nd_legacy *legacy,
                                const nd_pickle_result *object) {
    legacy->records = nd_alloc_array(object->n_persistent, sizeof *legacy->records);
    ND_REQUIRE(legacy->records, nd_status_memory, "%s: no memory", checkpoint->file);
    for (size_t i = 0; i < object->n_persistent; i++) {
        const nd_status status = nd_storage_read(object->persistent[i], &legacy->records[i].storage);
        if (status) return nd_fail_in(status, "%s", checkpoint->file);
    }
    if (object->n_persistent)
        qsort(legacy->records, object->n_persistent, sizeof *legacy->records, record_compare);
    for (size_t i = 0; i < object->n_persistent; i++) {
        const nd_legacy_record *record = &legacy->records[i];
        nd_legacy_record *last = legacy->n_records ? &legacy->records[legacy->n_records - 1] : NULL;
        if (!last || record_compare(last, record)) {
            legacy->records[legacy->n_records++] = *record;
            continue;
        }
        ND_REQUIRE(last->storage.dtype == record->storage.dtype &&
                       last->storage.root_count == record->storage.root_count,
                   nd_status_format, "%s: storage '%.*s' has two types or sizes", checkpoint->file,
                   last->storage.length < 60 ? (int)last->storage.length : 60, last->storage.key);
    }
    return nd_status_ok;
}

static nd_legacy_record *legacy_find(const nd_legacy *legacy, const char *key, size_t length) {
    const nd_legacy_record wanted = {.storage = {.key = key, .length = length}};
    if (!legacy->n_records) return NULL;
    return bsearch(&wanted, legacy->records, legacy->n_records, sizeof wanted, record_compare);
}

/* Where the numbers of a key are, which are next in the file. */
static nd_status legacy_place(nd_checkpoint *checkpoint, nd_legacy *legacy, const nd_pickle *key) {
    const unsigned char *data = checkpoint->bytes->data;
    const size_t left = checkpoint->bytes->bytes - legacy->at;
    ND_REQUIRE(key->kind == nd_pickle_text, nd_status_format, "a key that is no text");
    nd_legacy_record *record = legacy_find(legacy, key->text, key->length);
    ND_REQUIRE(record && !record->data, nd_status_format, "nothing mentions it, or it is there twice");
    ND_REQUIRE(left >= nd_legacy_count_bytes, nd_status_format, "cut short");
    uint64_t count = 0;
    for (int i = nd_legacy_count_bytes; i-- > 0;) count = count << 8 | data[legacy->at + (size_t)i];
    ND_REQUIRE(count == (uint64_t)record->storage.root_count, nd_status_format,
               "%llu numbers, but the pickle says %lld", (unsigned long long)count,
               (long long)record->storage.root_count);
    const size_t element = nd_dtype_bytes(record->storage.dtype);
    ND_REQUIRE(count <= (left - nd_legacy_count_bytes) / element, nd_status_format,
               "cut short: %zu bytes of %llu x %zu", left - nd_legacy_count_bytes, (unsigned long long)count,
               element);
    record->data = data + legacy->at + nd_legacy_count_bytes;
    legacy->at += nd_legacy_count_bytes + (size_t)count * element;
    return nd_status_ok;
}

static nd_status legacy_open(nd_checkpoint *checkpoint, nd_pickle_result *out) {
    nd_legacy *legacy = nd_arena_alloc(&checkpoint->arena, sizeof *legacy);
    ND_REQUIRE(legacy, nd_status_memory, "%s: no memory", checkpoint->file);
    checkpoint->state = legacy;
    nd_pickle_result keys;
    ND_TRY(legacy_head(checkpoint, legacy));
    ND_TRY(legacy_pickle(checkpoint, legacy, out));
    ND_TRY(legacy_records(checkpoint, legacy, out));
    ND_TRY(legacy_pickle(checkpoint, legacy, &keys));
    ND_REQUIRE(keys.value->kind == nd_pickle_list, nd_status_format, "%s: no list of storages",
               checkpoint->file);
    for (size_t i = 0; i < keys.value->length; i++) {
        const nd_pickle *key = keys.value->items[i];
        const nd_status status = legacy_place(checkpoint, legacy, key);
        const bool text = key->kind == nd_pickle_text;
        if (status)
            return nd_fail_in(status, "%s: storage '%.*s'", checkpoint->file,
                              text && key->length < 60 ? (int)key->length : 0, text ? key->text : "");
    }
    return nd_status_ok;
}

/* Pickles end anywhere, so most numbers are not aligned: those are copied once. */
static nd_status legacy_storage(nd_checkpoint *checkpoint, const nd_storage *storage, nd_storage_bytes *out) {
    nd_legacy_record *record = legacy_find(checkpoint->state, storage->key, storage->length);
    ND_REQUIRE(record && record->data, nd_status_format, "its storage is not in the file");
    const size_t element = nd_dtype_bytes(storage->dtype);
    const size_t bytes = (size_t)record->storage.root_count * element,
                 first = (size_t)storage->first * element;
    if ((uintptr_t)record->data % element == 0) {
        *out = (nd_storage_bytes){checkpoint->bytes,
                                  (unsigned char *)checkpoint->bytes->data +
                                      (record->data - (unsigned char *)checkpoint->bytes->data) + first};
        return nd_status_ok;
    }
    if (!record->aligned) {
        ND_TRY(nd_checkpoint_spend(checkpoint, bytes));
        ND_TRY(nd_buffer_new(bytes, &record->aligned));
        if (bytes) memcpy(record->aligned->data, record->data, bytes);
    }
    unsigned char *data = record->aligned->data;
    *out = (nd_storage_bytes){record->aligned, first ? data + first : data};
    return nd_status_ok;
}

static void legacy_close(nd_checkpoint *checkpoint) {
    nd_legacy *legacy = checkpoint->state;
    if (!legacy) return;
    for (size_t i = 0; i < legacy->n_records; i++) nd_buffer_unref(legacy->records[i].aligned);
    free(legacy->records);
}

const nd_checkpoint_container nd_checkpoint_legacy = {legacy_open, legacy_storage, legacy_close};
