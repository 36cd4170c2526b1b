/* Options that mean something only beside others. */
#ifndef ND_CLI_NEEDS_H
#define ND_CLI_NEEDS_H

#include "cli/cli.h"

/* Refuses an option that the verb would not look at as the command line stands, and says what it needs, or
 * what it does not go with: nd_status_usage. */
nd_status nd_cli_check_needs(const nd_args *args);

#endif
