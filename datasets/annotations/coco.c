/* coco:FILE:IMAGES: annotations as COCO has them (cocodataset.org/#format-data) and the folder of the
 * pictures. Classes are the categories in the order of their ids, pictures stand in that of theirs. */
#include "datasets/annotations/annotated.h"

#include "base/files/file.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An entry of "images" or "categories". */
typedef struct nd_coco_entry {
    int64_t id;
    size_t index; /* in its array */
    const char *name;
    double width, height; /* of a picture; 0 where not said */
} nd_coco_entry;

typedef struct nd_coco {
    const char *path;
    nd_buffer *file;
    json_t *root;
    nd_coco_entry *images, *categories;
    size_t n_images, n_categories;
    nd_annotated annotated;
    nd_files *files;
} nd_coco;

/* --- lines: jansson keeps none, so that of a wrong entry is looked up in the text, which has been parsed. */

typedef struct nd_coco_text {
    const char *at, *end;
    int64_t line;
} nd_coco_text;

/* Past a string whose quote `at` is on; returns where its text begins. */
static const char *coco_skip_string(nd_coco_text *text) {
    const char *begin = ++text->at;
    while (text->at < text->end && *text->at != '"') text->at += *text->at == '\\' ? 2 : 1;
    if (text->at < text->end) text->at++;
    return begin;
}

/* The line on which entry `index` of the top-level array `key` begins; 1 where it is not found. */
static int64_t coco_line(const nd_coco *coco, const char *key, size_t index) {
    nd_coco_text text = {coco->file->data, (const char *)coco->file->data + coco->file->bytes, 1};
    const size_t length = strlen(key);
    size_t entry = 0;
    int depth = 0;
    bool named = false, within = false; /* the key was the last string; inside its array */
    while (text.at < text.end) {
        const char c = *text.at;
        if (c == '"') {
            const char *begin = coco_skip_string(&text);
            if (depth == 1) named = (size_t)(text.at - begin) == length + 1 && !memcmp(begin, key, length);
            continue;
        }
        text.line += c == '\n';
        if (c == '{' || c == '[') {
            if (depth == 1 && named && c == '[') within = true;
            if (depth == 2 && within && entry++ == index) return text.line;
            depth++;
        } else if (c == '}' || c == ']') {
            if (--depth == 1) within = named = false;
        }
        text.at++;
    }
    return 1;
}

static nd_status __attribute__((format(printf, 4, 5)))
coco_fail(const nd_coco *coco, const char *key, size_t index, const char *format, ...) {
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return nd_fail(nd_status_format, "%s:%lld: %s[%zu]: %s", coco->path,
                   (long long)coco_line(coco, key, index), key, index, what);
}

/* --- entries */

static int coco_compare(const void *left, const void *right) {
    const nd_coco_entry *a = left, *b = right;
    return a->id < b->id ? -1 : a->id > b->id;
}

static const nd_coco_entry *coco_find(const nd_coco_entry *entries, size_t count, const json_t *id) {
    const nd_coco_entry key = {.id = json_integer_value(id)};
    if (!json_is_integer(id) || !count) return NULL;
    return bsearch(&key, entries, count, sizeof key, coco_compare);
}

/* A number that may be left out: *out stays then. */
static nd_status coco_number(const nd_coco *coco, const char *key, size_t index, const char *name,
                             double *out) {
    const json_t *number = json_object_get(json_array_get(json_object_get(coco->root, key), index), name);
    if (!number || json_is_null(number)) return nd_status_ok;
    if (json_is_number(number))
        *out = json_number_value(number);
    else if (json_is_boolean(number))
        *out = json_is_true(number);
    else
        return coco_fail(coco, key, index, "its \"%s\" is no number", name);
    return nd_status_ok;
}

/* Reads id, name and size of each entry, sorted by id. */
static nd_status coco_entries(const nd_coco *coco, const char *key, const char *name, nd_coco_entry **out,
                              size_t *count) {
    const json_t *array = json_object_get(coco->root, key);
    ND_REQUIRE(json_is_array(array), nd_status_format, "%s:1: no array \"%s\" in it", coco->path, key);
    *count = json_array_size(array);
    *out = nd_alloc_array(*count, sizeof **out);
    ND_REQUIRE(*out, nd_status_memory, "%s: no memory for %zu %s", coco->path, *count, key);
    for (size_t i = 0; i < *count; i++) {
        const json_t *entry = json_array_get(array, i), *id = json_object_get(entry, "id");
        nd_coco_entry *to = &(*out)[i];
        *to = (nd_coco_entry){.id = json_integer_value(id),
                              .index = i,
                              .name = json_string_value(json_object_get(entry, name))};
        if (!json_is_integer(id)) return coco_fail(coco, key, i, "no whole number \"id\"");
        if (!to->name || !*to->name) return coco_fail(coco, key, i, "no text \"%s\"", name);
        ND_TRY(coco_number(coco, key, i, "width", &to->width));
        ND_TRY(coco_number(coco, key, i, "height", &to->height));
    }
    if (*count) qsort(*out, *count, sizeof **out, coco_compare);
    for (size_t i = 1; i < *count; i++)
        if ((*out)[i].id == (*out)[i - 1].id)
            return coco_fail(coco, key, (*out)[i].index, "id %lld stands twice", (long long)(*out)[i].id);
    return nd_status_ok;
}

