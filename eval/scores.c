#include "eval/scores.h"

#include "base/files/draft.h"

#include <inttypes.h>
#include <stdint.h>
#include <string.h>

enum { header_align = 64, magic_bytes = 10 };

typedef struct scores {
    const nd_accuracy *accuracies;
    size_t count;
} scores;

nd_status nd_scores_fit(const nd_graph *const *graphs, size_t count) {
    int64_t first = 0, classes;
    for (size_t i = 0; i < count; i++) {
        nd_graph_class_scores(graphs[i], &classes);
        if (i == 0) first = classes;
        ND_REQUIRE(classes == first, nd_status_usage,
                   "networks of %" PRId64 " and of %" PRId64
                   " classes do not fit into one array of scores; write those of one at a time",
                   first, classes);
    }
    return nd_status_ok;
}

/* Magic, version and length, then a Python dictionary that is padded so that the data are aligned. */
static void write_header(const scores *all, FILE *file) {
    char networks[32] = "", text[256];
    if (all->count > 1) snprintf(networks, sizeof networks, "%zu, ", all->count);
    const int length =
        snprintf(text, sizeof text,
                 "{'descr': '<f4', 'fortran_order': False, 'shape': (%s%" PRId64 ", %" PRId64 "), }",
                 networks, all->accuracies->n, all->accuracies->classes);
    const int padding = header_align - 1 - (magic_bytes + length) % header_align,
              whole = length + padding + 1;
    fwrite("\x93NUMPY\x01\x00", 1, 8, file);
    putc(whole & 255, file);
    putc(whole >> 8, file);
    fprintf(file, "%s%*s\n", text, padding, "");
}

static nd_status write_scores(void *context, FILE *file) {
    const scores *all = context;
    write_header(all, file);
    for (size_t i = 0; i < all->count; i++) {
        const nd_accuracy *one = &all->accuracies[i];
        ND_REQUIRE(one->logits, nd_status_internal, "the scores of network %zu were not kept", i);
        for (int64_t e = 0; e < one->n * one->classes; e++) {
            uint32_t bits;
            memcpy(&bits, &one->logits[e], sizeof bits);
            const uint8_t bytes[4] = {(uint8_t)bits, (uint8_t)(bits >> 8), (uint8_t)(bits >> 16),
                                      (uint8_t)(bits >> 24)};
            fwrite(bytes, 1, sizeof bytes, file);
        }
    }
    return nd_status_ok; /* what could not be written is seen when the file is put in its place */
}

nd_status nd_scores_write(const char *path, const nd_accuracy *accuracies, size_t count) {
    scores all = {accuracies, count};
    return nd_file_replace(path, write_scores, &all);
}
