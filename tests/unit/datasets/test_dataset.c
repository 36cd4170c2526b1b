#include "datasets/dataset.h"

#include "base/files/file.h"
#include "base/format/pickle.h"
#include "base/log.h"
#include "datasets/image/image.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- a folder of its own for every test */

static char folder[64];

static void folder_new(void) {
    strcpy(folder, "/tmp/nd-dataset-XXXXXX");
    cr_assert(mkdtemp(folder));
}

static void folder_remove(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

static const char *below(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *below(const char *format, ...) {
    static char path[512];
    const int length = snprintf(path, sizeof path, "%s/", folder);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + length, sizeof path - (size_t)length, format, arguments);
    va_end(arguments);
    return path;
}

static void write_file(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    cr_assert(file, "%s", path);
    cr_assert_eq(fwrite(data, 1, bytes, file), bytes);
    cr_assert_eq(fclose(file), 0);
}

static void write_text(const char *path, const char *text) {
    write_file(path, text, strlen(text));
}

/* Copies one of the pictures of tests/data/images (27 x 19); `bytes` may cut it short. */
static void copy_picture(const char *name, const char *path, size_t bytes) {
    char from[512];
    nd_buffer *file;
    snprintf(from, sizeof from, "%s/tests/data/images/%s", ND_SOURCE_DIR, name);
    cr_assert_eq(nd_file_map(from, &file), nd_status_ok, "%s", nd_error());
    write_file(path, file->data, bytes && bytes < file->bytes ? bytes : file->bytes);
    nd_buffer_unref(file);
}

/* --- warnings are collected */

static char warnings[16][256];
static int n_warnings;

static void collect(void *user, nd_log_level level, const char *message) {
    (void)user;
    if (level == nd_log_warn && n_warnings < 16)
        snprintf(warnings[n_warnings++], sizeof warnings[0], "%.255s", message);
}

static void setup(void) {
    folder_new();
    nd_log_set(collect, NULL);
    n_warnings = 0;
}

static nd_batches *opened(nd_dataset_settings settings) {
    nd_batches *batches;
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_ok, "%s: %s", settings.spec, nd_error());
    return batches;
}

/* All indices and labels of a set, in order. */
typedef struct seen {
    int64_t n, index[256];
    int32_t label[256];
    float first[256]; /* first number of each picture */
} seen;

static seen walk(nd_batches *batches) {
    seen all = {0};
    const size_t floats = (size_t)(batches->channels * batches->height * batches->width);
    cr_assert_eq(batches->rewind(batches), nd_status_ok);
    for (;;) {
        nd_batch batch;
        cr_assert_eq(batches->next(batches, &batch), nd_status_ok, "%s", nd_error());
        if (!batch.n) return all;
        cr_assert(batch.n <= batches->batch && all.n + batch.n <= 256);
        for (int64_t i = 0; i < batch.n; i++, all.n++) {
            all.index[all.n] = batch.index[i];
            all.label[all.n] = batch.labels[i];
            all.first[all.n] = batch.images[(size_t)i * floats];
        }
    }
}

TestSuite(dataset, .init = setup, .fini = folder_remove);

/* --- mirror images */

