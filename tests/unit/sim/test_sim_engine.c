/* SPDX-License-Identifier: Apache-2.0 */
/* Device time, in virtual time: shares, order, switches, predictions. No process, no clock. */
#include "../cm.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "engine.h"

#define US 1000ull
#define MS 1000000ull
#define T0 (1000 * MS) /* the clock never begins at zero */

static struct sim_engine *new_engine(uint64_t slice_ns, uint64_t switch_ns)
{
	struct sim_engine *e = mmap(NULL, sizeof(*e), PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(e != MAP_FAILED);
	sim_engine_init(e, slice_ns, switch_ns, T0);
	return e;
}

static void free_engine(struct sim_engine *e)
{
	munmap(e, sizeof(*e));
}

static uint32_t attach(struct sim_engine *e)
{
	uint32_t index;

	assert_int_equal(sim_engine_attach(e, 7, 4711, &index), 0);
	return index;
}

static uint64_t push(struct sim_engine *e, uint32_t index, uint64_t not_before, uint64_t duration)
{
	uint64_t number;

	assert_int_equal(sim_engine_push(e, index, not_before, duration, not_before, &number), 0);
	return number;
}

static void expect(struct sim_engine *e, uint32_t index, uint64_t number, uint64_t start,
		   uint64_t finish)
{
	uint64_t s, f;

	assert_int_equal(sim_engine_times(e, index, number, &s, &f), 1);
	assert_int_equal(s, start);
	assert_int_equal(f, finish);
}

static void test_engine__alone_there_is_no_slicing_and_no_switch(void **state)
{
	struct sim_engine *e = new_engine(MS, 100 * US);
	uint32_t a = attach(e);
	uint64_t n0 = push(e, a, T0, 10 * MS), n1 = push(e, a, T0, 5 * US);

	sim_engine_advance(e, T0 + 20 * MS);
	expect(e, a, n0, T0, T0 + 10 * MS);
	expect(e, a, n1, T0 + 10 * MS, T0 + 10 * MS + 5 * US);
	assert_int_equal(e->clock.switches, 0);
	assert_int_equal(e->clock.busy_ns, 10 * MS + 5 * US);
	free_engine(e);
}

static void test_engine__two_take_turns_by_slices(void **state)
{
	struct sim_engine *e = new_engine(MS, 100 * US);
	uint32_t a = attach(e), b = attach(e);
	uint64_t na = push(e, a, T0, 2 * MS), nb = push(e, b, T0, 3 * MS / 2);

	/* a 0..1, switch, b 1.1..2.1, switch, a 2.2..3.2 done, switch, b 3.3..3.8 done */
	sim_engine_advance(e, T0 + 10 * MS);
	expect(e, a, na, T0, T0 + 3200 * US);
	expect(e, b, nb, T0 + 1100 * US, T0 + 3800 * US);
	assert_int_equal(e->clock.switches, 3);
	assert_int_equal(e->clock.switched_ns, 300 * US);
	assert_int_equal(e->contexts[a].busy_ns, 2 * MS);
	assert_int_equal(e->contexts[b].busy_ns, 3 * MS / 2);
	free_engine(e);
}

/* Keep @index filled with works of @duration up to @until, looking every @step. */
static void saturate(struct sim_engine *e, const uint32_t *index, const uint64_t *duration,
		     uint32_t n, uint64_t until)
{
	for (uint64_t now = T0; now < until; now += 300 * US) {
		for (uint32_t i = 0; i < n; i++) {
			uint64_t number, pending = sim_engine_pending(e, index[i]);

			for (; pending < 2 || pending * duration[i] < 20 * MS; pending++) {
				if (sim_engine_push(e, index[i], now, duration[i], now, &number))
					break;
			}
		}
		sim_engine_advance(e, now + 300 * US);
	}
}

static void test_engine__saturating_contexts_get_equal_shares_whatever_their_kernels(void **state)
{
	static const uint64_t lengths[][3] = {
		{10 * US, 10 * MS, 100 * US}, {5 * US, 5 * US, 5 * US}, {40 * MS, 7 * US, 3 * MS}};
	const uint64_t until = T0 + 2000 * MS, slice = 1048576;

	for (size_t c = 0; c < 3; c++) {
		for (uint32_t n = 2; n <= 3; n++) {
			struct sim_engine *e = new_engine(slice, 50 * US);
			uint32_t index[3];

			for (uint32_t i = 0; i < n; i++)
				index[i] = attach(e);
			saturate(e, index, lengths[c], n, until);
			for (uint32_t i = 1; i < n; i++) {
				int64_t apart = (int64_t)(e->contexts[index[i]].busy_ns -
							  e->contexts[index[0]].busy_ns);

				assert_true(apart <= (int64_t)slice && apart >= -(int64_t)slice);
			}
			/* No gap: all time is work or switches. */
			assert_int_equal(e->clock.busy_ns + e->clock.switched_ns,
					 e->clock.now_ns - T0);
			free_engine(e);
		}
	}
}

static void test_engine__looking_changes_nothing(void **state)
{
	struct sim_engine *seen = new_engine(MS, 30 * US), *unseen = new_engine(MS, 30 * US);
	uint32_t seed = 12345;

	for (uint32_t i = 0; i < 4; i++) {
		attach(seen);
		attach(unseen);
	}
	for (uint32_t i = 0; i < 400; i++) {
		uint64_t at = T0 + (seed = seed * 1103515245 + 12345) % (200 * MS);
		uint32_t index = (seed >> 16) % 4;
		uint64_t duration = (seed >> 8) % (2 * MS);

		push(seen, index, at, duration);
		push(unseen, index, at, duration);
	}
	for (uint64_t now = T0; now < T0 + 2000 * MS; now += 77777)
		sim_engine_advance(seen, now);
	sim_engine_advance(seen, T0 + 2000 * MS);
	sim_engine_advance(unseen, T0 + 2000 * MS);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(sim_engine_pending(unseen, i), 0);
		for (uint64_t n = 0; n < unseen->contexts[i].last; n++) {
			uint64_t start, finish;

			assert_int_equal(sim_engine_times(unseen, i, n, &start, &finish), 1);
			expect(seen, i, n, start, finish);
		}
	}
	free_engine(seen);
	free_engine(unseen);
}

