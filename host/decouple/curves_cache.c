#include "decouple/curves_cache.h"

#include "base/file.h"
#include "base/hash.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char cache_version[] = "nd-curves-3"; /* raise when a fit changes */

struct nd_curves_cache {
    json_t *layers; /* {layer: {method: [[rank, harm], ...]}} */
    char path[4096];
    bool kept;
};

void nd_calibration_key(const nd_graph *graph, const nd_decouple_settings *settings, char hex[65]) {
    nd_sha256 hash;
    char weights[65], text[512];
    nd_graph_sha256(graph, weights);
    const nd_batches *calib = settings->calib;
    snprintf(text, sizeof text, "%s|%s|%s|%lldx%lldx%lld|%lld|%d|%lld|%.17g|%d|%d|%d", cache_version, weights,
             calib->sha256, (long long)calib->channels, (long long)calib->height, (long long)calib->width,
             (long long)settings->calib_images, (int)settings->ranks, (long long)settings->round,
             settings->ridge, (int)settings->quick, (int)settings->light, (int)settings->output_metric);
    nd_sha256_init(&hash);
    nd_sha256_add(&hash, text, strlen(text));
    nd_sha256_add(&hash, calib->preprocess, strlen(calib->preprocess));
    nd_sha256_hex(&hash, hex);
}

nd_status nd_curves_cache_open(const nd_graph *graph, const nd_decouple_settings *settings,
                               nd_curves_cache **out) {
    char hex[65];
    nd_curves_cache *cache = calloc(1, sizeof *cache);
    ND_REQUIRE(cache, nd_status_memory, "no memory for a cache");
    if (settings->cache) {
        nd_calibration_key(graph, settings, hex);
        int length = snprintf(cache->path, sizeof cache->path, "%s/curves-%.32s.json", settings->cache, hex);
        cache->kept = length > 0 && (size_t)length < sizeof cache->path;
    }
    if (cache->kept) cache->layers = json_load_file(cache->path, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(cache->layers)) {
        json_decref(cache->layers);
        cache->layers = json_object();
    }
    if (!cache->layers) {
        free(cache);
        return nd_fail(nd_status_memory, "no memory for a cache");
    }
    *out = cache;
    return nd_status_ok;
}

void nd_curves_cache_close(nd_curves_cache *cache) {
    if (!cache) return;
    json_decref(cache->layers);
    free(cache);
}

bool nd_curves_cache_get(const nd_curves_cache *cache, const char *layer, const char *method, nd_curve *out) {
    const json_t *points = json_object_get(json_object_get(cache->layers, layer), method);
    size_t n = json_array_size(points);
    if (!n || n > nd_curve_points) return false;
    out->n = (int)n;
    for (size_t p = 0; p < n; p++) {
        const json_t *point = json_array_get(points, p);
        const json_t *rank = json_array_get(point, 0), *harm = json_array_get(point, 1);
        if (!json_is_integer(rank) || !json_is_number(harm)) return false;
        out->rank[p] = json_integer_value(rank);
        out->harm[p] = json_number_value(harm);
        bool rises = out->rank[p] > (p ? out->rank[p - 1] : 0);
        if (!rises || !(out->harm[p] >= 0)) return false;
    }
    return true;
}

static nd_status write_cache(void *context, FILE *file) {
    const json_t *layers = context;
    ND_REQUIRE(!json_dumpf(layers, file, JSON_INDENT(1) | JSON_SORT_KEYS) && fputc('\n', file) != EOF,
               nd_status_input, "cannot write curves");
    return nd_status_ok;
}

nd_status nd_curves_cache_put(nd_curves_cache *cache, const char *layer, const char *method,
                              const nd_curve *curve) {
    json_t *methods = json_object_get(cache->layers, layer), *points = json_array();
    if (!methods) {
        json_object_set_new(cache->layers, layer, json_object());
        methods = json_object_get(cache->layers, layer);
    }
    for (int p = 0; p < curve->n; p++)
        json_array_append_new(points, json_pack("[If]", (json_int_t)curve->rank[p], curve->harm[p]));
    ND_REQUIRE(!json_object_set_new(methods, method, points), nd_status_memory, "no memory for a cache");
    return cache->kept ? nd_file_replace(cache->path, write_cache, cache->layers) : nd_status_ok;
}
