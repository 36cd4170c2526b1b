/* TensorProto in any of its encodings. Raw and external data are little-endian, as are all hosts nd
 * runs on. */
#include "base/files/file.h"
#include "base/text/text.h"
#include "model/onnx/onnx_parts.h"

#include <stdlib.h>
#include <string.h>

/* Which list holds the elements where they are not raw. */
typedef enum nd_onnx_list {
    nd_onnx_list_float,
    nd_onnx_list_int32,
    nd_onnx_list_int64,
    nd_onnx_list_double,
    nd_onnx_list_uint64,
} nd_onnx_list;

static const struct {
    int32_t code; /* TensorProto.DataType */
    nd_onnx_list list;
} nd_onnx_dtypes[nd_dtype_count] = {
    [nd_dtype_f32] = {1, nd_onnx_list_float},   [nd_dtype_u8] = {2, nd_onnx_list_int32},
    [nd_dtype_i8] = {3, nd_onnx_list_int32},    [nd_dtype_u16] = {4, nd_onnx_list_int32},
    [nd_dtype_i16] = {5, nd_onnx_list_int32},   [nd_dtype_i32] = {6, nd_onnx_list_int32},
    [nd_dtype_i64] = {7, nd_onnx_list_int64},   [nd_dtype_bool] = {9, nd_onnx_list_int32},
    [nd_dtype_f16] = {10, nd_onnx_list_int32},  [nd_dtype_f64] = {11, nd_onnx_list_double},
    [nd_dtype_u32] = {12, nd_onnx_list_uint64}, [nd_dtype_u64] = {13, nd_onnx_list_uint64},
    [nd_dtype_bf16] = {16, nd_onnx_list_int32}, [nd_dtype_e4m3] = {17, nd_onnx_list_int32},
};

int32_t nd_onnx_dtype_code(nd_dtype dtype) {
    return nd_onnx_dtypes[dtype].code;
}

bool nd_onnx_dtype_find(int32_t code, nd_dtype *dtype) {
    for (int i = 0; i < nd_dtype_count; i++) {
        if (nd_onnx_dtypes[i].code != code) continue;
        *dtype = (nd_dtype)i;
        return true;
    }
    return false;
}

const char *nd_onnx_unread_type(nd_span tensor) {
    static const struct {
        uint64_t code;
        const char *name;
    } types[] = {{18, "FLOAT8E4M3FNUZ"}, {19, "FLOAT8E5M2"}, {20, "FLOAT8E5M2FNUZ"},
                 {21, "UINT4"},          {22, "INT4"},       {23, "FLOAT4E2M1"}};
    nd_wire_field field;
    uint64_t code = 0;
    for (bool broken = false; nd_wire_next(&tensor, &field, &broken);)
        if (field.number == nd_onnx_tensor_type && field.type == nd_wire_type_varint) code = field.varint;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].code == code) return types[i].name;
    return "a type that nd does not read";
}

/* A message apart from its raw data, so that the parser copies no weights. `scratch` owns the rest where
 * there are raw data, to be freed. */
typedef struct nd_onnx_split {
    nd_span rest, raw;
    bool has_raw;
    uint8_t *scratch;
} nd_onnx_split;

static nd_status onnx_split_tensor(nd_span message, nd_onnx_split *out) {
    *out = (nd_onnx_split){.rest = message};
    nd_span left = message;
    nd_wire_field field;
    bool broken = false;
    size_t others = 0;
    while (nd_wire_next(&left, &field, &broken)) {
        if (field.number != nd_onnx_tensor_raw || field.type != nd_wire_type_bytes) {
            others += field.whole.bytes;
            continue;
        }
        out->raw = field.content;
        out->has_raw = true;
    }
    ND_REQUIRE(!broken, nd_status_format, "a tensor is cut short or malformed");
    if (!out->has_raw) return nd_status_ok;
    out->scratch = malloc(others + 1);
    ND_REQUIRE(out->scratch, nd_status_memory, "no memory for a tensor");
    out->rest = (nd_span){out->scratch, others};
    uint8_t *to = out->scratch;
    for (left = message; nd_wire_next(&left, &field, &broken);) {
        if (field.number == nd_onnx_tensor_raw && field.type == nd_wire_type_bytes) continue;
        memcpy(to, field.whole.data, field.whole.bytes);
        to += field.whole.bytes;
    }
    return nd_status_ok;
}