static void test_engine__late_work_begins_in_idle_time_but_not_in_decided_time(void **state)
{
	struct sim_engine *e = new_engine(MS, 0);
	uint32_t a = attach(e), b = attach(e);
	uint64_t n;

	/* Idle up to 5 ms, and somebody looked: work of 2 ms ago still begins then. */
	sim_engine_advance(e, T0 + 5 * MS);
	n = push(e, a, T0 + 3 * MS, MS);
	sim_engine_advance(e, T0 + 5 * MS);
	expect(e, a, n, T0 + 3 * MS, T0 + 4 * MS);

	/* Before the idle time began there is nothing to be had. */
	n = push(e, a, T0 + 1 * MS, MS);
	sim_engine_advance(e, T0 + 10 * MS);
	expect(e, a, n, T0 + 4 * MS, T0 + 5 * MS);

	/* b has the engine up to now: work of a that comes late begins after its slice. */
	push(e, b, T0 + 10 * MS, 10 * MS);
	sim_engine_advance(e, T0 + 12 * MS + 500 * US);
	n = push(e, a, T0 + 10 * MS, MS);
	sim_engine_advance(e, T0 + 30 * MS);
	expect(e, a, n, T0 + 13 * MS, T0 + 14 * MS);
	free_engine(e);
}

static void test_engine__waits_for_the_instant_that_work_names(void **state)
{
	struct sim_engine *e = new_engine(MS, 0);
	uint32_t a = attach(e), b = attach(e);
	uint64_t first = push(e, a, T0 + 5 * MS, MS), second = push(e, a, T0, MS);
	uint64_t other = push(e, b, T0, 2 * MS);

	sim_engine_advance(e, T0 + 20 * MS);
	expect(e, b, other, T0, T0 + 2 * MS);
	expect(e, a, first, T0 + 5 * MS, T0 + 6 * MS);
	expect(e, a, second, T0 + 6 * MS, T0 + 7 * MS); /* order of submission */
	free_engine(e);
}

static void test_engine__work_of_no_length_ends_when_its_predecessor_does(void **state)
{
	struct sim_engine *e = new_engine(MS, 0);
	uint32_t a = attach(e);
	uint64_t first = push(e, a, T0, MS), empty = push(e, a, T0, 0);

	sim_engine_advance(e, T0 + MS);
	expect(e, a, first, T0, T0 + MS);
	expect(e, a, empty, T0 + MS, T0 + MS);
	free_engine(e);
}

static void test_engine__the_queue_is_bounded_and_remembers_as_much(void **state)
{
	struct sim_engine *e = new_engine(MS, 0);
	uint32_t a = attach(e);
	uint64_t number = 0, start, finish;

	for (uint32_t i = 0; i < SIM_ENGINE_RING - 1; i++)
		assert_int_equal(push(e, a, T0, US), i);
	assert_int_equal(sim_engine_push(e, a, T0, US, T0, &number), -EAGAIN);
	assert_int_equal(number, 0);
	/* By the caller's clock some have finished. */
	assert_int_equal(sim_engine_push(e, a, T0, US, T0 + 10 * US, &number), 0);
	assert_int_equal(number, SIM_ENGINE_RING - 1);

	sim_engine_advance(e, T0 + 1000 * MS);
	expect(e, a, 0, T0, T0 + US);
	push(e, a, T0 + 1000 * MS, US);
	assert_int_equal(sim_engine_times(e, a, 0, &start, &finish), -ENOENT);
	assert_int_equal(sim_engine_times(e, a, number + 2, &start, &finish), -ENOENT);
	free_engine(e);
}

