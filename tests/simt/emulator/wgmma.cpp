/* wgmma: c (64xN) = a (64xK) b (NxK)^T + c from matrices in shared memory that descriptors name, as the PTX
 * ISA has them in "Asynchronous warpgroup level matrix multiply-accumulate". K is 32 bytes of a row. */
#include "cuda/kernels/ptx_sm90a.cuh"
#include "tests/simt/emulator/element.h"

enum { nd_wgmma_step = 32, nd_wgmma_words = nd_wgmma_step / 4 };

struct nd_wgmma_matrix {
    uint32_t start, stride; /* bytes; from one group of 8 rows to the next */
    uint32_t row, mask;     /* bytes of a row, chunks that its swizzle permutes less one */
};

static bool nd_wgmma_matrix_of(uint64_t descriptor, nd_wgmma_matrix &matrix) {
    const unsigned layout = (unsigned)(descriptor >> 62);
    matrix.start = (uint32_t)(descriptor & 0x3fff) << 4;
    matrix.stride = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    matrix.row = layout == 1 ? 128 : 64;
    matrix.mask = layout == 1 ? 7 : 3;
    const bool known = layout == 1 || layout == 2, based = descriptor >> 49 & 7;
    return known && !based && matrix.start % matrix.row + nd_wgmma_step <= matrix.row;
}

/* The words of one row that a step takes. */
static bool nd_wgmma_row(const nd_wgmma_matrix &matrix, int row, uint32_t (&words)[nd_wgmma_words]) {
    const unsigned char *from = nd_simt_async_now();
    const uint32_t begin = nd_ptx_shared_address(nd_simt_shared());
    for (int i = 0; i < nd_wgmma_words; i++) {
        uint32_t at = matrix.start + (uint32_t)(row / 8) * matrix.stride + (uint32_t)(row % 8) * matrix.row +
                      4 * (uint32_t)i;
        at ^= (at >> 7 & matrix.mask) << 4;
        if (at < begin || !nd_simt_is_shared(nd_simt_shared() + (at - begin), 4)) return false;
        memcpy(&words[i], from + (at - begin), 4);
    }
    return true;
}

template <int per, auto element, class Sum>
static bool nd_wgmma_numbers(const nd_wgmma_matrix &matrix, int row, Sum (&numbers)[per * nd_wgmma_words]) {
    uint32_t words[nd_wgmma_words];
    if (!nd_wgmma_row(matrix, row, words)) return false;
    for (int k = 0; k < per * nd_wgmma_words; k++) numbers[k] = element(words[k / per], k % per);
    return true;
}

/* A thread's share: of rows lane / 4 and 8 more of its warp's 16, columns 2 (lane % 4) and the next of
 * every 8. */
template <int per, auto left_of, auto right_of, class Sum>
static void nd_wgmma_share(Sum (*c)[4], int columns, const nd_wgmma_matrix &a, const nd_wgmma_matrix &b,
                           bool add, unsigned thread) {
    Sum left[2][per * nd_wgmma_words], right[per * nd_wgmma_words];
    const int lane = (int)thread % 32, first = (int)thread % 128 / 32 * 16 + lane / 4;
    bool inside = nd_wgmma_numbers<per, left_of>(a, first, left[0]) &&
                  nd_wgmma_numbers<per, left_of>(a, first + 8, left[1]);
    for (int column = 0; inside && column < columns / 4; column++) {
        const int j = column / 2, side = column % 2;
        inside = nd_wgmma_numbers<per, right_of>(b, 8 * j + 2 * (lane % 4) + side, right);
        for (int half = 0; half < 2; half++) {
            Sum sum = add ? c[j][2 * half + side] : 0;
            for (int k = 0; k < per * nd_wgmma_words; k++) sum += left[half][k] * right[k];
            c[j][2 * half + side] = sum;
        }
    }
    if (!inside) nd_simt_broken("wgmma reads outside shared memory");
}

template <int per, auto left_of, auto right_of, class Sum>
static void nd_wgmma(Sum (*c)[4], int columns, uint64_t a, uint64_t b, bool add) {
    nd_wgmma_matrix left, right;
    if (!nd_wgmma_matrix_of(a, left) || !nd_wgmma_matrix_of(b, right))
        return nd_simt_broken("wgmma of a matrix whose descriptor it does not take");
    const unsigned thread = nd_simt_thread_number();
    nd_simt_product([=] { nd_wgmma_share<per, left_of, right_of>(c, columns, left, right, add, thread); });
}

void nd_simt_wgmma(nd_dtype type, float (*c)[4], int columns, uint64_t a, uint64_t b, bool add) {
    if (type == nd_dtype_f16)
        nd_wgmma<2, nd_element_f16, nd_element_f16>(c, columns, a, b, add);
    else if (type == nd_dtype_bf16)
        nd_wgmma<2, nd_element_bf16, nd_element_bf16>(c, columns, a, b, add);
    else if (type == nd_dtype_e4m3)
        nd_wgmma<4, nd_element_e4m3, nd_element_e4m3>(c, columns, a, b, add);
    else
        nd_wgmma<1, nd_element_tf32, nd_element_tf32>(c, columns, a, b, add);
}

void nd_simt_wgmma(int32_t (*c)[4], int columns, uint64_t a, uint64_t b, bool add) {
    nd_wgmma<4, nd_element_u8, nd_element_s8>(c, columns, a, b, add);
}

/* Orders registers, which are the fiber's own here: all it can be asked is that the warps of a group are in
 * step. */
void nd_ptx_wgmma_fence() {
    nd_simt_exchange(0xffffffffu, nullptr, 0);
}

void nd_ptx_wgmma_commit() {
    nd_simt_product_commit();
}
