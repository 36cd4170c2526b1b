/* The host's check of an SVD: it orders and signs good vectors and refuses bad ones. */
#include "tests/simt/compare.h"

#include <math.h>

extern "C" {
#include "cuda/svd_check.h"
#include "run/plugins.h"
}

void nd_test_svd() {
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
