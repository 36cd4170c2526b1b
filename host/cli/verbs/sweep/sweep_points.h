/* The points of a sweep: every option that was given a list is an axis, and a point is a command line with
 * one value from each. So a sweep understands whatever `nd decouple` and `nd eval` do. */
#ifndef ND_CLI_SWEEP_POINTS_H
#define ND_CLI_SWEEP_POINTS_H

#include "cli/cli.h"

/* One value of an axis. A NULL text leaves the option out (--calib none). The rules (--rank, --energy, ...)
 * share one axis: a point has one of them. */
typedef struct nd_sweep_value {
    const nd_option *option;
    const char *text;
} nd_sweep_value;

enum { nd_sweep_axes_max = 16 };

typedef struct nd_sweep_points {
    const nd_args *args;
    bool run; /* as in the settings */
    struct nd_sweep_axis {
        nd_sweep_value *values;
        size_t n;
    } axes[nd_sweep_axes_max]; /* the last one changes fastest */
    size_t n_axes;
    size_t count; /* product of the axes */
} nd_sweep_points;

typedef struct nd_sweep_settings {
    bool run;           /* backend, dtype and batch are axes as well */
    const char *rank;   /* swept without any rule */
    const char *method; /* taken without --method; NULL: what decoupling takes by itself */
} nd_sweep_settings;

/* Everything lives in args' arena. */
nd_status nd_sweep_points_make(nd_args *args, const nd_sweep_settings *settings, nd_sweep_points *out);

/* Whether every value of every axis is one that a point can have: a mistake in the last of them is told
 * before the first of them is measured. */
nd_status nd_sweep_points_check(const nd_sweep_points *points);

/* The command line of point `index`; free with nd_args_free. */
nd_status nd_sweep_point(const nd_sweep_points *points, size_t index, nd_args *out);

/* The command line of the original that point is compared with: how it is run and what it is measured on, but
 * not how it is decoupled; in 8 bits its ranges too. Free with nd_args_free. */
nd_status nd_sweep_original(const nd_args *point, nd_args *out);

/* The first point that is compared with the same original as point `index`: whoever does it writes the
 * original's row, so that of any number of shares one has it. */
nd_status nd_sweep_first(const nd_sweep_points *points, size_t index, size_t *first);

/* "1/4": 0-based share and number of shares. */
nd_status nd_sweep_shard(const nd_args *args, size_t *share, size_t *shares);

/* Whether a time is part of the result, or shapes it: then the number of threads does too. */
bool nd_sweep_is_timed(const nd_args *point);

/* Where there are several, calls `check` for one point of every backend and dtype: does that backend do that
 * dtype? */
typedef nd_status nd_sweep_check(void *user, nd_args *point);
nd_status nd_sweep_points_backends(const nd_sweep_points *points, nd_sweep_check *check, void *user);

/* SHA-256 over everything that makes the result what it is: the options of the point, but not where it is
 * written or which share it is in, and `identity` (weights, data, device, threads of what is timed). */
void nd_sweep_point_sha256(const nd_args *point, const char *identity, char hex[65]);

/* The rule of a point, for its row: "rank", "energy", ...; its target; NULL and NaN where there is none. */
const char *nd_sweep_rule(const nd_args *point, double *target);

#endif
