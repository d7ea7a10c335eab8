/* SPDX-License-Identifier: Apache-2.0 */
/* See context.h. Reserves nothing itself, and measures nothing. */
#include "daemon/context.h"

#include <string.h>

#include "daemon/client.h"
#include "base/banned.h"

bool aqd_context_is(const struct aq_msg_cost *m)
{
	/* A green one is a part of another, and small. */
	return (strstr(m->api, "CtxCreate") && !strstr(m->api, "Green")) ||
	       strstr(m->api, "PrimaryCtxRetain");
}

static struct aqd_device *device_of(struct aqd *d, const struct aqd_client *c, uint32_t share)
{
	return &d->device[c->fraction->ledger.share[share].device];
}

/* The guard knew of no cost when it began, and says so again at the end. */
static bool is_blind(const struct aq_msg_cost *m)
{
	return !m->estimate_bytes && aqd_context_is(m);
}

bool aqd_context_must_wait(struct aqd *d, const struct aqd_client *c, const struct aq_msg_cost *m)
{
	const struct aqd_device *dev = device_of(d, c, m->device);

	return is_blind(m) && !dev->context_bytes && dev->first_maker && dev->first_maker != c;
}

uint64_t aqd_context_expected(const struct aqd *d, const struct aqd_client *c,
			      const struct aq_msg_cost *m)
{
	const struct aqd_device *dev = &d->device[c->fraction->ledger.share[m->device].device];

	return is_blind(m) ? dev->context_bytes : m->estimate_bytes;
}

void aqd_context_begun(struct aqd *d, struct aqd_client *c, const struct aq_msg_cost *m,
		       uint64_t reserved_bytes)
{
	struct aqd_device *dev = device_of(d, c, m->device);

	if (!is_blind(m))
		return;
	if (reserved_bytes) {
		c->blind[m->device].reserved_bytes += reserved_bytes;
		c->blind[m->device].count++;
	} else if (!dev->contexts_untold) {
		dev->first_maker = c;
	}
}

uint64_t aqd_context_reserved(struct aqd_client *c, const struct aq_msg_cost *m)
{
	struct aqd_blind *b = &c->blind[m->device];
	uint64_t bytes;

	if (!is_blind(m) || !b->count)
		return m->estimate_bytes;
	bytes = b->reserved_bytes / b->count--;
	b->reserved_bytes -= bytes;
	return bytes;
}

static void learn(struct aqd *d, struct aqd_device *dev, uint64_t bytes)
{
	struct aqd_fraction *f, *next;

	if (bytes <= dev->context_bytes)
		return;
	dev->context_bytes = bytes;
	AQ_LIST_FOREACH (f, next, &d->fractions, link)
		aqd_client_write_terms_of(d, f);
}

void aqd_context_ended(struct aqd *d, struct aqd_client *c, const struct aq_msg_cost *m, bool told,
		       uint64_t bytes)
{
	struct aqd_device *dev = device_of(d, c, m->device);

	if (!aqd_context_is(m))
		return;
	if (!told)
		dev->contexts_untold = true;
	else if (m->phase == AQ_COST_END)
		learn(d, dev, bytes);
	if (dev->first_maker == c)
		dev->first_maker = NULL;
}

void aqd_context_client_lost(struct aqd *d, struct aqd_client *c)
{
	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		if (d->device[i].first_maker == c)
			d->device[i].first_maker = NULL;
}
