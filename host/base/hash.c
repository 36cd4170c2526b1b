#include "base/hash.h"

#include <string.h>

static const uint32_t nd_sha256_round[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t nd_rotate(uint32_t x, int by) {
    return x >> by | x << (32 - by);
}

static void nd_sha256_block(uint32_t state[8], const uint8_t *bytes) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)bytes[4 * i] << 24 | (uint32_t)bytes[4 * i + 1] << 16 |
               (uint32_t)bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = nd_rotate(w[i - 15], 7) ^ nd_rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = nd_rotate(w[i - 2], 17) ^ nd_rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t e = v[4], a = v[0];
        uint32_t t1 = v[7] + (nd_rotate(e, 6) ^ nd_rotate(e, 11) ^ nd_rotate(e, 25)) +
                      ((e & v[5]) ^ (~e & v[6])) + nd_sha256_round[i] + w[i];
        uint32_t t2 = (nd_rotate(a, 2) ^ nd_rotate(a, 13) ^ nd_rotate(a, 22)) +
                      ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) state[i] += v[i];
}

void nd_sha256_init(nd_sha256 *hash) {
    *hash = (nd_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
                                  0x1f83d9ab, 0x5be0cd19}};
}

void nd_sha256_add(nd_sha256 *hash, const void *data, size_t bytes) {
    const uint8_t *next = data;
    size_t used = hash->length % 64;
    hash->length += bytes;
    if (used) {
        size_t take = bytes < 64 - used ? bytes : 64 - used;
        memcpy(hash->block + used, next, take);
        next += take;
        bytes -= take;
        if (used + take < 64) return;
        nd_sha256_block(hash->state, hash->block);
    }
    for (; bytes >= 64; next += 64, bytes -= 64) nd_sha256_block(hash->state, next);
    if (bytes) memcpy(hash->block, next, bytes);
}

void nd_sha256_hex(nd_sha256 *hash, char hex[nd_sha256_hex_size]) {
    uint64_t bits = hash->length * 8;
    uint8_t tail[72] = {0x80};
    size_t padding = (hash->length % 64 < 56 ? 56 : 120) - hash->length % 64;
    for (int i = 0; i < 8; i++) tail[padding + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    nd_sha256_add(hash, tail, padding + 8);
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 64; i++) hex[i] = digits[hash->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hex[64] = '\0';
}
