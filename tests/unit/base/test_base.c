#include "base/files/draft.h"
#include "base/files/file.h"
#include "base/files/json_cache.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "base/tensor.h"
#include "base/text/text.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Test(status, message_and_context) {
    cr_assert_eq(nd_fail(nd_status_format, "%s: field %d", "a.onnx", 3), nd_status_format);
    cr_assert_str_eq(nd_error(), "a.onnx: field 3");
    nd_fail_in(nd_status_format, "model %s", "x");
    cr_assert_str_eq(nd_error(), "model x: a.onnx: field 3");
    nd_fail(nd_status_input, "again: %s", nd_error());
    cr_assert_str_eq(nd_error(), "again: model x: a.onnx: field 3");
}

Test(status, a_context_is_told_once) {
    static const char *const told[] = {"a.onnx: field 3", "a.onnx takes images"};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        nd_fail(nd_status_usage, "%s", told[i]);
        cr_expect_eq(nd_fail_in(nd_status_usage, "a.onnx"), nd_status_usage);
        cr_expect_str_eq(nd_error(), told[i]);
    }
    nd_fail(nd_status_usage, "a.onnx2: field 3");
    nd_fail_in(nd_status_usage, "a.onnx");
    cr_expect_str_eq(nd_error(), "a.onnx: a.onnx2: field 3");
}

Test(status, exit_codes_are_the_documented_ones) {
    cr_assert_eq(nd_status_exit_code(nd_status_ok), 0);
    cr_assert_eq(nd_status_exit_code(nd_status_failed), 1);
    cr_assert_eq(nd_status_exit_code(nd_status_usage), 2);
    cr_assert_eq(nd_status_exit_code(nd_status_unsupported), 3);
    cr_assert_eq(nd_status_exit_code(nd_status_device), 4);
    cr_assert_eq(nd_status_exit_code(nd_status_inconclusive), 5);
    cr_assert_eq(nd_status_exit_code(nd_status_memory), 6);
}

Test(memory, arrays_are_zeroed_aligned_and_checked) {
    cr_assert_null(nd_alloc_array(SIZE_MAX / 2, 4));
    unsigned char *data = nd_alloc_array(100, 3);
    cr_assert_eq((uintptr_t)data % nd_alignment, 0);
    for (int i = 0; i < 300; i++) cr_assert_eq(data[i], 0);
    free(data);
}

Test(memory, arrays_grow_and_keep_what_they_hold) {
    size_t capacity = 0, most = SIZE_MAX / 4;
    int *items = NULL;
    for (int i = 0; i < 1000; i++) {
        items = nd_array_grow(items, (size_t)i, &capacity, sizeof *items);
        cr_assert_gt(capacity, (size_t)i);
        items[i] = i;
    }
    for (int i = 0; i < 1000; i++) cr_assert_eq(items[i], i);
    cr_assert_eq(nd_array_grow(items, 5, &capacity, sizeof *items), items, "there is room");
    cr_assert_null(nd_array_grow(items, most, &most, sizeof *items), "too many bytes to count");
    free(items);
}

Test(memory, arena_survives_large_items) {
    nd_arena arena = {0};
    char *first = nd_arena_strdup(&arena, "first");
    unsigned char *large = nd_arena_alloc(&arena, 1 << 20);
    large[(1 << 20) - 1] = 1;
    char *second = nd_arena_printf(&arena, "%s-%d", "second", 2);
    cr_assert_str_eq(first, "first");
    cr_assert_str_eq(second, "second-2");
    cr_assert_eq(second - first, 16, "a large item does not close the block in use");
    nd_arena_free(&arena);
}

Test(memory, buffers_are_released_with_the_last_reference) {
    nd_tensor a, b;
    cr_assert_eq(nd_tensor_new(nd_dtype_f32, 2, (int64_t[]){2, 3}, &a), nd_status_ok);
    b = nd_tensor_share(&a);
    nd_tensor_free(&a);
    cr_assert_null(a.data);
    ((float *)b.data)[5] = 1;
    cr_assert_eq(b.buffer->references, 1);
    nd_tensor_free(&b);
}

