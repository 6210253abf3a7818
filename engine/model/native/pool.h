/* A team of threads: all run one task, meet within it, and share its pieces through counters. */
#ifndef HOTSEAT_POOL_H
#define HOTSEAT_POOL_H

#include <pthread.h>
#include <stdatomic.h>

typedef struct hs_pool {
    int threads;
    pthread_t *ids;
    void (*task)(void *argument, int thread); /* NULL ends the threads */
    void *argument;
    atomic_uint calls;            /* of hs_run, so far */
    atomic_int done;              /* workers that are through with the last */
    atomic_int rounds, arrived;   /* of hs_meet */
    atomic_int sleeping;
    pthread_mutex_t lock;
    pthread_cond_t called;
} hs_pool;

hs_pool *hs_pool_new(int threads);
void hs_pool_free(hs_pool *pool);

/* task(argument, 0 .. threads - 1) on all threads, the caller being the first; returns when all are through. */
void hs_run(hs_pool *pool, void (*task)(void *argument, int thread), void *argument);

/* Within a task: nobody goes on before all threads are here. */
void hs_meet(hs_pool *pool);

/* The next of `count` pieces of work for whoever asks, or -1 when they are all taken. */
static inline int hs_next(atomic_int *taken, int count) {
    int piece = atomic_fetch_add_explicit(taken, 1, memory_order_relaxed);
    return piece < count ? piece : -1;
}

#endif
