/* Attention over the paged cache: queries and keys are normed and rotated, keys and values stored, then each query of
 * a row looks at all positions up to its own. Keys lie transposed in their block, so that a score needs no sum across
 * lanes; a softmax sees all scores of a query at once, in the order of the positions.
 */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "pool.h"
#include "vector.h"

enum { TILE = 16, QUERIES = 8 };
enum { NANS = 0x81, PLUS_INFINITY = 0x08, MINUS_INFINITY = 0x10 }; /* of fpclass */

typedef struct {
    const hs_heads *shape;
    const hs_rows *rows;
    const hs_cache *cache;
    float *query;
    const float *key, *value;
    float *out;
    int group;        /* query heads that share a key head */
    int at_once;      /* tokens of a row that are attended for together */
    int items;        /* of such tokens, over all rows */
    float *memory;
    size_t room;      /* scores of one query */
} job;

/* Where a position of a row lies in the cache, in units of (block, head). */
ALWAYS size_t block_of(const job *work, int row, int position, int head) {
    const hs_rows *rows = work->rows;
    size_t block = rows->tables[(size_t)row * rows->table_width + position / work->shape->block_size];
    return block * work->shape->kv_heads + head;
}

/* RMSNorm over the head, then rotate its halves against each other. */
static void norm_and_rotate(const job *work, const float *x, const float *gain, int position, float *to) {
    const hs_heads *shape = work->shape;
    int n = shape->head_dim, half = n / 2;
    __m512 squares = _mm512_setzero_ps();
    for (int i = 0; i < n; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    __m512 inverse = _mm512_set1_ps(1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares) / n + shape->eps));
    for (int i = 0; i < half; i += 16) {
        __mmask16 lanes = first_lanes(half - i);
        __m512 low = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), inverse);
        __m512 high = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + half + i), inverse);
        low = _mm512_mul_ps(low, _mm512_maskz_loadu_ps(lanes, gain + i));
        high = _mm512_mul_ps(high, _mm512_maskz_loadu_ps(lanes, gain + half + i));
        __m512 cosine = _mm512_maskz_loadu_ps(lanes, work->rows->cosines + (size_t)position * n + i);
        __m512 sine = _mm512_maskz_loadu_ps(lanes, work->rows->sines + (size_t)position * n + i);
        _mm512_mask_storeu_ps(to + i, lanes, _mm512_fmsub_ps(low, cosine, _mm512_mul_ps(high, sine)));
        _mm512_mask_storeu_ps(to + half + i, lanes, _mm512_fmadd_ps(high, cosine, _mm512_mul_ps(low, sine)));
    }
}

/* The largest magnitude; NaN where a value is not finite, which max would pass over. */
static float peak(const float *x, int n) {
    __m512 found = _mm512_setzero_ps();
    __mmask16 faults = 0;
    for (int i = 0; i < n; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        faults |= _mm512_fpclass_ps_mask(v, NANS | PLUS_INFINITY | MINUS_INFINITY);
        found = _mm512_max_ps(_mm512_abs_ps(v), found);
    }
    return faults ? __builtin_nanf("") : _mm512_reduce_max_ps(found);
}

/* `values` [head_dim] to the cache, `stride` elements apart; int8 with the scale returned through `scale`. */
static void store(const float *values, int n, void *to, size_t place, size_t stride, float *scale) {
    uint16_t halves[TILE];
    int8_t bytes[TILE];
    float step = scale ? peak(values, n) / 127 : 0;
    if (scale) *scale = step;
    __m512 inverse = _mm512_set1_ps(step > 0 ? 1 / step : 0);
    for (int i = 0; i < n; i += TILE) {
        __m512 v = _mm512_loadu_ps(values + i);
        if (scale)
            _mm_storeu_si128((__m128i *)bytes, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v, inverse))));
        else
            _mm256_storeu_si256((__m256i *)halves, narrow(v));
        for (int j = 0; j < TILE; j++)
            if (scale)
                ((int8_t *)to)[place + (size_t)(i + j) * stride] = bytes[j];
            else
                ((uint16_t *)to)[place + (size_t)(i + j) * stride] = halves[j];
    }
}

