/* Sixteen floats at a time, for CPUs with AVX-512 and its VNNI. Included by the kernels only. */
#ifndef HOTSEAT_VECTOR_H
#define HOTSEAT_VECTOR_H

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")
#include <immintrin.h>
#include <stdint.h>

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS __mmask16 first_lanes(int count) { return count >= 16 ? 0xffff : (__mmask16)((1u << count) - 1); }

ALWAYS __m512 widen(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

ALWAYS __m512 load_bf16(const uint16_t *from) { return widen(_mm256_loadu_si256((const __m256i *)from)); }

ALWAYS __m512 load_bf16_some(__mmask16 lanes, const uint16_t *from) {
    return widen(_mm256_maskz_loadu_epi16(lanes, from));
}

/* To the nearest bf16, ties to even. */
ALWAYS __m256i narrow(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

/* e^x = 2^n e^f with f within ln(2) / 2 of zero, where the series to x^7 / 7! is exact to fp32. */
ALWAYS __m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-104.0f));
    x = _mm512_min_ps(x, _mm512_set1_ps(89.0f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x); /* ln(2) in two parts */
    f = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), f);
    static const float factors[] = {1 / 5040.0f, 1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1.0f, 1.0f};
    __m512 sum = _mm512_set1_ps(factors[0]);
    for (int i = 1; i < 8; i++) sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(factors[i]));
    return _mm512_scalef_ps(sum, n);
}

ALWAYS __m512 silu(__m512 x) {
    __m512 one = _mm512_set1_ps(1.0f);
    __m512 below = _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x)));
    return _mm512_div_ps(x, below);
}

#endif
