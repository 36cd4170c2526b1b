#include "decouple/methods/pwdw.h"

#include <math.h>

int64_t nd_pwdw_full(const nd_conv *conv) {
    int64_t cols = conv->ni / conv->groups, taps = nd_conv_taps(conv);
    return cols < taps ? cols : taps;
}

int64_t nd_pwdw_cap(const nd_conv *conv, nd_ranks ranks, int64_t rank) {
    int64_t mean = (rank + conv->no - 1) / conv->no, full = nd_pwdw_full(conv);
    int64_t cap = ranks == nd_ranks_uniform ? mean : 2 * mean;
    return cap < full ? cap : full;
}

nd_status nd_pwdw_layout(const nd_conv *conv, const int32_t *kept, int64_t rank, nd_chain *out) {
    bool same = true;
    for (int64_t o = 1; o < conv->no; o++) same = same && kept[o] == kept[0];
    int64_t width = same ? kept[0] : nd_pwdw_cap(conv, nd_ranks_adaptive, rank);
    nd_stage *stage = NULL;
    nd_window pointwise = nd_window_pointwise();
    ND_TRY(nd_chain_add(out, ".pw", &pointwise, rank, conv->ni, conv->groups, false, &stage));
    ND_TRY(nd_chain_add(out, ".dw", &conv->window, conv->no, conv->no * width, conv->no, !same, &stage));
    for (int64_t o = 0, t = 0; !same && o < conv->no; t += kept[o], o++)
        for (int64_t k = 0; k < width; k++)
            stage->channel[o * width + k] = (int32_t)(k < kept[o] ? t + k : t < rank ? t : rank - 1);
    return nd_chain_set_bias(out, conv->bias);
}

void nd_pwdw_set(nd_chain *chain, int64_t o, int64_t k, int64_t t, const double *u, const double *v) {
    nd_stage *pw = &chain->stages[0], *dw = &chain->stages[1];
    int64_t taps = dw->window.kernel[0] * dw->window.kernel[1];
    int64_t cols = pw->ni / pw->groups, width = dw->ni / dw->no, largest = 0;
    double a = 0, b = 0;
    for (int64_t i = 0; i < cols; i++) a += u[i] * u[i];
    for (int64_t s = 0; s < taps; s++) {
        b += v[s] * v[s];
        if (fabs(v[s]) > fabs(v[largest])) largest = s;
    }
    a = sqrt(a);
    b = sqrt(b);
    double even = a > 0 && b > 0 ? sqrt(a * b) * (v[largest] < 0 ? -1 : 1) : 0;
    for (int64_t i = 0; i < cols; i++) pw->weights[t * cols + i] = a > 0 ? (float)(u[i] * even / a) : 0;
    float *filter = dw->weights + (o * width + k) * taps;
    for (int64_t s = 0; s < taps; s++) filter[s] = b > 0 ? (float)(v[s] * even / b) : 0;
}