Test(tensor, impossible_dims) {
    cr_assert_eq(nd_dims_count(3, (int64_t[]){1 << 30, 1 << 30, 1 << 30}), -1);
    cr_assert_eq(nd_dims_count(2, (int64_t[]){3, -1}), -1);
    cr_assert_eq(nd_dims_count(3, (int64_t[]){INT64_MAX, 0, INT64_MAX}), 0);
    cr_assert_eq(nd_dims_count(0, NULL), 1);
    nd_tensor tensor;
    cr_assert_eq(nd_tensor_new(nd_dtype_f32, 9, (int64_t[9]){0}, &tensor), nd_status_unsupported);
}

/* Every half goes to fp32 and back unchanged, and rounding is to nearest, ties to even. */
Test(tensor, halves) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = nd_f16_to_f32((uint16_t)bits);
        if (isnan(value))
            cr_assert(isnan(nd_f16_to_f32(nd_f32_to_f16(value))));
        else
            cr_assert_eq(nd_f32_to_f16(value), bits, "f16 %04x", bits);
        value = nd_bf16_to_f32((uint16_t)bits);
        if (isnan(value))
            cr_assert(isnan(nd_bf16_to_f32(nd_f32_to_bf16(value))));
        else
            cr_assert_eq(nd_f32_to_bf16(value), bits, "bf16 %04x", bits);
    }
    for (uint32_t bits = 0; bits < 0x7bff; bits++) {
        float low = nd_f16_to_f32((uint16_t)bits), high = nd_f16_to_f32((uint16_t)(bits + 1)),
              middle = low + (high - low) / 2;
        cr_assert_eq(nd_f32_to_f16(middle), bits % 2 ? bits + 1 : bits);
        cr_assert_eq(nd_f32_to_f16(nextafterf(middle, INFINITY)), bits + 1);
        cr_assert_eq(nd_f32_to_f16(nextafterf(middle, -INFINITY)), bits);
    }
    cr_assert_eq(nd_f32_to_f16(65519.996f), 0x7bff);
    cr_assert_eq(nd_f32_to_f16(65520.0f), 0x7c00);
    cr_assert_eq(nd_f32_to_f16(-1e30f), 0xfc00);
}

/* Sign, exponent and fraction of a code, as its definition has them. */
static double e4m3(int code) {
    const int exponent = code >> 3 & 15, fraction = code & 7;
    const double magnitude = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);
    return code & 128 ? -magnitude : magnitude;
}

Test(tensor, e4m3) {
    for (int code = 0; code < 256; code++) {
        const float value = nd_e4m3_to_f32((uint8_t)code);
        if (code % 128 == 127) {
            cr_assert(isnan(value));
            cr_assert_eq(nd_f32_to_e4m3(code & 128 ? -NAN : NAN), code);
            continue;
        }
        cr_assert_eq((double)value, e4m3(code), "%02x", (unsigned)code);
        cr_assert_eq(nd_f32_to_e4m3(value), code);
        if (code % 128 == 126) continue;
        const float middle = (float)((e4m3(code) + e4m3(code + 1)) / 2); /* exact */
        cr_assert_eq(nd_f32_to_e4m3(middle), code % 2 ? code + 1 : code, "%02x", (unsigned)code);
        cr_assert_eq(nd_f32_to_e4m3(nextafterf(middle, value)), code);
        cr_assert_eq(nd_f32_to_e4m3(nextafterf(middle, 2 * middle)), code + 1);
    }
    static const float large[] = {448, 449, 464, 500, 1e30f, INFINITY};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        cr_assert_eq(nd_f32_to_e4m3(large[i]), 0x7e);
        cr_assert_eq(nd_f32_to_e4m3(-large[i]), 0xfe);
    }
    cr_assert_eq(nd_f32_to_e4m3(0x1p-10f), 0, "a tie");
    cr_assert_eq(nd_f32_to_e4m3(-0x1p-149f), 0x80);
}

