#include "base/parallel.h"
#include "base/rng.h"
#include "eval/detect/measures.h"

#include <criterion/criterion.h>
#include <math.h>

static double measure(const nd_detected *images, int64_t count, int32_t classes, nd_measure which) {
    nd_matches matches;
    double value = -1;
    cr_assert_eq(nd_matches_find(nd_measure_rule(which), images, count, classes, &matches), nd_status_ok);
    cr_assert_eq(nd_measure_all(&matches, which, &value), nd_status_ok);
    nd_matches_free(&matches);
    return value;
}

enum { images_max = 40, boxes_max = 12, classes = 3 };

typedef struct detect_set {
    nd_object objects[images_max][boxes_max];
    nd_detection detections[images_max][boxes_max];
    nd_detected images[images_max];
} detect_set;

static nd_box random_box(nd_rng *rng) {
    return (nd_box){nd_rng_uniform(rng) * 300, nd_rng_uniform(rng) * 300, 4 + nd_rng_uniform(rng) * 200,
                    4 + nd_rng_uniform(rng) * 200};
}

/* Detections that are the objects, moved by up to `shift` of their size. */
static void make_set(detect_set *set, uint64_t seed, double shift) {
    nd_rng rng = nd_rng_seed(seed);
    *set = (detect_set){0};
    for (int i = 0; i < images_max; i++) {
        const size_t n = (size_t)nd_rng_below(&rng, boxes_max + 1);
        for (size_t k = 0; k < n; k++) {
            nd_object *object = &set->objects[i][k];
            *object = (nd_object){.box = random_box(&rng), .label = (int32_t)nd_rng_below(&rng, classes)};
            object->area = object->box.width * object->box.height;
            nd_detection *detection = &set->detections[i][k];
            *detection = (nd_detection){object->box, nd_rng_uniform(&rng), object->label};
            detection->box.x += shift * (nd_rng_uniform(&rng) - 0.5) * object->box.width;
            detection->box.y += shift * (nd_rng_uniform(&rng) - 0.5) * object->box.height;
        }
        set->images[i] = (nd_detected){set->objects[i], n, set->detections[i], n};
    }
}

Test(detect, what_is_annotated_is_perfect_and_nothing_is_zero) {
    static detect_set set;
    make_set(&set, 1, 0);
    for (int m = 0; m < nd_measure_count; m++) {
        if (m == nd_measure_ar1) continue; /* one a class and image */
        cr_expect_float_eq(measure(set.images, images_max, classes, (nd_measure)m), 1, 1e-12, "%s",
                           nd_measure_name((nd_measure)m));
    }
    for (int i = 0; i < images_max; i++) set.images[i].n_detections = 0;
    for (int m = 0; m < nd_measure_count; m++)
        cr_expect_eq(measure(set.images, images_max, classes, (nd_measure)m), 0, "%s",
                     nd_measure_name((nd_measure)m));
    for (int i = 0; i < images_max; i++) set.images[i].n_objects = 0;
    for (int m = 0; m < nd_measure_count; m++)
        cr_expect(isnan(measure(set.images, images_max, classes, (nd_measure)m)));
}

Test(detect, overlap_is_symmetric_and_of_crowds_that_of_the_detection) {
    const nd_box a = {0, 0, 10, 10}, b = {5, 0, 10, 10}, inside = {2, 2, 2, 2}, apart = {10, 0, 5, 5};
    cr_expect_float_eq(nd_box_overlap(a, b, false), 1.0 / 3, 1e-15);
    cr_expect_float_eq(nd_box_overlap(b, a, false), 1.0 / 3, 1e-15);
    cr_expect_float_eq(nd_box_overlap(inside, a, false), 0.04, 1e-15);
    cr_expect_eq(nd_box_overlap(inside, a, true), 1);
    cr_expect_eq(nd_box_overlap(a, apart, false), 0);
}

/* By hand: three objects, found at places 1 and 4 of four detections. */
Test(detect, voc_by_hand) {
    const nd_object objects[] = {{.box = {0, 0, 10, 10}}, {.box = {20, 0, 10, 10}}, {.box = {40, 0, 10, 10}}};
    const nd_detection detections[] = {{{0, 0, 10, 10}, 0.9, 0},
                                       {{0, 50, 10, 10}, 0.8, 0},
                                       {{0, 1, 10, 10}, 0.7, 0},
                                       {{20, 0, 10, 10}, 0.6, 0}};
    const nd_detected image = {objects, 3, detections, 4};
    /* Recall 1/3 at precision 1, 2/3 at 1/2: points 0 to 0.3, and 0.4 to 0.6. */
    cr_expect_float_eq(measure(&image, 1, 1, nd_measure_voc2007), (4 * 1.0 + 3 * 0.5) / 11, 1e-12);
    cr_expect_float_eq(measure(&image, 1, 1, nd_measure_voc2010), (1 + 0.5) / 3, 1e-12);
}

/* An object with recall 3 of 10 is at the point 0.3, which is no binary fraction. */
Test(detect, eleven_points_are_exact) {
    nd_object objects[10] = {{.box = {0}}};
    nd_detection detections[3];
    for (int i = 0; i < 10; i++) objects[i].box = (nd_box){20 * i, 0, 10, 10};
    for (int i = 0; i < 3; i++) detections[i] = (nd_detection){objects[i].box, 0.5, 0};
    const nd_detected image = {objects, 10, detections, 3};
    cr_expect_float_eq(measure(&image, 1, 1, nd_measure_voc2007), 4.0 / 11, 1e-12);
}