static nd_status coco_object(const nd_coco *coco, size_t index, const json_t *entry,
                             const nd_coco_entry *image, nd_object *out) {
    static const char key[] = "annotations";
    double numbers[4], crowd = 0;
    const json_t *box = json_object_get(entry, "bbox");
    const nd_coco_entry *category =
        coco_find(coco->categories, coco->n_categories, json_object_get(entry, "category_id"));
    if (!category) return coco_fail(coco, key, index, "its category_id is none of the categories");
    if (json_array_size(box) != 4) return coco_fail(coco, key, index, "no \"bbox\" of four numbers");
    for (size_t i = 0; i < 4; i++) {
        const json_t *number = json_array_get(box, i);
        if (!json_is_number(number)) return coco_fail(coco, key, index, "no \"bbox\" of four numbers");
        numbers[i] = json_number_value(number);
    }
    *out = (nd_object){.box = {numbers[0], numbers[1], numbers[2], numbers[3]},
                       .area = numbers[2] * numbers[3],
                       .label = (int32_t)(category - coco->categories)};
    ND_TRY(coco_number(coco, key, index, "area", &out->area));
    ND_TRY(coco_number(coco, key, index, "iscrowd", &crowd));
    out->crowd = crowd != 0;
    if (!nd_box_check(out->box, image->width, image->height, (nd_place){coco->path, 0})) return nd_status_ok;
    return nd_box_check(out->box, image->width, image->height,
                        (nd_place){coco->path, coco_line(coco, key, index)});
}

static nd_status coco_annotations(nd_coco *coco) {
    const json_t *array = json_object_get(coco->root, "annotations");
    ND_REQUIRE(json_is_array(array), nd_status_format, "%s:1: no array \"annotations\" in it", coco->path);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *entry = json_array_get(array, i);
        const nd_coco_entry *image =
            coco_find(coco->images, coco->n_images, json_object_get(entry, "image_id"));
        nd_object object;
        if (!image) return coco_fail(coco, "annotations", i, "its image_id is none of the images");
        ND_TRY(coco_object(coco, i, entry, image, &object));
        ND_TRY(nd_annotated_add(&coco->annotated, image - coco->images, &object));
    }
    return nd_status_ok;
}

static nd_status coco_parse(nd_coco *coco) {
    json_error_t error;
    ND_TRY(nd_file_map(coco->path, &coco->file));
    ND_REQUIRE(coco->file->bytes, nd_status_format, "%s:1: nothing in it", coco->path);
    coco->root = json_loadb(coco->file->data, coco->file->bytes, 0, &error);
    ND_REQUIRE(coco->root, nd_status_format, "%s:%d: %s", coco->path, error.line, error.text);
    ND_TRY(coco_entries(coco, "images", "file_name", &coco->images, &coco->n_images));
    ND_TRY(coco_entries(coco, "categories", "name", &coco->categories, &coco->n_categories));
    ND_REQUIRE(coco->n_images && coco->n_categories && coco->n_categories < INT32_MAX, nd_status_format,
               "%s: %zu images and %zu categories", coco->path, coco->n_images, coco->n_categories);
    return coco_annotations(coco);
}

static nd_status coco_source(nd_coco *coco, const char *folder) {
    ND_TRY(nd_files_new(folder, NULL, &coco->files));
    for (size_t i = 0; i < coco->n_images; i++)
        ND_TRY(nd_files_add(coco->files, coco->images[i].name, -1, 0));
    char **names = nd_alloc_array(coco->n_categories, sizeof *names);
    ND_REQUIRE(names, nd_status_memory, "%s: no memory", coco->path);
    for (size_t i = 0; i < coco->n_categories; i++) names[i] = (char *)coco->categories[i].name;
    const nd_status status = nd_files_set_classes(coco->files, names, coco->n_categories);
    free(names);
    ND_TRY(status);
    return nd_annotated_hand_over(&coco->annotated, coco->files);
}

nd_status nd_source_open_coco(const char *path, nd_split asked, nd_split otherwise, nd_source **out) {
    (void)otherwise;
    char file[4096];
    *out = NULL;
    ND_TRY(nd_source_refuse_split(path, asked));
    const char *colon = strrchr(path, ':');
    ND_REQUIRE(colon && colon > path && colon[1], nd_status_usage,
               "coco:%s: expected coco:FILE:IMAGES, a folder", path);
    ND_REQUIRE((size_t)(colon - path) < sizeof file, nd_status_usage, "%s: path too long", path);
    snprintf(file, sizeof file, "%.*s", (int)(colon - path), path);
    nd_coco coco = {.path = file};
    nd_status status = coco_parse(&coco);
    if (!status) status = coco_source(&coco, colon + 1);
    if (status)
        nd_files_free(coco.files);
    else
        *out = nd_files_source(coco.files);
    free(coco.images);
    free(coco.categories);
    free(coco.annotated.items);
    json_decref(coco.root);
    nd_buffer_unref(coco.file);
    return status;
}
