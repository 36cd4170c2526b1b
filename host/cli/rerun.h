/* Measuring again: the command line that a row records, run once more by this very program. */
#ifndef ND_CLI_RERUN_H
#define ND_CLI_RERUN_H

#include "base/row.h"

/* The words of a command line as provenance quotes it (POSIX shell quoting). NULL-ended, in the arena. */
nd_status nd_cli_words(nd_arena *arena, const char *command, char ***words, size_t *count);

/* Only `bench` commands of this same build are run, with their outputs replaced; nothing else a file may claim is. *rows
 * is malloc'd (nd_rows_free). nd_status_unsupported when the row is not of that kind. */
nd_status nd_cli_rerun(const nd_row *row, nd_row **rows, size_t *count);

#endif
