// Computes sums[p] += sum_t x[i_p, t] y[j_p, t] for pairs (i_p, j_p), the candidates of screening. Values are
// hi + lo (number.cuh), or hi only; sums are f64.
//
// Grid: pairs / 8, rounded up; 256 threads, one warp per pair.
#include "number.cuh"

template <typename T>
__device__ float value(const u16 *values, u64 at, u64 plane) {
    float x = T::widen(values[at]);
    return plane ? x + T::widen(values[at + plane]) : x;
}

template <typename T>
__device__ void candidates(const u16 *x, int ldx, u64 plane_x, const u16 *y, int ldy, u64 plane_y, int tokens,
                           const u32 *i, const u32 *j, int pairs, double *sums) {
    int pair = blockIdx.x * 8 + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (pair >= pairs) return;
    u64 row_x = (u64)i[pair] * ldx, row_y = (u64)j[pair] * ldy;
    double sum = 0.0;
    for (int t = lane; t < tokens; t += 32)
        sum += (double)value<T>(x, row_x + t, plane_x) * value<T>(y, row_y + t, plane_y);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (lane == 0) sums[pair] += sum;
}

extern "C" __global__ void __launch_bounds__(256)
    candidates_f16(const u16 *x, int ldx, u64 plane_x, const u16 *y, int ldy, u64 plane_y, int tokens,
                   const u32 *i, const u32 *j, int pairs, double *sums) {
    candidates<F16>(x, ldx, plane_x, y, ldy, plane_y, tokens, i, j, pairs, sums);
}
extern "C" __global__ void __launch_bounds__(256)
    candidates_bf16(const u16 *x, int ldx, u64 plane_x, const u16 *y, int ldy, u64 plane_y, int tokens,
                    const u32 *i, const u32 *j, int pairs, double *sums) {
    candidates<Bf16>(x, ldx, plane_x, y, ldy, plane_y, tokens, i, j, pairs, sums);
}
