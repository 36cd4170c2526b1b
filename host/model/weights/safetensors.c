/* safetensors: u64 little-endian header length, a JSON header, then one buffer of tensor data. The header
 * maps each name to dtype, shape and data_offsets, a half-open range in the buffer; "__metadata__" maps texts
 * to texts. The ranges must tile the buffer: no hole, no overlap, nothing after the last one. */
#include "base/files/draft.h"
#include "base/files/file.h"
#include "model/weights/state_dict.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum {
    nd_safetensors_prefix = 8,               /* bytes of the header length */
    nd_safetensors_header_limit = 100000000, /* as in the reference implementation */
    nd_safetensors_align = 8,                /* of the data section we write */
};

static const char nd_safetensors_meta[] = "__metadata__";

static const char *const nd_safetensors_dtypes[nd_dtype_count] = {
    [nd_dtype_f32] = "F32",   [nd_dtype_f64] = "F64",      [nd_dtype_f16] = "F16", [nd_dtype_bf16] = "BF16",
    [nd_dtype_i8] = "I8",     [nd_dtype_u8] = "U8",        [nd_dtype_i16] = "I16", [nd_dtype_u16] = "U16",
    [nd_dtype_i32] = "I32",   [nd_dtype_u32] = "U32",      [nd_dtype_i64] = "I64", [nd_dtype_u64] = "U64",
    [nd_dtype_bool] = "BOOL", [nd_dtype_e4m3] = "F8_E4M3",
};

/* The bytes of one tensor, until all are known to tile the buffer. */
typedef struct nd_range {
    uint64_t begin, end;
    const char *name;
} nd_range;

typedef struct nd_header {
    const char *file; /* for messages */
    nd_buffer *bytes;
    size_t data_at; /* where the buffer of tensor data starts in `bytes` */
    uint64_t data_bytes;
} nd_header;

/* Messages name the field; the caller puts the tensor before it. */
static nd_status entry_dtype(const json_t *entry, nd_dtype *out) {
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    ND_REQUIRE(text, nd_status_format, "dtype: missing, or no text");
    for (int i = 0; i < nd_dtype_count; i++) {
        if (strcmp(text, nd_safetensors_dtypes[i])) continue;
        *out = (nd_dtype)i;
        return nd_status_ok;
    }
    return nd_fail(nd_status_unsupported, "dtype: '%.32s' is not a type nd reads", text);
}

static nd_status entry_shape(const json_t *entry, nd_tensor *out) {
    const json_t *shape = json_object_get(entry, "shape");
    ND_REQUIRE(json_is_array(shape), nd_status_format, "shape: missing, or no array");
    const size_t rank = json_array_size(shape);
    ND_REQUIRE(rank <= nd_rank_max, nd_status_unsupported, "shape: %zu dimensions, at most %d", rank,
               nd_rank_max);
    out->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        ND_REQUIRE(json_is_integer(dim) && json_integer_value(dim) >= 0, nd_status_format,
                   "shape: dimension %zu is not a whole number >= 0", i);
        out->dims[i] = json_integer_value(dim);
    }
    ND_REQUIRE(nd_tensor_count(out) >= 0, nd_status_format, "shape: more elements than can be counted");
    return nd_status_ok;
}

static nd_status entry_range(const nd_header *header, const json_t *entry, nd_range *out) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    ND_REQUIRE(json_is_array(offsets) && json_array_size(offsets) == 2, nd_status_format,
               "data_offsets: missing, or not two numbers");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    ND_REQUIRE(json_is_integer(begin) && json_is_integer(end), nd_status_format,
               "data_offsets: not whole numbers");
    const json_int_t from = json_integer_value(begin), to = json_integer_value(end);
    ND_REQUIRE(from >= 0 && from <= to, nd_status_format, "data_offsets: [%lld, %lld] is no range",
               (long long)from, (long long)to);
    ND_REQUIRE((uint64_t)to <= header->data_bytes, nd_status_format,
               "data_offsets: [%lld, %lld] ends outside the %" PRIu64 " bytes of data", (long long)from,
               (long long)to, header->data_bytes);
    out->begin = (uint64_t)from;
    out->end = (uint64_t)to;
    return nd_status_ok;
}

/* The tensor shares the file's bytes, or copies them where the file does not align them for their type. */
static nd_status entry_data(const nd_header *header, const nd_range *range, nd_tensor *tensor) {
    const size_t bytes = nd_tensor_bytes(tensor);
    ND_REQUIRE(range->end - range->begin == bytes, nd_status_format,
               "data_offsets: %" PRIu64 " bytes, but dtype and shape make %zu", range->end - range->begin,
               bytes);
    unsigned char *data = (unsigned char *)header->bytes->data + header->data_at + range->begin;
    if ((uintptr_t)data % nd_dtype_bytes(tensor->dtype) == 0) {
        tensor->data = data;
        tensor->buffer = nd_buffer_ref(header->bytes);
        return nd_status_ok;
    }
    ND_TRY(nd_buffer_new(bytes, &tensor->buffer));
    tensor->data = tensor->buffer->data;
    memcpy(tensor->data, data, bytes);
    return nd_status_ok;
}

