// From pre-activations without bias to all that is wanted of them, in one pass:
//
//   pre = x + bias,  post = GELU(pre)                            [tokens, width]
//   next = post in sixteen bits, for the product with W_out      [tokens, row_length(width)]
//   kept = scale (post - pilot) of kept tokens, in sixteen bits  [width, kept tokens]
//   sums over kept tokens, per neuron and 256 tokens             [chunks][SUMS][width]
//
// `slot[t]` is the column of token t in `kept`, or -1. Sums: of (pre - centre)^1..4, of
// kept values and their squares, and counts of pre above 0, pre above `edge`, and post
// below `low`. Kept values are summed as they were rounded, so that means and products
// are those of the same numbers. Scales are powers of two: they change no digit.
//
// Grid: (width / 32, tokens / 256), rounded up; 256 threads, 32 neurons x 8 tokens.
#include "number.cuh"

enum { NEURONS = 32, CHUNK = 256, SUMS = 9 };

__device__ inline float gelu(float x, int erf_form) {
    if (erf_form) return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    // x / (1 + e^-2u) equals x/2 (1 + tanh u), and is accurate for large negative x.
    float u = 0.79788456f * (x + 0.044715f * x * x * x);
    return u < -40.0f ? 0.0f * x : x / (1.0f + exp_approx(-2.0f * u));
}

struct Neuron {
    float bias, centre, pilot, scale;
};

template <typename T>
__device__ void activation(const float *x, int tokens, int width, const Neuron *neurons, const int *slot, int erf_form,
                           float edge, float low, u16 *next, u64 next_plane, u16 *kept, int ld, u64 kept_plane,
                           float *sums) {
    __shared__ u16 turned[2][NEURONS][NEURONS + 2];
    __shared__ float totals[8][NEURONS];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int first = blockIdx.x * NEURONS, neuron = first + lane;
    Neuron of = neuron < width ? neurons[neuron] : Neuron{0, 0, 0, 0};
    float s[SUMS] = {0, 0, 0, 0, 0, 0, 0, 0, 0};
    int begin = blockIdx.y * CHUNK, end = begin + CHUNK < tokens ? begin + CHUNK : tokens;
    for (int block = begin; block < end; block += NEURONS) {
        for (int row = warp; row < NEURONS; row += 8) {
            int token = block + row;
            if (token >= end || neuron >= width) continue;
            u64 at = (u64)token * width + neuron;
            float pre = x[at] + of.bias, post = gelu(pre, erf_form);
            u16 hi, lo;
            split<T>(post, &hi, &lo);
            u64 to = token * row_length(width) + neuron;
            next[to] = hi;
            if (next_plane) next[to + next_plane] = lo;
            if (slot[token] < 0) continue;
            split<T>((post - of.pilot) * of.scale, &hi, &lo);
            turned[0][lane][row] = hi, turned[1][lane][row] = lo;
            float v = T::widen(hi) + (kept_plane ? T::widen(lo) : 0.0f), d = pre - of.centre;
            s[0] += d, s[1] += d * d, s[2] += d * d * d, s[3] += d * d * d * d;
            s[4] += v, s[5] += v * v;
            s[6] += pre > 0.0f, s[7] += pre > edge, s[8] += post < low;
        }
        __syncthreads();
        // Transposed: each lane now handles one token, so that neighbouring values are written together.
        int token = block + lane;
        if (token < end && slot[token] >= 0)
            for (int i = warp; i < NEURONS && first + i < width; i += 8) {
                u64 at = (u64)(first + i) * ld + slot[token];
                kept[at] = turned[0][i][lane];
                if (kept_plane) kept[at + kept_plane] = turned[1][i][lane];
            }
        __syncthreads();
    }
    for (int q = 0; q < SUMS; q++) {
        totals[warp][lane] = s[q];
        __syncthreads();
        if (warp == 0 && neuron < width) {
            float total = 0.0f;
            for (int w = 0; w < 8; w++) total += totals[w][lane];
            sums[((u64)blockIdx.y * SUMS + q) * width + neuron] = total;
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(256)
    activation_f16(const float *x, int tokens, int width, const Neuron *neurons, const int *slot, int erf_form,
                   float edge, float low, u16 *next, u64 next_plane, u16 *kept, int ld, u64 kept_plane,
                   float *sums) {
    activation<F16>(x, tokens, width, neurons, slot, erf_form, edge, low, next, next_plane, kept, ld, kept_plane,
                    sums);
}
extern "C" __global__ void __launch_bounds__(256)
    activation_bf16(const float *x, int tokens, int width, const Neuron *neurons, const int *slot, int erf_form,
                    float edge, float low, u16 *next, u64 next_plane, u16 *kept, int ld, u64 kept_plane,
                    float *sums) {
    activation<Bf16>(x, tokens, width, neurons, slot, erf_form, edge, low, next, next_plane, kept, ld, kept_plane,
                     sums);
}

// counts[neuron][bin] += 1 for the pre-activation of every token with slot >= 0. Bin i holds values in
// (-10 + (i - 1) 25/255, -10 + i 25/255]; the first and the last bin are open. In f64 and by division, as on
// the CPU, so that a value on an edge lies in the same bin. Grid: (width / 32, tokens / 256), rounded up;
// 256 threads, 32 neurons x 8 tokens.
enum { EDGES = 256 };

extern "C" __global__ void __launch_bounds__(256)
    histogram(const float *x, int tokens, int width, const int *slot, u32 *counts) {
    int neuron = blockIdx.x * NEURONS + (threadIdx.x & 31), begin = blockIdx.y * CHUNK;
    int end = begin + CHUNK < tokens ? begin + CHUNK : tokens;
    if (neuron >= width) return;
    for (int token = begin + (threadIdx.x >> 5); token < end; token += 8) {
        if (slot[token] < 0) continue;
        int bin = __double2int_ru(((double)x[(u64)token * width + neuron] + 10.0) / (25.0 / 255.0));
        bin = bin < 0 ? 0 : bin < EDGES ? bin : EDGES;
        atomicAdd(&counts[(u64)neuron * (EDGES + 1) + bin], 1u);
    }
}
