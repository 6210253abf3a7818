/* One call of hs_linears, shared by the files that do its three passes. */
#ifndef HOTSEAT_LINEAR_H
#define HOTSEAT_LINEAR_H

#include "native.h"
#include "pool.h"
#include "vector.h"

#include <stdlib.h>
#include <string.h>

enum {
    TILE = 16,          /* outputs of one register */
    ROWS = 12,          /* rows that are multiplied by two tiles at once: 24 sums in registers */
    LEVELS = 127,
    ZERO = 128,
    MAX_LAYERS = 4,
};

/* One row of integers of the product: the first term of a token, or what its rounding left over. */
typedef struct {
    const uint8_t *values; /* [in] */
    float scale;
    int32_t token;
    int adds;
} hs_row;

typedef struct {
    const hs_linear *const *layers;
    int count, scaled, variants; /* scaled: some expert has c, so that each layer has a rounding (variant) of its own */
    const hs_input *input;
    const hs_mixtures *mixtures;
    float *const *outs;
    float *add;
    int tokens, in, width;    /* width: floats of one token's product with one expert */
    float *x;                 /* [tokens, in] what the layers see */
    uint8_t *rounded;         /* [variants, 2, tokens, in] */
    float *scales;            /* [variants, 2, tokens]; a second scale of 0 says that there is no second term */
    hs_row *rows;             /* [variants, 2 * tokens] */
    int num_rows[MAX_LAYERS];
    uint8_t *packed;          /* [variants, 2 * tokens * in]: tiles of rows, [in / 4, rows of the tile, 4] each */
    float *hidden;            /* [tokens, mixture width, layers, width] */
    hs_pool *pool;
    float *scratch;           /* [threads, in] */
    int products, chunk_size, chunks;
    atomic_int products_taken, chunks_taken;
} hs_job;

/* Tile `index` of `parts` nearly equal ones. */
ALWAYS int tile_begin(int rows, int parts, int index) { return (int)((int64_t)rows * index / parts); }

ALWAYS int num_parts(int rows) { return (rows + ROWS - 1) / ROWS; }

ALWAYS float *hidden_of(const hs_job *work, int t, int e, int layer) {
    size_t place = ((size_t)t * work->mixtures->width + e) * work->count + layer;
    return work->hidden + place * work->width;
}

/* input.c */
void hs_prepare(const hs_job *work, int t);
void hs_quantize(const hs_job *work, int variant, int t, float *scratch);
void hs_list_rows(hs_job *work);
void hs_pack_rows(const hs_job *work, int variant, int part);

/* delta.c */
void hs_survey(hs_job *work);
void hs_shrink(const hs_job *work, int t, int e, int index);
void hs_fetch(const hs_job *work, int index, int begin, int end);
void hs_finish(const hs_job *work, int index, int begin, int end);

#endif
