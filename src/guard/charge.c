/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes room out of the grant and gives it back; asks the daemon where the grant does not do. The
 * only file in which a lack of room becomes a CUresult.
 *
 * When we fail (no daemon, no answer): what is granted stays usable, everything beyond it is
 * CUDA_ERROR_OUT_OF_MEMORY, which is the one answer that frameworks know how to live with.
 */
#include <errno.h>

#include "abi/grant.h"
#include "base/name.h"
#include "guard/conn.h"
#include "guard/guard.h"
#include "guard/movable.h"
#include "guard/guest.h"

/* A grant that is added can be used by another thread first: ask again, but not for ever. */
#define GROW_TRIES 16

static struct aq_page_device *device(int index)
{
	return &aq__page_get()->device[index];
}

/* Return: 0 granted; -ENOMEM refused; -ENOTCONN. */
static int grow(int index, uint64_t need_bytes, uint64_t call_bytes, const char *api, bool movable)
{
	union aq_msg msg;
	int r;

	aq_msg_init(&msg, AQ_MSG_GROW, 0);
	msg.grow.device = (uint32_t)index;
	msg.grow.movable = movable;
	msg.grow.need_bytes = need_bytes;
	msg.grow.call_bytes = call_bytes;
	aq_copy_padded(msg.grow.api, sizeof(msg.grow.api), api);
	r = aq__conn_call(&msg, AQ_MSG_GROW_REPLY, true);
	if (r < 0)
		return r;
	return msg.grow_reply.result < 0 ? -ENOMEM : 0;
}

uint64_t aq__free_bytes(int index, uint64_t *ret_limit)
{
	uint64_t limit = __atomic_load_n((uint64_t *)&device(index)->limit_bytes, __ATOMIC_ACQUIRE);
	struct aq_grant g = aq_grant_load(&device(index)->grant);
	uint64_t unused = g.granted > g.used ? aq_grain_bytes(g.granted - g.used) : 0;
	union aq_msg msg;

	aq_msg_init(&msg, AQ_MSG_QUERY, 0);
	msg.query.device = (uint32_t)index;
	if (aq__conn_call(&msg, AQ_MSG_QUERY_REPLY, true) == 0 && msg.query_reply.result == 0) {
		unused = msg.query_reply.free_bytes;
		limit = msg.query_reply.limit_bytes;
	}
	*ret_limit = limit;
	return unused < limit ? unused : limit;
}

/* Every change of what is used is counted, so that the daemon can tell it from no change. */
static bool use(struct aq_page_device *dev, uint32_t grains, uint32_t *ret_missing)
{
	if (!aq_grant_use(&dev->grant, grains, ret_missing))
		return false;
	__atomic_fetch_add((uint64_t *)&dev->changes, 1, __ATOMIC_RELEASE);
	return true;
}

bool aq__reserve_now(int index, uint32_t grains)
{
	uint32_t missing;

	return use(device(index), grains, &missing);
}

/*
 * The driver empties its pools before it says that memory is out, and so do we; but not without
 * need, and before the daemon is asked to grow, for its refusal is an event. Return: whether that
 * gave room.
 */
static bool squeeze_for(int index, uint64_t bytes)
{
	uint64_t limit;

	return aq__pools_any() && aq__free_bytes(index, &limit) < bytes && aq__pools_squeeze();
}

/* What we keep for ourselves goes first, and costs no message. */
static bool trim_for(int index)
{
	return aq__movable_unused(index) && aq__movable_trim(index, 0);
}

