#include "base/status.h"

#include "base/text/escape.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Long enough for a path and a sentence. */
static _Thread_local char nd_status_message[2048];

/* A longer message loses its middle: it starts with what it is about and ends with what is wrong. */
static void shorten(char *text, size_t most) {
    static const char gap[] = " ... ";
    const size_t length = strlen(text), half = (most - sizeof gap) / 2;
    if (length <= most) return;
    memcpy(text + half, gap, sizeof gap - 1);
    memmove(text + half + sizeof gap - 1, text + length - half, half + 1);
}

nd_status nd_fail(nd_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    /* Formatted aside first: the arguments may include nd_error() itself. */
    char message[8192];
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    shorten(message, sizeof nd_status_message - 64);
    nd_escape(message, "", nd_status_message, sizeof nd_status_message);
    return status;
}

nd_status nd_fail_in(nd_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char context[512];
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    const size_t length = strlen(context);
    const bool begins = !strncmp(nd_status_message, context, length);
    const char next = begins ? nd_status_message[length] : '\0';
    return next == ':' || next == ' ' ? status : nd_fail(status, "%s: %s", context, nd_status_message);
}

const char *nd_error(void) {
    return nd_status_message;
}

static const struct {
    nd_status status;
    const char *name;
} nd_status_names[] = {
    {nd_status_ok, "ok"},
    {nd_status_failed, "failed"},
    {nd_status_usage, "usage"},
    {nd_status_input, "input"},
    {nd_status_format, "format"},
    {nd_status_unsupported, "unsupported"},
    {nd_status_backend, "backend"},
    {nd_status_device, "device"},
    {nd_status_memory, "memory"},
    {nd_status_internal, "internal"},
    {nd_status_inconclusive, "inconclusive"},
};

const char *nd_status_name(nd_status status) {
    for (size_t i = 0; i < sizeof nd_status_names / sizeof *nd_status_names; i++)
        if (nd_status_names[i].status == status) return nd_status_names[i].name;
    return "unknown";
}

int nd_status_exit_code(nd_status status) {
    return (int)status / 10;
}
