/* Decoupling a whole network: which layers, what rank each, rewrite, say what it cost. */
#ifndef ND_DECOUPLE_DECOUPLE_H
#define ND_DECOUPLE_DECOUPLE_H

#include "base/batches.h"
#include "base/log.h"
#include "decouple/methods/ranks.h"
#include "decouple/plan/clock.h"
#include "model/cost.h"
#include "run/backend.h"

#pragma GCC visibility push(default)

/* How ranks are chosen. Exactly one rule, except that per-layer settings override it. */
typedef enum nd_rule {
    nd_rule_rank,   /* T for every chosen layer: obeyed even where it costs more than dense, with a warning */
    nd_rule_energy, /* smallest T whose unweighted mean energy over the slices reaches the threshold
                       (method.md, "Ranks") */
    nd_rule_frobenius,     /* smallest rank with error^2 <= (1 - threshold) * |W|^2 */
    nd_rule_macs_ratio,    /* original MACs / new MACs of the network; ranks by error per MAC */
    nd_rule_latency_ratio, /* original time / new time of the network by its layers' measured times */
} nd_rule;

/* "PATTERN=SETTING": SETTING is a rank T, "dense", a method name, or method:T. Later entries win. */
typedef struct nd_layer_rule {
    const char *pattern;
    const char *setting;
} nd_layer_rule;

/* What a rule with a budget chooses from: what every candidate costs and losses. Measured once, it serves any
 * number of targets of the same rule on the same graph. */
typedef struct nd_candidates {
    struct nd_candidate *rows; /* malloc'd; layers by their number in the plan (decouple/plan/allocate.h) */
    size_t count;
    int64_t total; /* cost of the original, in the unit of the rows */
    int64_t fixed; /* of it, what no candidate stands for */
    double most;   /* the largest ratio within reach */
} nd_candidates;

typedef struct nd_decouple_settings {
    const char *method; /* a method's name, several with commas, or "auto": per layer the cheaper of dwpw and
                           pwdw; for macs_ratio what loses least, with images among more methods (method.md,
                           "Auto") */
    nd_ranks ranks;
    nd_rule rule;
    double target;   /* T, threshold, ratio or points, by rule */
    bool conv_only;  /* macs_ratio counts convolutions alone */
    int64_t round;   /* ranks to a multiple of this; 0 or 1 = no rounding */
    bool first_conv; /* decouple the network's first conv as well (--skip none) */
    const nd_layer_rule *layers;
    size_t n_layers;
    const char *const *skip; /* patterns left dense */
    size_t n_skip;

    /* Calibration (method.md, "On data"): NULL for weights alone. */
    nd_batches *calib;
    int64_t calib_images;
    double ridge; /* 0 = by images held out (method.md, "Ridge"); on synthetic images 0.3 */
    bool quick;   /* macs_ratio by each layer's output error, scaled to the scores, instead of curves there */
    bool light;   /* gain and bias only */
    bool relu_aware;    /* also fit through the activation that follows (decouple/calib/aware.h) */
    bool match_scores;  /* in the end, by gains and biases (decouple/calib/match_scores.h) */
    bool output_metric; /* choose filters by the loss of the scores they cause (method.md, "Output metric") */
    const char *cache;  /* folder for curves and for resuming; NULL = none */

    const nd_clock *clock;           /* for latency_ratio */
    const nd_candidates *candidates; /* measured before by nd_decouple_candidates; NULL = measure them */

    const nd_progress *progress;
} nd_decouple_settings;

nd_decouple_settings nd_decouple_defaults(void); /* auto, uniform, rank 4, skip first conv */

/* What became of one convolution. */
typedef struct nd_layer_report {
    const char *name;
    const char *method; /* "dense" when left alone */
    const char *why;    /* why dense: "pointwise", "first conv", "skipped", ...; NULL otherwise */
    int64_t rank;       /* R, or 0 */
    double terms;       /* T = R / channels, mean over channels */
    int64_t macs, new_macs, params, new_params;
    double error;      /* |W' - W| / |W|; with calibration relative output error */
    double held_error; /* with calibration that on images its fit has not seen; -1 where it is not known */
    bool after_activation; /* with relu_aware: the error is that after the activation that follows */
    double energy;         /* 1 - error^2: share kept of the kernel's squares; calibrated, of its output's */
} nd_layer_report;

typedef struct nd_decouple_report {
    nd_layer_report *layers;
    size_t n_layers;
    nd_cost before, after;
    double expected_ratio; /* by the costs a rule with a budget chose from; 0 under other rules */
    double seconds;        /* surveys and curves, where a budget needs them, SVDs and fits */
    char settings_sha256[65];
    bool changed; /* some convolution was decoupled or fitted anew */
    nd_arena arena;
} nd_decouple_report;

/* `graph` must be inferred; it is folded and rewritten in place and inferred again. Settings and per-layer
 * ranks go into its metadata ("nd.method", "nd.settings", "nd.layers"). */
nd_status nd_decouple(nd_graph *graph, nd_backend *backend, const nd_decouple_settings *settings,
                      nd_decouple_report *report);
void nd_decouple_report_free(nd_decouple_report *report);

/* Folds the graph and infers it again: what nd_decouple begins with, and all else here asks for. */
nd_status nd_decouple_prepare(nd_graph *graph);

/* The candidates that a rule with a budget has on this prepared graph. The target is not looked at. */
nd_status nd_decouple_candidates(const nd_graph *graph, nd_backend *backend,
                                 const nd_decouple_settings *settings, nd_candidates *out);
void nd_candidates_free(nd_candidates *candidates);

/* To be raised when the same settings, weights and images give another network or other curves than before:
 * what was kept of those is found no more. */
extern const char nd_fit_version[];

/* All settings that shape the result but the target, and the version of the fits, as text: equal texts on
 * equal weights are one experiment. Free with free(). */
nd_status nd_decouple_settings_text(const nd_decouple_settings *settings, char **out);

#pragma GCC visibility pop

#endif
