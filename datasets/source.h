/* One kind of data set: a list of labelled pictures that can be fetched in any order, from any thread. */
#ifndef ND_DATASETS_SOURCE_H
#define ND_DATASETS_SOURCE_H

#include "base/boxes.h"
#include "base/hash.h"
#include "datasets/image/image.h"

typedef struct nd_source nd_source;
struct nd_source {
    int64_t count;
    int64_t height, width; /* of every picture; 0 where they differ */
    bool made; /* drawn to measure: the opener of the stream sets height and width before the first load */
    const char *preprocess; /* the recipe that fits the set; NULL where none does */
    int32_t (*label)(const nd_source *self, int64_t index); /* -1 where unknown */
    const char *const *classes; /* names of the classes, NULL where they have numbers alone */
    int64_t n_classes;          /* of `classes` */
    /* Where picture and label stand, for messages: "val.txt:17: a.jpg". NULL where there is nothing
     * to say. */
    void (*where)(const nd_source *self, int64_t index, char *text, size_t size);
    nd_status (*load)(const nd_source *self, int64_t index, nd_image *out);
    /* Adds what tells this picture from others: its relative name, length and label, or its pixels
     * and label. */
    void (*identify)(const nd_source *self, int64_t index, nd_sha256 *hash);
    /* The annotated boxes of a picture, in its own pixels, *count of them; NULL where the set has none. They
     * live as long as the source. */
    const nd_object *(*objects)(const nd_source *self, int64_t index, size_t *count);
    void (*close)(nd_source *self);
};

typedef enum nd_split { nd_split_none, nd_split_test, nd_split_calib } nd_split;

/* `asked` is the split named in DATASET, nd_split_none where it names none; then a set that has both gives
 * `otherwise`. Asking a set without splits for one is nd_status_usage. */
typedef nd_status nd_source_opener(const char *path, nd_split asked, nd_split otherwise, nd_source **out);

nd_source_opener nd_source_open_imagefolder, nd_source_open_list, nd_source_open_cifar10,
    nd_source_open_glyphs, nd_source_open_synthetic, nd_source_open_voc, nd_source_open_coco;

/* `count` pictures of `of` from `first` on, and their mirror images. The new source closes `of`, which stays
 * the caller's after a failure. */
nd_status nd_source_mirror(nd_source *of, int64_t first, int64_t count, nd_source **out);

/* For the openers of sets without splits. */
nd_status nd_source_refuse_split(const char *path, nd_split asked);

/* --- sets made of files: the sources of imagefolder, list, voc and coco */

typedef struct nd_files nd_files; /* grows by nd_files_add */

/* `list`: the file whose lines name them, or NULL. */
nd_status nd_files_new(const char *folder, const char *list, nd_files **out);
/* `name` is relative to the folder, or absolute; `line` counts where there is a list. */
nd_status nd_files_add(nd_files *files, const char *name, int32_t label, int64_t line);
/* Names of the classes by label, copied. */
nd_status nd_files_set_classes(nd_files *files, char *const *names, size_t count);
/* The boxes in a picture, copied; a set where any has them is one of detection. */
nd_status nd_files_set_objects(nd_files *files, int64_t index, const nd_object *objects, size_t count);
/* The pictures of each class by name, one of each class in turn: whoever takes the first ones has as many of
 * each class. */
void nd_files_deal(nd_files *files);
nd_source *nd_files_source(nd_files *files);
void nd_files_free(nd_files *files); /* NULL is legal */

#endif
