/* Linear layers of int8 or four-bit weights with the experts' deltas, several on one input.
 *
 * Three passes, one after the other: prepare the input and round it to int8 (input.c); each token's products with its
 * experts' A and K (delta.c); tiles of W, on which g, B and the sum with the residual stream follow (delta.c)
 * while they are in cache.
 */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "linear.h"


ALWAYS void store_tile(const hs_linear *layer, const hs_row *line, __m512i sum, int column, float *out) {
    float *to = out + (size_t)line->token * layer->out + column;
    sum = _mm512_sub_epi32(sum, _mm512_loadu_si512(layer->offset + column));
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(layer->scale + column));
    y = _mm512_mul_ps(y, _mm512_set1_ps(line->scale));
    _mm512_storeu_ps(to, line->adds ? _mm512_add_ps(_mm512_loadu_ps(to), y) : y);
}

/* Sums with names of their own: the compiler keeps an array of them in memory. */
#define START(r) __m512i left##r = _mm512_setzero_si512(), right##r = left##r;
#define STEP(r)                                                          \
    if (rows > r) {                                                      \
        __m512i values = _mm512_set1_epi32(load_four(x + 4 * r));        \
        add_products(&left##r, values, first);                           \
        if (tiles > 1) add_products(&right##r, values, second);          \
    }
#define STORE(r)                                                         \
    if (rows > r) {                                                      \
        store_tile(layer, list + r, left##r, o, out);                    \
        if (tiles > 1) store_tile(layer, list + r, right##r, o + TILE, out); \
    }

/* Sixteen sums of four products of bytes each. As an intrinsic, gcc 12 moves and stores every sum at every step. */
ALWAYS void add_products(__m512i *sum, __m512i values, __m512i weights) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(values), "v"(weights));
}

ALWAYS int32_t load_four(const uint8_t *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return four;
}

/* Up to ROWS rows times one or two tiles from output `o` on. */
ALWAYS void multiply(const int rows, const int tiles, const hs_linear *layer, const hs_row *list, const uint8_t *x, int o,
                     float *out) {
    const int8_t *w = (const int8_t *)layer->weight + (size_t)o * layer->in, *next = w + (size_t)TILE * layer->in;
    EACH_ROW(START)
    for (int d = 0; d < layer->in / 4; d++, w += 64, next += 64, x += 4 * rows) {
        __m512i first = _mm512_loadu_si512(w), second = tiles > 1 ? _mm512_loadu_si512(next) : first;
        _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
        if (tiles > 1) _mm_prefetch((const char *)next + AHEAD, _MM_HINT_T0);
        EACH_ROW(STEP)
    }
    EACH_ROW(STORE)
}

#define CASE(n)                                                  \
    case n:                                                      \
        for (; o + 2 * TILE <= end; o += 2 * TILE) multiply(n, 2, layer, list, x, o, out); \
        for (; o < end; o += TILE) multiply(n, 1, layer, list, x, o, out);                 \
        return;

static void multiply_tile(const hs_linear *layer, const hs_row *list, int rows, const uint8_t *x, int o, int end,
                          float *out) {
    switch (rows) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) }
}

/* Outputs begin .. end - 1 of a layer for all rows. */
static void product(const hs_job *work, int index, int begin, int end) {
    int variant = work->scaled ? index : 0, rows = work->num_rows[variant], parts = num_parts(rows);
    const hs_linear *layer = work->layers[index];
    const hs_row *list = work->rows + (size_t)variant * 2 * work->tokens;
    for (int p = 0; p < parts; p++) {
        int first = tile_begin(rows, parts, p), count = tile_begin(rows, parts, p + 1) - first;
        const uint8_t *x = packed_rows(work, variant, first);
        if (layer->groups) hs_multiply_four_bit(layer, list + first, count, x, begin, end, work->outs[index]);
        else multiply_tile(layer, list + first, count, x, begin, end, work->outs[index]);
    }
}

