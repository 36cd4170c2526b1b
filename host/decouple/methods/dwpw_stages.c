#include "decouple/methods/dwpw.h"

#include <math.h>

nd_status nd_dwpw_layout(const nd_conv *conv, const int32_t *kept, int64_t rank, nd_chain *out) {
    bool same = true;
    for (int64_t i = 1; i < conv->ni; i++) same = same && kept[i] == kept[0];
    nd_stage *stage = NULL;
    nd_window pointwise = nd_window_pointwise();
    if (same) {
        ND_TRY(nd_chain_add(out, ".dw", &conv->window, rank, conv->ni, conv->ni, false, &stage));
    } else {
        ND_TRY(nd_chain_add(out, ".dw", &conv->window, rank, rank, rank, true, &stage));
        int64_t r = 0;
        for (int64_t i = 0; i < conv->ni; i++)
            for (int32_t t = 0; t < kept[i]; t++) stage->channel[r++] = (int32_t)i;
    }
    ND_TRY(nd_chain_add(out, ".pw", &pointwise, conv->no, rank, conv->groups, false, &stage));
    return nd_chain_set_bias(out, conv->bias);
}

static double norm(const float *x, int64_t n, int64_t stride) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i * stride] * x[i * stride];
    return sqrt(sum);
}

static void scale(float *x, int64_t n, int64_t stride, double factor) {
    for (int64_t i = 0; i < n; i++) x[i * stride] = (float)(x[i * stride] * factor);
}

void nd_dwpw_balance(nd_chain *chain) {
    nd_stage *dw = &chain->stages[0], *pw = &chain->stages[1];
    int64_t taps = dw->window.kernel[0] * dw->window.kernel[1];
    int64_t per_group = pw->ni / pw->groups, rows = pw->no / pw->groups;
    for (int64_t r = 0; r < dw->no; r++) {
        float *filter = dw->weights + r * taps;
        float *column = pw->weights + r / per_group * rows * per_group + r % per_group;
        int64_t largest = 0;
        for (int64_t t = 1; t < taps; t++)
            if (fabsf(filter[t]) > fabsf(filter[largest])) largest = t;
        double a = norm(filter, taps, 1), b = norm(column, rows, per_group);
        double sign = filter[largest] < 0 ? -1 : 1, even = a > 0 && b > 0 ? sqrt(a * b) : 0;
        scale(filter, taps, 1, a > 0 ? sign * even / a : 0);
        scale(column, rows, per_group, b > 0 ? sign * even / b : 0);
    }
}
