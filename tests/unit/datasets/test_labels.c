/* Which output a class is: lists as people write them, class maps, offsets, and what is said of those that do
 * not fit. */
#include "base/files/file.h"
#include "base/log.h"
#include "datasets/dataset.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char folder[64], warnings[4096];

static void collect(void *user, nd_log_level level, const char *message) {
    (void)user;
    if (level == nd_log_warn) strncat(warnings, message, sizeof warnings - strlen(warnings) - 1);
}

static void setup(void) {
    strcpy(folder, "/tmp/nd-labels-XXXXXX");
    cr_assert(mkdtemp(folder));
    *warnings = '\0';
    nd_log_set(collect, NULL);
}

static void teardown(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

static void write_bytes(const char *name, const void *data, size_t bytes) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *slash = strchr(path + strlen(folder) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "wb");
    cr_assert(file, "%s", path);
    cr_assert_eq(fwrite(data, 1, bytes, file), bytes);
    cr_assert_eq(fclose(file), 0);
}

static void write_text(const char *name, const char *text) {
    write_bytes(name, text, strlen(text));
}

static void write_picture(const char *name) {
    nd_buffer *file;
    cr_assert_eq(nd_file_map(ND_SOURCE_DIR "/tests/data/images/grey8.png", &file), nd_status_ok);
    write_bytes(name, file->data, file->bytes);
    nd_buffer_unref(file);
}

/* Labels of the set in order, as text: "0 1 -1"; or the error. */
static const char *labels(const char *kind, const char *name, const char *classes, int64_t offset) {
    static char text[512];
    char spec[256], map[256];
    snprintf(spec, sizeof spec, "%s:%s/%s", kind, folder, name);
    snprintf(map, sizeof map, "%s/%s", folder, classes ? classes : "");
    if (classes && !strcmp(classes, "numbers")) strcpy(map, classes);
    const nd_dataset_settings settings = {.spec = spec,
                                          .preprocess = "crop=8",
                                          .classes = classes ? map : NULL,
                                          .label_offset = offset,
                                          .batch = 64,
                                          .workers = 1};
    nd_batches *batches;
    nd_batch batch;
    *text = '\0';
    if (nd_dataset_open(&settings, &batches)) return nd_error();
    if (batches->next(batches, &batch)) {
        batch.n = 0;
        strncat(text, nd_error(), sizeof text - 1);
    }
    for (int64_t i = 0; i < batch.n; i++) {
        const size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, used ? " %d" : "%d", (int)batch.labels[i]);
    }
    nd_batches_close(batches);
    return text;
}

TestSuite(labels, .init = setup, .fini = teardown);

Test(labels, lists_are_taken_as_people_write_them) {
    static const char *const names[] = {"a.png", "two words.png", "one, two.png", "sub/b.png",
                                        "say \"x\".png"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) write_picture(names[i]);
    write_text("list.txt", "\xef\xbb\xbf"
                           "a.png 3\r\n"
                           "two words.png\t4\n"
                           "a.png,5\n"
                           "\"one, two.png\" , 6\n"
                           "sub\\b.png 7\n"
                           "\"say \"\"x\"\".png\" 8\n"
                           "a.png -1\n");
    cr_assert_str_eq(labels("list", "list.txt", NULL, 0), "3 4 5 6 7 8 -1");
    cr_assert(strstr(warnings, "list.txt:7: no class"), "%s", warnings);
    cr_assert_str_eq(labels("list", "list.txt", NULL, -2), "1 2 3 4 5 6 -1");
}

Test(labels, a_line_that_cannot_be_read_is_named) {
    static const struct {
        const char *text, *why;
    } bad[] = {{"a.png 0\nb.png -2\n", "list.txt:2: class -2"},
               {"a.png 0\n\n\"b.png 1\n", "list.txt:3: a quote"},
               {"a.png 99999999999\n", "list.txt:1: class 99999999999"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text("list.txt", bad[i].text);
        cr_expect(strstr(labels("list", "list.txt", NULL, 0), bad[i].why), "%s", nd_error());
    }
    write_picture("a.png");
    write_text("list.txt", "a.png 4\na.png 0\n");
    cr_expect(strstr(labels("list", "list.txt", NULL, -1), "list.txt:2: a.png: class 0"), "%s", nd_error());
}

Test(labels, a_map_in_each_of_its_forms_gives_the_outputs) {
    write_picture("set/cat/a.png");
    write_picture("set/dog/b.png");
    write_picture("set/two words/c.png");
    write_text("pairs.txt", "dog 7\ncat 9\ntwo words 1\nbird 0\n");
    write_text("turned.txt", "7: dog\n9: cat, a pet\n1: \"two words\"\n");
    write_text("lines.txt", "bird\ndog, a pet\ncat\n\"two words\"\n");
    /* A folder's pictures come in turns, the second class first. */
    cr_expect_str_eq(labels("imagefolder", "set", NULL, 0), "1 0 2");
    cr_expect_str_eq(labels("imagefolder", "set", "pairs.txt", 0), "7 9 1");
    cr_expect_str_eq(labels("imagefolder", "set", "pairs.txt", 1), "8 10 2");
    cr_expect_str_eq(labels("imagefolder", "set", "turned.txt", 0), "7 9 1");
    cr_expect_str_eq(labels("imagefolder", "set", "lines.txt", 0), "1 2 3");
    write_text("short.txt", "dog 7\ncat 9\n");
    cr_expect(strstr(labels("imagefolder", "set", "short.txt", 0), "folder 'two words'"), "%s", nd_error());
    write_text("part.txt", "dog 7\ncat\ntwo words 1\n");
    cr_expect(strstr(labels("imagefolder", "set", "part.txt", 0), "part.txt:2"), "%s", nd_error());
    write_text("part.txt", "7 dog\n9 cat\ntwo words\n");
    cr_expect(strstr(labels("imagefolder", "set", "part.txt", 0), "part.txt:3"), "%s", nd_error());
    write_text("twice.txt", "dog 7\ncat 9\ndog 8\n");
    cr_expect(strstr(labels("imagefolder", "set", "twice.txt", 0), "twice.txt:"), "%s", nd_error());
    cr_expect(strstr(labels("imagefolder", "set", "numbers", 0), "folder 'cat' is no number"), "%s",
              nd_error());
    write_picture("a.png");
    write_text("list.txt", "a.png 0\na.png 2\n");
    write_text("permuted.txt", "5\n2\n0\n");
    cr_expect_str_eq(labels("list", "list.txt", "permuted.txt", 0), "2 1");
    write_text("list.txt", "a.png 0\na.png 3\n");
    cr_expect(strstr(labels("list", "list.txt", "permuted.txt", 0), "list.txt:2"), "%s", nd_error());
}

Test(labels, numbered_folders_in_byte_order_are_doubted) {
    static const char *const names[] = {"0", "1", "10", "2"};
    char name[64];
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "set/%s/a.png", names[i]);
        write_picture(name);
    }
    cr_assert_str_eq(labels("imagefolder", "set", NULL, 0), "1 3 0 2");
    cr_assert(strstr(warnings, "folder 10 is class 2"), "%s", warnings);
    *warnings = 0;
    cr_assert_str_eq(labels("imagefolder", "set", "numbers", 0), "1 2 0 10");
    cr_assert_str_empty(warnings, "who says which is which needs no advice: %s", warnings);
}