/* The grant does not do. */
static CUresult reserve_more(int index, uint32_t grains, uint64_t asked, const char *api,
			     bool movable)
{
	bool squeezed = false;
	uint32_t missing = grains;

	aq__synchronised();
	for (int tries = 0; tries < GROW_TRIES; tries++) {
		if (use(device(index), grains, &missing))
			return CUDA_SUCCESS;
		if (trim_for(index))
			continue;
		if (!squeezed && squeeze_for(index, aq_grain_bytes(grains))) {
			squeezed = true;
			continue;
		}
		if (grow(index, aq_grain_bytes(missing), asked, api, movable) == 0)
			continue;
		/* Somebody else took what there was when we asked. */
		if (squeezed || !aq__pools_squeeze())
			break;
		squeezed = true;
	}
	return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult reserve(int index, uint64_t bytes, uint64_t asked, const char *api, bool movable,
			uint32_t *ret_grains)
{
	uint32_t grains, missing;

	*ret_grains = 0;
	if (index == AQ__UNBOUND)
		return CUDA_SUCCESS;
	if (index == AQ__ABSENT)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (!aq_grains(bytes, &grains)) {
		(void)grow(index, bytes, asked, api, movable); /* refused; told for the event's sake */
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (__builtin_expect(!use(device(index), grains, &missing), 0)) {
		CUresult r = reserve_more(index, grains, asked, api, movable);

		if (r != CUDA_SUCCESS)
			return r;
	}
	*ret_grains = grains;
	return CUDA_SUCCESS;
}

CUresult aq__reserve_for(int index, uint64_t bytes, uint64_t asked, const char *api,
			 uint32_t *ret_grains)
{
	return reserve(index, bytes, asked, api, false, ret_grains);
}

CUresult aq__reserve_movable(int index, uint64_t bytes, const char *api, uint32_t *ret_grains)
{
	return reserve(index, bytes, bytes, api, true, ret_grains);
}

CUresult aq__reserve(int index, uint64_t bytes, const char *api, uint32_t *ret_grains)
{
	return aq__reserve_for(index, bytes, bytes, api, ret_grains);
}

void aq__release(int index, uint32_t grains)
{
	if (index < 0 || !grains)
		return;
	aq_grant_release(&device(index)->grant, grains);
	__atomic_fetch_add((uint64_t *)&device(index)->changes, 1, __ATOMIC_RELEASE);
}

CUresult aq__settle(int index, uint64_t bytes, const char *api, uint32_t *grains)
{
	uint32_t now, more;

	if (index < 0)
		return CUDA_SUCCESS;
	if (!aq_grains(bytes, &now))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (now > *grains) {
		CUresult r = aq__reserve(index, aq_grain_bytes(now - *grains), api, &more);

		if (r != CUDA_SUCCESS)
			return r;
	} else {
		aq__release(index, *grains - now);
	}
	*grains = now;
	return CUDA_SUCCESS;
}

void aq__unmeasured(int index)
{
	if (index >= 0)
		__atomic_fetch_add((uint64_t *)&device(index)->unmeasured, 1, __ATOMIC_RELAXED);
}

static int cost(const struct aq__cost *c, enum aq_cost_phase phase, bool wait)
{
	union aq_msg msg;
	int r;

	aq_msg_init(&msg, AQ_MSG_COST, 0);
	msg.cost.device = (uint32_t)c->index;
	msg.cost.phase = phase;
	msg.cost.estimate_bytes = c->estimate_bytes;
	aq_copy_padded(msg.cost.api, sizeof(msg.cost.api), c->api);
	r = aq__conn_call(&msg, AQ_MSG_COST_REPLY, wait);
	if (r < 0)
		return r;
	return msg.cost_reply.result;
}

/* As often as the daemon says that others make room still, but not for ever. */
static int begin(const struct aq__cost *c)
{
	int r = -EAGAIN;

	for (int tries = 0; tries < GROW_TRIES && r == -EAGAIN; tries++)
		r = cost(c, AQ_COST_BEGIN, true);
	return r;
}

CUresult aq__cost_begin(struct aq__cost *c, int index, uint64_t estimate_bytes, const char *api)
{
	bool squeezed;

	*c = (struct aq__cost){.index = index, .estimate_bytes = estimate_bytes, .api = api};
	if (index == AQ__UNBOUND)
		return CUDA_SUCCESS;
	if (index == AQ__ABSENT)
		return CUDA_ERROR_OUT_OF_MEMORY;
	aq__synchronised();
	squeezed = squeeze_for(index, estimate_bytes);
	if (begin(c) == 0)
		return CUDA_SUCCESS;
	return !squeezed && aq__pools_squeeze() && begin(c) == 0
		       ? CUDA_SUCCESS
		       : CUDA_ERROR_OUT_OF_MEMORY;
}

bool aq__cost_fits(struct aq__cost *c)
{
	int r = c->index < 0 ? 0 : cost(c, AQ_COST_END, true);

	c->estimate_bytes = 0; /* END gave the reservation back, whatever it found */
	/* A daemon that died in between: the next one measures. Nothing to undo for that. */
	return r != -ENOMEM;
}

void aq__cost_undone(const struct aq__cost *c)
{
	if (c->index >= 0)
		(void)cost(c, AQ_COST_UNDO, false);
}

void aq__cost_gone(int index, const char *api)
{
	struct aq__cost c = {.index = index, .api = api};

	aq__cost_undone(&c);
}
