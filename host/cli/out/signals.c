#define _GNU_SOURCE /* sigdescr_np */
#include "cli/out/signals.h"

#include "base/files/draft.h"

#include <execinfo.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

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

/* Shells say nothing of a program that a signal ended within $(...), and a fault that happens once in a
 * thousand runs is found by its addresses alone. */
static void tell_fault(int signal) {
    enum { most = 32 };
    void *calls[most];
    const char *what = sigdescr_np(signal);
    say("nd: ");
    say(what ? what : "a signal");
    say(": unless it was sent on purpose this is a defect of nd; please report the command and these "
        "calls:\n");
    backtrace_symbols_fd(calls, backtrace(calls, most), STDERR_FILENO);
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
    void *call;
    (void)backtrace(&call, 1); /* the first one loads the unwinder, which a handler must not */
    memset(&action, 0, sizeof action);
    action.sa_handler = end;
    (void)sigfillset(&action.sa_mask);
    for (int i = 0; i < n_endings; i++) {
        if (sigaction(endings[i].signal, NULL, &before[i]) || before[i].sa_handler == SIG_IGN) continue;
        (void)sigaction(endings[i].signal, &action, NULL);
    }
}
