/* SPDX-License-Identifier: Apache-2.0 */
/* The calculation of device time; see engine.h. Reads no clock, takes no lock, allocates only for
 * predictions among several contexts. */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

/* After so many steps a prediction is given as a lower bound; some milliseconds of calculation. */
#define PREDICT_STEPS 20000u

/* One calculation: of the truth (record) or of a prediction on copies. */
struct walk {
	struct sim_engine_clock *clock;
	struct sim_engine_context *contexts;
	struct sim_engine_work (*ring)[SIM_ENGINE_RING];
	uint64_t *gaps; /* NULL: not counted */
	bool record;
	uint32_t stop_index; /* end when this context's work stop_number has finished */
	uint64_t stop_number;
	uint32_t steps_left;
};

static inline struct sim_engine_work *work_at(struct sim_engine_work (*ring)[SIM_ENGINE_RING],
					      uint32_t index, uint64_t number)
{
	return &ring[index][number % SIM_ENGINE_RING];
}

static bool may_run(const struct walk *w, uint32_t index)
{
	const struct sim_engine_context *c = &w->contexts[index];

	if (!c->used || c->first == c->last)
		return false;
	return c->begun || work_at(w->ring, index, c->first)->not_before_ns <= w->clock->now_ns;
}

/* The next in turn after @after, which comes last itself. */
static uint32_t next_in_turn(const struct walk *w, uint32_t after)
{
	uint32_t n = w->clock->n_contexts;

	for (uint32_t i = 1; i <= n; i++) {
		uint32_t index = (after == SIM_ENGINE_NONE ? i - 1 : after + i) % n;

		if (may_run(w, index))
			return index;
	}
	return SIM_ENGINE_NONE;
}

/* When the first work that waits for an instant may run. */
static uint64_t next_arrival(const struct walk *w)
{
	uint64_t next = SIM_ENGINE_NEVER;

	for (uint32_t i = 0; i < w->clock->n_contexts; i++) {
		const struct sim_engine_context *c = &w->contexts[i];

		if (c->used && c->first != c->last)
			next = aq_min(next, work_at(w->ring, i, c->first)->not_before_ns);
	}
	return next;
}

/* The engine goes over to another context. */
static void count_gap(struct walk *w)
{
	const struct sim_engine_clock *k = w->clock;
	uint64_t idle_ns = k->idle_since_ns == SIM_ENGINE_NEVER ? 0 : k->now_ns - k->idle_since_ns;

	if (w->gaps)
		w->gaps[aq_min(idle_ns / SIM_ENGINE_GAP_NS, SIM_ENGINE_GAPS - 1)]++;
}

static void begin_turn(struct walk *w, uint32_t index)
{
	struct sim_engine_clock *k = w->clock;
	const struct sim_engine_context *c = &w->contexts[index];

	if (k->loaded != index && k->loaded != SIM_ENGINE_NONE) {
		k->switch_left_ns = k->switch_ns;
		k->switches++;
		count_gap(w);
	}
	k->running = k->loaded = index;
	k->slice_left_ns = c->slice_ns ? c->slice_ns : k->slice_ns;
	k->idle_since_ns = SIM_ENGINE_NEVER;
}

/* The first work of @index has no time left. Returns whether the walk ends here. */
static bool finish_work(struct walk *w, uint32_t index)
{
	struct sim_engine_context *c = &w->contexts[index];
	uint64_t number = c->first;

	if (w->record)
		work_at(w->ring, index, number)->finish_ns = w->clock->now_ns;
	c->begun = 0;
	c->first = number + 1;
	if (!may_run(w, index))
		w->clock->running = SIM_ENGINE_NONE;
	return index == w->stop_index && number == w->stop_number;
}

