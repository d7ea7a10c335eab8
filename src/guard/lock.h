/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock of four bytes for sections of some dozen instructions, none of which calls out. Unlike a
 * pthread mutex it can simply be set to zero in a forked child, whoever held it. Not recursive, not
 * fair, no owner.
 */
#ifndef AQ_GUARD_LOCK_H
#define AQ_GUARD_LOCK_H

#include <stdbool.h>
#include <stdint.h>

struct aq__lock {
	uint32_t word; /* 0 free, 1 held, 2 held and somebody may sleep */
};

void aq__lock_wait(struct aq__lock *l); /* the slow half of aq__lock(); keeps errno */
void aq__lock_wake(struct aq__lock *l); /* the slow half of aq__unlock(); keeps errno */

static inline void aq__lock(struct aq__lock *l)
{
	uint32_t free_word = 0;

	if (!__atomic_compare_exchange_n(&l->word, &free_word, 1, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		aq__lock_wait(l);
}

static inline void aq__unlock(struct aq__lock *l)
{
	if (__atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE) == 2)
		aq__lock_wake(l);
}

/* In a forked child: free, whatever it was. */
static inline void aq__lock_reset(struct aq__lock *l)
{
	__atomic_store_n(&l->word, 0, __ATOMIC_RELAXED);
}

#endif /* AQ_GUARD_LOCK_H */
