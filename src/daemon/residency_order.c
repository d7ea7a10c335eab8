/* SPDX-License-Identifier: Apache-2.0 */
/* The words of the page that move memory, and the books of the host's pool. Decides no policy. */
#include "daemon/residency_order.h"

#include <errno.h>
#include <string.h>

#include "abi/grant.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/size.h"
#include "daemon/client.h"
#include "daemon/gate.h"
#include "base/banned.h"

#define AVAILABLE_NS (50 * AQ_NS_PER_MS) /* a file to read, for each candidate of each plan */
#define MAX_ERRNO 4095			 /* Source: Linux, include/linux/err.h */

/* A number of the client's is read once: it may be another one the next time. */
static uint64_t read_u64(const _Atomic uint64_t *word)
{
	return __atomic_load_n((const uint64_t *)word, __ATOMIC_ACQUIRE);
}

static uint32_t read_u32(const _Atomic uint32_t *word)
{
	return __atomic_load_n((const uint32_t *)word, __ATOMIC_ACQUIRE);
}

uint64_t aqd_order_movable(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	if (!c->page || c->lied)
		return 0;
	return aq_min(read_u64(&c->page->device[share].movable_bytes),
		      aqd_client_page_used(d, c, share));
}

static void set_host(struct aqd *d, struct aqd_move *m, uint64_t bytes)
{
	d->host_used_bytes = d->host_used_bytes - m->host_bytes + bytes;
	m->host_bytes = bytes;
}

static void give(struct aqd_client *c, uint32_t share, enum aq_order order)
{
	struct aq_page_device *to = &c->page->device[share];
	struct aqd_move *m = &c->move[share];

	m->park = order == AQ_ORDER_PARK;
	m->pending = true;
	m->result = 0;
	m->turn++;
	__atomic_store_n((uint32_t *)&to->order, order, __ATOMIC_RELEASE);
	__atomic_store_n((uint32_t *)&to->order_turn, m->turn, __ATOMIC_SEQ_CST);
	aqd_gate_news(c);
}

void aqd_order_park(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t host_bytes)
{
	struct aqd_move *m = &c->move[share];

	c->fresh_ns[share] = 0;
	m->before_bytes = c->ledger.hold[share].granted_bytes;
	set_host(d, m, host_bytes);
	__atomic_store_n((uint64_t *)&c->page->device[share].host_limit_bytes, host_bytes,
			 __ATOMIC_RELEASE);
	aqd_gate_set(d, c, share, AQ_GATE_PARKED, true);
	give(c, share, AQ_ORDER_PARK);
}

void aqd_order_stay(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	if (c->page && !c->lied)
		give(c, share, AQ_ORDER_STAY);
}

/* All of it is on the device: work may go on. */
static void arrived(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	c->move[share].away_bytes = 0;
	set_host(d, &c->move[share], 0);
	aqd_gate_set(d, c, share, AQ_GATE_PARKED, false);
	aqd_gate_wake(&c->page->device[share].lease_turn);
}

/* The client says that its memory is away: how much can be true? */
static void left(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t parked)
{
	struct aqd_move *m = &c->move[share];

	if (parked > m->before_bytes || parked > m->host_bytes) {
		aqd_client_lied(d, c,
				parked > m->before_bytes
					? "it parked more than it ever had"
					: "it put more into host memory than it may");
		return;
	}
	m->away_bytes = parked;
	set_host(d, m, parked);
	if (!parked) /* there was nothing to move any more */
		arrived(d, c, share);
}

bool aqd_order_look(struct aqd *d, struct aqd_client *c, uint32_t share)
{
	struct aqd_move *m = &c->move[share];
	const struct aq_page_device *page = c->page ? &c->page->device[share] : NULL;
	uint64_t parked;
	int result;

	if (!m->pending)
		return true;
	if (!page || c->lied) { /* it will not be believed whatever it says */
		m->pending = false;
		m->result = -EPERM;
		return true;
	}
	if (read_u32(&page->order_done) != m->turn)
		return false;
	result = __atomic_load_n((const int32_t *)&page->order_result, __ATOMIC_ACQUIRE);
	parked = read_u64(&page->parked_bytes);
	m->pending = false;
	m->result = result < 0 && result >= -MAX_ERRNO ? result : result ? -EINVAL : 0;
	if (m->park && m->result == 0)
		left(d, c, share, parked);
	else if (m->park || m->result == 0) /* it failed to leave, or is back */
		arrived(d, c, share);
	return true;
}

bool aqd_order_fresh(const struct aqd_client *c, uint32_t share)
{
	return c->fresh_ns[share] && aq_now_ns() < c->fresh_ns[share];
}

bool aqd_order_frozen(const struct aqd_client *c, uint32_t share)
{
	const struct aqd_move *m = &c->move[share];

	return m->pending || aqd_order_fresh(c, share) ||
	       (m->away_bytes && c->fraction && c->fraction->residency.state == AQD_PARKING);
}