static nd_status entry_parse(const nd_header *header, const json_t *entry, nd_range *range,
                             nd_tensor *tensor) {
    ND_REQUIRE(json_is_object(entry), nd_status_format, "not an object");
    ND_TRY(entry_dtype(entry, &tensor->dtype));
    ND_TRY(entry_shape(entry, tensor));
    ND_TRY(entry_range(header, entry, range));
    return entry_data(header, range, tensor);
}

static int range_compare(const void *left, const void *right) {
    const nd_range *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

static nd_status ranges_tile(const nd_header *header, nd_range *ranges, size_t count) {
    if (count) qsort(ranges, count, sizeof *ranges, range_compare);
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        ND_REQUIRE(ranges[i].begin == at, nd_status_format,
                   "%s: tensor '%.200s': data_offsets: starts at %" PRIu64 ", %s %" PRIu64, header->file,
                   ranges[i].name, ranges[i].begin,
                   ranges[i].begin < at ? "inside the tensor that ends at" : "leaving a hole after", at);
        at = ranges[i].end;
    }
    ND_REQUIRE(at == header->data_bytes, nd_status_format,
               "%s: %" PRIu64 " bytes of data belong to no tensor", header->file, header->data_bytes - at);
    return nd_status_ok;
}

static nd_status meta_parse(const nd_header *header, json_t *object, nd_state_dict *out) {
    ND_REQUIRE(json_is_object(object), nd_status_format, "%s: %s: not an object", header->file,
               nd_safetensors_meta);
    const size_t count = json_object_size(object);
    out->meta = nd_arena_alloc(&out->arena, count * sizeof *out->meta);
    ND_REQUIRE(out->meta, nd_status_memory, "%s: no memory", header->file);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        ND_REQUIRE(json_is_string(value), nd_status_format, "%s: %s: '%.200s': not a text", header->file,
                   nd_safetensors_meta, key);
        nd_meta *meta = &out->meta[out->n_meta++];
        meta->key = nd_arena_strdup(&out->arena, key);
        meta->text = nd_arena_strdup(&out->arena, json_string_value(value));
        ND_REQUIRE(meta->key && meta->text, nd_status_memory, "%s: no memory", header->file);
    }
    return nd_status_ok;
}

static nd_status entries_parse(const nd_header *header, json_t *root, nd_state_dict *out) {
    nd_status status = nd_status_ok;
    const size_t capacity = json_object_size(root);
    nd_range *ranges = nd_alloc_array(capacity, sizeof *ranges);
    out->entries = nd_arena_alloc(&out->arena, capacity * sizeof *out->entries);
    ND_REQUIRE_DONE(ranges && out->entries, nd_status_memory, "%s: no memory", header->file);
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        if (strcmp(key, nd_safetensors_meta) == 0) {
            ND_TRY_DONE(meta_parse(header, value, out));
            continue;
        }
        struct nd_state_dict_entry *entry = &out->entries[out->n_entries];
        nd_range *range = &ranges[out->n_entries++];
        entry->name = range->name = nd_arena_strdup(&out->arena, key);
        ND_REQUIRE_DONE(entry->name, nd_status_memory, "%s: no memory", header->file);
        status = entry_parse(header, value, range, &entry->tensor);
        if (status) {
            nd_fail_in(status, "%s: tensor '%.200s'", header->file, key);
            goto done;
        }
    }
    status = ranges_tile(header, ranges, out->n_entries);
    nd_state_dict_sort(out);
done:
    free(ranges);
    return status;
}

nd_status nd_safetensors_parse(nd_buffer *bytes, const char *name, nd_state_dict *out) {
    *out = (nd_state_dict){0};
    ND_REQUIRE(bytes->bytes >= nd_safetensors_prefix, nd_status_format,
               "%s: %zu bytes are too few for the header length", name, bytes->bytes);
    uint64_t length = 0;
    for (int i = nd_safetensors_prefix; i-- > 0;) length = length << 8 | ((unsigned char *)bytes->data)[i];
    ND_REQUIRE(length <= nd_safetensors_header_limit, nd_status_format,
               "%s: header length: %" PRIu64 " bytes, at most %d", name, length, nd_safetensors_header_limit);
    ND_REQUIRE(length <= bytes->bytes - nd_safetensors_prefix, nd_status_format,
               "%s: header length: %" PRIu64 " bytes in a file of %zu", name, length, bytes->bytes);
    const char *text = (const char *)bytes->data + nd_safetensors_prefix;
    ND_REQUIRE(length && text[0] == '{', nd_status_format, "%s: header: does not begin with '{'", name);

    json_error_t error;
    json_t *root = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    ND_REQUIRE(root, nd_status_format, "%s: header: byte %d: %s", name, error.position, error.text);
    const nd_header header = {
        .file = name,
        .bytes = bytes,
        .data_at = nd_safetensors_prefix + (size_t)length,
        .data_bytes = bytes->bytes - nd_safetensors_prefix - length,
    };
    nd_status status = entries_parse(&header, root, out);
    json_decref(root);
    if (status) nd_state_dict_free(out);
    return status;
}

