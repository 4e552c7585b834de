// Changes chosen columns of activations, for interventions:
//   x[t][column] = min(max(x[t][column] scale + add, low), high)
// `rule` is [count][4]: scale, add, low and high of each column. Tokens with a `mark` of 0 stay as they are;
// `mark` may be null: all tokens are changed. No column occurs twice.
//
// Grid: tokens, columns / 256 rounded up; 256 threads, one per column.
#include "number.cuh"

__device__ inline float change(float x, const float *rule) {
    return fminf(fmaxf(x * rule[0] + rule[1], rule[2]), rule[3]);
}

#define CHANGE const u32 *columns, const float *rule, const u32 *mark, int count

// x is f32, with rows of `width` values.
extern "C" __global__ void __launch_bounds__(256) change_values(float *x, int width, CHANGE) {
    int c = blockIdx.y * 256 + threadIdx.x;
    if (c >= count || (mark && !mark[blockIdx.x])) return;
    float *at = x + (u64)blockIdx.x * width + columns[c];
    *at = change(*at, rule + 4 * c);
}

// x is hi + lo in sixteen bits (number.cuh), or hi only if `plane` is 0; its rows start every `ld` values.
template <typename T>
__device__ void change_operand(u16 *x, int ld, u64 plane, CHANGE) {
    int c = blockIdx.y * 256 + threadIdx.x;
    if (c >= count || (mark && !mark[blockIdx.x])) return;
    u16 *at = x + (u64)blockIdx.x * ld + columns[c], lo;
    float value = T::widen(*at);
    if (plane) value += T::widen(at[plane]);
    split<T>(change(value, rule + 4 * c), at, &lo);
    if (plane) at[plane] = lo;
}

extern "C" __global__ void __launch_bounds__(256) change_operand_f16(u16 *x, int ld, u64 plane, CHANGE) {
    change_operand<F16>(x, ld, plane, columns, rule, mark, count);
}
extern "C" __global__ void __launch_bounds__(256) change_operand_bf16(u16 *x, int ld, u64 plane, CHANGE) {
    change_operand<Bf16>(x, ld, plane, columns, rule, mark, count);
}
