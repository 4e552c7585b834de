// The parts of GPT-2's forward pass that are not products: embedding, LayerNorm, causal attention. The
// residual stream is f32. Operands of products are written as hi + lo in sixteen bits (number.cuh), or as hi
// only if `plane` is 0; their rows start every row_length(d) values.
#include "number.cuh"

enum { KEYS = 32, QUERIES = 8, D_HEAD = 128 };

__device__ inline float over_warp(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

template <typename T>
__device__ void put(u16 *out, u64 at, u64 plane, float x) {
    u16 hi, lo;
    split<T>(x, &hi, &lo);
    out[at] = hi;
    if (plane) out[at + plane] = lo;
}

// resid[t, :] = embed[id[t], :] + pos_embed[position[t], :]. Grid: tokens; 256 threads.
extern "C" __global__ void __launch_bounds__(256)
    embed(const float *embed, const float *pos_embed, const u32 *id, const u32 *position, int d, float *resid) {
    u64 t = blockIdx.x;
    for (int i = threadIdx.x; i < d; i += 256)
        resid[t * d + i] = embed[(u64)id[t] * d + i] + pos_embed[(u64)position[t] * d + i];
}

// (x - mean) / sqrt(var + eps) gain + bias, in two passes. Grid: rows / 8, rounded up; one warp per row.
template <typename T>
__device__ void layer_norm(const float *x, int rows, int d, const float *gain, const float *bias, float eps, u16 *out,
                           u64 plane) {
    int row = blockIdx.x * 8 + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (row >= rows) return;
    x += (u64)row * d;
    float sum = 0.0f, squares = 0.0f;
    for (int i = lane; i < d; i += 32) sum += x[i];
    float mean = over_warp(sum) / d;
    for (int i = lane; i < d; i += 32) squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / sqrtf(over_warp(squares) / d + eps);
    for (int i = lane; i < d; i += 32) put<T>(out, row * row_length(d) + i, plane, (x[i] - mean) * scale * gain[i] + bias[i]);
}

// out[t, head] = sum_s softmax_s(scale q_t . k_s) v_s over s <= t of the same sequence. qkv is [tokens, 3 d];
// sequence z starts at token start[z] and has length[z] tokens. Grid: (longest / 8, heads, sequences),
// rounded up; 256 threads, one warp per query.
template <typename T>
__device__ void attention(const float *qkv, const u32 *start, const u32 *length, int d, int d_head, float scale,
                          u16 *out, u64 plane) {
    __shared__ float keys[KEYS][D_HEAD + 1], values[KEYS][D_HEAD], query[QUERIES][D_HEAD];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, head = blockIdx.y * d_head;
    int len = length[blockIdx.z], at = blockIdx.x * QUERIES, mine = at + warp;
    if (at >= len) return;
    const float *seq = qkv + (u64)start[blockIdx.z] * 3 * d + head;
    for (int c = lane; c < d_head; c += 32) query[warp][c] = mine < len ? seq[(u64)mine * 3 * d + c] : 0.0f;
    float mixed[D_HEAD / 32] = {0, 0, 0, 0}, top = -3e38f, total = 0.0f;
    int seen = at + QUERIES < len ? at + QUERIES : len;
    for (int k0 = 0; k0 < seen; k0 += KEYS) {
        int here = seen - k0 < KEYS ? seen - k0 : KEYS;
        for (int i = warp; i < here; i += 8)
            for (int c = lane; c < d_head; c += 32) {
                keys[i][c] = seq[(u64)(k0 + i) * 3 * d + d + c];
                values[i][c] = seq[(u64)(k0 + i) * 3 * d + 2 * d + c];
            }
        __syncthreads();
        float score = -3e38f;
        if (lane < here && k0 + lane <= mine) {
            score = 0.0f;
            for (int c = 0; c < d_head; c++) score += query[warp][c] * keys[lane][c];
            score *= scale;
        }
        float best = score;
        for (int step = 16; step > 0; step /= 2) best = fmaxf(best, __shfl_xor_sync(~0u, best, step));
        best = fmaxf(best, top);
        float shrink = exp_approx(top - best), p = score > -2e38f ? exp_approx(score - best) : 0.0f;
        total = total * shrink + over_warp(p), top = best;
        for (int q = 0; q < D_HEAD / 32; q++) mixed[q] *= shrink;
        for (int i = 0; i < here; i++) {
            float weight = __shfl_sync(~0u, p, i);
            for (int q = 0; q < D_HEAD / 32; q++)
                if (lane + q * 32 < d_head) mixed[q] += weight * values[i][lane + q * 32];
        }
        __syncthreads();
    }
    if (mine >= len) return;
    u64 row = ((u64)start[blockIdx.z] + mine) * row_length(d) + head;
    for (int q = 0; q < D_HEAD / 32; q++)
        if (lane + q * 32 < d_head) put<T>(out, row + lane + q * 32, plane, mixed[q] / total);
}

// Rotary positions: turns queries and keys of qkv [tokens, 3 d] in place. Dimension i of a head is paired with
// dimension i + pairs; turns is [position][pairs] of cosine and sine. Grid: tokens; 256 threads.
extern "C" __global__ void __launch_bounds__(256)
    rotate(float *qkv, const u32 *position, const float *turns, int pairs, int d, int d_head) {
    float *token = qkv + (u64)blockIdx.x * 3 * d;
    const float *turn = turns + (u64)position[blockIdx.x] * pairs * 2;
    for (int i = threadIdx.x; i < 2 * (d / d_head) * pairs; i += 256) {
        int pair = i % pairs, at = i / pairs * d_head + pair;
        float c = turn[pair * 2], s = turn[pair * 2 + 1], a = token[at], b = token[at + pairs];
        token[at] = a * c - b * s, token[at + pairs] = b * c + a * s;
    }
}

#define LAYER_NORM \
    const float *x, int rows, int d, const float *gain, const float *bias, float eps, u16 *out, u64 plane
#define ATTENTION                                                                                              \
    const float *qkv, const u32 *start, const u32 *length, int d, int d_head, float scale, u16 *out, u64 plane

extern "C" __global__ void __launch_bounds__(256) layer_norm_f16(LAYER_NORM) {
    layer_norm<F16>(x, rows, d, gain, bias, eps, out, plane);
}
extern "C" __global__ void __launch_bounds__(256) layer_norm_bf16(LAYER_NORM) {
    layer_norm<Bf16>(x, rows, d, gain, bias, eps, out, plane);
}
extern "C" __global__ void __launch_bounds__(256) attention_f16(ATTENTION) {
    attention<F16>(qkv, start, length, d, d_head, scale, out, plane);
}
extern "C" __global__ void __launch_bounds__(256) attention_bf16(ATTENTION) {
    attention<Bf16>(qkv, start, length, d, d_head, scale, out, plane);
}
