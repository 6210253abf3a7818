/* Whether this CPU can run the kernels, and what they work with. */
#include "native.h"

#include <stdlib.h>

const int32_t hs_struct_sizes[9] = {
    sizeof(hs_delta), sizeof(hs_weight), sizeof(hs_linear), sizeof(hs_mixtures),
    sizeof(hs_input), sizeof(hs_cache),  sizeof(hs_rows),   sizeof(hs_heads), sizeof(hs_layer),
};

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "pool.h"

int hs_supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

hs_workspace *hs_workspace_new(int threads) {
    hs_workspace *space = calloc(1, sizeof(hs_workspace));
    space->pool = hs_pool_new(threads);
    return space;
}

void hs_workspace_free(hs_workspace *space) {
    hs_pool_free(space->pool);
    free(space->memory);
    free(space);
}

char *hs_reserve(hs_workspace *space, size_t size) {
    if (size > space->size) {
        free(space->memory);
        space->size = (size + (size_t)0xfffff) & ~(size_t)0xfffff;
        space->memory = aligned_alloc(64, space->size);
        if (!space->memory) abort();
    }
    return space->memory;
}
#else
int hs_supported(void) { return 0; }
#endif
