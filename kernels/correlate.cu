// `product` computes C[m, n] (+)= X[m, k] Y[n, k]^T (+ bias[n]). `fused` finds the best partners and the
// distribution of rho in the same tiles without writing C: see epilogue.cuh. Operands: see tile.cuh.
//
// Grid: (n / 128, m / 128), rounded up; 256 threads.
#include "epilogue.cuh"

template <typename T>
__device__ void product(Operand x, Operand y, int k, int terms, float *c, int ldc, int add, const float *bias) {
    __shared__ __align__(128) unsigned char slabs[STAGES * 2 * SLAB_BYTES];
    Accumulators acc;
    int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    multiply<T>(x, y, row0, col0, k, terms, shared_address(slabs), acc);
    for_each(acc, row0, col0, [&](int row, int col, float sum) {
        if (row >= x.rows || col >= y.rows) return;
        float *out = c + (u64)row * ldc + col;
        float value = sum + (bias ? bias[col] : 0.0f);
        *out = add ? *out + value : value;
    });
}

template <typename T>
__device__ void fused(Operand x, Operand y, int k, int terms, Side of_x, Side of_y, float per_token, Found found) {
    __shared__ __align__(128) unsigned char slabs[STAGES * 2 * SLAB_BYTES];
    Accumulators acc;
    int row0 = blockIdx.y * TILE, col0 = blockIdx.x * TILE;
    multiply<T>(x, y, row0, col0, k, terms, shared_address(slabs), acc);
    judge_tile(acc, *(Scratch *)slabs, of_x, of_y, found, row0, col0, x.rows, y.rows, per_token);
}

#define OPERANDS \
    const u16 *x, int m, int ldx, u64 plane_x, const u16 *y, int n, int ldy, u64 plane_y, int k, int terms
#define X {x, m, ldx, plane_x}
#define Y {y, n, ldy, plane_y}
#define FOUND                                                                                                \
    const float *sum_x, const float *inverse_x, const float *sum_y, const float *inverse_y, float per_token, \
        float *rho, u32 *partner, int best, u64 *histogram, float *powers

extern "C" __global__ void __launch_bounds__(THREADS)
    product_f16(OPERANDS, float *c, int ldc, int add, const float *bias) {
    product<F16>(X, Y, k, terms, c, ldc, add, bias);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    product_bf16(OPERANDS, float *c, int ldc, int add, const float *bias) {
    product<Bf16>(X, Y, k, terms, c, ldc, add, bias);
}
extern "C" __global__ void __launch_bounds__(THREADS) fused_f16(OPERANDS, FOUND) {
    fused<F16>(X, Y, k, terms, {sum_x, inverse_x}, {sum_y, inverse_y}, per_token,
               {rho, partner, best, histogram, powers});
}
extern "C" __global__ void __launch_bounds__(THREADS) fused_bf16(OPERANDS, FOUND) {
    fused<Bf16>(X, Y, k, terms, {sum_x, inverse_x}, {sum_y, inverse_y}, per_token,
                {rho, partner, best, histogram, powers});
}
