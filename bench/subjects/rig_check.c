#include "bench/subjects/rig_check.h"

#include <math.h>
#include <stdlib.h>

/* The inputs of one window position: from the image, or from the stage before. */
static nd_status window_inputs(const nd_conv *stages, int n, const float *image, int64_t y, int64_t x,
                               double *value, double *scale) {
    const nd_conv *stage = &stages[n - 1];
    bool inside = y >= 0 && y < stage->in_h && x >= 0 && x < stage->in_w;
    if (inside && n > 1) return nd_rig_evaluate(stages, n - 1, image, y, x, value, scale);
    for (int64_t i = 0; i < stage->ni; i++) {
        value[i] = inside ? image[(i * stage->in_h + y) * stage->in_w + x] : 0;
        scale[i] = fabs(value[i]);
    }
    return nd_status_ok;
}

static void add_window(const nd_conv *stage, int64_t tap, const double *value, const double *scale,
                       double *sum, double *magnitude) {
    int64_t taps = nd_conv_taps(stage);
    int64_t ni = stage->ni / stage->groups, no = stage->no / stage->groups;
    for (int64_t o = 0; o < stage->no; o++) {
        int64_t first = o / no * ni;
        for (int64_t i = 0; i < ni; i++) {
            double w = stage->weights[(o * ni + i) * taps + tap];
            sum[o] += w * value[first + i];
            magnitude[o] += fabs(w) * scale[first + i];
        }
    }
}

nd_status nd_rig_evaluate(const nd_conv *stages, int n, const float *image, int64_t y, int64_t x,
                          double *value, double *scale) {
    const nd_conv *stage = &stages[n - 1];
    const nd_window *g = &stage->window;
    double *inputs = malloc(2 * (size_t)stage->ni * sizeof *inputs);
    ND_REQUIRE(inputs, nd_status_memory, "bench: out of memory");
    for (int64_t o = 0; o < stage->no; o++) {
        value[o] = stage->bias ? stage->bias[o] : 0;
        scale[o] = fabs(value[o]);
    }
    nd_status status = nd_status_ok;
    for (int64_t r = 0; r < g->kernel[0] && !status; r++)
        for (int64_t s = 0; s < g->kernel[1] && !status; s++) {
            status =
                window_inputs(stages, n, image, y * g->stride[0] - g->pad[0] + r * g->dilation[0],
                              x * g->stride[1] - g->pad[1] + s * g->dilation[1], inputs, inputs + stage->ni);
            if (!status) add_window(stage, r * g->kernel[1] + s, inputs, inputs + stage->ni, value, scale);
        }
    free(inputs);
    return status;
}

/* Operands are rounded once each, products are exact in fp32 but for strict fp32, and every addition rounds
 * to fp32: the classical bound length * u on a sum, u = 2^-24. */
double nd_rig_rounding(nd_precision precision, int64_t length) {
    static const double operand[nd_precision_count] = {
        [nd_precision_fp32] = 0x1p-24,
        [nd_precision_tf32] = 0x1p-11,
        [nd_precision_fp16] = 0x1p-11,
        [nd_precision_bf16] = 0x1p-8,
    };
    return 3 * operand[precision] + (double)length * 0x1p-24;
}
