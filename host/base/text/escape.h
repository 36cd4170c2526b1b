/* Text from outside (names in models, paths, rows) as a terminal or a log may see it: control characters,
 * what is no UTF-8 and the characters that change the direction of writing become \x1b, \u202e, ... What was
 * escaped once stays as it is when it is escaped again. */
#ifndef ND_BASE_ESCAPE_H
#define ND_BASE_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum {
    nd_escape_longest = 8, /* "\u202e", or a character of four bytes, and its end */
    nd_escape_byte = 4,    /* "\xff" */
};

/* The next character of `text`, which is moved past it; those in `keep` ("\n") stay. True: it was escaped. */
bool nd_escape_next(const char **text, const char *keep, char out[nd_escape_longest]);

/* All of them: cut to fit and ended, or to a file. */
void nd_escape(const char *text, const char *keep, char *out, size_t size);
void nd_escape_write(const char *text, const char *keep, FILE *file);

/* Only what is no UTF-8, for formats that hold any character but no other bytes. For each byte of `text`
 * nd_escape_byte are enough. */
void nd_escape_bytes(const char *text, char *out, size_t size);

#endif
