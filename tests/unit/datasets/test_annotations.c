#include "base/log.h"
#include "datasets/annotations/voc_xml.h"
#include "datasets/dataset.h"
#include "datasets/image/preprocess.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char folder[64];

static void folder_new(void) {
    strcpy(folder, "/tmp/nd-annotations-XXXXXX");
    cr_assert(mkdtemp(folder));
}

static void folder_remove(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

static void write_below(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    cr_assert(file, "%s", path);
    cr_assert(fputs(text, file) >= 0 && fclose(file) == 0);
}

static void folder_below(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(mkdir(path, 0700), 0);
}

/* A picture of tests/data/images, 27 x 19. */
static void picture_below(const char *name) {
    char command[1024];
    snprintf(command, sizeof command, "cp %s/tests/data/images/baseline.jpg %s/%s", ND_SOURCE_DIR, folder,
             name);
    cr_assert_eq(system(command), 0);
}

/* --- VOC */

#define OBJECT(name, difficult, box)                                                                         \
    "<object>\n<name>" name "</name><difficult>" difficult "</difficult><bndbox>" box "</bndbox></object>\n"
#define BOX(x, y, right, below)                                                                              \
    "<xmin>" x "</xmin><ymin>" y "</ymin><xmax>" right "</xmax><ymax>" below "</ymax>"
#define ANNOTATION(objects)                                                                                  \
    "<annotation><size><width>27</width><height>19</height></size>\n" objects "</annotation>\n"

static nd_status read_xml(const char *text, nd_annotated *out) {
    static const char *const names[] = {"dog", "person"};
    const nd_voc_classes classes = {names, 2};
    *out = (nd_annotated){0};
    return nd_voc_read_xml(text, strlen(text), "a.xml", &classes, 0, out);
}

Test(annotations, voc_boxes_count_whole_pixels_from_one) {
    nd_annotated found;
    cr_assert_eq(read_xml(ANNOTATION(OBJECT("person", "0", BOX("1", "1", "27", "19"))
                                         OBJECT(" dog\n", "1", BOX("2", "3", "2", "5.5"))),
                          &found),
                 nd_status_ok, "%s", nd_error());
    cr_assert_eq(found.count, 2);
    const nd_object *whole = &found.items[0].object, *dog = &found.items[1].object;
    cr_expect(whole->box.x == 0 && whole->box.y == 0 && whole->box.width == 27 && whole->box.height == 19);
    cr_expect(whole->label == 1 && !whole->difficult && whole->area == 27 * 19);
    cr_expect(dog->box.x == 1 && dog->box.y == 2 && dog->box.width == 1 && dog->box.height == 3.5);
    cr_expect(dog->label == 0 && dog->difficult && !dog->crowd);
    free(found.items);
}

Test(annotations, voc_parts_are_no_objects) {
    nd_annotated found;
    cr_assert_eq(read_xml(ANNOTATION("<object><name>dog</name><bndbox>" BOX(
                              "5", "5", "9", "9") "</bndbox><part><name>head"
                                                  "</name><bndbox>" BOX("1", "1", "2",
                                                                        "2") "</bndbox></part></object>"),
                          &found),
                 nd_status_ok, "%s", nd_error());
    cr_assert_eq(found.count, 1);
    cr_expect_eq(found.items[0].object.box.x, 4);
    free(found.items);
}

Test(annotations, bad_voc_files_are_named_with_their_line) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "a.xml:1: no element found"},
        {ANNOTATION("\n<object><name>dog"), "a.xml:3: mismatched tag"},
        {"<annotation>\n<object><name>dog</name>\n", "a.xml:3: no element found"},
        {"<html>\n</html>", "a.xml:1: <html> is no annotation of PASCAL VOC"},
        {ANNOTATION(OBJECT("cat", "0", BOX("1", "1", "2", "2"))),
         "a.xml:3: class \"cat\" is none of the 2 of the set"},
        {ANNOTATION(OBJECT("dog", "0", BOX("1", "1", "29", "2"))),
         "a.xml:2: the box from 0, 0 to 29, 2 reaches out of its picture of 27 x 19 pixels"},
        {ANNOTATION(OBJECT("dog", "0", BOX("9", "1", "2", "2"))), "a.xml:2: a box of -6 x 2 pixels"},
        {ANNOTATION(OBJECT("dog", "0", BOX("nan", "1", "2", "2"))),
         "a.xml:2: a box whose bounds are no numbers"},
        {ANNOTATION(OBJECT("dog", "0", BOX("one", "1", "2", "2"))),
         "a.xml:3: annotation/object/bndbox/xmin: \"one\" is no number"},
        {ANNOTATION("\n<object><name>dog</name><bndbox><xmin>1</xmin></bndbox></object>"),
         "a.xml:3: an object without all of xmin, ymin, xmax, ymax"},
        {ANNOTATION("<object><bndbox>" BOX("1", "1", "2", "2") "</bndbox></object>"),
         "a.xml:2: an object without a name"},
        {"<!DOCTYPE a [\n<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><annotation>&b;</annotation>",
         "a.xml:2: declares the entity \"a\": refused"},
        {"<!DOCTYPE a [<!ENTITY x SYSTEM \"/etc/hostname\">]><annotation>&x;</annotation>",
         "a.xml:1: declares the entity \"x\": refused"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_annotated found;
        cr_expect_eq(read_xml(cases[i].text, &found), nd_status_format, "case %zu", i);
        cr_expect(strstr(nd_error(), cases[i].message), "case %zu: %s", i, nd_error());
        free(found.items);
    }
}

