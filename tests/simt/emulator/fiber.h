/* Fibers: stacks that one OS thread switches between. On x86-64 the switch is eight instructions of our own
 * (a system call per switch, as swapcontext makes, would dominate the tests); elsewhere it is swapcontext. */
#ifndef ND_SIMT_FIBER_H
#define ND_SIMT_FIBER_H

#include <stddef.h>

#ifndef __x86_64__
#    include <ucontext.h>
#endif

struct nd_fiber {
#ifdef __x86_64__
    void *stack_pointer = nullptr;
#else
    ucontext_t context;
#endif
    unsigned char *stack = nullptr; /* nullptr: the thread's own */
    size_t stack_bytes = 0;
    void *shadow = nullptr; /* AddressSanitizer's notes on a stack that is not running */
};

/* `entry` must never return: it switches away for good with `final`. */
void nd_fiber_prepare(nd_fiber *fiber, void (*entry)());
void nd_fiber_switch(nd_fiber *from, nd_fiber *to, bool final = false);
void nd_fiber_entered(nd_fiber *scheduler); /* the first thing `entry` does */

#endif
