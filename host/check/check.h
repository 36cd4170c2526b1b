/* Cross-check of backends behind `nd check`: one file per operation, each giving a list of seeded cases. */
#ifndef ND_CHECK_CHECK_H
#define ND_CHECK_CHECK_H

#include "base/log.h"
#include "run/backend.h"

typedef struct nd_check_settings {
    const char *operation; /* pattern of "conv/3x3_s2_n1..." case names; NULL = all */
    nd_precision precision;
    uint64_t seed;
    bool list; /* name the cases, run nothing */
    void (*report)(void *user, const char *name, bool passed, double error, double bound, const char *detail);
    void *user;
} nd_check_settings;

typedef struct nd_check_result {
    int64_t compared, failed, unsupported;
} nd_check_result;

/* Compares `backend` with ref: seeded inputs with extremes, guard bands around every output, NaN and Inf
 * rejected, |difference| <= bound * (accumulation length's rounding). nd_status_failed when anything differed
 * or nothing was compared. */
nd_status nd_check_run(nd_backend *backend, const nd_check_settings *settings, nd_check_result *result);

#endif
