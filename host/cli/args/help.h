/* Help texts from the verb and option tables. */
#ifndef ND_CLI_HELP_H
#define ND_CLI_HELP_H

#include "cli/cli.h"

void nd_help_print(const nd_verb *verb, FILE *file); /* NULL: the overview */
void nd_help_version(FILE *file);

#endif
