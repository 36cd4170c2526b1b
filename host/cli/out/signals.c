#define _GNU_SOURCE /* sigdescr_np */
#include "cli/out/signals.h"

#include "base/files/draft.h"

#include <execinfo.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include <unwind.h>

static const struct ending {
    int signal;
    bool fault; /* of the program, unless somebody sent it */
} endings[] = {{SIGHUP, false},  {SIGINT, false},  {SIGQUIT, false}, {SIGTERM, false}, {SIGPIPE, false},
               {SIGALRM, false}, {SIGXCPU, false}, {SIGXFSZ, false}, {SIGUSR1, false}, {SIGUSR2, false},
               {SIGABRT, true},  {SIGSEGV, true},  {SIGBUS, true},   {SIGFPE, true},   {SIGILL, true},
               {SIGSYS, true},   {SIGTRAP, true}};
enum { n_endings = sizeof endings / sizeof *endings };

static struct sigaction before[n_endings];

static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return; /* whoever reads it is gone */
}

typedef struct calls {
    int n;
    void *at[32];
} calls;

static _Unwind_Reason_Code add_call(struct _Unwind_Context *context, void *list) {
    calls *to = list;
    const int most = sizeof to->at / sizeof *to->at;
    if (to->n < most) to->at[to->n++] = (void *)_Unwind_GetIP(context);
    return to->n < most ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/* Shells say nothing of a program that a signal ended within $(...), and a fault that happens once in a
 * thousand runs is found by its addresses alone. Not by backtrace(3), which loads the unwinder. */
static void tell_fault(int signal) {
    calls to_here = {0};
    const char *what = sigdescr_np(signal);
    say("nd: ");
    say(what ? what : "a signal");
    say(": unless it was sent on purpose this is a defect of nd; please report the command and these "
        "calls:\n");
    (void)_Unwind_Backtrace(add_call, &to_here);
    backtrace_symbols_fd(to_here.at, to_here.n, STDERR_FILENO);
}

/* The signal then does what it would have done: a fault happens again when this returns, others
 * are raised. */
static void end(int signal) {
    nd_draft_remove_all();
    for (int i = 0; i < n_endings; i++) {
        if (endings[i].signal != signal) continue;
        (void)sigaction(signal, &before[i], NULL);
        if (endings[i].fault) tell_fault(signal);
    }
    (void)raise(signal);
}

void nd_cli_catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = end;
    (void)sigfillset(&action.sa_mask);
    for (int i = 0; i < n_endings; i++) {
        if (sigaction(endings[i].signal, NULL, &before[i]) || before[i].sa_handler == SIG_IGN) continue;
        (void)sigaction(endings[i].signal, &action, NULL);
    }
}
