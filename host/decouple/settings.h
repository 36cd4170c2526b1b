/* The settings of a decoupling: what the images decide, what is refused, and how a network says them in its
 * metadata (nd.method, nd.layers, nd.settings). Private to decouple/. */
#ifndef ND_DECOUPLE_SETTINGS_H
#define ND_DECOUPLE_SETTINGS_H

#include "decouple/decouple.h"

/* The settings, with what the images decide where the caller leaves it open. */
nd_decouple_settings nd_decouple_resolved(const nd_decouple_settings *settings);

/* nd_status_usage names the field. */
nd_status nd_decouple_check_settings(const nd_decouple_settings *settings);

/* Also sets report->settings_sha256. A network in which nothing was changed says nothing of nd. */
nd_status nd_decouple_write_meta(nd_graph *graph, const nd_decouple_settings *settings, bool changed,
                                 nd_decouple_report *report);

#endif