/* The queries of a key head, its key and its value. */
static void write_head(const job *work, int row, int t, int head, float *scratch) {
    const hs_heads *shape = work->shape;
    int n = shape->head_dim, position = work->rows->starts[row] + t - work->rows->begins[row];
    size_t at = position % shape->block_size, block = block_of(work, row, position, head);
    for (int h = head * work->group; h < (head + 1) * work->group; h++) {
        float *query = work->query + ((size_t)t * shape->heads + h) * n;
        norm_and_rotate(work, query, shape->query_gain, position, query);
        for (int i = 0; i < n; i += 16)
            _mm512_storeu_ps(query + i, _mm512_mul_ps(_mm512_loadu_ps(query + i), _mm512_set1_ps(shape->scale)));
    }
    const hs_cache *cache = work->cache;
    size_t scale = block * shape->block_size + at, from = ((size_t)t * shape->kv_heads + head) * n;
    norm_and_rotate(work, work->key + from, shape->key_gain, position, scratch);
    store(scratch, n, cache->keys, block * n * shape->block_size + at, shape->block_size,
          cache->key_scales ? cache->key_scales + scale : 0);
    store(work->value + from, n, cache->values, scale * n, 1, cache->value_scales ? cache->value_scales + scale : 0);
}

ALWAYS __m512 load_cached(const void *from, size_t place, int bytes) {
    if (!bytes) return load_bf16((const uint16_t *)from + place);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)((const int8_t *)from + place))));
}

/* Sums with names of their own: the compiler keeps an array of them in memory. */
#define EACH_SUM(DO) \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)
#define START(n) __m512 sum##n = _mm512_setzero_ps();

#define SCORE_STEP(n)        \
    if (n < queries * tiles) \
        sum##n = _mm512_fmadd_ps(_mm512_set1_ps(query[n / tiles][i]), keys[n % tiles], sum##n);
#define SCORE_STORE(n)                                                               \
    if (n < queries * tiles) {                                                       \
        const float *scale = work->cache->key_scales + scales[n % tiles];            \
        if (bytes) sum##n = _mm512_mul_ps(sum##n, _mm512_loadu_ps(scale));           \
        _mm512_storeu_ps(scores[n / tiles] + position + (n % tiles) * TILE, sum##n); \
    }

/* Scores of `queries` queries for `tiles` times sixteen positions. */
ALWAYS void score_tiles(const int queries, const int tiles, const int bytes, const job *work, int row, int head,
                        const float *const *query, int position, int end, float *const *scores) {
    const hs_heads *shape = work->shape;
    size_t places[4], scales[4], ahead[4], width = bytes ? 1 : 2;
    for (int j = 0; j < tiles; j++) {
        int at = position + j * TILE, next = at + tiles * TILE < end ? at + tiles * TILE : at;
        size_t block = block_of(work, row, at, head), inside = at % shape->block_size;
        places[j] = block * shape->head_dim * shape->block_size + inside;
        scales[j] = block * shape->block_size + inside;
        ahead[j] = block_of(work, row, next, head) * shape->head_dim * shape->block_size + next % shape->block_size;
    }
    EACH_SUM(START)
    for (int i = 0; i < shape->head_dim; i++) {
        __m512 keys[4];
#pragma GCC unroll 4
        for (int j = 0; j < tiles; j++) {
            keys[j] = load_cached(work->cache->keys, places[j] + (size_t)i * shape->block_size, bytes);
            const char *next = (const char *)work->cache->keys + (ahead[j] + (size_t)i * shape->block_size) * width;
            _mm_prefetch(next, _MM_HINT_T0);
        }
        EACH_SUM(SCORE_STEP)
    }
    EACH_SUM(SCORE_STORE)
}

#define SCORE(n, tiles)                                                                                        \
    case n:                                                                                                    \
        for (; position + (tiles)*TILE <= end; position += (tiles)*TILE)                                       \
            if (bytes) score_tiles(n, tiles, 1, work, row, head, query, position, end, scores);                     \
            else score_tiles(n, tiles, 0, work, row, head, query, position, end, scores);                           \
        for (; position < end; position += TILE)                                                               \
            if (bytes) score_tiles(n, 1, 1, work, row, head, query, position, end, scores);                         \
            else score_tiles(n, 1, 0, work, row, head, query, position, end, scores);                               \
        return;

/* The more queries share a key, the fewer positions are needed to keep the sums apart. */
static void score(const job *work, int row, int head, int queries, const float *const *query, int end,
                  float *const *scores) {
    int position = 0, bytes = work->cache->key_scales != 0;
    switch (queries) {
        SCORE(1, 4) SCORE(2, 4) SCORE(3, 2) SCORE(4, 2) SCORE(5, 1) SCORE(6, 1) SCORE(7, 1) SCORE(8, 1)
    }
}

/* exp(score - peak), in place, and the inverse of their sum; NaN where that is not a number, which max would pass over.
 * Scores from `count` on are not looked at. */
static float softmax(float *scores, int count) {
    __m512 high = _mm512_set1_ps(-__builtin_inff()), total = _mm512_setzero_ps();
    __mmask16 faults = 0;
    for (int i = 0; i < count; i += 16) {
        __mmask16 lanes = first_lanes(count - i);
        __m512 v = _mm512_maskz_loadu_ps(lanes, scores + i);
        faults |= _mm512_mask_fpclass_ps_mask(lanes, v, NANS | PLUS_INFINITY);
        high = _mm512_mask_max_ps(high, lanes, high, v);
    }
    if (faults) return __builtin_nanf("");
    __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(high));
    for (int i = 0; i < count; i += 16) {
        __mmask16 lanes = first_lanes(count - i);
        __m512 share = exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, scores + i), top));
        _mm512_mask_storeu_ps(scores + i, lanes, share);
        total = _mm512_mask_add_ps(total, lanes, total, share);
    }
    return 1.0f / _mm512_reduce_add_ps(total);
}

