/* Moments of patches, each against its definition. */
#include "decouple/fit/refit.h"
#include "decouple/fit/split.h"
#include "tests/unit/help/fit_help.h"

/* E|y - (w * x + b)|^2 / var y by running it, b the best one. */
static double measured_error(const nd_conv *conv, const double *w, int64_t n, const float *x,
                             const float *y) {
    int64_t in = conv->ni * conv->in_h * conv->in_w, area = nd_conv_out_h(conv) * nd_conv_out_w(conv);
    double *sum = nd_alloc_array((size_t)(4 * conv->no), sizeof *sum), error = 0, variance = 0;
    for (int64_t i = 0; i < n; i++) {
        double *image = help_widen(x + i * in, in), *one = help_run_conv(conv, w, NULL, image);
        for (int64_t e = 0; e < conv->no * area; e++) {
            double wanted = y[i * conv->no * area + e], rest = wanted - one[e], *s = sum + 4 * (e / area);
            s[0] += rest;
            s[1] += rest * rest;
            s[2] += wanted;
            s[3] += wanted * wanted;
        }
        free(image);
        free(one);
    }
    double pixels = (double)(n * area);
    for (int64_t o = 0; o < conv->no; o++) {
        error += sum[4 * o + 1] - sum[4 * o] * sum[4 * o] / pixels;
        variance += sum[4 * o + 3] - sum[4 * o + 2] * sum[4 * o + 2] / pixels;
    }
    free(sum);
    return error / variance;
}

Test(moments, tell_the_error_of_any_kernel) {
    for (int shape = 0; shape < help_n_shapes; shape++) {
        help_problem p = help_problem_open(shape);
        float *other = help_normals(help_kernel_size(&p.conv), 99);
        for (int64_t e = 0; e < help_kernel_size(&p.conv); e++) p.w[e] = p.conv.weights[e] + 0.2 * other[e];
        double told = 0, found = measured_error(&p.conv, p.w, help_images, p.x, p.y);
        OK(nd_moments_error(p.m, p.backend, &p.conv, p.w, NULL, &told));
        cr_expect_float_eq(told, found, 1e-4 * found + 1e-7, "%s: %g, measured %g", p.conv.name, told, found);
        nd_moments_ridge(p.m, &p.conv, 0.3);
        OK(nd_moments_error(p.m, p.backend, &p.conv, p.w, NULL, &told));
        cr_expect_float_eq(told, found, 1e-4 * found + 1e-7, "%s, ridged: %g", p.conv.name, told);
        free(other);
        help_problem_close(&p);
    }
}

/* Entry u of patch `pixel` of group g. */
static double patch_entry(const nd_conv *conv, const float *x, int64_t group, int64_t pixel, int64_t u) {
    const int64_t cols = conv->ni / conv->groups, out_w = nd_conv_out_w(conv);
    const int64_t y = pixel / out_w + u % 9 / 3 - 1, at = pixel % out_w + u % 3 - 1;
    if (y < 0 || y >= conv->in_h || at < 0 || at >= conv->in_w) return 0;
    return x[((group * cols + u / 9) * conv->in_h + y) * conv->in_w + at];
}

/* Moments by correlations of maps are those of the patches, at the borders and corners as well, however
 * images come. */
Test(moments, by_shifts_are_those_of_patches) {
    enum { some = 151, first_row = 5, step = 97 }; /* of the rows of g, which go through all taps */
    nd_backend *backend = help_backend();
    nd_conv conv = help_shapes[0];
    conv.ni = 128, conv.no = 2, conv.groups = 2, conv.in_h = 4, conv.in_w = 3;
    conv.weights = help_normals(help_kernel_size(&conv), 91);
    conv.bias = help_normals(conv.no, 92);
    cr_assert(nd_shifts_suit(&conv));
    const int64_t area = conv.in_h * conv.in_w;
    float *x = help_pictures(&conv, some, 9), *y = help_responses(&conv, x, some);
    nd_moments *m = help_moments(backend, &conv, some, x, y);
    double apart = 0, size = 0;
    for (int64_t row = first_row; row < m->groups * m->k; row += step)
        for (int64_t u = 0; u < m->k; u++) {
            const int64_t group = row / m->k;
            double sum = 0;
            for (int64_t p = 0; p < some * area; p++) {
                const float *image = x + p / area * conv.ni * area;
                sum += patch_entry(&conv, image, group, p % area, row % m->k) *
                       patch_entry(&conv, image, group, p % area, u);
            }
            sum = sum / (some * area) - m->mean_p[row] * m->mean_p[group * m->k + u];
            apart = fmax(apart, fabs(m->g[row * m->k + u] - sum));
            size = fmax(size, fabs(sum));
        }
    cr_expect(apart < 1e-6 * size, "%g of %g", apart, size);

    conv.window.pad[3] = 0;
    cr_expect_not(nd_shifts_suit(&conv));
    conv.window.pad[3] = 1;
    conv.window.stride[1] = 2;
    cr_expect_not(nd_shifts_suit(&conv));
    free(x);
    free(y);
    help_conv_free(&conv);
    nd_moments_free(m);
    nd_backend_close(backend);
}