bool aqd_order_wants(const struct aqd_client *c, uint32_t share)
{
	return c->page && !c->lied && !c->move[share].pending &&
	       read_u32(&c->page->device[share].want);
}

void aqd_order_adopt(struct aqd *d, struct aqd_client *c)
{
	for (uint32_t i = 0; i < c->fraction->ledger.share_count; i++) {
		const struct aq_page_device *page = &c->page->device[i];
		struct aqd_move *m = &c->move[i];
		uint64_t limit = c->fraction->ledger.share[i].limit_bytes;

		c->moves = c->moves || read_u64(&page->movable_bytes) ||
			   read_u64(&page->parked_bytes);
		m->turn = read_u32(&page->order_turn);
		m->park = read_u32(&page->order) == AQ_ORDER_PARK;
		m->pending = read_u32(&page->order_done) != m->turn;
		m->away_bytes = aq_min(read_u64(&page->parked_bytes), limit);
		m->before_bytes = limit;
		set_host(d, m,
			 m->pending ? aq_min(read_u64(&page->host_limit_bytes), limit)
				    : m->away_bytes);
		if (!m->pending && !m->away_bytes)
			aqd_gate_set(d, c, i, AQ_GATE_PARKED, false);
	}
}

void aqd_order_forget(struct aqd *d, struct aqd_client *c)
{
	for (uint32_t i = 0; i < AQ_MAX_DEVICES; i++) {
		set_host(d, &c->move[i], 0);
		c->move[i].away_bytes = 0;
		c->move[i].pending = false;
	}
}

static uint64_t available_now(struct aqd *d)
{
	uint64_t now = aq_now_ns();

	if (!d->available_ns || now >= d->available_ns + AVAILABLE_NS) {
		d->available_ns = now;
		d->available_bytes = aq_memory_available();
	}
	return d->available_bytes;
}

/* Host memory that a client keeps for the next time, as it says: none while it is ordered to put
 * something there, for then that is counted. */
static uint64_t kept_bytes(const struct aqd_client *c, uint32_t share)
{
	if (!c->page || c->lied || c->move[share].host_bytes)
		return 0;
	return aq_min(read_u64(&c->page->device[share].pinned_bytes),
		      c->fraction->ledger.share[share].limit_bytes);
}

struct host_books {
	uint64_t own;	 /* set aside for the fraction */
	uint64_t moving; /* promised, and not taken from the machine yet */
	uint64_t kept;	 /* by others than the fraction */
};

static struct host_books host_books(struct aqd *d, const struct aqd_fraction *f)
{
	struct aqd_fraction *each, *next_fraction;
	struct aq_ledger_client *l, *next;
	struct host_books b = {0};

	AQ_LIST_FOREACH (each, next_fraction, &d->fractions, link)
		AQ_LIST_FOREACH (l, next, &each->ledger.clients, link)
			for (uint32_t i = 0; i < each->ledger.share_count; i++) {
				const struct aqd_client *c = aqd_client_of(l);

				b.own += each == f ? c->move[i].host_bytes : 0;
				b.moving += aq_minus(c->move[i].host_bytes, c->move[i].away_bytes);
				b.kept += each == f ? 0 : kept_bytes(c, i);
			}
	return b;
}

static uint64_t pool_left(const struct aqd *d)
{
	return aq_minus(d->config.host_memory_bytes, d->host_used_bytes);
}

bool aqd_host_room(struct aqd *d, const struct aqd_fraction *f, uint64_t bytes, uint64_t *ret_free)
{
	struct host_books b = host_books(d, f);
	uint64_t left = aq_min(pool_left(d), aq_minus(d->config.host_memory_fraction_bytes, b.own));

	*ret_free = aq_min(left, aq_minus(available_now(d), b.moving));
	return bytes <= *ret_free;
}

void aqd_host_claim(struct aqd *d, const struct aqd_fraction *f, uint64_t bytes)
{
	struct host_books b = host_books(d, f);
	struct aqd_fraction *each, *next_fraction;
	struct aq_ledger_client *l, *next;
	uint64_t over = aq_minus(bytes + b.kept, pool_left(d));
	uint64_t lacks = aq_minus(bytes, aq_minus(available_now(d), b.moving));

	if (over < lacks)
		over = lacks;
	AQ_LIST_FOREACH (each, next_fraction, &d->fractions, link)
		AQ_LIST_FOREACH (l, next, &each->ledger.clients, link)
			for (uint32_t i = 0; over && i < each->ledger.share_count; i++) {
				struct aqd_client *c = aqd_client_of(l);
				uint64_t kept = each == f ? 0 : kept_bytes(c, i);

				if (!kept)
					continue;
				__atomic_store_n((uint64_t *)&c->page->device[i].host_limit_bytes,
						 0, __ATOMIC_RELEASE);
				aqd_gate_news(c);
				over = aq_minus(over, kept);
			}
}
