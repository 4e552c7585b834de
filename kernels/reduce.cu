// `judge_sums` finds the best partners and the distribution of rho from stored sums, as the fused epilogue
// does for sums in registers. `merge_best` merges the best partners of a row over all tiles. `scale_sums`
// turns sums into an operand for the rotation baseline.
#include "epilogue.cuh"

// Takes sums C[m, n] over tokens, row-major. Grid: (n / 128, m / 128), rounded up; 256 threads.
extern "C" __global__ void __launch_bounds__(THREADS)
    judge_sums(const float *c, int m, int n, int ldc, const float *sum_x, const float *inverse_x,
               const float *sum_y, const float *inverse_y, float per_token, float *rho, u32 *partner, int best,
               u64 *histogram, float *powers) {
    __shared__ Scratch scratch;
    Accumulators acc;
    int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    for_each(acc, row0, col0, [&](int row, int col, float &sum) {
        sum = row < m && col < n ? c[(u64)row * ldc + col] : 0.0f;
    });
    judge_tile(acc, scratch, {sum_x, inverse_x}, {sum_y, inverse_y}, {rho, partner, best, histogram, powers}, row0,
               col0, m, n, per_token);
}

// Merges [tiles][best][rows] into [best][rows]; the list of each tile is sorted, best first. `first` is added
// to partners. Grid: rows / 256, rounded up; 256 threads.
extern "C" __global__ void __launch_bounds__(THREADS)
    merge_best(const float *rho, const u32 *partner, int tiles, int best, int rows, u32 first, float *out_rho,
               u32 *out_partner) {
    int row = blockIdx.x * THREADS + threadIdx.x;
    if (row >= rows) return;
    float last_rho = 0.0f;
    u32 last = 0;
    for (int round = 0; round < best; round++) {
        float top = __uint_as_float(0x7fffffff);
        u32 at = ~0u;
        for (int slot = 0; slot < tiles * best; slot++) {
            float r = rho[(u64)slot * rows + row];
            u32 j = partner[(u64)slot * rows + row];
            bool left = r == r && (round == 0 || before(last_rho, last, r, j));
            if (left && (at == ~0u || before(r, j, top, at))) top = r, at = j;
        }
        out_rho[(u64)round * rows + row] = top;
        out_partner[(u64)round * rows + row] = at == ~0u ? 0 : at + first;
        // If no partner was left in this round, none is left in the next.
        last_rho = at == ~0u ? -3e38f : top, last = at;
    }
}

// out_ij = (c_ij - sum_i sum_j / n) inv_i unit, in sixteen bits: rho_ij times the spread of column j. The
// value is 0 if column j has no correlation, so that the column adds nothing to any combination. Grid: (n /
// 256, m), rounded up; 256 threads.
template <typename T>
__device__ void scale_sums(const float *c, int n, int ldc, const float *sum_x, const float *inverse_x,
                           const float *sum_y, const float *inverse_y, float per_token, float unit, u16 *out, int ld,
                           u64 plane) {
    int col = blockIdx.x * THREADS + threadIdx.x;
    u64 row = blockIdx.y;
    if (col >= n) return;
    float inverse = inverse_y[col];
    float value = (c[row * ldc + col] - sum_x[row] * per_token * sum_y[col]) * inverse_x[row] * unit;
    u16 hi, lo;
    split<T>(inverse == inverse ? value : 0.0f, &hi, &lo);
    out[row * ld + col] = hi;
    if (plane) out[row * ld + col + plane] = lo;
}

#define SCALE_SUMS                                                                                             \
    const float *c, int n, int ldc, const float *sum_x, const float *inverse_x, const float *sum_y,            \
        const float *inverse_y, float per_token, float unit, u16 *out, int ld, u64 plane

extern "C" __global__ void __launch_bounds__(THREADS) scale_sums_f16(SCALE_SUMS) {
    scale_sums<F16>(c, n, ldc, sum_x, inverse_x, sum_y, inverse_y, per_token, unit, out, ld, plane);
}
extern "C" __global__ void __launch_bounds__(THREADS) scale_sums_bf16(SCALE_SUMS) {
    scale_sums<Bf16>(c, n, ldc, sum_x, inverse_x, sum_y, inverse_y, per_token, unit, out, ld, plane);
}