Test(text, patterns) {
    cr_assert(nd_text_match("layer?.*.conv1", "layer1.0.conv1"));
    cr_assert(nd_text_match("*", ""));
    cr_assert(nd_text_match("*a*b", "xaayb"));
    cr_assert_not(nd_text_match("conv1", "conv10"));
    cr_assert_not(nd_text_match("?", ""));
}

static void check_ints(const char *text, size_t count, const int64_t *expected) {
    int64_t *values;
    size_t found;
    cr_assert_eq(nd_text_ints(text, &values, &found), nd_status_ok, "%s: %s", text, nd_error());
    cr_assert_eq(found, count);
    cr_assert_arr_eq(values, expected, count * sizeof *values);
    free(values);
}

Test(text, lists_and_ranges) {
    check_ints("2,3,4", 3, (int64_t[]){2, 3, 4});
    check_ints("1..4", 4, (int64_t[]){1, 2, 3, 4});
    check_ints("1..6+2", 3, (int64_t[]){1, 3, 5});
    check_ints("1..64*4,7", 5, (int64_t[]){1, 4, 16, 64, 7});
    check_ints("-2..0", 3, (int64_t[]){-2, -1, 0});
    check_ints("9223372036854775806..9223372036854775807", 2, (int64_t[]){INT64_MAX - 1, INT64_MAX});
    static const char wrong[][24] = {"",       "1,",     "a",      "4..1",      "1..",
                                     "1..9+0", "0..8*2", "1..9*1", "1..9999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int64_t *values;
        size_t found;
        cr_assert_eq(nd_text_ints(wrong[i], &values, &found), nd_status_usage, "%s", wrong[i]);
        cr_assert_null(values);
    }
}