#define MIX_LOAD(n) \
    if (n < queries * chunks && first) sum##n = _mm512_loadu_ps(out[n / chunks] + begin + n % chunks * 16);
#define MIX_STEP(n) \
    if (n < queries * chunks) sum##n = _mm512_fmadd_ps(_mm512_set1_ps(share[n / chunks]), values[n % chunks], sum##n);
#define MIX_STORE(n) \
    if (n < queries * chunks) _mm512_storeu_ps(out[n / chunks] + begin + n % chunks * 16, sum##n);

/* out [begin .. begin + chunks * 16) += the shares times the values of positions first .. last - 1. */
ALWAYS void mix_values(const int queries, const int chunks, const int bytes, const job *work, int row, int head,
                       int begin, int first, int last, float *const *shares, float *const *out) {
    const hs_heads *shape = work->shape;
    size_t base = 0, ahead = 0, width = bytes ? 1 : 2;
    EACH_SUM(START)
    EACH_SUM(MIX_LOAD)
    for (int position = first; position < last; position++) {
        int inside = position % shape->block_size, next = position + shape->block_size;
        if (position == first || !inside) {
            base = block_of(work, row, position, head) * shape->block_size;
            ahead = next - inside < last ? block_of(work, row, next, head) * shape->block_size : base;
        }
        float scale = bytes ? work->cache->value_scales[base + inside] : 1.0f, share[QUERIES];
        __m512 values[8];
#pragma GCC unroll 8
        for (int j = 0; j < chunks; j++) {
            values[j] = load_cached(work->cache->values, (base + inside) * shape->head_dim + begin + j * 16, bytes);
            size_t place = (ahead + inside) * shape->head_dim + begin + j * 16;
            if (j % 2 == 0) _mm_prefetch((const char *)work->cache->values + place * width, _MM_HINT_T0);
        }
#pragma GCC unroll 8
        for (int q = 0; q < queries; q++) share[q] = shares[q][position] * scale;
        EACH_SUM(MIX_STEP)
    }
    EACH_SUM(MIX_STORE)
}

#define MIX(n, chunks)                                                                        \
    for (; begin + (chunks)*16 <= dim; begin += (chunks)*16)                                  \
        if (bytes) mix_values(n, chunks, 1, work, row, head, begin, first, last, shares, out); \
        else mix_values(n, chunks, 0, work, row, head, begin, first, last, shares, out);

/* Add positions first .. last - 1 to what `queries` queries, 1, 2 or 8, have found so far (nothing at the first). */
static void mix(const job *work, int row, int head, int queries, int first, int last, float *const *shares,
                float *const *out) {
    int dim = work->shape->head_dim, begin = 0, bytes = work->cache->value_scales != 0;
    if (queries == 8) {
        MIX(8, 2)
        MIX(8, 1)
    } else if (queries == 2) {
        MIX(2, 8)
        MIX(2, 1)
    } else {
        MIX(1, 8)
        MIX(1, 1)
    }
}

/* All queries of `tokens` tokens from `t` on for one key head; `scores` [QUERIES, room]. */
static void attend(const job *work, int row, int head, int t, int tokens, float *scores, size_t room) {
    const hs_heads *shape = work->shape;
    int group = work->group, queries = tokens * group, step = group % 2 ? 1 : 2;
    int position = work->rows->starts[row] + t - work->rows->begins[row];
    const float *query[QUERIES];
    float *lines[QUERIES], *out[QUERIES], inverses[QUERIES];
    for (int q = 0; q < queries; q++) {
        size_t place = ((size_t)(t + q / group) * shape->heads + head * group + q % group) * shape->head_dim;
        query[q] = work->query + place;
        out[q] = work->out + place;
        lines[q] = scores + q * room;
    }
    score(work, row, head, queries, query, position + tokens, lines);
    for (int q = 0; q < queries; q++) inverses[q] = softmax(lines[q], position + q / group + 1);
    int shared = queries == QUERIES ? position + 1 : 0; /* positions that all of them may see */
    if (shared) mix(work, row, head, QUERIES, 0, shared, lines, out);
    for (int q = 0; q < queries; q += step)
        if (position + q / group + 1 > shared)
            mix(work, row, head, step, shared, position + q / group + 1, lines + q, out + q);
    for (int q = 0; q < queries; q++)
        for (int i = 0; i < shape->head_dim; i += 16)
            _mm512_storeu_ps(out[q] + i, _mm512_mul_ps(_mm512_loadu_ps(out[q] + i), _mm512_set1_ps(inverses[q])));
}

static float *scores_of(const job *work, int thread) {
    return work->memory + thread * (QUERIES * work->room + work->shape->head_dim);
}

static void write_piece(void *argument, int piece, int thread) {
    const job *work = argument;
    int heads = work->shape->kv_heads, t = piece / heads, row = 0;
    while (work->rows->begins[row + 1] <= t) row++;
    write_head(work, row, t, piece % heads, scores_of(work, thread) + QUERIES * work->room);
}

static void attend_piece(void *argument, int piece, int thread) {
    const job *work = argument;
    const hs_rows *rows = work->rows;
    int heads = work->shape->kv_heads, item = piece / heads, row = 0, t, at_once = work->at_once;
    for (;; row++) {
        int tokens = rows->begins[row + 1] - rows->begins[row], parts = (tokens + at_once - 1) / at_once;
        t = rows->begins[row] + item * at_once;
        if (item < parts) break;
        item -= parts;
    }
    int left = rows->begins[row + 1] - t, tokens = left < at_once ? left : at_once;
    attend(work, row, piece % heads, t, tokens, scores_of(work, thread), work->room);
}

void hs_attend(hs_workspace *space, const hs_heads *shape, const hs_rows *rows, const hs_cache *cache, float *query,
               const float *key, const float *value, float *out) {
    job work = {.shape = shape, .rows = rows, .cache = cache, .query = query, .key = key, .value = value, .out = out,
                .group = shape->heads / shape->kv_heads};
    int longest = 0;
    work.at_once = QUERIES / work.group;
    for (int r = 0; r < rows->rows; r++) {
        int tokens = rows->begins[r + 1] - rows->begins[r], length = rows->starts[r] + tokens;
        longest = length > longest ? length : longest;
        work.items += (tokens + work.at_once - 1) / work.at_once;
    }
    work.room = ((size_t)longest + 63) & ~(size_t)63;
    size_t floats = space->pool->threads * (QUERIES * work.room + shape->head_dim);
    work.memory = (float *)hs_reserve(space, floats * sizeof(float));
    hs_share(space->pool, write_piece, &work, rows->begins[rows->rows] * shape->kv_heads);
    hs_share(space->pool, attend_piece, &work, work.items * shape->kv_heads);
}
#endif
