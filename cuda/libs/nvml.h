/* What NVML knows of the device: the state that a timing depends on. The library comes with the driver and is
 * loaded at run time; without it the text says so and nothing else changes. */
#ifndef ND_CUDA_NVML_H
#define ND_CUDA_NVML_H

#include "cuda/device.h"

nd_nvml *nd_nvml_open(int device); /* NULL when memory is out; never fails for want of the library */
void nd_nvml_close(nd_nvml *nvml); /* NULL is legal */
bool nd_nvml_loaded(const nd_nvml *nvml);

/* "Mock GPU, 3f2a91c04b7d": the name and the start of the UUID's SHA-256, which tells devices apart and
 * nothing more. */
void nd_nvml_identity(const nd_nvml *nvml, const char *name, char *text, size_t size);
void nd_nvml_driver(const nd_nvml *nvml, char *text, size_t size); /* "580.65.06", or empty */

/* "SM 1980 of 1980 MHz, memory 2619 MHz, 41 C, 96 of 700 W, ECC on, slowed by nothing" */
void nd_nvml_conditions(const nd_nvml *nvml, char *text, size_t size);

#endif
