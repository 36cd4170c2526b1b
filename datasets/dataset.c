#include "datasets/dataset.h"

#include "base/log.h"
#include "base/parallel.h"
#include "datasets/labels.h"
#include "datasets/prefetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *prefix;
    nd_source_opener *open;
} nd_dataset_kinds[] = {
    {"imagefolder:", nd_source_open_imagefolder},
    {"list:", nd_source_open_list},
    {"cifar10:", nd_source_open_cifar10},
    {"glyphs", nd_source_open_glyphs},
    {"synthetic", nd_source_open_synthetic},
    {"voc:", nd_source_open_voc},
    {"coco:", nd_source_open_coco},
};

static const struct {
    const char *suffix;
    nd_split split;
} nd_dataset_splits[] = {{":test", nd_split_test}, {":calib", nd_split_calib}};

typedef struct nd_dataset {
    nd_batches batches; /* first: the stream is the object */
    nd_source *source;
    nd_labels *labels_map;
    nd_prefetch *prefetch;
    size_t floats; /* in a picture */
    float *images; /* one batch */
    float *planes; /* one picture as it is prepared, where the batch has its channels last */
    int32_t *labels;
    int64_t *index;
    nd_frame *frames;
    nd_object *objects; /* of the picture last asked for, with the classes of the network */
    size_t objects_capacity;
} nd_dataset;

static void dataset_where(const nd_batches *batches, int64_t index, char *text, size_t size) {
    const nd_source *source = ((const nd_dataset *)batches)->source;
    if (source->where)
        source->where(source, index, text, size);
    else
        snprintf(text, size, "%s: image %lld", batches->name, (long long)index);
}

/* The network's class for one of the picture at `index`. */
static nd_status dataset_map(nd_dataset *self, int64_t index, int32_t label, int32_t *out) {
    if (nd_labels_map(self->labels_map, label, out)) return nd_status_ok;
    char where[512];
    dataset_where(&self->batches, index, where, sizeof where);
    return nd_fail(nd_status_format, "%s: class %d has no output by --classes and --label-offset", where,
                   (int)label);
}

/* [channels][area] to [area][channels] */
static void dataset_interleave(const nd_batches *batches, const float *planes, float *image) {
    const int64_t area = batches->height * batches->width, channels = batches->channels;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t p = 0; p < area; p++) image[p * channels + c] = planes[c * area + p];
}

/* Fills the batch with the next pictures that can be read. */
static nd_status dataset_next(nd_batches *batches, nd_batch *out) {
    nd_dataset *self = (nd_dataset *)batches;
    int64_t n = 0;
    while (n < batches->batch) {
        int64_t index;
        float *image = self->images + (size_t)n * self->floats;
        nd_status status = nd_prefetch_take(self->prefetch, batches->channels_last ? self->planes : image,
                                            &self->frames[n], &index);
        if (index < 0) break;
        if (status) {
            /* Only what is wrong with the picture itself is passed over. */
            if (nd_status_exit_code(status) != nd_status_exit_code(nd_status_input)) return status;
            nd_log(nd_log_warn, "left out: %s", nd_error());
            batches->skipped++;
            continue;
        }
        if (batches->channels_last) dataset_interleave(batches, self->planes, image);
        self->index[n] = index;
        ND_TRY(dataset_map(self, index, self->source->label(self->source, index), &self->labels[n]));
        n++;
    }
    *out = (nd_batch){
        .n = n, .images = self->images, .labels = self->labels, .index = self->index, .frames = self->frames};
    return nd_status_ok;
}

static nd_status dataset_objects(nd_batches *batches, int64_t index, const nd_object **out, size_t *count) {
    nd_dataset *self = (nd_dataset *)batches;
    const nd_object *objects = self->source->objects(self->source, index, count);
    for (size_t i = 0; i < *count; i++) {
        nd_object *copies = nd_array_grow(self->objects, i, &self->objects_capacity, sizeof *copies);
        ND_REQUIRE(copies, nd_status_memory, "%s: no memory for %zu boxes", batches->name, *count);
        self->objects = copies;
        copies[i] = objects[i];
        ND_TRY(dataset_map(self, index, objects[i].label, &copies[i].label));
    }
    *out = self->objects;
    return nd_status_ok;
}

static nd_status dataset_rewind(nd_batches *batches) {
    nd_dataset *self = (nd_dataset *)batches;
    nd_prefetch_rewind(self->prefetch);
    batches->skipped = 0;
    return nd_status_ok;
}

