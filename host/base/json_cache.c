#include "base/json_cache.h"

#include "base/file.h"

#include <stdio.h>

nd_status nd_json_cache_open(const char *folder, const char *kind, const char *hex, nd_json_cache *out) {
    *out = (nd_json_cache){0};
    if (folder) {
        int length = snprintf(out->path, sizeof out->path, "%s/%s-%.32s.json", folder, kind, hex);
        if (length < 0 || (size_t)length >= sizeof out->path) *out->path = 0;
    }
    if (*out->path) out->object = json_load_file(out->path, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(out->object)) {
        json_decref(out->object);
        out->object = json_object();
    }
    ND_REQUIRE(out->object, nd_status_memory, "no memory for a cache of %s", kind);
    return nd_status_ok;
}

static nd_status dump(void *context, FILE *file) {
    const nd_json_cache *cache = context;
    ND_REQUIRE(!json_dumpf(cache->object, file, JSON_INDENT(1) | JSON_SORT_KEYS) && fputc('\n', file) != EOF,
               nd_status_input, "cannot write %s", cache->path);
    return nd_status_ok;
}

nd_status nd_json_cache_write(const nd_json_cache *cache) {
    return *cache->path ? nd_file_replace(cache->path, dump, (void *)cache) : nd_status_ok;
}

void nd_json_cache_close(nd_json_cache *cache) {
    json_decref(cache->object);
    cache->object = NULL;
}
