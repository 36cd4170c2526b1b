/* The published tables in results/paper: what was printed, where it stands, and the setting it belongs to. */
#ifndef ND_EVAL_PAPER_H
#define ND_EVAL_PAPER_H

#include "decouple/decouple.h"

/* One printed value. Texts are never NULL; they live in the table's arena. */
typedef struct nd_paper_value {
    const char *row;      /* of the table */
    const char *model;    /* zoo architecture */
    const char *method;   /* of nd; "none" for the network as it is */
    const char *quantity; /* conv_macs, conv_macs_ratio, total_macs, fc_macs, conv_params, layer_macs, saved,
                              drop_top1 */
    double value;         /* as printed, in `unit` */
    int digits;           /* decimals printed */
    const char *unit;     /* G, M, x, %, points, or nothing */
    const char *kind;     /* published, reported (by a user) or derived (from the paper's cost model) */
    const char *needs;    /* words: weights, drop (ImageNet and weights), calib (training images), map (a
                              detector's weights and annotated images) */
    const char *source;
    int64_t rank;          /* T, or 0 where none was published */
    double energy;         /* threshold, or 0 */
    int64_t extra_macs;    /* dense MACs that the paper's network has and the zoo's has not */
    const char *layer;     /* of layer_macs */
    nd_layer_rule *layers; /* ranks of single layers */
    size_t n_layers;
    const char **skip; /* patterns of layers left dense */
    size_t n_skip;
    bool first_conv; /* the first convolution is decoupled as well */
} nd_paper_value;

typedef struct nd_paper_table {
    nd_paper_value *values;
    size_t n_values;
    nd_arena arena;
} nd_paper_table;

/* The tables there are, in the order to show them, NULL-named end. */
typedef struct nd_paper_title {
    const char *name, *text;
} nd_paper_title;

extern const nd_paper_title nd_paper_titles[];

/* Reads the bundled table; `path` goes into messages of nd_paper_parse. nd_status_usage for an
 * unknown name. */
nd_status nd_paper_read(const char *name, nd_paper_table *out);
nd_status nd_paper_parse(const char *text, size_t length, const char *path, nd_paper_table *out);
void nd_paper_free(nd_paper_table *table);

#endif
