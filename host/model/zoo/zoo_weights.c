/* The parameters of an architecture out of a state dict, under the names that training programs give them. */
#include "model/zoo/zoo_weights.h"
#include "base/log.h"
#include "model/model.h"
#include "model/zoo/zoo_layers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct nd_zoo_key {
    const char *name; /* as the architecture says it, without prefixes */
    const char *full; /* as the file does */
    const nd_tensor *tensor;
    bool used;
} nd_zoo_key;

enum { nd_zoo_named = 5 }; /* of each kind of complaint */

typedef struct nd_zoo_complaint {
    size_t count;
    char text[600];
} nd_zoo_complaint;

struct nd_zoo_weights {
    const char *path;
    nd_arena names;
    nd_state_dict file;
    const nd_zoo_plan *plan;
    nd_zoo_key *keys; /* sorted by name */
    size_t n_keys;
    nd_zoo_complaint missing, foreign, extra, wrong, tied;
};

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

/* --- names */

static int zoo_key_compare(const void *left, const void *right) {
    return strcmp(((const nd_zoo_key *)left)->name, ((const nd_zoo_key *)right)->name);
}

/* Without what DataParallel, torch.compile and the modules around a network put before the names, in any
 * nesting. */
static const char *zoo_without_prefixes(const char *name) {
    static const char *const prefixes[] = {"module.", "_orig_mod.", "model."};
    const size_t count = sizeof prefixes / sizeof *prefixes;
    for (size_t i = 0; i < count; i++) {
        const size_t length = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], length)) continue;
        name += length;
        i = (size_t)-1; /* from the first again */
    }
    return name;
}

static bool zoo_is_counter(const char *name) {
    static const char counter[] = "num_batches_tracked";
    const size_t length = strlen(name);
    return length >= sizeof counter - 1 && !strcmp(name + length - (sizeof counter - 1), counter);
}

/* With the architecture's own names for what a table of aliases has others for. */
static const char *zoo_canonical(nd_zoo_weights *weights, const char *name) {
    for (const nd_zoo_alias *alias = weights->plan->aliases; name && alias && alias->name; alias++) {
        const char *at = name;
        while ((at = strstr(at, alias->alias)) && at != name && at[-1] != '.') at++;
        if (at)
            name = nd_arena_printf(&weights->names, "%.*s%s%s", (int)(at - name), name, alias->name,
                                   at + strlen(alias->alias));
    }
    return name;
}

static bool zoo_is_of_training(const nd_zoo_weights *weights, const char *name) {
    if (zoo_is_counter(name)) return true;
    for (const char *const *prefix = weights->plan->training; prefix && *prefix; prefix++)
        if (!strncmp(name, *prefix, strlen(*prefix))) return true;
    return false;
}

static nd_status zoo_keys(nd_zoo_weights *weights) {
    const nd_state_dict *file = &weights->file;
    weights->keys = nd_alloc_array(file->n_entries, sizeof *weights->keys);
    ND_REQUIRE(weights->keys, nd_status_memory, "%s: no memory", weights->path);
    for (size_t i = 0; i < file->n_entries; i++) {
        const char *name = zoo_canonical(weights, zoo_without_prefixes(file->entries[i].name));
        ND_REQUIRE(name, nd_status_memory, "%s: no memory", weights->path);
        if (zoo_is_of_training(weights, name)) continue;
        weights->keys[weights->n_keys++] =
            (nd_zoo_key){.name = name, .full = file->entries[i].name, .tensor = &file->entries[i].tensor};
    }
    if (weights->n_keys) qsort(weights->keys, weights->n_keys, sizeof *weights->keys, zoo_key_compare);
    for (size_t i = 1; i < weights->n_keys; i++)
        ND_REQUIRE(strcmp(weights->keys[i - 1].name, weights->keys[i].name), nd_status_format,
                   "%s: tensors '%.200s' and '%.200s' are both %.200s", weights->path,
                   weights->keys[i - 1].full, weights->keys[i].full, weights->keys[i].name);
    return nd_status_ok;
}

