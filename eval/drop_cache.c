#include "eval/drop_cache.h"

#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>

/* The file is {ratio: [numbers of the record]}. */
enum { nd_drop_numbers = 11 };

/* The record as its numbers, in a fixed order. */
static void drop_record_numbers(nd_drop_record *record, int64_t *numbers[nd_drop_numbers]) {
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

nd_status nd_drop_cache_open(const char *folder, const char *search, const nd_graph *graph,
                             const nd_decouple_settings *settings, const nd_batches *data,
                             const nd_backend *backend, nd_json_cache *out) {
    nd_arena arena = {0};
    char weights[nd_sha256_hex_size], hex[nd_sha256_hex_size], *text = NULL;
    nd_status status;
    nd_graph_sha256(graph, weights);
    ND_TRY_DONE(nd_decouple_settings_text(settings, &text));
    const char *identity =
        nd_arena_printf(&arena, "%s|%s|%s|%s|%s|%lld|%s", search, weights, text, data->sha256,
                        data->preprocess, (long long)data->count, backend->name);
    ND_REQUIRE_DONE(identity, nd_status_memory, "no memory for a cache");
    nd_sha256_text(identity, hex);
    ND_TRY_DONE(nd_json_cache_open(folder, "drop", hex, out));
done:
    nd_arena_free(&arena);
    free(text);
    return status;
}

static const char *drop_cache_name(double ratio, char text[32]) {
    snprintf(text, 32, "%.12g", ratio);
    return text;
}

bool nd_drop_cache_get(const nd_json_cache *cache, double ratio, nd_drop_record *out) {
    char name[32];
    const json_t *list = json_object_get(cache->object, drop_cache_name(ratio, name));
    int64_t *numbers[nd_drop_numbers];
    if (json_array_size(list) != nd_drop_numbers) return false;
    drop_record_numbers(out, numbers);
    for (size_t i = 0; i < nd_drop_numbers; i++) {
        const json_t *number = json_array_get(list, i);
        if (!json_is_integer(number) || json_integer_value(number) < 0) return false;
        *numbers[i] = json_integer_value(number);
    }
    return true;
}

void nd_drop_cache_put(nd_json_cache *cache, double ratio, const nd_drop_record *record) {
    char name[32];
    nd_drop_record copy = *record;
    int64_t *numbers[nd_drop_numbers];
    drop_record_numbers(&copy, numbers);
    json_t *list = json_array();
    for (size_t i = 0; i < nd_drop_numbers; i++) json_array_append_new(list, json_integer(*numbers[i]));
    if (!json_object_set_new(cache->object, drop_cache_name(ratio, name), list)) nd_json_cache_write(cache);
}
