/* The rows of a sweep: those that an earlier, killed run left in --json FILE, and those of this one. Each is
 * flushed as it comes; when the sweep is complete the Pareto set is marked and files are written anew, each
 * replaced as a whole. */
#ifndef ND_CLI_SWEEP_ROWS_H
#define ND_CLI_SWEEP_ROWS_H

#include "cli/cli.h"

typedef struct nd_sweep_rows {
    const nd_args *args;
    nd_row *rows; /* old ones first */
    size_t count, capacity, resumed;
    nd_output *output;
} nd_sweep_rows;

nd_status nd_sweep_rows_open(const nd_args *args, nd_sweep_rows *out);
bool nd_sweep_rows_has(const nd_sweep_rows *rows, const char *point); /* is it there already? */
nd_status nd_sweep_rows_add(nd_sweep_rows *rows, const nd_row *row);
nd_status nd_sweep_rows_finish(nd_sweep_rows *rows);                  /* marks, rewrites, prints the table */
nd_status nd_sweep_rows_close(nd_sweep_rows *rows, nd_status status); /* as nd_output_close */

#endif