static nd_zoo_key *zoo_key_find(const nd_zoo_weights *weights, const char *name) {
    const nd_zoo_key key = {.name = name};
    if (!weights->n_keys) return NULL;
    return bsearch(&key, weights->keys, weights->n_keys, sizeof key, zoo_key_compare);
}

/* safetensors leaves out one of two names of the same tensor and has "left out": "kept" in its metadata. */
static nd_zoo_key *zoo_key_find_tied(const nd_zoo_weights *weights, const char *name) {
    for (size_t i = 0; i < weights->file.n_meta; i++)
        if (!strcmp(zoo_without_prefixes(weights->file.meta[i].key), name))
            return zoo_key_find(weights, zoo_without_prefixes(weights->file.meta[i].text));
    return NULL;
}

static nd_zoo_key *zoo_key_get(const nd_zoo_weights *weights, const char *name) {
    nd_zoo_key *key = zoo_key_find(weights, name);
    return key ? key : zoo_key_find_tied(weights, name);
}

const nd_tensor *nd_zoo_weights_take(nd_zoo_weights *weights, const char *name) {
    nd_zoo_key *key = zoo_key_get(weights, name);
    if (key) key->used = true;
    return key ? key->tensor : NULL;
}

/* --- parameters */

/* A linear layer may be stored as the convolution over its whole input: the numbers lie in the same order. */
static bool zoo_shape_fits(const nd_tensor *tensor, int rank, const int64_t *dims) {
    if (tensor->rank == rank && memcmp(tensor->dims, dims, (size_t)rank * sizeof *dims) == 0) return true;
    return rank == 2 && tensor->rank == 4 && tensor->dims[0] == dims[0] &&
           nd_tensor_count(tensor) == nd_dims_count(rank, dims);
}

