/* A team of threads that share the pieces of a piece of work. */
#ifndef HOTSEAT_POOL_H
#define HOTSEAT_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* `thread`, below the number of threads, is whoever computes it: no two pieces at one time have the same. */
typedef void hs_work(void *argument, int piece, int thread);

typedef struct hs_pool {
    int threads;
    pthread_t *ids;
    _Atomic(hs_work *) work;
    _Atomic(void *) argument;
    atomic_int pieces;
    atomic_uint_fast64_t open;  /* the number of the share, and in its lower half how many pieces nobody has taken */
    atomic_int done;            /* pieces of this share */
    atomic_int sleeping, is_ending;
    pthread_mutex_t lock;
    pthread_cond_t called;
} hs_pool;

hs_pool *hs_pool_new(int threads);
void hs_pool_free(hs_pool *pool);

/* work(argument, 0 .. pieces - 1, thread) by the caller, who is thread 0, and by whoever else is awake; returns when all
 * pieces are done. Called by one thread at a time, and never from within a piece. */
void hs_share(hs_pool *pool, hs_work *work, void *argument, int pieces);

#endif