/* FIPS 180-4 examples, and that the split of the input does not matter. */
Test(hash, sha256) {
    static const char text[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    for (size_t split = 0; split < sizeof text; split++) {
        nd_sha256 hash;
        char hex[nd_sha256_hex_size];
        nd_sha256_init(&hash);
        nd_sha256_add(&hash, NULL, 0);
        nd_sha256_add(&hash, text, split);
        nd_sha256_add(&hash, text + split, sizeof text - 1 - split);
        nd_sha256_hex(&hash, hex);
        cr_assert_str_eq(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    }
    nd_sha256 hash;
    char hex[nd_sha256_hex_size];
    nd_sha256_init(&hash);
    for (int i = 0; i < 1000; i++) {
        char block[1000];
        memset(block, 'a', sizeof block);
        nd_sha256_add(&hash, block, sizeof block);
    }
    nd_sha256_hex(&hash, hex);
    cr_assert_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

Test(rng, moments_and_bounds) {
    nd_rng rng = nd_rng_seed(7);
    double sum = 0, squares = 0;
    enum { count = 100000 };
    int64_t histogram[7] = {0};
    for (int i = 0; i < count; i++) {
        double x = nd_rng_normal(&rng);
        sum += x;
        squares += x * x;
        histogram[nd_rng_below(&rng, 7)]++;
    }
    cr_assert_lt(fabs(sum / count), 0.02);
    cr_assert_lt(fabs(squares / count - 1), 0.03);
    for (int i = 0; i < 7; i++) cr_assert_lt(llabs(histogram[i] - count / 7), 600);
}

enum { parallel_count = 1001 };

static void count_visits(void *context, int64_t begin, int64_t end, int worker) {
    cr_assert(worker >= 0 && worker < nd_threads() + 64);
    for (int64_t i = begin; i < end; i++) __atomic_add_fetch((int *)context + i, 1, __ATOMIC_RELAXED);
}

Test(parallel, every_index_once) {
    int visits[parallel_count] = {0};
    nd_parallel_for(parallel_count, 1000, count_visits, visits);
    nd_parallel_for(1, 1, count_visits, visits);
    nd_parallel_for(0, 1, count_visits, visits);
    cr_assert_eq(visits[0], 2);
    for (int i = 1; i < parallel_count; i++) cr_assert_eq(visits[i], 1);
}

static nd_status count_task(void *context, int64_t i) {
    __atomic_add_fetch((int *)context + i, 1, __ATOMIC_RELAXED);
    return i == 7 || i == 30 ? nd_fail(nd_status_failed, "task %d", (int)i) : nd_status_ok;
}

Test(parallel, tasks_are_done_once_and_the_first_failure_is_the_one_told) {
    int visits[parallel_count] = {0};
    nd_threads_set(4);
    cr_assert_eq(nd_parallel_tasks(7, 3, count_task, visits), nd_status_ok);
    for (int i = 0; i < 7; i++) cr_assert_eq(visits[i], 1);
    for (int most = 0; most < 4; most++) {
        cr_assert_eq(nd_parallel_tasks(parallel_count, most, count_task, visits), nd_status_failed);
        cr_assert_str_eq(nd_error(), "task 7");
    }
    cr_assert_eq(visits[7], 4);
    cr_assert_eq(visits[parallel_count - 1], 0);
}

static nd_status write_text(void *context, FILE *file) {
    fputs(context, file);
    return nd_status_ok;
}

static nd_status write_and_fail(void *context, FILE *file) {
    fputs(context, file);
    return nd_fail(nd_status_failed, "on purpose");
}

Test(file, replaced_as_a_whole) {
    char path[] = "/tmp/nd_test_file_XXXXXX";
    close(mkstemp(path));
    nd_buffer *bytes;
    cr_assert_eq(nd_file_map(path, &bytes), nd_status_ok);
    cr_assert_eq(bytes->bytes, 0);
    nd_buffer_unref(bytes);
    cr_assert_eq(nd_file_replace(path, write_text, "new"), nd_status_ok);
    cr_assert_eq(nd_file_replace(path, write_and_fail, "broken"), nd_status_failed);
    cr_assert_eq(nd_file_map(path, &bytes), nd_status_ok);
    cr_assert_eq(bytes->bytes, 3);
    cr_assert_arr_eq(bytes->data, "new", 3);
    nd_buffer_unref(bytes);
    unlink(path);
}

/* Found again by its key and by nothing else; a file that is no object counts for nothing. */
Test(json_cache, kept_by_its_key) {
    char folder[] = "/tmp/nd_test_cache_XXXXXX", one[nd_sha256_hex_size], two[nd_sha256_hex_size];
    cr_assert_not_null(mkdtemp(folder));
    nd_sha256_text("one", one);
    nd_sha256_text("two", two);
    nd_json_cache cache;
    cr_assert_eq(nd_json_cache_open(folder, "test", one, &cache), nd_status_ok);
    cr_assert_eq(json_object_set_new(cache.object, "ns", json_integer(7)), 0);
    nd_json_cache_write(&cache);
    nd_json_cache_close(&cache);
    cr_assert_eq(nd_json_cache_open(folder, "test", two, &cache), nd_status_ok);
    cr_assert_eq(json_object_size(cache.object), 0);
    nd_json_cache_close(&cache);
    cr_assert_eq(nd_json_cache_open(folder, "test", one, &cache), nd_status_ok);
    cr_assert_eq(json_integer_value(json_object_get(cache.object, "ns")), 7);
    cr_assert_eq(nd_file_replace(cache.path, write_text, "[1]"), nd_status_ok);
    nd_json_cache_close(&cache);
    cr_assert_eq(nd_json_cache_open(folder, "test", one, &cache), nd_status_ok);
    cr_assert_eq(json_object_size(cache.object), 0);
    unlink(cache.path);
    nd_json_cache_close(&cache);
    cr_assert_eq(nd_json_cache_open(NULL, "test", one, &cache), nd_status_ok);
    nd_json_cache_write(&cache);
    nd_json_cache_close(&cache);
    cr_assert_eq(rmdir(folder), 0);
}

Test(file, errors_name_the_file) {
    nd_buffer *bytes;
    cr_assert_eq(nd_file_map("/nowhere/a.onnx", &bytes), nd_status_input);
    cr_assert_not_null(strstr(nd_error(), "/nowhere/a.onnx"));
    cr_assert_eq(nd_file_map("/tmp", &bytes), nd_status_input);
    cr_assert_eq(nd_file_replace("/nowhere/b", write_text, ""), nd_status_input);
}
