/* Manual pages and shell completions, from the verb and option tables.
 *   nd help --man                >nd.1         (nd help --man eval >nd-eval.1)
 *   nd help --completion bash    >/usr/share/bash-completion/completions/nd   (zsh: _nd, fish: nd.fish) */
#ifndef ND_CLI_MANUAL_H
#define ND_CLI_MANUAL_H

#include "cli/cli.h"

void nd_manual_page(const nd_verb *verb, FILE *file); /* NULL: the page of nd itself */
nd_status nd_manual_completion(const char *shell,
                               FILE *file); /* nd_status_usage for a shell it does not know */

#endif
