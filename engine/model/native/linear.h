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
    GROUP = 32,         /* inputs whose four-bit weights share a scale */
    LEVELS = 127,
    ZERO = 128,
    MAX_LAYERS = 4,
    AHEAD = 4096,       /* bytes of weights that are on their way while others are multiplied */
};

/* Sums with names of their own: the compiler keeps an array of them in memory. */
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

/* The levels that four bits stand for, as in engine/model/four_bit.py. */
static const int8_t HS_FOUR_BIT[16] = {-127, -100, -79, -62, -47, -34, -21, -9, 2, 13, 24, 36, 49, 65, 82, 106};

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
    uint8_t *packed;          /* [variants, 2 * tokens, row_bytes]: tiles of rows, [in / 4, rows of the tile, 4] each;
                                 for four bits as hs_pack_signed_rows does it */
    float *hidden;            /* [tokens, mixture width, layers, width] */
    float *scratch;           /* [threads, in] */
    int chunk_size;           /* outputs of a piece */
} hs_job;

/* Tile `index` of `parts` nearly equal ones. */
ALWAYS int tile_begin(int rows, int parts, int index) { return (int)((int64_t)rows * index / parts); }

ALWAYS int num_parts(int rows) { return (rows + ROWS - 1) / ROWS; }

ALWAYS float *hidden_of(const hs_job *work, int t, int e, int layer) {
    size_t place = ((size_t)t * work->mixtures->width + e) * work->count + layer;
    return work->hidden + place * work->width;
}

/* Bytes of a row of the product as it lies packed; four bits have the sum of each group beside it. */
ALWAYS size_t row_bytes(const hs_job *work) {
    return work->layers[0]->groups ? (size_t)work->in / GROUP * (GROUP + 4) : (size_t)work->in;
}

ALWAYS uint8_t *packed_rows(const hs_job *work, int variant, int first) {
    return work->packed + ((size_t)variant * 2 * work->tokens + first) * row_bytes(work);
}

/* input.c */
void hs_prepare(const hs_job *work, int t);
void hs_quantize(const hs_job *work, int variant, int t, float *scratch);
void hs_list_rows(hs_job *work);
void hs_pack_rows(const hs_job *work, int variant, int part);

/* four_bit.c: rows packed as [in / GROUP, rows, 1 + GROUP / 4] words; x and out as in linear.c. */
void hs_pack_signed_rows(const hs_row *list, int count, int in, uint8_t *to);
void hs_multiply_four_bit(const hs_linear *layer, const hs_row *list, int rows, const uint8_t *x, int o, int end,
                          float *out);

/* delta.c */
void hs_survey(hs_job *work);
void hs_shrink(const hs_job *work, int t, int e, int index);
void hs_fetch(const hs_job *work, int index, int begin, int end);
void hs_finish(const hs_job *work, int index, int begin, int end);

#endif
