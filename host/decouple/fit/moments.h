/* Second moments of a layer's patches and of its target: all the data that choosing, fitting and judging a
 * chain needs (method.md, "Moments" and "Ridge").
 *
 * A patch p of a group has k = ni/groups * kh * kw entries, channel-major (index i*kh*kw + tap), zeros where
 * the window hangs over the border. Moments are centred, so the bias never enters the solves:
 *   g[groups][k][k] = E[p p^T] - mean_p mean_p^T         h[no][k] = E[y p^T] - mean_y mean_p^T
 * with y the wanted output before the activation, bias included. Of a product without a bias they are not
 * centred: the means are 0, and vy is E|y|^2. */
#ifndef ND_DECOUPLE_MOMENTS_H
#define ND_DECOUPLE_MOMENTS_H

#include "decouple/fit/patches.h"
#include "decouple/fit/shifts.h"
#include "run/backend.h"

typedef struct nd_finds nd_finds;

/* What counts of the images that are added. */
typedef struct nd_pixel_limit {
    double share;      /* of the images after the first 128 */
    int64_t per_image; /* pixels of each; 0 = all */
} nd_pixel_limit;

typedef struct nd_moments {
    int64_t groups, k, no;
    double pixels;        /* output pixels that counted */
    nd_pixel_limit limit; /* none at first */
    double *g, *h;
    double *mean_p, *mean_y; /* [groups][k], [no] */
    double *squares;         /* [no]: sums of y^2, until nd_moments_finish */
    double *ridge;           /* [groups]: what nd_moments_ridge added to the diagonal */
    bool unbiased;           /* not centred */
    bool own;                /* the target is what the layer itself makes of the patches: h = W g */
    double vy;               /* E|y|^2 - |E y|^2 */
    /* [groups][no/groups][no/groups] root of the output metric, or NULL: borrowed
     * (decouple/calib/output_metric.h). It decides which filters live; the last refit uses h alone. */
    const double *metric;
    nd_patches waiting; /* rows that are not in the sums yet */
    nd_shifts *shifts;  /* g until nd_moments_finish, where maps are faster to sum than patches; or NULL */
    nd_finds *finds;    /* from them (decouple/fit/found.h) */
} nd_moments;

nd_status nd_moments_new(const nd_conv *conv, nd_moments **out);
void nd_moments_free(nd_moments *moments); /* NULL is legal */

/* For `images` images to come, before the first nd_moments_add: so many pixels of each that there are 200 for
 * each of the k unknowns of an output, or, where those take less time by maps, all pixels of so many images,
 * 128 at least. More add nothing but time (method.md, "Moments"). */
void nd_moments_limit(nd_moments *moments, const nd_conv *conv, int64_t images);

/* Adds n images, numbered from `first`: x[n][ni][in_h][in_w], y[n][no][out_h][out_w]. However images are cut
 * into calls, the same patches are summed together, a block at a time. y NULL, every time: the target is the
 * layer's own output, whose moments follow from those of the patches. Under a limit the number of an image
 * says whether it counts, and its pixels are one of each of per_image equal parts of the output, at a place
 * drawn by that number: the same ones for every target. */
nd_status nd_moments_add(nd_moments *moments, nd_backend *backend, const nd_conv *conv, int64_t first,
                         int64_t n, const float *x, const float *y);

/* Moments of another target of the same patches: nd_moments_add leaves g alone (it is NULL), and
 * nd_moments_retarget, after the last add, puts h, mean_y and vy of `targets` into `moments`, ridge included.
 */
nd_status nd_moments_new_targets(const nd_conv *conv, nd_moments **out);
nd_status nd_moments_retarget(nd_moments *moments, nd_backend *backend, const nd_conv *conv,
                              nd_moments *targets);

/* Sums to centred means. Once, after the last nd_moments_add. */
nd_status nd_moments_finish(nd_moments *moments, nd_backend *backend, const nd_conv *conv);

/* The moments of the images of both into the first; both finished and without ridge. nd_moments_unridge takes
 * out what nd_moments_ridge has added. */
void nd_moments_unridge(nd_moments *moments, const nd_conv *conv);
void nd_moments_pool(nd_moments *moments, const nd_moments *more);

/* Ridge towards the original weights: g += l I, h += l W with l = lambda * trace(g) / k, in place of the one
 * before. Makes g positive definite; dead and duplicated channels keep their weights. lambda <= 0 is the
 * usual one for the pixels per unknown: 0.01 from 25 on, 0.1 from 10 on, else 1 (method.md, "Ridge"). Returns
 * the lambda used. */
double nd_moments_usual_ridge(double per_unknown);
double nd_moments_ridge(nd_moments *moments, const nd_conv *conv, double lambda);

/* out[no][columns] = metric x for x[no][columns], such as h or a kernel; x where there is no metric. */
nd_status nd_moments_weigh(const nd_moments *moments, nd_backend *backend, int64_t columns, const double *x,
                           double *out);

/* Output error of a kernel w[no][k], relative to the variance of the target:
 * (vy - 2<w,h> + <w g, w> + |mean_y - w mean_p - bias|^2) / vy, the ridge taken out again. NULL is the best
 * bias, whose term is 0. 0 where the target does not vary. */
nd_status nd_moments_error(const nd_moments *moments, nd_backend *backend, const nd_conv *conv,
                           const double *w, const float *bias, double *error);
/* The same where <w g, w>, ridge included, is known. */
double nd_moments_error_of(const nd_moments *moments, const nd_conv *conv, const double *w, const float *bias,
                           double wgw);

#endif
