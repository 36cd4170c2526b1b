/* Measured curves on disk, by model and data: later targets, and a run that was killed, find them again. */
#ifndef ND_DECOUPLE_CURVES_CACHE_H
#define ND_DECOUPLE_CURVES_CACHE_H

#include "base/files/json_cache.h"
#include "decouple/curves/curve.h"
#include "decouple/decouple.h"

/* Opens the file of curves in settings->cache, if that is set, by the key of the fits
 * (decouple/calib/calibration_key.h). */
nd_status nd_curves_cache_open(const nd_graph *graph, const nd_decouple_settings *settings,
                               nd_json_cache *out);
bool nd_curves_cache_get(const nd_json_cache *cache, const char *layer, const char *method, nd_curve *out);
void nd_curves_cache_put(nd_json_cache *cache, const char *layer, const char *method,
                         const nd_curve *curve); /* and writes the file */
bool nd_scale_cache_get(const nd_json_cache *cache, const char *layer, const char *method, nd_scale *out);
void nd_scale_cache_put(nd_json_cache *cache, const char *layer, const char *method, const nd_scale *scale);

#endif