/* Four pictures, then their mirror images, of the range that was asked for; the last are fewer. */
Test(dataset, mirror_images_follow_their_pictures_by_fours) {
    static const int64_t picture[] = {3, 4, 5, 6, 3, 4, 5, 6, 7, 8, 7, 8};
    enum { n = sizeof picture / sizeof *picture, first = 3, some = 6, batch = 5 };
    nd_dataset_settings settings = {.spec = "glyphs:calib", .batch = batch};
    nd_batches *plain = opened(settings);
    settings.first = first, settings.limit = some;
    nd_batches *range = opened(settings);
    settings.mirror = true;
    nd_batches *mirrored = opened(settings);
    cr_assert_eq(mirrored->count, n);
    cr_assert_str_neq(mirrored->sha256, range->sha256);
    const int64_t rows = plain->channels * plain->height, width = plain->width;
    float *pictures = malloc((size_t)((first + some + batch) * rows * width) * sizeof *pictures);
    nd_batch got;
    for (int64_t at = 0; at < first + some; at += got.n) {
        cr_assert_eq(plain->next(plain, &got), nd_status_ok);
        memcpy(pictures + at * rows * width, got.images, (size_t)(got.n * rows * width) * sizeof *pictures);
    }
    for (int64_t at = 0; at < n; at += got.n) {
        cr_assert_eq(mirrored->next(mirrored, &got), nd_status_ok);
        cr_assert_gt(got.n, 0);
        for (int64_t i = 0; i < got.n; i++) {
            const bool flipped = at + i >= 10 || (at + i >= 4 && at + i < 8);
            const float *from = pictures + picture[at + i] * rows * width,
                        *to = got.images + i * rows * width;
            for (int64_t e = 0; e < rows * width; e++)
                cr_assert_eq(to[e], from[flipped ? e - e % width + width - 1 - e % width : e]);
        }
    }
    char where[128];
    mirrored->where(mirrored, 5, where, sizeof where);
    cr_expect(strstr(where, "(mirrored)"), "%s", where);
    settings.spec = "synthetic";
    nd_batches *none;
    cr_assert_eq(nd_dataset_open(&settings, &none), nd_status_usage);
    free(pictures);
    nd_batches_close(plain);
    nd_batches_close(range);
    nd_batches_close(mirrored);
}

/* --- lists */

Test(dataset, a_list_takes_names_with_spaces_and_lines_without_a_class) {
    cr_assert_eq(mkdir(below("a folder"), 0777), 0);
    copy_picture("rgb8.png", below("a folder/one 1.png"), 0);
    copy_picture("grey8.png", below("two.png"), 0);
    copy_picture("baseline.jpg", below("three.jpg"), 0);
    write_text(below("list.txt"), "a folder/one 1.png 7\r\n\n  two.png\t0  \nthree.jpg\n");
    char spec[128];
    snprintf(spec, sizeof spec, "list:%s", below("list.txt"));
    nd_batches *batches = opened((nd_dataset_settings){.spec = spec, .preprocess = "crop=8", .batch = 2});
    cr_assert_eq(batches->count, 3);
    cr_assert_str_eq(batches->name, spec);
    cr_assert_str_eq(batches->preprocess, "resize=none,crop=8,order=rgb");
    const seen all = walk(batches);
    cr_assert_eq(all.n, 3);
    cr_assert(all.label[0] == 7 && all.label[1] == 0 && all.label[2] == -1);
    nd_batches_close(batches);
}

Test(dataset, a_list_with_a_bad_line_names_it) {
    write_text(below("list.txt"), "a.png 1\nb.png -2\n");
    char spec[128];
    snprintf(spec, sizeof spec, "list:%s", below("list.txt"));
    nd_batches *batches;
    nd_dataset_settings settings = {.spec = spec, .preprocess = "crop=8"};
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_format);
    cr_assert(strstr(nd_error(), "list.txt:2"), "%s", nd_error());
    write_text(below("list.txt"), "\n\n");
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_format);
    settings.spec = "list:/nonexistent/list.txt";
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_input);
}

/* Ten pictures, every third cut short, decoded by several threads: what is whole arrives in order, the rest
 * is named in order, and a second round is the same. */
Test(dataset, broken_pictures_are_named_counted_and_left_out) {
    FILE *list = fopen(below("list.txt"), "w");
    cr_assert(list);
    for (int i = 0; i < 10; i++) {
        copy_picture(i % 2 ? "baseline.jpg" : "rgb8.png", below("%d.bin", i), i % 3 == 1 ? 300 : 0);
        fprintf(list, "%d.bin %d\n", i, i);
    }
    fprintf(list, "missing.png 10\n");
    fclose(list);
    char spec[128];
    snprintf(spec, sizeof spec, "list:%s", below("list.txt"));
    nd_batches *batches =
        opened((nd_dataset_settings){.spec = spec, .preprocess = "crop=8", .batch = 3, .workers = 4});
    for (int round = 0; round < 2; round++) {
        n_warnings = 0;
        const seen all = walk(batches);
        static const int32_t whole[] = {0, 2, 3, 5, 6, 8, 9};
        cr_assert_eq(all.n, 7);
        for (int i = 0; i < 7; i++) cr_assert(all.label[i] == whole[i] && all.index[i] == whole[i]);
        cr_assert_eq(batches->skipped, 4);
        cr_assert_eq(n_warnings, 4);
        cr_assert(strstr(warnings[0], "/1.bin: JPEG: ") && strstr(warnings[1], "/4.bin: PNG: "), "%s",
                  warnings[0]);
        cr_assert(strstr(warnings[3], "missing.png"), "%s", warnings[3]);
    }
    nd_batches_close(batches);
}

