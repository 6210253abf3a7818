/* Weights to int8 and to four bits, once, when a base is loaded. */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "linear.h"

#define TINIEST 1.17549435e-38f

/* What may be tried as a group's scale: its peak at 1 / (127 * these). As in engine/model/four_bit.py. */
static const float REACHES[] = {0.72f, 0.76f, 0.8f, 0.84f, 0.88f, 0.92f, 0.96f, 1.0f, 1.04f, 1.08f, 1.12f};
static const float UNIT = 1 / (LEVELS * 0.72f * LEVELS); /* of the groups' scales, where an output's peak is 1 */
enum { NUM_REACHES = sizeof REACHES / sizeof *REACHES, CELLS = 32, CELL = 256 / CELLS };

static float peak_of(const float *row, int in) {
    float peak = 0;
    for (int i = 0; i < in; i++) peak = __builtin_fabsf(row[i]) > peak ? __builtin_fabsf(row[i]) : peak;
    return peak;
}

/* One row of int8, each value a quarter of a column of its tile, and its scale: the row's peak is 127. */
static void quantize_row(const hs_weight *to, const float *row, int o, int in) {
    float scale = peak_of(row, in) / LEVELS;
    if (scale < TINIEST) scale = TINIEST;
    int8_t *tile = (int8_t *)to->values + (size_t)(o / TILE) * TILE * in + (o % TILE) * 4;
    int32_t sum = 0;
    for (int i = 0; i < in; i++) {
        int8_t value = (int8_t)__builtin_rintf(row[i] / scale);
        tile[(size_t)(i / 4) * 64 + i % 4] = value;
        sum += value;
    }
    to->scale[o] = scale;
    to->offset[o] = ZERO * sum;
}

/* Which of the sixteen levels is nearest: the cells of -128 .. 128 are so narrow that each is cut by one middle at most. */
typedef struct {
    float before[CELLS], middle[CELLS], level[16];
} nearest;

typedef struct {
    const float *weight;
    const hs_weight *to;
    int out, in;
    nearest table;
} quantization;

static nearest nearest_level(void) {
    nearest table;
    for (int cell = 0; cell < CELLS; cell++) {
        table.before[cell] = 0;
        table.middle[cell] = 1e30f;
        for (int i = 0; i < 15; i++) {
            float middle = (HS_FOUR_BIT[i] + HS_FOUR_BIT[i + 1]) / 2.0f;
            if (middle < cell * CELL - 128) table.before[cell]++;
            else if (middle < (cell + 1) * CELL - 128) table.middle[cell] = middle;
        }
    }
    for (int i = 0; i < 16; i++) table.level[i] = HS_FOUR_BIT[i];
    return table;
}

ALWAYS __m512 look_up(const float *table, __m512i place) {
    return _mm512_permutex2var_ps(_mm512_loadu_ps(table), place, _mm512_loadu_ps(table + 16));
}

typedef float group_weights[GROUP][TILE];

/* Zero for zero. */
ALWAYS __m512 inverse_of(__m512 step) {
    __mmask16 some = _mm512_cmp_ps_mask(step, _mm512_setzero_ps(), _CMP_NEQ_OQ);
    return _mm512_maskz_div_ps(some, _mm512_set1_ps(1.0f), step);
}

ALWAYS __m512i codes_of(const nearest *table, __m512 v) {
    __m512 scaled = _mm512_mul_ps(_mm512_add_ps(v, _mm512_set1_ps(128)), _mm512_set1_ps(1.0f / CELL));
    __m512i cell = _mm512_cvttps_epi32(_mm512_max_ps(scaled, _mm512_setzero_ps()));
    cell = _mm512_min_epi32(cell, _mm512_set1_epi32(CELLS - 1));
    __mmask16 above = _mm512_cmp_ps_mask(v, look_up(table->middle, cell), _CMP_GE_OQ);
    __m512i before = _mm512_cvtps_epi32(look_up(table->before, cell));
    return _mm512_mask_add_epi32(before, above, before, _mm512_set1_epi32(1));
}

