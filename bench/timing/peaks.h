/* What the machine can do at most, measured in the run that uses it: data-sheet peaks say little about a
 * shared or throttled machine. */
#ifndef ND_BENCH_PEAKS_H
#define ND_BENCH_PEAKS_H

#include "run/backend.h"

typedef struct nd_peaks {
    double gflops; /* the faster of a register-only FMA loop on all threads (host, fp32) and a large GEMM of
                      the backend */
    double gbps;   /* copying buffers larger than the last cache (rotation limit permitting): bytes read and
                      written */
} nd_peaks;

/* Best of several runs, which is what a peak is. About 0.3 s. */
nd_status nd_peaks_measure(nd_backend *backend, nd_precision precision, nd_peaks *out);

/* The roofline: no run with this work on these peaks can be faster. In ns. */
double nd_peaks_bound(const nd_peaks *peaks, double macs, double bytes);

/* How many bytes cold buffers rotate through: twice the last cache, at most 256 MiB. A virtual machine may
 * report the whole host's cache (hundreds of MiB), of which a guest has a share. */
size_t nd_peaks_rotation(const nd_backend *backend);

#endif
