/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device memory: frames, the objects they make up, who holds those, and what is charged beside
 * them. Says nothing about addresses; the bytes are in memfile.c.
 *
 * Every change of an object is one of: build the chain, then write n_frames of its first frame;
 * take frames off behind the first one; clear n_frames. So whoever dies in between leaves frames
 * that no object reaches, and repair() finds them.
 */
#include "machine.h"

#include <errno.h>
#include <string.h>

#include "base/banned.h"

/* Frames that are freed at a time: emptying 64 written ones may take 30 milliseconds. */
#define FREE_BATCH 64u

static struct sim_machine_device *device_of(struct sim_machine *m, uint32_t device)
{
	return &m->shared->devices[device];
}

static struct sim_process_share *share_of(struct sim_machine *m, uint32_t process, uint32_t device)
{
	return &m->shared->processes[process].on[device];
}

void sim_frames_init(struct sim_machine_device *d)
{
	for (uint32_t i = 0; i < d->n_frames; i++) {
		d->frames[i] = (struct sim_frame){.next = SIM_NONE, .owner = SIM_NONE};
		d->free[i] = d->n_frames - 1 - i; /* a stack: low numbers first */
	}
	d->n_free = d->n_frames;
	d->frames_used = d->overhead_bytes = 0;
	d->next_id = 1;
	d->n_orphans = d->n_holds = d->n_kept = 0;
}

/* The stack gives out last what came first: frames that are kept go before others. */
static void push_free(struct sim_machine_device *d, uint32_t frame)
{
	d->free[d->n_free++] = frame;
	d->n_kept += d->frames[frame].stale;
}

/* Walk the chain of each object, cut what was not finished, and compute what is derived. */
static void repair(struct sim_machine *m, uint32_t device)
{
	struct sim_machine_device *d = device_of(m, device);
	static uint8_t reached[SIM_MAX_FRAMES]; /* under the memory lock of a device, and: */
	static pthread_mutex_t reached_lock = PTHREAD_MUTEX_INITIALIZER;
	uint32_t n_processes = m->shared->n_processes;

	pthread_mutex_lock(&reached_lock);
	memset(reached, 0, sizeof(reached));
	d->frames_used = d->overhead_bytes = 0;
	d->n_orphans = d->n_free = d->n_kept = 0;
	for (uint32_t p = 0; p < n_processes && p < SIM_MAX_PROCESSES; p++) {
		share_of(m, p, device)->frames = 0;
		d->overhead_bytes += share_of(m, p, device)->overhead_bytes;
	}
	for (uint32_t i = 0; i < d->n_frames; i++) {
		struct sim_frame *head = &d->frames[i];
		uint32_t n = 0;

		if (!head->n_frames)
			continue;
		for (uint32_t f = i; f < d->n_frames && n < head->n_frames; f = d->frames[f].next) {
			reached[f] = 1;
			n++;
		}
		head->n_frames = n;
		d->frames_used += n;
		if (head->owner < SIM_MAX_PROCESSES)
			share_of(m, head->owner, device)->frames += n;
		else
			d->n_orphans++;
	}
	for (uint32_t i = d->n_frames; i-- > 0;) {
		if (!reached[i])
			push_free(d, i);
	}
	pthread_mutex_unlock(&reached_lock);
}

void sim_memory_lock(struct sim_machine *m, uint32_t device)
{
	if (sim_lock(&device_of(m, device)->memory_lock))
		repair(m, device);
}

void sim_memory_unlock(struct sim_machine *m, uint32_t device)
{
	sim_unlock(&device_of(m, device)->memory_lock);
}

struct sim_frame *sim_object_at(struct sim_machine_device *d, uint32_t first, uint64_t id)
{
	struct sim_frame *head;

	if (first >= d->n_frames)
		return NULL;
	head = &d->frames[first];
	return head->n_frames && head->id == id ? head : NULL;
}

static struct sim_hold *find_hold(struct sim_machine_device *d, uint32_t first, uint32_t process)
{
	for (uint32_t i = 0; i < d->n_holds; i++) {
		if (d->holds[i].frame_plus_1 == first + 1 &&
		    (process == SIM_NONE || d->holds[i].process == process))
			return &d->holds[i];
	}
	return NULL;
}

static int add_hold(struct sim_machine_device *d, uint32_t first, uint32_t process)
{
	uint32_t i = 0;

	while (i < d->n_holds && d->holds[i].frame_plus_1)
		i++;
	if (i == SIM_MAX_HOLDS)
		return -ENOSPC;
	if (i == d->n_holds)
		d->n_holds++;
	d->holds[i].process = process;
	__atomic_store_n(&d->holds[i].frame_plus_1, first + 1, __ATOMIC_RELEASE);
	return 0;
}

