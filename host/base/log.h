/* Messages to a person: warnings and notes, never results. The one piece of process-wide state of the
 * library, set once by the program at start-up; the default sink drops everything below `nd_log_warn` and
 * writes the rest to stderr. Safe to call from any thread. */
#ifndef ND_BASE_LOG_H
#define ND_BASE_LOG_H

#include <stdint.h>

#pragma GCC visibility push(default)

typedef enum nd_log_level { nd_log_error, nd_log_warn, nd_log_info, nd_log_debug } nd_log_level;

typedef void nd_log_sink(void *user, nd_log_level level, const char *message);

void nd_log_set(nd_log_sink *sink, void *user);
void nd_log(nd_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How far a long job is. The library calls `report` at least for every finished item, from the calling
 * thread; the receiver decides how often to draw. A NULL nd_progress or a NULL report is silent. */
typedef struct nd_progress {
    void (*report)(void *user, const char *what, int64_t done, int64_t total);
    void *user;
} nd_progress;

void nd_progress_report(const nd_progress *progress, const char *what, int64_t done, int64_t total);

#pragma GCC visibility pop

#endif
