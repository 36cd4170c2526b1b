#include "datasets/labels.h"

#include "base/log.h"
#include "base/text/text.h"
#include "datasets/lines.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct nd_label {
    const char *name;
    int64_t output, line;
} nd_label;

struct nd_labels {
    int64_t offset;
    bool mapped;
    int64_t *outputs; /* [n_classes] of a source with names */
    int64_t n_outputs;
    nd_label *entries; /* sorted by name; of a source without */
    size_t n_entries, capacity;
    nd_arena arena;
};

/* Where the number stands on the lines of a map. */
typedef enum nd_label_form { nd_label_last, nd_label_first, nd_label_line } nd_label_form;

static bool label_first_number(const char *text, int64_t *out, const char **rest) {
    const size_t length = strspn(text, "0123456789");
    char word[24];
    if (!length || length >= sizeof word || !strchr(" \t,:", text[length]) || !text[length]) return false;
    memcpy(word, text, length);
    word[length] = '\0';
    *rest = text + length + strspn(text + length, " \t,:");
    return nd_text_int(word, out) && **rest;
}

/* The form that half of the lines have: those that have another are wrong then. */
static nd_status labels_form(const char *path, nd_label_form *out) {
    nd_lines lines;
    int64_t last = 0, first = 0, count = 0;
    bool more = true;
    ND_TRY(nd_lines_open(path, &lines));
    nd_status status = nd_status_ok;
    while (!status && more) {
        status = nd_lines_next(&lines, &more);
        if (status || !more) break;
        int64_t number;
        const char *rest;
        count++;
        first += label_first_number(lines.text, &number, &rest);
        const char *word = nd_line_cut_last(lines.text);
        last += word && nd_text_int(word, &number);
    }
    nd_lines_close(&lines);
    const nd_label_form numbered = first > last ? nd_label_first : nd_label_last;
    *out = 2 * (first > last ? first : last) >= count ? numbered : nd_label_line;
    return status;
}

static void label_first_word(char *text) {
    text[strcspn(text, " \t,")] = '\0';
}

static nd_status labels_add(nd_labels *labels, nd_lines *lines, nd_label_form form) {
    nd_label *entries = nd_array_grow(labels->entries, labels->n_entries, &labels->capacity, sizeof *entries);
    ND_REQUIRE(entries, nd_status_memory, "%s: no memory", lines->path);
    labels->entries = entries;
    const char *rest, *word;
    char *name = lines->text;
    int64_t output = form == nd_label_line ? (int64_t)labels->n_entries : -1;
    if (form == nd_label_last && (word = nd_line_cut_last(name))) nd_text_int(word, &output);
    if (form == nd_label_first && label_first_number(lines->text, &output, &rest)) name += rest - lines->text;
    if (form != nd_label_last && *name != '"') label_first_word(name);
    name = nd_line_unquote(name);
    ND_REQUIRE(name && *name && output >= 0 && output <= INT32_MAX, nd_status_format,
               "%s:%lld: expected a name and a class of 0 or more%s", lines->path, (long long)lines->number,
               form == nd_label_line ? "" : ", as other lines have them");
    const char *copy = nd_arena_strdup(&labels->arena, name);
    ND_REQUIRE(copy, nd_status_memory, "%s: no memory", lines->path);
    labels->entries[labels->n_entries++] = (nd_label){copy, output, lines->number};
    return nd_status_ok;
}

static int label_compare(const void *a, const void *b) {
    return strcmp(((const nd_label *)a)->name, ((const nd_label *)b)->name);
}

static nd_status labels_read(nd_labels *labels, const char *path) {
    nd_lines lines;
    nd_label_form form;
    bool more = true;
    ND_TRY(labels_form(path, &form));
    ND_TRY(nd_lines_open(path, &lines));
    nd_status status = nd_status_ok;
    while (!status && more) {
        status = nd_lines_next(&lines, &more);
        if (!status && more) status = labels_add(labels, &lines, form);
    }
    nd_lines_close(&lines);
    ND_TRY(status);
    ND_REQUIRE(labels->n_entries, nd_status_format, "%s: no class in it", path);
    qsort(labels->entries, labels->n_entries, sizeof *labels->entries, label_compare);
    for (size_t i = 1; i < labels->n_entries; i++)
        ND_REQUIRE(strcmp(labels->entries[i - 1].name, labels->entries[i].name), nd_status_format,
                   "%s:%lld: '%.200s' is on line %lld as well", path, (long long)labels->entries[i].line,
                   labels->entries[i].name, (long long)labels->entries[i - 1].line);
    return nd_status_ok;
}

