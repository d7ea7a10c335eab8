/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device time as the guard counts it, against a device in virtual time whose every kernel is known.
 * Driven as flight.c drives it: short steps that are waited for, of which some are sampled.
 */
#include "tests/unit/cm.h"

#include <stdlib.h>

#include "base/number.h"
#include "base/timing.h"
#include "guard/flight_parts.h"

#define US AQ_NS_PER_US
#define MS AQ_NS_PER_MS

#define RECORD_NS 1400 /* calls of the driver; what they do they do half way */
#define LAUNCH_NS 400
#define QUERY_NS 200
#define BETWEEN_NS 100 /* of our own, from one to the next */
#define WAKE_NS (3 * US)

/* One thread that launches a kernel and waits for it, again and again. */
struct world {
	struct aq__flight f;
	uint64_t now;
	uint64_t base_ns, base_before_ns; /* when the device reached them */
	uint64_t true_ns, told_ns;
	uint32_t samples;
};

/* How a launch goes: held up for so long before the device has it, and after that. */
struct held {
	uint64_t before_ns, after_ns;
};

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->now = 1000 * MS;
	return w;
}

static void record_base(struct world *w)
{
	uint64_t from;

	w->base_before_ns = w->base_ns;
	aq__account_record(&w->f, w->now);
	w->now += BETWEEN_NS;
	from = w->now;
	w->now += RECORD_NS;
	w->base_ns = from + RECORD_NS / 2;
	aq__account_recorded(&w->f, true, from, w->now);
	w->now += BETWEEN_NS;
	w->samples++;
}

static void look_at_base(struct world *w)
{
	int64_t after = w->base_before_ns ? (int64_t)(w->base_ns - w->base_before_ns) : -1;

	w->now += QUERY_NS;
	aq__account_base(&w->f, w->f.account.at_known ? after : -1, w->now);
}

/* As flight.c marks what is in flight: an event of ours, a record's time from here. */
static void mark(struct world *w, uint64_t first_ns, uint64_t est_ns)
{
	struct aq__mark *m = &w->f.marks[w->f.last % AQ__MARKS];

	*m = (struct aq__mark){
		.recorded = true,
		.commands = 1,
		.first_ns = first_ns,
		.from_ns = w->now,
		.est_ns = est_ns,
		.gap_ns = w->f.account.gap_ns,
	};
	w->f.account.gap_ns = 0;
	w->f.account.marked = true;
	w->f.last++;
	w->now += RECORD_NS;
}

static void step(struct world *w, uint64_t kernel_ns, struct held held)
{
	bool sampled = aq__account_start(&w->f, w->now), known;
	uint64_t from, end, marked = 0;

	if (sampled)
		record_base(w);
	from = w->now;
	end = from + held.before_ns + LAUNCH_NS / 2 + kernel_ns;
	w->now = from + held.before_ns + LAUNCH_NS + held.after_ns;
	w->f.commands = 1;
	w->f.est_ns = aq__account_estimate(&w->f, NULL, &known);
	aq__account_began(&w->f, true, from, w->now);
	if (sampled) {
		look_at_base(w);
		aq__account_sampled(&w->f, w->now >= end);
		marked = w->now + RECORD_NS / 2;
		mark(w, from, w->f.est_ns);
	}
	w->now = aq_max(w->now, end) + WAKE_NS;
	if (sampled)
		aq__account_reached(&w->f, (int64_t)(aq_max(end, marked) - w->base_ns), w->now);
	aq__account_told(&w->f, w->now);
	if (!sampled)
		aq__account_waited(&w->f, w->now);
	w->true_ns += kernel_ns;
	w->now += 2 * US;
}

static void harvest(struct world *w)
{
	w->told_ns += aq__account_harvest(&w->f, false);
}

static void assert_close(uint64_t found, uint64_t wanted, double percent)
{
	double slack = (double)wanted * percent / 100;

	if ((double)found < (double)wanted - slack || (double)found > (double)wanted + slack)
		fail_msg("%llu ns, not %llu", (unsigned long long)found,
			 (unsigned long long)wanted);
}

/* A record takes longer than a launch, and neither is the kernel's time. */
static void test_account__calls_are_not_work(void **state)
{
	struct world *w = world_new();

	for (int i = 0; i < 4000; i++)
		step(w, 10 * US, (struct held){0});
	harvest(w);
	assert_in_range(w->samples, 150, 500);
	assert_close(w->told_ns, w->true_ns, 0.3);
	free(w);
}

/* Another thread had the processor while one submitted; before the device had it, or after. */
static void test_account__who_is_held_up_does_not_work(void **state)
{
	struct world *w = world_new();

	for (int i = 0; i < 4000; i++) {
		struct held held = {0};

		if (i % 50 == 20)
			held.before_ns = 300 * US;
		else if (i % 50 == 45)
			held.after_ns = 300 * US;
		step(w, 50 * US, held);
		if (i % 100 == 99)
			harvest(w);
	}
	assert_close(w->told_ns, w->true_ns, 0.5);
	free(w);
}

/* The first steps of each lease are measured: there, too. */
static void test_account__who_is_held_up_at_first(void **state)
{
	struct world *w = world_new();

	for (int i = 0; i < 4000; i++) {
		struct held held = {0};

		if (i >= 100 && i % 50 == 0)
			*(i % 100 ? &held.before_ns : &held.after_ns) = 300 * US;
		step(w, 50 * US, held);
		if (i % 50 == 49)
			harvest(w);
	}
	assert_close(w->told_ns, w->true_ns, 1);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_account__calls_are_not_work),
		cmocka_unit_test(test_account__who_is_held_up_does_not_work),
		cmocka_unit_test(test_account__who_is_held_up_at_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
