#include "tests/simt/emulator/element.h"

#include <vector>

/* ldmatrix .x4: lane l gives the address of row l % 8 of matrix l / 8 and receives, of every matrix, word l %
 * 4 of row l / 4. A row is 16 bytes. */
void nd_ptx_load_matrix(uint32_t (&fragment)[4], const void *row) {
    if (!nd_simt_is_shared(row, 16)) return nd_simt_broken("ldmatrix reads outside shared memory");
    if ((uintptr_t)row % 16) return nd_simt_broken("ldmatrix reads a row that is not aligned to 16 bytes");
    const unsigned char *slots = nd_simt_exchange(0xffffffffu, &row, sizeof row);
    const int lane = nd_simt_lane();
    for (int matrix = 0; matrix < 4; matrix++) {
        const uint32_t *from;
        memcpy(&from, slots + 256 * (8 * matrix + lane / 4), sizeof from);
        fragment[matrix] = from[lane % 4];
    }
}

float nd_element_f16(uint32_t word, int half) {
    static const std::vector<float> table = [] {
        std::vector<float> values(1 << 16);
        for (uint32_t i = 0; i < values.size(); i++) values[i] = nd_f16_to_f32((uint16_t)i);
        return values;
    }();
    return table[(uint16_t)(word >> 16 * half)];
}

float nd_element_bf16(uint32_t word, int half) {
    return nd_ptx_f32_of_bits(half ? word & 0xffff0000u : word << 16);
}

float nd_element_e4m3(uint32_t word, int byte) {
    return nd_e4m3_to_f32((uint8_t)(word >> 8 * byte));
}

float nd_element_tf32(uint32_t word, int) {
    return nd_ptx_f32_of_bits(word & ~0x1fffu);
}

int32_t nd_element_u8(uint32_t word, int byte) {
    return (uint8_t)(word >> 8 * byte);
}

int32_t nd_element_s8(uint32_t word, int byte) {
    return (int8_t)(uint8_t)(word >> 8 * byte);
}

struct nd_fragments {
    uint32_t a[4], b[2];
};

/* With g = lane / 4 and t = lane % 4, and `per` elements in a word: word i of a holds row g + 8 (i odd),
 * columns per * t + 4 * per * (i >= 2); word i of b holds rows per * t + 4 * per * i of column g; c[i] is row
 * g + 8 (i >= 2), column 2t + i % 2. */
template <int per, auto left, auto right, class Sum>
static void nd_mma(Sum (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const nd_fragments mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const auto *lanes = nd_simt_exchange(0xffffffffu, &mine, sizeof mine);
    const auto of = [&](int lane) { return reinterpret_cast<const nd_fragments *>(lanes + 256 * lane); };
    const int g = nd_simt_lane() / 4, t = nd_simt_lane() % 4;
    for (int i = 0; i < 4; i++) {
        const int column = 2 * t + i % 2, low = i >= 2;
        Sum sum = c[i];
        for (int k = 0; k < 8 * per; k++) {
            const int upper = k >= 4 * per, owner = k / per % 4, place = k % per;
            sum += left(of(4 * g + owner)->a[2 * upper + low], place) *
                   right(of(4 * column + owner)->b[upper], place);
        }
        c[i] = sum;
    }
}

void nd_ptx_mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    nd_mma<2, nd_element_f16, nd_element_f16>(c, a, b0, b1);
}

void nd_ptx_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    nd_mma<2, nd_element_bf16, nd_element_bf16>(c, a, b0, b1);
}

void nd_ptx_mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    nd_mma<1, nd_element_tf32, nd_element_tf32>(c, a, b0, b1);
}

void nd_ptx_mma_u8(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    nd_mma<4, nd_element_u8, nd_element_s8>(c, a, b0, b1);
}
