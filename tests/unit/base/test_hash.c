#include "base/hash.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void hash_in_steps(const uint8_t *data, size_t bytes, size_t step, char hex[65]) {
    nd_sha256 hash;
    nd_sha256_init(&hash);
    for (size_t at = 0; at < bytes; at += step)
        nd_sha256_add(&hash, data + at, bytes - at < step ? bytes - at : step);
    nd_sha256_hex(&hash, hex);
}

/* FIPS 180-4's long example; in one piece it takes the processor's instructions where there are some. */
Test(hash, a_million_letters) {
    enum { million = 1000000 };
    uint8_t *data = malloc(million);
    memset(data, 'a', million);
    static const size_t steps[] = {million, 4096, 63, 1};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char hex[65];
        hash_in_steps(data, million, steps[i], hex);
        cr_expect_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "step %zu",
                         steps[i]);
    }
    free(data);
}

/* Whatever the pieces, and wherever the end falls in a block. */
Test(hash, pieces_do_not_matter) {
    enum { most = 64 * 70 + 130 };
    uint8_t data[most];
    for (size_t i = 0; i < most; i++) data[i] = (uint8_t)(i * 37 + i / 256);
    for (size_t bytes = most - 130; bytes < most; bytes++) {
        char whole[65], pieces[65];
        hash_in_steps(data, bytes, bytes, whole);
        hash_in_steps(data, bytes, 61, pieces);
        cr_expect_str_eq(whole, pieces, "%zu bytes", bytes);
    }
}
