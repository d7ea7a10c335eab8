/* SPDX-License-Identifier: Apache-2.0 */
/* What the program waits for or asks about, as far as it tells what is done; see flight.h. */
#include <sched.h>

#include "base/timing.h"
#include "guard/flight_parts.h"

#define MARK_SYNC_NS (200 * AQ_NS_PER_US) /* shorter work that is waited for is sampled */
#define LOOK_MOST_NS AQ_NS_PER_MS	  /* who has waited waits no longer for another's look */

/* Lock held. Is the lane on what is waited for? */
static bool concerns(const struct aq__lane *l, CUstream stream, bool all)
{
	return l->commands && !l->recording && aq__lane_is_own(l) && (all || l->stream == stream);
}

/* Lock held; not while the driver is asked. */
static void mark_concerned(struct aq__flight *f, CUstream stream, bool all)
{
	for (uint32_t k = 0; k < AQ__LANES; k++) {
		struct aq__lane *l = &f->lanes[k];

		if (!concerns(l, stream, all))
			continue;
		if (f->account.brief && aq__lane_is_done(f, l))
			aq__account_sampled(f, true);
		(void)aq__mark_unless_captured(f, l);
	}
}

void aq__flight_sync_begin(CUstream stream, bool all)
{
	uint32_t n = aq__flights();

	for (uint32_t i = 0; i < n; i++) {
		struct aq__flight *f = aq__flight_at(i);

		aq__lock(&f->lock);
		f->account.brief &= f->est_ns < MARK_SYNC_NS;
		if (f->commands && (f->est_ns >= MARK_SYNC_NS || f->account.sampled))
			mark_concerned(f, stream, all);
		aq__unlock(&f->lock);
	}
}

/* Once in a step: who asks about old work all the time has not submitted the last of it. */
void aq__flight_asked(CUstream stream, bool all)
{
	uint32_t n = aq__flights();

	for (uint32_t i = 0; i < n; i++) {
		struct aq__flight *f = aq__flight_at(i);

		aq__lock(&f->lock);
		if (f->commands && f->account.sampled && !f->account.asked) {
			f->account.asked = true;
			mark_concerned(f, stream, all);
		}
		aq__unlock(&f->lock);
	}
}

/* Does another thread look whether what was waited for is done? Before it knows, this step and the
 * next would be taken for one, with the pause between them. */
static bool looked_at(const struct aq__flight *f, CUstream stream, bool all)
{
	bool recording = false;

	for (uint32_t k = 0; k < AQ__LANES; k++) {
		const struct aq__lane *l = &f->lanes[k];

		recording |= l->recording && aq__lane_is_own(l) && (all || l->stream == stream);
	}
	return recording || f->reaping;
}

void aq__flight_sync_end(CUstream stream, bool all, CUresult r)
{
	uint32_t n = aq__flights();

	for (uint32_t i = 0; r == CUDA_SUCCESS && i < n; i++) {
		struct aq__flight *f = aq__flight_at(i);
		uint64_t now = aq_now_ns();

		aq__lock(&f->lock);
		while (f->commands && looked_at(f, stream, all) && aq_now_ns() < now + LOOK_MOST_NS)
			aq__mark_pass_on(f);
		if (f->commands)
			aq__mark_reap(f);
		aq__account_told(f, now);
		for (uint32_t k = 0; f->commands && k < AQ__LANES; k++) {
			struct aq__lane *l = &f->lanes[k];

			if (concerns(l, stream, all) && (!all || aq__lane_is_done(f, l)))
				aq__lane_done(f, l, now > l->last_ns ? now : l->last_ns, true);
		}
		aq__unlock(&f->lock);
	}
}

void aq__flight_stream_gone(CUstream stream)
{
	uint32_t n = aq__flights();

	for (uint32_t i = 0; i < n; i++) {
		struct aq__flight *f = aq__flight_at(i);
		struct aq__lane *l;

		aq__lock(&f->lock);
		while ((l = aq__lane_of(f, stream, false)) && l->recording) {
			aq__unlock(&f->lock);
			sched_yield(); /* for as long as one record takes */
			aq__lock(&f->lock);
		}
		if (l) {
			aq__mark_lane(f, l);
			*l = (struct aq__lane){0};
		}
		aq__unlock(&f->lock);
	}
}
