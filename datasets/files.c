#include "datasets/source.h"

#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct nd_files_item {
    const char *name;
    int64_t line;
    int64_t turn; /* its number within its class */
    int32_t label;
    const nd_object *objects;
    size_t n_objects;
} nd_files_item;

struct nd_files {
    nd_source source;          /* first: the source is the object */
    const char *folder, *list; /* list: the file that names them, or NULL */
    nd_files_item *items;
    size_t capacity;
    nd_arena arena;
};

static const nd_files *files_of(const nd_source *source) {
    return (const nd_files *)source;
}

static bool files_path(const nd_files *files, int64_t index, char *path, size_t size) {
    const char *name = files->items[index].name;
    const int length =
        *name == '/' ? snprintf(path, size, "%s", name) : snprintf(path, size, "%s/%s", files->folder, name);
    return length > 0 && (size_t)length < size;
}

static int32_t files_label(const nd_source *source, int64_t index) {
    return files_of(source)->items[index].label;
}

static void files_where(const nd_source *source, int64_t index, char *text, size_t size) {
    const nd_files *files = files_of(source);
    const nd_files_item *item = &files->items[index];
    if (files->list)
        snprintf(text, size, "%s:%lld: %s", files->list, (long long)item->line, item->name);
    else
        snprintf(text, size, "%s/%s", files->folder, item->name);
}

static nd_status files_load(const nd_source *source, int64_t index, nd_image *out) {
    char path[4096];
    *out = (nd_image){0};
    ND_REQUIRE(files_path(files_of(source), index, path, sizeof path), nd_status_input, "%s: path too long",
               files_of(source)->items[index].name);
    return nd_image_read(path, out);
}

static const nd_object *files_objects(const nd_source *source, int64_t index, size_t *count) {
    const nd_files_item *item = &files_of(source)->items[index];
    *count = item->n_objects;
    return item->objects;
}

/* Names and labels alone would not tell a set from a copy with other sizes, so the length of each file counts
 * too. */
static void files_identify(const nd_source *source, int64_t index, nd_sha256 *hash) {
    const nd_files *files = files_of(source);
    const nd_files_item *item = &files->items[index];
    char path[4096], text[64];
    struct stat about = {0};
    if (!files_path(files, index, path, sizeof path) || stat(path, &about)) about.st_size = -1;
    nd_sha256_add(hash, item->name, strlen(item->name) + 1);
    const int length = snprintf(text, sizeof text, "%lld %d", (long long)about.st_size, (int)item->label);
    nd_sha256_add(hash, text, (size_t)length + 1);
    for (size_t i = 0; i < item->n_objects; i++) {
        const nd_object *object = &item->objects[i];
        const double numbers[] = {object->box.x, object->box.y, object->box.width, object->box.height,
                                  object->area,  object->label, object->crowd,     object->difficult};
        nd_sha256_add(hash, numbers, sizeof numbers);
    }
}

static void files_close(nd_source *source) {
    nd_files_free((nd_files *)source);
}

nd_status nd_files_new(const char *folder, const char *list, nd_files **out) {
    *out = NULL;
    nd_files *files = calloc(1, sizeof *files);
    ND_REQUIRE(files, nd_status_memory, "%s: no memory", folder);
    files->source = (nd_source){.preprocess = "torchvision-224",
                                .label = files_label,
                                .where = files_where,
                                .load = files_load,
                                .identify = files_identify,
                                .close = files_close};
    files->folder = nd_arena_strdup(&files->arena, folder);
    files->list = list ? nd_arena_strdup(&files->arena, list) : NULL;
    if (!files->folder || (list && !files->list)) {
        nd_files_free(files);
        return nd_fail(nd_status_memory, "%s: no memory", folder);
    }
    *out = files;
    return nd_status_ok;
}

nd_status nd_files_add(nd_files *files, const char *name, int32_t label, int64_t line) {
    const size_t used = (size_t)files->source.count;
    nd_files_item *items = nd_array_grow(files->items, used, &files->capacity, sizeof *items);
    ND_REQUIRE(items, nd_status_memory, "%s: no memory for names", files->folder);
    files->items = items;
    const char *copy = nd_arena_strdup(&files->arena, name);
    ND_REQUIRE(copy, nd_status_memory, "%s: no memory for names", files->folder);
    files->items[used] = (nd_files_item){.name = copy, .line = line, .label = label};
    files->source.count++;
    return nd_status_ok;
}

nd_status nd_files_set_classes(nd_files *files, char *const *names, size_t count) {
    const char **copies = nd_arena_alloc(&files->arena, count * sizeof *copies);
    ND_REQUIRE(copies, nd_status_memory, "%s: no memory for names", files->folder);
    for (size_t i = 0; i < count; i++) {
        copies[i] = nd_arena_strdup(&files->arena, names[i]);
        ND_REQUIRE(copies[i], nd_status_memory, "%s: no memory for names", files->folder);
    }
    files->source.classes = copies;
    files->source.n_classes = (int64_t)count;
    return nd_status_ok;
}

nd_status nd_files_set_objects(nd_files *files, int64_t index, const nd_object *objects, size_t count) {
    nd_files_item *item = &files->items[index];
    nd_object *copies = nd_arena_alloc(&files->arena, count * sizeof *copies);
    ND_REQUIRE(copies, nd_status_memory, "%s: no memory for boxes", files->folder);
    if (count) memcpy(copies, objects, count * sizeof *copies);
    item->objects = copies;
    item->n_objects = count;
    files->source.objects = files_objects;
    return nd_status_ok;
}

static int files_compare(const void *a, const void *b) {
    const nd_files_item *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* By turns; within one, any classes in a row are from all over their order. */
static int turns_compare(const void *a, const void *b) {
    const nd_files_item *x = a, *y = b;
    if (x->turn != y->turn) return x->turn < y->turn ? -1 : 1;
    const double px = nd_rng_even(x->label), py = nd_rng_even(y->label);
    return (px > py) - (px < py);
}

void nd_files_deal(nd_files *files) {
    const int64_t count = files->source.count;
    nd_files_item *items = files->items;
    if (count < 2) return;
    qsort(items, (size_t)count, sizeof *items, files_compare);
    for (int64_t i = 1; i < count; i++)
        items[i].turn = items[i].label == items[i - 1].label ? items[i - 1].turn + 1 : 0;
    qsort(items, (size_t)count, sizeof *items, turns_compare);
}

nd_source *nd_files_source(nd_files *files) {
    return &files->source;
}

void nd_files_free(nd_files *files) {
    if (!files) return;
    free(files->items);
    nd_arena_free(&files->arena);
    free(files);
}
