#define _GNU_SOURCE /* memfd_create */
#include "datasets/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Annotations of COCO, by way of a file in memory: what is taken has a class and a box in its picture. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    nd_source *source;
    const int file = memfd_create("fuzz", 0);
    if (file < 0 || write(file, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d:nowhere", file);
    if (!nd_source_open_coco(path, nd_split_none, nd_split_test, &source)) {
        if (source->count < 1 || source->n_classes < 1) __builtin_trap();
        for (int64_t i = 0; i < source->count; i++) {
            size_t count;
            const nd_object *objects = source->objects(source, i, &count);
            for (size_t k = 0; k < count; k++) {
                if (objects[k].label < 0 || objects[k].label >= source->n_classes) __builtin_trap();
                if (!(objects[k].box.width >= 0 && objects[k].box.x >= -1)) __builtin_trap();
            }
        }
        source->close(source);
    }
    close(file);
    return 0;
}