/* What a layer makes of its patches need not be seen: from patches, from maps, and with a ridge, of which the
 * least-squares kernel, the layer's own, knows nothing. */
Test(moments, of_a_layers_own_output_follow_from_its_patches) {
    enum { some = 40 };
    nd_backend *backend = help_backend();
    for (int shape = 0; shape <= help_n_shapes; shape++) {
        nd_conv conv = help_conv(shape < help_n_shapes ? shape : 0, 31);
        if (shape == help_n_shapes) {
            help_conv_free(&conv);
            conv = help_shapes[0];
            conv.ni = 128, conv.no = 6, conv.groups = 2, conv.in_h = 5, conv.in_w = 4;
            conv.weights = help_normals(help_kernel_size(&conv), 91);
            conv.bias = help_normals(conv.no, 92);
            cr_assert(nd_shifts_suit(&conv));
        }
        float *x = help_pictures(&conv, some, 9), *y = help_responses(&conv, x, some);
        nd_moments *seen = help_moments(backend, &conv, some, x, y),
                   *own = help_moments(backend, &conv, some, x, NULL);
        const double *w = NULL;
        cr_expect_lt(help_apart(own->g, seen->g, own->groups * own->k * own->k), 1e-6, "%s", conv.name);
        cr_expect_lt(help_apart(own->h, seen->h, own->no * own->k), 1e-5, "%s", conv.name);
        cr_expect_lt(help_apart(own->mean_p, seen->mean_p, own->groups * own->k), 1e-6, "%s", conv.name);
        cr_expect_lt(help_apart(own->mean_y, seen->mean_y, own->no), 1e-5, "%s", conv.name);
        cr_expect_float_eq(own->vy, seen->vy, 1e-5 * seen->vy, "%s: %g, not %g", conv.name, own->vy,
                           seen->vy);
        nd_moments_ridge(own, &conv, 0.1);
        OK(nd_refit_kernel(backend, &conv, own, &w));
        for (int64_t e = 0; e < help_kernel_size(&conv); e++) cr_expect_eq(w[e], conv.weights[e]);
        free(x);
        free(y);
        help_conv_free(&conv);
        nd_moments_free(seen);
        nd_moments_free(own);
    }
    nd_backend_close(backend);
}

/* Large maps under a limit: how images are cut into blocks does not matter, the drawn pixels stand for all,
 * and targets are those of the patches, of a second target as well. */
Test(moments, a_limit_takes_pixels_from_every_image) {
    enum { some = 40 };
    nd_backend *backend = help_backend();
    for (int groups = 1; groups <= 2; groups++) {
        nd_conv conv = help_conv(0, 77);
        conv.ni = 2, conv.no = 4, conv.groups = groups, conv.in_h = 25, conv.in_w = 22;
        const int64_t in = conv.ni * conv.in_h * conv.in_w;
        const int64_t area = nd_conv_out_h(&conv) * nd_conv_out_w(&conv), out = conv.no * area;
        float *x = help_pictures(&conv, some, 3), *y = help_responses(&conv, x, some);
        double *w = help_widen(conv.weights, help_kernel_size(&conv)), error = 1;
        nd_moments *all = help_moments(backend, &conv, some, x, y), *m[2], *again = NULL;
        for (int cut = 0; cut < 2; cut++) {
            const int64_t block = cut ? some : 7;
            OK(nd_moments_new(&conv, &m[cut]));
            nd_moments_limit(m[cut], &conv, some);
            for (int64_t i = 0; i < some; i += block) {
                const int64_t n = some - i < block ? some - i : block;
                OK(nd_moments_add(m[cut], backend, &conv, i, n, x + i * in, y + i * out));
            }
            OK(nd_moments_finish(m[cut], backend, &conv));
        }
        cr_expect(m[0]->pixels >= 200.0 * (double)m[0]->k && m[0]->pixels < 205.0 * (double)m[0]->k + some);
        cr_expect_lt(m[0]->pixels, 0.7 * all->pixels);
        double apart = 0, far = 0, size = 0;
        for (int64_t e = 0; e < m[0]->groups * m[0]->k * m[0]->k; e++) {
            apart += pow(m[0]->g[e] - m[1]->g[e], 2);
            far += pow(m[0]->g[e] - all->g[e], 2);
            size += pow(all->g[e], 2);
        }
        cr_expect(apart == 0 && far < 0.01 * size, "%g, %g of %g", apart, far, size);
        cr_expect_gt(far, 1e-10 * size);
        OK(nd_moments_error(m[0], backend, &conv, w, NULL, &error));
        cr_expect_lt(error, 1e-6, "a target of another pixel: %g", error);

        for (int64_t e = 0; e < some * out; e++) y[e] *= 2;
        OK(nd_moments_new_targets(&conv, &again));
        again->limit = m[0]->limit;
        OK(nd_moments_add(again, backend, &conv, 0, some, x, y));
        OK(nd_moments_retarget(m[0], backend, &conv, again));
        for (int64_t e = 0; e < help_kernel_size(&conv); e++) w[e] *= 2;
        OK(nd_moments_error(m[0], backend, &conv, w, NULL, &error));
        cr_expect_lt(error, 1e-6, "a second target of another pixel: %g", error);
        nd_moments_free(again);
        nd_moments_free(m[0]);
        nd_moments_free(m[1]);
        nd_moments_free(all);
        free(x);
        free(y);
        free(w);
        help_conv_free(&conv);
    }
    nd_backend_close(backend);
}

