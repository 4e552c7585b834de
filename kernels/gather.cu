// Copies chosen rows and columns of a matrix of sixteen-bit values, both planes of it (number.cuh):
//   out[r][c] = in[row[r]][column[c]]
// `rows` or `columns` may be null: all of them, in order. The order of tokens is permuted this way, and
// the neurons that screening compares exactly are picked.
//
// Grid: rows of `out`, its columns / 256 rounded up; 256 threads, one per column.
#include "number.cuh"

extern "C" __global__ void __launch_bounds__(256)
    gather(const u16 *in, int ld_in, u64 plane_in, const u32 *rows, const u32 *columns, int width, u16 *out,
           int ld_out, u64 plane_out) {
    int c = blockIdx.y * 256 + threadIdx.x;
    if (c >= width) return;
    u64 row = rows ? rows[blockIdx.x] : blockIdx.x, column = columns ? columns[c] : c;
    u64 from = row * ld_in + column, to = (u64)blockIdx.x * ld_out + c;
    out[to] = in[from];
    if (plane_out) out[to + plane_out] = in[from + plane_in];
}
