/* voc:DIR[:SPLIT], a folder as PASCAL VOC has it: Annotations/NAME.xml, JPEGImages/NAME.jpg and lists of
 * names in ImageSets/Main/SPLIT.txt. Without lists all annotations are taken. The classes are those of
 * DIR/classes.txt, a name on each line, or VOC's twenty. */
#include "datasets/annotations/voc_xml.h"

#include "base/files/file.h"
#include "datasets/lines.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const nd_voc_names[] = {
    "aeroplane", "bicycle",     "bird",  "boat",        "bottle", "bus",       "car",
    "cat",       "chair",       "cow",   "diningtable", "dog",    "horse",     "motorbike",
    "person",    "pottedplant", "sheep", "sofa",        "train",  "tvmonitor",
};

typedef struct nd_voc {
    char folder[4096], split[64], list[4352]; /* list: of the split; "" where there is none */
    nd_voc_classes classes;
    char **names; /* of classes.txt */
    size_t n_names, names_capacity;
    nd_annotated annotated;
    nd_files *files;
} nd_voc;

static bool voc_exists(const char *path) {
    struct stat about;
    return !stat(path, &about);
}

/* --- classes */

static nd_status voc_read_classes(nd_voc *voc, const char *path) {
    nd_lines lines;
    bool more;
    nd_status status;
    ND_TRY(nd_lines_open(path, &lines));
    for (;;) {
        ND_TRY_DONE(nd_lines_next(&lines, &more));
        if (!more) break;
        char **names = nd_array_grow(voc->names, voc->n_names, &voc->names_capacity, sizeof *names);
        ND_REQUIRE_DONE(names, nd_status_memory, "%s: no memory", path);
        voc->names = names;
        names[voc->n_names] = strdup(lines.text);
        ND_REQUIRE_DONE(names[voc->n_names], nd_status_memory, "%s: no memory", path);
        voc->n_names++;
    }
    ND_REQUIRE_DONE(voc->n_names && voc->n_names < INT32_MAX, nd_status_format, "%s: no class in it", path);
    voc->classes = (nd_voc_classes){(const char *const *)voc->names, (int32_t)voc->n_names};
done:
    nd_lines_close(&lines);
    return status;
}

static nd_status voc_classes(nd_voc *voc) {
    char path[4352];
    voc->classes = (nd_voc_classes){nd_voc_names, sizeof nd_voc_names / sizeof *nd_voc_names};
    snprintf(path, sizeof path, "%s/classes.txt", voc->folder);
    return voc_exists(path) ? voc_read_classes(voc, path) : nd_status_ok;
}

/* --- which pictures */

/* "DIR:SPLIT"; the splits that all sets have are taken off the specification before (datasets/dataset.c). */
static nd_status voc_split(nd_voc *voc, const char *path, nd_split asked, nd_split otherwise) {
    static const char *const usual[][3] = {{"test", "val", NULL}, {"train", "trainval", NULL}};
    const char *colon = strrchr(path, ':');
    if (voc_exists(path) || asked != nd_split_none) colon = NULL;
    const size_t length = colon ? (size_t)(colon - path) : strlen(path);
    ND_REQUIRE(length < sizeof voc->folder && (!colon || strlen(colon + 1) < sizeof voc->split),
               nd_status_usage, "%s: path too long", path);
    memcpy(voc->folder, path, length);
    if (colon) strcpy(voc->split, colon + 1);
    const char *const *tries = usual[(asked ? asked : otherwise) == nd_split_calib];
    for (; *tries && !*voc->list; tries++) {
        snprintf(voc->list, sizeof voc->list, "%s/ImageSets/Main/%s.txt", voc->folder,
                 colon ? voc->split : *tries);
        if (!voc_exists(voc->list)) *voc->list = '\0';
    }
    ND_REQUIRE(*voc->list || (!colon && !asked), nd_status_input, "%s: no split \"%s\" in ImageSets/Main",
               voc->folder,
               colon                    ? voc->split
               : asked == nd_split_test ? "test"
                                        : "train");
    return nd_status_ok;
}

