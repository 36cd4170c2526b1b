/* Errors are values.
 *
 * Every function that can fail returns nd_status; nd_status_ok is 0. The text that goes with a failure names
 * the file, layer or field it is about and is kept per thread until the next failure: nd_error() reads it.
 * The tens digit of a status is its family, and the family is the exit code of the command line.
 * No library function exits, aborts or prints. */
#ifndef ND_BASE_STATUS_H
#define ND_BASE_STATUS_H

#pragma GCC visibility push(default)

typedef enum nd_status {
    nd_status_ok = 0,
    nd_status_failed = 10, /* a check or gate compared things and they were not equal or not good enough */
    nd_status_usage = 20,  /* the caller asked for something impossible: option, argument, combination */
    nd_status_input = 30,  /* a file is missing, unreadable or cannot be written */
    nd_status_format = 31, /* a file's content breaks its format */
    nd_status_unsupported = 32,  /* the content is valid, but names something nd does not do */
    nd_status_backend = 40,      /* no such backend, or its library is missing or too old */
    nd_status_device = 41,       /* the backend has no usable device, or the device failed */
    nd_status_internal = 49,     /* one of our own invariants broke: a bug */
    nd_status_inconclusive = 50, /* measured, but too noisy to say */
    nd_status_memory = 60,       /* host or device memory ran out, or threads did */
} nd_status;

/* Records the message for this thread, control characters in it escaped (base/text/escape.h), and returns
 * `status`, so that `return nd_fail(...)` reads well. */
nd_status nd_fail(nd_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the message already recorded, where it does not begin with the context; returns
 * `status`. */
nd_status nd_fail_in(nd_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The message of this thread's last failure, never NULL. Valid until the next failure in this thread. */
const char *nd_error(void);

/* "format", "device", ... for rows and messages. */
const char *nd_status_name(nd_status status);

/* 0 done, 1 failed, 2 usage, 3 input, 4 backend or device, 5 inconclusive, 6 memory or threads. */
int nd_status_exit_code(nd_status status);

#define ND_TRY(call)                                                                                         \
    do {                                                                                                     \
        nd_status nd_try_status_ = (call);                                                                   \
        if (nd_try_status_) return nd_try_status_;                                                           \
    } while (0)

/* For functions that own something: needs a local `nd_status status` and a label `done`. */
#define ND_TRY_DONE(call)                                                                                    \
    do {                                                                                                     \
        status = (call);                                                                                     \
        if (status) goto done;                                                                               \
    } while (0)

#define ND_REQUIRE(condition, status, ...)                                                                   \
    do {                                                                                                     \
        if (!(condition)) return nd_fail(status, __VA_ARGS__);                                               \
    } while (0)

#define ND_REQUIRE_DONE(condition, code, ...)                                                                \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            status = nd_fail(code, __VA_ARGS__);                                                             \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

#pragma GCC visibility pop

#endif
