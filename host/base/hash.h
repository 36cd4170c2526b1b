/* SHA-256 (FIPS 180-4), for keys of rows and caches. */
#ifndef ND_BASE_HASH_H
#define ND_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)

typedef struct nd_sha256 {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
} nd_sha256;

enum { nd_sha256_hex_size = 65 }; /* with the final NUL */

void nd_sha256_init(nd_sha256 *hash);
void nd_sha256_add(nd_sha256 *hash, const void *data, size_t bytes);
void nd_sha256_hex(nd_sha256 *hash, char hex[nd_sha256_hex_size]);   /* ends the hash */
void nd_sha256_text(const char *text, char hex[nd_sha256_hex_size]); /* of a string, without its NUL */

#pragma GCC visibility pop

#endif
