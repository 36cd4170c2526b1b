#include "run/backend.h"

#include <math.h>

static float clamp(float x, float lo, float hi) {
    return fminf(fmaxf(x, lo), hi);
}

static float softplus(float x) {
    return fmaxf(x, 0) + log1pf(expf(-fabsf(x)));
}

/* The hyperbolic tangent within is a logistic function: no difference of close numbers is left. */
static float gelu_tanh(float x) {
    return x / (1 + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
}

float nd_activation_apply(nd_activation activation, float x) {
    const float a = activation.a, b = activation.b;
    switch (activation.act) {
    case nd_act_relu:
        return x > 0 ? x : 0;
    case nd_act_clip:
        return clamp(x, a, b);
    case nd_act_leaky_relu:
        return x < 0 ? a * x : x;
    case nd_act_sigmoid:
        return 1 / (1 + expf(-x));
    case nd_act_hard_sigmoid:
        return clamp(a * x + b, 0, 1);
    case nd_act_hard_swish:
        return x * clamp(x / 6 + 0.5f, 0, 1);
    case nd_act_abs:
        return fabsf(x);
    case nd_act_neg:
        return -x;
    case nd_act_reciprocal:
        return 1 / x;
    case nd_act_sqrt:
        return sqrtf(x);
    case nd_act_exp:
        return expf(x);
    case nd_act_log:
        return logf(x);
    case nd_act_sin:
        return sinf(x);
    case nd_act_cos:
        return cosf(x);
    case nd_act_tanh:
        return tanhf(x);
    case nd_act_erf:
        return erff(x);
    case nd_act_floor:
        return floorf(x);
    case nd_act_ceil:
        return ceilf(x);
    case nd_act_round:
        return rintf(x);
    case nd_act_sign:
        return (float)((x > 0) - (x < 0));
    case nd_act_softplus:
        return softplus(x);
    case nd_act_softsign:
        return x / (1 + fabsf(x));
    case nd_act_elu:
        return b * (x < 0 ? a * expm1f(x) : x);
    case nd_act_celu:
        return x < 0 ? a * expm1f(x / a) : x;
    case nd_act_threshold:
        return x > a ? x : 0;
    case nd_act_swish:
        return x / (1 + expf(-a * x));
    case nd_act_mish:
        return x * tanhf(softplus(x));
    case nd_act_gelu:
        return x / 2 * erfcf(-0.70710678118654752f * x);
    case nd_act_gelu_tanh:
        return gelu_tanh(x);
    case nd_act_none:
    case nd_act_count:
        break;
    }
    return x;
}