static void test_engine__predicts_what_then_happens(void **state)
{
	struct sim_engine *e = new_engine(MS, 100 * US);
	uint32_t a = attach(e), b = attach(e);
	uint64_t na, nb, predicted;

	push(e, a, T0, MS);
	na = push(e, a, T0 + 4 * MS, 3 * MS);
	assert_int_equal(sim_engine_predict(e, a, na), T0 + 7 * MS);
	sim_engine_advance(e, T0 + 5 * MS);
	assert_int_equal(sim_engine_predict(e, a, na), T0 + 7 * MS);

	nb = push(e, b, T0 + 5 * MS, 10 * MS);
	predicted = sim_engine_predict(e, b, nb);
	assert_true(sim_engine_predict(e, a, na) > T0 + 7 * MS); /* later, not sooner */
	assert_int_equal(sim_engine_pending(e, b), 1);		 /* and nothing was changed */
	sim_engine_advance(e, predicted - 1);
	assert_int_equal(sim_engine_pending(e, b), 1);
	sim_engine_advance(e, predicted);
	assert_int_equal(sim_engine_pending(e, b), 0);
	assert_int_equal(sim_engine_predict(e, b, nb), 0);
	free_engine(e);
}

static void test_engine__who_goes_away_frees_the_engine(void **state)
{
	struct sim_engine *e = new_engine(MS, 100 * US);
	uint32_t a = attach(e), b = attach(e), again;
	uint64_t nb;

	push(e, a, T0, 1000 * MS);
	nb = push(e, b, T0, 5 * MS);
	sim_engine_advance(e, T0 + 500 * US);
	sim_engine_detach(e, a, T0 + 500 * US);
	sim_engine_advance(e, T0 + 20 * MS);
	expect(e, b, nb, T0 + 500 * US, T0 + 5500 * US);
	/* The index is free again, with an empty queue. */
	again = attach(e);
	assert_int_equal(again, a);
	assert_int_equal(sim_engine_pending(e, again), 0);
	assert_int_equal(e->contexts[again].busy_ns, 0);
	free_engine(e);
}

static void test_engine__accounts_outlive_contexts(void **state)
{
	struct sim_engine *e = new_engine(MS, 100 * US);
	uint32_t a = attach(e), b = attach(e);
	uint64_t start, finish, id = e->contexts[a].id;

	push(e, a, T0, 7 * MS);
	push(e, b, T0, 2 * MS);
	sim_engine_copy(e, a, SIM_COPY_D2H, T0, 3 * MS, &start, &finish);
	/* a 0..1, b 1.1..2.1, a 2.2..2.7 and then it is gone, b as if nobody had been there. */
	sim_engine_detach(e, a, T0 + 2700 * US);
	assert_int_equal(e->n_past, 1);
	assert_int_equal(e->past[0].id, id);
	assert_int_equal(e->past[0].pid, 4711);
	assert_int_equal(e->past[0].busy_ns, 1500 * US);
	assert_int_equal(e->past[0].copy_ns[SIM_COPY_D2H], 3 * MS);
	assert_int_equal(e->past[0].copy_ns[SIM_COPY_H2D], 0);
	/* The index comes again, the id does not; and the ring keeps the newest. */
	for (uint32_t i = 0; i < SIM_ENGINE_PAST; i++) {
		assert_int_equal(attach(e), a);
		assert_int_equal(e->contexts[a].id, id + 2 + i);
		sim_engine_detach(e, a, T0 + 3 * MS);
	}
	assert_int_equal(e->n_past, SIM_ENGINE_PAST + 1);
	assert_int_equal(e->past[0].id, id + 1 + SIM_ENGINE_PAST);
	sim_engine_advance(e, T0 + 20 * MS);
	assert_int_equal(e->contexts[b].busy_ns, 2 * MS);
	assert_int_equal(e->clock.busy_ns, 3500 * US);
	free_engine(e);
}

static void test_engine__switches_are_counted_by_the_idle_time_before_them(void **state)
{
	struct sim_engine *e = new_engine(MS, 100 * US);
	uint32_t a = attach(e), b = attach(e);

	/* Two slices each without a gap: a b a b, three switches. */
	push(e, a, T0, 2 * MS);
	push(e, b, T0, 2 * MS);
	sim_engine_advance(e, T0 + 4300 * US);
	assert_int_equal(e->gaps[0], 3);
	/* Done at 4.3 ms. The same one goes on after a pause: no switch. The other one 32 us later.
	 */
	push(e, b, T0 + 5 * MS, MS);
	push(e, a, T0 + 6032 * US, MS);
	sim_engine_predict(e, a, e->contexts[a].last - 1); /* what only may be is not counted */
	sim_engine_advance(e, T0 + 8 * MS);
	assert_int_equal(e->gaps[32 * US / SIM_ENGINE_GAP_NS], 1);
	/* Long pauses are counted as long. */
	push(e, b, T0 + 100 * MS, MS);
	sim_engine_advance(e, T0 + 102 * MS);
	assert_int_equal(e->gaps[SIM_ENGINE_GAPS - 1], 1);
	assert_int_equal(e->clock.switches, 5);
	free_engine(e);
}

