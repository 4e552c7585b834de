// Computes C[m, m] += X[m, k] X[m, k]^T. The result is symmetric: only tiles on and below the diagonal are
// multiplied, and each sum is written to both sides. The rotation baseline uses C to compute the spread of
// random combinations of a layer's neurons.
//
// Grid: one block for each of the t (t + 1) / 2 tiles, t = m / 128 rounded up; 256 threads.
#include "tile.cuh"

template <typename T>
__device__ void gram(Operand x, int k, int terms, float *c, int ldc) {
    __shared__ __align__(128) unsigned char slabs[STAGES * 2 * SLAB_BYTES];
    // Tile (down, across) with across <= down, counted row by row.
    int down = 0, across = blockIdx.x;
    while (across > down) across -= ++down;
    int row0 = down * TILE, col0 = across * TILE;
    Accumulators acc;
    multiply<T>(x, x, row0, col0, k, terms, shared_address(slabs), acc);
    for_each(acc, row0, col0, [&](int row, int col, float sum) {
        // Sums above the diagonal are copies, also within a tile: computed directly, the planes of the two
        // operands would be added in another order.
        if (row >= x.rows || col > row) return;
        c[(u64)row * ldc + col] += sum;
        if (col < row) c[(u64)col * ldc + row] += sum;
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gram_f16(const u16 *x, int m, int ld, u64 plane, int k, int terms, float *c, int ldc) {
    gram<F16>({x, m, ld, plane}, k, terms, c, ldc);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    gram_bf16(const u16 *x, int m, int ld, u64 plane, int k, int terms, float *c, int ldc) {
    gram<Bf16>({x, m, ld, plane}, k, terms, c, ldc);
}