Test(annotations, elements_without_end_are_refused) {
    char text[4096] = "<annotation>";
    for (int i = 0; i < 100; i++) strcat(text, "<a>");
    nd_annotated found;
    cr_expect_eq(read_xml(text, &found), nd_status_format);
    cr_expect(strstr(nd_error(), "elements within elements"), "%s", nd_error());
}

static void voc_folder(void) {
    folder_new();
    folder_below("Annotations");
    folder_below("JPEGImages");
    folder_below("ImageSets");
    folder_below("ImageSets/Main");
    write_below("Annotations/a.xml", ANNOTATION(OBJECT("dog", "0", BOX("1", "1", "9", "9"))));
    write_below("Annotations/b.xml", ANNOTATION(""));
    write_below("ImageSets/Main/val.txt", "b\na  -1\n");
    write_below("ImageSets/Main/train.txt", "a\n");
    picture_below("JPEGImages/a.jpg");
    picture_below("JPEGImages/b.jpg");
}

static nd_status open_set(const char *spec, const char *recipe, bool calibration, nd_batches **out) {
    char whole[256];
    snprintf(whole, sizeof whole, spec, folder, folder);
    const nd_dataset_settings settings = {
        .spec = whole, .preprocess = recipe, .batch = 4, .workers = 1, .calibration = calibration};
    return nd_dataset_open(&settings, out);
}

Test(annotations, voc_splits_and_frames, .init = voc_folder, .fini = folder_remove) {
    nd_batches *set;
    nd_batch batch;
    const nd_object *objects;
    size_t count;
    cr_assert_eq(open_set("voc:%s", "fit=54", false, &set), nd_status_ok, "%s", nd_error());
    cr_expect(set->count == 2 && set->n_classes == 20 && !strcmp(set->classes[14], "person"));
    cr_assert_eq(set->next(set, &batch), nd_status_ok);
    cr_assert_eq(batch.n, 2);
    cr_assert_eq(set->objects(set, batch.index[0], &objects, &count), nd_status_ok);
    cr_expect_eq(count, 0); /* b comes first in its list */
    cr_assert_eq(set->objects(set, batch.index[1], &objects, &count), nd_status_ok);
    cr_assert_eq(count, 1);
    cr_expect_eq(objects->label, 11);
    const nd_box box = nd_box_in(&batch.frames[1], objects->box);
    cr_expect(box.x == 0 && box.y == 8 && box.width == 18 && box.height == 18, "%g %g %g %g", box.x, box.y,
              box.width, box.height);
    nd_batches_close(set);
    cr_assert_eq(open_set("voc:%s:train", "fit=54", false, &set), nd_status_ok, "%s", nd_error());
    cr_expect_eq(set->count, 1);
    nd_batches_close(set);
    cr_assert_eq(open_set("voc:%s", "fit=54", true, &set), nd_status_ok, "%s", nd_error());
    cr_expect_eq(set->count, 1);
    nd_batches_close(set);
    cr_expect_eq(open_set("voc:%s:nosuch", "fit=54", false, &set), nd_status_input);
    cr_expect(strstr(nd_error(), "no split \"nosuch\""), "%s", nd_error());
}

