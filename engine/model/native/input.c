/* The first pass: what the layers see, rounded to int8 and laid side by side in tiles of rows. */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "linear.h"

static const float OUTLIER_RATIO = 12.0f; /* as in engine/model/kernels.py */

void hs_prepare(const hs_job *work, int t) {
    const hs_input *input = work->input;
    const float *x = input->x + (size_t)t * work->in;
    float *to = work->x + (size_t)t * work->in;
    if (input->kind == HS_NORM) {
        __m512 squares = _mm512_setzero_ps();
        for (int i = 0; i < work->in; i += 16) {
            __m512 v = _mm512_loadu_ps(x + i);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        float inverse = 1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares) / work->in + input->eps);
        for (int i = 0; i < work->in; i += 16) {
            __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(inverse));
            _mm512_storeu_ps(to + i, _mm512_mul_ps(v, _mm512_loadu_ps(input->other + i)));
        }
    } else {
        const float *up = input->other + (size_t)t * work->in;
        for (int i = 0; i < work->in; i += 16)
            _mm512_storeu_ps(to + i, _mm512_mul_ps(silu(_mm512_loadu_ps(x + i)), _mm512_loadu_ps(up + i)));
    }
}

/* x * (1 + the weighted sum of the experts' c), sixteen at a time. */
ALWAYS __m512 scaled_input(const hs_job *work, const hs_linear *layer, int t, int i) {
    __m512 x = _mm512_loadu_ps(work->x + (size_t)t * work->in + i);
    const hs_mixtures *mix = work->mixtures;
    __m512 factor = _mm512_set1_ps(1.0f);
    for (int e = 0; e < mix->width; e++) {
        int slot = mix->slots[t * mix->width + e];
        if (slot < 0 || !layer->deltas[slot].c) continue;
        __m512 weight = _mm512_set1_ps(mix->weights[t * mix->width + e]);
        factor = _mm512_fmadd_ps(weight, _mm512_loadu_ps(layer->deltas[slot].c + i), factor);
    }
    return _mm512_mul_ps(x, factor);
}

/* To 1..255 around 128, by the row's peak; returns the scale. */
ALWAYS float round_row(const float *x, int in, float peak, uint8_t *to) {
    float scale = peak / LEVELS;
    if (scale < 1.17549435e-38f) scale = 1.17549435e-38f;
    __m512 divisor = _mm512_set1_ps(scale);
    for (int i = 0; i < in; i += 16) {
        __m512i q = _mm512_cvtps_epi32(_mm512_div_ps(_mm512_loadu_ps(x + i), divisor));
        _mm_storeu_si128((__m128i *)(to + i), _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(ZERO))));
    }
    return scale;
}

static float peak_of(const float *x, int in, float *mean) {
    __m512 peak = _mm512_setzero_ps(), sum = _mm512_setzero_ps();
    for (int i = 0; i < in; i += 16) {
        __m512 v = _mm512_abs_ps(_mm512_loadu_ps(x + i));
        peak = _mm512_max_ps(v, peak); /* a NaN of v is passed over */
        sum = _mm512_add_ps(sum, v);
    }
    *mean = _mm512_reduce_add_ps(sum) / in;
    return _mm512_reduce_max_ps(peak);
}

void hs_quantize(const hs_job *work, int variant, int t, float *scratch) {
    size_t place = (size_t)variant * 2 * work->tokens + t;
    const float *x = work->x + (size_t)t * work->in;
    if (work->scaled) {
        for (int i = 0; i < work->in; i += 16)
            _mm512_storeu_ps(scratch + i, scaled_input(work, work->layers[variant], t, i));
        x = scratch;
    }
    float mean, peak = peak_of(x, work->in, &mean);
    uint8_t *first = work->rounded + place * work->in;
    float scale = round_row(x, work->in, peak, first);
    if (mean != mean || mean > 3.4e38f) scale = __builtin_nanf(""); /* integers would hide what is not finite */
    work->scales[place] = scale;
    work->scales[place + work->tokens] = 0;
    if (!(scale * LEVELS > OUTLIER_RATIO * mean)) return;
    for (int i = 0; i < work->in; i += 16) {
        __m512i q = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(first + i)));
        __m512 whole = _mm512_cvtepi32_ps(_mm512_sub_epi32(q, _mm512_set1_epi32(ZERO)));
        __m512 rest = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_mul_ps(whole, _mm512_set1_ps(scale)));
        _mm512_storeu_ps(scratch + i, rest);
    }
    uint8_t *second = work->rounded + (place + work->tokens) * work->in;
    work->scales[place + work->tokens] = round_row(scratch, work->in, peak_of(scratch, work->in, &mean), second);
}

void hs_list_rows(hs_job *work) {
    for (int v = 0; v < work->variants; v++) {
        hs_row *rows = work->rows + (size_t)v * 2 * work->tokens;
        int found = 0;
        for (int term = 0; term < 2; term++)
            for (int t = 0; t < work->tokens; t++) {
                size_t place = ((size_t)v * 2 + term) * work->tokens + t;
                if (term && work->scales[place] == 0) continue;
                rows[found++] = (hs_row){work->rounded + place * work->in, work->scales[place], t, term};
            }
        work->num_rows[v] = found;
    }
}

/* Four inputs of each row of a tile side by side, so that the product reads them in one stream. */
void hs_pack_rows(const hs_job *work, int variant, int part) {
    int rows = work->num_rows[variant], parts = num_parts(rows);
    int begin = tile_begin(rows, parts, part), count = tile_begin(rows, parts, part + 1) - begin;
    const hs_row *list = work->rows + (size_t)variant * 2 * work->tokens + begin;
    uint8_t *to = packed_rows(work, variant, begin);
    if (work->layers[0]->groups) {
        hs_pack_signed_rows(list, count, work->in, to);
        return;
    }
    for (int d = 0; d < work->in / 4; d++)
        for (int r = 0; r < count; r++, to += 4) memcpy(to, list[r].values + 4 * d, 4);
}

#endif
