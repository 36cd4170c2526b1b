#include "base/files/json_cache.h"

#include "base/files/draft.h"
#include "base/files/file.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

nd_status nd_json_cache_open(const char *folder, const char *kind, const char *hex, nd_json_cache *out) {
    *out = (nd_json_cache){0};
    if (folder) {
        int length = snprintf(out->path, sizeof out->path, "%s/%s-%.32s.json", folder, kind, hex);
        if (length < 0 || (size_t)length >= sizeof out->path) *out->path = 0;
    }
    FILE *file = *out->path ? nd_file_stream(out->path, "r") : NULL;
    if (file) {
        out->object = json_loadf(file, JSON_REJECT_DUPLICATES, NULL);
        fclose(file);
    } else if (*out->path && errno != ENOENT) {
        nd_log(nd_log_warn, "the cache is not kept: %s: %s", out->path, strerror(errno));
        *out->path = '\0';
    }
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

void nd_json_cache_write(nd_json_cache *cache) {
    if (!*cache->path || !nd_file_replace(cache->path, dump, cache)) return;
    nd_log(nd_log_warn, "the cache is not kept: %s", nd_error());
    *cache->path = '\0';
}

void nd_json_cache_close(nd_json_cache *cache) {
    json_decref(cache->object);
    cache->object = NULL;
}
