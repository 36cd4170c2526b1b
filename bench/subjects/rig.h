/* One layer set up for timing: the same input and output buffers for all implementations, checked before they
 * are timed.
 *
 * Implementations of a regular convolution W[no][ni][kh][kw] with bias and ReLU:
 *   dense             the backend's choice for the regular convolution
 *   direct, winograd  the same, forced to one algorithm where the backend has it: baselines beside dense
 *   unfused           the decoupled layer as two convolutions
 *   fused             the decoupled layer as one separable kernel (form dwpw)
 * Weights are random: time does not depend on their values. */
#ifndef ND_BENCH_RIG_H
#define ND_BENCH_RIG_H

#include "bench/timing/timing.h"
#include "decouple/chain.h"
#include "run/backend.h"

typedef enum nd_implementation {
    nd_implementation_dense,
    nd_implementation_direct,
    nd_implementation_winograd,
    nd_implementation_unfused,
    nd_implementation_fused,
    nd_implementation_best, /* never timed on its own: the fastest of the others */
    nd_implementation_count,
} nd_implementation;

const char *nd_implementation_name(nd_implementation implementation);
bool nd_implementation_is_dense(nd_implementation implementation); /* computes the regular convolution */
bool nd_implementation_find(const char *name, nd_implementation *out);

typedef enum nd_form { nd_form_dwpw, nd_form_pwdw, nd_form_count } nd_form;

const char *nd_form_name(nd_form form);

/* A convolution to time, without weights. `layers` is how often the network has it, `dense` whether it is
 * left as it is. */
typedef struct nd_bench_layer {
    nd_conv conv;
    int64_t layers;
    bool dense;
} nd_bench_layer;

typedef struct nd_rig nd_rig;

/* How the activations of `dense` lie in memory. A library may have its best engine in either order, and a
 * single layer is free to be laid out in it: charging it for the other would flatter what it is compared
 * with. */
typedef enum nd_rig_layout {
    nd_rig_layout_own,    /* as the backend lays out networks */
    nd_rig_layout_turned, /* the other of NHWC and NCHW */
    nd_rig_layout_faster, /* both are timed in turns when it is added; the slower one goes */
} nd_rig_layout;

typedef struct nd_rig_settings {
    nd_backend *backend;
    nd_precision precision;
    int64_t batch;
    size_t rotation; /* bytes the buffers rotate through; 0 = one set, "hot" */
    uint64_t seed;   /* of where the buffers lie: another one for every session */
    nd_rig_layout layout;
    /* Backends of the same plugin, which share memory with `backend`, opened to prefer the algorithm of that
     * implementation; NULL where there is none. */
    nd_backend *forced[nd_implementation_count];
} nd_rig_settings;

nd_status nd_rig_open(const nd_bench_layer *layer, const nd_rig_settings *settings, nd_rig **out);
void nd_rig_close(nd_rig *rig); /* NULL is legal */

/* Prepares an implementation. *added is false when the backend does not support it. */
nd_status nd_rig_add(nd_rig *rig, nd_implementation implementation, nd_form form, int64_t terms, bool *added);

typedef struct nd_rig_entry {
    nd_implementation implementation;
    nd_form form;
    int64_t terms; /* per channel; 0 for dense */
    int64_t macs;  /* one image */
    double bytes;  /* input, output and weights once, and the intermediate twice where it exists */
    size_t workspace;
    char engine[192];
    bool channels_last; /* layout of its activations */
    double error;       /* worst |difference| / bound of nd_rig_check */
} nd_rig_entry;

int nd_rig_count(const nd_rig *rig);
const nd_rig_entry *nd_rig_at(const nd_rig *rig, int index);
size_t nd_rig_rotated(const nd_rig *rig); /* bytes the buffers rotate through */

/* Runs every implementation on the buffers that will be timed and compares pixels (corners, edges, random
 * ones) with a double-precision evaluation. nd_status_failed names layer, implementation and engine. */
nd_status nd_rig_check(nd_rig *rig);

nd_subject nd_rig_subject(nd_rig *rig, int index);

#endif
