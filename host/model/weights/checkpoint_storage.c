#include "model/weights/checkpoint.h"

static const struct {
    const char *global;
    nd_dtype dtype;
} nd_checkpoint_storages[] = {
    {"torch FloatStorage", nd_dtype_f32}, {"torch DoubleStorage", nd_dtype_f64},
    {"torch HalfStorage", nd_dtype_f16},  {"torch BFloat16Storage", nd_dtype_bf16},
    {"torch CharStorage", nd_dtype_i8},   {"torch ByteStorage", nd_dtype_u8},
    {"torch ShortStorage", nd_dtype_i16}, {"torch IntStorage", nd_dtype_i32},
    {"torch LongStorage", nd_dtype_i64},  {"torch BoolStorage", nd_dtype_bool},
};

const char *const nd_checkpoint_globals[] = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch FloatStorage",
    "torch DoubleStorage",
    "torch HalfStorage",
    "torch BFloat16Storage",
    "torch CharStorage",
    "torch ByteStorage",
    "torch ShortStorage",
    "torch IntStorage",
    "torch LongStorage",
    "torch BoolStorage",
    NULL,
};

nd_status nd_checkpoint_spend(nd_checkpoint *checkpoint, size_t bytes) {
    ND_REQUIRE(bytes <= checkpoint->budget, nd_status_unsupported,
               "unpacked it would be more than %d times as large as the file, which no weights are",
               nd_checkpoint_growth);
    checkpoint->budget -= bytes;
    return nd_status_ok;
}

/* Of ("storage", type, key, device, count) and, in old files, (key, first, count) of a view, or None. */
nd_status nd_storage_read(const nd_pickle *persistent, nd_storage *out) {
    const bool whole = persistent && persistent->kind == nd_pickle_persistent && persistent->length == 1;
    const nd_pickle *id = whole ? persistent->items[0] : NULL, *type = nd_pickle_item(id, 1),
                    *key = nd_pickle_item(id, 2);
    const nd_pickle *view = nd_pickle_item(id, 5);
    *out = (nd_storage){.dtype = nd_dtype_count};
    ND_REQUIRE(nd_pickle_is_text(nd_pickle_item(id, 0), "storage") && key && key->kind == nd_pickle_text &&
                   nd_pickle_item_size(id, 4, &out->root_count),
               nd_status_format, "a storage that is none");
    for (size_t i = 0; i < sizeof nd_checkpoint_storages / sizeof *nd_checkpoint_storages; i++)
        if (type && type->kind == nd_pickle_global &&
            nd_pickle_is_text(type, nd_checkpoint_storages[i].global))
            out->dtype = nd_checkpoint_storages[i].dtype;
    ND_REQUIRE(out->dtype < nd_dtype_count, nd_status_unsupported, "a storage of a type nd does not read");
    out->key = key->text;
    out->length = key->length;
    out->count = out->root_count;
    ND_REQUIRE(nd_dims_count(1, &out->root_count) >= 0, nd_status_format,
               "a storage of more numbers than can be counted");
    if (!view || view->kind == nd_pickle_none) return nd_status_ok;
    ND_REQUIRE(nd_pickle_item_size(view, 1, &out->first) && nd_pickle_item_size(view, 2, &out->count) &&
                   out->first <= out->root_count && out->count <= out->root_count - out->first,
               nd_status_format, "a view that ends outside its storage");
    return nd_status_ok;
}
