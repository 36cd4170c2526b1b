#include "run/backend.h"

#include <math.h>

float nd_pairing_apply(nd_pairing pairing, float a, float b) {
    switch (pairing) {
    case nd_pairing_add:
        return a + b;
    case nd_pairing_mul:
        return a * b;
    case nd_pairing_sub:
        return a - b;
    case nd_pairing_div:
        return a / b;
    case nd_pairing_pow:
        return powf(a, b);
    case nd_pairing_min:
        return a < b || a != a ? a : b; /* a number that is none stays, as in numpy */
    case nd_pairing_max:
        return a > b || a != a ? a : b;
    case nd_pairing_prelu:
        return a < 0 ? a * b : a;
    case nd_pairing_keep:
        return b != 0 ? a : 0;
    case nd_pairing_drop:
        return b != 0 ? 0 : a;
    case nd_pairing_equal:
        return a == b;
    case nd_pairing_less:
        return a < b;
    case nd_pairing_less_equal:
        return a <= b;
    case nd_pairing_count:
        break;
    }
    return 0;
}