/* The scales of a tile's group in UNITs, with the least sums of squared errors among those tried. */
static __m512 choose_scales(const nearest *table, const group_weights weights) {
    __m512 levels = _mm512_loadu_ps(table->level), highest = _mm512_setzero_ps(), least = highest, best = highest;
    for (int i = 0; i < GROUP; i++) {
        __m512 w = _mm512_loadu_ps(weights[i]);
        highest = _mm512_max_ps(highest, _mm512_abs_ps(w));
        least = _mm512_fmadd_ps(w, w, least);
    }
    for (int tried = 0; tried < 2 * NUM_REACHES; tried++) {
        __m512 factor = _mm512_set1_ps((tried % 2 ? -LEVELS : LEVELS) * (REACHES[0] / REACHES[tried / 2]));
        __m512 units = _mm512_roundscale_ps(_mm512_mul_ps(highest, factor), _MM_FROUND_TO_NEAREST_INT);
        __m512 step = _mm512_mul_ps(units, _mm512_set1_ps(UNIT)), inverse = inverse_of(step), error = _mm512_setzero_ps();
        for (int i = 0; i < GROUP; i++) {
            __m512 w = _mm512_loadu_ps(weights[i]);
            __m512 level = _mm512_permutexvar_ps(codes_of(table, _mm512_mul_ps(w, inverse)), levels);
            __m512 miss = _mm512_fmsub_ps(level, step, w);
            error = _mm512_fmadd_ps(miss, miss, error);
        }
        __mmask16 better = _mm512_cmp_ps_mask(error, least, _CMP_LT_OQ);
        least = _mm512_mask_mov_ps(least, better, error);
        best = _mm512_mask_mov_ps(best, better, units);
    }
    return best;
}

/* Sixteen outputs, all of a tile; as hs_linear has them. */
static void quantize_tile(const nearest *table, const quantization *job, int tile) {
    const hs_weight *to = job->to;
    const float *rows = job->weight + (size_t)tile * TILE * job->in;
    float inverses[TILE];
    for (int lane = 0; lane < TILE; lane++) {
        float peak = peak_of(rows + (size_t)lane * job->in, job->in);
        if (peak < TINIEST) peak = TINIEST;
        inverses[lane] = 1 / peak; /* so that squares neither vanish nor overflow */
        to->scale[tile * TILE + lane] = peak * UNIT;
    }
    for (int g = 0; g < job->in / GROUP; g++) {
        size_t place = (size_t)tile * (job->in / GROUP) + g;
        group_weights weights;
        for (int lane = 0; lane < TILE; lane++)
            for (int i = 0; i < GROUP; i++) {
                float weight = rows[(size_t)lane * job->in + g * GROUP + i];
                weights[i][lane] = weight * inverses[lane];
            }
        __m512 units = choose_scales(table, weights);
        __m512 inverse = inverse_of(_mm512_mul_ps(units, _mm512_set1_ps(UNIT)));
        __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(units));
        _mm_storeu_si128((__m128i *)(to->groups + place * TILE), bytes);
        for (int quarter = 0; quarter < 4; quarter++) {
            __m512i words = _mm512_setzero_si512();
            for (int i = quarter * 4 + 3; i >= quarter * 4; i--) {
                __m512i low = codes_of(table, _mm512_mul_ps(_mm512_loadu_ps(weights[i]), inverse));
                __m512i high = codes_of(table, _mm512_mul_ps(_mm512_loadu_ps(weights[i + GROUP / 2]), inverse));
                words = _mm512_or_si512(_mm512_slli_epi32(words, 8), _mm512_or_si512(low, _mm512_slli_epi32(high, 4)));
            }
            _mm512_storeu_si512((uint8_t *)to->values + (place * 4 + quarter) * 64, words);
        }
    }
}

static void quantize_piece(void *argument, int tile, int thread) {
    const quantization *job = argument;
    if (job->to->groups) quantize_tile(&job->table, job, tile);
    for (int o = tile * TILE; !job->to->groups && o < (tile + 1) * TILE; o++)
        quantize_row(job->to, job->weight + (size_t)o * job->in, o, job->in);
}

void hs_quantize_weight(hs_workspace *space, const float *weight, int32_t out, int32_t in, const hs_weight *to) {
    quantization job = {weight, to, out, in, nearest_level()};
    hs_share(space->pool, quantize_piece, &job, out / TILE);
}
#endif
