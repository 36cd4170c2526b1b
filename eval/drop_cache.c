#include "eval/drop_cache.h"

#include "base/file.h"
#include "base/hash.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { nd_drop_numbers = 11 };

struct nd_drop_cache {
    json_t *probes; /* {ratio: [numbers of the record]} */
    char path[4096];
    bool kept;
};

/* The record as its numbers, in a fixed order. */
static void nd_drop_record_numbers(nd_drop_record *record, int64_t *numbers[nd_drop_numbers]) {
    nd_drop_counts *counts[] = {&record->top1, &record->top5};
    int n = 0;
    for (size_t c = 0; c < 2; c++) {
        numbers[n++] = &counts[c]->both;
        numbers[n++] = &counts[c]->original_only;
        numbers[n++] = &counts[c]->changed_only;
        numbers[n++] = &counts[c]->neither;
    }
    numbers[n++] = &record->conv_macs;
    numbers[n++] = &record->total_macs;
    numbers[n++] = &record->params;
}

nd_status nd_drop_cache_open(const char *folder, const char *identity, nd_drop_cache **out) {
    nd_drop_cache *cache = calloc(1, sizeof *cache);
    *out = NULL;
    ND_REQUIRE(cache, nd_status_memory, "no memory for a cache");
    if (folder) {
        nd_sha256 hash;
        char hex[nd_sha256_hex_size];
        nd_sha256_init(&hash);
        nd_sha256_add(&hash, identity, strlen(identity));
        nd_sha256_hex(&hash, hex);
        const int length = snprintf(cache->path, sizeof cache->path, "%s/drop-%.32s.json", folder, hex);
        cache->kept = length > 0 && (size_t)length < sizeof cache->path;
    }
    if (cache->kept) cache->probes = json_load_file(cache->path, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(cache->probes)) {
        json_decref(cache->probes);
        cache->probes = json_object();
    }
    if (!cache->probes) {
        free(cache);
        return nd_fail(nd_status_memory, "no memory for a cache");
    }
    *out = cache;
    return nd_status_ok;
}

void nd_drop_cache_close(nd_drop_cache *cache) {
    if (!cache) return;
    json_decref(cache->probes);
    free(cache);
}

static const char *nd_drop_cache_name(double ratio, char text[32]) {
    snprintf(text, 32, "%.12g", ratio);
    return text;
}

bool nd_drop_cache_get(const nd_drop_cache *cache, double ratio, nd_drop_record *out) {
    char name[32];
    const json_t *list = json_object_get(cache->probes, nd_drop_cache_name(ratio, name));
    int64_t *numbers[nd_drop_numbers];
    if (json_array_size(list) != nd_drop_numbers) return false;
    nd_drop_record_numbers(out, numbers);
    for (size_t i = 0; i < nd_drop_numbers; i++) {
        const json_t *number = json_array_get(list, i);
        if (!json_is_integer(number) || json_integer_value(number) < 0) return false;
        *numbers[i] = json_integer_value(number);
    }
    return true;
}

static nd_status nd_drop_cache_write(void *context, FILE *file) {
    const json_t *probes = context;
    ND_REQUIRE(!json_dumpf(probes, file, JSON_INDENT(1) | JSON_SORT_KEYS) && fputc('\n', file) != EOF,
               nd_status_input, "cannot write probes");
    return nd_status_ok;
}

nd_status nd_drop_cache_put(nd_drop_cache *cache, double ratio, const nd_drop_record *record) {
    char name[32];
    nd_drop_record copy = *record;
    int64_t *numbers[nd_drop_numbers];
    nd_drop_record_numbers(&copy, numbers);
    json_t *list = json_array();
    for (size_t i = 0; i < nd_drop_numbers; i++) json_array_append_new(list, json_integer(*numbers[i]));
    ND_REQUIRE(!json_object_set_new(cache->probes, nd_drop_cache_name(ratio, name), list), nd_status_memory,
               "no memory for a cache");
    return cache->kept ? nd_file_replace(cache->path, nd_drop_cache_write, cache->probes) : nd_status_ok;
}
