/* The threads that work on a step together.
 *
 * An OpenMP runtime would keep a team for each thread of the process that ever asked for one and, once they outnumber the
 * cores, put waiting threads to sleep at once: at several meetings a layer that doubles the time of a step. Here the
 * engine's thread has one team. Its workers spin for as long as the pauses within a step last, and sleep between steps.
 *
 * Nobody meets anybody. The caller takes pieces like the others and waits only for those that somebody has begun, so a
 * worker whose core has gone to another thread (the event loop, another process) is not missed: beside one busy process
 * and on two cores, waiting for each worker in each pass left a fifth of the speed.
 */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "pool.h"

#include <immintrin.h>
#include <stdlib.h>
#include <unistd.h>

enum { SPINS = 1500, PATIENCE = 1500, NAP_US = 20 };

typedef struct {
    hs_pool *pool;
    int index;
} seat;

static uint32_t left_of(uint64_t open) { return (uint32_t)open; }

/* Do a piece that nobody has taken; 0 when there is none.
 *
 * What is read of the share may be half of the next one's, but then `open` has changed and nothing is taken: the next
 * share is written only after all pieces of this one are done. */
static int take(hs_pool *pool, int thread) {
    uint64_t open = atomic_load_explicit(&pool->open, memory_order_acquire);
    if (!left_of(open)) return 0;
    hs_work *work = atomic_load_explicit(&pool->work, memory_order_relaxed);
    void *argument = atomic_load_explicit(&pool->argument, memory_order_relaxed);
    int pieces = atomic_load_explicit(&pool->pieces, memory_order_relaxed);
    if (!atomic_compare_exchange_strong(&pool->open, &open, open - 1)) return 1;
    work(argument, pieces - (int)left_of(open), thread);
    atomic_fetch_add_explicit(&pool->done, 1, memory_order_release);
    return 1;
}

static void sleep_until_called(hs_pool *pool) {
    for (int spins = 0; spins < SPINS; spins++) {
        if (left_of(atomic_load_explicit(&pool->open, memory_order_relaxed))) return;
        _mm_pause();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleeping, 1);
    while (!left_of(atomic_load(&pool->open)) && !atomic_load(&pool->is_ending))
        pthread_cond_wait(&pool->called, &pool->lock);
    atomic_fetch_sub(&pool->sleeping, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *serve(void *argument) {
    seat mine = *(seat *)argument;
    free(argument);
    while (!atomic_load(&mine.pool->is_ending)) {
        while (take(mine.pool, mine.index)) {}
        sleep_until_called(mine.pool);
    }
    return 0;
}

static void wake_all(hs_pool *pool) {
    if (!atomic_load(&pool->sleeping)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->called);
    pthread_mutex_unlock(&pool->lock);
}

hs_pool *hs_pool_new(int threads) {
    hs_pool *pool = calloc(1, sizeof(hs_pool));
    pthread_mutex_init(&pool->lock, 0);
    pthread_cond_init(&pool->called, 0);
    pool->ids = calloc(threads, sizeof(pthread_t));
    pool->threads = 1;
    for (int index = 1; index < threads; index++) {
        seat *one = malloc(sizeof(seat));
        *one = (seat){pool, index};
        if (pthread_create(&pool->ids[index], 0, serve, one)) {
            free(one);
            break; /* fewer threads are slower, not wrong */
        }
        pool->threads++;
    }
    return pool;
}

void hs_pool_free(hs_pool *pool) {
    atomic_store(&pool->is_ending, 1);
    wake_all(pool);
    for (int index = 1; index < pool->threads; index++) pthread_join(pool->ids[index], 0);
    pthread_cond_destroy(&pool->called);
    pthread_mutex_destroy(&pool->lock);
    free(pool->ids);
    free(pool);
}

void hs_share(hs_pool *pool, hs_work *work, void *argument, int pieces) {
    if (pieces < 2 || pool->threads < 2) {
        for (int piece = 0; piece < pieces; piece++) work(argument, piece, 0);
        return;
    }
    uint64_t last = atomic_load_explicit(&pool->open, memory_order_relaxed) >> 32;
    atomic_store_explicit(&pool->work, work, memory_order_relaxed);
    atomic_store_explicit(&pool->argument, argument, memory_order_relaxed);
    atomic_store_explicit(&pool->pieces, pieces, memory_order_relaxed);
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    atomic_store(&pool->open, (last + 1) << 32 | (uint32_t)pieces);
    wake_all(pool);
    while (take(pool, 0)) {}
    /* Whoever has a piece may be waiting for this core: after a while leave it. */
    for (int spins = 0; atomic_load_explicit(&pool->done, memory_order_acquire) < pieces; spins++) {
        _mm_pause();
        if (spins > PATIENCE) usleep(NAP_US);
    }
}
#endif
