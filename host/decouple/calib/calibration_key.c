#include "decouple/calib/calibration_key.h"

#include "base/hash.h"

#include <stdio.h>
#include <string.h>

void nd_calibration_key(const nd_graph *graph, const nd_decouple_settings *settings, char hex[65]) {
    nd_sha256 hash;
    char weights[65], text[512];
    nd_graph_sha256(graph, weights);
    const nd_batches *calib = settings->calib;
    snprintf(text, sizeof text, "%s|%s|%s|%lldx%lldx%lld|%lld|%d|%lld|%.17g|%d|%d|%d", nd_fit_version,
             weights, calib->sha256, (long long)calib->channels, (long long)calib->height,
             (long long)calib->width, (long long)settings->calib_images, (int)settings->ranks,
             (long long)settings->round, settings->ridge, (int)settings->quick, (int)settings->light,
             (int)settings->output_metric);
    nd_sha256_init(&hash);
    nd_sha256_add(&hash, text, strlen(text));
    nd_sha256_add(&hash, calib->preprocess, strlen(calib->preprocess));
    nd_sha256_hex(&hash, hex);
}