static void test_engine__contexts_are_bounded(void **state)
{
	struct sim_engine *e = new_engine(MS, 0);
	uint32_t index;

	for (uint32_t i = 0; i < SIM_ENGINE_CONTEXTS; i++)
		assert_int_equal(attach(e), i);
	assert_int_equal(sim_engine_attach(e, 0, 0, &index), -ENOSPC);
	for (uint32_t i = 0; i < SIM_ENGINE_CONTEXTS; i++)
		sim_engine_detach(e, i, T0);
	assert_int_equal(e->clock.n_contexts, 0);
	free_engine(e);
}

static void test_engine__copies_queue_behind_each_other(void **state)
{
	struct sim_engine *e = new_engine(MS, 0);
	uint32_t a = attach(e);
	uint64_t start, finish;

	sim_engine_copy(e, a, SIM_COPY_H2D, T0, 3 * MS, &start, &finish);
	assert_int_equal(start, T0);
	sim_engine_copy(e, a, SIM_COPY_H2D, T0 + MS, MS, &start, &finish);
	assert_int_equal(start, T0 + 3 * MS);
	assert_int_equal(finish, T0 + 4 * MS);
	/* The other direction is free. */
	sim_engine_copy(e, a, SIM_COPY_D2H, T0 + MS, MS, &start, &finish);
	assert_int_equal(start, T0 + MS);
	assert_int_equal(e->contexts[a].copy_ns[SIM_COPY_H2D], 4 * MS);
	assert_int_equal(e->contexts[a].copy_ns[SIM_COPY_D2H], MS);
	free_engine(e);
}

static void test_engine__repair_makes_sense_of_anything(void **state)
{
	struct sim_engine *e = new_engine(MS, 100 * US);
	uint32_t seed = 99;

	for (uint32_t round = 0; round < 200; round++) {
		uint64_t number;

		for (uint32_t i = 0; i < 3; i++)
			if (!e->contexts[i].used)
				attach(e);
		sim_engine_advance(e, T0 + round * MS);
		for (uint32_t i = 0; i < 3; i++)
			sim_engine_push(e, i, T0 + round * MS, 700 * US, T0 + round * MS, &number);
		/* A torn write: one field of the scheduling state is something else. */
		seed = seed * 1103515245 + 12345;
		switch ((seed >> 16) % 6) {
		case 0:
			e->clock.running = seed >> 20;
			break;
		case 1:
			e->clock.loaded = seed >> 20;
			break;
		case 2:
			e->clock.slice_left_ns = 0;
			break;
		case 3:
			e->contexts[1].begun = 1;
			e->contexts[1].left_ns = UINT64_MAX;
			break;
		case 4:
			e->contexts[2].first = e->contexts[2].last + 3;
			break;
		default:
			e->clock.n_contexts = 1;
		}
		sim_engine_repair(e);
	}
	sim_engine_advance(e, T0 + 10000 * MS);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(sim_engine_pending(e, i), 0);
	free_engine(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_engine__alone_there_is_no_slicing_and_no_switch),
		cmocka_unit_test(test_engine__two_take_turns_by_slices),
		cmocka_unit_test(
			test_engine__saturating_contexts_get_equal_shares_whatever_their_kernels),
		cmocka_unit_test(test_engine__looking_changes_nothing),
		cmocka_unit_test(
			test_engine__late_work_begins_in_idle_time_but_not_in_decided_time),
		cmocka_unit_test(test_engine__waits_for_the_instant_that_work_names),
		cmocka_unit_test(test_engine__work_of_no_length_ends_when_its_predecessor_does),
		cmocka_unit_test(test_engine__the_queue_is_bounded_and_remembers_as_much),
		cmocka_unit_test(test_engine__predicts_what_then_happens),
		cmocka_unit_test(test_engine__who_goes_away_frees_the_engine),
		cmocka_unit_test(test_engine__accounts_outlive_contexts),
		cmocka_unit_test(test_engine__switches_are_counted_by_the_idle_time_before_them),
		cmocka_unit_test(test_engine__contexts_are_bounded),
		cmocka_unit_test(test_engine__copies_queue_behind_each_other),
		cmocka_unit_test(test_engine__repair_makes_sense_of_anything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
