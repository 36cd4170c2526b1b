#define _GNU_SOURCE /* memfd_create */
#include "base/log.h"
#include "datasets/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void drop(void *user, nd_log_level level, const char *message) {
    (void)user;
    (void)level;
    (void)message;
}

/* Batches of CIFAR-10, binary and pickled, by way of a file in memory; every image is read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    nd_source *source;
    nd_log_set(drop, NULL);
    const int file = memfd_create("fuzz", 0);
    if (file < 0 || write(file, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    if (!nd_source_open_cifar10(path, nd_split_none, nd_split_test, &source)) {
        if (source->count < 1) __builtin_trap();
        for (int64_t i = 0; i < source->count; i++) {
            nd_image image;
            nd_sha256 hash;
            nd_sha256_init(&hash);
            source->identify(source, i, &hash);
            const nd_status status = source->load(source, i, &image);
            const int32_t label = source->label(source, i);
            if (!status && (label < 0 || label > 9)) __builtin_trap();
            nd_image_free(&image);
        }
        source->close(source);
    }
    close(file);
    return 0;
}
