/* Average precision and recall of detectors, as PASCAL VOC and COCO define them. */
#ifndef ND_EVAL_DETECT_MEASURES_H
#define ND_EVAL_DETECT_MEASURES_H

#include "eval/detect/matches.h"

/* COCO's twelve (Lin et al., ECCV 2014, and cocodataset.org/#detection-eval), then VOC's: of 2007 with 11
 * points of recall, and since 2010 with all (Everingham et al., IJCV 2010, section 4.2). */
typedef enum nd_measure {
    nd_measure_ap,
    nd_measure_ap50,
    nd_measure_ap75,
    nd_measure_ap_small,
    nd_measure_ap_medium,
    nd_measure_ap_large,
    nd_measure_ar1,
    nd_measure_ar10,
    nd_measure_ar100,
    nd_measure_ar_small,
    nd_measure_ar_medium,
    nd_measure_ar_large,
    nd_measure_voc2007,
    nd_measure_voc2010,
    nd_measure_count,
} nd_measure;

const char *nd_measure_name(nd_measure measure);   /* "AP50" */
nd_match_rule nd_measure_rule(nd_measure measure); /* by which the matches must have been found */

/* Of each class, 0 to 1; NaN where no object of it counts. out[classes]. */
nd_status nd_measure_classes(const nd_matches *matches, nd_measure measure, double *out);

/* The mean over the classes that have one; NaN where none has. */
nd_status nd_measure_all(const nd_matches *matches, nd_measure measure, double *out);

/* The measure over images drawn with replacement, as many as there are: out[count][draws], each draw of the
 * same images for all `count` networks, whose matches are of the same images. The same seed gives the same
 * values for any number of threads. */
nd_status nd_measure_resample(const nd_matches *const *matches, size_t count, nd_measure measure, int draws,
                              uint64_t seed, double *out);

/* The middle 95 % of values, which are sorted; NaN are left out, and all NaN gives NaN. */
void nd_measure_interval(double *values, int count, double *lo, double *hi);

#endif
