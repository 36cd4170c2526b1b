/* A JSON object kept as one file of a cache folder: what was measured once and is found again by a
 * later run. */
#ifndef ND_BASE_JSON_CACHE_H
#define ND_BASE_JSON_CACHE_H

#include "base/status.h"

#include <jansson.h>

typedef struct nd_json_cache {
    json_t *object;  /* never NULL once open */
    char path[4096]; /* "": kept nowhere */
} nd_json_cache;

/* Opens FOLDER/KIND-<first 32 digits of hex>.json, where `hex` names everything that the object depends on. A
 * missing or unreadable file is an empty object; no folder (NULL) gives one that is kept nowhere. */
nd_status nd_json_cache_open(const char *folder, const char *kind, const char *hex, nd_json_cache *out);
/* Replaces the file as a whole. A cache only saves time: where it cannot be written a warning says so, once,
 * and the object is kept nowhere from then on. */
void nd_json_cache_write(nd_json_cache *cache);
void nd_json_cache_close(nd_json_cache *cache); /* a zeroed or closed one is legal */

#endif
