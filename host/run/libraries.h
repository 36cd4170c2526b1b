/* What the libraries behind backends read from the environment when they are loaded. */
#ifndef ND_RUN_LIBRARIES_H
#define ND_RUN_LIBRARIES_H

#pragma GCC visibility push(default)

/* Asks OpenMP runtimes and OpenBLAS not to spin while they wait, and OpenBLAS for kernels that suit the
 * processor. What the user has set stays. Opening a backend does this as well; but none may change the
 * environment while another thread reads it (setenv(3)), so nothing is done where there is another thread: a
 * program that starts threads before its first backend calls this before them. */
void nd_libraries_prepare(void);

#pragma GCC visibility pop

#endif
