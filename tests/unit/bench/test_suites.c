#include "bench/subjects/suites.h"
#include "bench/timing/peaks.h"

#include <criterion/criterion.h>

/* Convolutions alone. VGG16 as the paper counts it; the others from their published totals less the
 * classifier. */
Test(suites, macs_are_the_networks) {
    static const struct {
        const char *name;
        int64_t macs;
    } known[] = {
        {"vgg16", 15346630656},
        {"resnet18", 1814073344 - 512 * 1000},
        {"resnet50", 4089184256 - 2048 * 1000},
        {"cifar", 40551040 - 64 * 10},
        {"depthwise", 4 * 9 * (64 * 224 * 224 + 128 * 112 * 112 + 2 * 256 * 56 * 56 + 2 * 512 * 28 * 28)},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const nd_suite *suite = nd_suite_find(known[i].name);
        cr_assert_not_null(suite);
        cr_expect_eq(nd_suite_macs(suite), known[i].macs, "%s: %lld", known[i].name,
                     (long long)nd_suite_macs(suite));
    }
    cr_expect_null(nd_suite_find("vgg17"));
}

Test(suites, roofline_is_the_slower_of_the_two) {
    const nd_peaks peaks = {.gflops = 100, .gbps = 10};
    cr_expect_eq(nd_peaks_bound(&peaks, 1e6, 1e3), 2e4);
    cr_expect_eq(nd_peaks_bound(&peaks, 1e3, 1e6), 1e5);
}

Test(suites, rotation_is_bounded) {
    nd_backend backend = {.last_cache_bytes = 0};
    cr_expect_eq(nd_peaks_rotation(&backend), (size_t)16 << 20);
    backend.last_cache_bytes = (size_t)50 << 20;
    cr_expect_eq(nd_peaks_rotation(&backend), (size_t)100 << 20);
    backend.last_cache_bytes = (size_t)480 << 20;
    cr_expect_eq(nd_peaks_rotation(&backend), (size_t)256 << 20);
}
