/* Included before everything when clang's analyser looks. It sees one file at a time: that nd_fail returns
 * the status it is given, so that a failure does leave its function, it has to be told. */
#include "base/status.h"

#define nd_fail(status, ...)    (nd_fail((status), __VA_ARGS__), (status))
#define nd_fail_in(status, ...) (nd_fail_in((status), __VA_ARGS__), (status))
