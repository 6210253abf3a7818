/* The product with weights of four bits.
 *
 * A tile's group of 32 inputs is unpacked into eight registers, whose bytes are levels + 128; the activations are signed
 * here, and what the 128 add is taken off by starting each group's integer sum at -128 times the sum of its activations.
 * A row then adds up its groups in fp32 from first to last, whatever rows it shares the registers with.
 */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "linear.h"

typedef int32_t __attribute__((may_alias)) hs_word;

/* Of one row and group: where the sum starts, and eight times four activations. */
enum { WORDS = 1 + GROUP / 4 };

void hs_pack_signed_rows(const hs_row *list, int count, int in, uint8_t *to) {
    for (int g = 0; g < in / GROUP; g++)
        for (int r = 0; r < count; r++, to += 4 * WORDS) {
            __m256i stored = _mm256_loadu_si256((const __m256i *)(list[r].values + g * GROUP));
            __m256i values = _mm256_xor_si256(stored, _mm256_set1_epi8((char)ZERO));
            __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), values);
            __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
            half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
            half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
            int32_t start = -ZERO * _mm_cvtsi128_si32(half);
            memcpy(to, &start, 4);
            _mm256_storeu_si256((__m256i *)(to + 4), values);
        }
}

/* As assembly for the reason told in linear.c, and so that four activations are read and spread in one instruction. */
ALWAYS void add_spread(__m512i *sum, __m512i weights, const hs_word *four) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(weights), "m"(*four));
}

ALWAYS void store_sums(const hs_linear *layer, const hs_row *line, __m512 sum, int o, float *out) {
    float *to = out + (size_t)line->token * layer->out + o;
    __m512 y = _mm512_mul_ps(sum, _mm512_loadu_ps(layer->scale + o));
    y = _mm512_mul_ps(y, _mm512_set1_ps(line->scale));
    _mm512_storeu_ps(to, line->adds ? _mm512_add_ps(_mm512_loadu_ps(to), y) : y);
}

#define UNPACK(j)                                                                                  \
    __m512i pair##j = _mm512_loadu_si512(w + 64 * j);                                              \
    __m512i low##j = _mm512_shuffle_epi8(levels, _mm512_and_si512(pair##j, half));                 \
    __m512i high##j = _mm512_shuffle_epi8(levels, _mm512_and_si512(_mm512_srli_epi16(pair##j, 4), half));
#define START(r) __m512 sum##r = _mm512_setzero_ps();
#define STEP(r)                                                               \
    if (rows > r) {                                                           \
        const hs_word *from = x + r * WORDS;                                  \
        __m512i whole = _mm512_set1_epi32(from[0]);                           \
        add_spread(&whole, low0, from + 1);                                   \
        add_spread(&whole, low1, from + 2);                                   \
        add_spread(&whole, low2, from + 3);                                   \
        add_spread(&whole, low3, from + 4);                                   \
        add_spread(&whole, high0, from + 5);                                  \
        add_spread(&whole, high1, from + 6);                                  \
        add_spread(&whole, high2, from + 7);                                  \
        add_spread(&whole, high3, from + 8);                                  \
        sum##r = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), scale, sum##r);   \
    }
#define STORE(r) \
    if (rows > r) store_sums(layer, list + r, sum##r, o, out);

/* Up to ROWS rows times the tile from output `o` on. */
ALWAYS void multiply(const int rows, const hs_linear *layer, const hs_row *list, const hs_word *x, int o, float *out) {
    int groups = layer->in / GROUP;
    const uint8_t *w = (const uint8_t *)layer->weight + (size_t)o * layer->in / 2;
    const int8_t *s = layer->groups + (size_t)o * groups;
    uint8_t bytes[16];
    for (int i = 0; i < 16; i++) bytes[i] = (uint8_t)(HS_FOUR_BIT[i] + ZERO);
    __m512i levels = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)bytes)), half = _mm512_set1_epi8(15);
    EACH_ROW(START)
    for (int g = 0; g < groups; g++, w += TILE * GROUP / 2, s += TILE, x += rows * WORDS) {
        for (int line = 0; line < 4; line++) _mm_prefetch((const char *)w + AHEAD + 64 * line, _MM_HINT_T0);
        _mm_prefetch((const char *)s + AHEAD / 16, _MM_HINT_T0);
        __m512 scale = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)s)));
        UNPACK(0) UNPACK(1) UNPACK(2) UNPACK(3)
        EACH_ROW(STEP)
    }
    EACH_ROW(STORE)
}

#define CASE(n)                                                                        \
    case n:                                                                            \
        for (; o < end; o += TILE) multiply(n, layer, list, (const hs_word *)x, o, out); \
        return;

void hs_multiply_four_bit(const hs_linear *layer, const hs_row *list, int rows, const uint8_t *x, int o, int end,
                          float *out) {
    switch (rows) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) }
}
#endif
