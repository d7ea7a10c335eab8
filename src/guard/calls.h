/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which threads are inside a driver call that uses device memory. Who moves memory closes a gate
 * first, then waits here until nobody is inside any more.
 *
 * The threads' side costs two plain stores: no fence, no shared cache line. What makes that safe is
 * membarrier(2) on the other side (asymmetric Dekker): a thread first says that it is inside, then
 * looks at the gate; the mover first closes the gate, then makes every running thread pass a
 * barrier, then looks who is inside.
 */
#ifndef AQ_GUARD_CALLS_H
#define AQ_GUARD_CALLS_H

#include <stdbool.h>
#include <stdint.h>

struct aq__calls {
	uint32_t depth; /* calls that the thread is inside of; it alone writes */
	uint32_t taken; /* atomic: by a thread */
} __attribute__((aligned(64)));

/* The calling thread's; NULL before its first call. */
extern __thread struct aq__calls *aq__calls_mine __attribute__((tls_model("initial-exec")));

/* Out of line: the first call of a thread. Keeps errno. */
struct aq__calls *aq__calls_join(void);

/* Return: false: the thread has no place yet, nothing is done. */
static inline bool aq__calls_enter_known(void)
{
	struct aq__calls *c = aq__calls_mine;

	if (__builtin_expect(!c, 0))
		return false;
	__atomic_store_n(&c->depth, c->depth + 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return true;
}

static inline void aq__calls_enter(void)
{
	struct aq__calls *c;

	if (__builtin_expect(aq__calls_enter_known(), 1))
		return;
	c = aq__calls_join();
	__atomic_store_n(&c->depth, c->depth + 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void aq__calls_leave(void)
{
	struct aq__calls *c = aq__calls_mine;

	/* Entered before it was decided whether calls are followed. */
	if (__builtin_expect(!c, 0))
		return;
	__atomic_store_n(&c->depth, c->depth - 1, __ATOMIC_RELEASE);
}

/* Decide whether calls are followed, before the program's first one that matters; the first
 * decision stays. Return: whether they are. If not, nothing can be moved. One thread at a time. */
bool aq__calls_follow(bool wanted);

/* What was written before is seen by every thread that is not inside a call when this returns. */
void aq__calls_barrier(void);

/* After a barrier: is nobody inside? The calling thread counts, too. */
bool aq__calls_none(void);

/* In a forked child. */
void aq__calls_forked(void);

#endif /* AQ_GUARD_CALLS_H */
