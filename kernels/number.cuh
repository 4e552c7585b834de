// Sixteen-bit numbers, and instructions for which the compiler has no intrinsic.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// IEEE binary16: 11 significant bits, up to 65,504.
struct F16 {
    static __device__ u16 round(float x) {
        // Finite values beyond the largest f16 become the largest; infinities and NaN stay, so that a
        // non-finite neuron is detected.
        float size = fabsf(x);
        if (size > 65504.0f && size < __int_as_float(0x7f800000)) x = copysignf(65504.0f, x);
        u16 bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
        return bits;
    }
    static __device__ float widen(u16 bits) {
        float x;
        asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
        return x;
    }
};

// bfloat16: 8 significant bits, the range of f32.
struct Bf16 {
    static __device__ u16 round(float x) {
        u16 bits;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
        return bits;
    }
    static __device__ float widen(u16 bits) { return __uint_as_float((u32)bits << 16); }
};

// Splits x into two sixteen-bit numbers: `lo` holds the rounding error of `hi`.
template <typename T>
__device__ void split(float x, u16 *hi, u16 *lo) {
    *hi = T::round(x);
    *lo = T::round(x - T::widen(*hi));
}

// Distance between the rows of an operand of `columns` columns: a multiple of eight values, 16 bytes.
__device__ inline u64 row_length(int columns) { return (columns + 7) / 8 * 8; }

// e^x by ex2.approx: relative error below 2^-22 for |x| < 20.
__device__ inline float exp_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.44269504f));
    return y;
}
