/* SPDX-License-Identifier: Apache-2.0 */
/* The order of taking back: each step of it by example, and what must hold of every plan. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>

#include "base/timing.h"
#include "core/reclaim.h"

#define GIB (1ull << 30)
#define S AQ_NS_PER_S
#define MAX 12

/* One that uses @used of which @request is guaranteed, all of it movable. */
static struct aq_reclaim_candidate make(uint64_t used, uint64_t request, uint64_t idle_ns)
{
	return (struct aq_reclaim_candidate){
		.committed_bytes = used > request ? used : request,
		.settled_bytes = used > request ? used : request,
		.used_bytes = used,
		.request_bytes = request,
		.movable_bytes = used,
		.parkable = true,
		.asked_ns = AQ_RECLAIM_NEVER,
		.idle_ns = idle_ns,
		.resident_ns = 1000 * S,
		.move_ns = 2 * S,
		.priority = 1,
	};
}

static struct aq_reclaim_plan plan(struct aq_reclaim_need need,
				   const struct aq_reclaim_candidate *c, uint32_t count,
				   struct aq_reclaim_step *steps)
{
	return aq_reclaim_plan(&aq_reclaim_defaults, &need, c, count, steps);
}

#define BURST(bytes)                                                                               \
	(struct aq_reclaim_need)                                                                   \
	{                                                                                          \
		.short_bytes = (bytes), .priority = 1                                              \
	}
#define ENTITLED(bytes)                                                                            \
	(struct aq_reclaim_need)                                                                   \
	{                                                                                          \
		.short_bytes = (bytes), .entitled = true, .priority = 1                            \
	}

static void test_reclaim__unused_grants_then_parked_room(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(0, 8 * GIB, 50 * S), make(4 * GIB, 0, 50 * S),
					   make(4 * GIB, 0, 50 * S)};
	struct aq_reclaim_plan p;

	c[0].place = AQ_RECLAIM_AWAY;
	c[1].committed_bytes += GIB;
	p = plan(BURST(GIB), c, 3, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 1);
	assert_int_equal(s[0].kind, AQ_RECLAIM_REVOKE);
	p = plan(BURST(2 * GIB), c, 3, s);
	assert_int_equal(p.count, 2);
	assert_int_equal(s[1].kind, AQ_RECLAIM_LEND);
	assert_int_equal(s[1].candidate, 0);
	p = plan(BURST(10 * GIB), c, 3, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 3);
	assert_int_equal(s[2].kind, AQ_RECLAIM_PARK);
	assert_int_equal(plan(BURST(0), c, 3, s).answer, AQ_RECLAIM_NOTHING);
}

static void test_reclaim__longest_idle_lowest_priority_furthest_over(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(4 * GIB, 0, 3 * S), make(4 * GIB, 0, 300 * S),
					   make(6 * GIB, 0, 310 * S), make(4 * GIB, 0, 290 * S)};
	struct aq_reclaim_plan p;

	c[3].priority = 0;
	p = plan(BURST(18 * GIB), c, 4, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 4);
	assert_int_equal(s[0].candidate, 3); /* about as long, and of low priority */
	assert_int_equal(s[1].candidate, 2);
	assert_int_equal(s[2].candidate, 1);
	assert_int_equal(s[3].candidate, 0);
}

static void test_reclaim__within_its_request_nobody_is_touched(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(8 * GIB, 8 * GIB, 5000 * S)};
	struct aq_reclaim_policy may_kill = aq_reclaim_defaults;
	struct aq_reclaim_need need = ENTITLED(GIB);
	struct aq_reclaim_plan p;

	may_kill.may_kill = true;
	p = aq_reclaim_plan(&may_kill, &need, c, 1, s);
	assert_int_equal(p.answer, AQ_RECLAIM_REFUSE);
	assert_int_equal(p.count, 0);
}

