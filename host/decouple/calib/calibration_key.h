/* What a fit on data depends on. */
#ifndef ND_DECOUPLE_CALIBRATION_KEY_H
#define ND_DECOUPLE_CALIBRATION_KEY_H

#include "decouple/decouple.h"

/* SHA-256 of all of it: weights, images, and the settings that shape a fit. */
void nd_calibration_key(const nd_graph *graph, const nd_decouple_settings *settings, char hex[65]);

#endif