static void set_owner(struct sim_machine *m, uint32_t device, struct sim_frame *head,
		      uint32_t owner)
{
	struct sim_machine_device *d = device_of(m, device);

	if (head->owner < SIM_MAX_PROCESSES)
		share_of(m, head->owner, device)->frames -= head->n_frames;
	else
		d->n_orphans--;
	head->owner = owner;
	if (owner < SIM_MAX_PROCESSES) {
		share_of(m, owner, device)->touched = 1;
		share_of(m, owner, device)->frames += head->n_frames;
	} else {
		d->n_orphans++;
	}
}

/* Free an ownerless object. The memory lock is held, and let go between batches. @keep: as in
 * sim_frames_empty(). */
static void destroy(struct sim_machine *m, uint32_t device, uint32_t first, bool keep)
{
	struct sim_machine_device *d = device_of(m, device);
	struct sim_frame *head = &d->frames[first];
	uint64_t id = head->id;
	uint32_t batch[FREE_BATCH];

	head->flags |= SIM_FRAME_DYING;
	while (sim_object_at(d, first, id) && head->n_frames > 1) {
		uint32_t n = 0, f = head->next;

		for (; n < FREE_BATCH && n + 1 < head->n_frames; f = d->frames[f].next)
			batch[n++] = f;
		sim_frames_empty(m, device, batch, n, keep);
		head->next = f;
		__atomic_store_n(&head->n_frames, head->n_frames - n, __ATOMIC_RELEASE);
		d->frames_used -= n;
		while (n-- > 0) /* backwards: the stack gives them out in order again */
			push_free(d, batch[n]);
		if (head->n_frames > 1) {
			sim_memory_unlock(m, device);
			sim_memory_lock(m, device);
		}
	}
	if (!sim_object_at(d, first, id))
		return; /* somebody swept it up meanwhile */
	sim_frames_empty(m, device, &first, 1, keep);
	__atomic_store_n(&head->n_frames, 0, __ATOMIC_RELEASE);
	d->frames_used--;
	d->n_orphans--;
	push_free(d, first);
}

/* @process lets go. Memory lock held. */
static void let_go(struct sim_machine *m, uint32_t device, uint32_t first, uint32_t process)
{
	struct sim_machine_device *d = device_of(m, device);
	struct sim_frame *head = &d->frames[first];
	struct sim_hold *hold;

	if (head->owner == process) {
		hold = find_hold(d, first, SIM_NONE);
		set_owner(m, device, head, hold ? hold->process : SIM_NONE);
	} else {
		hold = find_hold(d, first, process);
	}
	if (hold)
		__atomic_store_n(&hold->frame_plus_1, 0, __ATOMIC_RELEASE);
	if (head->owner == SIM_NONE && !sim_export_open(m, device, head))
		destroy(m, device, first, process == m->self);
}

/* Free the objects that only a descriptor kept alive which is closed now, or whose destroyer died.
 * Memory lock held. */
static void collect_orphans(struct sim_machine *m, uint32_t device)
{
	struct sim_machine_device *d = device_of(m, device);

	for (uint32_t i = 0; d->n_orphans && i < d->n_frames; i++) {
		struct sim_frame *head = &d->frames[i];

		if (head->n_frames && head->owner == SIM_NONE &&
		    ((head->flags & SIM_FRAME_DYING) || !sim_export_open(m, device, head)))
			destroy(m, device, i, false);
	}
}

static uint64_t free_bytes(const struct sim_machine_device *d)
{
	return d->total_bytes - d->frames_used * SIM_FRAME_BYTES - d->overhead_bytes;
}

/* Lock, and make sure that @bytes are free if sweeping can do it. Return: 0; -ENOMEM, unlocked. */
static int lock_with_room(struct sim_machine *m, uint32_t device, uint64_t bytes)
{
	struct sim_machine_device *d = device_of(m, device);

	sim_memory_lock(m, device);
	if (bytes <= free_bytes(d))
		return 0;
	sim_memory_unlock(m, device);
	sim_machine_sweep(m);
	sim_memory_lock(m, device);
	collect_orphans(m, device);
	if (bytes <= free_bytes(d))
		return 0;
	sim_memory_unlock(m, device);
	return -ENOMEM;
}

void sim_memory_info(struct sim_machine *m, uint32_t device, uint64_t *ret_free_bytes,
		     uint64_t *ret_total_bytes)
{
	struct sim_machine_device *d = device_of(m, device);

	sim_machine_sweep(m);
	sim_memory_lock(m, device);
	collect_orphans(m, device);
	*ret_free_bytes = free_bytes(d);
	*ret_total_bytes = d->total_bytes;
	sim_memory_unlock(m, device);
}

