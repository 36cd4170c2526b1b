/* Plain loops that the compiler vectorises, once for each kind of processor; the loader picks. No clone
 * contracts a product and a sum, so that all give the same bits. */
#ifndef ND_BASE_CLONES_H
#define ND_BASE_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#    define ND_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#    define ND_CLONES
#endif

#endif
