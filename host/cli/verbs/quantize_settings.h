/* From the command line to a network in int8, for every verb that quantises. */
#ifndef ND_CLI_QUANTIZE_SETTINGS_H
#define ND_CLI_QUANTIZE_SETTINGS_H

#include "cli/cli.h"
#include "quantize/quantize.h"

/* Whether the networks of these arguments are to be quantised: --quantize int8, or --dtype int8 in a verb
 * that makes networks. nd_status_usage for a --quantize other than int8, or beside a --dtype that int8 does
 * not go with. */
nd_status nd_cli_quantizes(const nd_args *args, const char *dtype, bool *out);

/* Opens the images of --calib (else `otherwise`, else nd_status_usage), --calib-images of them. The stream is
 * the caller's to close. */
nd_status nd_cli_quantize_settings(const nd_args *args, const nd_graph *graph, const char *otherwise,
                                   nd_quantize_settings *out);

/* Quantises a network that runs here and now: afterwards it is folded and inferred for one image. Ranges are
 * those on --calib or on synthetic images. */
nd_status nd_cli_quantize(const nd_args *args, nd_graph *graph, nd_backend *backend);

#endif
