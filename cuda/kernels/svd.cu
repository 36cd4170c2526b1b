/* One block per slice: S = A^T A in fp64, then two-sided Jacobi on S, all in shared memory; A is read once.
 *
 * Products of two fp32 numbers are exact in fp64, so S is off by 1e-16 of sigma_1^2 and squaring the
 * condition affects only what lies below 1e-8 sigma_1, under the rounding of the weights themselves.
 *
 * n is rounded up to N, even; the column added is zero and never turns. Work on a symmetric matrix goes by
 * 2x2 blocks of its upper triangle:
 *   1. Gram: rows of A pass through shared memory as fp64. A thread owns one 2x2 block for every groups-th
 * row: two reads of 16 bytes for 4 FMA. The groups' sums are added in order, so the result does not depend on
 * timing.
 *   2. Jacobi, N - 1 rounds a sweep, round-robin: every round turns N/2 disjoint pairs, every pair once a
 * sweep. Warp 0 finds the angles; then the 2x2 block of pairs a <= b becomes Ra^T S_ab Rb, one thread each,
 * in place, and its mirror is written with it, so S stays symmetric to the last bit. V is turned along. Two
 * barriers a round. Sweeps end when one turned nothing by more than the rounding of S.
 *
 * Estimated for an H100 and 512 slices of 512x9, 4 blocks on a multiprocessor, 1.7 GHz; arithmetic, not
 * measured: reading A is 9.4 MB, 3 us; Gram 15 blocks x 4 FMA x 512 rows a slice, 16 M in all, under 1 us of
 * the fp64 pipes, 3 us by the latency of 85 rows a thread; Jacobi 8 sweeps x 9 rounds of about 450 cycles
 * (division, two roots, two barriers, 4 dependent FMA), 20 us, latency alone. 25 to 30 us together, against
 * the goal of 300 us. With 49 columns: 8 to 10 sweeps x 49 rounds x 13 thousand FMA, 350 thousand cycles of
 * the fp64 pipes, about 0.3 to 0.5 ms. */
#include "cuda/kernels/launch.cuh"
#include "cuda/kernels/svd.h"
#include "cuda/kernels/svd_check.h"

enum { nd_svd_sweeps_max = 30, nd_svd_tile = 1024 /* elements of A in shared memory, about */ };

/* Sizes that follow from n and the threads of a block; the same on host and device. Places are counted in
 * doubles. */
struct nd_svd_shape {
    int n, even, pairs;           /* even: n rounded up; pairs = even / 2 */
    int folded, blocks;           /* of nd_svd_fold: rows of 2x2 blocks, made even, and their entries */
    int groups;                   /* threads for one entry */
    int rows;                     /* of A in shared memory at once */
    int v_at;                     /* after S; first the groups' sums, then V */
    int tile_at, turns_at, total; /* turns: c and s of every pair, then the flags */
};

__host__ __device__ inline nd_svd_shape nd_svd_shape_of(int n, int threads) {
    nd_svd_shape s;
    s.n = n;
    s.even = n + n % 2;
    s.pairs = s.even / 2;
    s.folded = s.pairs + s.pairs % 2;
    s.blocks = s.folded / 2 * (s.folded + 1);
    s.groups = threads > s.blocks ? threads / s.blocks : 1;
    s.rows = nd_svd_tile / s.even;
    const int square = s.even * s.even, sums = 4 * s.blocks * s.groups;
    s.v_at = square;
    s.tile_at = s.v_at + (sums > square ? sums : square);
    s.turns_at = s.tile_at + s.rows * s.even;
    s.total = s.turns_at + 2 * s.pairs + 1;
    return s;
}

/* Entry a <= b of a triangle. */
struct nd_svd_entry {
    int a, b;
};

/* Entry number `item` of the upper triangle of 2h rows, short rows folded onto long ones: h lines of 2h
 * + 1. */
__device__ inline nd_svd_entry nd_svd_fold(int item, int rows) {
    const int line = item / (rows + 1), at = item % (rows + 1);
    if (at > line) return {line, at - 1};
    return {rows - 1 - line, rows - 1 - at};
}

