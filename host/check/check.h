/* Cross-check of backends for `nd check`: one file per operation, each giving a list of seeded cases.
 *
 * Network operations are compared with a second formulation in double (convolution as a matrix product,
 * separable as the dense kernel it stands for), so that ref is checked as much as the others; linear algebra
 * is checked by identities. Cases run in several layouts: as the backend likes it, as slices of wider
 * buffers, and the other way round. */
#ifndef ND_CHECK_CHECK_H
#define ND_CHECK_CHECK_H

#include "base/log.h"
#include "run/backend.h"

typedef enum nd_check_outcome {
    nd_check_outcome_passed,
    nd_check_outcome_failed,
    nd_check_outcome_unsupported, /* the backend says it does not do this: no failure, but not compared */
    nd_check_outcome_listed,
} nd_check_outcome;

typedef struct nd_check_report {
    const char *operation; /* "conv" */
    const char *name;      /* "conv/3x3_s2/packed" */
    nd_check_outcome outcome;
    double error, bound; /* of the worst element: the one with the largest error / bound */
    const char *engine;  /* what ran, "" where the backend does not say */
    const char *detail;  /* on failure: where, both values, the seed; else "" */
} nd_check_report;

typedef struct nd_check_settings {
    /* Pattern of case names, "conv/3x3*"; a bare "conv" means "conv/..."; NULL = all. */
    const char *operation;
    nd_precision precision;
    uint64_t seed;
    bool list;                                                 /* name the cases, run nothing */
    void (*report)(void *user, const nd_check_report *report); /* may be NULL */
    void *user;
} nd_check_settings;

typedef struct nd_check_result {
    int64_t compared, failed, unsupported;
} nd_check_result;

/* Runs every case that matches: seeded inputs with extremes, NaN around every input, guard bands around every
 * output, NaN and Inf rejected, |difference| within a bound from the accumulation length, the magnitudes that
 * were summed and the rounding of the precision. nd_status_failed when anything differed or nothing was
 * compared; other statuses when a case could not be set up. */
nd_status nd_check_run(nd_backend *backend, const nd_check_settings *settings, nd_check_result *result);

#endif
