/* SPDX-License-Identifier: Apache-2.0 */
/* See calls.h. The places are static, so that looking through them needs no lock and meets no
 * memory of a thread that has ended. */
#include "guard/calls.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guard/guest.h"

#define PLACES 1024u /* guess: threads that use CUDA at a time; with more nothing can be moved */

static struct aq__calls places[PLACES];
enum { UNDECIDED, FOLLOWED, IGNORED };

static uint32_t state;			  /* atomic; leaves UNDECIDED once */
static uint32_t unfollowed;		  /* atomic; threads that found no place */
static pthread_key_t key;		  /* its destructor gives a place back */
static __thread struct aq__calls nowhere; /* of a thread that is not followed */

__thread struct aq__calls *aq__calls_mine __attribute__((tls_model("initial-exec")));

static int membarrier(int command)
{
	int saved = errno;
	int r = (int)syscall(SYS_membarrier, command, 0, 0);

	errno = saved;
	return r;
}

static void thread_ends(void *arg)
{
	struct aq__calls *c = arg;

	aq__calls_mine = NULL;
	__atomic_store_n(&c->depth, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&c->taken, 0, __ATOMIC_RELEASE);
}

static struct aq__calls *take_place(void)
{
	for (uint32_t i = 0; i < PLACES; i++) {
		uint32_t no = 0;

		if (!__atomic_load_n(&places[i].taken, __ATOMIC_RELAXED) &&
		    __atomic_compare_exchange_n(&places[i].taken, &no, 1, false, __ATOMIC_ACQ_REL,
						__ATOMIC_RELAXED))
			return &places[i];
	}
	return NULL;
}

struct aq__calls *aq__calls_join(void)
{
	uint32_t now = __atomic_load_n(&state, __ATOMIC_ACQUIRE);
	struct aq__calls *c = &nowhere;
	int saved = errno;

	if (now == UNDECIDED)
		return c; /* asks again with its next call */
	if (now == FOLLOWED) {
		struct aq__calls *place = take_place();

		if (place && pthread_setspecific(key, place) == 0)
			c = place;
		else
			__atomic_fetch_add(&unfollowed, 1, __ATOMIC_RELAXED);
		if (place && c != place)
			__atomic_store_n(&place->taken, 0, __ATOMIC_RELEASE);
	}
	aq__calls_mine = c;
	errno = saved;
	return c;
}

/* A static executable's second C library has no threads that could be followed: see conn.c. */
static bool can_follow(void)
{
	return getauxval(AT_BASE) && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 &&
	       membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0 &&
	       pthread_key_create(&key, thread_ends) == 0;
}

bool aq__calls_follow(bool wanted)
{
	uint32_t now = __atomic_load_n(&state, __ATOMIC_ACQUIRE);

	if (now == UNDECIDED) {
		now = wanted && can_follow() ? FOLLOWED : IGNORED;
		__atomic_store_n(&state, now, __ATOMIC_RELEASE);
	}
	return wanted && now == FOLLOWED;
}

void aq__calls_barrier(void)
{
	(void)membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

bool aq__calls_none(void)
{
	if (__atomic_load_n(&unfollowed, __ATOMIC_RELAXED))
		return false;
	for (uint32_t i = 0; i < PLACES; i++) {
		if (__atomic_load_n(&places[i].depth, __ATOMIC_ACQUIRE))
			return false;
	}
	return true;
}

/* The child's only thread keeps its place; those of the others are free. */
void aq__calls_forked(void)
{
	for (uint32_t i = 0; i < PLACES; i++) {
		if (&places[i] != aq__calls_mine)
			places[i] = (struct aq__calls){0};
	}
	unfollowed = 0;
}
