/* Finding and opening backends by name. */
#ifndef ND_RUN_PLUGINS_H
#define ND_RUN_PLUGINS_H

#include "run/backend.h"

#pragma GCC visibility push(default)

/* "ref", "cpu", "cuda", or "auto" (cuda with a device, else cpu, else ref). libnd_<name>.so is looked for in
 * $ND_PLUGINS, beside the program or libnd.so that asks, then in lib/nd of its prefix, and stays loaded.
 * nd_status_backend or _device say why not. See run/libraries.h where the process has threads already. */
nd_status nd_backend_open(const char *name, const nd_backend_settings *settings, nd_backend **out);
/* As "auto", but only what it tries after `failed`; NULL: all. */
nd_status nd_backend_open_after(const char *failed, const nd_backend_settings *settings, nd_backend **out);
void nd_backend_close(nd_backend *backend); /* NULL is legal */

/* nd_status_usage where `name` is none of the names below, nor "auto". Loads nothing. */
nd_status nd_backend_known(const char *name);

/* The names nd knows, in the order `auto` tries them, NULL-ended; and what each one has. */
extern const char *const nd_backend_names[];
nd_status nd_backend_probe(const char *name, nd_device_info *devices, int capacity, int *count, char *why,
                           size_t why_size);

/* The built-in reference, never optimised: plugins may run operations they lack on it (host memory, fp32). */
extern const nd_plugin nd_ref_plugin;
nd_status nd_ref_run(const nd_work *work, const float *x, const float *x2,
                     float *y); /* weights from `work` */

/* The same for nd_precision_int8, by the definition in run/quantized.h. */
nd_status nd_ref_run_quantized(const nd_work *work, const void *x, const void *x2, void *y);

/* Replaces what a work points to by copies in the arena: weights rounded to what the precision stores, biases
 * in fp32, as every precision adds them. False when out of memory. */
bool nd_ref_keep(nd_work *work, nd_precision precision, nd_arena *arena);
extern const nd_linalg nd_ref_linalg; /* the backend argument is unused */

#pragma GCC visibility pop

#endif