static size_t take(size_t *used, size_t bytes) {
    size_t place = *used;
    *used += (bytes + 63) & ~(size_t)63;
    return place;
}

static void lay_out(hs_job *work, hs_workspace *space) {
    size_t used = 0, tokens = work->tokens, places = (size_t)work->variants * 2 * tokens;
    size_t x = take(&used, tokens * work->in * sizeof(float)), rounded = take(&used, places * work->in);
    size_t scales = take(&used, places * sizeof(float)), rows = take(&used, places * sizeof(hs_row));
    size_t packed = take(&used, places * row_bytes(work));
    size_t hidden = take(&used, tokens * work->mixtures->width * work->count * work->width * sizeof(float));
    size_t scratch = take(&used, (size_t)space->pool->threads * work->in * sizeof(float));
    char *memory = hs_reserve(space, used);
    work->x = work->input->kind == HS_PLAIN ? (float *)work->input->x : (float *)(memory + x);
    work->rounded = (uint8_t *)memory + rounded;
    work->scales = (float *)(memory + scales);
    work->rows = (hs_row *)(memory + rows);
    work->packed = (uint8_t *)memory + packed;
    work->hidden = (float *)(memory + hidden);
    work->scratch = (float *)(memory + scratch);
}

static void round_token(void *argument, int t, int thread) {
    hs_job *work = argument;
    if (work->input->kind != HS_PLAIN) hs_prepare(work, t);
    for (int v = 0; v < work->variants; v++) hs_quantize(work, v, t, work->scratch + (size_t)thread * work->in);
}

static void pack_tile(void *argument, int piece, int thread) {
    const hs_job *work = argument;
    int variant = 0;
    for (; piece >= num_parts(work->num_rows[variant]); variant++) piece -= num_parts(work->num_rows[variant]);
    hs_pack_rows(work, variant, piece);
}

static void shrink(void *argument, int piece, int thread) {
    const hs_job *work = argument;
    int width = work->mixtures->width, count = work->count;
    hs_shrink(work, piece / count / width, piece / count % width, piece % count);
}

static void columns(void *argument, int piece, int thread) {
    const hs_job *work = argument;
    int index = 0, size = work->chunk_size;
    for (; piece >= (work->layers[index]->out + size - 1) / size; index++)
        piece -= (work->layers[index]->out + size - 1) / size;
    const hs_linear *layer = work->layers[index];
    int begin = piece * size, end = begin + size < layer->out ? begin + size : layer->out;
    if (work->tokens <= ROWS) hs_fetch(work, index, begin, end);
    product(work, index, begin, end);
    hs_finish(work, index, begin, end);
}

void hs_linears(hs_workspace *space, const hs_linear *const *layers, int count, const hs_input *input,
                const hs_mixtures *mixtures, float *const *outs, float *add) {
    hs_job work = {.layers = layers, .count = count, .variants = 1, .input = input, .mixtures = mixtures, .outs = outs,
                   .add = add, .tokens = mixtures->tokens, .in = layers[0]->in};
    hs_survey(&work);
    lay_out(&work, space);
    int total = 0;
    for (int i = 0; i < count; i++) total += layers[i]->out;
    int size = total / (space->pool->threads * 8) / 32 * 32;
    size = size < 64 ? 64 : size > 256 ? 256 : size;
    while (work.tokens > ROWS && size > 64 && size * work.in > 1 << 18) size /= 2; /* weights that stay in cache */
    work.chunk_size = size;
    int chunks = 0, tiles = 0;
    for (int i = 0; i < count; i++) chunks += (layers[i]->out + size - 1) / size;
    hs_share(space->pool, round_token, &work, work.tokens);
    hs_list_rows(&work);
    for (int v = 0; v < work.variants; v++) tiles += num_parts(work.num_rows[v]);
    hs_share(space->pool, pack_tile, &work, tiles);
    if (work.width) hs_share(space->pool, shrink, &work, work.tokens * mixtures->width * count);
    hs_share(space->pool, columns, &work, chunks);
}
#endif
