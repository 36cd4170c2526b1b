/* Probes of a search for a drop, on disk: a search that was killed, or has another bound, does not make them
 * again. */
#ifndef ND_EVAL_DROP_CACHE_H
#define ND_EVAL_DROP_CACHE_H

#include "base/files/json_cache.h"
#include "decouple/decouple.h"
#include "eval/drop.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct nd_drop_record {
    nd_drop_counts top1, top5;
    int64_t conv_macs, total_macs, params;
} nd_drop_record;

/* By everything but the ratio that a probe depends on; `search` says what ratios are. No folder (NULL) gives
 * a cache that is kept nowhere. */
nd_status nd_drop_cache_open(const char *folder, const char *search, const nd_graph *graph,
                             const nd_decouple_settings *settings, const nd_batches *data,
                             const nd_backend *backend, nd_json_cache *out);
bool nd_drop_cache_get(const nd_json_cache *cache, double ratio, nd_drop_record *out);
void nd_drop_cache_put(nd_json_cache *cache, double ratio,
                       const nd_drop_record *record); /* writes the file */

#endif
