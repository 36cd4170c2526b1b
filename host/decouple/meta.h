/* What a decoupled network says of how it was made: nd.method, nd.layers and nd.settings of its metadata. Private to
 * decouple/. */
#ifndef ND_DECOUPLE_META_H
#define ND_DECOUPLE_META_H

#include "decouple/decouple.h"

const char *nd_rule_name(nd_rule rule);

/* The settings, with what the images decide where the caller leaves it open. */
nd_decouple_settings nd_decouple_resolved(const nd_decouple_settings *settings);

/* Also sets report->settings_sha256. A network in which nothing was changed says nothing of nd. */
nd_status nd_decouple_write_meta(nd_graph *graph, const nd_decouple_settings *settings, bool changed,
                                 nd_decouple_report *report);

#endif