/* --- writing */

typedef struct nd_safetensors_writer {
    const char *path;
    const nd_graph *graph;
    const nd_value **values; /* the initializers in file order */
    size_t count;
} nd_safetensors_writer;

/* Widest elements first, so that every tensor is aligned to its own; then by name, so that the same graph
 * always gives the same file. */
static int value_compare(const void *left, const void *right) {
    const nd_value *a = *(const nd_value *const *)left, *b = *(const nd_value *const *)right;
    const size_t wide_a = nd_dtype_bytes(a->init->dtype), wide_b = nd_dtype_bytes(b->init->dtype);
    if (wide_a != wide_b) return wide_a > wide_b ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* NULL where the JSON library refuses: out of memory, or a name that is not UTF-8. */
static json_t *entry_make(const nd_tensor *tensor, uint64_t begin, uint64_t end) {
    json_t *shape = json_array();
    for (int i = 0; i < tensor->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->dims[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", nd_safetensors_dtypes[tensor->dtype], "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static nd_status header_make(const nd_safetensors_writer *writer, char **out) {
    *out = NULL;
    nd_status status = nd_status_ok;
    json_t *root = json_object(), *meta = writer->graph->n_meta ? json_object() : NULL;
    for (int i = 0; i < writer->graph->n_meta; i++) {
        const nd_meta *entry = &writer->graph->meta[i];
        ND_REQUIRE_DONE(json_object_set_new(meta, entry->key, json_string(entry->text)) == 0,
                        nd_status_unsupported, "%s: metadata '%.200s': not UTF-8", writer->path, entry->key);
    }
    if (meta) json_object_set(root, nd_safetensors_meta, meta);
    uint64_t at = 0;
    for (size_t i = 0; i < writer->count; i++) {
        const nd_value *value = writer->values[i];
        const uint64_t end = at + nd_tensor_bytes(value->init);
        ND_REQUIRE_DONE(!json_object_get(root, value->name), nd_status_unsupported,
                        "%s: tensor '%.200s': the name is taken", writer->path, value->name);
        ND_REQUIRE_DONE(json_object_set_new(root, value->name, entry_make(value->init, at, end)) == 0,
                        nd_status_unsupported, "%s: tensor '%.200s': not UTF-8", writer->path, value->name);
        at = end;
    }
    *out = json_dumps(root, JSON_COMPACT);
    ND_REQUIRE_DONE(*out, nd_status_memory, "%s: no memory for the header", writer->path);
done:
    json_decref(meta);
    json_decref(root);
    return status;
}

static nd_status safetensors_stream(void *context, FILE *file) {
    const nd_safetensors_writer *writer = context;
    char *header;
    ND_TRY(header_make(writer, &header));
    const uint64_t text = strlen(header);
    const uint64_t length = (text + nd_safetensors_align - 1) / nd_safetensors_align * nd_safetensors_align;
    for (int i = 0; i < nd_safetensors_prefix; i++) putc((int)(length >> 8 * i & 0xff), file);
    fwrite(header, 1, (size_t)text, file);
    for (uint64_t i = text; i < length; i++) putc(' ', file);
    free(header);
    for (size_t i = 0; i < writer->count && !ferror(file); i++)
        fwrite(writer->values[i]->init->data, 1, nd_tensor_bytes(writer->values[i]->init), file);
    ND_REQUIRE(!ferror(file), nd_status_input, "%s: cannot write: %s", writer->path, strerror(errno));
    return nd_status_ok;
}

nd_status nd_safetensors_write(const nd_graph *graph, const char *path) {
    nd_safetensors_writer writer = {.path = path, .graph = graph};
    writer.values = nd_alloc_array((size_t)graph->n_values, sizeof *writer.values);
    ND_REQUIRE(writer.values, nd_status_memory, "%s: no memory", path);
    for (int i = 0; i < graph->n_values; i++)
        if (graph->values[i].init) writer.values[writer.count++] = &graph->values[i];
    if (writer.count) qsort(writer.values, writer.count, sizeof *writer.values, value_compare);
    nd_status status = nd_file_replace(path, safetensors_stream, &writer);
    free(writer.values);
    return status;
}
