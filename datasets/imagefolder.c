/* imagefolder:DIR, as torchvision has it: a folder a class, classes numbered in byte order of their names,
 * pictures anywhere below. They come in turns, one of each class. A folder that holds `train` and `val` (or
 * `test`) is a set with both splits. */
#include "datasets/source.h"

#include "base/files/file.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { nd_imagefolder_depth = 16, nd_imagefolder_path = 4096 };

static const char *const nd_imagefolder_endings[] = {".jpg", ".jpeg", ".png"};
static const char *const nd_imagefolder_test_names[] = {"val", "test"};

static bool imagefolder_is_picture(const char *name) {
    const char *ending = strrchr(name, '.');
    for (size_t i = 0; ending && i < sizeof nd_imagefolder_endings / sizeof *nd_imagefolder_endings; i++)
        if (!strcasecmp(ending, nd_imagefolder_endings[i])) return true;
    return false;
}

static bool imagefolder_join(char path[nd_imagefolder_path], const char *folder, const char *name) {
    const int length = snprintf(path, nd_imagefolder_path, "%s/%s", folder, name);
    return length > 0 && length < nd_imagefolder_path;
}

/* Calls `visit` for everything in the folder but hidden names. */
typedef struct nd_imagefolder_walk nd_imagefolder_walk;
typedef nd_status nd_imagefolder_visit(nd_imagefolder_walk *walk, const char *path, const char *name);

static nd_status imagefolder_each(nd_imagefolder_walk *walk, const char *folder,
                                  nd_imagefolder_visit *visit) {
    DIR *listing = opendir(folder);
    ND_REQUIRE(listing, nd_status_input, "%s: %s", folder, strerror(errno));
    nd_status status = nd_status_ok;
    for (struct dirent *entry; !status && (entry = readdir(listing));) {
        if (entry->d_name[0] == '.') continue;
        char path[nd_imagefolder_path];
        status = imagefolder_join(path, folder, entry->d_name)
                     ? visit(walk, path, entry->d_name)
                     : nd_fail(nd_status_input, "%s/%s: path too long", folder, entry->d_name);
    }
    closedir(listing);
    return status;
}

struct nd_imagefolder_walk {
    nd_files *files;
    size_t root; /* length of the set's folder and its slash, to make names relative */
    int32_t label;
    int depth;
    int64_t other; /* files that are no pictures */
    char **classes;
    size_t n_classes, capacity;
};

static nd_status imagefolder_picture(nd_imagefolder_walk *walk, const char *path, const char *name) {
    if (nd_file_is_folder(path)) {
        ND_REQUIRE(walk->depth < nd_imagefolder_depth, nd_status_input, "%s: folders nested too deeply",
                   path);
        walk->depth++;
        nd_status status = imagefolder_each(walk, path, imagefolder_picture);
        walk->depth--;
        return status;
    }
    if (imagefolder_is_picture(name)) return nd_files_add(walk->files, path + walk->root, walk->label, 0);
    walk->other++;
    return nd_status_ok;
}

static nd_status imagefolder_class(nd_imagefolder_walk *walk, const char *path, const char *name) {
    if (!nd_file_is_folder(path)) return nd_status_ok;
    char **classes = nd_array_grow(walk->classes, walk->n_classes, &walk->capacity, sizeof *classes);
    ND_REQUIRE(classes, nd_status_memory, "%s: no memory", path);
    walk->classes = classes;
    char *copy = strdup(name);
    ND_REQUIRE(copy, nd_status_memory, "%s: no memory", path);
    walk->classes[walk->n_classes++] = copy;
    return nd_status_ok;
}

static int imagefolder_compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static nd_status imagefolder_scan(nd_imagefolder_walk *walk, const char *folder) {
    ND_TRY(imagefolder_each(walk, folder, imagefolder_class));
    ND_REQUIRE(walk->n_classes, nd_status_input, "%s: no folder of a class in it", folder);
    qsort(walk->classes, walk->n_classes, sizeof *walk->classes, imagefolder_compare);
    for (size_t i = 0; i < walk->n_classes; i++) {
        char path[nd_imagefolder_path];
        const int64_t before = nd_files_source(walk->files)->count;
        ND_REQUIRE(imagefolder_join(path, folder, walk->classes[i]), nd_status_input, "%s: path too long",
                   folder);
        walk->label = (int32_t)i;
        ND_TRY(imagefolder_each(walk, path, imagefolder_picture));
        if (nd_files_source(walk->files)->count == before)
            nd_log(nd_log_warn, "%s: no picture of class %zu", path, i);
    }
    ND_REQUIRE(nd_files_source(walk->files)->count, nd_status_input, "%s: no picture in it", folder);
    if (walk->other)
        nd_log(nd_log_warn, "%s: %lld files that are neither JPEG nor PNG by name left out", folder,
               (long long)walk->other);
    nd_files_deal(walk->files);
    return nd_files_set_classes(walk->files, walk->classes, walk->n_classes);
}

/* Replaces `folder` by its split where it has both. */
static nd_status imagefolder_choose(char folder[nd_imagefolder_path], nd_split asked, nd_split otherwise) {
    char test[nd_imagefolder_path] = "", train[nd_imagefolder_path];
    for (size_t i = 0; i < sizeof nd_imagefolder_test_names / sizeof *nd_imagefolder_test_names; i++) {
        char path[nd_imagefolder_path];
        const bool there =
            imagefolder_join(path, folder, nd_imagefolder_test_names[i]) && nd_file_is_folder(path);
        if (there && !*test) strcpy(test, path);
    }
    if (!*test || !imagefolder_join(train, folder, "train") || !nd_file_is_folder(train))
        return nd_source_refuse_split(folder, asked);
    const nd_split split = asked == nd_split_none ? otherwise : asked;
    strcpy(folder, split == nd_split_calib ? train : test);
    return nd_status_ok;
}

nd_status nd_source_open_imagefolder(const char *path, nd_split asked, nd_split otherwise, nd_source **out) {
    *out = NULL;
    char folder[nd_imagefolder_path];
    const int length = snprintf(folder, sizeof folder, "%s", path);
    ND_REQUIRE(length > 0 && (size_t)length < sizeof folder, nd_status_input, "%s: path too long", path);
    ND_TRY(imagefolder_choose(folder, asked, otherwise));
    nd_imagefolder_walk walk = {.root = strlen(folder) + 1};
    nd_status status = nd_files_new(folder, NULL, &walk.files);
    if (!status) status = imagefolder_scan(&walk, folder);
    for (size_t i = 0; i < walk.n_classes; i++) free(walk.classes[i]);
    free(walk.classes);
    if (status)
        nd_files_free(walk.files);
    else
        *out = nd_files_source(walk.files);
    return status;
}
