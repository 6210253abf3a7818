/* What the experts do: the products with A and K before W, and g and B on the outputs while they are in cache. */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "linear.h"

/* What the experts in use ask for: roundings of their own (c) and room for their products with A and K. */
void hs_survey(hs_job *work) {
    const hs_mixtures *mix = work->mixtures;
    for (int place = 0; place < mix->tokens * mix->width; place++)
        for (int index = 0; mix->slots[place] >= 0 && index < work->count; index++) {
            const hs_delta *delta = work->layers[index]->deltas + mix->slots[place];
            int width = !delta->a ? 0 : delta->k ? (delta->l + delta->m) * delta->rank : delta->rank;
            if (width > work->width) work->width = width;
            if (delta->c) work->scaled = 1, work->variants = work->count;
        }
}

/* Up to four rows of A times x; the four rows that follow are on their way meanwhile. */
ALWAYS void dots(const int rows, const float *x, const uint16_t *a, int n, float weight, float *to) {
    __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            sums[r] = _mm512_fmadd_ps(v, load_bf16(a + (size_t)r * n + i), sums[r]);
            _mm_prefetch((const char *)(a + (size_t)(r + 4) * n + i), _MM_HINT_T0);
        }
    }
    __mmask16 lanes = first_lanes(n - i);
    __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        if (i < n) sums[r] = _mm512_fmadd_ps(v, load_bf16_some(lanes, a + (size_t)r * n + i), sums[r]);
        to[r] = weight * _mm512_reduce_add_ps(sums[r]);
    }
}

/* hidden [l, rank] = weight * K X A^T, with the token as a matrix X [m, in / m]. */
void hs_shrink(const hs_job *work, int t, int e, int index) {
    const hs_mixtures *mix = work->mixtures;
    int slot = mix->slots[t * mix->width + e];
    if (slot < 0) return;
    const hs_delta *delta = work->layers[index]->deltas + slot;
    if (!delta->a) return;
    float weight = mix->weights[t * mix->width + e], *to = hidden_of(work, t, e, index);
    const float *x = work->x + (size_t)t * work->in;
    int rank = delta->rank, n = work->in / delta->m;
    float *products = delta->k ? to + delta->l * rank : to; /* [m, rank] */
    for (int m = 0; m < delta->m; m++) {
        int r = 0;
        for (; r + 4 <= rank; r += 4)
            dots(4, x + (size_t)m * n, delta->a + (size_t)r * n, n, weight, products + m * rank + r);
        for (; r < rank; r++)
            dots(1, x + (size_t)m * n, delta->a + (size_t)r * n, n, weight, products + m * rank + r);
    }
    if (!delta->k) return;
    memset(to, 0, sizeof(float) * delta->l * rank);
    for (int l = 0; l < delta->l; l++)
        for (int m = 0; m < delta->m; m++) {
            float k = delta->k[l * delta->m + m];
            for (int r = 0; r < rank; r++) to[l * rank + r] += k * products[m * rank + r];
        }
}

/* y [begin, end) += the token's hidden values times B; block l of the outputs has hidden values of its own. */
static void expand(const hs_delta *delta, const float *hidden, int out, int begin, int end, float *y) {
    int block_size = out / delta->l;
    for (int o = begin; o < end;) {
        int block = o / block_size, first = block * block_size;
        int stop = end < first + block_size ? end : first + block_size;
        for (; o + 64 <= stop; o += 64) {
            __m512 sums[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) sums[j] = _mm512_loadu_ps(y + o + j * 16);
            for (int r = 0; r < delta->rank; r++) {
                const uint16_t *b = delta->b + (size_t)r * block_size + (o - first);
                __m512 h = _mm512_set1_ps(hidden[block * delta->rank + r]);
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) sums[j] = _mm512_fmadd_ps(h, load_bf16(b + j * 16), sums[j]);
            }
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) _mm512_storeu_ps(y + o + j * 16, sums[j]);
        }
        for (; o < stop; o += 16) {
            __mmask16 lanes = first_lanes(stop - o);
            __m512 sum = _mm512_maskz_loadu_ps(lanes, y + o);
            for (int r = 0; r < delta->rank; r++) {
                __m512 b = load_bf16_some(lanes, delta->b + (size_t)r * block_size + (o - first));
                sum = _mm512_fmadd_ps(_mm512_set1_ps(hidden[block * delta->rank + r]), b, sum);
            }
            _mm512_mask_storeu_ps(y + o, lanes, sum);
        }
        o = stop;
    }
}

void hs_finish(const hs_job *work, int index, int begin, int end) {
    const hs_linear *layer = work->layers[index];
    const hs_mixtures *mix = work->mixtures;
    for (int t = 0; t < work->tokens; t++) {
        float *y = work->outs[index] + (size_t)t * layer->out;
        const int32_t *slots = mix->slots + t * mix->width;
        int scales = 0;
        for (int e = 0; e < mix->width; e++) scales |= slots[e] >= 0 && layer->deltas[slots[e]].g;
        for (int o = begin; scales && o < end; o += 16) {
            __m512 factor = _mm512_set1_ps(1.0f);
            for (int e = 0; e < mix->width; e++) {
                if (slots[e] < 0 || !layer->deltas[slots[e]].g) continue;
                __m512 weight = _mm512_set1_ps(mix->weights[t * mix->width + e]);
                factor = _mm512_fmadd_ps(weight, _mm512_loadu_ps(layer->deltas[slots[e]].g + o), factor);
            }
            _mm512_storeu_ps(y + o, _mm512_mul_ps(_mm512_loadu_ps(y + o), factor));
        }
        for (int e = 0; e < mix->width; e++)
            if (slots[e] >= 0 && layer->deltas[slots[e]].a)
                expand(layer->deltas + slots[e], hidden_of(work, t, e, index), layer->out, begin, end, y);
        float *add = work->add + (size_t)t * layer->out;
        for (int o = begin; work->add && o < end; o += 16)
            _mm512_storeu_ps(add + o, _mm512_add_ps(_mm512_loadu_ps(add + o), _mm512_loadu_ps(y + o)));
    }
}

/* Have the parts of B and g that `finish` will read come in while the weights are multiplied. */
void hs_fetch(const hs_job *work, int index, int begin, int end) {
    const hs_linear *layer = work->layers[index];
    for (int place = 0; place < work->tokens * work->mixtures->width; place++) {
        if (work->mixtures->slots[place] < 0) continue;
        const hs_delta *delta = layer->deltas + work->mixtures->slots[place];
        for (int o = begin; delta->g && o < end; o += 16) _mm_prefetch((const char *)(delta->g + o), _MM_HINT_T1);
        for (int r = 0; delta->b && delta->l == 1 && r < delta->rank; r++)
            for (int o = begin; o < end; o += 32)
                _mm_prefetch((const char *)(delta->b + (size_t)r * layer->out + o), _MM_HINT_T1);
    }
}

#endif
