/* The command line: one option table, one file per verb. A verb parses nothing itself: it reads nd_args,
 * fills a settings struct, calls the library and prints. */
#ifndef ND_CLI_CLI_H
#define ND_CLI_CLI_H

#include "base/log.h"
#include "base/rows/row.h"
#include "datasets/dataset.h"
#include "model/cost.h"
#include "model/graph.h"
#include "run/backend.h"

#include <stdio.h>

/* One line of the table in options.c. Help, completions and the man page come from it. */
typedef struct nd_option {
    const char *name;     /* "rank" for --rank */
    char letter;          /* 'o' for -o, or 0 */
    const char *argument; /* "T", NULL for a switch */
    bool repeats;         /* may be given more than once */
    const char *verbs;    /* the verbs that take it, separated by spaces; "*" = all */
    const char *text;
} nd_option;

extern const nd_option nd_option_table[];
extern const size_t nd_option_count;

/* What became of `--backend auto` in a run of a verb: see nd_cli_elsewhere. */
typedef struct nd_auto {
    const char *failed; /* this and what comes before it is not tried again; NULL: nothing failed */
    const char *device; /* the backend it opened, where that has a device of its own; else NULL */
    bool finished;      /* a row of results was written */
} nd_auto;

typedef struct nd_args {
    const char *verb;
    const char **positional; /* NULL-ended */
    size_t n_positional;
    struct nd_args_value {
        const nd_option *option;
        const char *text; /* NULL for a switch */
    } * values;           /* in the order given */
    size_t n_values;
    int argc; /* the whole command line, for provenance */
    char **argv;
    nd_auto *automatic; /* in the arena; copies of the arguments share it */
    nd_arena arena;
} nd_args;

bool nd_args_has(const nd_args *args, const char *option);
const char *nd_args_text(const nd_args *args, const char *option, const char *otherwise); /* the last given */
/* The i-th text of a repeated option, NULL past the end. */
const char *nd_args_nth(const nd_args *args, const char *option, size_t index);
nd_status nd_args_int(const nd_args *args, const char *option, int64_t otherwise, int64_t low, int64_t high,
                      int64_t *out);
nd_status nd_args_real(const nd_args *args, const char *option, double otherwise, double low, double high,
                       double *out);
/* Lists and ranges (base/text/text.h); *out is malloc'd. One value `otherwise` when the option is absent. */
nd_status nd_args_ints(const nd_args *args, const char *option, int64_t otherwise, int64_t **out,
                       size_t *count);
/* Comma list of words in args' arena; `otherwise` when absent. */
nd_status nd_args_words(nd_args *args, const char *option, const char *otherwise, char ***out, size_t *count);

typedef struct nd_verb {
    const char *name;
    const char *arguments; /* "MODEL -o OUT" */
    const char *text;      /* one line */
    int min_positional, max_positional;
    nd_status (*run)(nd_args *args);
} nd_verb;

extern const nd_verb
    nd_verb_table[]; /* in verbs.c, NULL-named end; each verb's function is nd_verb_<name> in <name>.c */

nd_status nd_verb_inspect(nd_args *args);
nd_status nd_verb_decouple(nd_args *args);
nd_status nd_verb_quantize(nd_args *args);
nd_status nd_verb_eval(nd_args *args);
nd_status nd_verb_bench(nd_args *args);
nd_status nd_verb_sweep(nd_args *args);
nd_status nd_verb_compare(nd_args *args);
nd_status nd_verb_report(nd_args *args);
nd_status nd_verb_reproduce(nd_args *args);
nd_status nd_verb_check(nd_args *args);
nd_status nd_verb_devices(nd_args *args);
nd_status nd_verb_zoo(nd_args *args);

/* What --dtype, or one word of it, names. */
nd_status nd_cli_precision(const char *dtype, nd_precision *out);

/* What nearly every verb opens. The graph is inferred for `batch` images of the size --input gives, or its
 * own; the backend follows --backend, --device, --threads, --isa and --tune. */
nd_status nd_cli_graph(const nd_args *args, const char *spec, int64_t batch, nd_graph **out);
/* Gives the images of a graph as read the size of --input, where the file leaves it open. nd_status_usage
 * where it fixes another. */
nd_status nd_cli_input(const nd_args *args, const char *spec, nd_graph *graph);
nd_status nd_cli_backend(const nd_args *args, nd_backend **out);
nd_status nd_cli_backend_named(const nd_args *args, const char *name, const nd_backend_settings *settings,
                               nd_backend **out);

/* A device may fail, or have no room for the network, after it was opened. With `--backend auto`, as long as
 * no row of results was written, this says so in a warning, and true: run the verb again, which then opens
 * what auto tries next. False: `status` is final. */
bool nd_cli_elsewhere(const nd_args *args, nd_status status);

/* The same graph for one image, folded; `sha256` is that of its weights as read. */
nd_status nd_cli_folded(const nd_args *args, const char *spec, nd_graph **out, char sha256[65]);

/* A data set as `settings` says, with --workers, and with --preprocess (for calibration --calib-preprocess
 * goes before it) or else the recipe that every one of the `count` models asks for ("nd.preprocess"), else
 * the set's own. nd_status_usage where the models ask for different ones. */
nd_status nd_cli_dataset(const nd_args *args, const nd_graph *const *models, size_t count,
                         nd_dataset_settings settings, nd_batches **out);

/* The form of a network, "dwpw", "pwdw", "mixed" or "none", by the methods of its layers one after the other:
 * what it was so far ("none" at first), and the method of one more. */
const char *nd_cli_form(const char *form, const char *method);

/* Fills model, weights_sha256 and, from what `nd decouple` wrote into the file, method, form, ranks, rank and
 * settings_sha256. `sha256` is the graph's as read, before folding. */
nd_status nd_cli_model_row(const nd_graph *graph, const char *spec, const char *sha256, nd_row *row);

/* Fills the cost fields: MACs and parameters, and their ratios to the original's. */
void nd_cli_cost_row(const nd_cost *cost, const nd_cost *original, nd_row *row);

/* Output shared by the verbs: where --json, --csv, --md, --sql go ("-" = stdout, and then nothing else is
 * printed there). Every row is written as it comes and survives what ends the program. A file that held
 * nothing has it at once. One that held something is replaced when all rows are there; until then they are in
 * FILE.<digits>.part beside it, which stays, and is named, where the verb fails. Nothing is touched before
 * the first row. */
typedef struct nd_output nd_output;
nd_status nd_output_open(const nd_args *args, nd_output **out);
nd_status nd_output_row(nd_output *output, const nd_row *row);
nd_status nd_output_replay(nd_output *output,
                           const nd_row *row); /* a row that an appended file has already */
bool nd_output_quiet(const nd_output *output); /* stdout belongs to rows: print no table */
/* `status` is what the verb came to, and is returned where closing comes to nothing worse; NULL is legal. */
nd_status nd_output_close(nd_output *output, nd_status status);

/* printf to stdout, control characters but newlines escaped (base/text/escape.h): lines that show names. */
void nd_cli_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Aligned text table on stdout: columns by the widest cell, numbers to the right. */
typedef struct nd_table nd_table;
nd_table *
nd_table_new(const char *const *headings); /* NULL-ended; NULL when out of memory, which the others accept */
void nd_table_cell(nd_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void nd_table_print(nd_table *table, FILE *file); /* and frees; a NULL file frees only */

/* Drawn on stderr when it is a terminal: what, bar, percent, ETA. */
nd_progress nd_cli_progress(void);

#endif
