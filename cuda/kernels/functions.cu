/* Functions of one number and powers, on their own: what number.cuh has is carried by every kernel's
 * epilogue, and these would cost all of them registers and a stack. Elementwise over any views as in
 * elementwise.cuh; the functions are those of nd_activation_apply, one after the other in one kernel. */
#include "cuda/kernels/elementwise.cuh"

/* sin(x), or of a quarter turn more. The library's reduction of large angles keeps a stack. Here x less its
 * multiple of pi/2, which has three parts of 53 bits, is exact to an ulp of fp32 below 2^48; of larger
 * angles, whose neighbours in fp32 are whole turns apart, the result means nothing. What is left is at most
 * pi/4: Taylor's polynomials are good to 2e-9. */
__device__ static float nd_sine(float x, int quarters) {
    const double turns = rint((double)x * 0.63661977236758134308);
    double r = fma(-turns, 1.57079632679489655800, (double)x);
    r = fma(-turns, 6.12323399573676603587e-17, r);
    r = fma(-turns, -1.49738490485916983204e-33, r);
    const int quarter = (int)((long long)turns & 3) + quarters;
    const float z = (float)r, z2 = z * z;
    const float sine =
        fmaf(fmaf(fmaf(fmaf(z2, 2.7557319e-6f, -1.9841270e-4f), z2, 8.3333333e-3f), z2, -1.6666667e-1f),
             z2 * z, z);
    const float cosine =
        fmaf(fmaf(fmaf(fmaf(fmaf(z2, -2.7557319e-7f, 2.4801587e-5f), z2, -1.3888889e-3f), z2, 4.1666667e-2f),
                  z2, -0.5f),
             z2, 1.0f);
    const float value = quarter & 1 ? cosine : sine;
    return quarter & 2 ? -value : value;
}

__device__ static float nd_softplus(float x) {
    return fmaxf(x, 0) + log1pf(expf(-fabsf(x)));
}

__device__ static float nd_function(const nd_activation &activation, float x) {
    const float a = activation.a, b = activation.b;
    switch (activation.act) {
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
        return nd_sine(x, 0);
    case nd_act_cos:
        return nd_sine(x, 1);
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
        return nd_softplus(x);
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
        return x * tanhf(nd_softplus(x));
    case nd_act_gelu:
        return x / 2 * erfcf(-0.70710678118654752f * x);
    case nd_act_gelu_tanh: /* the tangent within is a logistic function */
        return x / (1 + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
    default:
        return nd_activate(activation, x);
    }
}

struct nd_function_of {
    static constexpr int operands = 1;
    nd_activation activation;
    __device__ float operator()(float a, float, int64_t) const {
        return nd_function(activation, a);
    }
};

nd_status nd_cuda_function_launch(const nd_cuda_call *call) {
    return nd_loop_call(call, nd_function_of{call->work->activation});
}

struct nd_power {
    static constexpr int operands = 2;
    nd_activation activation;
    __device__ float operator()(float a, float b, int64_t) const {
        return nd_activate(activation, powf(a, b));
    }
};

nd_status nd_cuda_power_launch(const nd_cuda_call *call) {
    return nd_loop_call(call, nd_power{call->work->activation});
}
