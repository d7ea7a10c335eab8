/* SPDX-License-Identifier: Apache-2.0 */
/* The sleeping half of lock.h, on futex(2). */
#include "guard/lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guard/guest.h"

void aq__lock_wait(struct aq__lock *l)
{
	int saved = errno;

	/* Whoever comes this way leaves the word at 2: a wake-up too many is harmless. */
	while (__atomic_exchange_n(&l->word, 2, __ATOMIC_ACQUIRE) != 0)
		syscall(SYS_futex, &l->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
	errno = saved;
}

void aq__lock_wake(struct aq__lock *l)
{
	int saved = errno;

	syscall(SYS_futex, &l->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	errno = saved;
}
