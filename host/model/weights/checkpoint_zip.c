/* The container of torch.save since PyTorch 1.6: a zip archive whose one folder, of any name, has data.pkl
 * and a record data/KEY for each storage. */
#include "model/weights/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

/* An entry of the archive. */
typedef struct nd_zip_record {
    const char *name; /* its bytes, in no encoding that is known */
    zip_uint64_t index;
    nd_buffer *unpacked; /* NULL until it is asked for */
} nd_zip_record;

typedef struct nd_zip {
    zip_t *archive;
    const char *folder;     /* with its slash, or "" */
    nd_zip_record *records; /* sorted by name: the archive's own search looks at encodings */
    size_t n_records;
} nd_zip;

static nd_status zip_open_archive(nd_checkpoint *checkpoint, nd_zip *zip) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source =
        zip_source_buffer_create(checkpoint->bytes->data, checkpoint->bytes->bytes, 0, &error);
    if (source) zip->archive = zip_open_from_source(source, ZIP_RDONLY, &error);
    nd_status status = nd_status_ok;
    if (!zip->archive) {
        status =
            nd_fail(nd_status_format, "%s: zip archive: %s", checkpoint->file, zip_error_strerror(&error));
        zip_source_free(source); /* NULL is legal */
    }
    zip_error_fini(&error);
    return status;
}

static int zip_compare(const void *left, const void *right) {
    return strcmp(((const nd_zip_record *)left)->name, ((const nd_zip_record *)right)->name);
}

static nd_status zip_list(nd_checkpoint *checkpoint, nd_zip *zip) {
    const zip_int64_t count = zip_get_num_entries(zip->archive, 0);
    zip->n_records = count > 0 ? (size_t)count : 0;
    zip->records = nd_alloc_array(zip->n_records, sizeof *zip->records);
    ND_REQUIRE(zip->records, nd_status_memory, "%s: no memory", checkpoint->file);
    for (size_t i = 0; i < zip->n_records; i++) {
        const char *name = zip_get_name(zip->archive, i, ZIP_FL_ENC_RAW);
        zip->records[i] = (nd_zip_record){.name = name ? name : "", .index = i};
    }
    if (zip->n_records) qsort(zip->records, zip->n_records, sizeof *zip->records, zip_compare);
    return nd_status_ok;
}

static nd_status zip_find_folder(nd_checkpoint *checkpoint, nd_zip *zip) {
    static const char pickle[] = "data.pkl", script[] = "constants.pkl";
    const size_t tail = sizeof pickle - 1;
    for (size_t i = 0; i < zip->n_records; i++) {
        const char *name = zip->records[i].name;
        const size_t length = strlen(name);
        ND_REQUIRE(length < sizeof script - 1 || strcmp(name + length - (sizeof script - 1), script),
                   nd_status_unsupported,
                   "%s: a TorchScript program: export it to ONNX, or save its state_dict()",
                   checkpoint->file);
        const bool found = length >= tail && !strcmp(name + length - tail, pickle) &&
                           (length == tail || name[length - tail - 1] == '/');
        if (!found || zip->folder) continue;
        zip->folder = nd_arena_strndup(&checkpoint->arena, name, length - tail);
        ND_REQUIRE(zip->folder, nd_status_memory, "%s: no memory", checkpoint->file);
    }
    ND_REQUIRE(zip->folder, nd_status_format, "%s: a zip archive without data.pkl: no PyTorch checkpoint",
               checkpoint->file);
    return nd_status_ok;
}

/* Unpacks; libzip compares the checksum when the last byte is read. */
static nd_status zip_unpack(nd_checkpoint *checkpoint, const nd_zip *zip, zip_uint64_t index,
                            nd_buffer **out) {
    nd_status status = nd_status_ok;
    zip_file_t *file = NULL;
    zip_stat_t about;
    const bool known = !zip_stat_index(zip->archive, index, 0, &about) && about.valid & ZIP_STAT_SIZE;
    ND_REQUIRE(known, nd_status_format, "zip archive: %s", zip_strerror(zip->archive));
    ND_TRY(nd_checkpoint_spend(checkpoint, about.size));
    ND_TRY(nd_buffer_new(about.size, out));
    file = zip_fopen_index(zip->archive, index, 0);
    ND_REQUIRE_DONE(file, nd_status_format, "zip archive: %s", zip_strerror(zip->archive));
    unsigned char *data = (*out)->data, past;
    zip_int64_t got = 0;
    for (size_t at = 0; at < about.size; at += (size_t)got) {
        got = zip_fread(file, data + at, about.size - at);
        ND_REQUIRE_DONE(got > 0, nd_status_format, "zip archive: %s",
                        got < 0 ? zip_file_strerror(file) : "an entry ends early");
    }
    got = zip_fread(file, &past, 1);
    ND_REQUIRE_DONE(got == 0, nd_status_format, "zip archive: %s",
                    got < 0 ? zip_file_strerror(file) : "an entry is longer than it says");
done:
    if (file) zip_fclose(file);
    if (status) {
        nd_buffer_unref(*out);
        *out = NULL;
    }
    return status;
}

