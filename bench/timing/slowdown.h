/* A planted slow-down, so that the gate can be tested end to end: builds with ND_TEST_HOOKS read it from the
 * environment variable ND_TEST_SLOWDOWN ("0.05" = 5 % more work in everything but the dense baseline). Other
 * builds have none. */
#ifndef ND_BENCH_SLOWDOWN_H
#define ND_BENCH_SLOWDOWN_H

double nd_slowdown_planted(void);

/* Works for `seconds`, which is what the environment variable adds. */
void nd_slowdown_spin(double seconds);

#endif
