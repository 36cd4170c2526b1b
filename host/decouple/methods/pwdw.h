/* PW+DW: pointwise rows u_t to R channels, then one depthwise filter v_t each, summed per output channel:
 * W'[o,i] = sum over the terms t of output o of u_t[i] v_t (method.md, "Two forms" and "PW+DW on data"). */
#ifndef ND_DECOUPLE_PWDW_H
#define ND_DECOUPLE_PWDW_H

#include "decouple/methods/method.h"

/* Terms of one output that give its kernel exactly. */
int64_t nd_pwdw_full(const nd_conv *conv);

/* Most terms of one output at rank R: the grouped conv gives every output the same number of inputs, so a
 * ragged choice pays for this many 3x3 filters an output, though only R pointwise rows. */
int64_t nd_pwdw_cap(const nd_conv *conv, nd_ranks ranks, int64_t rank);

/* The two stages with kept[no] terms per output (sum `rank`), weights zero. When the outputs differ, the
 * grouped stage gathers nd_pwdw_cap inputs an output, the missing ones with zero filters. */
nd_status nd_pwdw_layout(const nd_conv *conv, const int32_t *kept, int64_t rank, nd_chain *out);

/* Puts filter `v` [taps] and row `u` [ni/groups] of term `k` of output `o` in place; `t` numbers the terms
 * through all outputs. */
void nd_pwdw_set(nd_chain *chain, int64_t o, int64_t k, int64_t t, const double *u, const double *v);

/* Chosen and fitted on data. */
nd_status nd_pwdw_fit(nd_backend *backend, const nd_conv *conv, nd_ranks ranks, int64_t rank,
                      const nd_moments *moments, nd_chain *out);

#endif