/* *out stays NULL where the archive lacks it. The buffer belongs to the archive. */
static nd_status zip_record(nd_checkpoint *checkpoint, nd_zip *zip, const char *name, size_t length,
                            nd_buffer **out) {
    *out = NULL;
    const char *path = nd_arena_printf(&checkpoint->arena, "%s%.*s", zip->folder, (int)length, name);
    ND_REQUIRE(path, nd_status_memory, "no memory");
    const nd_zip_record wanted = {.name = path};
    nd_zip_record *record =
        zip->n_records ? bsearch(&wanted, zip->records, zip->n_records, sizeof wanted, zip_compare) : NULL;
    if (!record) return nd_status_ok;
    if (!record->unpacked) ND_TRY(zip_unpack(checkpoint, zip, record->index, &record->unpacked));
    *out = record->unpacked;
    return nd_status_ok;
}

static nd_status zip_parse(nd_checkpoint *checkpoint, nd_zip *zip, nd_pickle_result *out) {
    ND_TRY(zip_open_archive(checkpoint, zip));
    ND_TRY(zip_list(checkpoint, zip));
    ND_TRY(zip_find_folder(checkpoint, zip));
    nd_buffer *order, *pickle;
    nd_status status = zip_record(checkpoint, zip, "byteorder", 9, &order);
    if (!status) status = zip_record(checkpoint, zip, "data.pkl", 8, &pickle);
    if (status) return nd_fail_in(status, "%s", checkpoint->file);
    ND_REQUIRE(pickle, nd_status_internal, "%s: data.pkl was there and is not", checkpoint->file);
    ND_REQUIRE(!order || (order->bytes == 6 && !memcmp(order->data, "little", 6)), nd_status_unsupported,
               "%s: saved on a big-endian machine", checkpoint->file);
    const nd_pickle_source source = {.data = pickle->data,
                                     .bytes = pickle->bytes,
                                     .name = checkpoint->file,
                                     .globals = nd_checkpoint_globals,
                                     .whole = true};
    return nd_pickle_parse(&source, &checkpoint->arena, out);
}

static nd_status zip_open_checkpoint(nd_checkpoint *checkpoint, nd_pickle_result *out) {
    nd_zip *zip = nd_arena_alloc(&checkpoint->arena, sizeof *zip);
    ND_REQUIRE(zip, nd_status_memory, "%s: no memory", checkpoint->file);
    checkpoint->state = zip;
    return zip_parse(checkpoint, zip, out);
}

static nd_status zip_storage(nd_checkpoint *checkpoint, const nd_storage *storage, nd_storage_bytes *out) {
    char name[128];
    const size_t wanted = (size_t)storage->root_count * nd_dtype_bytes(storage->dtype);
    const int length = snprintf(name, sizeof name, "data/%.*s",
                                storage->length < 100 ? (int)storage->length : 100, storage->key);
    nd_buffer *record;
    ND_TRY(zip_record(checkpoint, checkpoint->state, name, (size_t)length, &record));
    ND_REQUIRE(record, nd_status_format, "its storage '%.100s' is not in the archive", name);
    ND_REQUIRE(record->bytes >= wanted, nd_status_format, "its storage '%.100s' has %zu bytes, not %zu", name,
               record->bytes, wanted);
    unsigned char *data = record->data; /* NULL in an empty record, to which nothing may be added */
    if (storage->first) data += (size_t)storage->first * nd_dtype_bytes(storage->dtype);
    *out = (nd_storage_bytes){record, data};
    return nd_status_ok;
}

static void zip_close_checkpoint(nd_checkpoint *checkpoint) {
    nd_zip *zip = checkpoint->state;
    if (!zip) return;
    for (size_t i = 0; zip->records && i < zip->n_records; i++) nd_buffer_unref(zip->records[i].unpacked);
    free(zip->records);
    if (zip->archive) zip_discard(zip->archive);
}

const nd_checkpoint_container nd_checkpoint_zip = {zip_open_checkpoint, zip_storage, zip_close_checkpoint};
