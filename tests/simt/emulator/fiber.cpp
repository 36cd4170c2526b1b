#include "tests/simt/emulator/fiber.h"

#include <stdint.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#    include <sanitizer/asan_interface.h>
#    include <sanitizer/common_interface_defs.h>
#endif

#ifdef __x86_64__
/* Saves what the System V ABI asks a callee to keep, changes stacks, and returns on the other one. */
extern "C" void nd_fiber_jump(void **save, void *load);
__asm__(".text\n"
        ".globl nd_fiber_jump\n"
        ".hidden nd_fiber_jump\n"
        ".type nd_fiber_jump, @function\n"
        "nd_fiber_jump:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size nd_fiber_jump, .-nd_fiber_jump\n");

/* A fiber that was left in the middle of its functions leaves their marks on its stack, which is
 * used again. */
static void nd_fiber_forget(const nd_fiber *fiber) {
#    ifdef __SANITIZE_ADDRESS__
    const auto *last = static_cast<const unsigned char *>(fiber->stack_pointer);
    if (last) __asan_unpoison_memory_region(last, (size_t)(fiber->stack + fiber->stack_bytes - last));
#    else
    (void)fiber;
#    endif
}

void nd_fiber_prepare(nd_fiber *fiber, void (*entry)()) {
    nd_fiber_forget(fiber);
    /* Six registers, the address to return to, and one word so that the stack is aligned as after a call. */
    void **top = reinterpret_cast<void **>(fiber->stack + fiber->stack_bytes) - 8;
    memset(top, 0, 8 * sizeof *top);
    top[6] = reinterpret_cast<void *>(entry);
    fiber->stack_pointer = top;
    fiber->shadow = nullptr;
}

static void nd_fiber_change(nd_fiber *from, nd_fiber *to) {
    nd_fiber_jump(&from->stack_pointer, to->stack_pointer);
}
#else
void nd_fiber_prepare(nd_fiber *fiber, void (*entry)()) {
#    ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
#    endif
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = fiber->stack_bytes;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, entry, 0);
    fiber->shadow = nullptr;
}

static void nd_fiber_change(nd_fiber *from, nd_fiber *to) {
    swapcontext(&from->context, &to->context);
}
#endif

#ifdef __SANITIZE_ADDRESS__
/* The scheduler's stack is the thread's; where it lies is learnt when the first fiber is entered. */
void nd_fiber_entered(nd_fiber *scheduler) {
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    scheduler->stack = static_cast<unsigned char *>(const_cast<void *>(bottom));
    scheduler->stack_bytes = bytes;
}

void nd_fiber_switch(nd_fiber *from, nd_fiber *to, bool final) {
    __sanitizer_start_switch_fiber(final ? nullptr : &from->shadow, to->stack, to->stack_bytes);
    nd_fiber_change(from, to);
    __sanitizer_finish_switch_fiber(from->shadow, nullptr, nullptr);
}
#else
void nd_fiber_entered(nd_fiber *) {
}

void nd_fiber_switch(nd_fiber *from, nd_fiber *to, bool) {
    nd_fiber_change(from, to);
}
#endif
