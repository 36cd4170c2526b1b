/* What a signal that ends the program leaves behind. */
#ifndef ND_CLI_SIGNALS_H
#define ND_CLI_SIGNALS_H

/* From now on every signal that can be caught and would end the program removes outputs in the making first
 * (nd_draft_remove_all). Signals that are ignored (nohup) stay ignored. Of a fault the calls
 * it came in are written to stderr. */
void nd_cli_catch_signals(void);

#endif