static void dataset_close(nd_batches *batches) {
    nd_dataset *self = (nd_dataset *)batches;
    nd_prefetch_close(self->prefetch);
    if (self->source) self->source->close(self->source);
    nd_labels_close(self->labels_map);
    free(self->images);
    free(self->planes);
    free(self->labels);
    free(self->index);
    free(self->frames);
    free(self->objects);
    free(self);
}

/* Splits the specification into kind, path and split, and opens the source. */
static nd_status dataset_open_source(const nd_dataset_settings *settings, nd_source **out) {
    char path[4096];
    nd_split asked = nd_split_none;
    const nd_split otherwise = settings->calibration ? nd_split_calib : nd_split_test;
    for (size_t i = 0; i < sizeof nd_dataset_kinds / sizeof *nd_dataset_kinds; i++) {
        const size_t prefix = strlen(nd_dataset_kinds[i].prefix);
        if (strncmp(settings->spec, nd_dataset_kinds[i].prefix, prefix) != 0) continue;
        size_t length = strlen(settings->spec + prefix);
        ND_REQUIRE(length < sizeof path, nd_status_usage, "%s: path too long", settings->spec);
        memcpy(path, settings->spec + prefix, length + 1);
        for (size_t j = 0; j < sizeof nd_dataset_splits / sizeof *nd_dataset_splits; j++) {
            const size_t suffix = strlen(nd_dataset_splits[j].suffix);
            if (length < suffix || strcmp(path + length - suffix, nd_dataset_splits[j].suffix) != 0) continue;
            asked = nd_dataset_splits[j].split;
            path[length -= suffix] = '\0';
        }
        return nd_dataset_kinds[i].open(path, asked, otherwise, out);
    }
    return nd_fail(nd_status_usage,
                   "data set \"%s\": expected imagefolder:DIR, list:FILE, cifar10:PATH, voc:DIR, "
                   "coco:FILE:IMAGES, glyphs or "
                   "synthetic",
                   settings->spec);
}

/* The range that was asked for, cut to the set. */
static nd_status dataset_range(const nd_dataset_settings *settings, const nd_source *source, int64_t *count) {
    ND_REQUIRE(settings->first >= 0 && settings->first < source->count, nd_status_usage,
               "%s: it has %lld pictures, the first asked for is number %lld", settings->spec,
               (long long)source->count, (long long)settings->first);
    *count = source->count - settings->first;
    if (settings->limit > 0 && settings->limit < *count) *count = settings->limit;
    return nd_status_ok;
}

/* The mirror images join the set, which is then those that were asked for. */
static nd_status dataset_mirror(nd_dataset *self, nd_dataset_settings *settings) {
    int64_t count = 0;
    if (!settings->mirror) return nd_status_ok;
    ND_REQUIRE(!self->source->made, nd_status_usage,
               "%s: pictures that are made up need no mirror images; ask for more of them", settings->spec);
    ND_TRY(dataset_range(settings, self->source, &count));
    ND_TRY(nd_source_mirror(self->source, settings->first, count, &self->source));
    settings->first = settings->limit = 0;
    return nd_status_ok;
}

static void dataset_identify(nd_dataset *self, int64_t first, int64_t count) {
    nd_sha256 hash;
    nd_sha256_init(&hash);
    for (int64_t i = 0; i < count; i++) self->source->identify(self->source, first + i, &hash);
    nd_labels_identify(self->labels_map, &hash);
    nd_sha256_hex(&hash, self->batches.sha256);
}

static nd_status dataset_allocate(nd_dataset *self) {
    const nd_batches *batches = &self->batches;
    self->floats = (size_t)(batches->channels * batches->height * batches->width);
    const double bytes = (double)batches->batch * (double)self->floats * sizeof *self->images;
    const size_t left = nd_memory_find().left;
    ND_REQUIRE(
        bytes <= (double)left, nd_status_memory,
        "%s: a batch of %lld pictures takes %.1f GiB, and %.1f GiB are left: a smaller --batch takes less",
        batches->name, (long long)batches->batch, bytes / 0x1p30, (double)left / 0x1p30);
    self->images = nd_alloc_array((size_t)batches->batch, self->floats * sizeof *self->images);
    if (batches->channels_last) self->planes = nd_alloc_array(self->floats, sizeof *self->planes);
    self->labels = nd_alloc_array((size_t)batches->batch, sizeof *self->labels);
    self->index = nd_alloc_array((size_t)batches->batch, sizeof *self->index);
    self->frames = nd_alloc_array((size_t)batches->batch, sizeof *self->frames);
    ND_REQUIRE(self->images && (self->planes || !batches->channels_last) && self->labels && self->index &&
                   self->frames,
               nd_status_memory, "%s: no memory for %lld pictures", batches->name, (long long)batches->batch);
    return nd_status_ok;
}

