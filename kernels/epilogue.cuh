// What becomes of a tile of sums of products while it is still in registers: Pearson's
// rho (paper eq. 2), the best partners of each row, histogram and power sums of rho.
//
//   rho_ij = (sum_t x_i y_j - sum x_i sum y_j / n) inv_i inv_j,   inv = 1 / spread
//
// A neuron without correlation has inv = NaN; no NaN is ever a best partner or counted.
#pragma once
#include "tile.cuh"

enum { BINS = 100, POWERS = 5 };

struct Side {
    const float *sum, *inverse;
};

struct Found {
    // [column tiles][k][rows]: best partners of each row within a tile, best first; rho is NaN in unused
    // slots.
    float *rho;
    u32 *partner;
    int k;
    u64 *histogram;  // [BINS], added to
    float *powers;   // [row tiles][column tiles][POWERS]: n, and sums of rho^1..4
};

struct Scratch {
    float rho[4][TILE];
    u32 partner[4][TILE];
    float last_rho[TILE];
    u32 last[TILE];
    u32 bins[BINS];
    float powers[THREADS / 32][POWERS];
};
static_assert(sizeof(Scratch) <= STAGES * 2 * SLAB_BYTES, "the scratch takes the place of the slabs");

// Returns whether partner (r, j) comes before (best, at): larger, or equal with a smaller index.
__device__ inline bool before(float r, u32 j, float best, u32 at) { return r > best || (r == best && j < at); }

__device__ inline void correlate(Accumulators &acc, const Side &x, const Side &y, int row0, int col0, int m, int n,
                                 float per_token) {
    const float nan = __uint_as_float(0x7fffffff);
    #pragma unroll
    for (int i = 0; i < 4; i++)
        #pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = row0 + row_of(i, half * 2);
            float sum = row < m ? x.sum[row] * per_token : 0.0f, inverse = row < m ? x.inverse[row] : nan;
            #pragma unroll
            for (int j = 0; j < 4; j++)
                #pragma unroll
                for (int v = 0; v < 2; v++) {
                    int col = col0 + col_of(j, v);
                    float *rho = &acc.at[i][j][half * 2 + v];
                    *rho = col < n ? (*rho - sum * y.sum[col]) * inverse * y.inverse[col] : nan;
                }
        }
}

// One round: finds the best partner of every row after the one found in the round before.
__device__ inline void best_round(const Accumulators &acc, Scratch &s, int round, int col0) {
    int lane = threadIdx.x & 31, across = threadIdx.x >> 6;
    #pragma unroll
    for (int i = 0; i < 4; i++)
        #pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = row_of(i, half * 2);
            float best = -2e38f, last_rho = round > 0 ? s.last_rho[row] : 0.0f;
            u32 at = ~0u, last = round > 0 ? s.last[row] : 0;
            #pragma unroll
            for (int j = 0; j < 4; j++)
                #pragma unroll
                for (int v = 0; v < 2; v++) {
                    float rho = acc.at[i][j][half * 2 + v];
                    u32 col = col0 + col_of(j, v);
                    bool left = round == 0 || before(last_rho, last, rho, col);
                    if (left && before(rho, col, best, at)) best = rho, at = col;
                }
            for (int step = 1; step < 4; step *= 2) {
                float rho = __shfl_xor_sync(~0u, best, step);
                u32 col = __shfl_xor_sync(~0u, at, step);
                if (before(rho, col, best, at)) best = rho, at = col;
            }
            if ((lane & 3) == 0) s.rho[across][row] = best, s.partner[across][row] = at;
        }
}

__device__ inline void find_best(const Accumulators &acc, Scratch &s, const Found &found, int row0, int col0, int m) {
    const float nan = __uint_as_float(0x7fffffff);
    for (int round = 0; round < found.k; round++) {
        best_round(acc, s, round, col0);
        __syncthreads();
        int row = threadIdx.x;
        if (row < TILE) {
            float best = s.rho[0][row];
            u32 at = s.partner[0][row];
            for (int w = 1; w < 4; w++)
                if (before(s.rho[w][row], s.partner[w][row], best, at)) best = s.rho[w][row], at = s.partner[w][row];
            s.last_rho[row] = best, s.last[row] = at;
            if (row0 + row < m) {
                u64 slot = ((u64)(col0 / TILE) * found.k + round) * m + row0 + row;
                found.rho[slot] = at == ~0u ? nan : best;
                found.partner[slot] = at == ~0u ? 0 : at;
            }
        }
        __syncthreads();
    }
}

__device__ inline void spread(Accumulators &acc, Scratch &s, const Found &found) {
    for (int i = threadIdx.x; i < BINS; i += THREADS) s.bins[i] = 0;
    __syncthreads();
    float p[POWERS] = {0, 0, 0, 0, 0};
    for_each(acc, 0, 0, [&](int, int, float rho) {
        if (rho != rho) return;
        int bin = (int)((rho + 1.0f) * (BINS / 2));
        atomicAdd(&s.bins[bin < 0 ? 0 : bin < BINS ? bin : BINS - 1], 1u);
        float square = rho * rho;
        p[0] += 1.0f, p[1] += rho, p[2] += square, p[3] += square * rho, p[4] += square * square;
    });
    #pragma unroll
    for (int q = 0; q < POWERS; q++) {
        for (int step = 16; step > 0; step /= 2) p[q] += __shfl_xor_sync(~0u, p[q], step);
        if ((threadIdx.x & 31) == 0) s.powers[threadIdx.x >> 5][q] = p[q];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < BINS; i += THREADS)
        if (s.bins[i] > 0) atomicAdd(&found.histogram[i], (u64)s.bins[i]);
    if (threadIdx.x < POWERS) {
        float sum = 0.0f;
        for (int w = 0; w < THREADS / 32; w++) sum += s.powers[w][threadIdx.x];
        found.powers[((u64)blockIdx.y * gridDim.x + blockIdx.x) * POWERS + threadIdx.x] = sum;
    }
}

__device__ inline void judge_tile(Accumulators &acc, Scratch &s, const Side &x, const Side &y, const Found &found,
                                  int row0, int col0, int m, int n, float per_token) {
    correlate(acc, x, y, row0, col0, m, n, per_token);
    find_best(acc, s, found, row0, col0, m);
    spread(acc, s, found);
}