nd_status nd_zoo_weights_source(void *context, const char *name, int rank, const int64_t *dims,
                                nd_tensor *out) {
    nd_zoo_weights *weights = context;
    nd_zoo_key *key = zoo_key_get(weights, name);
    if (!key && weights->plan->make) {
        ND_TRY(weights->plan->make(weights, name, rank, dims, out));
        if (out->data) return nd_status_ok;
    }
    if (!key) {
        zoo_complain(&weights->missing, "%s", name);
        return nd_zoo_blank(NULL, name, rank, dims, out);
    }
    if (key->used) zoo_complain(&weights->tied, "%s is %.120s", name, key->full);
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

/* --- what does not fit */

/* Whether the architecture has parameters in the module that this one lies in: "layer1"
 * of "layer1.2.conv1". */
static bool zoo_module_is_known(const nd_zoo_weights *weights, const char *name) {
    const size_t length = strcspn(name, ".");
    for (size_t i = 0; i < weights->n_keys; i++)
        if (weights->keys[i].used && !strncmp(weights->keys[i].name, name, length) &&
            weights->keys[i].name[length] == '.')
            return true;
    return false;
}

/* Layers more in a module that is there mean another architecture, a deeper one; anything else beside the
 * network (heads for training, averages, counters) is left. */
static void zoo_sort_extra(nd_zoo_weights *weights) {
    for (size_t i = 0; i < weights->n_keys; i++) {
        const nd_zoo_key *key = &weights->keys[i];
        if (key->used) continue;
        const bool layer = key->tensor->rank > 1 && zoo_module_is_known(weights, key->name);
        zoo_complain(layer ? &weights->foreign : &weights->extra, "%.120s", key->full);
    }
}

static int zoo_data_compare(const void *left, const void *right) {
    const nd_zoo_key *a = *(const nd_zoo_key *const *)left, *b = *(const nd_zoo_key *const *)right;
    if (a->tensor->data != b->tensor->data) return a->tensor->data < b->tensor->data ? -1 : 1;
    return strcmp(a->full, b->full);
}

/* Two parameters that share their numbers in a checkpoint. */
static nd_status zoo_find_tied(nd_zoo_weights *weights) {
    const nd_zoo_key **sorted = nd_alloc_array(weights->n_keys, sizeof *sorted);
    size_t count = 0;
    ND_REQUIRE(sorted, nd_status_memory, "%s: no memory", weights->path);
    for (size_t i = 0; i < weights->n_keys; i++)
        if (weights->keys[i].used && nd_tensor_count(weights->keys[i].tensor))
            sorted[count++] = &weights->keys[i];
    if (count) qsort(sorted, count, sizeof *sorted, zoo_data_compare);
    for (size_t i = 1; i < count; i++)
        if (sorted[i]->tensor->data == sorted[i - 1]->tensor->data)
            zoo_complain(&weights->tied, "%.120s is %.120s", sorted[i]->full, sorted[i - 1]->full);
    free(sorted);
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

static void zoo_warn(const nd_zoo_weights *weights, const char *arch) {
    char text[1400] = "";
    zoo_complaint_join(text, sizeof text, &weights->extra, "not used:");
    zoo_complaint_join(text, sizeof text, &weights->tied,
                       "one tensor under two names, which will be two from here on:");
    if (*text) nd_log(nd_log_warn, "%s: as %s: %s", weights->path, arch, text);
}

nd_status nd_zoo_weights_judge(nd_zoo_weights *weights, const char *arch) {
    zoo_sort_extra(weights);
    ND_TRY(zoo_find_tied(weights));
    if (!weights->missing.count && !weights->foreign.count && !weights->wrong.count) {
        zoo_warn(weights, arch);
        return nd_status_ok;
    }
    char text[2800] = "";
    zoo_complaint_join(text, sizeof text, &weights->missing, "missing");
    zoo_complaint_join(text, sizeof text, &weights->foreign, "unknown");
    zoo_complaint_join(text, sizeof text, &weights->extra, weights->foreign.count ? "also" : "unknown");
    zoo_complaint_join(text, sizeof text, &weights->wrong, "of another kind:");
    const nd_state_dict *file = &weights->file;
    for (size_t i = 0; i < file->n_meta; i++)
        if (strncmp(file->meta[i].key, "nd.method", sizeof "nd.method") == 0)
            return nd_fail(nd_status_format,
                           "%s: decoupled by nd (%.40s), so no longer a plain %s: use the ONNX file (%s)",
                           weights->path, file->meta[i].text, arch, text);
    return nd_fail(nd_status_format, "%s: does not fit %s: %s", weights->path, arch, text);
}

int64_t nd_zoo_weights_classes(const nd_zoo_weights *weights) {
    char name[128];
    snprintf(name, sizeof name, "%s.weight", weights->plan->head);
    const nd_zoo_key *key = zoo_key_get(weights, name);
    const int64_t boxes = weights->plan->head_boxes ? weights->plan->head_boxes : 1;
    return key && key->tensor->rank >= 2 ? key->tensor->dims[0] / boxes : 0;
}

nd_status nd_zoo_weights_open(const char *path, const nd_zoo_plan *plan, nd_zoo_weights **out) {
    nd_status status;
    nd_zoo_weights *weights = calloc(1, sizeof *weights);
    *out = NULL;
    ND_REQUIRE(weights, nd_status_memory, "%s: no memory", path);
    weights->path = path;
    weights->plan = plan;
    ND_TRY_DONE(nd_state_dict_read(path, &weights->file));
    ND_TRY_DONE(zoo_keys(weights));
    *out = weights;
    weights = NULL;
done:
    nd_zoo_weights_close(weights);
    return status;
}

void nd_zoo_weights_close(nd_zoo_weights *weights) {
    if (!weights) return;
    free(weights->keys);
    nd_arena_free(&weights->names);
    nd_state_dict_free(&weights->file);
    free(weights);
}