Test(annotations, voc_missing_files_and_own_classes, .init = voc_folder, .fini = folder_remove) {
    nd_batches *set;
    write_below("ImageSets/Main/val.txt", "a\n\nabsent\n");
    cr_expect_eq(open_set("voc:%s", "fit=54", false, &set), nd_status_input);
    cr_expect(strstr(nd_error(), "val.txt:3: ") && strstr(nd_error(), "absent.xml"), "%s", nd_error());
    write_below("classes.txt", "person\nbicycle\n");
    cr_expect_eq(open_set("voc:%s:train", "fit=54", false, &set), nd_status_format);
    cr_expect(strstr(nd_error(), "a.xml:3: class \"dog\" is none of the 2"), "%s", nd_error());
    cr_expect_eq(open_set("voc:%s/nowhere", "fit=54", false, &set), nd_status_input);
}

/* --- COCO */

static const char coco[] =
    "{\"info\": {\"note\": \"a \\\"quoted\\\" [ { \"},\n"
    " \"images\": [{\"id\": 7, \"file_name\": \"a.jpg\", \"width\": 27, \"height\": 19},\n"
    "  {\"id\": 3, \"file_name\": \"b.jpg\"}],\n"
    " \"categories\": [{\"id\": 18, \"name\": \"dog\"}, {\"id\": 1, \"name\": \"person\"}],\n"
    " \"annotations\": [\n"
    "  {\"image_id\": 7, \"category_id\": 18, \"bbox\": [1, 2.5, 10, 9], \"area\": 50.5, \"iscrowd\": 0},\n"
    "  {\"image_id\": 3, \"category_id\": 1, \"bbox\": [0, 0, 5, 5], \"iscrowd\": 1},\n"
    "  {\"image_id\": 7, \"category_id\": 1, \"bbox\": [3, 3, 4, 4]}]}\n";

static void coco_folder(void) {
    folder_new();
    write_below("coco.json", coco);
    picture_below("a.jpg");
    picture_below("b.jpg");
}

Test(annotations, coco_is_sorted_by_ids, .init = coco_folder, .fini = folder_remove) {
    nd_batches *set;
    const nd_object *objects;
    size_t count;
    cr_assert_eq(open_set("coco:%s/coco.json:%s", "resize=20x30", false, &set), nd_status_ok, "%s",
                 nd_error());
    cr_assert(set->count == 2 && set->n_classes == 2);
    cr_expect_str_eq(set->classes[0], "person");
    cr_assert_eq(set->objects(set, 0, &objects, &count), nd_status_ok);
    cr_expect(count == 1 && objects[0].crowd && objects[0].label == 0 && objects[0].area == 25);
    cr_assert_eq(set->objects(set, 1, &objects, &count), nd_status_ok);
    cr_expect(count == 2 && !objects[0].crowd && objects[0].label == 1 && objects[0].area == 50.5);
    cr_expect(objects[0].box.y == 2.5 && objects[1].box.x == 3 && objects[1].area == 16);
    nd_batches_close(set);
}

Test(annotations, bad_coco_files_are_named_with_their_line, .init = coco_folder, .fini = folder_remove) {
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"\"category_id\": 1, \"bbox\": [3", "\"category_id\": 2, \"bbox\": [3",
         "coco.json:8: annotations[2]: its category_id is none of the categories"},
        {"\"image_id\": 3", "\"image_id\": 4",
         "coco.json:7: annotations[1]: its image_id is none of the images"},
        {"2.5, 10, 9]", "2.5, 90, 9]",
         "coco.json:6: the box from 1, 2.5 to 91, 11.5 reaches out of its picture"},
        {"2.5, 10, 9]", "2.5, -1, 9]", "coco.json:6: a box of -1 x 9 pixels"},
        {"[0, 0, 5, 5]", "[0, 0, 5]", "coco.json:7: annotations[1]: no \"bbox\" of four numbers"},
        {"[0, 0, 5, 5]", "[0, 0, 5, \"5\"]", "coco.json:7: annotations[1]: no \"bbox\" of four numbers"},
        {"\"id\": 3,", "\"id\": 7,", "coco.json:3: images[1]: id 7 stands twice"},
        {"\"file_name\": \"b.jpg\"", "\"file\": 1", "coco.json:3: images[1]: no text \"file_name\""},
        {"{\"id\": 18,", "{\"id\": \"x\",", "coco.json:4: categories[0]: no whole number \"id\""},
        {"\"annotations\"", "\"annotation\"", "coco.json:1: no array \"annotations\" in it"},
        {"\"area\": 50.5", "\"area\": \"50.5\"", "coco.json:6: annotations[0]: its \"area\" is no number"},
        {"\"iscrowd\": 1", "\"iscrowd\": [1]", "coco.json:7: annotations[1]: its \"iscrowd\" is no number"},
        {"\"width\": 27", "\"width\": {}", "coco.json:2: images[0]: its \"width\" is no number"},
        {"2.5, 10, 9]", "2.5, 1e999, 9]", "coco.json:6: real number overflow"},
        {"\"id\": 7", "\"id\": 99999999999999999999", "coco.json:2: too big integer"},
        {"2.5, 10, 9]", "2.5, 1e308, 9]", "coco.json:6: the box from 1, 2.5 to 1e+308, 11.5 reaches out"},
        {"[3, 3, 4, 4]}]}", "[3, 3", "coco.json:9: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[sizeof coco + 64];
        const char *at = strstr(coco, cases[i].from);
        cr_assert(at, "case %zu", i);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - coco), coco, cases[i].to,
                 at + strlen(cases[i].from));
        write_below("coco.json", text);
        nd_batches *set;
        cr_expect_eq(open_set("coco:%s/coco.json:%s", "resize=20x30", false, &set), nd_status_format,
                     "case %zu", i);
        cr_expect(strstr(nd_error(), cases[i].message), "case %zu: %s", i, nd_error());
    }
    nd_batches *set;
    write_below("coco.json", "");
    cr_expect_eq(open_set("coco:%s/coco.json:%s", "resize=20x30", false, &set), nd_status_format);
    cr_expect(strstr(nd_error(), "coco.json:1: nothing in it"), "%s", nd_error());
}

