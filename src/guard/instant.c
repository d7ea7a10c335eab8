/* SPDX-License-Identifier: Apache-2.0 */
#include "guard/instant.h"

#include "base/number.h"
#include "base/timing.h"
#include "guard/guest.h"

/* Two oscillators differ by 50 ppm; a float of milliseconds, which is how the driver tells times,
 * has steps of 0.5 us from 4 s on. */
#define DRIFT_PART 10000u
#define ROUNDING_NS AQ_NS_PER_US

static uint64_t slack(uint64_t distance_ns)
{
	return distance_ns / DRIFT_PART + ROUNDING_NS;
}

void aq__instant_begin(struct aq__instant *i, uint64_t now_ns)
{
	i->from_ns = now_ns;
	i->to_ns = UINT64_MAX;
}

void aq__instant_not_before(struct aq__instant *i, uint64_t ns)
{
	if (ns > i->from_ns)
		i->from_ns = ns;
	if (i->to_ns < i->from_ns)
		i->to_ns = i->from_ns;
}

void aq__instant_not_after(struct aq__instant *i, uint64_t ns)
{
	if (ns < i->to_ns)
		i->to_ns = ns;
	if (i->from_ns > i->to_ns)
		i->from_ns = i->to_ns;
}

void aq__instant_seen_after(struct aq__instant *i, uint64_t after_ns, uint64_t from_ns,
			    uint64_t to_ns)
{
	uint64_t error = slack(after_ns);

	aq__instant_not_before(i, aq_minus(from_ns, after_ns + error));
	if (to_ns != UINT64_MAX)
		aq__instant_not_after(i, aq_minus(to_ns + error, after_ns));
}

void aq__instant_follows(struct aq__instant *i, const struct aq__instant *earlier,
			 uint64_t after_ns)
{
	uint64_t error = slack(after_ns);

	aq__instant_not_before(i, aq_minus(earlier->from_ns + after_ns, error));
	if (earlier->to_ns != UINT64_MAX)
		aq__instant_not_after(i, earlier->to_ns + after_ns + error);
}

uint64_t aq__instant_ns(const struct aq__instant *i)
{
	return i->to_ns == UINT64_MAX ? i->from_ns : i->from_ns + (i->to_ns - i->from_ns) / 2;
}