/* Let the context that has the engine work until @until_ns at most. As finish_work(). */
static bool run(struct walk *w, uint64_t until_ns)
{
	struct sim_engine_clock *k = w->clock;
	uint32_t index = k->running;
	struct sim_engine_context *c = &w->contexts[index];
	uint64_t ns;

	if (!c->begun) {
		struct sim_engine_work *work = work_at(w->ring, index, c->first);

		c->left_ns = work->duration_ns;
		c->begun = 1;
		if (w->record)
			work->start_ns = k->now_ns;
	}
	ns = aq_min(until_ns - k->now_ns, aq_min(c->left_ns, k->slice_left_ns));
	k->now_ns += ns;
	k->busy_ns += ns;
	k->slice_left_ns -= ns;
	c->busy_ns += ns;
	c->left_ns -= ns;
	if (c->left_ns == 0 && finish_work(w, index))
		return true;
	if (k->running == index && k->slice_left_ns == 0)
		begin_turn(w, next_in_turn(w, index));
	return false;
}

/* Nobody may run. Go to the next arrival, or to @until_ns. */
static void idle(struct walk *w, uint64_t until_ns)
{
	struct sim_engine_clock *k = w->clock;

	if (k->idle_since_ns == SIM_ENGINE_NEVER)
		k->idle_since_ns = k->now_ns;
	k->now_ns = aq_min(until_ns, next_arrival(w));
}

/* Returns whether the work to stop at was reached. */
static bool walk(struct walk *w, uint64_t until_ns)
{
	struct sim_engine_clock *k = w->clock;

	while (k->now_ns < until_ns) {
		if (w->steps_left-- == 0)
			return false;
		if (k->running == SIM_ENGINE_NONE) {
			uint32_t next = next_in_turn(w, k->loaded);

			if (next == SIM_ENGINE_NONE)
				idle(w, until_ns);
			else
				begin_turn(w, next);
		} else if (k->switch_left_ns) {
			uint64_t ns = aq_min(until_ns - k->now_ns, k->switch_left_ns);

			k->now_ns += ns;
			k->switched_ns += ns;
			k->switch_left_ns -= ns;
		} else if (run(w, until_ns)) {
			return true;
		}
	}
	/* Works of no length end at the instant at which their predecessor does. */
	while (k->running != SIM_ENGINE_NONE && !k->switch_left_ns &&
	       !w->contexts[k->running].begun &&
	       work_at(w->ring, k->running, w->contexts[k->running].first)->duration_ns == 0) {
		if (run(w, until_ns))
			return true;
	}
	return false;
}

void sim_engine_init(struct sim_engine *e, uint64_t slice_ns, uint64_t switch_ns, uint64_t now_ns)
{
	struct sim_engine_clock *k = &e->clock;

	k->slice_ns = slice_ns ? slice_ns : 1;
	k->switch_ns = switch_ns;
	k->now_ns = k->idle_since_ns = now_ns;
	k->running = k->loaded = SIM_ENGINE_NONE;
}

int sim_engine_attach(struct sim_engine *e, uint32_t process, int32_t pid, uint32_t *ret_index)
{
	for (uint32_t i = 0; i < SIM_ENGINE_CONTEXTS; i++) {
		struct sim_engine_context *c = &e->contexts[i];

		if (c->used)
			continue;
		*c = (struct sim_engine_context){
			.process = process,
			.pid = pid,
			.id = ++e->n_attached,
		};
		c->used = 1;
		if (e->clock.n_contexts <= i)
			e->clock.n_contexts = i + 1;
		*ret_index = i;
		return 0;
	}
	return -ENOSPC;
}

/* Written before it is counted: who dies in between leaves no half entry. */
static void keep_account(struct sim_engine *e, const struct sim_engine_context *c)
{
	struct sim_engine_past *past = &e->past[e->n_past % SIM_ENGINE_PAST];

	*past = (struct sim_engine_past){.id = c->id, .pid = c->pid, .busy_ns = c->busy_ns};
	memcpy(past->copy_ns, c->copy_ns, sizeof(past->copy_ns));
	__atomic_store_n(&e->n_past, e->n_past + 1, __ATOMIC_RELEASE);
}