Test(detect, difficult_objects_are_neither_found_nor_missed) {
    nd_object objects[] = {{.box = {0, 0, 50, 50}, .area = 2500},
                           {.box = {100, 0, 50, 50}, .area = 2500, .difficult = true}};
    nd_detection detections[] = {{{0, 0, 50, 50}, 0.5, 0}, {{100, 0, 50, 50}, 0.9, 0}};
    nd_detected image = {objects, 2, detections, 2};
    for (int found = 1; found <= 2; found++) {
        image.n_detections = (size_t)found;
        cr_expect_float_eq(measure(&image, 1, 1, nd_measure_voc2007), 1, 1e-12);
        cr_expect_float_eq(measure(&image, 1, 1, nd_measure_ap50), 1, 1e-12);
    }
    objects[1].difficult = false;
    detections[1].box.x = 300;
    cr_expect_lt(measure(&image, 1, 1, nd_measure_voc2007), 0.6);
}

Test(detect, order_of_images_and_of_classes_does_not_matter) {
    static detect_set set, turned;
    make_set(&set, 2, 0.5);
    turned = set;
    for (int i = 0; i < images_max; i++) {
        turned.images[i] = set.images[images_max - 1 - i];
        for (int k = 0; k < boxes_max; k++) {
            set.objects[i][k].label %= classes;
            turned.objects[i][k].label = (set.objects[i][k].label + 1) % classes;
            turned.detections[i][k].label = (set.detections[i][k].label + 1) % classes;
        }
    }
    nd_detected relabelled[images_max];
    for (int i = 0; i < images_max; i++)
        relabelled[i] = (nd_detected){turned.objects[i], set.images[i].n_objects, turned.detections[i],
                                      set.images[i].n_detections};
    for (int m = 0; m < nd_measure_count; m++) {
        const double want = measure(set.images, images_max, classes, (nd_measure)m);
        cr_expect(want > 0 && (want < 1 || m >= nd_measure_ap50));
        cr_expect_float_eq(measure(turned.images, images_max, classes, (nd_measure)m), want, 1e-12);
        cr_expect_float_eq(measure(relabelled, images_max, classes, (nd_measure)m), want, 1e-12);
    }
}

/* Doubling a set leaves recall and precision where they were. */
Test(detect, a_set_twice_measures_as_once) {
    static detect_set set;
    nd_detected twice[2 * images_max];
    make_set(&set, 3, 0.7);
    for (int i = 0; i < 2 * images_max; i++) twice[i] = set.images[i % images_max];
    for (int m = 0; m < nd_measure_count; m++)
        cr_expect_float_eq(measure(twice, 2 * images_max, classes, (nd_measure)m),
                           measure(set.images, images_max, classes, (nd_measure)m), 1e-9, "%s",
                           nd_measure_name((nd_measure)m));
}

Test(detect, resampling_surrounds_the_measure_and_pairs_networks) {
    enum { draws = 200 };
    static detect_set good, bad;
    static double values[2][draws], again[2][draws];
    nd_matches matches[2];
    make_set(&good, 4, 0.4);
    make_set(&bad, 4, 1.2);
    for (int i = 0; i < images_max; i++) bad.images[i].objects = good.images[i].objects;
    cr_assert_eq(nd_matches_find(nd_match_coco, good.images, images_max, classes, &matches[0]), nd_status_ok);
    cr_assert_eq(nd_matches_find(nd_match_coco, bad.images, images_max, classes, &matches[1]), nd_status_ok);
    const nd_matches *both[] = {&matches[0], &matches[1]};
    cr_assert_eq(nd_measure_resample(both, 2, nd_measure_ap50, draws, 7, values[0]), nd_status_ok);
    nd_threads_set(1);
    cr_assert_eq(nd_measure_resample(both, 2, nd_measure_ap50, draws, 7, again[0]), nd_status_ok);
    cr_expect_arr_eq(values, again, sizeof values);
    double differences[draws], lo, hi;
    for (int i = 0; i < draws; i++) differences[i] = values[0][i] - values[1][i];
    for (int k = 0; k < 2; k++) {
        double value;
        cr_assert_eq(nd_measure_all(&matches[k], nd_measure_ap50, &value), nd_status_ok);
        nd_measure_interval(values[k], draws, &lo, &hi);
        cr_expect(lo < value && value < hi && hi - lo < 0.3, "%g in [%g, %g]", value, lo, hi);
    }
    nd_measure_interval(differences, draws, &lo, &hi);
    cr_expect(lo > 0 && lo < hi);
    nd_matches_free(&matches[0]);
    nd_matches_free(&matches[1]);
}

Test(detect, impossible_labels_and_scores_are_refused) {
    const nd_object object = {.box = {0, 0, 1, 1}, .label = 2};
    const nd_detection broken = {{0, 0, 1, 1}, NAN, 0}, beyond = {{0, 0, 1, 1}, 1, 2};
    const nd_detected images[] = {{&object, 1, NULL, 0}, {NULL, 0, &broken, 1}, {NULL, 0, &beyond, 1}};
    nd_matches matches;
    for (int i = 0; i < 3; i++)
        cr_expect_eq(nd_matches_find(nd_match_voc, &images[i], 1, 2, &matches), nd_status_usage);
}
