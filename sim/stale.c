/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames whose bytes stay with the host when they are freed. A GPU's memory is there from the start;
 * to get a simulated frame's from the host takes ten times as long as to copy into it (512 page
 * faults), and to give it back once more. So a part of what programs free is kept and given out
 * first.
 *
 * A frame that is kept is *stale*: it reads as zero, whatever bytes it has. Whoever uses a part of it
 * cleans it first, whoever overwrites all of it need not, and what only reads it takes it for the
 * hole that it means (sparse.c). So nobody sees what another had there. The mark is set before the
 * frame is free, and cleared when its bytes are its owner's: who dies in between leaves it set.
 */
#include "machine.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "base/fd.h"
#include "base/timing.h"
#include "base/banned.h"

/* What is kept: at most this part of the host's memory, and never more than the second part of what
 * can be had there. Guess. */
#define KEEP_OF_TOTAL 8u
#define KEEP_OF_FREE 2u

#define DROP_BATCH 64u /* as frames are freed; see frames.c */
#define PAGES (SIM_FRAME_BYTES / SIM_HOST_PAGE_BYTES)

/* The host's memory is looked at so often. Guess. */
#define LOOK_NS (100 * AQ_NS_PER_MS)

static uint64_t host_room(void)
{
	static uint64_t room, looked_ns; /* atomic; of this process */
	uint64_t now = aq_now_ns(), left;
	struct sysinfo host;

	if (now - __atomic_load_n(&looked_ns, __ATOMIC_RELAXED) < LOOK_NS)
		return __atomic_load_n(&room, __ATOMIC_RELAXED);
	left = aq_memory_available();
	left = left == UINT64_MAX || sysinfo(&host) < 0 ? 0 : left / KEEP_OF_FREE;
	if (left > (uint64_t)host.totalram * host.mem_unit / KEEP_OF_TOTAL)
		left = (uint64_t)host.totalram * host.mem_unit / KEEP_OF_TOTAL;
	__atomic_store_n(&room, left, __ATOMIC_RELAXED);
	__atomic_store_n(&looked_ns, now, __ATOMIC_RELAXED);
	return left;
}

static uint32_t *mark_of(struct sim_machine *m, uint32_t device, uint32_t frame)
{
	return &m->shared->devices[device].frames[frame].stale;
}

static void set_mark(struct sim_machine *m, uint32_t device, uint32_t frame, uint32_t stale)
{
	__atomic_store_n(mark_of(m, device, frame), stale, __ATOMIC_RELEASE);
}

/* Give neighbouring frames to the host. Where that fails they stay, and are stale. */
static void drop(struct sim_machine *m, uint32_t device, uint32_t first, uint32_t n)
{
	uint32_t stale = n && !sim_memory_punch(m, device, first, n);

	for (uint32_t i = 0; i < n; i++)
		set_mark(m, device, first + i, stale);
}

void sim_frames_empty(struct sim_machine *m, uint32_t device, const uint32_t *frames, uint32_t n,
		      bool keep)
{
	uint32_t room = keep ? (uint32_t)(host_room() / SIM_FRAME_BYTES) : 0, kept = m->shared->devices[device].n_kept;
	uint64_t from = UINT64_MAX, bytes_at = 0; /* between the two no frame has bytes */
	uint32_t first = 0, run = 0;		  /* of those that go */

	for (uint32_t i = 0; i < n; i++) {
		uint32_t f = frames[i];

		if (f * SIM_FRAME_BYTES < from || f * SIM_FRAME_BYTES >= bytes_at) {
			from = f * SIM_FRAME_BYTES;
			bytes_at = sim_memory_written(m, device, from);
		}
		if (bytes_at >= (f + 1) * SIM_FRAME_BYTES) {
			set_mark(m, device, f, 0);
			continue;
		}
		if (kept < room) {
			set_mark(m, device, f, 1);
			kept++;
			continue;
		}
		if (run && f == first + run) {
			run++;
			continue;
		}
		drop(m, device, first, run);
		first = f;
		run = 1;
	}
	drop(m, device, first, run);
}

void sim_frames_drop_kept(struct sim_machine *m, uint32_t device)
{
	struct sim_machine_device *d = &m->shared->devices[device];
	uint32_t at = 0, last = UINT32_MAX;

	while (d->n_kept && d->n_kept < last) { /* each round drops some, or it is no use */
		uint32_t n = 0;

		last = d->n_kept;
		for (at = d->n_free; at-- > 0 && n < DROP_BATCH;) {
			uint32_t f = d->free[at];

			if (!sim_frame_is_stale(m, device, f))
				continue;
			drop(m, device, f, 1);
			d->n_kept -= !sim_frame_is_stale(m, device, f);
			n++;
		}
		sim_memory_unlock(m, device);
		sim_memory_lock(m, device);
	}
}

void sim_frame_clean(struct sim_machine *m, uint32_t device, uint32_t frame, uint8_t *bytes)
{
	unsigned char there[PAGES];

	sim_memory_lock(m, device);
	if (sim_frame_is_stale(m, device, frame)) {
		/* What was never written is zero, and stays so. */
		if (mincore(bytes, SIM_FRAME_BYTES, there) < 0)
			memset(there, 1, sizeof(there));
		for (uint32_t i = 0; i < PAGES; i++) {
			if (there[i] & 1)
				memset(bytes + i * SIM_HOST_PAGE_BYTES, 0, SIM_HOST_PAGE_BYTES);
		}
		set_mark(m, device, frame, 0);
	}
	sim_memory_unlock(m, device);
}

void sim_frame_overwritten(struct sim_machine *m, uint32_t device, uint32_t frame)
{
	set_mark(m, device, frame, 0);
}