void sim_engine_detach(struct sim_engine *e, uint32_t index, uint64_t now_ns)
{
	struct sim_engine_clock *k = &e->clock;

	if (index >= SIM_ENGINE_CONTEXTS || !e->contexts[index].used)
		return;
	sim_engine_advance(e, now_ns);
	keep_account(e, &e->contexts[index]);
	e->contexts[index].used = 0;
	e->contexts[index].begun = 0;
	e->contexts[index].first = e->contexts[index].last;
	if (k->running == index) {
		k->running = SIM_ENGINE_NONE;
		k->switch_left_ns = 0;
	}
	if (k->loaded == index)
		k->loaded = SIM_ENGINE_NONE;
	while (k->n_contexts && !e->contexts[k->n_contexts - 1].used)
		k->n_contexts--;
}

int sim_engine_push(struct sim_engine *e, uint32_t index, uint64_t not_before_ns,
		    uint64_t duration_ns, uint64_t now_ns, uint64_t *ret_number)
{
	struct sim_engine_clock *k = &e->clock;
	struct sim_engine_context *c = &e->contexts[index];

	if (c->last - c->first >= SIM_ENGINE_RING - 1) {
		sim_engine_advance(e, now_ns);
		if (c->last - c->first >= SIM_ENGINE_RING - 1)
			return -EAGAIN;
	}
	*work_at(e->ring, index, c->last) = (struct sim_engine_work){
		.not_before_ns = not_before_ns,
		.duration_ns = duration_ns,
		.start_ns = SIM_ENGINE_NEVER,
		.finish_ns = SIM_ENGINE_NEVER,
	};
	/* Nothing was decided about the time since the engine is idle: go back to where this work
	 * could have begun. */
	if (k->running == SIM_ENGINE_NONE && c->first == c->last && not_before_ns < k->now_ns)
		k->now_ns = aq_max(not_before_ns, aq_min(k->idle_since_ns, k->now_ns));
	*ret_number = c->last;
	c->last++;
	return 0;
}

void sim_engine_advance(struct sim_engine *e, uint64_t now_ns)
{
	struct walk w = {
		.clock = &e->clock,
		.contexts = e->contexts,
		.ring = e->ring,
		.gaps = e->gaps,
		.record = true,
		.stop_index = SIM_ENGINE_NONE,
	};

	while (e->clock.now_ns < now_ns) {
		w.steps_left = UINT32_MAX;
		walk(&w, now_ns);
	}
}

int sim_engine_times(const struct sim_engine *e, uint32_t index, uint64_t number,
		     uint64_t *ret_start_ns, uint64_t *ret_finish_ns)
{
	const struct sim_engine_context *c = &e->contexts[index];
	const struct sim_engine_work *work = &e->ring[index][number % SIM_ENGINE_RING];

	if (number >= c->last || c->last - number > SIM_ENGINE_RING)
		return -ENOENT;
	*ret_start_ns = work->start_ns;
	if (number >= c->first)
		return 0;
	*ret_finish_ns = work->finish_ns;
	return 1;
}

static bool others_pending(const struct sim_engine *e, uint32_t index)
{
	for (uint32_t i = 0; i < e->clock.n_contexts; i++) {
		if (i != index && e->contexts[i].used &&
		    e->contexts[i].first != e->contexts[i].last)
			return true;
	}
	return false;
}