/* Pair k of a round: of N players N - 1 sits still and the others move on by one place a round. */
__device__ inline nd_svd_entry nd_svd_pair(int round, int k, int players) {
    const int ring = players - 1;
    const int left = (round + k) % ring, right = k ? (round + ring - k) % ring : ring;
    return left < right ? nd_svd_entry{left, right} : nd_svd_entry{right, left};
}

struct nd_svd_slice {
    const nd_svd_shape s;
    double *gram, *sums, *v, *tile, *turns; /* turns: [pairs][c, s] */
    int *turned;                            /* [2]: whether the last even or odd sweep turned anything */
    int thread, threads;

    __device__ nd_svd_slice(int n, double *shared)
        : s(nd_svd_shape_of(n, (int)blockDim.x)), gram(shared), sums(shared + s.v_at), v(shared + s.v_at),
          tile(shared + s.tile_at), turns(shared + s.turns_at),
          turned(reinterpret_cast<int *>(turns + 2 * s.pairs)), thread((int)threadIdx.x),
          threads((int)blockDim.x) {
    }

    /* `count` rows of A, contiguous; the column that makes n even is zero. */
    __device__ void load(const float *a, int count) {
        for (int i = thread; i < count * s.n; i += threads) tile[i / s.n * s.even + i % s.n] = (double)a[i];
        if (s.even == s.n) return;
        for (int row = thread; row < count; row += threads) tile[row * s.even + s.n] = 0;
    }

    using pair = nd_pack<double, 2>;

    __device__ pair tile_pair(int row, int columns) const {
        return *reinterpret_cast<const pair *>(tile + row * s.even + 2 * columns);
    }

    __device__ void accumulate(int count) {
        const int slots = s.blocks * s.groups;
        for (int slot = thread; slot < slots; slot += threads) {
            const nd_svd_entry at = nd_svd_fold(slot % s.blocks, s.folded);
            if (at.b >= s.pairs) continue;
            double sum[4];
            for (int i = 0; i < 4; i++) sum[i] = sums[i * slots + slot];
            ND_UNROLL_BY(4)
            for (int row = slot / s.blocks; row < count; row += s.groups) {
                const pair left = tile_pair(row, at.a), right = tile_pair(row, at.b);
                for (int i = 0; i < 4; i++) sum[i] = fma(left.value[i / 2], right.value[i % 2], sum[i]);
            }
            for (int i = 0; i < 4; i++) sums[i * slots + slot] = sum[i];
        }
    }

    __device__ void make_gram(int64_t m, const float *a) {
        const int slots = s.blocks * s.groups;
        for (int i = thread; i < 4 * slots; i += threads) sums[i] = 0;
        for (int64_t row = 0; row < m; row += s.rows) {
            const int count = m - row < s.rows ? (int)(m - row) : s.rows;
            load(a + row * s.n, count);
            __syncthreads();
            accumulate(count);
            __syncthreads();
        }
        for (int block = thread; block < s.blocks; block += threads) {
            const nd_svd_entry at = nd_svd_fold(block, s.folded);
            if (at.b >= s.pairs) continue;
            for (int i = 0; i < 4; i++) {
                double sum = 0;
                for (int group = 0; group < s.groups; group++)
                    sum += sums[i * slots + group * s.blocks + block];
                put(2 * at.a + i / 2, 2 * at.b + i % 2, sum);
            }
        }
        __syncthreads();
    }

    __device__ void put(int i, int j, double x) {
        gram[i * s.even + j] = gram[j * s.even + i] = x;
    }

    /* Seen by all after the first barrier of a sweep. */
    __device__ void identity() {
        for (int i = thread; i < s.even * s.even; i += threads) v[i] = i / s.even == i % s.even;
    }

    /* An angle of at most 45 degrees that makes S_pq zero; none when it is rounding already, or no number. */
    __device__ bool find_turn(int round, int k, double rounding) {
        const nd_svd_entry at = nd_svd_pair(round, k, s.even);
        const double off = gram[at.a * s.even + at.b];
        double cosine = 1, sine = 0;
        const bool turns_now = fabs(off) > rounding;
        if (turns_now) {
            const double cotangent = (gram[at.b * s.even + at.b] - gram[at.a * s.even + at.a]) / (2 * off);
            const double tangent =
                copysign(1.0, cotangent) / (fabs(cotangent) + sqrt(fma(cotangent, cotangent, 1.0)));
            cosine = 1 / sqrt(fma(tangent, tangent, 1.0));
            sine = tangent * cosine;
        }
        turns[2 * k] = cosine;
        turns[2 * k + 1] = sine;
        return turns_now;
    }

