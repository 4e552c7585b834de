// One 128 x 128 tile of X Y^T on tensor cores: mma.m16n8k16, f32 accumulators.
//
// An operand is row-major [rows, k], k contiguous, leading dimension `ld` a
// multiple of 8 (16 bytes), in one plane or two: with two, values are hi + lo
// (number.cuh), and the product is hi hi + hi lo + lo hi, nearly that of f32.
//
// 256 threads: eight warps, two down and four across, each 64 x 32. A slab of 32
// values of k waits in shared memory while the next two are on their way.
#pragma once
#include "number.cuh"

enum { TILE = 128, SLAB = 32, STAGES = 3, THREADS = 256 };
enum { SLAB_BYTES = TILE * SLAB * 2 };

struct Operand {
    const u16 *values;
    int rows, ld;
    u64 plane;  // values from `hi` to `lo`
};

// Accumulators of a thread: four 16-row by four 8-column fragments.
struct Accumulators {
    float at[4][4][4];
};

__device__ inline u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

// Returns the offset in a slab of the 16-byte piece `piece` (of 4) of a row. Two rows share 128 bytes; pieces
// are permuted so that ldmatrix has no bank conflicts.
__device__ inline u32 place(int row, int piece) {
    return row * 64 + ((piece ^ ((row >> 1) & 3)) << 4);
}

// The pieces of an operand that a thread copies: one of each of two rows.
struct Pieces {
    const u16 *from[2];
    u32 to[2];
    int bytes[2];  // 0 where the row lies beyond the operand
};

__device__ inline Pieces pieces_of(const Operand &x, int row0) {
    Pieces pieces;
    int piece = threadIdx.x & 3;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int row = (threadIdx.x >> 2) + i * 64;
        bool inside = row0 + row < x.rows;
        pieces.from[i] = (const u16 *)__cvta_generic_to_global(x.values + (inside ? (u64)(row0 + row) * x.ld : 0));
        pieces.from[i] += piece * 8;
        pieces.to[i] = place(row, piece);
        pieces.bytes[i] = inside ? 16 : 0;
    }
    return pieces;
}

// Starts copying the pieces, `offset` values further on. `left` bytes of k remain there; zeros are written
// beyond the ends of an operand.
__device__ inline void fetch(u32 slab, const Pieces &pieces, u64 offset, int left) {
    left = left < 0 ? 0 : left;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int bytes = left < pieces.bytes[i] ? left : pieces.bytes[i];
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(slab + pieces.to[i]),
                     "l"(pieces.from[i] + offset), "r"(bytes));
    }
}

__device__ inline void load_fragments(u32 address, u32 out[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address));
}

template <typename T>
__device__ void mma(float d[4], const u32 a[4], const u32 b[2]);

template <>
__device__ inline void mma<F16>(float d[4], const u32 a[4], const u32 b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ inline void mma<Bf16>(float d[4], const u32 a[4], const u32 b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Adds the product of the slabs at `a` and `b` in shared memory to the accumulators.
template <typename T>
__device__ void multiply_slab(u32 a, u32 b, Accumulators &acc) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int row0 = (warp & 1) * 64, col0 = (warp >> 1) * 32;
    #pragma unroll
    for (int step = 0; step < 2; step++) {
        u32 rows[4][4], cols[2][4];
        // Lanes 0..15 address the 16 rows of a fragment, lanes 16..31 the second half of k.
        #pragma unroll
        for (int i = 0; i < 4; i++)
            load_fragments(a + place(row0 + i * 16 + (lane & 15), step * 2 + (lane >> 4)), rows[i]);
        // For Y one load fetches two 8-column fragments, k halves first.
        #pragma unroll
        for (int j = 0; j < 2; j++)
            load_fragments(b + place(col0 + j * 16 + (lane & 7) + ((lane >> 4) << 3), step * 2 + ((lane >> 3) & 1)),
                           cols[j]);
        #pragma unroll
        for (int i = 0; i < 4; i++)
            #pragma unroll
            for (int j = 0; j < 4; j++) mma<T>(acc.at[i][j], rows[i], &cols[j >> 1][(j & 1) * 2]);
    }
}

// acc = X[row0.., :] Y[col0.., :]^T over all of k. `terms` is 1 or 3 (two planes each).
template <typename T>
__device__ void multiply(const Operand &x, const Operand &y, int row0, int col0, int k, int terms, u32 shared,
                         Accumulators &acc) {
    #pragma unroll
    for (int i = 0; i < 4; i++)
        #pragma unroll
        for (int j = 0; j < 4; j++)
            #pragma unroll
            for (int v = 0; v < 4; v++) acc.at[i][j][v] = 0.0f;
    int steps = (k + SLAB - 1) / SLAB * terms, k0 = 0, term = 0;
    Pieces of_x = pieces_of(x, row0), of_y = pieces_of(y, col0);
    // Steps are started in order: all slabs of the first term, then those of the next.
    auto start = [&](int step) {
        if (step < steps) {
            u32 stage = shared + (step % STAGES) * 2 * SLAB_BYTES;
            int left = (k - k0 - (threadIdx.x & 3) * 8) * 2;
            fetch(stage, of_x, k0 + (term == 2 ? x.plane : 0), left);
            fetch(stage + SLAB_BYTES, of_y, k0 + (term == 1 ? y.plane : 0), left);
            k0 += SLAB;
            if (k0 >= k) k0 = 0, term++;
        }
        // A group is committed even if it is empty, so that the number of groups equals the number of steps.
        asm volatile("cp.async.commit_group;");
    };
    for (int step = 0; step < STAGES - 1; step++) start(step);
    for (int step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2));
        // The slab has arrived for every thread, and every thread has finished the one before.
        __syncthreads();
        start(step + STAGES - 1);
        u32 stage = shared + (step % STAGES) * 2 * SLAB_BYTES;
        multiply_slab<T>(stage, stage + SLAB_BYTES, acc);
    }
    asm volatile("cp.async.wait_group 0;");
    __syncthreads();
}

// Row and column within the tile of value v of fragment (i, j) of this thread.
__device__ inline int row_of(int i, int v) {
    return ((threadIdx.x >> 5) & 1) * 64 + i * 16 + ((threadIdx.x & 31) >> 2) + (v >> 1) * 8;
}
__device__ inline int col_of(int j, int v) {
    return (threadIdx.x >> 6) * 32 + j * 8 + (threadIdx.x & 3) * 2 + (v & 1);
}

// Calls f(row, column, sum) for every sum of this thread, with row and column counted from (row0, col0).
template <typename F>
__device__ void for_each(Accumulators &acc, int row0, int col0, F f) {
    #pragma unroll
    for (int i = 0; i < 4; i++)
        #pragma unroll
        for (int j = 0; j < 4; j++)
            #pragma unroll
            for (int v = 0; v < 4; v++)
                f(row0 + row_of(i, v), col0 + col_of(j, v), acc.at[i][j][v]);
}
