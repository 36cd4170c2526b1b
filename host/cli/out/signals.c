#include "cli/out/signals.h"

#include "base/files/draft.h"

#include <signal.h>
#include <string.h>

static const int ending[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGPIPE, SIGALRM, SIGXCPU, SIGXFSZ, SIGUSR1,
                             SIGUSR2, SIGABRT, SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGSYS,  SIGTRAP};
enum { n_ending = sizeof ending / sizeof *ending };

static struct sigaction before[n_ending];

/* The signal then does what it would have done: a fault happens again when this returns, others
 * are raised. */
static void end(int signal) {
    nd_draft_remove_all();
    for (int i = 0; i < n_ending; i++)
        if (ending[i] == signal) (void)sigaction(signal, &before[i], NULL);
    (void)raise(signal);
}

void nd_cli_catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = end;
    (void)sigfillset(&action.sa_mask);
    for (int i = 0; i < n_ending; i++) {
        if (sigaction(ending[i], NULL, &before[i]) || before[i].sa_handler == SIG_IGN) continue;
        (void)sigaction(ending[i], &action, NULL);
    }
}
