#include "decouple/curves/curves_cache.h"

#include "base/hash.h"
#include "decouple/calib/calibration_key.h"

#include <stdio.h>
#include <string.h>

/* The file is {layer: {method: [[rank, loss], ...], "METHOD at the scores": [[error, loss], ...]}}. */
nd_status nd_curves_cache_open(const nd_graph *graph, const nd_decouple_settings *settings,
                               nd_json_cache *out) {
    char hex[nd_sha256_hex_size] = "";
    if (settings->cache) nd_calibration_key(graph, settings, hex);
    return nd_json_cache_open(settings->cache, "curves", hex, out);
}

bool nd_curves_cache_get(const nd_json_cache *cache, const char *layer, const char *method, nd_curve *out) {
    const json_t *points = json_object_get(json_object_get(cache->object, layer), method);
    size_t n = json_array_size(points);
    if (!n || n > nd_curve_points) return false;
    out->n = (int)n;
    for (size_t p = 0; p < n; p++) {
        const json_t *point = json_array_get(points, p);
        const json_t *rank = json_array_get(point, 0), *loss = json_array_get(point, 1);
        if (!json_is_integer(rank) || !json_is_number(loss)) return false;
        out->rank[p] = json_integer_value(rank);
        out->loss[p] = json_number_value(loss);
        bool rises = out->rank[p] > (p ? out->rank[p - 1] : 0);
        if (!rises || !(out->loss[p] >= 0)) return false;
    }
    return true;
}

static void put_points(nd_json_cache *cache, const char *layer, const char *name, json_t *points) {
    json_t *methods = json_object_get(cache->object, layer);
    if (!json_is_object(methods)) {
        json_object_set_new(cache->object, layer, json_object());
        methods = json_object_get(cache->object, layer);
    }
    if (!json_object_set_new(methods, name, points)) nd_json_cache_write(cache);
}

void nd_curves_cache_put(nd_json_cache *cache, const char *layer, const char *method, const nd_curve *curve) {
    json_t *points = json_array();
    for (int p = 0; p < curve->n; p++)
        json_array_append_new(points, json_pack("[If]", (json_int_t)curve->rank[p], curve->loss[p]));
    put_points(cache, layer, method, points);
}

static void name_scale(const char *method, char name[64]) {
    snprintf(name, 64, "%.40s at the scores", method); /* no method's name */
}

bool nd_scale_cache_get(const nd_json_cache *cache, const char *layer, const char *method, nd_scale *out) {
    char name[64];
    name_scale(method, name);
    const json_t *points = json_object_get(json_object_get(cache->object, layer), name);
    const size_t n = json_array_size(points);
    if (!n || n > nd_scale_points) return false;
    out->n = (int)n;
    for (size_t p = 0; p < n; p++) {
        const json_t *point = json_array_get(points, p);
        out->error[p] = json_number_value(json_array_get(point, 0));
        out->loss[p] = json_number_value(json_array_get(point, 1));
        if (!(out->error[p] >= 0) || !(out->loss[p] >= 0)) return false;
    }
    return true;
}

void nd_scale_cache_put(nd_json_cache *cache, const char *layer, const char *method, const nd_scale *scale) {
    char name[64];
    name_scale(method, name);
    json_t *points = json_array();
    for (int p = 0; p < scale->n; p++)
        json_array_append_new(points, json_pack("[ff]", scale->error[p], scale->loss[p]));
    put_points(cache, layer, name, points);
}