static bool labels_find(const nd_labels *labels, const char *name, int64_t *output) {
    const nd_label key = {.name = name};
    const nd_label *found =
        bsearch(&key, labels->entries, labels->n_entries, sizeof *labels->entries, label_compare);
    if (found) *output = found->output;
    return found != NULL;
}

/* Folders are looked up once; numbers when they are met. */
static nd_status labels_resolve(nd_labels *labels, const char *classes, const nd_source *source) {
    const bool numbers = !strcmp(classes, "numbers");
    ND_REQUIRE(!numbers || source->classes, nd_status_usage,
               "--classes numbers: the classes of this set are numbers already");
    if (!numbers) ND_TRY(labels_read(labels, classes));
    if (!source->classes) return nd_status_ok;
    labels->n_outputs = source->n_classes;
    labels->outputs = nd_alloc_array((size_t)source->n_classes, sizeof *labels->outputs);
    ND_REQUIRE(labels->outputs, nd_status_memory, "%s: no memory", classes);
    for (int64_t i = 0; i < source->n_classes; i++) {
        const char *name = source->classes[i];
        const bool found = numbers ? nd_text_int(name, &labels->outputs[i]) && labels->outputs[i] >= 0
                                   : labels_find(labels, name, &labels->outputs[i]);
        ND_REQUIRE(found, nd_status_format,
                   numbers ? "--classes %s: folder '%.200s' is no number"
                           : "%s: folder '%.200s' of the data set is not in it",
                   classes, name);
    }
    return nd_status_ok;
}

/* Folders 0, 1, 10, 11, 2: numbers whose byte order is not theirs. */
static void labels_doubt(const nd_source *source) {
    int64_t number, first = source->n_classes;
    for (int64_t i = 0; i < source->n_classes; i++) {
        if (!nd_text_int(source->classes[i], &number)) return;
        if (number != i && first == source->n_classes) first = i;
    }
    if (first < source->n_classes)
        nd_log(nd_log_warn,
               "the folders of the data set are numbers, but its classes are numbered in byte order of the "
               "names, as torchvision does: folder %s is class %lld. Where a folder's number is its class, "
               "give --classes numbers",
               source->classes[first], (long long)first);
}

nd_status nd_labels_open(const char *classes, int64_t offset, const nd_source *source, nd_labels **out) {
    *out = NULL;
    nd_labels *labels = calloc(1, sizeof *labels);
    ND_REQUIRE(labels, nd_status_memory, "no memory for classes");
    labels->offset = offset;
    labels->mapped = classes != NULL;
    if (!classes && source->classes) labels_doubt(source);
    const nd_status status = classes ? labels_resolve(labels, classes, source) : nd_status_ok;
    if (status)
        nd_labels_close(labels);
    else
        *out = labels;
    return status;
}

void nd_labels_close(nd_labels *labels) {
    if (!labels) return;
    free(labels->outputs);
    free(labels->entries);
    nd_arena_free(&labels->arena);
    free(labels);
}

bool nd_labels_map(const nd_labels *labels, int32_t label, int32_t *out) {
    int64_t output = label;
    *out = -1;
    if (label < 0) return true;
    if (labels->mapped && labels->outputs) {
        if (label >= labels->n_outputs) return false;
        output = labels->outputs[label];
    } else if (labels->mapped) {
        char name[16];
        snprintf(name, sizeof name, "%d", (int)label);
        if (!labels_find(labels, name, &output)) return false;
    }
    output += labels->offset;
    if (output < 0 || output > INT32_MAX) return false;
    *out = (int32_t)output;
    return true;
}

/* Nothing where nothing is mapped, so that a set keeps its identity. */
void nd_labels_identify(const nd_labels *labels, nd_sha256 *hash) {
    if (labels->offset) nd_sha256_add(hash, &labels->offset, sizeof labels->offset);
    for (int64_t i = 0; i < labels->n_outputs; i++) nd_sha256_add(hash, &labels->outputs[i], sizeof(int64_t));
    for (size_t i = 0; !labels->outputs && i < labels->n_entries; i++) {
        nd_sha256_add(hash, labels->entries[i].name, strlen(labels->entries[i].name) + 1);
        nd_sha256_add(hash, &labels->entries[i].output, sizeof(int64_t));
    }
}