/* As JPEG where there is nothing else, so that what is missing is called by the name it should have. */
static void voc_picture(const nd_voc *voc, const char *name, char *out, size_t size) {
    static const char *const endings[] = {"png", "jpeg", "jpg"};
    char path[8704];
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        snprintf(out, size, "JPEGImages/%s.%s", name, endings[i]);
        snprintf(path, sizeof path, "%s/%s", voc->folder, out);
        if (voc_exists(path)) return;
    }
}

static nd_status voc_add(nd_voc *voc, const char *name, int64_t line) {
    char path[8704], picture[4200];
    nd_buffer *file;
    snprintf(path, sizeof path, "%s/Annotations/%s.xml", voc->folder, name);
    voc_picture(voc, name, picture, sizeof picture);
    nd_status status = nd_file_map(path, &file);
    if (status) return *voc->list ? nd_fail_in(status, "%s:%lld", voc->list, (long long)line) : status;
    status = nd_voc_read_xml(file->data, file->bytes, path, &voc->classes, nd_files_source(voc->files)->count,
                             &voc->annotated);
    nd_buffer_unref(file);
    ND_TRY(status);
    return nd_files_add(voc->files, picture, -1, line);
}

static nd_status voc_from_list(nd_voc *voc) {
    nd_lines lines;
    bool more;
    nd_status status;
    ND_TRY(nd_lines_open(voc->list, &lines));
    for (;;) {
        ND_TRY_DONE(nd_lines_next(&lines, &more));
        if (!more) break;
        lines.text[strcspn(lines.text, " \t")] =
            '\0'; /* lists of one class have 1, 0 or -1 behind the name */
        ND_TRY_DONE(voc_add(voc, lines.text, lines.number));
    }
done:
    nd_lines_close(&lines);
    return status;
}

static int voc_is_xml(const struct dirent *entry) {
    const size_t length = strlen(entry->d_name);
    return length > 4 && !strcmp(entry->d_name + length - 4, ".xml");
}

static int voc_compare(const struct dirent **left, const struct dirent **right) {
    return strcmp((*left)->d_name, (*right)->d_name); /* alphasort follows the locale */
}

static nd_status voc_from_folder(nd_voc *voc) {
    char path[4352], name[512];
    struct dirent **entries;
    nd_status status = nd_status_ok;
    snprintf(path, sizeof path, "%s/Annotations", voc->folder);
    const int count = scandir(path, &entries, voc_is_xml, voc_compare);
    ND_REQUIRE(count >= 0, nd_status_input, "%s: %s", path, strerror(errno));
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%.*s", (int)strlen(entries[i]->d_name) - 4, entries[i]->d_name);
        if (!status) status = voc_add(voc, name, 0);
        free(entries[i]);
    }
    free(entries);
    return status;
}

static nd_status voc_open(nd_voc *voc) {
    ND_TRY(voc_classes(voc));
    ND_TRY(nd_files_new(voc->folder, *voc->list ? voc->list : NULL, &voc->files));
    ND_TRY(nd_files_set_classes(voc->files, (char *const *)voc->classes.names, (size_t)voc->classes.count));
    ND_TRY(*voc->list ? voc_from_list(voc) : voc_from_folder(voc));
    ND_REQUIRE(nd_files_source(voc->files)->count, nd_status_format, "%s: no picture in it",
               *voc->list ? voc->list : voc->folder);
    return nd_annotated_hand_over(&voc->annotated, voc->files);
}

nd_status nd_source_open_voc(const char *path, nd_split asked, nd_split otherwise, nd_source **out) {
    *out = NULL;
    nd_voc *voc = calloc(1, sizeof *voc);
    ND_REQUIRE(voc, nd_status_memory, "%s: no memory", path);
    nd_status status = voc_split(voc, path, asked, otherwise);
    if (!status) status = voc_open(voc);
    if (status)
        nd_files_free(voc->files);
    else
        *out = nd_files_source(voc->files);
    for (size_t i = 0; i < voc->n_names; i++) free(voc->names[i]);
    free(voc->names);
    free(voc->annotated.items);
    free(voc);
    return status;
}
