#include "base/log.h"

#include "base/text/escape.h"

#include <stdarg.h>
#include <stdio.h>

static void log_stderr(void *user, nd_log_level level, const char *message) {
    (void)user;
    if (level > nd_log_warn) return;
    fprintf(stderr, "nd: %s%s\n", level == nd_log_warn ? "warning: " : "", message);
}

static nd_log_sink *nd_log_current = log_stderr;
static void *nd_log_user;

void nd_log_set(nd_log_sink *sink, void *user) {
    nd_log_current = sink ? sink : log_stderr;
    nd_log_user = user;
}

void nd_log(nd_log_level level, const char *format, ...) {
    char message[2048], shown[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    nd_escape(message, "", shown, sizeof shown);
    nd_log_current(nd_log_user, level, shown);
}

void nd_progress_report(const nd_progress *progress, const char *what, int64_t done, int64_t total) {
    if (progress && progress->report) progress->report(progress->user, what, done, total);
}
