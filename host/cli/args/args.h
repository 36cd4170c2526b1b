/* Reading the command line into nd_args. */
#ifndef ND_CLI_ARGS_H
#define ND_CLI_ARGS_H

#include "cli/cli.h"

/* argv[1] names the verb. Options and positionals may be mixed; "--" ends the options; --name=value and
 * --name value are the same. Errors name the option, and suggest the verbs it belongs to. */
nd_status nd_args_parse(const nd_verb *verb, int argc, char **argv, nd_args *out);
void nd_args_free(nd_args *args);

bool nd_option_takes(const nd_option *option, const char *verb); /* does `verb` have it? */

#endif
