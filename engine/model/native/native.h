/* The CPU's fused kernels: what they are given. Python mirrors these structs in engine/model/native_library.py.
 *
 * Every output element is computed by the same operations in the same order whatever else is in the step, so a row's
 * result does not depend on its batch mates, on how a prompt was cut into chunks or on the number of threads.
 */
#ifndef HOTSEAT_NATIVE_H
#define HOTSEAT_NATIVE_H

#include <stddef.h>
#include <stdint.h>

/* The parts of a block. */
enum { HS_QKV, HS_ATTENTION, HS_O, HS_GATE_UP, HS_DOWN, HS_PARTS };

/* The threads that work on a step, and the memory that it needs for a while, which grows to what was needed most. Used by
 * one caller at a time: each engine has one. */
typedef struct {
    struct hs_pool *pool;
    char *memory;
    size_t size;
    double seconds[HS_PARTS]; /* that hs_forward has spent on each part */
} hs_workspace;

/* What the expert in a slot does to one linear layer: y = (1 + g)(W (1 + c) x) + (K (x) BA) x. Absent parts are NULL. */
typedef struct {
    const uint16_t *a;     /* bf16 [rank, in / m] */
    const uint16_t *b;     /* bf16 [rank, out / l] */
    const float *k;        /* [l, m]; NULL for 1, with l = m = 1 */
    const float *g;        /* [out] */
    const float *c;        /* [in] */
    int32_t rank, l, m;
} hs_delta;

/* Weights that are being made, as hs_linear has them. */
typedef struct {
    void *values;
    float *scale;
    int32_t *offset;
    int8_t *groups;
} hs_weight;

/* A linear layer, one scale for each output. int8: tiles [out / 16, in / 4, 16, 4]. Four bits: codes of sixteen levels
 * [out / 16, in / 32, 4, 16, 4], in the lower half of a byte those of inputs 0 .. 15 of a group of 32, in the upper half
 * those of inputs 16 .. 31; a weight is scale * group's scale * level. */
typedef struct {
    const void *weight;
    const float *scale;    /* [out] */
    const int32_t *offset; /* int8: [out], 128 times the sum of the output's weights: activations are stored 128 too high */
    const int8_t *groups;  /* four bits: [out / 16, in / 32, 16], the groups' scales; else NULL */
    const hs_delta *deltas; /* [slots] */
    int32_t in, out;
} hs_linear;

/* Which slots each token uses, and by how much. */
typedef struct {
    const int32_t *slots;  /* [tokens, width], -1 where there is none */
    const float *weights;  /* [tokens, width] */
    int32_t tokens, width;
} hs_mixtures;

/* What comes before the product: nothing; RMSNorm of x with a gain; silu(x) * other. */
enum { HS_PLAIN = 0, HS_NORM = 1, HS_GATE = 2 };

typedef struct {
    const float *x;        /* [tokens, in] */
    const float *other;    /* HS_NORM: gain [in]; HS_GATE: [tokens, in] */
    float eps;
    int32_t kind;
} hs_input;

/* Keys and values of one layer. int8 where the scales are there, else bf16. */
typedef struct {
    void *keys;            /* [blocks, heads, head_dim, block_size] */
    void *values;          /* [blocks, heads, block_size, head_dim] */
    float *key_scales;     /* [blocks, heads, block_size] or NULL */
    float *value_scales;
} hs_cache;

/* The rows of a step for attention. */
typedef struct {
    const int32_t *begins;  /* [rows + 1], where each row's tokens begin in the step */
    const int32_t *starts;  /* [rows], the position of each row's first token */
    const int32_t *tables;  /* [rows, table_width], block numbers */
    const float *cosines;   /* [positions, head_dim], the first half of each is read */
    const float *sines;
    int32_t rows, table_width;
} hs_rows;

typedef struct {
    const float *query_gain; /* [head_dim] */
    const float *key_gain;
    float eps, scale;
    int32_t heads, kv_heads, head_dim, block_size;
} hs_heads;

/* One block of the transformer. */
typedef struct {
    const hs_linear *qkv[3], *o, *gate_up[2], *down;
    hs_heads heads;
    hs_cache cache;
    const float *input_norm, *post_norm; /* [hidden] */
} hs_layer;

/* Sizes of the structs above but the workspace, as they stand there: a library built from other sources is refused. */
extern const int32_t hs_struct_sizes[9];

int hs_supported(void);
hs_workspace *hs_workspace_new(int threads);
void hs_workspace_free(hs_workspace *space);

/* The workspace's memory, of `size` bytes at least; what it held is lost. */
char *hs_reserve(hs_workspace *space, size_t size);

/* weight [out, in], both multiples of 16 -> int8; or of four bits where `to` has groups, `in` being a multiple of 32. */
void hs_quantize_weight(hs_workspace *space, const float *weight, int32_t out, int32_t in, const hs_weight *to);

/* Several layers on the same input: outs[i] [tokens, out_i] = layer_i(input). With `add`, what the one layer gives is
 * added to `add` [tokens, out]. */
void hs_linears(hs_workspace *space, const hs_linear *const *layers, int count, const hs_input *input,
                const hs_mixtures *mixtures, float *const *outs, float *add);

/* Norm and rotate queries and keys, store keys and values, attend. query, out [tokens, heads, head_dim]; the query is
 * overwritten. */
void hs_attend(hs_workspace *space, const hs_heads *shape, const hs_rows *rows, const hs_cache *cache, float *query,
               const float *key, const float *value, float *out);

/* All blocks on `hidden` [tokens, hidden], in place. `room`: for each token what a block computes in between, that is its
 * queries twice with its keys and values, or gate and up, whichever is more, and what is added to `hidden`. */
void hs_forward(hs_workspace *space, const hs_layer *layers, int num_layers, float eps, const hs_rows *rows,
                const hs_mixtures *mixtures, float *hidden, float *room);

/* What hs_forward has spent so far, by part. */
void hs_seconds(const hs_workspace *space, double *seconds);

#endif
