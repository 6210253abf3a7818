/* The threads that work on a step together.
 *
 * An OpenMP runtime would keep a team for each thread of the process that ever asked for one and, once they outnumber the
 * cores, put waiting threads to sleep at once: at several meetings a layer that doubles the time of a step. Here the
 * engine's thread has one team. Its workers spin for as long as the pauses within a step last, and sleep between steps.
 */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include "pool.h"

#include <immintrin.h>
#include <stdlib.h>
#include <unistd.h>

enum { SPINS = 1500, PATIENCE = 5000, NAP_US = 20 };

typedef struct {
    hs_pool *pool;
    int index;
} seat;

/* Until *word is no longer `value`. After a while whoever is waited for may be waiting for this core: leave it. */
static void wait_for_change(atomic_int *word, int value) {
    for (int spins = 0; atomic_load_explicit(word, memory_order_acquire) == value; spins++) {
        _mm_pause();
        if (spins > PATIENCE) usleep(NAP_US);
    }
}

static void sleep_until_called(hs_pool *pool, unsigned seen) {
    for (int spins = 0; spins < SPINS; spins++) {
        if (atomic_load_explicit(&pool->calls, memory_order_acquire) != seen) return;
        _mm_pause();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleeping, 1);
    while (atomic_load(&pool->calls) == seen) pthread_cond_wait(&pool->called, &pool->lock);
    atomic_fetch_sub(&pool->sleeping, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument) {
    seat mine = *(seat *)argument;
    free(argument);
    for (unsigned seen = 0;; seen++) {
        sleep_until_called(mine.pool, seen);
        if (!mine.pool->task) return 0;
        mine.pool->task(mine.pool->argument, mine.index);
        atomic_fetch_add(&mine.pool->done, 1);
    }
}

static void call(hs_pool *pool, void (*task)(void *, int), void *argument) {
    pool->task = task;
    pool->argument = argument;
    atomic_store(&pool->done, 0);
    atomic_fetch_add(&pool->calls, 1);
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
        if (pthread_create(&pool->ids[index], 0, work, one)) {
            free(one);
            break; /* fewer threads are slower, not wrong */
        }
        pool->threads++;
    }
    return pool;
}

void hs_pool_free(hs_pool *pool) {
    call(pool, 0, 0);
    for (int index = 1; index < pool->threads; index++) pthread_join(pool->ids[index], 0);
    pthread_cond_destroy(&pool->called);
    pthread_mutex_destroy(&pool->lock);
    free(pool->ids);
    free(pool);
}

void hs_run(hs_pool *pool, void (*task)(void *, int), void *argument) {
    call(pool, task, argument);
    task(argument, 0);
    for (int others = pool->threads - 1, done; (done = atomic_load(&pool->done)) < others;)
        wait_for_change(&pool->done, done);
}

void hs_meet(hs_pool *pool) {
    int round = atomic_load(&pool->rounds);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 < pool->threads) {
        wait_for_change(&pool->rounds, round);
    } else {
        atomic_store(&pool->arrived, 0);
        atomic_fetch_add(&pool->rounds, 1);
    }
}
#endif