/* Pictures that are made up have the size that preprocessing leaves as it is, or cuts the least from. */
static nd_status dataset_measure(const nd_dataset_settings *settings, const nd_preprocess *preprocess,
                                 nd_source *source) {
    if (!source->made) return nd_status_ok;
    const int64_t heights[] = {preprocess->fit_height, preprocess->resize_height, preprocess->resize_short,
                               preprocess->crop_height, settings->height},
                  widths[] = {preprocess->fit_width, preprocess->resize_width, preprocess->resize_short,
                              preprocess->crop_width, settings->width};
    for (size_t i = 0; !source->height && i < sizeof heights / sizeof *heights; i++) {
        source->height = heights[i];
        source->width = widths[i];
    }
    ND_REQUIRE(
        source->height > 0 && source->width > 0, nd_status_usage,
        "%s: how large are the pictures to be? The network does not say; give --preprocess with crop=N",
        settings->spec);
    return nd_status_ok;
}

static nd_status dataset_prepare(nd_dataset *self, const nd_dataset_settings *settings) {
    nd_batches *batches = &self->batches;
    nd_source *source = self->source;
    nd_preprocess preprocess;
    const char *recipe = settings->preprocess ? settings->preprocess : source->preprocess;
    ND_REQUIRE(recipe, nd_status_usage,
               "%s: how are pictures prepared for this network? It does not say; give --preprocess",
               settings->spec);
    ND_TRY(nd_preprocess_parse(recipe, &preprocess));
    ND_TRY(dataset_measure(settings, &preprocess, source));
    /* Of unknown size and left as they are: as large as the network wants, or they are named when loaded. */
    const bool wanted = !source->height && !preprocess.resize_short;
    ND_TRY(nd_preprocess_size(&preprocess, wanted ? settings->height : source->height,
                              wanted ? settings->width : source->width, &batches->height, &batches->width));
    ND_TRY(dataset_range(settings, source, &batches->count));
    batches->channels = nd_preprocess_channels(&preprocess);
    batches->channels_last = settings->channels_last;
    batches->batch = settings->batch > 0 ? settings->batch : 1;
    if (batches->batch > batches->count) batches->batch = batches->count > 0 ? batches->count : 1;
    snprintf(batches->name, sizeof batches->name, "%s", settings->spec);
    nd_preprocess_format(&preprocess, batches->preprocess, sizeof batches->preprocess);
    dataset_identify(self, settings->first, batches->count);
    batches->synthetic = source->made;
    batches->objects = source->objects ? dataset_objects : NULL;
    batches->classes = source->classes;
    batches->n_classes = source->n_classes;
    ND_TRY(dataset_allocate(self));
    const int workers = settings->workers > 0 ? settings->workers : nd_threads();
    const nd_prefetch_settings prefetch = {
        .source = source,
        .preprocess = &preprocess,
        .first = settings->first,
        .count = batches->count,
        .height = batches->height,
        .width = batches->width,
        .ahead = batches->batch + 2 * workers, /* the next batch gets ready while one is being worked on */
        .workers = workers,
    };
    return nd_prefetch_open(&prefetch, &self->prefetch);
}

nd_status nd_dataset_open(const nd_dataset_settings *settings, nd_batches **out) {
    *out = NULL;
    nd_dataset *self = calloc(1, sizeof *self);
    ND_REQUIRE(self, nd_status_memory, "%s: no memory", settings->spec);
    self->batches.next = dataset_next;
    self->batches.rewind = dataset_rewind;
    self->batches.close = dataset_close;
    self->batches.where = dataset_where;
    nd_status status = dataset_open_source(settings, &self->source);
    if (!status)
        status = nd_labels_open(settings->classes, settings->label_offset, self->source, &self->labels_map);
    nd_dataset_settings range = *settings;
    if (!status) status = dataset_mirror(self, &range);
    if (!status) status = dataset_prepare(self, &range);
    if (status)
        dataset_close(&self->batches);
    else
        *out = &self->batches;
    return status;
}