int sim_frames_alloc(struct sim_machine *m, uint32_t device, uint32_t n_frames, uint32_t *ret_first,
		     uint64_t *ret_id)
{
	struct sim_machine_device *d = device_of(m, device);
	uint32_t first;
	int r;

	if (n_frames == 0 || n_frames > d->n_frames)
		return -ENOMEM;
	r = lock_with_room(m, device, n_frames * SIM_FRAME_BYTES);
	if (r < 0)
		return r;
	first = d->free[d->n_free - 1];
	for (uint32_t i = 0; i < n_frames; i++) {
		uint32_t f = d->free[d->n_free - 1 - i], stale = d->frames[f].stale;

		d->frames[f] = (struct sim_frame){
			.next = i + 1 < n_frames ? d->free[d->n_free - 2 - i] : SIM_NONE,
			.owner = m->self,
			.stale = stale,
		};
		d->n_kept -= stale;
	}
	d->frames[first].id = d->next_id++;
	share_of(m, m->self, device)->touched = 1;
	__atomic_store_n(&d->frames[first].n_frames, n_frames, __ATOMIC_RELEASE);
	d->n_free -= n_frames;
	d->frames_used += n_frames;
	share_of(m, m->self, device)->frames += n_frames;
	*ret_first = first;
	*ret_id = d->frames[first].id;
	sim_memory_unlock(m, device);
	return 0;
}

int sim_frames_hold(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id)
{
	struct sim_machine_device *d = device_of(m, device);
	struct sim_frame *head;
	int r = 0;

	sim_memory_lock(m, device);
	head = sim_object_at(d, first, id);
	if (!head || (head->flags & SIM_FRAME_DYING)) {
		r = -ENOENT;
	} else if (head->owner == SIM_NONE) {
		set_owner(m, device, head, m->self);
	} else if (head->owner != m->self && !find_hold(d, first, m->self)) {
		share_of(m, m->self, device)->touched = 1;
		r = add_hold(d, first, m->self);
	}
	sim_memory_unlock(m, device);
	return r;
}

void sim_frames_release(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id)
{
	sim_memory_lock(m, device);
	if (sim_object_at(device_of(m, device), first, id))
		let_go(m, device, first, m->self);
	sim_memory_unlock(m, device);
}

int sim_frames_list(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id,
		    uint32_t *frames, uint32_t n_frames)
{
	struct sim_machine_device *d = device_of(m, device);
	struct sim_frame *head;
	int r = -ENOENT;

	sim_memory_lock(m, device);
	head = sim_object_at(d, first, id);
	if (head && head->n_frames == n_frames) {
		for (uint32_t f = first, i = 0; i < n_frames; f = d->frames[f].next)
			frames[i++] = f;
		r = 0;
	}
	sim_memory_unlock(m, device);
	return r;
}

uint32_t sim_frames_count(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id)
{
	struct sim_frame *head;
	uint32_t n;

	sim_memory_lock(m, device);
	head = sim_object_at(device_of(m, device), first, id);
	n = head ? head->n_frames : 0;
	sim_memory_unlock(m, device);
	return n;
}

int sim_overhead_charge(struct sim_machine *m, uint32_t device, uint64_t bytes)
{
	struct sim_machine_device *d = device_of(m, device);
	struct sim_process_share *share = share_of(m, m->self, device);
	int r = lock_with_room(m, device, bytes);

	if (r < 0)
		return r;
	share->touched = 1;
	share->overhead_bytes += bytes;
	d->overhead_bytes += bytes;
	sim_memory_unlock(m, device);
	return 0;
}

void sim_overhead_release(struct sim_machine *m, uint32_t device, uint64_t bytes)
{
	struct sim_machine_device *d = device_of(m, device);
	struct sim_process_share *share = share_of(m, m->self, device);

	sim_memory_lock(m, device);
	if (bytes > share->overhead_bytes)
		bytes = share->overhead_bytes;
	share->overhead_bytes -= bytes;
	d->overhead_bytes -= bytes;
	sim_memory_unlock(m, device);
}

void sim_frames_sweep(struct sim_machine *m, uint32_t device, uint32_t process)
{
	struct sim_machine_device *d = device_of(m, device);
	struct sim_process_share *share = share_of(m, process, device);

	sim_memory_lock(m, device);
	d->overhead_bytes -= share->overhead_bytes;
	share->overhead_bytes = 0;
	for (uint32_t i = 0; i < d->n_holds; i++) {
		if (d->holds[i].frame_plus_1 && d->holds[i].process == process)
			let_go(m, device, d->holds[i].frame_plus_1 - 1, process);
	}
	for (uint32_t i = 0; i < d->n_frames; i++) {
		if (d->frames[i].n_frames && d->frames[i].owner == process)
			let_go(m, device, i, process);
	}
	collect_orphans(m, device);
	if (!d->frames_used && !d->overhead_bytes) /* that was the last program */
		sim_frames_drop_kept(m, device);
	sim_memory_unlock(m, device);
}