    /* The 2x2 block where the rows of pair a and the columns of pair b meet. */
    __device__ void turn_block(int round, int a, int b) {
        const nd_svd_entry rows = nd_svd_pair(round, a, s.even), columns = nd_svd_pair(round, b, s.even);
        const double ca = turns[2 * a], sa = turns[2 * a + 1], cb = turns[2 * b], sb = turns[2 * b + 1];
        if (sa == 0 && sb == 0) return;
        const double *above = gram + rows.a * s.even, *below = gram + rows.b * s.even;
        const double pr = above[columns.a], ps = above[columns.b], qr = below[columns.a],
                     qs = below[columns.b];
        const double left = ca * pr - sa * qr, right = ca * ps - sa * qs; /* row p of Ra^T S */
        const double low_left = sa * pr + ca * qr, low_right = sa * ps + ca * qs;
        put(rows.a, columns.a, cb * left - sb * right);
        put(rows.b, columns.b, sb * low_left + cb * low_right);
        put(rows.a, columns.b, a == b ? 0 : sb * left + cb * right);
        if (a != b) put(rows.b, columns.a, cb * low_left - sb * low_right);
    }

    __device__ void turn(int round) {
        for (int block = thread; block < s.blocks; block += threads) {
            const nd_svd_entry at = nd_svd_fold(block, s.folded);
            if (at.b < s.pairs) turn_block(round, at.a, at.b);
        }
        for (int item = thread; item < s.pairs * s.n; item += threads) {
            const int k = item / s.n, i = item % s.n;
            const nd_svd_entry at = nd_svd_pair(round, k, s.even);
            const double c = turns[2 * k], sine = turns[2 * k + 1];
            double *p = v + at.a * s.even + i, *q = v + at.b * s.even + i;
            const double old = *p;
            *p = c * old - sine * *q;
            *q = sine * old + c * *q;
        }
    }

    /* Whether anything was turned. Warp 0 holds all pairs of a round: one lane each. The flag has two places
     * because with one round a sweep there is no barrier between a read and the next write. */
    __device__ bool sweep(int number, double rounding) {
        int any = 0;
        for (int round = 0; round < s.even - 1; round++) {
            if (thread < 32) {
                if (thread < s.pairs) any |= find_turn(round, thread, rounding);
                if (round == s.even - 2) {
                    any = __any_sync(0xffffffffu, any);
                    if (thread == 0) turned[number % 2] = any;
                }
            }
            __syncthreads();
            turn(round);
            __syncthreads();
        }
        return turned[number % 2];
    }

    __device__ void diagonalise() {
        double trace = 0;
        for (int i = 0; i < s.n; i++) trace += gram[i * s.even + i];
        const double rounding = trace * 0x1p-54;
        for (int number = 0; number < nd_svd_sweeps_max && sweep(number, rounding); number++) continue;
    }
};

static_assert(nd_svd_columns_max <= 64, "a warp finds the angles of a round");

__global__ void __launch_bounds__(256)
    nd_svd_kernel(int64_t m, int n, const float *__restrict__ a, double *__restrict__ v) {
    ND_SHARED(double, shared);
    nd_svd_slice slice(n, shared);
    slice.make_gram(m, a + (int64_t)blockIdx.x * m * n);
    slice.identity();
    slice.diagonalise();
    v += (int64_t)blockIdx.x * n * n;
    for (int i = (int)threadIdx.x; i < n * n; i += (int)blockDim.x)
        v[i] = slice.v[i / n * slice.s.even + i % n];
}

nd_status nd_cuda_svd_launch(int64_t batch, int64_t m, int64_t n, const float *a, double *v,
                             cudaStream_t stream) {
    if (!batch) return nd_status_ok;
    const int threads = n <= 16 ? 128 : 256;
    return nd_launch(nd_svd_kernel, dim3((unsigned)batch), dim3((unsigned)threads),
                     (size_t)nd_svd_shape_of((int)n, threads).total * sizeof(double), stream, m, (int)n, a,
                     v);
}
