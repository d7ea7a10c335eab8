/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread of the guard's that calls the driver: started once, when it is first needed, and held out
 * of the driver while the process ends.
 */
#ifndef AQ_GUARD_WORKER_H
#define AQ_GUARD_WORKER_H

#include <stdbool.h>
#include <stdint.h>

/* Static, and never goes; zero at first. All words are atomic. */
struct aq__worker {
	uint32_t state;
	uint32_t ends;	 /* the process does */
	uint32_t inside; /* the thread calls the driver */
};

/* @run: until aq__worker_ends(). Starting it twice does nothing. Return: whether there is a thread,
 * or is about to be. */
bool aq__worker_start(struct aq__worker *w, void *(*run)(void *), const char *name);

/* The process ends: nothing is left to do. */
static inline bool aq__worker_ends(struct aq__worker *w)
{
	return __atomic_load_n(&w->ends, __ATOMIC_SEQ_CST);
}

/* Around what the thread calls of the driver. Return: false: not any more; leave it all the same. */
static inline bool aq__worker_enter(struct aq__worker *w)
{
	__atomic_store_n(&w->inside, 1, __ATOMIC_SEQ_CST);
	return !aq__worker_ends(w);
}

static inline void aq__worker_leave(struct aq__worker *w)
{
	__atomic_store_n(&w->inside, 0, __ATOMIC_SEQ_CST);
}

/* In a forked child, which has no such thread. */
void aq__worker_forked(struct aq__worker *w);

#endif /* AQ_GUARD_WORKER_H */
