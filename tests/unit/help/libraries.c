/* A test is run beside a thread of Criterion: what a program does at its start is done before that. */
#include "run/libraries.h"

__attribute__((constructor)) static void prepare(void) {
    nd_libraries_prepare();
}
