/* The state dict of a checkpoint: a dict of name and tensor, somewhere in what torch.save was given. Tensors
 * are calls of torch._utils._rebuild_tensor_v2 (storage, offset, sizes, strides, ...), whose arguments are
 * read here; nothing is called. */
#include "model/weights/checkpoint.h"

#include "base/format/kind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    nd_checkpoint_nesting = 2,        /* dicts around the state dict */
    nd_checkpoint_others_shown = 300, /* bytes of names in a message */
};

/* --- tensors */

typedef struct nd_strided {
    nd_storage storage;
    int64_t offset, strides[nd_rank_max];
} nd_strided;

/* The arguments of _rebuild_tensor_v2 or _rebuild_tensor, behind _rebuild_parameter or not; NULL for a value
 * that is no tensor. */
static const nd_pickle *tensor_arguments(const nd_pickle *value) {
    for (int depth = 0; depth < 2; depth++) {
        if (!value || value->kind != nd_pickle_object) return NULL;
        if (!nd_pickle_is_text(value->items[0], "torch._utils _rebuild_parameter"))
            return strncmp(value->items[0]->text, "torch._utils _rebuild_tensor", 28) ? NULL
                                                                                      : value->items[1];
        value = nd_pickle_item(value->items[1], 0);
    }
    return NULL;
}

static nd_status tensor_shape(const nd_pickle *arguments, nd_strided *strided, nd_tensor *out) {
    const nd_pickle *sizes = nd_pickle_item(arguments, 2), *strides = nd_pickle_item(arguments, 3);
    ND_REQUIRE(sizes && strides && sizes->kind == nd_pickle_tuple && strides->kind == nd_pickle_tuple &&
                   sizes->length == strides->length && nd_pickle_item_size(arguments, 1, &strided->offset),
               nd_status_format, "not the arguments a tensor is made of");
    ND_REQUIRE(sizes->length <= nd_rank_max, nd_status_unsupported, "%zu dimensions, at most %d",
               sizes->length, nd_rank_max);
    out->rank = (int)sizes->length;
    for (int i = 0; i < out->rank; i++)
        ND_REQUIRE(nd_pickle_item_size(sizes, (size_t)i, &out->dims[i]) &&
                       nd_pickle_item_size(strides, (size_t)i, &strided->strides[i]),
                   nd_status_format, "dimension %d has no size or no stride", i);
    ND_REQUIRE(nd_tensor_count(out) >= 0, nd_status_format, "more elements than can be counted");
    return nd_status_ok;
}

/* The last element lies inside the storage: offset + sum of (dims - 1) * stride < count, without overflow. */
static nd_status tensor_bounds(const nd_strided *strided, const nd_tensor *tensor) {
    if (!nd_tensor_count(tensor)) return nd_status_ok;
    int64_t room = strided->storage.count - 1 - strided->offset;
    bool inside = room >= 0;
    for (int i = 0; inside && i < tensor->rank; i++) {
        const int64_t steps = tensor->dims[i] - 1;
        inside = !steps || strided->strides[i] <= room / steps;
        if (inside) room -= steps * strided->strides[i];
    }
    ND_REQUIRE(inside, nd_status_format, "it ends outside the %lld numbers of its storage",
               (long long)strided->storage.count);
    return nd_status_ok;
}

static bool is_contiguous(const nd_strided *strided, const nd_tensor *tensor) {
    int64_t expected = 1;
    for (int i = tensor->rank; i-- > 0;) {
        if (tensor->dims[i] > 1 && strided->strides[i] != expected) return false;
        expected *= tensor->dims[i];
    }
    return true;
}

/* Row-major from any strides; the last dimension is the inner loop. */
static void gather(const nd_strided *strided, const unsigned char *from, nd_tensor *to) {
    const size_t element = nd_dtype_bytes(to->dtype);
    const int last = to->rank - 1; /* a tensor without dimensions is contiguous */
    const int64_t count = nd_tensor_count(to), row = to->dims[last], step = strided->strides[last];
    int64_t index[nd_rank_max] = {0}, at = 0;
    unsigned char *out = to->data;
    for (int64_t done = 0; done < count; done += row) {
        for (int64_t i = 0; i < row; i++, out += element)
            memcpy(out, from + (size_t)(at + i * step) * element, element);
        for (int k = last - 1; k >= 0; k--) {
            at += strided->strides[k];
            if (++index[k] < to->dims[k]) break;
            at -= to->dims[k] * strided->strides[k];
            index[k] = 0;
        }
    }
}

static nd_status tensor_read(nd_checkpoint *checkpoint, const nd_pickle *arguments, nd_tensor *out) {
    nd_strided strided;
    ND_TRY(nd_storage_read(nd_pickle_item(arguments, 0), &strided.storage));
    out->dtype = strided.storage.dtype;
    ND_TRY(tensor_shape(arguments, &strided, out));
    ND_TRY(tensor_bounds(&strided, out));
    nd_storage_bytes bytes;
    ND_TRY(checkpoint->container->storage(checkpoint, &strided.storage, &bytes));
    unsigned char *data = bytes.data; /* of an empty tensor, whatever its offset */
    if (nd_tensor_count(out)) data += (size_t)strided.offset * nd_dtype_bytes(out->dtype);
    if (is_contiguous(&strided, out)) {
        out->data = data;
        out->buffer = nd_buffer_ref(bytes.buffer);
        return nd_status_ok;
    }
    const size_t needed = nd_tensor_bytes(out);
    ND_TRY(nd_checkpoint_spend(checkpoint, needed));
    ND_TRY(nd_buffer_new(needed, &out->buffer));
    out->data = out->buffer->data;
    if (needed) gather(&strided, data, out);
    return nd_status_ok;
}

