/* All blocks of a step in one call: the interpreter is free for other threads meanwhile, and asked for once after it. */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <time.h>

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

/* Adds the time since `*began` to a part's, and begins the next one. */
static void count(hs_workspace *space, int part, double *began) {
    double ended = now();
    space->seconds[part] += ended - *began;
    *began = ended;
}

void hs_forward(hs_workspace *space, const hs_layer *layers, int num_layers, float eps, const hs_rows *rows,
                const hs_mixtures *mixtures, float *hidden, float *room) {
    size_t tokens = mixtures->tokens;
    double began = now();
    for (const hs_layer *layer = layers; layer < layers + num_layers; layer++) {
        size_t query = layer->qkv[0]->out, key = layer->qkv[1]->out, inner = layer->gate_up[0]->out;
        float *qkv[] = {room, room + tokens * query, room + tokens * (query + key)}, *mixed = qkv[2] + tokens * key;
        float *gate_up[] = {room, room + tokens * inner};
        size_t used = 2 * (query + key) > 2 * inner ? 2 * (query + key) : 2 * inner;
        float *out = room + tokens * used;

        hs_input input = {hidden, layer->input_norm, eps, HS_NORM};
        hs_linears(space, layer->qkv, 3, &input, mixtures, qkv, 0);
        count(space, HS_QKV, &began);
        hs_attend(space, &layer->heads, rows, &layer->cache, qkv[0], qkv[1], qkv[2], mixed);
        count(space, HS_ATTENTION, &began);
        input = (hs_input){mixed, 0, 0, HS_PLAIN};
        hs_linears(space, &layer->o, 1, &input, mixtures, &out, hidden);
        count(space, HS_O, &began);
        input = (hs_input){hidden, layer->post_norm, eps, HS_NORM};
        hs_linears(space, layer->gate_up, 2, &input, mixtures, gate_up, 0);
        count(space, HS_GATE_UP, &began);
        input = (hs_input){gate_up[0], gate_up[1], 0, HS_GATE};
        hs_linears(space, &layer->down, 1, &input, mixtures, &out, hidden);
        count(space, HS_DOWN, &began);
    }
}

void hs_seconds(const hs_workspace *space, double *seconds) {
    for (int part = 0; part < HS_PARTS; part++) seconds[part] = space->seconds[part];
}
#endif
