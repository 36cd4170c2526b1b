#include "run/backend.h"

#include <math.h>

static float clamp(float x, float lo, float hi) {
    return fminf(fmaxf(x, lo), hi);
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
    case nd_act_none:
    case nd_act_count:
        break;
    }
    return x;
}