/* Where enough pixels are fewer than there are and maps are faster, whole images count, as many of those that
 * are held out as of the others, whatever blocks they come in; a second target is of the same ones. */
Test(moments, by_maps_are_limited_to_a_share_of_the_images) {
    enum { some = 192, alike = 8 };
    nd_backend *backend = NULL; /* 7 G multiply-accumulates */
    if (nd_backend_open("cpu", &(nd_backend_settings){0}, &backend)) cr_skip_test("no cpu backend");
    nd_conv conv = help_shapes[0];
    conv.ni = 64, conv.no = 2, conv.in_h = conv.in_w = 28;
    conv.weights = help_normals(help_kernel_size(&conv), 91);
    conv.bias = help_normals(conv.no, 92);
    const int64_t in = conv.ni * conv.in_h * conv.in_w, area = conv.in_h * conv.in_w, out = conv.no * area;
    float *few = help_pictures(&conv, alike, 9), *y_few = help_responses(&conv, few, alike);
    float *x = nd_alloc_array(some, (size_t)in * sizeof *x),
          *y = nd_alloc_array(some, (size_t)out * sizeof *y);
    nd_split splits[2];
    cr_assert(x && y);
    for (int64_t i = 0; i < some; i++) {
        memcpy(x + i * in, few + i % alike * in, (size_t)in * sizeof *x);
        memcpy(y + i * out, y_few + i % alike * out, (size_t)out * sizeof *y);
    }
    for (int cut = 0; cut < 2; cut++) {
        const int64_t block = cut ? 32 : 8;
        OK(nd_split_open(&conv, some, &splits[cut]));
        cr_assert_eq(splits[cut].fit->limit.per_image, 0);
        cr_assert(splits[cut].fit->limit.share > 0.2 && splits[cut].fit->limit.share < 0.4);
        for (int64_t i = 0; i < some; i += block)
            OK(nd_split_add(&splits[cut], backend, &conv, block, x + i * in, y + i * out));
        OK(nd_moments_finish(splits[cut].fit, backend, &conv));
        OK(nd_moments_finish(splits[cut].held, backend, &conv));
        const double fit = splits[cut].fit->pixels / area, held = splits[cut].held->pixels / area;
        cr_expect(fit + held >= 145 && fit + held <= 149, "%g and %g images", fit, held);
        cr_expect(held >= 0.22 * (fit + held) && held <= 0.28 * (fit + held), "%g and %g images", fit, held);
    }
    /* Of thousands that were said to come, these did: all of them count. */
    nd_split early;
    OK(nd_split_open(&conv, 2000, &early));
    cr_assert_lt(early.fit->limit.share, 0.1);
    OK(nd_split_add(&early, backend, &conv, 8, x, y));
    OK(nd_split_finish(&early, backend, &conv, 0));
    cr_expect(early.fit->pixels == 6 * area && early.held->pixels == 2 * area);
    nd_split_close(&early);

    nd_moments *m = NULL, *again = NULL;
    double *w = help_widen(conv.weights, help_kernel_size(&conv)), error = 1;
    OK(nd_moments_new(&conv, &m));
    nd_moments_limit(m, &conv, some);
    OK(nd_moments_add(m, backend, &conv, 0, some, x, y));
    OK(nd_moments_finish(m, backend, &conv));
    for (int64_t e = 0; e < some * out; e++) y[e] *= 2;
    for (int64_t e = 0; e < help_kernel_size(&conv); e++) w[e] *= 2;
    OK(nd_moments_new_targets(&conv, &again));
    again->limit = m->limit;
    for (int64_t i = 0; i < some; i += 24)
        OK(nd_moments_add(again, backend, &conv, i, 24, x + i * in, y + i * out));
    OK(nd_moments_retarget(m, backend, &conv, again));
    OK(nd_moments_error(m, backend, &conv, w, NULL, &error));
    cr_expect_lt(error, 1e-5, "a second target of other images: %g", error);
    nd_split_close(&splits[0]);
    nd_split_close(&splits[1]);
    nd_moments_free(m);
    nd_moments_free(again);
    free(x);
    free(y);
    free(few);
    free(y_few);
    free(w);
    help_conv_free(&conv);
    nd_backend_close(backend);
}
