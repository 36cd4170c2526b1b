/* This very program once more: at fixed addresses, or with the command line that a row records to measure
 * again. */
#ifndef ND_CLI_RERUN_H
#define ND_CLI_RERUN_H

#include "base/rows/row.h"
#include "cli/cli.h"

/* Only `bench` commands of this same build are run, with their outputs replaced; nothing else a file may
 * claim is. *rows is malloc'd (nd_rows_free). nd_status_unsupported when the row is not of that kind. */
nd_status nd_cli_rerun(const nd_row *row, nd_row **rows, size_t *count);

/* Starts this command again without the randomisation of addresses. Where libraries happen to lie moves the
 * time of small layers by 5 % and more, the same for all sessions of a run and different in the next: two
 * runs are comparable when both lie alike. Returns where that is so already, and where the kernel
 * forbids it. */
void nd_cli_fix_addresses(const nd_args *args);

#endif