/* Closing or rewinding while the workers are in the middle of it. */
Test(dataset, a_stream_can_be_left_and_restarted_anywhere) {
    nd_batches *batches =
        opened((nd_dataset_settings){.spec = "glyphs", .batch = 5, .limit = 200, .workers = 3});
    const seen all = walk(batches);
    for (int stop = 1; stop < 40; stop += 7) {
        nd_batch batch;
        cr_assert_eq(batches->rewind(batches), nd_status_ok);
        for (int i = 0; i < stop; i++) cr_assert_eq(batches->next(batches, &batch), nd_status_ok);
        cr_assert_eq(batch.index[0], (stop - 1) * 5);
        cr_assert_eq(batch.images[0], all.first[(stop - 1) * 5]);
    }
    nd_batches_close(batches);
    nd_batches_close(NULL);
}

/* --- image folders */

/* And come in turns, so that the first pictures are of all classes alike. */
Test(dataset, classes_of_an_image_folder_are_numbered_by_name) {
    static const char *const names[] = {"zebra", "Ant", "bee"};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(mkdir(below("%s", names[i]), 0777), 0);
        copy_picture("rgb8.png", below("%s/b.png", names[i]), 0);
        copy_picture("baseline.jpg", below("%s/a.JPEG", names[i]), 0);
    }
    cr_assert_eq(mkdir(below("bee/deeper"), 0777), 0);
    copy_picture("grey8.png", below("bee/deeper/c.png"), 0);
    write_text(below("bee/notes.txt"), "no picture");
    write_text(below(".hidden"), "");
    char spec[128];
    snprintf(spec, sizeof spec, "imagefolder:%s", folder);
    nd_batches *batches = opened((nd_dataset_settings){.spec = spec, .batch = 4});
    cr_assert_eq(batches->height, 224);
    const seen all = walk(batches);
    static const int32_t labels[] = {1, 0, 2, 1, 0, 2, 1}; /* 0: Ant, bee, zebra */
    cr_assert_eq(all.n, 7);
    for (int i = 0; i < 7; i++) cr_assert_eq(all.label[i], labels[i]);
    cr_assert_eq(n_warnings, 1); /* the notes */
    nd_batches_close(batches);
}

/* Whoever takes few pictures of many classes has them from all over their order, each at most once more than
 * any other. */
Test(dataset, the_first_pictures_of_an_image_folder_are_of_all_classes) {
    enum { classes = 40 };
    char spec[128];
    for (int c = 0; c < classes; c++) {
        cr_assert_eq(mkdir(below("%02d", c), 0777), 0);
        for (int i = 0; i < 2; i++) copy_picture("rgb8.png", below("%02d/%d.png", c, i), 0);
    }
    snprintf(spec, sizeof spec, "imagefolder:%s", folder);
    for (int limit = 10; limit <= 50; limit += 40) {
        int of_class[classes] = {0}, quarters[4] = {0};
        nd_batches *batches = opened((nd_dataset_settings){.spec = spec, .batch = 4, .limit = limit});
        const seen some = walk(batches);
        cr_assert_eq(some.n, limit);
        for (int i = 0; i < limit; i++) {
            of_class[some.label[i]]++;
            quarters[some.label[i] * 4 / classes]++;
        }
        for (int c = 0; c < classes; c++)
            cr_expect(of_class[c] <= (limit > classes ? 2 : 1) && of_class[c] >= (limit > classes ? 1 : 0));
        for (int q = 0; q < 4; q++) cr_expect_geq(quarters[q], 2, "quarter %d of %d", q, limit);
        nd_batches_close(batches);
    }
}