static nd_status onnx_tensor_dims(const Nd__Onnx__Tensor *proto, nd_tensor *out) {
    ND_REQUIRE(nd_onnx_dtype_find(proto->data_type, &out->dtype), nd_status_unsupported,
               "data_type %d is none that nd reads", proto->data_type);
    ND_REQUIRE(proto->n_dims <= nd_rank_max, nd_status_unsupported, "dims: %zu dimensions, at most %d",
               proto->n_dims, nd_rank_max);
    out->rank = (int)proto->n_dims;
    for (size_t i = 0; i < proto->n_dims; i++) {
        out->dims[i] = proto->dims[i];
        ND_REQUIRE(out->dims[i] >= 0, nd_status_format, "dims: entry %zu is %lld", i,
                   (long long)out->dims[i]);
    }
    ND_REQUIRE(nd_tensor_count(out) >= 0, nd_status_format, "dims: more elements than can be counted");
    return nd_status_ok;
}

/* Points into `owner` where the address suits the type, and copies otherwise. */
static nd_status onnx_tensor_view(nd_buffer *owner, nd_span bytes, nd_tensor *out) {
    if ((uintptr_t)bytes.data % nd_dtype_bytes(out->dtype) == 0) {
        out->data = (void *)(uintptr_t)bytes.data; /* never written: tensors of a graph are read-only */
        out->buffer = nd_buffer_ref(owner);
        return nd_status_ok;
    }
    ND_TRY(nd_buffer_new(bytes.bytes, &out->buffer));
    out->data = out->buffer->data;
    memcpy(out->data, bytes.data, bytes.bytes);
    return nd_status_ok;
}

static nd_status onnx_map_external(nd_onnx_files *files, const char *name) {
    if (files->external && !strcmp(files->external_name, name)) return nd_status_ok;
    ND_REQUIRE(files->folder, nd_status_format, "external data '%s' are refused here", name);
    nd_buffer_unref(files->external);
    free(files->external_name);
    files->external = NULL;
    files->external_name = strdup(name);
    ND_REQUIRE(files->external_name, nd_status_memory, "no memory");
    nd_status status = nd_file_map_below(files->folder, name, &files->external);
    return status ? nd_fail_in(status, "external data") : nd_status_ok;
}

static nd_status onnx_external_number(const Nd__Onnx__Entry *entry, int64_t *out) {
    ND_REQUIRE(entry->value && nd_text_int(entry->value, out) && *out >= 0, nd_status_format,
               "external data: %s '%.40s' is no count of bytes", entry->key,
               entry->value ? entry->value : "");
    return nd_status_ok;
}

nd_status nd_onnx_external(nd_onnx_files *files, const Nd__Onnx__Tensor *proto, int64_t bytes, nd_span *out) {
    const char *location = NULL;
    int64_t offset = 0, length = bytes;
    for (size_t i = 0; i < proto->n_external_data; i++) {
        const Nd__Onnx__Entry *entry = proto->external_data[i];
        const char *key = entry->key ? entry->key : "";
        if (!strcmp(key, "location")) location = entry->value;
        if (!strcmp(key, "offset")) ND_TRY(onnx_external_number(entry, &offset));
        if (!strcmp(key, "length")) ND_TRY(onnx_external_number(entry, &length));
    }
    ND_REQUIRE(location && *location, nd_status_format, "external data without a location");
    ND_REQUIRE(bytes < 0 || length == bytes, nd_status_format,
               "external data: length %lld, but type and dims make %lld", (long long)length,
               (long long)bytes);
    ND_TRY(onnx_map_external(files, location));
    const int64_t have = (int64_t)files->external->bytes;
    if (length < 0) length = offset < have ? have - offset : 0;
    ND_REQUIRE(offset <= have && length <= have - offset, nd_status_format,
               "external data: %lld bytes at offset %lld lie outside the %lld bytes of '%s'",
               (long long)length, (long long)offset, (long long)have, location);
    *out = (nd_span){(const uint8_t *)files->external->data + offset, (size_t)length};
    return nd_status_ok;
}

