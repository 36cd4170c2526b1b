/* The SVD kernel against ref, and the host's check of any algorithm: it orders and signs good vectors,
 * refuses bad ones. */
#include "cuda/kernels/svd.h"
#include "tests/simt/compare.h"

#include <math.h>

extern "C" {
#include "cuda/kernels/svd_check.h"
#include "run/plugins.h"
}

static void nd_test_svd_check() {
    const int64_t m = 20, n = 9;
    const std::vector<float> a = nd_test_reals((size_t)(m * n), -1, 1, 5);
    std::vector<double> sigma((size_t)n), v((size_t)(n * n)), got((size_t)n), turned;
    double residual = 0;
    nd_test_expect(!nd_ref_linalg.svd(nullptr, 1, m, n, a.data(), sigma.data(), v.data()),
                   "the reference svd runs");
    for (int64_t k = n; k-- > 0;) /* rows reversed and negated */
        for (int64_t i = 0; i < n; i++) turned.push_back(-v[(size_t)(k * n + i)]);
    nd_test_expect(nd_svd_finish(m, n, a.data(), got.data(), turned.data(), &residual), "good vectors pass");
    bool equal = true;
    for (size_t i = 0; i < v.size(); i++) equal = equal && fabs(turned[i] - v[i]) < 1e-12;
    for (size_t i = 0; i < sigma.size(); i++) equal = equal && fabs(got[i] - sigma[i]) < 1e-10;
    nd_test_expect(equal, "order and signs are the contract's");
    std::vector<double> identity((size_t)(n * n));
    for (int64_t i = 0; i < n; i++) identity[(size_t)(i * n + i)] = 1;
    nd_test_expect(!nd_svd_finish(m, n, a.data(), got.data(), identity.data(), &residual) && residual > 1e-3,
                   "orthonormal vectors that are not singular are refused");
    std::vector<double> nan((size_t)(n * n), NAN);
    nd_test_expect(!nd_svd_finish(m, n, a.data(), got.data(), nan.data(), &residual), "NaN is refused");
    const std::vector<float> zero((size_t)(m * n));
    nd_test_expect(nd_svd_finish(m, n, zero.data(), got.data(), nan.data(), &residual) && nan == identity &&
                       got[0] == 0,
                   "a zero slice is the identity, whatever the library made of it");
}

/* Slices of every kind in one batch: plain, zero, of rank 1, with equal columns, graded over seven orders of
 * magnitude, and all of one value. */
static std::vector<float> nd_test_slices(int64_t m, int64_t n) {
    std::vector<float> all;
    for (int kind = 0; kind < 6; kind++) {
        std::vector<float> a = nd_test_reals((size_t)(m * n), -1, 1, 11 + (uint64_t)kind);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                float &x = a[(size_t)(i * n + j)];
                if (kind == 1) x = 0;
                if (kind == 2) x = a[(size_t)(i * n)] * (float)(j + 1);
                if (kind == 3 && j >= n / 2) x = a[(size_t)(i * n + j - n / 2)];
                if (kind == 4) x *= powf(10, -7 * (float)j / (float)n);
                if (kind == 5) x = 0.5f;
            }
        all.insert(all.end(), a.begin(), a.end());
    }
    return all;
}

/* What the plugin does with a slice's vectors; the largest |sigma - sigma_ref| / sigma_ref[0],
 * or infinity. */
static double nd_test_finished(int64_t m, int64_t n, const float *a, const double *sigma_ref, double *v) {
    std::vector<double> sigma((size_t)n);
    double residual = 0, worst = 0;
    if (!nd_svd_finish(m, n, a, sigma.data(), v, &residual)) return INFINITY;
    for (int64_t k = 0; k < n; k++) {
        const double off = fabs(sigma[(size_t)k] - sigma_ref[k]);
        worst = fmax(worst, sigma_ref[0] > 0 ? off / sigma_ref[0] : off);
    }
    return worst;
}

static bool nd_test_svd_is_right(int64_t m, int64_t n, const std::vector<float> &a) {
    const int64_t batch = (int64_t)a.size() / (m * n);
    std::vector<double> sigma((size_t)(batch * n)), v_ref((size_t)(batch * n * n)), v(v_ref.size(), NAN);
    if (nd_ref_linalg.svd(nullptr, batch, m, n, a.data(), sigma.data(), v_ref.data())) return false;
    if (nd_cuda_svd_launch(batch, m, n, a.data(), v.data(), nullptr)) return false;
    for (int64_t i = 0; i < n * n; i++)
        if (v[(size_t)(n * n + i)] != (i / n == i % n))
            return false; /* the zero slice: the identity itself */
    /* A zero singular value is the root of rounding, 1e-8 of the largest, on either side. */
    for (int64_t slice = 0; slice < batch; slice++)
        if (!(nd_test_finished(m, n, &a[(size_t)(slice * m * n)], &sigma[(size_t)(slice * n)],
                               &v[(size_t)(slice * n * n)]) < (slice ? 1e-7 : 1e-12)))
            return false;
    for (int64_t i = 0; m >= n && i < n * n; i++) /* singular values of the plain slice lie apart */
        if (fabs(v[(size_t)i] - v_ref[(size_t)i]) > 1e-5) return false;
    return true;
}

static void nd_test_svd_kernel(int64_t m, int64_t n) {
    const std::vector<float> a = nd_test_slices(m, n);
    const std::string what = "svd of " + std::to_string(m) + "x" + std::to_string(n) + " slices";
    for (int order = 0; order < nd_simt_order_count; order++) {
        nd_simt_set_order((nd_simt_order)order, 3);
        nd_test_expect(nd_test_svd_is_right(m, n, a), what.c_str());
    }
}

/* 60 rows of 9: one tile. Its two barriers, the one of the sum, and two for each of 3 rounds. */
static void nd_test_svd_races() {
    const std::vector<float> a = nd_test_slices(60, 9);
    for (int barrier = 0; barrier < 9; barrier++) {
        bool seen = false;
        nd_simt_leave_out(nd_simt_sync_block, barrier);
        for (int order = 0; order < nd_simt_order_count; order++) {
            nd_simt_set_order((nd_simt_order)order, 3);
            seen = seen || !nd_test_svd_is_right(60, 9, a);
        }
        nd_simt_leave_out(nd_simt_sync_none, 0);
        nd_test_expect(seen, ("svd: barrier " + std::to_string(barrier) + " is missed").c_str());
    }
}

static void nd_test_svd_not_finite() {
    std::vector<float> a = nd_test_reals(60 * 9, -1, 1, 5);
    std::vector<double> v(81), sigma(9);
    double residual = 0;
    for (float bad : {NAN, INFINITY}) {
        a[100] = bad;
        nd_test_expect(!nd_cuda_svd_launch(1, 60, 9, a.data(), v.data(), nullptr) &&
                           !nd_svd_finish(60, 9, a.data(), sigma.data(), v.data(), &residual),
                       "svd: a slice that is no number ends, and does not pass");
    }
}

void nd_test_svd() {
    static const int64_t shapes[][2] = {{512, 9}, {64, 9},  {3, 9},   {128, 25}, {64, 49}, {20, 49}, {257, 1},
                                        {7, 2},   {30, 16}, {40, 17}, {64, 64},  {1, 9},   {1, 1}};
    nd_test_svd_check();
    for (const auto &shape : shapes) nd_test_svd_kernel(shape[0], shape[1]);
    nd_test_svd_races();
    nd_test_svd_not_finite();
}