static void test_reclaim__asked_to_shrink_before_a_busy_one_moves(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(4 * GIB, GIB, 0), make(4 * GIB, GIB, 0)};
	struct aq_reclaim_plan p;

	c[1].hears = true;
	p = plan(BURST(2 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
	assert_int_equal(p.again_ns, aq_reclaim_defaults.shrink_ns);
	assert_int_equal(p.count, 1);
	assert_int_equal(s[0].kind, AQ_RECLAIM_SHRINK);
	assert_int_equal(s[0].candidate, 1);
	assert_int_equal(s[0].bytes, 2 * GIB);
	c[1].asked_ns = S; /* has its time */
	p = plan(BURST(2 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
	assert_int_equal(p.count, 0);
	c[1].asked_ns = 3 * S; /* did not */
	p = plan(BURST(2 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(s[0].kind, AQ_RECLAIM_PARK);
	assert_true(s[0].busy);
}

static void test_reclaim__residence_holds_against_bursts_not_against_requests(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(4 * GIB, 0, 0), make(4 * GIB, 0, 0)};
	struct aq_reclaim_plan p;

	c[0].resident_ns = 5 * S; /* of 8: four times what it takes to move it */
	c[1].resident_ns = 2 * S;
	p = plan(BURST(GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
	assert_int_equal(p.count, 0);
	assert_int_equal(p.again_ns, 3 * S);
	c[0].idle_ns = 4 * S; /* without work it keeps nobody waiting */
	assert_int_equal(plan(BURST(GIB), c, 2, s).answer, AQ_RECLAIM_DO);
	c[0].idle_ns = 0;
	c[0].resident_ns = 8 * S;
	assert_int_equal(plan(BURST(GIB), c, 2, s).answer, AQ_RECLAIM_DO);
	/* The other cannot go yet: nor does this one, in vain. */
	p = plan(BURST(5 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
	assert_int_equal(p.count, 0);
	p = plan(ENTITLED(5 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 2);
	/* Nobody's burst sends a busy one of a higher priority away. */
	c[0] = make(4 * GIB, 0, 0);
	c[0].priority = 2;
	assert_int_equal(plan(BURST(GIB), c, 1, s).answer, AQ_RECLAIM_REFUSE);
	c[0].idle_ns = 2 * S;
	assert_int_equal(plan(BURST(GIB), c, 1, s).answer, AQ_RECLAIM_DO);
}

static void test_reclaim__what_is_under_way_is_waited_for(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(4 * GIB, 0, 9 * S), make(4 * GIB, 0, 9 * S)};
	struct aq_reclaim_plan p;

	c[0].place = AQ_RECLAIM_LEAVING;
	p = plan(BURST(3 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 0);
	c[1].place = AQ_RECLAIM_COMING;
	p = plan(BURST(5 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT); /* until it is there, and has had its turn */
	assert_int_equal(p.count, 0);
	assert_int_equal(plan(ENTITLED(5 * GIB), c, 2, s).answer, AQ_RECLAIM_WAIT);
	assert_int_equal(plan(BURST(9 * GIB), c, 2, s).answer, AQ_RECLAIM_REFUSE);
}

static void test_reclaim__a_kill_is_the_last_resort_of_a_guarantee(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(2 * GIB, GIB, 0), make(4 * GIB, GIB, 0)};
	struct aq_reclaim_policy may = aq_reclaim_defaults;
	struct aq_reclaim_need burst = BURST(GIB), entitled = ENTITLED(GIB);
	struct aq_reclaim_plan p;

	c[0].movable_bytes = c[1].movable_bytes = 0;
	assert_int_equal(plan(entitled, c, 2, s).answer, AQ_RECLAIM_REFUSE);
	assert_int_equal(plan(entitled, c, 2, s).count, 0);
	may.may_kill = true;
	assert_int_equal(aq_reclaim_plan(&may, &burst, c, 2, s).count, 0);
	p = aq_reclaim_plan(&may, &entitled, c, 2, s);
	assert_int_equal(p.count, 1);
	assert_int_equal(s[0].kind, AQ_RECLAIM_KILL);
	assert_int_equal(s[0].candidate, 1);
	/* As long as anything else may help, nobody is ended. */
	c[0].hears = true;
	p = aq_reclaim_plan(&may, &entitled, c, 2, s);
	assert_int_equal(s[0].kind, AQ_RECLAIM_SHRINK);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
}

static uint64_t seed = 20261122;

static uint64_t below(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

static struct aq_reclaim_candidate random_candidate(void)
{
	struct aq_reclaim_candidate c =
		make(below(16) * GIB, below(2) * below(16) * GIB, below(3) ? below(40) * S : 0);

	c.place = below(3) ? AQ_RECLAIM_HERE : (enum aq_reclaim_place)below(4);
	c.movable_bytes = below(3) ? c.used_bytes : c.used_bytes / (1 + below(4));
	c.committed_bytes += below(4) ? 0 : GIB;
	c.parkable = below(6) != 0;
	c.hears = below(5) == 0;
	c.asked_ns = below(2) ? AQ_RECLAIM_NEVER : below(4) * S;
	c.resident_ns = below(30) * S;
	c.move_ns = below(4) * S;
	c.priority = (uint32_t)below(3);
	return c;
}

/* What must hold of any plan. */
static void check(const struct aq_reclaim_policy *policy, const struct aq_reclaim_need *need,
		  const struct aq_reclaim_candidate *c, uint32_t count,
		  const struct aq_reclaim_plan *p, const struct aq_reclaim_step *s)
{
	uint64_t room = 0;
	uint32_t last = AQ_RECLAIM_REVOKE, parks = 0;
	bool busy = false;

	assert_true(p->count <= 2 * count);
	for (uint32_t i = 0; i < p->count; i++) {
		const struct aq_reclaim_candidate *v = &c[s[i].candidate];

		assert_true(s[i].candidate < count && s[i].bytes > 0);
		if (s[i].kind == AQ_RECLAIM_PARK) {
			assert_true(v->used_bytes > v->request_bytes);
			assert_true(v->place == AQ_RECLAIM_HERE && v->parkable);
			assert_true(need->entitled || !s[i].busy ||
				    v->resident_ns >= policy->residence_factor * v->move_ns);
			assert_true(need->entitled || !s[i].busy || v->priority <= need->priority);
			assert_true(!busy || s[i].busy); /* idle ones first */
			busy = busy || s[i].busy;
			parks++;
		} else {
			assert_true(s[i].kind >= last);
			last = s[i].kind;
		}
		if (s[i].kind == AQ_RECLAIM_SHRINK)
			assert_true(v->hears && v->used_bytes - v->request_bytes >= s[i].bytes);
		if (s[i].kind == AQ_RECLAIM_KILL)
			assert_true(need->entitled && policy->may_kill && !parks &&
				    v->used_bytes > v->request_bytes);
		for (uint32_t j = 0; j < i; j++)
			assert_true(s[j].candidate != s[i].candidate || s[j].kind != s[i].kind);
		if (s[i].kind != AQ_RECLAIM_SHRINK && s[i].kind != AQ_RECLAIM_KILL)
			room += s[i].bytes;
	}
	for (uint32_t i = 0; i < count; i++)
		if (c[i].place == AQ_RECLAIM_LEAVING)
			room += c[i].settled_bytes - (c[i].used_bytes - c[i].movable_bytes);
	if (p->answer == AQ_RECLAIM_DO)
		assert_true(room >= need->short_bytes);
	if (p->answer == AQ_RECLAIM_REFUSE) {
		assert_int_equal(parks, 0);
		assert_true(aq_reclaim_possible(policy, need, c, count) < need->short_bytes);
	}
	if (parks && p->answer == AQ_RECLAIM_DO) /* nobody too many */
		assert_true(room - s[p->count - 1].bytes < need->short_bytes);
}

static void test_reclaim__whatever_the_device_holds(void **state)
{
	struct aq_reclaim_candidate c[MAX];
	struct aq_reclaim_step s[2 * MAX];
	uint32_t answers[AQ_RECLAIM_REFUSE + 1] = {0};

	for (int run = 0; run < 200000; run++) {
		struct aq_reclaim_policy policy = aq_reclaim_defaults;
		struct aq_reclaim_need need = {.short_bytes = below(60) * GIB,
					       .entitled = below(2),
					       .priority = (uint32_t)below(3)};
		uint32_t count = (uint32_t)below(MAX + 1);
		struct aq_reclaim_plan p;

		policy.may_kill = below(2);
		for (uint32_t i = 0; i < count; i++)
			c[i] = random_candidate();
		p = aq_reclaim_plan(&policy, &need, c, count, s);
		check(&policy, &need, c, count, &p, s);
		answers[p.answer]++;
	}
	for (uint32_t i = 0; i <= AQ_RECLAIM_REFUSE; i++)
		assert_true(answers[i] > 1000); /* each kind was met */
}

/* Any number of fractions that always want the same memory: how much of the time is moving? */
static void test_reclaim__two_never_thrash(void **state)
{
	for (uint64_t move_ns = AQ_NS_PER_MS; move_ns <= 10 * S; move_ns *= 7) {
		uint64_t now = 0, moving = 0, moves = 0, came = 0;
		struct aq_reclaim_step s[2];

		while (now < 1000 * move_ns) {
			struct aq_reclaim_candidate here = make(10 * GIB, 0, 0);
			struct aq_reclaim_plan p;

			here.move_ns = move_ns;
			here.resident_ns = now - came;
			p = plan(BURST(10 * GIB), &here, 1, s);
			if (p.answer == AQ_RECLAIM_WAIT) {
				now += p.again_ns;
				continue;
			}
			assert_int_equal(p.answer, AQ_RECLAIM_DO);
			now += move_ns; /* one out and the other in */
			moving += move_ns;
			came = now;
			moves++;
		}
		assert_true(moves > 100); /* and everybody has turns */
		assert_true(moving * (1 + aq_reclaim_defaults.residence_factor) <= now + move_ns);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reclaim__unused_grants_then_parked_room),
		cmocka_unit_test(test_reclaim__longest_idle_lowest_priority_furthest_over),
		cmocka_unit_test(test_reclaim__within_its_request_nobody_is_touched),
		cmocka_unit_test(test_reclaim__asked_to_shrink_before_a_busy_one_moves),
		cmocka_unit_test(test_reclaim__residence_holds_against_bursts_not_against_requests),
		cmocka_unit_test(test_reclaim__what_is_under_way_is_waited_for),
		cmocka_unit_test(test_reclaim__a_kill_is_the_last_resort_of_a_guarantee),
		cmocka_unit_test(test_reclaim__whatever_the_device_holds),
		cmocka_unit_test(test_reclaim__two_never_thrash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
