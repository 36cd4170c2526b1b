/* Measured choices, kept for later processes: a text file in nd's cache folder with a line "key name" for
 * each. */
#ifndef ND_BASE_CHOICES_H
#define ND_BASE_CHOICES_H

#include <stdbool.h>

#pragma GCC visibility push(default)

enum { nd_choice_size = 256 }; /* of a name, with its NUL */

/* The name on the last line with this key. False where there is none; a file that cannot be read has none.
 * Keys are hashes of everything that the choice depends on, names one word each. */
bool nd_choice_find(const char *file, const char *key, char name[nd_choice_size]);

/* Adds a line. What cannot be kept is measured again by the next process; a message says so. */
void nd_choice_keep(const char *file, const char *key, const char *name);

#pragma GCC visibility pop

#endif
