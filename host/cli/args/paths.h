/* What a command line reads and writes, judged before anything is opened. */
#ifndef ND_CLI_PATHS_H
#define ND_CLI_PATHS_H

#include "cli/cli.h"

/* Refuses two outputs in one file and an output that is an input, whatever names lead there
 * (nd_status_usage), and a -o FILE that cannot be written (nd_status_input). The outputs of rows are tried by
 * nd_output_open. */
nd_status nd_cli_check_paths(const nd_args *args);

#endif