static nd_status onnx_tensor_external(nd_onnx_files *files, const Nd__Onnx__Tensor *proto, nd_tensor *out) {
    nd_span bytes;
    ND_TRY(nd_onnx_external(files, proto, (int64_t)nd_tensor_bytes(out), &bytes));
    if (!bytes.bytes) return nd_buffer_new(0, &out->buffer);
    return onnx_tensor_view(files->external, bytes, out);
}

static void onnx_narrow(const int32_t *from, size_t count, nd_tensor *out) {
    for (size_t i = 0; i < count; i++) {
        if (out->dtype == nd_dtype_bool)
            ((uint8_t *)out->data)[i] = from[i] != 0;
        else if (nd_dtype_bytes(out->dtype) == 1)
            ((uint8_t *)out->data)[i] = (uint8_t)from[i];
        else
            ((uint16_t *)out->data)[i] = (uint16_t)from[i];
    }
}

/* Elements in one of the typed lists: of the element's own width, or narrower types widened to it. */
static nd_status onnx_tensor_list(const Nd__Onnx__Tensor *proto, nd_tensor *out) {
    const struct {
        const char *name;
        const void *items;
        size_t count, size;
    } lists[] = {
        [nd_onnx_list_float] = {"float_data", proto->float_data, proto->n_float_data, 4},
        [nd_onnx_list_int32] = {"int32_data", proto->int32_data, proto->n_int32_data, 4},
        [nd_onnx_list_int64] = {"int64_data", proto->int64_data, proto->n_int64_data, 8},
        [nd_onnx_list_double] = {"double_data", proto->double_data, proto->n_double_data, 8},
        [nd_onnx_list_uint64] = {"uint64_data", proto->uint64_data, proto->n_uint64_data, 8},
    };
    const nd_onnx_list list = nd_onnx_dtypes[out->dtype].list;
    const size_t count = (size_t)nd_tensor_count(out), have = lists[list].count;
    ND_REQUIRE(have == count, nd_status_format, "%s: %zu elements, but dims make %zu", lists[list].name, have,
               count);
    const nd_tensor shape = *out;
    ND_TRY(nd_tensor_new(shape.dtype, shape.rank, shape.dims, out));
    if (nd_dtype_bytes(out->dtype) == lists[list].size) {
        if (count) memcpy(out->data, lists[list].items, count * lists[list].size);
    } else if (list == nd_onnx_list_int32) {
        onnx_narrow(proto->int32_data, count, out);
    } else {
        for (size_t i = 0; i < count; i++) ((uint32_t *)out->data)[i] = (uint32_t)proto->uint64_data[i];
    }
    return nd_status_ok;
}

static nd_status onnx_tensor_fill(nd_onnx_files *files, const Nd__Onnx__Tensor *proto,
                                  const nd_onnx_split *split, nd_tensor *out) {
    ND_TRY(onnx_tensor_dims(proto, out));
    if (proto->data_location == 1) return onnx_tensor_external(files, proto, out);
    ND_REQUIRE(proto->data_location == 0, nd_status_format, "data_location %d", proto->data_location);
    if (!split->has_raw) return onnx_tensor_list(proto, out);
    const size_t bytes = nd_tensor_bytes(out);
    ND_REQUIRE(split->raw.bytes == bytes, nd_status_format, "raw_data: %zu bytes, but type and dims make %zu",
               split->raw.bytes, bytes);
    return onnx_tensor_view(files->bytes, split->raw, out);
}

nd_status nd_onnx_tensor(nd_onnx_files *files, nd_span message, nd_tensor *out) {
    *out = (nd_tensor){0};
    nd_onnx_split split;
    ND_TRY(onnx_split_tensor(message, &split));
    nd_status status = nd_status_ok;
    Nd__Onnx__Tensor *proto = nd__onnx__tensor__unpack(NULL, split.rest.bytes, split.rest.data);
    ND_REQUIRE_DONE(proto, nd_status_format, "a tensor is malformed");
    status = onnx_tensor_fill(files, proto, &split, out);
    if (status) {
        nd_tensor_free(out);
        nd_fail_in(status, "tensor '%.200s'", proto->name ? proto->name : "");
    }
done:
    if (proto) nd__onnx__tensor__free_unpacked(proto, NULL);
    free(split.scratch);
    return status;
}
