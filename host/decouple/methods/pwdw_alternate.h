/* Least squares for the two halves of PW+DW terms in turn (method.md, "PW+DW on data"). */
#ifndef ND_DECOUPLE_PWDW_ALTERNATE_H
#define ND_DECOUPLE_PWDW_ALTERNATE_H

#include "run/backend.h"

#include <stdint.h>

/* The outputs of one group, each a problem of its own: the kernel w_o[i][t] = sum over its terms of u[i] v[t]
 * that makes w_o g w_o - 2 h_o w_o least. k = cols s. */
typedef struct nd_pwdw_problem {
    int64_t n_out, cols, s;
    const double *g, *h;     /* [k][k], [n_out][k] */
    const double *precision; /* [cols][cols]: inverse of the mean covariance of channels, in any units */
    const double *space;     /* [s][s]: mean covariance of taps */
    const int32_t *kept;     /* [n_out]: terms of each */
    int64_t rank;            /* their sum */
    double *u, *v;           /* [rank][cols], [rank][s]: output after output; the start, then the result */
} nd_pwdw_problem;

nd_status nd_pwdw_alternate(nd_backend *backend, const nd_pwdw_problem *problem);

#endif