/* --- the state dict */

static size_t count_tensors(const nd_pickle *dict) {
    size_t count = 0;
    if (!dict || dict->kind != nd_pickle_dict) return 0;
    for (size_t i = 0; i + 1 < dict->length; i += 2)
        count += dict->items[i]->kind == nd_pickle_text && tensor_arguments(dict->items[i + 1]) != NULL;
    return count;
}

static const nd_pickle *find_state(const nd_pickle *dict, int depth);

/* Under a name that training programs save it by, the most common first. */
static const nd_pickle *find_named(const nd_pickle *dict, int depth) {
    static const char *const names[] = {"state_dict", "model_state_dict", "model_state", "model",
                                        "net",        "network",          "module",      "weights",
                                        "params",     "state_dict_ema",   "model_ema",   "ema"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const nd_pickle *found = find_state(nd_pickle_get(dict, names[i]), depth);
        if (found) return found;
    }
    return NULL;
}

/* The one value that is a dict of tensors, NULL where none is or several are. */
static const nd_pickle *find_only(const nd_pickle *dict) {
    const nd_pickle *found = NULL;
    for (size_t i = 0; i + 1 < dict->length; i += 2) {
        if (!count_tensors(dict->items[i + 1])) continue;
        if (found) return NULL;
        found = dict->items[i + 1];
    }
    return found;
}

/* NULL where there is none. */
static const nd_pickle *find_state(const nd_pickle *dict, int depth) {
    if (!dict || dict->kind != nd_pickle_dict || depth > nd_checkpoint_nesting) return NULL;
    const nd_pickle *found = find_named(dict, depth + 1);
    if (found) return found;
    return count_tensors(dict) ? dict : find_only(dict);
}

static void name_keys(const nd_pickle *dict, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; dict->kind == nd_pickle_dict && i + 1 < dict->length && used + 1 < size; i += 2) {
        const nd_pickle *key = dict->items[i];
        if (key->kind != nd_pickle_text) continue;
        const int length = key->length < 60 ? (int)key->length : 60;
        used += (size_t)snprintf(text + used, size - used, "%s'%.*s'", used ? ", " : "", length, key->text);
    }
}

static nd_status take_entry(nd_checkpoint *checkpoint, const nd_pickle *key, const nd_pickle *arguments,
                            nd_state_dict *out) {
    struct nd_state_dict_entry *entry = &out->entries[out->n_entries];
    entry->name = nd_arena_strndup(&out->arena, key->text, key->length);
    ND_REQUIRE(entry->name, nd_status_memory, "%s: no memory", checkpoint->file);
    ND_REQUIRE(strlen(entry->name) == key->length, nd_status_format, "%s: tensor '%.200s': a name with a NUL",
               checkpoint->file, entry->name);
    out->n_entries++;
    const nd_status status = tensor_read(checkpoint, arguments, &entry->tensor);
    if (status) return nd_fail_in(status, "%s: tensor '%.200s'", checkpoint->file, entry->name);
    return nd_status_ok;
}

static nd_status take_state(nd_checkpoint *checkpoint, const nd_pickle *root, nd_state_dict *out) {
    const nd_pickle *dict = find_state(root, 0);
    char keys[nd_checkpoint_others_shown];
    name_keys(root, keys, sizeof keys);
    ND_REQUIRE(dict, nd_status_format, "%s: no dict of tensors in it%s%s", checkpoint->file,
               *keys ? ", but " : "", keys);
    out->entries = nd_arena_alloc(&out->arena, count_tensors(dict) * sizeof *out->entries);
    ND_REQUIRE(out->entries, nd_status_memory, "%s: no memory", checkpoint->file);
    for (size_t i = 0; i + 1 < dict->length; i += 2) {
        const nd_pickle *arguments = tensor_arguments(dict->items[i + 1]);
        if (dict->items[i]->kind == nd_pickle_text && arguments)
            ND_TRY(take_entry(checkpoint, dict->items[i], arguments, out));
    }
    nd_state_dict_sort(out);
    for (size_t i = 1; i < out->n_entries; i++)
        ND_REQUIRE(strcmp(out->entries[i - 1].name, out->entries[i].name), nd_status_format,
                   "%s: tensor '%.200s': it is there twice", checkpoint->file, out->entries[i].name);
    return nd_status_ok;
}

nd_status nd_checkpoint_parse(nd_buffer *bytes, const char *name, nd_state_dict *out) {
    const char *text;
    const bool zipped = nd_file_kind_of(bytes->data, bytes->bytes, &text) == nd_file_zip;
    nd_checkpoint checkpoint = {.file = name,
                                .bytes = bytes,
                                .container = zipped ? &nd_checkpoint_zip : &nd_checkpoint_legacy,
                                .budget = nd_checkpoint_growth * bytes->bytes + nd_checkpoint_free};
    nd_pickle_result result;
    *out = (nd_state_dict){0};
    nd_status status = checkpoint.container->open(&checkpoint, &result);
    if (!status) status = take_state(&checkpoint, result.value, out);
    checkpoint.container->close(&checkpoint);
    nd_arena_free(&checkpoint.arena);
    if (status) nd_state_dict_free(out);
    return status;
}