/* Nobody else has work: a sum. */
static uint64_t predict_alone(const struct sim_engine *e, uint32_t index, uint64_t number)
{
	const struct sim_engine_clock *k = &e->clock;
	const struct sim_engine_context *c = &e->contexts[index];
	uint64_t t = k->now_ns;

	for (uint64_t i = c->first; i <= number; i++) {
		const struct sim_engine_work *work = &e->ring[index][i % SIM_ENGINE_RING];

		if (i == c->first && c->begun) {
			t += c->left_ns + (k->running == index ? k->switch_left_ns : k->switch_ns);
			continue;
		}
		t = aq_max(t, work->not_before_ns);
		if (i == c->first && k->running == index)
			t += k->switch_left_ns;
		else if (i == c->first && k->loaded != index && k->loaded != SIM_ENGINE_NONE)
			t += k->switch_ns;
		t += work->duration_ns;
	}
	return t;
}

uint64_t sim_engine_predict(const struct sim_engine *e, uint32_t index, uint64_t number)
{
	const struct sim_engine_context *c = &e->contexts[index];
	struct sim_engine_clock clock = e->clock;
	size_t size = clock.n_contexts * sizeof(e->contexts[0]);
	struct walk w = {
		.clock = &clock,
		.ring = (struct sim_engine_work(*)[SIM_ENGINE_RING])e->ring,
		.stop_index = index,
		.stop_number = number,
		.steps_left = PREDICT_STEPS,
	};

	if (!c->used || number < c->first || number >= c->last)
		return 0;
	if (!others_pending(e, index))
		return predict_alone(e, index, number);
	w.contexts = malloc(size);
	if (!w.contexts)
		return clock.now_ns + clock.slice_ns; /* a lower bound is enough to ask again */
	memcpy(w.contexts, e->contexts, size);
	walk(&w, SIM_ENGINE_NEVER);
	free(w.contexts);
	return clock.now_ns;
}

uint64_t sim_engine_pending(const struct sim_engine *e, uint32_t index)
{
	return e->contexts[index].last - e->contexts[index].first;
}

void sim_engine_copy(struct sim_engine *e, uint32_t index, enum sim_copy_engine engine,
		     uint64_t not_before_ns, uint64_t duration_ns, uint64_t *ret_start_ns,
		     uint64_t *ret_finish_ns)
{
	uint64_t start = aq_max(not_before_ns, e->copy_free_ns[engine]);

	e->copy_free_ns[engine] = start + duration_ns;
	e->copy_busy_ns[engine] += duration_ns;
	if (index < SIM_ENGINE_CONTEXTS)
		e->contexts[index].copy_ns[engine] += duration_ns;
	*ret_start_ns = start;
	*ret_finish_ns = start + duration_ns;
}

void sim_engine_repair(struct sim_engine *e)
{
	struct sim_engine_clock *k = &e->clock;

	if (k->n_contexts > SIM_ENGINE_CONTEXTS)
		k->n_contexts = SIM_ENGINE_CONTEXTS;
	for (uint32_t i = 0; i < SIM_ENGINE_CONTEXTS; i++) {
		struct sim_engine_context *c = &e->contexts[i];

		if (c->used && i >= k->n_contexts)
			k->n_contexts = i + 1;
		if (c->last - c->first >= SIM_ENGINE_RING)
			c->first = c->last;
		if (!c->used || c->first == c->last)
			c->begun = 0;
		if (c->begun)
			c->left_ns = aq_min(c->left_ns,
					    e->ring[i][c->first % SIM_ENGINE_RING].duration_ns);
	}
	if (k->running != SIM_ENGINE_NONE) {
		struct walk w = {.clock = k, .contexts = e->contexts, .ring = e->ring};

		if (k->running >= k->n_contexts || !may_run(&w, k->running))
			k->running = SIM_ENGINE_NONE;
	}
	if (k->loaded != SIM_ENGINE_NONE && k->loaded >= k->n_contexts)
		k->loaded = SIM_ENGINE_NONE;
	if (k->running == SIM_ENGINE_NONE)
		k->switch_left_ns = 0;
	k->switch_left_ns = aq_min(k->switch_left_ns, k->switch_ns);
	if (k->slice_left_ns == 0)
		k->slice_left_ns = 1;
}
