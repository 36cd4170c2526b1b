#include "cli/cli.h"

#include "base/text/escape.h"

#include <stdarg.h>
#include <stdlib.h>

void nd_cli_print(const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int length = vsnprintf(NULL, 0, format, arguments);
    char *text = length < 0 ? NULL : malloc((size_t)length + 1);
    if (text) {
        vsnprintf(text, (size_t)length + 1, format, again);
        nd_escape_write(text, "\n", stdout);
    }
    va_end(again);
    va_end(arguments);
    free(text);
}