/* --- frames */

Test(annotations, frames_carry_boxes_there_and_back) {
    static const struct {
        const char *recipe;
        double x, y, right, below; /* where the corners of a picture of 200 x 100 come to lie */
    } cases[] = {
        {"resize=300x400", 0, 0, 400, 300},       {"fit=320", 0, 80, 320, 240},
        {"fit=320,place=corner", 0, 0, 320, 160}, {"fit=50x400,pad=114", 150, 0, 250, 50},
        {"resize=50,crop=40", -30, -5, 70, 45},   {"crop=300", 50, 100, 250, 200},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_preprocess preprocess;
        int64_t height, width;
        cr_assert_eq(nd_preprocess_parse(cases[i].recipe, &preprocess), nd_status_ok, "%s", nd_error());
        cr_assert_eq(nd_preprocess_size(&preprocess, 0, 0, &height, &width), nd_status_ok);
        const nd_frame frame = nd_preprocess_frame(&preprocess, 100, 200, height, width);
        const nd_box whole = nd_box_in(&frame, (nd_box){0, 0, 200, 100});
        cr_expect(whole.x == cases[i].x && whole.y == cases[i].y && whole.x + whole.width == cases[i].right &&
                      whole.y + whole.height == cases[i].below,
                  "%s: %g %g %g %g", cases[i].recipe, whole.x, whole.y, whole.width, whole.height);
        const nd_box box = {30, 20, 50, 70}, back = nd_box_out(&frame, nd_box_in(&frame, box));
        cr_expect(fabs(back.x - 30) < 1e-9 && fabs(back.y - 20) < 1e-9 && fabs(back.width - 50) < 1e-9 &&
                  fabs(back.height - 70) < 1e-9);
        const nd_box cut = nd_box_out(&frame, nd_box_in(&frame, (nd_box){-10, 50, 400, 400}));
        cr_expect(fabs(cut.x) < 1e-9 && fabs(cut.width - 200) < 1e-9 && fabs(cut.height - 50) < 1e-9);
    }
}

Test(annotations, borders_have_their_value_and_pictures_theirs) {
    nd_preprocess preprocess;
    nd_image image;
    static float pixels[3 * 8 * 8];
    cr_assert_eq(nd_preprocess_parse("fit=8,pad=114,place=corner", &preprocess), nd_status_ok);
    cr_assert_eq(nd_image_new(8, 4, "", &image), nd_status_ok);
    memset(image.rgb, 200, 3 * 8 * 4);
    cr_assert_eq(nd_preprocess_run(&preprocess, &image, 8, 8, pixels), nd_status_ok);
    for (int i = 0; i < 3 * 64; i++) cr_assert_eq(pixels[i], i % 64 < 32 ? 200 : 114, "%d", i);
    nd_image_free(&image);
    cr_expect_eq(nd_preprocess_parse("fit=8,crop=8", &preprocess), nd_status_usage);
    cr_expect_eq(nd_preprocess_parse("fit=8,pad=256", &preprocess), nd_status_usage);
}