Test(dataset, an_image_folder_with_train_and_val_has_both_splits) {
    char spec[128];
    cr_assert_eq(mkdir(below("train"), 0777), 0);
    cr_assert_eq(mkdir(below("val"), 0777), 0);
    cr_assert_eq(mkdir(below("train/x"), 0777), 0);
    cr_assert_eq(mkdir(below("val/x"), 0777), 0);
    for (int i = 0; i < 3; i++) copy_picture("rgb8.png", below("train/x/%d.png", i), 0);
    copy_picture("rgb8.png", below("val/x/0.png"), 0);
    static const struct {
        const char *suffix;
        bool calibration;
        int64_t count;
    } cases[] = {{"", false, 1}, {"", true, 3}, {":test", true, 1}, {":calib", false, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(spec, sizeof spec, "imagefolder:%s%s", folder, cases[i].suffix);
        nd_batches *batches =
            opened((nd_dataset_settings){.spec = spec, .calibration = cases[i].calibration});
        cr_assert_eq(batches->count, cases[i].count);
        nd_batches_close(batches);
    }
    nd_batches *batches;
    snprintf(spec, sizeof spec, "imagefolder:%s/val:calib", folder);
    cr_assert_eq(nd_dataset_open(&(nd_dataset_settings){.spec = spec}, &batches), nd_status_usage);
}

/* --- CIFAR-10 */

enum { cifar_pixels = 3072, cifar_record = 3073 };

/* Image i has label i % 10; its pixel j of plane c is i + j + 50 c. */
static void cifar_image(int i, uint8_t *pixels) {
    for (int c = 0; c < 3; c++)
        for (int j = 0; j < 1024; j++) pixels[c * 1024 + j] = (uint8_t)(i + j + 50 * c);
}

static void write_cifar_binary(const char *path, int images, size_t more) {
    uint8_t *data = calloc((size_t)images * cifar_record + more, 1);
    for (int i = 0; i < images; i++) {
        data[i * cifar_record] = (uint8_t)(i % 10);
        cifar_image(i, data + i * cifar_record + 1);
    }
    write_file(path, data, (size_t)images * cifar_record + more);
    free(data);
}

/* The bytes with which Python 2 pickled the published batches, at the protocol and in the order they have.
 * Returns the length; `data_at` is where the pixels start. */
static size_t cifar_pickle(int images, uint8_t *out, size_t *data_at) {
    static const char head[] = "\x80\x02}q\x01(U\x0b"
                               "batch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(";
    static const char array[] = "eU\x04"
                                "dataq\x06"
                                "cnumpy.core.multiarray\n_reconstruct\nq\x07"
                                "cnumpy\nndarray\nq\x08K\0\x85U\x01"
                                "b\x87Rq\x09(K\x01";
    static const char dtype[] =
        "M\0\x0c\x86"
        "cnumpy\ndtype\nq\x0aU\x02u1K\0K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff"
        "\xff\xffK\0tb\x89T";
    static const char tail[] = "tbU\tfilenamesq\x0c]q\x0d(U\x05"
                               "a.pngq\x0eU\x05"
                               "b.pngq\x0f"
                               "eu.";
    uint8_t *at = out;
    memcpy(at, head, sizeof head - 1), at += sizeof head - 1;
    for (int i = 0; i < images; i++) *at++ = 'K', *at++ = (uint8_t)(i % 10);
    memcpy(at, array, sizeof array - 1), at += sizeof array - 1;
    *at++ = 'K', *at++ = (uint8_t)images;
    memcpy(at, dtype, sizeof dtype - 1), at += sizeof dtype - 1;
    const uint32_t length = (uint32_t)images * cifar_pixels;
    for (int i = 0; i < 4; i++) *at++ = (uint8_t)(length >> 8 * i);
    *data_at = (size_t)(at - out);
    for (int i = 0; i < images; i++, at += cifar_pixels) cifar_image(i, at);
    memcpy(at, tail, sizeof tail - 1), at += sizeof tail - 1;
    return (size_t)(at - out);
}

static void check_cifar(nd_batches *batches, int64_t n) {
    const seen all = walk(batches);
    cr_assert_eq(all.n, n);
    for (int64_t i = 0; i < n; i++) cr_assert(all.label[i] == i % 10 && all.first[i] == i);
}

static const nd_dataset_settings plain = {.preprocess = "order=rgb", .batch = 4};

Test(dataset, cifar_reads_binary_batches_and_what_is_complete_of_a_cut_one) {
    char spec[128];
    write_cifar_binary(below("test_batch.bin"), 12, 0);
    write_cifar_binary(below("data_batch_1.bin"), 3, 0);
    write_cifar_binary(below("data_batch_2.bin"), 4, 1000);
    nd_dataset_settings settings = plain;
    snprintf(spec, sizeof spec, "cifar10:%s", folder);
    settings.spec = spec;
    nd_batches *batches = opened(settings);
    check_cifar(batches, 12);
    cr_assert_eq(n_warnings, 0);
    nd_batches_close(batches);

    settings.calibration = true;
    batches = opened(settings);
    cr_assert_eq(batches->count, 7);
    cr_assert_eq(n_warnings, 1);
    cr_assert(strstr(warnings[0], "data_batch_2.bin: cut short"), "%s", warnings[0]);
    const seen all = walk(batches);
    cr_assert(all.label[2] == 2 && all.label[3] == 0 && all.label[6] == 3);
    nd_batches_close(batches);

    snprintf(spec, sizeof spec, "cifar10:%s/test_batch.bin", folder);
    batches = opened(settings);
    check_cifar(batches, 12);
    nd_batches_close(batches);
    snprintf(spec, sizeof spec, "cifar10:%s/test_batch.bin:test", folder);
    cr_assert_eq(nd_dataset_open(&settings, &batches), nd_status_usage);
}

Test(dataset, cifar_leaves_out_records_with_impossible_labels) {
    char spec[128];
    uint8_t record[2 * cifar_record] = {0};
    record[cifar_record] = 77;
    write_file(below("x.bin"), record, sizeof record);
    nd_dataset_settings settings = plain;
    snprintf(spec, sizeof spec, "cifar10:%s/x.bin", folder);
    settings.spec = spec;
    nd_batches *batches = opened(settings);
    check_cifar(batches, 1);
    cr_assert_eq(batches->skipped, 1);
    nd_batches_close(batches);
}

Test(dataset, cifar_reads_python_batches_cut_anywhere) {
    enum { images = 5 };
    static uint8_t data[images * cifar_pixels + 1024];
    size_t data_at;
    const size_t length = cifar_pickle(images, data, &data_at);
    char spec[128];
    nd_dataset_settings settings = plain;
    snprintf(spec, sizeof spec, "cifar10:%s/test_batch", folder);
    settings.spec = spec;
    write_file(below("test_batch"), data, length);
    nd_batches *batches = opened(settings);
    check_cifar(batches, images);
    cr_assert_eq(n_warnings, 0);
    nd_batches_close(batches);
    for (size_t cut = 0; cut<length; cut += cut> data_at ? 97 : 1) {
        write_file(below("test_batch"), data, cut);
        const int64_t whole = cut < data_at ? 0 : (int64_t)((cut - data_at) / cifar_pixels);
        n_warnings = 0;
        const nd_status status = nd_dataset_open(&settings, &batches);
        cr_assert_eq(nd_status_exit_code(status), whole ? 0 : 3, "%zu bytes: %s", cut, nd_error());
        if (status) continue;
        cr_assert_eq(batches->count, whole < images ? whole : images);
        cr_assert_eq(n_warnings, 1);
        nd_batches_close(batches);
    }
}

/* What a pickle might do is never done: it does not even parse. */
Test(pickle, what_is_not_data_is_refused) {
    static const struct {
        const char *bytes;
        size_t length;
    } cases[] = {
        {"\x80\x02}q\x01s.", 6},     /* SETITEM without items */
        {"\x80\x06N.", 4},           /* a protocol we do not know */
        {"\x80\x02(tb.", 6},         /* state of no object */
        {"\x80\x02K\x01K\x02R.", 8}, /* a call of a number */
        {"\x80\x02h\x07.", 5},       /* a memo that was never set */
        {"\x80\x02I42\n.", 7},       /* an opcode of protocol 0 */
        {"\x80\x02K\x01K\x02.", 7},  /* two values */
        {"\x80\x02"
         "cos\nsystem\n.",
         14}, /* a name alone is data, but see below */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_arena arena = {0};
        const nd_pickle_source source = {.data = cases[i].bytes, .bytes = cases[i].length, .name = "x"};
        nd_pickle_result result;
        const nd_status status = nd_pickle_parse(&source, &arena, &result);
        if (i + 1 < sizeof cases / sizeof *cases)
            cr_assert_eq(nd_status_exit_code(status), 3, "case %zu", i);
        else
            cr_assert(!status && result.value->kind == nd_pickle_global &&
                      !strcmp(result.value->text, "os system"));
        nd_arena_free(&arena);
    }
}

/* --- the bundled set, ranges and identities */

Test(dataset, glyphs_has_two_disjoint_splits_of_62_classes) {
    nd_batches *test = opened((nd_dataset_settings){.spec = "glyphs", .batch = 64});
    nd_batches *calib = opened((nd_dataset_settings){.spec = "glyphs", .batch = 64, .calibration = true});
    cr_assert_geq(test->count, 2480);
    cr_assert_geq(calib->count, 620);
    cr_assert(test->channels == 3 && test->height == 32 && test->width == 32);
    cr_assert_str_neq(test->sha256, calib->sha256);
    cr_assert(strstr(test->preprocess, "std=0.25"));
    nd_batch batch;
    cr_assert_eq(test->next(test, &batch), nd_status_ok);
    for (int i = 0; i < 64; i++) cr_assert_eq(batch.labels[i], i % 62);
    nd_batches_close(test);
    nd_batches_close(calib);
}

Test(dataset, a_range_is_that_part_of_the_whole_and_has_its_own_identity) {
    nd_batches *whole = opened((nd_dataset_settings){.spec = "glyphs", .batch = 50, .limit = 150});
    nd_batches *part =
        opened((nd_dataset_settings){.spec = "glyphs:test", .batch = 7, .first = 100, .limit = 20});
    cr_assert_eq(part->count, 20);
    const seen all = walk(whole), some = walk(part);
    cr_assert_eq(some.n, 20);
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(some.index[i], 100 + i);
        cr_assert_eq(some.label[i], all.label[100 + i]);
        cr_assert_eq(some.first[i], all.first[100 + i]);
    }
    cr_assert_str_neq(whole->sha256, part->sha256);
    nd_batches *again =
        opened((nd_dataset_settings){.spec = "glyphs", .batch = 3, .first = 100, .limit = 20});
    cr_assert_str_eq(again->sha256, part->sha256);
    nd_batches_close(whole);
    nd_batches_close(part);
    nd_batches_close(again);
    nd_dataset_settings beyond = {.spec = "glyphs", .first = 1 << 20};
    cr_assert_eq(nd_dataset_open(&beyond, &part), nd_status_usage);
}

Test(dataset, unknown_kinds_are_named) {
    nd_batches *batches;
    cr_assert_eq(nd_dataset_open(&(nd_dataset_settings){.spec = "mnist:/x"}, &batches), nd_status_usage);
    cr_assert(strstr(nd_error(), "mnist:/x"));
    cr_assert_eq(nd_dataset_open(&(nd_dataset_settings){.spec = "glyphsandmore"}, &batches), nd_status_usage);
    cr_assert_eq(nd_dataset_open(&(nd_dataset_settings){.spec = "imagefolder:/nonexistent"}, &batches),
                 nd_status_input);
    cr_assert_eq(nd_dataset_open(&(nd_dataset_settings){.spec = "cifar10:/nonexistent"}, &batches),
                 nd_status_input);
}
